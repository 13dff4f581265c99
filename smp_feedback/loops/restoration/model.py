"""The restoration loop: the image is restored and segmented, T times anew, with what the last prediction changed.

*Spatial Feedback Learning to Improve Semantic Segmentation in Hot Weather* (BMVC 2020).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from smp_feedback.config.base import GradientFlow, LoopConfig
from smp_feedback.config.restoration import MEAN, Restoration
from smp_feedback.errors import InvalidInput, InvalidValue
from smp_feedback.loops.base import check_image
from smp_feedback.loops.call import Told
from smp_feedback.loops.outer import OuterModel, opened
from smp_feedback.loops.recurrent.carrying import check_channels, check_fits, check_labels
from smp_feedback.loops.restoration.fitting import check_restored, check_size
from smp_feedback.loops.restoration.state import Memory, Pass, RestorationFeedback, RestorationStep, Restoring
from smp_feedback.loops.restoration.turning import Begun, PassesApart, PassTurn, class_feedback_of, running_mean, turned
from smp_feedback.loops.steps import Step
from smp_feedback.loops.unroll import Share, Turned, reusable, unroll
from smp_feedback.ops.maps import size_of
from smp_feedback.restorers.base import Restored, Restorer
from smp_feedback.restorers.painting import build_restorer
from smp_feedback.surgery.extension import evaluating, extend
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
            check_size(base, seen)
            restorer = build_restorer(config, seen.image.shape[1], seen.logits.shape[1])
            model = extend(base, cls)
            model.feedback = RestorationFeedback(config, seen, inner)
            model.feedback.restorer = restorer.to(seen.image.device, seen.image.dtype).eval()
            change = torch.zeros_like(seen.logits) if config.weight else None
            check_restored(model.restore(seen.image, class_feedback_of(config, change, seen.image)), seen.image)
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

    def check_carries(self, asked: str) -> None:
        """As ever; a loop that carries something has a state."""
        if self.feedback.config.carry is None:
            raise InvalidValue(
                f"{asked} feedback='restoration' begins anew with every image; feedback='recurrent' goes on, with "
                "dynamics that carry its state, and so does this loop with carry='feedback' or carry='mean'."
            )

    def restoring(
        self, image: Tensor, memory: Memory | None = None, had: Tensor | None = None, begun: Begun | None = None
    ) -> Restoring:
        """R's part of a pass: what M is shown next.

        Args:
            image: The distorted image (B, C, H, W).
            memory: What is known of the passes before; None of the first.
            had: How many there were of each stream (B,), where a mean of them is carried.
            begun: What the restorer computes once of *image*; None has it computed.
        """
        config = self.feedback.config
        mean = None if memory is None else memory.mean
        if begun is None:
            begun = self.restorer.begin(image) if mean is None else cast(Any, self.restorer).begin(image, mean)
        change = None if memory is None or not config.weight else memory.last - memory.older
        told = class_feedback_of(config, change, *(() if memory is None else (memory.restored,)))
        restored = self.restorer.restore(image, begun, told)
        if config.carry != MEAN:
            return Restoring(restored, None, change)
        if mean is None or had is None:
            return Restoring(restored, restored.image, change)
        lowest = config.rate if isinstance(config.rate, float | int) else None
        return Restoring(restored, running_mean(restored, mean, had, lowest), change)

    def _turns(self, image: Tensor, told: Told, share: Share | None = None) -> Iterator[tuple[int, Turned]]:
        return self._begun(image, told, share)[1] if told.before is None else self._going_on(image, told, share)

    def _one_turn(self, x: Tensor, told: Told) -> Iterator[tuple[int, Turned]]:
        return self._going_on(x, told, None)

    def _begun(self, image: Tensor, told: Told, share: Share | None) -> tuple[Pass, Iterator[tuple[int, Turned]]]:
        """The first pass, and the turns that follow it."""
        config, count, flow = self.feedback.config, told.steps, told.flow
        check_image(image, self.feedback.in_channels)
        config.check_hears(count)
        begun = self._begin_with(image, flow, share)
        if not config.weight:
            alone = self._passed(image, begun)
            return alone, iter([(0, turned(alone, alone.logits))])
        # the first restoration is in no loss: its gradient comes through the first step's state alone
        reached = not flow.detach and (flow.steps is None or flow.steps >= count)
        with nullcontext() if reached else torch.no_grad():
            first = self._passed(image, begun)
        counts = config.carry is not None
        turn = self._turn_of(image, begun, (lambda t: _passes(image, t + 1)) if counts else None, counts=counts)
        return first, unroll(turn, turned(first, first.logits).state, steps=count, flow=flow)

    def _going_on(self, image: Tensor, told: Told, share: Share | None) -> Iterator[tuple[int, Turned]]:
        """Turns that go on from another call's, or begin with a first one of their own."""
        check_image(image, self.feedback.in_channels)
        before = told.before
        how: dict[str, Any] = {"steps": told.steps, "flow": told.flow, "start": told.start}
        if before is None:
            begun = self._begin_with(image, told.flow, share)
            return unroll(self._turn_of(image, begun, lambda t: _passes(image, t), counts=True), None, **how)
        _, counted = before.found()
        if before.beginnings is None:
            begun = self._begin_with(image, told.flow, share)
            turn = self._turn_of(image, begun, lambda t: counted + (t - told.start))
            return unroll(turn, before.state, **how)

        def make(places: Tensor | None) -> PassTurn:
            if places is None:
                return self._turn_of(image, None, lambda t: counted + (t - told.start))
            part = counted[places]
            return self._turn_of(image[places], None, lambda t: part + (t - told.start), among_others=True)

        return unroll(PassesApart(make, before.beginnings), before.state, **how)

    def _turn_of(self, image: Tensor, begun: Begun | None, had: Any, **how: bool) -> PassTurn:
        return PassTurn(functools.partial(self._passed, image, begun), self.feedback, had, **how)

    def _begin_with(self, image: Tensor, flow: GradientFlow, share: Share | None) -> Begun | None:
        """What the restorer computes once of *image*; None where it is shown another mean with every pass."""
        if self.feedback.config.carry == MEAN:
            return None
        begun = self.restorer.begin(image)
        return tuple(share(begun)) if flow.detach and share is not None else begun

    def _passed(
        self, image: Tensor, begun: Begun | None, memory: Memory | None = None, had: Tensor | None = None
    ) -> Pass:
        """One restoration, and its segmentation."""
        (z, displacement, _), mean, change = made = self.restoring(image, memory, had, begun)
        asked = self.asked(made.shown)
        return Pass(asked.logits, asked.labels, z, displacement, change, mean=mean)

    def _answer(self, turned: Turned, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        return cast(Pass, turned.more).logits, turned.features

    def _step(self, t: int, size: tuple[int, int], turned: Turned, before: Tensor | None) -> Step:
        return RestorationStep(t, size, turned, before, self._answer)

    def _found(self, before: Step, image: Tensor, asked: str) -> Step:
        check_image(image, self.feedback.in_channels)
        self.check_carries(asked)
        found = check_fits(before, image, self.feedback.state_channels).to(image.dtype)
        return found if found.size == size_of(image) else found.resized(size_of(image), size_of(image))

    def _check_state(self, step: Step) -> None:
        check_channels(self.feedback.state_channels, step.state)
        check_labels(self, step.features)

    def _resumed(self, step: Step) -> Step:
        known = self.feedback.memory_of(step.state)
        older = None if step._before is None else self.feedback.memory_of(step._before)
        change = None if older is None or not self.feedback.config.weight else older.last - older.older
        before = None if older is None else older.last
        made = Pass(known.last, step.features, known.restored, None, change, before, known.mean)
        shown = step._turned._replace(more=made)
        return RestorationStep(step.index, step.size, shown, step._before, self._answer, step.beginnings)


def _passes(image: Tensor, count: int) -> Tensor:
    return torch.full((len(image),), count, device=image.device)
