"""One look at a time, which goes on from the last: for films, streams and clicks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal, Self

from torch import Tensor

from smp_feedback.checks import check_number
from smp_feedback.errors import InvalidValue
from smp_feedback.loops.call import Told
from smp_feedback.loops.step_by_step import StepByStep
from smp_feedback.loops.steps import Step
from smp_feedback.loops.unroll import Turned, reusable
from smp_feedback.ops.maps import size_of

Reset = Literal["auto"] | float | None
"""The change of the state above which a frame is taken for a cut: the config's, a number, or none."""

SETTLED_IN = 2
"""Looks that a stream has had before one of its frames may be taken for a cut: before, its state is still growing."""


class OneLook(StepByStep):
    """What a model does for whoever has one image after another: the caller holds the state, the model none."""

    def look(self, x: Tensor, before: Step | None = None, *, reset: Reset = None) -> Step:
        """Look once at *x*, going on from the look *before*: at the price of one plain pass, for every frame of a film.

        T looks at one image are :meth:`trajectory`, to the bit. BatchNorm has statistics for the first look and each
        later one, as many as the config has steps; looks beyond them take the last. Gradients flow through the looks
        before unless ``before.detach()`` is given or the config has ``detach=True``; its ``grad_steps`` and
        ``tolerance`` say nothing of one look.

        Args:
            x: Image (B, C, H, W), a frame of each stream.
            before: The look to go on from, None for a first one. ``before.reset(mask)`` lets some streams begin anew.
            reset: The relative change of a stream's state (:attr:`Step.change`) above which its frame is taken for a
                cut: it begins anew with this very frame, which is looked at twice. ``"auto"`` is the config's ``cut``;
                None takes none for a cut. A stream's first two looks are not judged, for its state is still growing;
                one whose state is no number begins anew at any. Waits for the device once a look.

        Returns:
            The look: its logits, its state, and what the next one needs.

        Raises:
            InvalidInput: If *x* or *before* does not fit the model or one another; a state of another image size is
                resized, where it is a map.
            InvalidType, InvalidValue: If the loop or its dynamics carry no state, or *reset* is no threshold, or
                given in training.
            SurgeryError: If the model itself has a hook.

        >>> import torch
        >>> import smp_feedback as smpf
        >>> model = smpf.create("PlainConv", classes=2, feedback=smpf.Recurrent(dynamics="gated")).eval()
        >>> step = None
        >>> with torch.no_grad():
        ...     for frame in torch.rand(3, 1, 3, 16, 16):  # one stream of three frames
        ...         step = model.look(frame, step)
        >>> step.index, step.logits.shape
        (2, torch.Size([1, 2, 16, 16]))
        """
        threshold = self.check_look(reset)
        step = self._look(x, before)
        if threshold is None or before is None:
            return step
        cut = ((step.change > threshold) & (step.looks > SETTLED_IN)) | step.change.isnan()
        return self._look(x, before.reset(cut)) if bool(cut.any()) else step

    def check_look(self, reset: Reset = None) -> float | None:
        """What any :meth:`look` checks before work, whatever its image; returns *reset* as a number."""
        self._check_opened("look")
        self.check_carries("look:")
        return self._threshold(reset)

    def step_from(self, saved: Mapping[str, Tensor]) -> Step:
        """The look that :meth:`Step.state_dict` saved, of this model or a copy, to go on from: on the model's device.

        Raises:
            InvalidType, InvalidValue, InvalidInput: If the loop carries no state, or *saved* is no saved look, or that
                of a model whose state has other channels.

        >>> import torch
        >>> import smp_feedback as smpf
        >>> model = smpf.create("PlainConv", feedback=smpf.Recurrent(dynamics="gated")).eval()
        >>> with torch.no_grad():
        ...     step = model.look(torch.rand(1, 3, 16, 16))
        ...     torch.equal(model.step_from(step.state_dict()).logits, step.logits)
        True
        """
        self.check_carries("step_from:")
        step = Step.from_state_dict(saved, self._answer).to(next(self.parameters()).device)
        self._check_state(step)
        return self._resumed(step)

    def choose_cut(self, threshold: float | None) -> Self:
        """Keep the change of the state that ``look(reset="auto")`` takes for a cut, in place; returns the model.

        Raises:
            InvalidType, InvalidValue: As the config's ``cut``.

        >>> import smp_feedback as smpf
        >>> model = smpf.create("PlainConv", feedback=smpf.Recurrent(dynamics="gated")).choose_cut(0.6)
        >>> model.loop_config.cut
        0.6
        """
        self.check_carries("choose_cut:")
        self.feedback.config = replace(self.feedback.config, cut=threshold)
        return self

    def _look(self, x: Tensor, before: Step | None) -> Step:
        told = self._told(1)
        if before is not None:
            told = told._replace(before=self._found(before, x, "look:"))
        return next(self._as_steps(self._one_turn(x, told), size_of(x), told.before))

    def _one_turn(self, x: Tensor, told: Told) -> Iterator[tuple[int, Turned]]:
        """The turn that is a look; a loop whose calls begin with more than their turns says otherwise."""
        return self._turns(x, told, reusable)

    def _threshold(self, reset: Reset) -> float | None:
        """*reset* as a number, checked before any work."""
        if reset is None:
            return None
        if self.training:
            raise InvalidValue(
                f"reset={reset!r} in training: a frame looked at twice is counted twice in BatchNorm's statistics; "
                "call model.eval() before, or give before.reset(mask) where a film is known to be cut."
            )
        if isinstance(reset, str):
            return self._learned_cut(reset)
        check_number("reset", reset, above=0)
        return reset

    def _learned_cut(self, reset: str) -> float:
        """The config's threshold."""
        if reset != "auto":
            raise InvalidValue(f"reset={reset!r}: expected 'auto', a number > 0 (the change of the state), or None.")
        cut: float | None = getattr(self.loop_config, "cut", None)
        if cut is None:
            raise InvalidValue(
                "reset='auto': this model has learned no threshold (cut=None); give a number, or learn one: "
                "smp_feedback.evaluation.films.learn_cut(model, dataset), then model.choose_cut(threshold)."
            )
        return cut

    def _check_state(self, step: Step) -> None:
        """The state of *step* is one of this model's.

        Raises:
            InvalidInput: If it is not.
        """
        raise NotImplementedError

    def _resumed(self, step: Step) -> Step:
        """A look that was saved, as this loop shows its looks."""
        return step


def carries(model: object) -> bool:
    """Whether *model* goes on from one image to the next, as :meth:`OneLook.look` has it.

    >>> import smp_feedback as smpf
    >>> [carries(smpf.create("PlainConv", feedback=smpf.Recurrent(dynamics=name))) for name in ("gated", "decay")]
    [True, False]
    """
    if not isinstance(model, OneLook):
        return False
    try:
        model.check_carries("look:")
    except InvalidValue:
        return False
    return True
