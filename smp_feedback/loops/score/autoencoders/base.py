"""What every autoencoder of the score loop keeps: two calls, their checks, and noise in training alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from smp_feedback.config.score import Score
from smp_feedback.errors import InvalidInput
from smp_feedback.loops.score.autoencoders.features import Feature, check_features
from smp_feedback.loops.score.autoencoders.noise import NOISES
from smp_feedback.ops.maps import Size


class Autoencoder(nn.Module):
    """A conditional denoising autoencoder: ``autoencoder(y, autoencoder.condition(features, (H, W)))``.

    What does not depend on y is computed once per image, by :meth:`condition`; subclasses define :meth:`prepare` and
    :meth:`denoise`. In training, the config's noise is added to y first.

    Args:
        config: The loop's config.
        classes: Channels K of y.
        features: What conditions it.
    """

    def __init__(self, config: Score, classes: int, features: Sequence[Feature]) -> None:
        super().__init__()
        self.classes, self.features = classes, tuple(features)
        self.noise, self.noise_level = config.noise, config.noise_level

    def condition(self, features: Sequence[Tensor], size: Size) -> tuple[Tensor, ...]:
        """What the convolutions that read features make of them.

        Args:
            features: Maps (B, C_h, h, w), as many and in the order that the autoencoder was built for.
            size: (H, W) of y.

        Returns:
            One tensor (B, ...) for each convolution that reads features.

        Raises:
            InvalidInput: If the features are not those it was built for.
        """
        check_features(features, self.features)
        return self.prepare([h.to(self._dtype) for h in features], size)

    def forward(self, y: Tensor, conditions: Sequence[Tensor]) -> Tensor:
        """Reconstruct *y*.

        Args:
            y: Prediction (B, K, H, W).
            conditions: What :meth:`condition` gave for the same images and size.

        Returns:
            Logits (B, K, H, W); their softmax is the reconstruction r.

        Raises:
            InvalidInput: If *y* has another number of classes.
        """
        if y.ndim != 4 or y.shape[1] != self.classes:
            raise InvalidInput(f"y of shape {tuple(y.shape)}: expected (B, {self.classes}, H, W), a channel per class.")
        y = y.to(self._dtype)
        return self.denoise(NOISES[self.noise](y, self.noise_level) if self.training else y, conditions)

    def prepare(self, features: Sequence[Tensor], size: Size) -> tuple[Tensor, ...]:
        """The conditions of checked *features*."""
        raise NotImplementedError(f"{type(self).__name__} defines no prepare(features, size).")

    def denoise(self, y: Tensor, conditions: Sequence[Tensor]) -> Tensor:
        """The logits (B, K, H, W) of a *y* of K classes."""
        raise NotImplementedError(f"{type(self).__name__} defines no denoise(y, conditions).")

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


def glorot(module: nn.Module) -> None:
    """Weights drawn from U(-a, a), a^2 = 6 / (fan in + fan out), and no bias: what the published models began with."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
