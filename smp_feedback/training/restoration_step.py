"""How one batch teaches the two networks of a restoration loop: step by step, or end to end."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from smp_feedback.data.triplets import Triplet
from smp_feedback.loops.restoration.model import RestorationModel
from smp_feedback.loops.restoration.state import RestorationStep

Segmenting = Callable[[Tensor, Tensor, int], Tensor]
"""M's loss of logits and target in step t."""
Backward = Callable[[Tensor], object]


class Lost(NamedTuple):
    """The losses of R and of M, each summed over the steps, without gradient."""

    restoring: Tensor
    segmenting: Tensor


def step_by_step(
    model: RestorationModel,
    batch: Triplet,
    restoring: nn.Module,
    segmenting: Segmenting,
    backward: Backward,
    update: Callable[[], object],
) -> Lost:
    """The published training of one batch, but for M's own update; the gradients of M add up.

    Args:
        model: R and M.
        batch: The distorted images, the clean ones, and the target.
        restoring: R's loss of two images.
        segmenting: M's.
        backward: Sends a loss back.
        update: One optimiser step of R, called in each step of the loop, with R's gradient of that step alone; leaves
            R without a gradient.
    """
    distorted, clean, target = batch
    z: Tensor | None = None
    change: Tensor | None = None
    last: Tensor | None = None
    if model.feedback.config.weight:
        with torch.no_grad():  # in no loss, but it counts for BatchNorm
            z = model.restore(distorted).image
            last = model.segment(z)
        change = torch.zeros_like(last)
        torch.clear_autocast_cache()  # it holds weights that were cast without a graph
    lost: list[tuple[Tensor, Tensor]] = []
    for t in range(model.feedback.config.steps):
        feedback = None if z is None or change is None else model.feed_back(change, z)
        restored = model.restore(distorted, feedback).image
        of_r = restoring(restored, clean)
        backward(of_r)
        update()
        torch.clear_autocast_cache()  # of R's weights as they were
        z = restored.detach()
        logits = model.segment(z)
        of_m = segmenting(logits, target, t)
        backward(of_m)
        lost.append((of_r.detach(), of_m.detach()))
        change, last = None if last is None else logits.detach() - last, logits.detach()
    return _summed(lost)


def end_to_end(
    model: RestorationModel,
    batch: Triplet,
    restoring: nn.Module,
    segmenting: Segmenting,
    backward: Backward,
    weight: float,
) -> Lost:
    """One backward pass of R's losses plus *weight* times M's, through time as the loop's config says."""
    distorted, clean, target = batch
    lost: list[tuple[Tensor, Tensor]] = []
    for step in model.iterate(distorted):
        assert isinstance(step, RestorationStep)
        lost.append((restoring(step.restored, clean), segmenting(step.logits, target, step.index)))
    backward(sum((of_r + weight * of_m for of_r, of_m in lost), torch.zeros((), device=clean.device)))
    return _summed([(of_r.detach(), of_m.detach()) for of_r, of_m in lost])


def _summed(lost: list[tuple[Tensor, Tensor]]) -> Lost:
    restoring, segmenting = zip(*lost, strict=True)
    return Lost(torch.stack(restoring).sum(), torch.stack(segmenting).sum())
