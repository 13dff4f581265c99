"""How many clicks a model needs: the usual scores of interactive segmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from smp_feedback.checks import check_whole
from smp_feedback.config.clicks import ClickConfig
from smp_feedback.data.batch import pair_of
from smp_feedback.data.clicks.dialogue import dialogue
from smp_feedback.data.clicks.listening import how_of
from smp_feedback.data.feeding import feeding
from smp_feedback.errors import InvalidInput
from smp_feedback.evaluation.batches import batches
from smp_feedback.evaluation.html_scores import per_cent
from smp_feedback.evaluation.results import VERSION, Result
from smp_feedback.loops.html_tables import table_html
from smp_feedback.ops.reading import SEGMENTATION
from smp_feedback.surgery.extension import evaluating

SHOWN = (1, 2, 3, 5, 10)
"""After how many clicks IoU is told."""
TARGETS = (80, 85, 90)
"""The IoU, in per cent, to which clicks are counted."""
MOST = 20
"""Clicks on an object, as in the literature; who needs more has needed so many."""


@dataclass(frozen=True)
class ClickScores:
    """What came out.

    Attributes:
        iou: Of each object after each click (objects, clicks), in [0, 1].
        before: Of each object before the first click (objects,): 0 unless there was a mask to begin with.
    """

    iou: Tensor = field(repr=False)
    before: Tensor = field(repr=False)

    @property
    def clicks(self) -> int:
        """Clicks on an object at most."""
        return self.iou.shape[1]

    @property
    def mean(self) -> list[float]:
        """Mean IoU over objects after 0, 1, 2, ... clicks."""
        return [float(self.before.mean()), *self.iou.mean(0).tolist()]

    def after(self, clicks: int) -> float:
        """Mean IoU after so many clicks, 0 to :attr:`clicks`."""
        return self.mean[clicks]

    def needed(self, target: int) -> Tensor:
        """Clicks that each object (objects,) needs to an IoU of *target* per cent; all there are where it falls short.

        >>> scores = ClickScores(torch.tensor([[0.5, 0.9], [0.1, 0.2]]), torch.zeros(2))
        >>> scores.needed(80)
        tensor([2, 2])
        """
        reached = torch.cat([self.before[:, None], self.iou], 1) >= target / 100
        first = reached.int().argmax(1)
        return torch.where(reached.any(1), first, self.clicks)

    def noc(self, target: int) -> float:
        """Number of clicks to *target* per cent, mean over objects (NoC)."""
        return float(self.needed(target).float().mean())

    def _repr_html_(self) -> str:
        told = [n for n in SHOWN if n <= self.clicks]
        rows = [(f"mean IoU after {n} click{'s' * (n > 1)} (%)", per_cent(self.after(n))) for n in told]
        return table_html([*rows, *((f"clicks to {target} % IoU", self.noc(target)) for target in TARGETS)])

    def failed(self, target: int) -> float:
        """Share of objects that no click brought to *target* per cent."""
        return float((torch.cat([self.before[:, None], self.iou], 1).amax(1) < target / 100).float().mean())

    @property
    def facts(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        noc = {str(target): self.noc(target) for target in TARGETS}
        failed = {str(target): self.failed(target) for target in TARGETS}
        return {"objects": len(self.iou), "iou": self.mean, "noc": noc, "failed": failed}


def clicked(found: Mapping[str, ClickScores], seed: int = 0) -> Result:
    """The scores of models by their names as `save_result` takes them, kind ``clicked``."""
    rows = [{"model": name, "seed": seed, **scores.facts} for name, scores in found.items()]
    return {"kind": "clicked", "version": VERSION, "rows": rows}


def evaluate_clicks(
    model: nn.Module,
    data: Any,
    *,
    clicks: int = MOST,
    how: ClickConfig | None = None,
    start: Callable[[Tensor], Tensor] | None = None,
    batch_size: int = 16,
    workers: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> ClickScores:
    """Click on each object where the answer is most wrong, up to so many times, and score every answer.

    Clicks fall by the rule of :func:`smp_feedback.data.clicks.user.next_clicks`; nothing is drawn.

    Args:
        model: That listens to clicks.
        data: Map-style items (image, mask), a mask of 0 and 1; another label is neither clicked on nor scored.
        clicks: How many at most.
        how: What the model is shown; None is as it was trained.
        start: Gives the masks to begin with (B, H, W) in [0, 1] of images as the model is shown them: another model's
            answer, say. For a model that reads a mask.
        batch_size: Objects at a time.
        workers: Processes that load data.
        advance: Called after each batch (progress bars).

    Raises:
        InvalidValue: If *model* does not listen to clicks, or there is a *start* and it reads no mask.
        InvalidInput: If *data* is empty, or an object is.

    >>> import smp_feedback as smpf
    >>> model = smpf.create("PlainConv", in_channels=5, classes=1, feedback="anytime")
    >>> mask = torch.zeros(16, 16, dtype=torch.long)
    >>> mask[4:9, 4:9] = 1
    >>> found = evaluate_clicks(model, [(torch.rand(3, 16, 16), mask)], clicks=3, how=ClickConfig())
    >>> found.iou.shape
    torch.Size([1, 3])
    """
    check_whole("clicks", clicks)
    if not len(data):
        raise InvalidInput("data is empty: expected at least one object.")
    how = how_of(model, how, reads_mask=start is not None)
    feed, device = feeding(model, data), next(model.parameters()).device
    found: list[tuple[Tensor, Tensor]] = []
    with evaluating(model), torch.inference_mode():
        for batch in batches(data, batch_size, workers):
            image, truth = (part.to(device, non_blocking=True) for part in pair_of(batch, SEGMENTATION))
            image = feed(image)
            begun = None if start is None else start(image)
            before = truth.new_zeros(truth.shape).bool() if begun is None else begun > 0.5
            rounds = dialogue(model, image, truth, how, clicks, start=begun)
            found.append((torch.stack([iou(heard.object, truth) for heard in rounds], 1), iou(before, truth)))
            advance()
    scores, before = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
    if scores.isnan().any():
        raise InvalidInput("data: a mask without an object; expected some pixels of label 1 in each.")
    return ClickScores(scores, before)


def iou(answer: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union of the object in each image (B,); NaN where there is neither object nor answer.

    Args:
        answer: bool (B, H, W).
        truth: (B, H, W): 1 is the object, 0 is not, any other label counts for nothing.
    """
    there, known = truth == 1, (truth == 0) | (truth == 1)
    both, either = ((x & known).flatten(1).sum(1) for x in (answer & there, answer | there))
    return both / torch.where(there.flatten(1).any(1), either, torch.nan)
