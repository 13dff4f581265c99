"""How features are laid out: maps, maps with their channels last, or tokens; and each as a state (B, C, h, w)."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from torch import Tensor

from smp_feedback.errors import SurgeryError
from smp_feedback.ops.maps import Size


class Layout(NamedTuple):
    """How a base lays out its features.

    Attributes:
        kind: ``map`` (B, C, h, w), ``last`` (B, h, w, C) or ``tokens`` (B, N, C).
        prefix: Of tokens, how many stand before those of the image (class and register tokens).
        patch: Of tokens, the (h, w) in pixels of what each sees; None where the model does not say.
    """

    kind: Literal["map", "last", "tokens"] = "map"
    prefix: int = 0
    patch: Size | None = None

    @property
    def is_tokens(self) -> bool:
        """Whether the state is no map."""
        return self.kind == "tokens"

    def to_state(self, features: Tensor) -> Tensor:
        """As the loop holds them: (B, C, h, w); tokens (B, C, N, 1)."""
        if self.kind == "tokens":
            return features.mT.unsqueeze(-1)
        return features.permute(0, 3, 1, 2) if self.kind == "last" else features

    def from_state(self, state: Tensor) -> Tensor:
        """The inverse of :meth:`to_state`.

        >>> import torch
        >>> x = torch.rand(2, 5, 3)
        >>> bool((Layout("tokens", 1).from_state(Layout("tokens", 1).to_state(x)) == x).all())
        True
        """
        if self.kind == "tokens":
            return state.squeeze(-1).mT
        return state.permute(0, 2, 3, 1) if self.kind == "last" else state

    def spread(self, state: Tensor, size: Size) -> Tensor:
        """The image's tokens of (B, K, N, 1) as a map (B, K, h, w); *size* is the image's."""
        tokens = state[:, :, self.prefix :, 0]
        return tokens.reshape(*tokens.shape[:2], *self.grid(tokens.shape[2], size))

    def grid(self, count: int, size: Size) -> Size:
        """Height and width of the *count* tokens of an image of *size* (H, W).

        Raises:
            SurgeryError: If the patch does not say, and no grid of the image's shape has that many.

        >>> Layout("tokens", 1, (8, 16)).grid(32, (64, 64)), Layout("tokens", 1).grid(32, (64, 128))
        ((8, 4), (4, 8))
        """
        if self.patch is not None and _tiled(self.patch, count, size):
            return _covering(self.patch, size)
        return grid_of(count, size)


def grid_of(count: int, size: Size) -> Size:
    """Height and width of *count* square patches that cover an image of *size* (H, W), row by row.

    Raises:
        SurgeryError: If no grid of its shape has that many.

    >>> grid_of(196, (224, 224)), grid_of(32, (64, 128))
    ((14, 14), (4, 8))
    """
    height, width = size
    guess = math.sqrt(count * height / width)
    rows = min((n for n in range(1, count + 1) if count % n == 0), key=lambda n: abs(math.log(n / guess)))
    columns = count // rows
    if not 0.5 < rows / columns * width / height < 2:
        raise SurgeryError(f"{count} tokens are no grid of an image of {height} x {width}.")
    return rows, columns


def patch_of(module: Any, count: int, size: Size) -> Size | None:
    """The (h, w) of *module*'s patches, as far as it says: *count* of them cover an image of *size* (H, W).

    timm's models say it of their embedding, or in ``feature_info``, which takes patches for square.
    """
    info = getattr(module, "feature_info", None)
    own = getattr(module, "patch_size", getattr(getattr(module, "patch_embed", None), "patch_size", None))
    said = (own, info[-1].get("reduction") if isinstance(info, list) and info else None)
    return next((patch for side in said if (patch := _pair(side)) and _tiled(patch, count, size)), None)


def _pair(side: Any) -> Size | None:
    """*side* as (h, w), if it is a length or two."""
    pair = tuple(side) if isinstance(side, (tuple, list)) else (side, side)
    is_size = len(pair) == 2 and all(isinstance(length, int) and length > 0 for length in pair)
    return (pair[0], pair[1]) if is_size else None


def _covering(patch: Size, size: Size) -> Size:
    """Rows and columns of patches over an image of *size*, which may be padded to their multiple."""
    return -(-size[0] // patch[0]), -(-size[1] // patch[1])


def _tiled(patch: Size, count: int, size: Size) -> bool:
    rows, columns = _covering(patch, size)
    return rows * columns == count
