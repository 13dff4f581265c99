"""The repair loop: the base answers once, and a net that reads image and mask mends it, look by look.

After *rNCA: Self-Repairing Segmentation Masks* (arXiv 2512.13397); what is taken from it: ``docs/repair.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from smp_feedback.checks import check_whole
from smp_feedback.config.base import LoopConfig
from smp_feedback.config.repair import Repair
from smp_feedback.config.stopping import UntilSettled
from smp_feedback.errors import InvalidValue
from smp_feedback.loops.base import check_image
from smp_feedback.loops.call import Looks, Told
from smp_feedback.loops.outer import OuterFeedback, OuterModel, keep_base_evaluating, opened
from smp_feedback.loops.recurrent.carrying import check_channels, check_labels
from smp_feedback.loops.recurrent.state import RecurrentFeedback
from smp_feedback.loops.recurrent.step import at_least_single
from smp_feedback.loops.repair.masks import as_chances
from smp_feedback.loops.repair.net import Mender, build_mender, found_by
from smp_feedback.loops.steps import Step
from smp_feedback.loops.unroll import Share, Turned, reusable
from smp_feedback.models.normalisation import given_config
from smp_feedback.ops.maps import size_of
from smp_feedback.ops.reading import MULTILABEL
from smp_feedback.projections import class_probabilities
from smp_feedback.surgery.extension import evaluating, extend
from smp_feedback.surgery.probe import Probe


class Unmended(NamedTuple):
    """What a turn says where nothing was mended: the base's own logits."""

    logits: Tensor


class RepairFeedback(OuterFeedback):
    """All that is new in a model that mends: the net.

    Args:
        config: The loop's config.
        seen: What a dry run showed of the base.
        inner: What is new in a base that looks again itself.
    """

    net: Mender
    config: Repair

    def __init__(self, config: Repair, seen: Probe, inner: RecurrentFeedback | None) -> None:
        super().__init__(config, seen, inner)
        net = build_mender(config, self.in_channels, self.classes)
        self.net = net.to(seen.image.device, seen.image.dtype)

    def steps(self) -> int:
        """The looks of a call that names none."""
        return self.config.steps


class RepairModel(OuterModel):
    """A base model whose mask is mended."""

    config_class = Repair
    feedback: RepairFeedback

    @classmethod
    def close(cls, base: nn.Module, config: LoopConfig, in_channels: int | None = None) -> RepairModel:
        """Close *base* into the loop, in place: freeze it, and build the net that mends what it says."""
        assert isinstance(config, Repair)
        training = base.training
        with evaluating(base):
            seen, inner = opened(base, config, in_channels)
            model = extend(base, cls)
            model.requires_grad_(False)
            model.feedback = RepairFeedback(config, seen, inner)
            if inner is not None:
                inner.requires_grad_(False)
        return model.train(training)

    def train(self, mode: bool = True) -> RepairModel:
        """As ever; the base stays in evaluation mode."""
        super().train(mode)
        if mode:
            keep_base_evaluating(self, self.feedback.inner)
        return self

    def chances(self, image: Tensor) -> Tensor:
        """The base's probabilities (B, classes, H, W), of one class the foreground's; without gradient.

        Args, raises: As :meth:`forward`.
        """
        self._check_opened("chances")
        self._check_read(image)
        return class_probabilities(at_least_single(self.asked(image).logits)).detach().to(image.dtype)

    def repair(self, image: Tensor, mask: Tensor, steps: Looks | None = None) -> Tensor:
        """Mend a mask of any origin: another model's, a threshold's, one drawn by hand. No base is run.

        Args:
            image: (B, C, H, W), as :meth:`forward` takes it.
            mask: Labels (B, H, W), whole numbers or truth values, or probabilities (B, classes, H, W), in [0, 1].
            steps: As in :meth:`forward`.

        Returns:
            Logits of the mended mask (B, classes, H, W): of the base's own probabilities, what :meth:`forward` gives.

        Raises:
            InvalidType, InvalidInput, InvalidValue: If *image* or *mask* is none of these, or they do not fit.

        >>> import smp_feedback as smpf
        >>> model = smpf.create("PlainConv", classes=2, feedback=smpf.Repair(steps=3)).eval()
        >>> image, mask = torch.rand(1, 3, 16, 16), torch.zeros(1, 16, 16, dtype=torch.bool)
        >>> mask[:, 8] = True
        >>> torch.equal(model.repair(image, mask).argmax(1), mask.long())  # not trained: nothing is changed
        True
        """
        for step in self.repairs(image, mask, steps):  # noqa: B007
            pass
        return step.logits

    def repairs(self, image: Tensor, mask: Tensor, steps: Looks | None = None) -> Iterator[Step]:
        """As :meth:`repair`, look by look, lazily: as :meth:`iterate` gives them.

        Args, raises: As there, at once; :class:`~smp_feedback.errors.InvalidValue` for no look.
        """
        check_image(image, self.feedback.in_channels)
        chances, told = as_chances(mask, image, self.feedback.classes), self._told(steps)
        if not told.steps:
            raise InvalidValue("steps=0: a mask that nobody looks at is that mask; expected at least one look.")
        return self._as_steps(self._mended(image, chances, told, reusable), size_of(image))

    def forward(self, x: Tensor, steps: Looks | None = None, *, grad_steps: int | None = None) -> Any:
        """The mended answer.

        Args:
            x: Image (B, C, H, W).
            steps: As in every loop; 0 gives the base's own answer.
            grad_steps: As in every loop.

        Returns, raises: As every loop; :class:`~smp_feedback.errors.InvalidValue` of a base of several labels a pixel.
        """
        return super().forward(x, steps, grad_steps=grad_steps)

    def check_carries(self, asked: str) -> None:
        """The state of the net goes on from call to call."""

    def _check_stops(self, steps: UntilSettled) -> None:
        """An image stops when its mended labels stay."""

    def _count(self, steps: int | None) -> int:
        return self.feedback.steps() if steps is None else check_whole("steps", steps, least=0)

    def _turns(self, image: Tensor, told: Told, share: Share | None = None) -> Iterator[tuple[int, Turned]]:
        self._check_read(image)
        logits, labels, _ = self.asked(image)
        if not told.steps:  # one step, that of the base
            return iter([(told.start, Turned(at_least_single(logits), labels, Unmended(logits)))])
        chances = class_probabilities(at_least_single(logits)).detach().to(image.dtype)
        turns = self._mended(image, chances, told, share)
        return turns if labels is None else ((t, turned._replace(features=labels)) for t, turned in turns)

    def _check_read(self, image: Tensor) -> None:
        check_image(image, self.feedback.in_channels)
        if given_config(self).config.task == MULTILABEL:
            raise InvalidValue("feedback='repair' mends one label a pixel, and this base gives several (multilabel).")

    def _mended(
        self, image: Tensor, chances: Tensor, told: Told, share: Share | None = None
    ) -> Iterator[tuple[int, Turned]]:
        return self.feedback.net._turns(torch.cat([image, chances], 1), told, share)

    def _answer(self, turned: Turned, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        if isinstance(turned.more, Unmended):
            return turned.more.logits, turned.features
        return self.feedback.net._answer(turned, size)[0], turned.features

    def _found(self, before: Step, image: Tensor, asked: str) -> Step:
        check_image(image, self.feedback.in_channels)
        return found_by(before, image, self.feedback.net.state_channels)

    def _check_state(self, step: Step) -> None:
        check_channels(self.feedback.net.state_channels, step.state)
        check_labels(self, step.features)
