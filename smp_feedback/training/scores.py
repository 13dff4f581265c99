"""Scores of every look, as torchmetrics defines them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from smp_feedback.errors import InvalidInput

MIOU, ACCURACY = "miou", "accuracy"
NAMES = {"segmentation": MIOU, "classification": ACCURACY}


class Scored(NamedTuple):
    """What came out.

    Attributes:
        name: ``miou`` or ``accuracy``.
        looks: The score of each look (T,), in [0, 1].
        per_class: IoU, or accuracy (recall), of each class (T, classes); NaN for a class that never came up.
    """

    name: str
    looks: Tensor
    per_class: Tensor


class Scores(nn.Module):
    """MIoU of masks (B, H, W), or accuracy of labels (B,), for each of T looks.

    Args:
        task: ``segmentation`` or ``classification``.
        classes: Number of classes.
        steps: T.
        ignore_index: Label that is not scored.

    >>> scores = Scores("segmentation", classes=2, steps=1)
    >>> logits = torch.tensor([[[[1.0, 1.0]], [[0.0, 0.0]]]])  # class 0 everywhere
    >>> scores.update(0, logits, torch.tensor([[[0, 1]]]))
    >>> scores.compute().looks  # IoU 1/2 and 0
    tensor([0.2500])
    """

    def __init__(self, task: str, *, classes: int, steps: int, ignore_index: int | None = None) -> None:
        super().__init__()
        self.name = NAMES[task]
        self.looks = nn.ModuleList(MetricCollection(_pair(task, classes, ignore_index)) for _ in range(steps))

    def update(self, t: int, logits: Tensor, target: Tensor) -> None:
        """Add the answers of look *t*."""
        metrics: MetricCollection = self.looks[t]  # type: ignore[assignment]
        metrics.update(logits.argmax(1), target)

    def compute(self) -> Scored:
        """The scores so far, over all processes."""
        found = [metrics.compute() for metrics in self.looks]  # type: ignore[operator]
        return Scored(self.name, *(torch.stack([one[key] for one in found]) for key in ("all", "classes")))

    def reset(self) -> None:
        """Begin anew."""
        for metrics in self.looks:
            metrics.reset()  # type: ignore[operator]


def task_of(target: Tensor) -> str:
    """What a batch of targets asks for, by its rank: (B,) or (B, H, W).

    >>> task_of(torch.zeros(4, dtype=torch.long))
    'classification'
    """
    if target.ndim not in (1, 3):
        raise InvalidInput(f"target of shape {tuple(target.shape)}: expected labels (B,) or masks (B, H, W).")
    return "classification" if target.ndim == 1 else "segmentation"


def _pair(task: str, classes: int, ignore_index: int | None) -> dict[str, Metric | MetricCollection]:
    told: dict[str, Any] = {"num_classes": classes, "ignore_index": ignore_index, "validate_args": False}
    if task == "classification":
        return {"all": MulticlassAccuracy(average="micro", **told), "classes": MulticlassAccuracy(average=None, **told)}
    every = MulticlassJaccardIndex(average="none", zero_division=float("nan"), **told)
    return {"all": MulticlassJaccardIndex(average="macro", **told), "classes": every}  # one confusion matrix for both
