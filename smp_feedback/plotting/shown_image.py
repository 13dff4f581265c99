"""The image that a model was shown, as a person sees it: normalisation undone, in channels that can be drawn."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from smp_feedback.plotting.pictures import data_config

ROUNDING = 1 / 512  # half a step of an 8-bit image: what normalising and undoing may leave outside [0, 1]


class DrawnImage(NamedTuple):
    """An image in [0, 1] (C, H, W), on the CPU, and what has to be said of it; nothing if it is as it was."""

    image: Tensor
    words: str = ""


def undone(model: nn.Module, image: Tensor) -> Tensor:
    """*image* (C, H, W), normalised as *model* expects it, as it was before; channels of clicks beside it are left out.

    >>> import smp_feedback as smpf
    >>> model = smpf.create("PlainConv", in_channels=1)
    >>> model.data_config = smpf.DataConfig(mean=(0.5,), std=(0.25,), channels=1)
    >>> undone(model, torch.full((1, 1, 2), 2.0))
    tensor([[[1., 1.]]])
    """
    config = data_config(model)
    own = image[: config.channels] if len(image) > config.channels else image
    return config.undo(own.detach().float()).cpu()


def seen(model: nn.Module, image: Tensor) -> DrawnImage:
    """*image* (C, H, W), as *model* takes it, as it is drawn."""
    return in_range(undone(model, image))


def in_range(image: Tensor) -> DrawnImage:
    """*image* (C, H, W) in [0, 1], stretched where it goes beyond that, and which of its channels are drawn.

    >>> in_range(torch.tensor([[[-1.0, 0.0, 3.0]]]))
    DrawnImage(image=tensor([[[0.0000, 0.2500, 1.0000]]]), words='values -1 to 3, stretched to [0, 1]')
    """
    drawn = image[:3] if len(image) >= 3 else image[:1]
    words = []
    if len(drawn) < len(image):
        which = "channel 1" if len(drawn) == 1 else "channels 1, 2, 3"
        words.append(f"{which} of {len(image)}")
    known = drawn[drawn.isfinite()]
    if len(known) < drawn.numel():
        words.append("NaN or infinite values are black")
    low, high = (float(known.amin()), float(known.amax())) if len(known) else (0.0, 1.0)
    drawn = drawn.nan_to_num(low, low, low)
    if low < -ROUNDING or high > 1 + ROUNDING:
        words.append(f"values {low:.3g} to {high:.3g}, stretched to [0, 1]")
        drawn = (drawn - low) / max(high - low, torch.finfo(drawn.dtype).tiny)
    return DrawnImage(drawn.clamp(0, 1), "; ".join(words))
