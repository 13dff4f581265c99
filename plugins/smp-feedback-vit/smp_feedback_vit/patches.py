"""The grid of patches that a Vision Transformer lays over its image, and which images it takes."""

from __future__ import annotations

from typing import Any, NamedTuple

from smp_feedback.errors import InvalidInput
from smp_feedback.surgery.feature_layout import Layout
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int]


class Patches(NamedTuple):
    """How an encoder turns an image into patches.

    Attributes:
        stride: Side of a patch, in pixels.
        layout: How the features come: a map, a map with its channels last, or tokens behind ``prefix`` others.
        size: The only size (H, W) it takes; None is any.
        pad: Whether other images are padded at their right and lower edge, instead of refused.
        reader: Dotted name of the module of timm's model that is handed the image.
    """

    stride: int
    layout: Layout
    size: Size | None = None
    pad: bool = False
    reader: str = "patch_embed"

    def padded(self, size: Size) -> Size:
        """*size* as the encoder sees it.

        >>> Patches(16, Layout("tokens")).padded((33, 64))
        (48, 64)
        """
        if self.size is not None:
            return self.size
        height, width = size
        return -(-height // self.stride) * self.stride, -(-width // self.stride) * self.stride

    def grid(self, size: Size) -> Size:
        """Rows and columns of patches over an image of *size* (H, W)."""
        height, width = self.padded(size)
        return height // self.stride, width // self.stride

    def check(self, image: Tensor) -> None:
        """*image* (B, C, H, W) is of a size that is taken.

        Raises:
            InvalidInput: If it is not, with those that are.

        >>> import torch
        >>> Patches(16, Layout("tokens")).check(torch.zeros(1, 3, 40, 64))
        Traceback (most recent call last):
        smp_feedback.errors.InvalidInput: image of 40 x 64: expected height and width divisible by the patch of 16, such
        as 48 x 64. Resize or pad it, or make the model with sizes='pad'.
        """
        height, width = image.shape[-2:]
        if self.pad and self._fits_padded(height, width):
            return
        if self.pad:
            wanted = f"at least one patch of {self.stride} x {self.stride}" if self.size is None else "at most that"
            only = "" if self.size is None else f"this encoder sees {self.size[0]} x {self.size[1]}, "
            raise InvalidInput(f"image of {height} x {width}: {only}expected {wanted}.")
        if (height, width) == self.padded((height, width)):
            return
        h, w = self.padded((height, width))
        if self.size is not None:
            raise InvalidInput(
                f"image of {height} x {width}: this encoder takes {h} x {w} only, its positions being fixed. "
                "Resize it, make the model with img_size=(H, W), or with sizes='pad' for smaller images."
            )
        raise InvalidInput(
            f"image of {height} x {width}: expected height and width divisible by the patch of {self.stride}, such as "
            f"{h} x {w}. Resize or pad it, or make the model with sizes='pad'."
        )

    def _fits_padded(self, height: int, width: int) -> bool:
        if self.size is None:
            return min(height, width) >= self.stride
        return 0 < height <= self.size[0] and 0 < width <= self.size[1]

    def pad_image(self, module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """A forward pre-hook: the image, (B, C, H, W) and first of *inputs*, with zeros at its right and lower edge."""
        image, *others = inputs
        height, width = image.shape[-2:]
        h, w = self.padded((height, width))
        return (image if (h, w) == (height, width) else F.pad(image, (0, w - width, 0, h - height)), *others)

    def to_map(self, features: Tensor, size: Size) -> Tensor:
        """The image's own of *features*, as a map (B, D, h, w); *size* is the image's.

        >>> import torch
        >>> tokens = torch.arange(7.0).reshape(1, 7, 1)  # one class token, 2 x 3 patches
        >>> Patches(16, Layout("tokens", 1)).to_map(tokens, (32, 48))
        tensor([[[[1., 2., 3.],
                  [4., 5., 6.]]]])
        """
        if not self.layout.is_tokens:
            return self.layout.to_state(features)
        tokens = features[:, self.layout.prefix :].mT
        return tokens.reshape(*tokens.shape[:2], *self.grid(size))
