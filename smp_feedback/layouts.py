"""How features are laid out: maps, maps with their channels last, or tokens; and each as a state (B, C, h, w)."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from torch import Tensor

from smp_feedback.errors import SurgeryError


class Layout(NamedTuple):
    """How a base lays out its features.

    Attributes:
        kind: ``map`` (B, C, h, w), ``last`` (B, h, w, C) or ``tokens`` (B, N, C).
        prefix: Of tokens, how many stand before those of the image (class and register tokens).
    """

    kind: Literal["map", "last", "tokens"] = "map"
    prefix: int = 0

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

    def spread(self, state: Tensor, size: tuple[int, int]) -> Tensor:
        """The image's tokens of (B, K, N, 1) as a map (B, K, h, w); *size* is the image's."""
        tokens = state[:, :, self.prefix :, 0]
        return tokens.reshape(*tokens.shape[:2], *grid_of(tokens.shape[2], size))


def grid_of(count: int, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of *count* patches that cover an image of *size* (H, W), row by row.

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
    return Layout("tokens", _prefix(model, features.shape[1], image))


def _channels_last(model: Any, features: Tensor) -> bool:
    said = getattr(model, "output_fmt", None)
    if said is not None:
        return str(said).rpartition(".")[2] == "NHWC"
    width = getattr(model, "num_features", None)
    return features.shape[1] != width and features.shape[3] == width


def _prefix(model: Any, count: int, image: Tensor) -> int:
    """What the model says of itself; else the fewest that leave a grid as square as the image."""
    said = getattr(model, "num_prefix_tokens", None)
    if isinstance(said, int):
        return said
    height, width = image.shape[-2:]
    for prefix in range(min(count, 16)):
        rows = math.sqrt((count - prefix) * height / width)
        if round(rows) * round(rows * width / height) == count - prefix:
            return prefix
    return 0
