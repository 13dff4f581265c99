"""What mending changes: the base's answer, the repair loop after some looks, and its rivals, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from smp_feedback.checks import check_whole
from smp_feedback.data.batch import pair_of
from smp_feedback.data.feeding import feeding
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.evaluation.asking import device_of
from smp_feedback.evaluation.batches import batches
from smp_feedback.evaluation.by_image import EachImageTally
from smp_feedback.evaluation.confusion import Tally
from smp_feedback.evaluation.connectivity_names import connectivity_in
from smp_feedback.evaluation.crf import dense_crf
from smp_feedback.evaluation.html_scores import scores_html
from smp_feedback.evaluation.measures import check_measurable, measure_of
from smp_feedback.evaluation.one_pass import Advance, Pairs
from smp_feedback.evaluation.results import VERSION, Result
from smp_feedback.evaluation.score_loop import CRF, check_classes
from smp_feedback.evaluation.scores import LookScore, score_of
from smp_feedback.loops.repair.model import RepairModel
from smp_feedback.loops.score.model import ScoreModel
from smp_feedback.ops.maps import masks_of
from smp_feedback.ops.reading import SEGMENTATION, chances_of
from smp_feedback.projections import class_probabilities
from smp_feedback.surgery.extension import evaluating

BASE, SCORE_LOOP = "base", "score loop"


@dataclass(frozen=True)
class Repaired:
    """The scores of the answers.

    Attributes:
        answers: By name, in the order in which they are shown: the base's, the repair loop's after each number of
            looks, and those of its rivals that were asked for.
        mended: The name of the model's own answer, that after the most looks.
    """

    answers: dict[str, LookScore]
    mended: str

    @property
    def answer(self) -> LookScore:
        """Of the model's own answer."""
        return self.answers[self.mended]

    def _repr_html_(self) -> str:
        return scores_html(self.answers.items(), "answer")

    def result(self, classes: Sequence[str]) -> Result:
        """As `save_result` takes it, kind ``refined``; *classes* are their names."""
        rows = [
            {"model": name, "seed": 0, **score.row(), **connectivity_in(score.metrics)}
            for name, score in self.answers.items()
        ]
        return {"kind": "refined", "version": VERSION, "task": SEGMENTATION, "classes": list(classes), "rows": rows}


def evaluate_repair(
    model: RepairModel,
    data: Pairs,
    *,
    classes: int,
    ignore_index: int | None = None,
    looks: Sequence[int] | None = None,
    beside: ScoreModel | None = None,
    crf: bool = False,
    batch_size: int = 16,
    workers: int = 0,
    images: bool = False,
    topology: bool = False,
    advance: Advance = lambda: None,
) -> Repaired:
    """Score *model*'s base, what its net has made of that after some looks, and what others make of the base's answer.

    Args:
        model: Trained by :class:`smp_feedback.training.RepairModule`.
        data: Map-style pairs of image and mask.
        classes: Number of classes.
        ignore_index: Label that is not scored.
        looks: Numbers of looks, each >= 1; None is the model's own.
        beside: A model with a score loop, around the same base: its answer after its own step size and updates.
        crf: Whether to score a dense CRF on the base's answer, too; for images in colour, in [0, 1].
        batch_size: Images at a time.
        workers: Processes that load data.
        images: Whether to keep what each image is worth, too, as `evaluate` does.
        topology: Whether to measure connectivity, too, as `evaluate` does.
        advance: Called after each batch (progress bars).

    Raises:
        InvalidType, InvalidValue: If an argument is out of its range, before any work.
        MissingExtra: If *topology* is asked for, and scikit-image is not there.

    >>> import smp_feedback as smpf
    >>> model = smpf.create("PlainConv", classes=3, feedback=smpf.Repair(steps=2))
    >>> data = [(torch.rand(3, 16, 16), torch.zeros(16, 16).long())]
    >>> found = evaluate_repair(model, data, classes=3, looks=[1, 4])
    >>> [*found.answers], found.answers["base"].score == found.answers["4 looks"].score  # not trained
    (['base', '1 look', '4 looks'], True)
    """
    numbers = _checked(model, data, classes, looks, beside)
    check_measurable(SEGMENTATION, topology=topology)
    names = [BASE, *(f"{n} look{'s' * (n > 1)}" for n in numbers)]
    names += [SCORE_LOOP] * (beside is not None) + [CRF] * crf
    measure = measure_of(classes, ignore_index, SEGMENTATION, topology=topology)
    each = {name: EachImageTally(classes, ignore_index, SEGMENTATION, measure) for name in names}
    counted = images or topology
    begin_tally = partial(Tally, classes, ignore_index, device_of(model))
    tallies = {name: begin_tally(each=one.add if counted else None) for name, one in each.items()}
    feed, other = feeding(model, data), None if beside is None else feeding(beside, data)
    with evaluating(model), torch.inference_mode():
        for batch in batches(data, batch_size, workers):
            image, target = (part.to(device_of(model), non_blocking=True) for part in pair_of(batch, SEGMENTATION))
            shown = feed(image)
            said = [*_answers(model, shown, numbers)]
            if beside is not None and other is not None:
                said.append(_refined(beside, other(image)))
            if crf:
                said.append(dense_crf(chances_of(said[0]), image).log())
            for tally, logits in zip(tallies.values(), said, strict=True):
                tally.add(logits, target)
            advance()
    counts = [0, *numbers, *[0] * (len(names) - 1 - len(numbers))]
    kept = [one.images() if counted else None for one in each.values()]
    scores = [
        score_of(tally, n, SEGMENTATION, images=one)
        for tally, n, one in zip(tallies.values(), counts, kept, strict=True)
    ]
    return Repaired(dict(zip(names, scores, strict=True)), names[len(numbers)])


def _answers(model: RepairModel, shown: Tensor, numbers: Sequence[int]) -> list[Tensor]:
    """The base's logits, and those after each number of looks; the base runs once."""
    logits = masks_of(model(shown, steps=0))
    chances = class_probabilities(logits.float()).to(shown.dtype)
    steps = model.repairs(shown, chances, max(numbers))
    after = {step.index + 1: step.logits for step in steps if step.index + 1 in numbers}
    return [logits, *(after[n] for n in numbers)]


def _refined(beside: ScoreModel, shown: Tensor) -> Tensor:
    with evaluating(beside):
        for step in beside.refine(beside.begin(shown)):  # noqa: B007
            pass
        return step.logits


def _checked(model: object, data: Pairs, classes: int, looks: Sequence[int] | None, beside: object) -> list[int]:
    """The numbers of looks, fewest first, once all is as it must be."""
    if not isinstance(model, RepairModel):
        raise InvalidType(
            f"model is a {type(model).__name__}: expected one with a repair loop, such as wrap(trained, 'repair')."
        )
    check_classes(model, classes)
    if beside is not None:
        if not isinstance(beside, ScoreModel):
            raise InvalidType(f"beside is a {type(beside).__name__}: expected a model with a score loop, or None.")
        check_classes(beside, classes)
    if not len(data):
        raise InvalidValue("data is empty: expected at least one pair of image and target.")
    own = [max(1, model.feedback.config.steps)]
    numbers = own if looks is None else [check_whole("looks", n) for n in looks]
    if not numbers:
        raise InvalidValue("looks=[]: expected at least one number, such as [8, 32].")
    return sorted({*numbers})
