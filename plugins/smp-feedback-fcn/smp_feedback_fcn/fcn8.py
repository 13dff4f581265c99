"""FCN-8s: the scores of three depths of VGG16, upsampled and summed."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from segmentation_models_pytorch.base import SegmentationModel
from segmentation_models_pytorch.base.hub_mixin import supports_config_loading
from smp_feedback import Cut
from smp_feedback.checks import check_bool, check_choice, check_whole
from smp_feedback.errors import InvalidInput, InvalidValue
from torch import Tensor, nn

from smp_feedback_fcn.chain import Chain
from smp_feedback_fcn.crops import Size, cropped, size_of
from smp_feedback_fcn.vgg import imagenet, vgg16

LEAST = 26  # pixels that leave fc6 one place: (26 + 198) / 32 = 7
# Rows and columns that aligned crops leave out, as strides and paddings have it: of pool4, of pool3, of the logits
POOL4, POOL3, LOGITS = 5, 9, 31


class FCN8s(SegmentationModel):  # type: ignore[misc]  # smp is not typed
    """FCN-8s of VGG16 (Long et al. 2015, arXiv 1411.4038), as Romero et al. 2017 (arXiv 1705.07450) refine it.

    VGG16, its first convolution padded by 100 pixels, with fc6 and fc7 as convolutions; 1 x 1 scores of fc7, pool4 and
    pool3, fused by two transposed convolutions (4 x 4, stride 2); a third (16 x 16, stride 8) and a crop give logits
    for each pixel. 134.5 million parameters for 21 classes.

    The encoder's modules bear the names of the Caffe model, ``encoder.conv1_1`` to ``encoder.drop7``; activations are
    modules of their own: ``encoder.conv4_3`` gives what ``encoder.relu4_3`` is given, ``encoder.pool4`` 512 channels.

    Args:
        in_channels: Channels of the image.
        classes: Channels of the logits.
        encoder_weights: None is random; ``imagenet`` downloads torchvision's VGG16, fc6 and fc7 too.
        width: All channels of the encoder are this many times the published ones; 1/16 has half a million parameters.
        score_relu: Whether the three score layers end in ReLU, as the code of arXiv 1705.07450 has it; False is Long
            et al.'s, linear.
        crop: Which pixels of a larger map are kept. ``center``: its middle, as in arXiv 1705.07450; over the image
            this is off by 0 to 16 pixels, depending on its size, which training on one size makes up for. ``aligned``:
            those that lie over the smaller one, all but the first 5 rows of pool4, 9 of pool3 and 31 of the logits, as
            Long et al. have it; for images of many sizes.
        dropout: After fc6 and fc7; 0.5 as published.

    Raises:
        InvalidType, InvalidValue: For a value outside its range, and weights of VGG16 for another network.

    >>> model = FCN8s(classes=11, width=1 / 32)
    >>> model(torch.rand(1, 3, 37, 50)).shape
    torch.Size([1, 11, 37, 50])
    """

    _is_torch_scriptable = False
    requires_divisible_input_shape = False

    @supports_config_loading  # type: ignore[untyped-decorator]
    def __init__(
        self,
        in_channels: int = 3,
        classes: int = 1,
        *,
        encoder_weights: str | None = None,
        width: float = 1.0,
        score_relu: bool = True,
        crop: Literal["center", "aligned"] = "center",
        dropout: float = 0.5,
    ) -> None:
        check_whole("in_channels", in_channels)
        check_whole("classes", classes)
        check_bool("score_relu", score_relu)
        check_choice("crop", crop, ("center", "aligned"))
        _check_weights(encoder_weights, in_channels, width)
        super().__init__()
        self.encoder = vgg16(in_channels, width, dropout)
        self.decoder = Fusion(self.encoder, classes, score_relu=score_relu, aligned=crop == "aligned")
        self.segmentation_head = _upsampling(classes, 16, stride=8)
        self.classification_head = None
        self.offset = LOGITS if crop == "aligned" else None
        self.name = "fcn8s-vgg16"
        if encoder_weights is not None:
            self.encoder.load_state_dict(imagenet())

    def check_input_shape(self, x: Tensor) -> None:
        """Raise ``InvalidInput`` for an image (B, C, H, W) that leaves fc6 no place: under 26 pixels high or wide."""
        if min(x.shape[-2:]) < LEAST:
            raise InvalidInput(
                f"image of {x.shape[-2]} x {x.shape[-1]}: expected at least {LEAST} x {LEAST}. Resize or pad it."
            )

    def forward(self, x: Tensor) -> Tensor:
        """Image (B, C, H, W) -> logits (B, classes, H, W)."""
        if not torch.compiler.is_compiling():
            self.check_input_shape(x)
        return _head(self, _body(self, x)[0], size_of(x))


class Fusion(nn.Module):
    """Scores of fc7, pool4 and pool3, each (1 x 1) for all classes, summed at pool3's resolution.

    Args:
        encoder: That of :class:`FCN8s`.
        classes: Channels of each score.
        score_relu: Whether they end in ReLU.
        aligned: Whether the finer scores are cropped to where the coarser lie, or to their own middle.
    """

    def __init__(self, encoder: Chain, classes: int, *, score_relu: bool, aligned: bool) -> None:
        super().__init__()
        *_, pool3, pool4, _, top = encoder.out_channels
        self.score_fr = _score(top, classes)
        self.upscore2 = _upsampling(classes, 4, stride=2)
        self.score_pool4 = _score(pool4, classes)
        self.upscore_pool4 = _upsampling(classes, 4, stride=2)
        self.score_pool3 = _score(pool3, classes)
        self.activation = nn.ReLU() if score_relu else nn.Identity()
        self.offsets = (POOL4, POOL3) if aligned else (None, None)

    def forward(self, features: list[Tensor]) -> Tensor:
        """The encoder's seven maps -> (B, classes, h, w), 8 pixels of the image to one."""
        *_, pool3, pool4, _, top = features
        coarse = self.upscore2(self.activation(self.score_fr(top)))
        coarse = coarse + cropped(self.activation(self.score_pool4(pool4)), size_of(coarse), self.offsets[0])
        fine = self.upscore_pool4(coarse)
        return cast(Tensor, fine + cropped(self.activation(self.score_pool3(pool3)), size_of(fine), self.offsets[1]))


def _score(channels: int, classes: int) -> nn.Conv2d:
    """He et al.'s start: from the zeros of Long et al. a score that ends in ReLU would never leave."""
    conv = nn.Conv2d(channels, classes, 1)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    nn.init.zeros_(cast(Tensor, conv.bias))
    return conv


def _upsampling(classes: int, kernel: int, stride: int) -> nn.ConvTranspose2d:
    """A transposed convolution that begins as bilinear interpolation of each class (Long et al. 2015, section 4.2)."""
    conv = nn.ConvTranspose2d(classes, classes, kernel, stride=stride)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[range(classes), range(classes)] = bilinear(kernel)
        nn.init.zeros_(cast(Tensor, conv.bias))
    return conv


def bilinear(size: int) -> Tensor:
    """The kernel (size, size), of even size, by which a stride of size/2 interpolates bilinearly.

    >>> bilinear(4)[0]
    tensor([0.0625, 0.1875, 0.1875, 0.0625])
    """
    middle = (size - 1) / 2
    line = 1 - (torch.arange(size) - middle).abs() / (size / 2)
    return line[:, None] * line


def _check_weights(encoder_weights: str | None, in_channels: int, width: float) -> None:
    if encoder_weights is None:
        return
    check_choice("encoder_weights", encoder_weights, ("imagenet",))
    if in_channels != 3 or width != 1:
        raise InvalidValue(
            f"encoder_weights={encoder_weights!r} are of the full VGG16 on 3 channels: expected in_channels=3 and "
            f"width=1, got {in_channels} and {width}. Give encoder_weights=None."
        )


def _body(model: Any, image: Tensor) -> tuple[Tensor, None]:
    return model.decoder(model.encoder(image)), None


def _head(model: Any, scores: Tensor, size: Size) -> Tensor:
    return cropped(model.segmentation_head(scores), size, model.offset)


def _check(model: Any, image: Tensor) -> None:
    model.check_input_shape(image)


CUT = Cut(_body, _head, check=_check, encoder="encoder")
"""Encoder and fusion, whose scores at stride 8 are the state | last upsampling, cropping.

The fused scores are the first map that all of the answer passes through, and nothing comes after them but one linear
layer, as in smp's own models.
"""
