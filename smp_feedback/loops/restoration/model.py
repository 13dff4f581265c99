"""The restoration loop: the image is restored and segmented, T times anew, with what the last prediction changed.

*Spatial Feedback Learning to Improve Semantic Segmentation in Hot Weather* (BMVC 2020).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import nullcontext
from typing import cast

import torch
from torch import Tensor, nn

from smp_feedback.config.base import LoopConfig
from smp_feedback.config.restoration import Restoration
from smp_feedback.errors import InvalidInput, InvalidType, SurgeryError
from smp_feedback.loops.base import check_image
from smp_feedback.loops.call import Told
from smp_feedback.loops.outer import OuterModel, opened
from smp_feedback.loops.restoration.state import Pass, RestorationFeedback, RestorationStep
from smp_feedback.loops.steps import Step
from smp_feedback.loops.unroll import Share, Turned, reusable, unroll
from smp_feedback.ops.maps import size_of
from smp_feedback.restorers.base import Restored, Restorer, class_feedback
from smp_feedback.restorers.painting import build_restorer
from smp_feedback.surgery.extension import evaluating, extend
from smp_feedback.surgery.probe import Probe
from smp_feedback.surgery.step_batchnorm import count_once


class RestorationModel(OuterModel):
    """A base model M behind a network R that restores what it sees."""

    config_class = Restoration
    feedback: RestorationFeedback

    @classmethod
    def close(cls, base: nn.Module, config: LoopConfig, in_channels: int | None = None) -> RestorationModel:
        """Close *base* into the loop, in place: build R, and see that the two fit."""
        assert isinstance(config, Restoration)
        with evaluating(base):
            seen, inner = opened(base, config, in_channels)
            _check_size(base, seen)
            restorer = build_restorer(config, seen.image.shape[1], seen.logits.shape[1])
            model = extend(base, cls)
            model.feedback = RestorationFeedback(config, seen, inner)
            model.feedback.restorer = restorer.to(seen.image.device, seen.image.dtype).eval()
            change = torch.zeros_like(seen.logits) if config.weight else None
            _check_restored(model.restore(seen.image, class_feedback_of(config, change, seen.image)), seen.image)
        count_once(model)
        return model.train(base.training)

    @property
    def restorer(self) -> Restorer:
        """R; every other part of the model, apart from ``feedback``, is M."""
        return self.feedback.restorer

    def restore(self, image: Tensor, feedback: Tensor | None = None) -> Restored:
        """R alone: one restoration.

        Args:
            image: The distorted image (B, C, H, W).
            feedback: As :meth:`feed_back` gives it; None is the first restoration's.

        Raises:
            InvalidInput: If *image* is none that the model reads, or *feedback* has another shape.

        >>> import smp_feedback as smpf
        >>> settings = smpf.Restoration(depth=2, filters=4)
        >>> model = smpf.create("Unet", "resnet18", None, feedback=settings).eval()
        >>> image = torch.rand(1, 3, 32, 32)
        >>> torch.allclose(model.restore(image).image, image, atol=1e-5)  # before any training
        True
        """
        check_image(image, self.feedback.in_channels)
        expected = len(image), self.feedback.in_channels * self.feedback.classes, *size_of(image)
        if feedback is not None and feedback.shape != expected:
            raise InvalidInput(f"feedback of shape {tuple(feedback.shape)}: expected {expected}, or None.")
        return cast(Restored, self.restorer(image, feedback))

    def segment(self, image: Tensor) -> Tensor:
        """M alone: logits (B, classes, H, W) of an image (B, C, H, W).

        Raises:
            InvalidInput: If *image* is none that the model reads.
        """
        self._check_opened("segment")
        check_image(image, self.feedback.in_channels)
        return self.asked(image).logits

    def feed_back(self, change: Tensor, restored: Tensor) -> Tensor:
        """What R is told (B, C * classes, H, W): a change of logits, and the restored image before it."""
        return cast(Tensor, class_feedback_of(self.feedback.config, change, restored))

    def passes(self, image: Tensor, steps: int | None = None) -> Iterator[Pass]:
        """The first restoration and its segmentation, and then those of each step, lazily: T + 1 of them.

        :meth:`iterate` begins with the second. Restoration alone (``weight=0``) is the first.

        >>> import smp_feedback as smpf
        >>> settings = smpf.Restoration(steps=2, depth=2, filters=4)
        >>> model = smpf.create("Unet", "resnet18", None, feedback=settings).eval()
        >>> [one.restored.shape[-1] for one in model.passes(torch.rand(1, 3, 32, 32))]
        [32, 32, 32]
        """
        self._check_opened("passes")
        first, turns = self._begun(image, self._told(steps), reusable)
        later = (cast(Pass, turned.more) for _, turned in turns)
        return itertools.chain([first], later if self.feedback.config.weight else [])

    def _turns(self, image: Tensor, told: Told, share: Share | None = None) -> Iterator[tuple[int, Turned]]:
        return self._begun(image, told, share)[1]

    def _begun(self, image: Tensor, told: Told, share: Share | None) -> tuple[Pass, Iterator[tuple[int, Turned]]]:
        """The first pass, and the turns that follow it."""
        config, count, flow = self.feedback.config, told.steps, told.flow
        check_image(image, self.feedback.in_channels)
        config.check_hears(count)
        begun = self.restorer.begin(image)
        if flow.detach and share is not None:
            begun = tuple(share(begun))
        if not config.weight:
            alone = self._passed(image, begun)
            return alone, iter([(0, self._turned(alone, alone.logits))])
        # the first restoration is in no loss: its gradient comes through the first step's state alone
        reached = not flow.detach and (flow.steps is None or flow.steps >= count)
        with nullcontext() if reached else torch.no_grad():
            first = self._passed(image, begun)
        turn = _Turn(self, image, begun)
        return first, unroll(turn, self._turned(first, first.logits).state, steps=count, flow=flow)

    def _passed(self, image: Tensor, begun: tuple[Tensor, ...], change: Tensor | None = None, *z: Tensor) -> Pass:
        """One restoration, and its segmentation; *change* of the class scores, and z the restored image before it."""
        feedback = class_feedback_of(self.feedback.config, change, *z)
        restored = self.restorer.restore(image, begun, feedback)
        asked = self.asked(restored.image)
        return Pass(asked.logits, asked.labels, *restored, change)

    def _turned(self, made: Pass, before: Tensor) -> Turned:
        return Turned(torch.cat([made.logits, before, made.restored], 1), made.labels, made)

    def _answer(self, turned: Turned, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        return cast(Pass, turned.more).logits, turned.features

    def _step(self, t: int, size: tuple[int, int], turned: Turned, before: Tensor | None) -> Step:
        return RestorationStep(t, size, turned, before, self._answer)


class _Turn:
    """One feedback iteration as a function of the state [p_{t-1}, p_{t-2}, z_{t-1}]."""

    settled = False

    def __init__(self, model: RestorationModel, image: Tensor, begun: tuple[Tensor, ...]) -> None:
        self.model, self.image, self.begun = model, image, begun

    def __call__(self, state: Tensor | None, t: int) -> Turned:
        assert state is not None
        k = self.model.feedback.classes
        last, before, z = state[:, :k], state[:, k : 2 * k], state[:, 2 * k :]
        made = self.model._passed(self.image, self.begun, last - before, z)
        return self.model._turned(made._replace(before=last), last)


def class_feedback_of(config: Restoration, change: Tensor | None, *restored: Tensor) -> Tensor | None:
    """:func:`class_feedback` with the config's sign; None of no change."""
    return None if change is None else class_feedback(change, *restored, absolute=config.absolute)


def _check_size(base: nn.Module, seen: Probe) -> None:
    if size_of(seen.logits) != size_of(seen.image):
        raise SurgeryError(
            f"feedback='restoration' multiplies logits and image: {type(base).__name__} gives "
            f"{tuple(seen.logits.shape)} of an image {tuple(seen.image.shape)}; expected logits of the image's size."
        )


def _check_restored(restored: object, image: Tensor) -> None:
    if not isinstance(restored, Restored):
        raise InvalidType(f"The restorer gives a {type(restored).__name__}: expected a Restored(image, displacement).")
    if restored.image.shape != image.shape:
        raise InvalidInput(
            f"The restorer gives an image {tuple(restored.image.shape)} of one {tuple(image.shape)}: expected the same "
            "shape."
        )
