"""How good a row's model is, pass by pass, and how close what it restored is to the clean image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from smp_feedback.comparison.ablation_rows import DISTORTED
from smp_feedback.evaluation.closeness import l1, psnr
from smp_feedback.evaluation.onepass import device_of
from smp_feedback.evaluation.scores import score_of
from smp_feedback.evaluation.tally import Tally
from smp_feedback.loops.restoration import RestorationModel
from smp_feedback.surgery import evaluating
from smp_feedback.training.settings import Facts


class Pass:
    """What is counted of one pass.

    Args:
        about: What to know of the data.
        device: Where to count.
    """

    def __init__(self, about: Facts, device: torch.device) -> None:
        self.tally = Tally(len(about.classes), about.ignore_index, device)
        self.near: list[Tensor] = []

    def add(self, image: Tensor, logits: Tensor, clean: Tensor, target: Tensor) -> None:
        """Count one batch: what M saw, and what it said."""
        self.tally.add(logits, target)
        self.near.append(torch.stack([l1(image, clean), psnr(image, clean)]))

    def found(self) -> dict[str, Any]:
        """Mean IoU, each class's, and the means over images of L1 and PSNR; None for what is no number."""
        score = score_of(self.tally, 1, "segmentation")
        means = torch.cat(self.near, 1).double().mean(1).tolist()
        near = dict(zip(("l1", "psnr"), (one if math.isfinite(one) else None for one in means), strict=True))
        return {"score": score.score, "per_class": list(score.per_class), **near}


def scores(model: nn.Module, test: Any, about: Facts, images: str, batch_size: int = 8) -> list[dict[str, Any]]:
    """The scores of each pass.

    Args:
        model: M, or M behind R; every module's mode is left as it was.
        test: Triplets (distorted, clean, target).
        about: What to know of them.
        images: Which of the first two it is shown.
        batch_size: Images at a time.

    Returns:
        One entry for each pass, see :meth:`Pass.found`; of M alone one, whose image is the one it was shown.
    """
    device = device_of(model)
    counted: list[Pass] = []
    with evaluating(model), torch.inference_mode():
        for batch in DataLoader(test, batch_size, generator=torch.Generator()):
            distorted, clean, target = (part.to(device) for part in batch[:3])
            for t, (image, logits) in enumerate(answers(model, distorted if images == DISTORTED else clean)):
                if t == len(counted):
                    counted.append(Pass(about, device))
                counted[t].add(image, logits, clean, target)
    return [{"images": images, "pass": t, **one.found()} for t, one in enumerate(counted)]


def answers(model: nn.Module, image: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """What M saw in each pass, and its logits."""
    if not isinstance(model, RestorationModel):
        answer = model(image)
        yield image, answer[0] if isinstance(answer, tuple) else answer
        return
    for passed in model.passes(image):
        yield passed.restored, passed.logits
