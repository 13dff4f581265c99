"""The front door: any model in windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch  # noqa: F401  (doctests)
from torch import nn

from smp_feedback.errors import require
from smp_feedback.loops.tiling.asking import Progress
from smp_feedback.loops.tiling.model import TiledModel


def tiled(
    model: nn.Module,
    window: int | Sequence[int] = 512,
    overlap: float = 0.25,
    *,
    stitch: Literal["logits", "state"] = "logits",
    batch_size: int = 1,
    progress: Progress | None = None,
) -> TiledModel:
    """*model*, asked about large images in overlapping windows whose edges are blended: memory for one window.

    MONAI's ``SlidingWindowInferer`` lays the windows and weighs what each says by a Gaussian around its middle.

    Args:
        model: Of maps: looping or plain. It is the same one, not a copy, and is asked in evaluation mode.
        window: Side of a window, or (H, W), in pixels, as the model takes them. Where an image is smaller, the window
            is, too; only where the model takes no such size is the image's edge repeated, and cut off again.
        overlap: The share of a window that the next one covers, too, in [0, 1). What a window says near its edge is
            worth least; a quarter lets none of it count alone, but at the image's own edge.
        stitch: What is put together. ``logits``: in each window the loop turns on its own, and what it answers is
            blended. ``state``: the loop turns over the whole image, and each look's state is blended before the next
            look, so that what is found travels from window to window; for recurrent loops. It keeps two states of the
            whole image, and computes anew in each look what no feedback reaches.
        batch_size: Windows at a time.
        progress: Shows how far it is, such as :func:`smp_feedback.data.progress.progress_bar`.

    Raises:
        InvalidType: If *model* is no module, or in windows already.
        InvalidValue: If an argument is out of its range, the model takes no window of this size, answers no maps, or
            has no state to stitch.
        MissingExtra: Without MONAI.

    >>> import smp_feedback as smpf
    >>> model = smpf.create("PlainConv", classes=2, feedback=True).eval()
    >>> smpf.tiled(model, window=32)(torch.rand(1, 3, 70, 50)).shape
    torch.Size([1, 2, 70, 50])
    """
    require("monai", extra="tiles")
    return TiledModel(model, window, overlap, stitch=stitch, batch_size=batch_size, progress=progress)
