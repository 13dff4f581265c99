"""A Vision Transformer that classifies: timm's model whole, taking sizes as the segmenter does."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from smp_feedback import Cut
from smp_feedback.checks import check_whole
from torch import Tensor, nn

from smp_feedback_vit.encoder import build
from smp_feedback_vit.patches import Size


class ViTClassifier(nn.Module):
    """A Vision Transformer for classification.

    Args:
        encoder_name: As in :class:`smp_feedback_vit.ViTSegmenter`.
        encoder_weights: As there; the head is random unless *classes* is that of the weights.
        in_channels: Channels of the image.
        classes: Length of the logits; 1000 as in timm.
        img_size, sizes: As there.
        **kwargs: As timm's model takes them.

    >>> ViTClassifier("vit_tiny_patch16_224", classes=10, depth=2)(torch.rand(2, 3, 32, 48)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        encoder_name: str = "vit_small_patch16_224",
        encoder_weights: str | None = None,
        in_channels: int = 3,
        classes: int = 1000,
        *,
        img_size: int | Size | None = None,
        sizes: Literal["error", "pad"] = "error",
        **kwargs: Any,
    ) -> None:
        super().__init__()
        check_whole("classes", classes)
        self.model, self.patches = build(encoder_name, encoder_weights, in_channels, classes, img_size, sizes, kwargs)
        self.config = {
            **{"encoder_name": encoder_name, "encoder_weights": encoder_weights, "in_channels": in_channels},
            **{"classes": classes, "img_size": img_size, "sizes": sizes, **kwargs},
        }

    @property
    def img_size(self) -> Size | None:
        """The only size (H, W) it takes; None is any."""
        return self.patches.size

    def check_input_shape(self, x: Tensor) -> None:
        """Raise ``InvalidInput`` for an image (B, C, H, W) of a size it does not take."""
        self.patches.check(x)

    def forward_features(self, x: Tensor) -> Tensor:
        """Image (B, C, H, W) -> tokens (B, N, D), class and register tokens first, as timm gives them."""
        return cast(Tensor, self.model.forward_features(x))

    def forward_head(self, features: Tensor) -> Tensor:
        """Tokens -> logits (B, classes), as timm pools them."""
        return cast(Tensor, self.model.forward_head(features))

    def forward(self, x: Tensor) -> Tensor:
        """Image (B, C, H, W) -> logits (B, classes)."""
        if not torch.compiler.is_compiling():
            self.check_input_shape(x)
        return self.forward_head(self.forward_features(x))


def _body(model: Any, image: Tensor) -> tuple[Tensor, None]:
    return model.patches.layout.to_state(model.forward_features(image)), None


def _head(model: Any, state: Tensor, size: Size) -> Tensor:
    return cast(Tensor, model.forward_head(model.patches.layout.from_state(state)))


def _check(model: Any, image: Tensor) -> None:
    model.check_input_shape(image)


def _spread(model: Any, readout: Tensor, size: Size) -> Tensor:
    return cast(Tensor, model.patches.to_map(model.patches.layout.from_state(readout), size))


CUT = Cut(_body, _head, check=_check, spread=_spread)
"""All tokens, class and register tokens too, are the state (B, D, N, 1) | pooling and the linear head."""
