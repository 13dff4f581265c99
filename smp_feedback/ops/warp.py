"""Moving pixels: an image read where a displacement field points."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from smp_feedback.errors import InvalidInput
from smp_feedback.ops.maps import as_precise_as


def warp(image: Tensor, displacement: Tensor) -> Tensor:
    """``out(i, j) = image(clamp(i + d_row, 0, H - 1), clamp(j + d_column, 0, W - 1))``, bilinear.

    As the published restoration network moves its pixels (*Spatial Feedback Learning to Improve Semantic Segmentation
    in Hot Weather*, BMVC 2020). Where the place is clamped, the displacement has no gradient in that direction; where
    it is NaN, so is the image.

    Args:
        image: (B, C, H, W), floating point.
        displacement: In pixels (B, 2, H, W): channel 0 rows, channel 1 columns. Places are computed in single
            precision or better, whatever the dtype.

    Returns:
        (B, C, H, W), as *image*.

    Raises:
        InvalidInput: If *image* is no floating-point tensor, or the two do not fit.

    >>> image = torch.arange(4.0).reshape(1, 1, 1, 4)
    >>> right = torch.tensor([0.0, 0.5]).reshape(1, 2, 1, 1).expand(1, 2, 1, 4)
    >>> warp(image, right)
    tensor([[[[0.5000, 1.5000, 2.5000, 3.0000]]]])
    """
    _check(image, displacement)
    single = torch.promote_types(image.dtype, torch.float32)
    shift = displacement.to(single)
    rows, columns = (_normalised(shift[:, axis], axis + 1) for axis in (0, 1))
    lost = shift.isnan().any(1, keepdim=True)
    grid = torch.stack([columns, rows], -1).nan_to_num()  # a place that is NaN ends the process on a CPU
    with as_precise_as(image):  # half precision would round places to whole pixels
        moved = F.grid_sample(image.to(single), grid, mode="bilinear", padding_mode="border", align_corners=True)
    return moved.masked_fill(lost, torch.nan).to(image.dtype)


def _normalised(shift: Tensor, axis: int) -> Tensor:
    """Where each pixel (B, H, W) is read along one axis, from -1 for the first to 1 for the last."""
    last = shift.shape[axis] - 1
    places = torch.arange(last + 1, device=shift.device, dtype=shift.dtype)
    if axis == 1:
        places = places[:, None]
    return (places + shift) * (2 / max(last, 1)) - 1


def _check(image: Tensor, displacement: Tensor) -> None:
    for name, x in (("image", image), ("displacement", displacement)):
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise InvalidInput(
                f"{name}: expected a floating-point tensor, not {getattr(x, 'dtype', type(x).__name__)}."
            )
    if image.ndim != 4 or displacement.shape != (image.shape[0], 2, *image.shape[-2:]):
        raise InvalidInput(
            f"displacement of shape {tuple(displacement.shape)} for an image of shape {tuple(image.shape)}: expected "
            "(B, 2, H, W) for (B, C, H, W)."
        )
