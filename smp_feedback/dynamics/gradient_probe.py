"""Whether a rule lets gradients through: a state that depends on the one before is to be learnt from it."""

from __future__ import annotations

import torch
from torch import Tensor

from smp_feedback.dynamics.base import Dynamics
from smp_feedback.errors import InvalidValue

PARTS = {"the state before": 0, "the correction": 1}


def check_lets_through(dynamics: Dynamics) -> None:
    """What *dynamics* makes of a state and a correction has a gradient for each that it depends on; one tiny step.

    Raises:
        InvalidValue: If the graph is cut, as by ``detach()``: the loop would train as if there were one look.

    >>> import smp_feedback as smpf
    >>> check_lets_through(smpf.create("PlainConv", feedback={"dynamics": "leaky"}).feedback.dynamics)
    """
    like = next(dynamics.parameters(), torch.zeros(()))
    drawn = torch.Generator().manual_seed(0)
    given = [torch.randn(1, width, 2, 2, generator=drawn).to(like) for width in (dynamics.width, dynamics.channels)]
    for part, place in PARTS.items():
        if _cut_off(dynamics, given, place):
            name = f"dynamics={dynamics.config.dynamics!r} ({type(dynamics).__name__}{dynamics.brought})"
            raise InvalidValue(
                f"{name} depends on {part}, and no gradient comes back from there: expected a rule without detach(), "
                "no_grad() or .data; where looks shall not learn from one another, Recurrent(detach=True) says so."
            )


def _cut_off(dynamics: Dynamics, given: list[Tensor], place: int) -> bool:
    """Whether the rule depends on what is *given* at *place*, without a gradient for it."""
    moved = [x + 0.5 if i == place else x for i, x in enumerate(given)]
    asked = [x.clone().requires_grad_(i == place) for i, x in enumerate(given)]
    with torch.enable_grad():
        made = _made(dynamics, asked)
        found = torch.autograd.grad(made.sum(), asked[place], allow_unused=True) if made.requires_grad else (None,)
    return found[0] is None and not torch.equal(made, _made(dynamics, moved))


def _made(dynamics: Dynamics, given: list[Tensor]) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return dynamics.rule(2)(given[0], given[1], 1)
