"""How good a row's model is, pass by pass, and how close what it restored is to the clean image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from smp_feedback.evaluation.evaluation_loop import device_of
from smp_feedback.evaluation.image_quality import ImageTally
from smp_feedback.experiments.ablation.rows import DISTORTED
from smp_feedback.loops.restoration.model import RestorationModel
from smp_feedback.surgery.extension import evaluating
from smp_feedback.training.build import Facts


def scores(model: nn.Module, test: Any, about: Facts, images: str, batch_size: int = 8) -> list[dict[str, Any]]:
    """The scores of each pass.

    Args:
        model: M, or M behind R; every module's mode is left as it was.
        test: Triplets (distorted, clean, target).
        about: What to know of them.
        images: Which of the first two it is shown.
        batch_size: Images at a time.

    Returns:
        One entry for each pass: mean IoU, each class's, and the means over images of L1 and PSNR, None for what is no
        number; of M alone one, whose image is the one it was shown.
    """
    device = device_of(model)
    counted: list[ImageTally] = []
    with evaluating(model), torch.inference_mode():
        for batch in DataLoader(test, batch_size, generator=torch.Generator()):
            distorted, clean, target = (part.to(device) for part in batch[:3])
            for t, (image, logits) in enumerate(answers(model, distorted if images == DISTORTED else clean)):
                if t == len(counted):
                    counted.append(ImageTally(len(about.classes), about.ignore_index, device))
                counted[t].add(image, logits, clean, target)
    return [{"images": images, "pass": t, **_found(one)} for t, one in enumerate(counted)]


def answers(model: nn.Module, image: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """What M saw in each pass, and its logits."""
    if not isinstance(model, RestorationModel):
        answer = model(image)
        yield image, answer[0] if isinstance(answer, tuple) else answer
        return
    for passed in model.passes(image):
        yield passed.restored, passed.logits


def _found(one: ImageTally) -> dict[str, Any]:
    score, near = one.score(), one.closeness()
    kept = {name: value if math.isfinite(value) else None for name, value in near.items()}
    return {"score": score.score, "per_class": list(score.per_class), **kept}
