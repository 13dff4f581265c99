"""Which windows a model takes, and what it answers: their sides, what these are multiples of, and a map of each."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from smp_feedback.checks import check_whole
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.loops.looking import carries
from smp_feedback.ops.maps import Size, size_of
from smp_feedback.surgery.extension import InParts, looping_in


def sides(window: object) -> Size:
    """*window* as (H, W).

    >>> sides(512), sides([256, 512])
    ((512, 512), (256, 512))
    """
    pair = (window, window) if isinstance(window, int) else tuple(window) if isinstance(window, (list, tuple)) else ()
    if len(pair) != 2:
        raise InvalidType(f"window={window!r}: expected its side in pixels, or a pair (H, W).")
    height, width = (check_whole("window", side) for side in pair)
    return height, width


def check_map(made: object, window: Size) -> Tensor:
    """What a window is answered with, if that is a map of its own size.

    Raises:
        InvalidInput: If it is not.
    """
    if not isinstance(made, Tensor) or made.ndim != 4 or size_of(made) != window:
        said = tuple(made.shape) if isinstance(made, Tensor) else f"a {type(made).__name__}"
        raise InvalidInput(
            f"A window of {window[0]} x {window[1]} px is answered by {said}: expected a map of its size, as models "
            "for segmentation give."
        )
    return made


def check_shown(image: object) -> None:
    """*image* is a batch of images that windows can be cut from, and that wants no gradient.

    Raises:
        InvalidInput: If it is none.
        InvalidValue: If it wants a gradient.
    """
    if not isinstance(image, Tensor) or image.ndim != 4 or not image.numel():
        said = f"of shape {tuple(image.shape)}" if isinstance(image, Tensor) else f"is a {type(image).__name__}"
        raise InvalidInput(f"image {said}: expected a tensor (B, C, H, W) with pixels.")
    if image.requires_grad and torch.is_grad_enabled():
        raise InvalidValue("image wants a gradient, and windows are answered without: give image.detach().")


def common_multiple(a: Size, b: Size) -> Size:
    """The smallest multiples of both.

    >>> common_multiple((32, 4), (6, 8))
    (96, 8)
    """
    return math.lcm(a[0], b[0]), math.lcm(a[1], b[1])


def divisor(model: nn.Module) -> Size:
    """What height and width of an image are multiples of, as smp's models say; 1 of a model that says nothing.

    >>> import segmentation_models_pytorch as smp
    >>> divisor(smp.FPN("resnet18", encoder_weights=None)), divisor(nn.Conv2d(3, 2, 1))
    ((32, 32), (1, 1))
    """
    inside: Any = looping_in(model)
    stride = getattr(getattr(inside, "encoder", None), "output_stride", 1)
    asks = getattr(inside, "requires_divisible_input_shape", False)
    return (stride, stride) if asks and isinstance(stride, int) else (1, 1)


def check_fits(model: nn.Module, window: Size, stride: Size) -> None:
    """A *window* is one that *model* takes, and holds a whole number of places of its state of *stride*.

    Raises:
        InvalidValue: If it is not, with the nearest that are.
    """
    inside: Any = looping_in(model)
    least = getattr(getattr(inside, "encoder", None), "output_stride", 1)
    if isinstance(least, int) and min(window) < least:
        raise InvalidValue(
            f"window={min(window)}: what {type(inside).__name__} looks at last covers {least} px in one place, so give "
            f"at least {least}; as large as the crops it was trained on is a safe choice."
        )
    for side, own, coarse in zip(window, divisor(model), stride, strict=True):
        for multiple, why in (
            (own, f"{type(looping_in(model)).__name__} takes multiples of {own}"),
            (coarse, f"a place of the state covers {coarse} px"),
        ):
            if side % multiple:
                below, above = side // multiple * multiple, -(-side // multiple) * multiple
                near = f"{below} or {above}" if below else str(above)
                raise InvalidValue(f"window={side}: {why}, so give {near}.")


def is_built_for(model: nn.Module, window: Size) -> bool:
    """Whether *model* says that it was built for images of the size of *window*: it may take no other."""
    return any(_pair(getattr(module, "img_size", None)) == window for module in model.modules())


def _pair(size: Any) -> tuple[Any, Any] | None:
    if isinstance(size, int):
        return size, size
    return (size[-2], size[-1]) if isinstance(size, (tuple, list)) and len(size) >= 2 else None


def check_whole_frames(model: nn.Module) -> None:
    """Frames of films are not looked at in windows where the state goes on from frame to frame.

    Raises:
        InvalidValue: If they are.
    """
    if isinstance(model, InParts) and carries(inside := looping_in(model.model)):
        raise InvalidValue(
            f"films in windows: this {type(inside).__name__} carries its state from frame to frame, and windows "
            "carry none: leave window out."
        )
