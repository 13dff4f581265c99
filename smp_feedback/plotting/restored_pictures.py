"""Pictures of images that were restored, step by step (extra ``plot``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation.evaluate import device_of
from smp_feedback.plotting.pictures import Picture, colours, grid, photo
from smp_feedback.evaluation.restoration_loop import RESTORED, images_of, shown
from smp_feedback.evaluation.confusion import per_class
from smp_feedback.loops.restoration.model import RestorationModel
from smp_feedback.surgery.extension import evaluating


def restored(
    model: RestorationModel, samples: Sequence[tuple[Tensor, Tensor, Tensor]], path: Path, *, classes: int
) -> Path:
    """One row a sample: clean, distorted and restored image, what was displaced, the truth, and each answer.

    The displacement is shown by its length: black stays, white is the sample's largest, or a pixel where all is less;
    a restorer that paints has none. The answers are those to the clean, the distorted and the restored image, step by
    step.

    Args:
        model: With a restoration loop.
        samples: Triplets of distorted image (3, H, W), clean image and mask (H, W).
        path: File to write, PNG, SVG or PDF; a crash leaves an older one whole.
        classes: Number of classes.

    Returns:
        *path*.
    """
    if not samples:
        raise InvalidValue("samples is empty: expected at least one triplet of distorted image, clean image and mask.")
    return grid([_row(model, *sample, classes) for sample in samples], path)


def _row(model: RestorationModel, distorted: Tensor, clean: Tensor, mask: Tensor, classes: int) -> list[Picture]:
    device = device_of(model)
    with evaluating(model), torch.inference_mode():
        every = list(shown(model, distorted[None].to(device), clean[None].to(device)))
    last, names = every[-1], images_of(model)
    shown_last = RESTORED if names[-1] == RESTORED else f"{RESTORED}, {names[-1]}"
    row = [("clean", photo(clean)), ("distorted", photo(distorted)), (shown_last, photo(last.restored[0]))]
    if last.displacement is not None:
        length = last.displacement[0].norm(dim=0)
        row.append(("displacement", (length / length.max().clamp_min(1)).cpu().numpy()))
    answers = [colours(per_class(one.logits)[0].argmax(0), classes) for one in every]
    named = zip((f"of {name}" for name in names), answers, strict=True)
    return [*row, ("truth", colours(mask, classes)), *named]
