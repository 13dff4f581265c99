"""What the score loop is made of: what is computed once, a step as it is shown, and all that is new in a model."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple, cast

from torch import Tensor

from smp_feedback.config.score import Score
from smp_feedback.errors import InvalidInput
from smp_feedback.loops.outer import OuterFeedback
from smp_feedback.loops.recurrent.state import RecurrentFeedback
from smp_feedback.loops.recurrent.step import at_least_single
from smp_feedback.loops.score.autoencoders import Autoencoder
from smp_feedback.loops.score.update import Update
from smp_feedback.loops.steps import Step
from smp_feedback.ops.reading import per_class
from smp_feedback.surgery.feature_capture import Taken
from smp_feedback.surgery.probe import Probe

SMALLEST = 1e-7
"""Probabilities below are answered as if they were this, as the paper's cross-entropy clips them."""


class Begun(NamedTuple):
    """What is computed once per image.

    Attributes:
        logits: The base's own (B, classes, H, W).
        labels: Its image labels, where it has a classification head.
        y: The first prediction (B, K, H, W), probabilities; K = 2 for a base of one class.
        features: What conditions the autoencoder.
    """

    logits: Tensor
    labels: Tensor | None
    y: Tensor
    features: tuple[Tensor, ...]


@dataclass(frozen=True, repr=False, eq=False)
class ScoreStep(Step):
    """One update; ``state`` is the prediction y after it (B, K, H, W)."""

    @property
    def _update(self) -> Update:
        return cast(Update, self._turned.more)

    @property
    def norm(self) -> Tensor:
        """How far the reconstruction was: norm over classes, mean over pixels (B,); NaN once an image has stopped."""
        return self._update.norm

    @functools.cached_property
    def energy(self) -> Tensor:
        """The change of energy in this step, to first order, mean over pixels (B,): ``-<r - y, y' - y>``, <= 0.

        The energy whose gradient the autoencoder estimates, in units of the noise's variance; it adds up along a path.
        """
        moved = (self.state - self._update.before) * self._update.score
        return -moved.detach().sum(1).mean((1, 2))


class ScoreFeedback(OuterFeedback):
    """All that is new in a refined model: the autoencoder, and where its features are taken.

    Args:
        config: The loop's config.
        seen: What a dry run showed of the base.
        sources: Where the features are taken.
        inner: What is new in a base that looks again itself.
    """

    autoencoder: Autoencoder
    config: Score

    def __init__(self, config: Score, seen: Probe, sources: tuple[Taken, ...], inner: RecurrentFeedback | None) -> None:
        super().__init__(config, seen, inner)
        self.sources = sources

    def steps(self) -> int:
        """The updates of a call that names none."""
        return self.config.steps

    def probabilities(self, logits: Tensor) -> Tensor:
        """y_0 of the base's logits (B, max(2, classes), H, W), in single precision or better."""
        logits = at_least_single(logits)
        return (per_class(logits) / self.config.temperature).softmax(1)

    def logits_of(self, y: Tensor) -> Tensor:
        """Logits (B, classes, H, W) whose softmax (of one class: sigmoid) is y."""
        logs = y.clamp_min(SMALLEST).log().to(next(self.autoencoder.parameters()).dtype)
        return logs[:, 1:] - logs[:, :1] if self.classes == 1 else logs


def check_finite(image: Tensor) -> None:
    """*image* (B, ...) holds neither NaN nor infinity.

    Raises:
        InvalidInput: With the images that do; asks the device once.
    """
    finite = image.isfinite()
    if not finite.all():
        wrong = [i for i, fine in enumerate(finite.flatten(1).all(1).tolist()) if not fine]
        raise InvalidInput(f"image: NaN or infinite values in {wrong} of a batch of {len(image)}: expected finite.")
