"""What refining changes: the base's answer, one pass of the autoencoder, and iterative inference, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from smp_feedback.checks import check_whole
from smp_feedback.data.batch import pair_of
from smp_feedback.data.feeding import feeding
from smp_feedback.data.items import item_name
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.evaluation.asking import device_of
from smp_feedback.evaluation.batches import batches
from smp_feedback.evaluation.by_image import EachImageTally
from smp_feedback.evaluation.confusion import Tally
from smp_feedback.evaluation.crf import dense_crf
from smp_feedback.evaluation.html_scores import scores_html
from smp_feedback.evaluation.one_pass import Advance, Pairs
from smp_feedback.evaluation.results import VERSION, Result
from smp_feedback.evaluation.scores import LookScore, score_of
from smp_feedback.loops.outer import OuterModel
from smp_feedback.loops.score.model import ScoreModel
from smp_feedback.loops.score.state import Begun
from smp_feedback.ops.reading import SEGMENTATION
from smp_feedback.surgery.extension import evaluating

ANSWERS = ("before", "one pass", "after")
"""The base's own; argmax r(y_0), what the autoencoder makes of it at once; after the updates of the loop."""
CRF = "dense CRF"


@dataclass(frozen=True)
class Refined:
    """The scores of the answers.

    Attributes:
        before: Of the base.
        once: Of one pass of the autoencoder.
        after: Of iterative inference.
        step: Its step size.
        steps: Its updates, at most.
        crf: Of the base's answer after a dense CRF, if that was asked for.
    """

    before: LookScore
    once: LookScore
    after: LookScore
    step: float
    steps: int
    crf: LookScore | None = None

    @property
    def answer(self) -> LookScore:
        """Of the model's own answer."""
        return self.after

    @property
    def answers(self) -> dict[str, LookScore]:
        """The scores by name, in the order in which they are shown."""
        scores = dict(zip(ANSWERS, (self.before, self.once, self.after), strict=True))
        return scores if self.crf is None else {**scores, CRF: self.crf}

    def _repr_html_(self) -> str:
        return scores_html(self.answers.items(), "answer", f"{self.steps} updates of step size {self.step:g}")

    def result(self, classes: Sequence[str]) -> Result:
        """As `save_result` takes it, kind ``refined``; *classes* are their names."""
        rows = [{"model": name, "seed": 0, **score.row()} for name, score in self.answers.items()]
        facts = {"task": SEGMENTATION, "classes": list(classes), "step": self.step, "steps": self.steps}
        return {"kind": "refined", "version": VERSION, **facts, "rows": rows}


def evaluate_score(
    model: ScoreModel,
    data: Pairs,
    *,
    classes: int,
    ignore_index: int | None = None,
    batch_size: int = 16,
    workers: int = 0,
    crf: bool = False,
    images: bool = False,
    advance: Advance = lambda: None,
) -> Refined:
    """Score *model*'s base, one pass of its autoencoder, and its answer after the stored step size and updates.

    The base runs once for each batch, the autoencoder once and once for each update. Scored is as in `evaluate`:
    ``score`` is mean intersection over union, ``accuracy`` the share of pixels that are right.

    Args:
        model: As :func:`smp_feedback.evaluation.tuning.tune` and ``choose`` have set it.
        data: Map-style pairs of image and mask; none that *model* was tuned on.
        classes: Number of classes.
        ignore_index: Label that is not scored.
        batch_size: Images at a time.
        workers: Processes that load data.
        crf: Whether to score a dense CRF on the base's answer, too, see :func:`smp_feedback.evaluation.crf.dense_crf`;
            for images in colour, in [0, 1].
        images: Whether to keep what each image is worth, too, as `evaluate` does.
        advance: Called after each batch (progress bars).

    Raises:
        InvalidType, InvalidValue: If an argument is out of its range, before any work.
        InvalidInput: If a label is neither a class nor ignored, all are ignored, or an image is not finite.

    >>> import smp_feedback as smpf
    >>> loop = smpf.Score(filters=4, additional_pools=1, steps=0)
    >>> model = smpf.create("Unet", "resnet18", None, classes=3, feedback=loop)
    >>> found = evaluate_score(model, [(torch.rand(3, 32, 32), torch.zeros(32, 32).long())], classes=3)
    >>> found.after.score == found.before.score  # no update
    True
    """
    check_refinable(model, data, classes)
    each = [EachImageTally(classes, ignore_index, SEGMENTATION) for _ in range(len(ANSWERS) + crf)]
    begin_tally = partial(Tally, classes, ignore_index, device_of(model))
    tallies = [begin_tally(each=one.add if images else None) for one in each]
    with evaluating(model), torch.inference_mode():
        for image, target, begin in begun(model, data, batch_size, workers):
            field = [dense_crf(begin.y, image).log()] if crf else []
            for tally, logits in zip(tallies, (*answers(model, begin), *field), strict=True):
                tally.add(logits, target)
            advance()
    config = model.feedback.config
    kept = [one.images() if images else None for one in each]
    updates = zip(tallies, (0, 1, config.steps, 0), kept, strict=False)
    before, once, after, *smoothed = (score_of(tally, n, SEGMENTATION, images=one) for tally, n, one in updates)
    return Refined(before, once, after, config.step, config.steps, *smoothed)


def answers(model: ScoreModel, begin: Begun) -> Iterator[Tensor]:
    """The logits of the three answers to what *begin* began; of a base of one class, one channel or two."""
    yield begin.logits
    yield model.reconstruct(begin.y, begin.features)
    for step in model.refine(begin):  # noqa: B007
        pass
    yield step.logits


def begun(model: ScoreModel, data: Pairs, batch_size: int, workers: int) -> Iterator[tuple[Tensor, Tensor, Begun]]:
    """The images, their targets and what the base says of them, batch by batch, on the model's device and in its mode.

    Raises:
        InvalidInput: If an image holds NaN or infinity, naming it.
    """
    device, feed = device_of(model), feeding(model, data)
    for number, batch in enumerate(batches(data, batch_size, workers)):
        image, target = pair_of(batch, SEGMENTATION)
        image = image.to(device, non_blocking=True)
        name = partial(_name, data, number * batch_size)
        yield image, target.to(device, non_blocking=True), begin_named(model, feed(image), name)


def _name(data: Pairs, first: int, place: int) -> str:
    return item_name(data, first + place)


def begin_named(model: ScoreModel, image: Tensor, name: Callable[[int], str]) -> Begun:
    """``model.begin(image)``.

    Raises:
        InvalidInput: As there, but images that are not finite are named by *name*, which is given their places.
    """
    try:
        return model.begin(image)
    except InvalidInput:
        wrong = [name(i) for i, one in enumerate(image) if not one.isfinite().all()]
        if not wrong:
            raise
        raise InvalidInput(f"{', '.join(wrong)}: NaN or infinite values; expected finite images.") from None


def check_refinable(model: object, data: Pairs, classes: int) -> None:
    """*model* refines maps of *classes* classes, and there is *data*.

    Raises:
        InvalidType: If it is no model with a score loop.
        InvalidValue: If it is one of other classes, or *data* is empty.
    """
    if not isinstance(model, ScoreModel):
        raise InvalidType(
            f"model is a {type(model).__name__}: expected one with a score loop, such as "
            "wrap(trained, feedback=Score()) gives."
        )
    check_classes(model, classes)
    if not len(data):
        raise InvalidValue("data is empty: expected at least one pair of image and target.")


def check_classes(model: OuterModel, classes: int) -> None:
    """The base of *model* tells *classes* classes; one of one class tells two.

    Raises:
        InvalidType, InvalidValue: If it does not.
    """
    own = max(2, model.feedback.classes)
    if check_whole("classes", classes) != own:
        raise InvalidValue(f"classes={classes}: this model's base tells {own} classes; expected data of as many.")
