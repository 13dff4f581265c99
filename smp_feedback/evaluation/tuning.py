"""How far to refine: the step size and the number of updates that serve validation images best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from smp_feedback.checks import check_number, check_whole
from smp_feedback.errors import InvalidInput, InvalidType
from smp_feedback.evaluation.asking import device_of
from smp_feedback.evaluation.cells import cells_of, check_strays, count
from smp_feedback.evaluation.html_scores import per_cent
from smp_feedback.evaluation.one_pass import Advance, Pairs
from smp_feedback.evaluation.results import VERSION, Result
from smp_feedback.evaluation.score_loop import begun, check_refinable
from smp_feedback.evaluation.scores import shares
from smp_feedback.loops.html_tables import table_html
from smp_feedback.loops.score.model import ScoreModel
from smp_feedback.surgery.extension import evaluating

STEP_SIZES = (0.01, 0.02, 0.05, 0.08, 0.1, 0.5, 1.0)
MOST = 50


@dataclass(frozen=True)
class Tuning:
    """What came of every step size and number of updates.

    >>> found = Tuning((0.1, 0.5), ((0.4, 0.5, 0.6), (0.4, 0.6, 0.5)))
    >>> found.step, found.steps, found.base, found.best  # as good, sooner
    (0.5, 1, 0.4, 0.6)
    >>> print(found)
    1 update of step size 0.5: mIoU 60.0 %, +20.0 points over the base's 40.0 %.

    Attributes:
        step_sizes: Those that were tried, smallest first.
        miou: Mean intersection over union in [0, 1]: a row for each step size, in it one number for each number of
            updates, from 0 on. An image that has stopped goes on counting with its last answer.
    """

    step_sizes: tuple[float, ...]
    miou: tuple[tuple[float, ...], ...]

    @property
    def _chosen(self) -> tuple[float, int, float]:
        rows = zip(self.step_sizes, self.miou, strict=True)
        return min((-miou, n, step) for step, row in rows for n, miou in enumerate(row))

    @property
    def step(self) -> float:
        """The best step size; of equals that with the fewest updates, then the smallest."""
        return self._chosen[2]

    @property
    def steps(self) -> int:
        """The best number of updates; 0 leaves the base's answer as it is."""
        return self._chosen[1]

    @property
    def best(self) -> float:
        """Their mIoU."""
        return -self._chosen[0]

    @property
    def base(self) -> float:
        """The base's own mIoU."""
        return self.miou[0][0]

    def __str__(self) -> str:
        base = f"the base's {100 * self.base:.1f} %"
        if not self.steps:
            return f"Zero updates: nothing that was tried has a higher mIoU than {base}; its answers stay as they are."
        updates = f"{self.steps} update{'s' * (self.steps > 1)} of step size {self.step:g}"
        return f"{updates}: mIoU {100 * self.best:.1f} %, {100 * (self.best - self.base):+.1f} points over {base}."

    def _repr_html_(self) -> str:
        rows = [
            [f"{size:g}", *(per_cent(row[n]) for n in self._few)]
            for size, row in zip(self.step_sizes, self.miou, strict=True)
        ]
        return table_html(rows, ["step size", *(f"{n} updates" for n in self._few)], f"{self} mIoU (%):")

    @property
    def _few(self) -> list[int]:
        """The numbers of updates of which a table tells: none, the chosen one, the most."""
        return sorted({0, self.steps, len(self.miou[0]) - 1})

    def result(self) -> Result:
        """As `save_result` takes it, kind ``tuning``."""
        chosen = {"step": self.step, "steps": self.steps, "score": self.best}
        rows = [list(row) for row in self.miou]
        told: dict[str, Any] = {"base": self.base, "chosen": chosen, "step_sizes": list(self.step_sizes), "score": rows}
        return {"kind": "tuning", "version": VERSION, "task": "segmentation", **told}


def tune(
    model: ScoreModel,
    data: Pairs,
    *,
    classes: int,
    ignore_index: int | None = None,
    step_sizes: Sequence[float] = STEP_SIZES,
    most: int = MOST,
    batch_size: int = 16,
    workers: int = 0,
    advance: Advance = lambda: None,
) -> Tuning:
    """The validation mIoU for every step size and every number of updates from 0 to *most*; *model* is left as it was.

    The search of arXiv 1705.07450 (section 4), and zero updates with it. For each batch the base runs once, and the
    autoencoder at most *most* times for each step size: a path of *most* updates holds all shorter ones. Confusion
    matrices are counted on the device, and copied from it at the end.

    Args:
        model: With a trained autoencoder; ``model.choose(step=found.step, steps=found.steps)`` keeps what was found.
        data: Map-style pairs of image and mask, not those that are reported on later.
        classes: Number of classes.
        ignore_index: Label that is not scored.
        step_sizes: To try, each > 0; those of the paper.
        most: Updates to try; 50 in the paper.
        batch_size: Images at a time.
        workers: Processes that load data.
        advance: Called after each batch (progress bars).

    Raises:
        InvalidType, InvalidValue: If an argument is out of its range, before any work.
        InvalidInput: If a label is neither a class nor ignored, all are ignored, or an image is not finite.

    >>> import smp_feedback as smpf
    >>> loop = smpf.Score(filters=4, additional_pools=1)
    >>> model = smpf.create("Unet", "resnet18", None, classes=3, feedback=loop)
    >>> found = tune(model, [(torch.rand(3, 32, 32), torch.zeros(32, 32).long())], classes=3, most=2)
    >>> len(found.miou), len(found.miou[0])
    (7, 3)
    """
    check_refinable(model, data, classes)
    sizes = check_search(step_sizes, most)
    counts = torch.zeros(len(sizes), most + 1, classes * classes, dtype=torch.long, device=device_of(model))
    strays = counts.new_zeros(())
    with evaluating(model), torch.inference_mode():
        for _, target, begin in begun(model, data, batch_size, workers):
            first = cells_of(begin.logits, target, classes, ignore_index)
            strays += first.strays
            for size, rows in zip(sizes, counts, strict=True):
                count(rows[0], first.cell, first.scored)
                for step in model.refine(begin, step=size, steps=most):
                    seen = cells_of(step.logits, target, classes, ignore_index)
                    count(rows[step.index + 1], seen.cell, seen.scored)
            advance()
    check_strays(strays, classes, ignore_index)
    return Tuning(sizes, _scores(counts.view(len(sizes), most + 1, classes, classes).cpu(), ignore_index))


def _scores(tables: Tensor, ignore_index: int | None) -> tuple[tuple[float, ...], ...]:
    """The mIoU of confusion matrices (sizes, updates, classes, classes)."""
    rows = tuple(tuple(shares(table, "segmentation", ignore_index)[0] for table in row) for row in tables)
    if math.isnan(rows[0][0]):
        raise InvalidInput(f"target: every label is ignored (ignore_index={ignore_index}).")
    return rows


def check_search(step_sizes: Sequence[float], most: int) -> tuple[float, ...]:
    """The step sizes to try, each once, smallest first.

    Raises:
        InvalidType, InvalidValue: For others than numbers > 0, or *most* below 1.
    """
    check_whole("most", most)
    if isinstance(step_sizes, (str, float, int)) or not len(step_sizes):
        raise InvalidType(f"step_sizes={step_sizes!r}: expected numbers > 0, such as {list(STEP_SIZES)}.")
    for size in step_sizes:
        check_number("step_sizes", size, above=0)
    return tuple(sorted({float(size) for size in step_sizes}))
