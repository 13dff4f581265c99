"""How far the outlines of what was said lie from those of what is so: MONAI's distances, image by image, in pixels."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from smp_feedback.evaluation.cells import Cells, masks_in
from smp_feedback.evaluation.named_metrics import DISTANCES
from smp_feedback.ops.reading import MULTILABEL


def distances_of(cells: Cells, classes: int, ignore_index: int | None, task: str) -> Tensor:
    """Hausdorff 95 and average surface distance of each class in each image (B, classes, 2), in pixels.

    Both are taken both ways, as MONAI's ``compute_hausdorff_distance(percentile=95)`` and
    ``compute_average_surface_distance(symmetric=True)`` have them. A class that is in neither answer nor truth has none
    (NaN), and one that is in one of them alone has the longest distance that there is in such an image, its diagonal:
    to miss something, or to make it up, is to be as far off as can be. What is not scored belongs to no class, in
    either. They are measured on the CPU, so that a device is waited for.

    Args:
        cells: What was said of maps (B, H, W), or (B, classes, H, W) for ``multilabel``.
        classes: Number of classes.
        ignore_index: A class that is not measured, or any other label.
        task: ``segmentation`` or ``multilabel``.

    >>> from smp_feedback.evaluation.cells import cells_of
    >>> said, so = torch.zeros(2, 1, 8, 8), torch.zeros(1, 8, 8, dtype=torch.long)
    >>> so[0, 2, 2] = 1
    >>> logits = torch.full((1, 1, 8, 8), -1.0)
    >>> logits[0, 0, 2, 5] = 1.0  # said three pixels beside
    >>> distances_of(cells_of(logits, so, 2, None), 2, None, "segmentation")[0, 1].tolist()
    [3.0, 3.0]
    """
    said, so = (part.cpu() for part in masks_in(cells, classes, task))
    height, width = said.shape[-2:]
    in_said, in_so = (part.flatten(2).any(2) for part in (said, so))
    found = torch.full((*in_said.shape, len(DISTANCES)), math.nan)
    found[in_said ^ in_so] = math.hypot(height - 1, width - 1)
    both = in_said & in_so
    if both.any():
        found[both] = _measured(said[both], so[both])
    if ignore_index is not None and task != MULTILABEL and 0 <= ignore_index < classes:
        found[:, ignore_index] = math.nan
    return found


def _measured(said: Tensor, so: Tensor) -> Tensor:
    """The distances of masks (N, H, W) that are not empty, (N, 2)."""
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.surface_distance import compute_average_surface_distance

    pair = said[:, None].float(), so[:, None].float()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)  # MONAI's word to itself
        hausdorff = compute_hausdorff_distance(*pair, include_background=True, percentile=95)
        average = compute_average_surface_distance(*pair, include_background=True, symmetric=True)
    return torch.cat([hausdorff, average], 1)
