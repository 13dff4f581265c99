"""A Vision Transformer that segments: timm's encoder, and a linear or mask-transformer decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import torch
from segmentation_models_pytorch.base import ClassificationHead, SegmentationModel
from segmentation_models_pytorch.base.hub_mixin import supports_config_loading
from segmentation_models_pytorch.base.modules import Activation
from smp_feedback import Cut
from smp_feedback.checks import check_choice, check_whole
from torch import Tensor, nn

from smp_feedback_vit.decoders import DECODERS, MaskTransformer
from smp_feedback_vit.encoder import ViTEncoder
from smp_feedback_vit.patches import Size


class ViTSegmenter(SegmentationModel):  # type: ignore[misc]  # smp is not typed
    """A Vision Transformer for segmentation, as smp's models are made and used.

    Args:
        encoder_name: A model of timm that keeps one grid of patches (``timm.list_models("vit_*")``, ``deit*``,
            ``eva*``, ``beit*``, ``*dinov2*``, ...), with or without ``tu-``.
        encoder_weights: None (as in timm) is random; ``imagenet`` downloads timm's, any other word those of that tag.
        in_channels: Channels of the image.
        classes: Channels of the logits.
        decoder: ``linear``: a 1 x 1 convolution of the normalised patch tokens. ``mask_transformer``: Segmenter's
            (arXiv 2105.05633), for two classes or more; of two, its normalisation leaves little but the sign.
        decoder_layers: Layers of the mask transformer; 2 as in its paper.
        img_size: Pixels, H = W or (H, W), that the positions are made for; None is the encoder's own. Encoders with
            absolute or rotary positions take any other size too, resampled by timm; the rest only this one.
        sizes: What happens to images that the patches do not cover evenly: ``error``, or ``pad`` with zeros at the
            right and lower edge (the logits are cropped back).
        dropout: Of the tokens before the linear decoder, or in the mask transformer, 0 to 1.
        activation: As in smp: of the logits; None is none.
        aux_params: As in smp: a classification head on the patch tokens, ``{"classes": 4}``.
        **kwargs: As timm's model takes them: ``depth=4``, ``patch_size=8``, ``drop_path_rate=0.1``.

    Raises:
        UnknownName, UnknownKeyword: For an encoder or keyword that does not exist.
        InvalidType, InvalidValue: For a value outside its range, and encoders that keep no grid of patches.

    >>> model = ViTSegmenter("vit_tiny_patch16_224", classes=5, depth=2)
    >>> model(torch.rand(1, 3, 64, 96)).shape
    torch.Size([1, 5, 64, 96])
    """

    _is_torch_scriptable = False

    @supports_config_loading  # type: ignore[untyped-decorator]
    def __init__(
        self,
        encoder_name: str = "vit_small_patch16_224",
        encoder_weights: str | None = None,
        in_channels: int = 3,
        classes: int = 1,
        *,
        decoder: Literal["linear", "mask_transformer"] = "linear",
        decoder_layers: int = 2,
        img_size: int | Size | None = None,
        sizes: Literal["error", "pad"] = "error",
        dropout: float = 0.0,
        activation: str | Callable[[Tensor], Tensor] | None = None,
        aux_params: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        check_choice("decoder", decoder, DECODERS)
        check_whole("classes", classes)
        check_whole("decoder_layers", decoder_layers)
        super().__init__()
        self.encoder = ViTEncoder(encoder_name, encoder_weights, in_channels, img_size=img_size, sizes=sizes, **kwargs)
        width = self.encoder.out_channels[-1]
        score: nn.Module = nn.Identity()
        if decoder == "linear":
            self.decoder: nn.Module = nn.Dropout(dropout)
            score = nn.Conv2d(width, classes, 1)
            nn.init.trunc_normal_(score.weight, std=0.02)
            nn.init.zeros_(cast(Tensor, score.bias))
        else:
            self.decoder = MaskTransformer(width, classes, decoder_layers, dropout)
        upsample = nn.Upsample(scale_factor=self.encoder.output_stride, mode="bilinear", align_corners=False)
        self.segmentation_head = nn.Sequential(score, upsample, Activation(activation))
        self.classification_head = None if aux_params is None else ClassificationHead(width, **aux_params)
        self.name = f"vit-{encoder_name}"

    def check_input_shape(self, x: Tensor) -> None:
        """Raise ``InvalidInput``, a ``RuntimeError`` as smp's, for an image (B, C, H, W) of a size it does not take."""
        self.encoder.patches.check(x)

    def forward(self, x: Tensor) -> Any:
        """Image (B, C, H, W) -> logits (B, classes, H, W), or (logits, labels) with *aux_params*."""
        if not torch.compiler.is_compiling():
            self.check_input_shape(x)
        tokens, features = _body(self, x)
        masks = _head(self, tokens, (x.shape[-2], x.shape[-1]))
        return masks if features is None else (masks, _labels(self, features))


def _body(model: Any, image: Tensor) -> tuple[Tensor, Tensor | None]:
    tokens = model.encoder(image)[-1]
    return tokens, None if model.classification_head is None else tokens


def _head(model: Any, tokens: Tensor, size: Size) -> Tensor:
    masks = model.segmentation_head(model.decoder(tokens))
    return cast(Tensor, masks[..., : size[0], : size[1]])


def _labels(model: Any, features: Tensor) -> Tensor:
    return cast(Tensor, model.classification_head(features))


def _check(model: Any, image: Tensor) -> None:
    model.check_input_shape(image)


CUT = Cut(_body, _head, _labels, _check)
"""Encoder, whose normalised patch tokens are the state | decoder, upsampling, cropping."""
