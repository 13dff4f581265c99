"""What one call is told beside its image: how often to look, how gradients flow, and what it goes on from."""

from __future__ import annotations

from typing import NamedTuple

from smp_feedback.checks import check_steps, check_whole
from smp_feedback.config.base import GradientFlow
from smp_feedback.config.stopping import UntilSettled
from smp_feedback.errors import InvalidValue
from smp_feedback.loops.steps import Step

Looks = int | UntilSettled
"""How often to look, as a call is told."""


class Told(NamedTuple):
    """What a call is told, checked.

    Attributes:
        steps: T, at most.
        flow: How gradients flow through time.
        settled: Looks in succession whose answers are equal, after which an image stops; None is never.
        before: The look that this call goes on from.
    """

    steps: int
    flow: GradientFlow
    settled: int | None = None
    before: Step | None = None

    @property
    def start(self) -> int:
        """The first step's number."""
        return 0 if self.before is None else self.before.index + 1


def check_number_of_looks(steps: object) -> int:
    """*steps* of a call, if it is a whole number >= 1."""
    return check_steps(steps, hint=", until_settled() until the answer stays as it is")


def flow_of(flow: GradientFlow, grad_steps: int | None) -> GradientFlow:
    """How gradients flow in a call whose last *grad_steps* looks carry them; None is as the config's *flow* says."""
    if grad_steps is None:
        return flow
    check_whole("grad_steps", grad_steps, "; torch.no_grad() for none")
    return flow._replace(steps=grad_steps)


def check_evaluating(steps: UntilSettled, training: bool, grad_steps: int | None) -> None:
    """The rule *steps* can be kept in this call.

    Raises:
        InvalidValue: In training, where an image that is left out would change the BatchNorm statistics, and so the
            answers, of all others; and with *grad_steps*, as nothing tells beforehand which looks are the last.
    """
    if training:
        raise InvalidValue(
            f"steps={steps} in training: images of a batch share their statistics, and one that stopped would change "
            f"the others' answers; call model.eval() before, or give a number, such as steps={steps.at_most}."
        )
    if grad_steps is not None:
        raise InvalidValue(
            f"grad_steps={grad_steps} with steps={steps}: which looks are the last is not known before; give a number "
            "of steps, or leave grad_steps=None."
        )
