"""How a restoration loop is scored on films while it is trained: one look a frame, some frames at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from smp_feedback.data.triplets import Triplet
from smp_feedback.evaluation.image_quality import l1, psnr
from smp_feedback.loops.restoration.model import RestorationModel
from smp_feedback.loops.restoration.state import RestorationStep
from smp_feedback.training.clip_loss import has_labels
from smp_feedback.training.film_parts import Ongoing
from smp_feedback.training.metric import LookMetric
from smp_feedback.training.scoring_module import check_answer


def score_films(
    model: RestorationModel,
    films: Triplet,
    ongoing: Ongoing,
    undo: Callable[[Tensor], Tensor],
    scores: LookMetric,
    judge: Callable[[Tensor, Tensor, int], Tensor],
    ignored: int | None,
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Look once at each frame of some films, which go on from those that *ongoing* has had, and count the answers.

    Args:
        model: It carries from frame to frame.
        films: Distorted and clean frames (B, T, C, H, W), normalised, and their masks (B, T, H, W).
        ongoing: What went before; goes on with the last look.
        undo: Takes the normalisation off, for how close images are is told in [0, 1].
        scores: Of one look; frames without labels do not count.
        judge: M's loss.
        ignored: The label of what is not labelled.

    Returns:
        ``val_l1`` and ``val_psnr`` of the restored frames, ``val_loss`` of those that have labels, if any; and of how
        many frames each is the mean.
    """
    distorted, clean, target = films
    close, losses = [], []
    labelled, place = has_labels(target, ignored), ongoing.place
    for t, frame in enumerate(distorted.unbind(1)):
        step = cast(RestorationStep, model.look(frame, ongoing.step)).detach()
        ongoing.step, ongoing.place = step, ongoing.place + 1
        pair = undo(step.restored), undo(clean[:, t])
        close.append(torch.stack([l1(*pair).mean(), psnr(*pair).mean()]))
        if labelled[t]:
            check_answer(step.logits, target[:, t])
            scores.update(0, step.logits, target[:, t])
            losses.append(judge(step.logits, target[:, t], place + t))
    found = dict(zip(("val_l1", "val_psnr"), torch.stack(close).mean(0), strict=True))
    counts = dict.fromkeys(found, len(close) * len(target))
    if losses:
        found["val_loss"], counts["val_loss"] = torch.stack(losses).mean(), len(losses) * len(target)
    return found, counts
