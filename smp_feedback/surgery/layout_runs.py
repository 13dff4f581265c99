"""How a module lays out its features, found by dry runs: what grows as the image grows is space, the rest channels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from smp_feedback.errors import SurgeryError
from smp_feedback.ops.maps import Size, size_of
from smp_feedback.surgery.feature_layout import Layout, grid_of, patch_of

Ask = Callable[[Tensor], Any]
FORMATS = {"NCHW": "map", "NHWC": "last"}
"""What ``output_fmt`` may say of features that are maps, in timm's words."""


class Axes(NamedTuple):
    """Which axis of features (B, ., ., .) is height, and which is width."""

    rows: int
    columns: int


KNOWN = {"map": Axes(2, 3), "last": Axes(1, 2), "turned": Axes(3, 2), "turned last": Axes(2, 1)}
GROWTHS: tuple[Size, ...] = ((1, 2), (2, 1), (2, 2))  # in height and width: the third for those that take squares alone


def layout_of(model: Any, image: Tensor) -> Layout:
    """How *model* lays out what its ``forward_features`` gives, shown an *image* (B, C, H, W) and larger ones.

    Raises:
        SurgeryError: If it is neither map nor tokens, or nothing tells where its channels are.
    """
    who, features = f"{type(model).__name__}: forward_features", model.forward_features(image)
    if not isinstance(features, Tensor) or features.ndim not in (3, 4):
        got = tuple(features.shape) if isinstance(features, Tensor) else f"a {type(features).__name__}"
        raise SurgeryError(f"{who} must give one tensor, a map (B, S, h, w) or tokens (B, N, S), got {got}.")
    if features.ndim == 3:
        return tokens_of(who, model, model.forward_features, image, features)
    if _is_timms(model, "forward_features"):
        return Layout("last" if _channels_last_in_timm(model, features) else "map")
    return map_of(who, model, model.forward_features, image, features)


def map_of(who: str, module: Any, ask: Ask, image: Tensor, features: Tensor, width: int | None = None) -> Layout:
    """How *features* (B, ., ., .), which *module* gave when *ask* was shown *image*, are laid out.

    Args:
        who: *module* and what of it is asked, for errors.
        module: Has ``output_fmt``, ``"NCHW"`` or ``"NHWC"``, if it says so itself.
        ask: Gives the features of an image.
        image: (B, C, H, W) of a size that it takes.
        features: Those of *image*.
        width: Its number of channels, if somebody knows; asked where no dry run tells.

    Raises:
        SurgeryError: If height and width are swapped, it says otherwise than it does, or nothing tells.
    """
    said, seen = _said(who, module), _seen(ask, image, features)
    if seen is None:
        seen = said or _by_shape(features, size_of(image)) or _by_width(features, width or _width(module))
    if seen is None or seen.startswith("turned"):
        why = "may have its channels first or last" if seen is None else "has height and width swapped"
        raise SurgeryError(
            f"{who} gives {tuple(features.shape)} for an image of {_by(image)}, which {why}: give maps (B, S, h, w) or "
            "(B, h, w, S), and say which in the class: output_fmt = 'NCHW' or output_fmt = 'NHWC'."
        )
    if said is not None and said != seen:
        raise SurgeryError(
            f"{who}: output_fmt={module.output_fmt!r}, and its channels are {'last' if seen == 'last' else 'first'}: "
            f"at other sizes the other axes grow. Say output_fmt = {'NHWC' if seen == 'last' else 'NCHW'!r}."
        )
    return Layout("last" if seen == "last" else "map")


def tokens_of(who: str, module: Any, ask: Ask, image: Tensor, features: Tensor) -> Layout:
    """As :func:`map_of`, of tokens (B, N, S); ``num_prefix_tokens`` of *module* are those that lie nowhere.

    Raises:
        SurgeryError: If they are (B, S, N).
    """
    count, size = features.shape[1], size_of(image)
    prefix = getattr(module, "num_prefix_tokens", None)
    if not isinstance(prefix, int):
        wide = None if _is_timms(module, "forward_features") else grown(ask, image, (1, 2))
        if wide is not None and len(wide) == 3 and wide[1] == count and wide[2] > features.shape[2]:
            raise SurgeryError(
                f"{who} gives {tuple(features.shape)}, tokens with their channels first: give (B, N, S), as "
                "tokens.transpose(1, 2) does."
            )
        prefix = _prefix(count, size, None if wide is None or len(wide) != 3 else 2 * count - wide[1])
    return Layout("tokens", prefix, patch_of(module, count - prefix, size))


def grown(ask: Ask, image: Tensor, by: Size) -> tuple[int, ...] | None:
    """The shape of what *ask* gives for *image*, repeated *by* times in height and width; None if it takes none."""
    try:
        gave = ask(image.repeat(1, 1, *by))
    except Exception:  # sizes that do not fit fail in as many ways as there are models
        return None
    return tuple(gave.shape) if isinstance(gave, Tensor) else None


def _seen(ask: Ask, image: Tensor, features: Tensor) -> str | None:
    """The one layout that the dry runs leave; None if they tell nothing."""
    left, told = list(KNOWN), False
    for by in GROWTHS:
        shape = grown(ask, image, by)
        if shape is None or len(shape) != 4:
            continue
        changed = {axis for axis in (1, 2, 3) if shape[axis] != features.shape[axis]}
        fits = [kind for kind in left if changed == _growing(KNOWN[kind], by)]
        left, told = fits or left, told or bool(fits)
        if len(left) == 1:
            break
    return left[0] if told else None


def _growing(axes: Axes, by: Size) -> set[int]:
    return {axis for axis, times in zip(axes, by, strict=True) if times > 1}


def _said(who: str, module: Any) -> str | None:
    said = getattr(module, "output_fmt", None)
    word = str(said).rpartition(".")[2]
    if said is not None and word not in FORMATS:
        raise SurgeryError(f"{who}: output_fmt={said!r}: expected 'NCHW' (B, S, h, w) or 'NHWC' (B, h, w, S).")
    return None if said is None else FORMATS[word]


def _by_shape(features: Tensor, size: Size) -> str | None:
    """The layout whose grid is of the image's shape, if only one is."""
    fits = [kind for kind in ("map", "last") if _is_like(features, KNOWN[kind], size)]
    return fits[0] if len(fits) == 1 else None


def _is_like(features: Tensor, axes: Axes, size: Size) -> bool:
    return features.shape[axes.rows] * size[1] == features.shape[axes.columns] * size[0]


def _by_width(features: Tensor, width: int | None) -> str | None:
    first, last = features.shape[1] == width, features.shape[3] == width
    return None if first == last else ("map" if first else "last")


def _width(module: Any) -> int | None:
    width = getattr(module, "num_features", None)
    return width if isinstance(width, int) else None


def _channels_last_in_timm(model: Any, features: Tensor) -> bool:
    """As timm's own models say it: no dry run is spent on them."""
    said = getattr(model, "output_fmt", None)
    if said is not None:
        return str(said).rpartition(".")[2] == "NHWC"
    return _by_width(features, _width(model)) == "last"


def _is_timms(module: Any, method: str) -> bool:
    owner = next((cls for cls in type(module).__mro__ if method in vars(cls)), type(module))
    return owner.__module__.startswith("timm.")


def _prefix(count: int, size: Size, grew: int | None) -> int:
    """How many tokens lie nowhere: those that did not double with the image, else the fewest that leave a grid."""
    if grew is not None and 0 <= grew < count and _is_grid(count - grew, size):
        return grew
    height, width = size
    for prefix in range(min(count, 16)):
        rows = math.sqrt((count - prefix) * height / width)
        if round(rows) * round(rows * width / height) == count - prefix:
            return prefix
    return 0


def _is_grid(count: int, size: Size) -> bool:
    try:
        grid_of(count, size)
    except SurgeryError:
        return False
    return True


def _by(image: Tensor) -> str:
    return " x ".join(map(str, size_of(image)))
