"""The score loop: the base answers once, and an autoencoder refines its prediction, step by step.

*Image Segmentation by Iterative Inference from Conditional Score Estimation* (arXiv 1705.07450).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from smp_feedback.checks import check_number, check_whole
from smp_feedback.config.base import GradientFlow, LoopConfig
from smp_feedback.config.score import Score
from smp_feedback.loops.base import check_image
from smp_feedback.loops.call import Looks, Told
from smp_feedback.loops.outer import OuterModel, keep_base_evaluating, opened
from smp_feedback.loops.recurrent.step import at_least_single
from smp_feedback.loops.score.autoencoders import build_autoencoder
from smp_feedback.loops.score.feature_geometry import facts_of
from smp_feedback.loops.score.state import Begun, ScoreFeedback, ScoreStep, check_finite
from smp_feedback.loops.score.update import Refinement, Update
from smp_feedback.loops.steps import Step
from smp_feedback.loops.unroll import Share, Turned, reusable, unroll
from smp_feedback.ops.maps import size_of
from smp_feedback.surgery.extension import evaluating, extend
from smp_feedback.surgery.feature_capture import taken
from smp_feedback.surgery.probe import noise
from smp_feedback.surgery.step_context import capturing_features


class ScoreModel(OuterModel):
    """A base model whose prediction is refined."""

    config_class = Score
    feedback: ScoreFeedback

    @classmethod
    def close(cls, base: nn.Module, config: LoopConfig, in_channels: int | None = None) -> ScoreModel:
        """Close *base* into the loop, in place: find its features, build the autoencoder that they condition."""
        assert isinstance(config, Score)
        with evaluating(base):
            seen, inner = opened(base, config, in_channels)
            sources = taken(base, config.conditions, seen.image)
            model = extend(base, cls)
            model.feedback = ScoreFeedback(config, seen, sources, inner)
            begun = model.begin(seen.image)
            facts = facts_of(config, sources, begun, _larger(model, seen.image), seen.readers.values())
            autoencoder = build_autoencoder(config, begun.y.shape[1], facts).to(seen.image.device, seen.image.dtype)
            autoencoder.eval().condition(begun.features, size_of(begun.y))  # what does not fit is refused now
        if config.freeze:
            model.requires_grad_(False)
        model.feedback.autoencoder = autoencoder
        return model.train(base.training)

    def train(self, mode: bool = True) -> ScoreModel:
        """As ever; a frozen base stays in evaluation mode."""
        super().train(mode)
        if mode and self.feedback.config.freeze:
            keep_base_evaluating(self, self.feedback.inner)
        return self

    def begin(self, image: Tensor) -> Begun:
        """One pass of the base: its answer, the first prediction, and the features that condition the autoencoder.

        Args, raises: As :meth:`forward`.
        """
        self._check_opened("begin")
        return self._begin(image)

    def _begin(self, image: Tensor) -> Begun:
        check_image(image, self.feedback.in_channels)
        if not torch.compiler.is_compiling():
            check_finite(image)
        with capturing_features() as captured:
            logits, labels, output = self.asked(image)
        features = tuple(source.of(captured, image, output) for source in self.feedback.sources)
        return Begun(logits, labels, self.feedback.probabilities(logits), features)

    def reconstruct(self, y: Tensor, features: Sequence[Tensor]) -> Tensor:
        """One pass of the autoencoder: logits of r(y, c).

        Args:
            y: Prediction or label map, one channel a class (B, K, H, W); in training, noise is added to it.
            features: As :meth:`begin` gives them.
        """
        autoencoder = self.feedback.autoencoder
        return cast(Tensor, autoencoder(y, autoencoder.condition(features, size_of(y))))

    def refine(self, begun: Begun, *, step: float | None = None, steps: int | None = None) -> Iterator[ScoreStep]:
        """Refine what :meth:`begin` gave, lazily, with other settings than the model's if given; no base is run.

        Args:
            begun: Once per image.
            step: Step size, > 0; None is the config's.
            steps: Updates, >= 0; None is the config's. Of 0 there is one step still, the base's answer.

        >>> import smp_feedback as smpf
        >>> settings = smpf.Score(filters=4, additional_pools=1)
        >>> model = smpf.create("Unet", "resnet18", None, classes=3, feedback=settings).eval()
        >>> with torch.no_grad():
        ...     begun = model.begin(torch.rand(1, 3, 32, 32))
        ...     [s.index for size in (0.1, 0.5) for s in model.refine(begun, step=size, steps=2)]
        [0, 1, 0, 1]
        """
        size = self.feedback.config.step if step is None else step
        check_number("step", size, above=0)
        turns = self._refined(begun, size, self._count(steps), self.feedback.config.flow, reusable)
        return cast("Iterator[ScoreStep]", self._as_steps(turns, size_of(begun.y)))

    def choose(self, *, step: float, steps: int) -> ScoreModel:
        """Keep the step size and the number of updates with the model, in place; returns it.

        >>> import smp_feedback as smpf
        >>> settings = smpf.Score(filters=4, additional_pools=1)
        >>> model = smpf.create("Unet", "resnet18", None, feedback=settings).choose(step=0.05, steps=7)
        >>> model.loop_config.step, model.loop_config.steps
        (0.05, 7)
        """
        self.feedback.config = replace(self.feedback.config, step=step, steps=steps)
        return self

    def forward(self, x: Tensor, steps: Looks | None = None, *, grad_steps: int | None = None) -> Any:
        """The refined answer.

        Args:
            x: Image (B, C, H, W), finite.
            steps: Updates, at most: an image stops by the config's ``tolerance``, and by no other rule. 0 gives the
                base's own answer, None is the config's.
            grad_steps: As in every loop.

        Returns, raises: As every loop; :class:`~smp_feedback.errors.InvalidInput` for NaN or infinity in *x*, too.
        """
        return super().forward(x, steps, grad_steps=grad_steps)

    def _turns(self, image: Tensor, told: Told, share: Share | None = None) -> Iterator[tuple[int, Turned]]:
        return self._refined(self._begin(image), self.feedback.config.step, told.steps, told.flow, share)

    def _count(self, steps: int | None) -> int:
        return self.feedback.steps() if steps is None else check_whole("steps", steps, least=0)

    def _refined(
        self, begun: Begun, step: float, steps: int, flow: GradientFlow, share: Share | None
    ) -> Iterator[tuple[int, Turned]]:
        y = begun.y
        if not steps:  # one step, that of the base
            still = Update(y, torch.zeros_like(y), y.new_full((len(y),), torch.nan), begun.logits)
            return iter([(0, Turned(y, begun.labels, still))])
        conditions = self.feedback.autoencoder.condition(begun.features, size_of(y))
        if flow.detach and share is not None:
            y, *shared = share([y, *conditions])
            conditions = tuple(shared)
        tolerance = None if self.training else self.feedback.config.tolerance
        leaves_out = y.device.type == "cpu" and not torch.compiler.is_compiling()
        turn = Refinement(self._probable, conditions, step, tolerance, leaves_out)
        turns = unroll(turn, y, steps=steps, flow=flow)
        return ((t, turned._replace(features=begun.labels)) for t, turned in turns)

    def _probable(self, y: Tensor, conditions: Sequence[Tensor]) -> Tensor:
        return at_least_single(cast(Tensor, self.feedback.autoencoder(y, conditions))).softmax(1)

    def _answer(self, turned: Turned, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        more = cast(Update, turned.more)
        logits = self.feedback.logits_of(turned.state) if more.logits is None else more.logits
        return logits, turned.features

    def _step(self, t: int, size: tuple[int, int], turned: Turned, before: Tensor | None) -> Step:
        return ScoreStep(t, size, turned, cast(Update, turned.more).before, self._answer)


def _larger(model: ScoreModel, image: Tensor) -> Begun | None:
    """What a larger image begins with, where the base takes one."""
    try:
        return model.begin(noise(model, (*image.shape[:2], *(2 * side for side in size_of(image)))))
    except Exception:  # sizes that do not fit fail in as many ways as there are models
        return None
