"""How many channels a model answers, where that can be seen without asking it."""

from __future__ import annotations

from typing import Any, cast

from torch import nn


def channels_of(model: nn.Module) -> int | None:
    """The channels of *model*'s maps, by the last convolution of its head or by its loop; None if nothing tells.

    >>> import segmentation_models_pytorch as smp
    >>> channels_of(smp.Unet("resnet18", encoder_weights=None, classes=1)), channels_of(nn.Conv2d(3, 2, 1))
    (1, None)
    """
    head = cast(Any, getattr(model, "segmentation_head", None))
    convs = [part for part in head.modules() if isinstance(part, nn.Conv2d)] if isinstance(head, nn.Module) else []
    if convs:
        return convs[-1].out_channels
    known = getattr(getattr(model, "feedback", None), "classes", None)
    return known if isinstance(known, int) else None
