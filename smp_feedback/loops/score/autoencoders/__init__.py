"""Conditional denoising autoencoders: what the score loop refines a prediction with."""

from __future__ import annotations

from collections.abc import Sequence

from smp_feedback.config.score import Score
from smp_feedback.loops.score.autoencoders.base import Autoencoder
from smp_feedback.loops.score.autoencoders.context import Context
from smp_feedback.loops.score.autoencoders.features import Feature
from smp_feedback.loops.score.autoencoders.standard import Standard

__all__ = ["Autoencoder", "Feature", "build_autoencoder"]

KINDS: dict[str, type[Autoencoder]] = {"standard": Standard, "context": Context}


def build_autoencoder(config: Score, classes: int, features: Sequence[Feature]) -> Autoencoder:
    """The autoencoder that *config* describes, with fresh weights.

    Args:
        config: The loop's config.
        classes: Channels K of the predictions it denoises, >= 2.
        features: What conditions it, at least one.

    Raises:
        InvalidValue: If *features* do not suit the autoencoder.

    >>> import torch
    >>> config = Score(filters=4, additional_pools=1)
    >>> autoencoder = build_autoencoder(config, 3, [Feature("stage:2", 8, 4.0)]).eval()
    >>> conditions = autoencoder.condition([torch.rand(1, 8, 5, 7)], (20, 26))
    >>> [tuple(condition.shape) for condition in conditions]  # of the third convolution
    [(1, 16, 6, 8)]
    >>> autoencoder(torch.rand(1, 3, 20, 26), conditions).shape
    torch.Size([1, 3, 20, 26])
    """
    return KINDS[config.autoencoder](config, classes, features)
