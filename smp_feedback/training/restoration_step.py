"""How one batch teaches the two networks of a restoration loop: step by step, or end to end; of images, or of films."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from smp_feedback.data.batch import is_clips
from smp_feedback.data.triplets import Triplet
from smp_feedback.loops.restoration.model import RestorationModel
from smp_feedback.loops.restoration.state import Memory, RestorationStep, Restoring

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
    labelled: Sequence[bool] | None = None,
) -> Lost:
    """The published training of one batch, but for M's own update; the gradients of M add up.

    Of clips each frame is a step, the first one, too; no gradient goes from one to the one before.

    Args:
        model: R and M.
        batch: The distorted images, the clean ones, and the target; or clips of them.
        restoring: R's loss of two images; it is held to the clean one in what it restores, and in the mean of it that
            is carried.
        segmenting: M's.
        backward: Sends a loss back.
        update: One optimiser step of R, called in each step of the loop, with R's gradient of that step alone; leaves
            R without a gradient.
        labelled: Of clips, which frames M learns; None is all.
    """
    lost: list[tuple[Tensor, Tensor]] = []
    memory = None if is_clips(batch[0]) else _first(model, batch[0])
    before = 0 if memory is None else 1
    for t, (distorted, clean, target) in enumerate(_frames(model, batch)):
        made = model.restoring(distorted, memory, torch.full((len(clean),), before + t, device=clean.device))
        of_r = _held(restoring, made.restored.image, None if memory is None else made.mean, clean)
        backward(of_r)
        update()
        torch.clear_autocast_cache()  # of R's weights as they were
        learns = labelled is None or labelled[t]
        with torch.set_grad_enabled(learns):
            logits = model.segment(made.shown.detach())
        of_m = segmenting(logits, target, t) if learns else logits.new_zeros(())
        if learns:
            backward(of_m)
        else:
            torch.clear_autocast_cache()  # it holds weights that were cast without a graph
        lost.append((of_r.detach(), of_m.detach()))
        memory = _known(logits, memory, made)
    return _summed(lost)


def end_to_end(
    model: RestorationModel,
    batch: Triplet,
    restoring: nn.Module,
    segmenting: Segmenting,
    backward: Backward,
    weight: float,
    truncate: int | None = None,
    labelled: Sequence[bool] | None = None,
) -> Lost:
    """R's losses plus *weight* times M's go back, through time as the loop's config says.

    One backward pass; of clips, where each frame is a step, one for every *truncate* frames (None is the whole clip),
    after which what is carried is detached. The rest is as in :func:`step_by_step`.
    """
    lost: list[tuple[Tensor, Tensor]] = []
    pending: list[Tensor] = []
    step: RestorationStep | None = None
    images = None if is_clips(batch[0]) else model.iterate(batch[0])
    for t, (distorted, clean, target) in enumerate(_frames(model, batch)):
        step = cast(RestorationStep, model.look(distorted, step) if images is None else next(images))
        of_r = _held(restoring, step.restored, step.mean if t or images is not None else None, clean)
        learns = labelled is None or labelled[t]
        of_m = segmenting(step.logits, target, t) if learns else of_r.new_zeros(())
        lost.append((of_r.detach(), of_m.detach()))
        pending.append(of_r + weight * of_m)
        if images is None and truncate is not None and len(pending) == truncate:
            backward(torch.stack(pending).sum())
            step, pending = step.detach(), []
    if pending:
        backward(torch.stack(pending).sum())
    return _summed(lost)


def _frames(model: RestorationModel, batch: Triplet) -> list[Triplet]:
    """What each step learns: a frame of the clips, or the same images again."""
    if not is_clips(batch[0]):
        return [batch] * model.feedback.config.steps
    return cast("list[Triplet]", list(zip(*(part.unbind(1) for part in batch), strict=True)))


def _first(model: RestorationModel, image: Tensor) -> Memory | None:
    """What is known after the first restoration of images, which is in no loss; None where nothing is fed back."""
    if not model.feedback.config.weight:
        return None
    with torch.no_grad():  # but it counts for BatchNorm
        made = model.restoring(image)
        logits = model.segment(made.shown)
    torch.clear_autocast_cache()  # it holds weights that were cast without a graph
    return _known(logits, None, made)


def _known(logits: Tensor, memory: Memory | None, made: Restoring) -> Memory:
    """What the next step knows of this one, without gradient."""
    last = logits.detach()
    mean = None if made.mean is None else made.mean.detach()
    return Memory(last, last if memory is None else memory.last, made.restored.image.detach(), mean)


def _held(restoring: nn.Module, restored: Tensor, mean: Tensor | None, clean: Tensor) -> Tensor:
    """R's loss: of what it restored, and of the mean where one is carried."""
    lost: Tensor = restoring(restored, clean)
    return lost if mean is None else lost + restoring(mean, clean)


def _summed(lost: list[tuple[Tensor, Tensor]]) -> Lost:
    restoring, segmenting = zip(*lost, strict=True)
    return Lost(torch.stack(restoring).sum(), torch.stack(segmenting).sum())
