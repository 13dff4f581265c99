"""How features are laid out: maps, maps with their channels last, or tokens; and each as a state (B, C, h, w)."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from torch import Tensor

from smp_feedback.errors import SurgeryError
from smp_feedback.ops.maps import Size, size_of


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


def layout_of(model: Any, image: Tensor) -> Layout:
    """How *model* lays out its features, shown an *image* (B, C, H, W).

    Raises:
        SurgeryError: If they are neither map nor tokens.
    """
    features = model.forward_features(image)
    if not isinstance(features, Tensor) or features.ndim not in (3, 4):
        got = tuple(features.shape) if isinstance(features, Tensor) else f"a {type(features).__name__}"
        raise SurgeryError(
            f"{type(model).__name__}: forward_features must give one tensor, a map (B, S, h, w) or tokens (B, N, S), "
            f"got {got}."
        )
    if features.ndim == 4:
        return Layout("last" if _channels_last(model, features) else "map")
    count, size = features.shape[1], size_of(image)
    prefix = _prefix(model, count, size)
    return Layout("tokens", prefix, patch_of(model, count - prefix, size))


def _channels_last(model: Any, features: Tensor) -> bool:
    said = getattr(model, "output_fmt", None)
    if said is not None:
        return str(said).rpartition(".")[2] == "NHWC"
    width = getattr(model, "num_features", None)
    return features.shape[1] != width and features.shape[3] == width


def _prefix(model: Any, count: int, size: Size) -> int:
    """What the model says of itself; else the fewest that leave a grid as square as the image."""
    said = getattr(model, "num_prefix_tokens", None)
    if isinstance(said, int):
        return said
    height, width = size
    for prefix in range(min(count, 16)):
        rows = math.sqrt((count - prefix) * height / width)
        if round(rows) * round(rows * width / height) == count - prefix:
            return prefix
    return 0
