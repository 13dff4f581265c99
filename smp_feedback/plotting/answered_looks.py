"""What a model answers to one image, look by look, as it is drawn, and which of the looks are worth drawing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from smp_feedback.checks import check_whole
from smp_feedback.config.stopping import UntilSettled
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.loops.call import Looks
from smp_feedback.loops.repair.model import RepairModel
from smp_feedback.loops.restoration.model import RestorationModel
from smp_feedback.loops.score.model import ScoreModel
from smp_feedback.models.normalisation import given_config
from smp_feedback.ops.reading import CLASSIFICATION, chances_of, labels_of
from smp_feedback.surgery.extension import evaluating, looping_in

FEW = 6
BASE, UNTOLD = "base", "no feedback"


class AnsweredLook(NamedTuple):
    """One look at one image.

    Attributes:
        number: How many looks there were; 0 is what the loop begins with.
        answer: Labels (H, W); of several labels a pixel 0 and 1, (classes, H, W); of a classifier the chances of its
            classes (classes,).
        classes: How many there are.
        segmented: What was segmented (C, H, W), as the model takes it, of a loop that restores the image.
        title: Its name.
    """

    number: int
    answer: Tensor
    classes: int
    segmented: Tensor | None
    title: str

    @property
    def classifies(self) -> bool:
        """Whether it is one answer for the whole image."""
        return self.answer.ndim == 1


def looping_model(model: nn.Module) -> FeedbackModel:
    """The looping model that *model* is, or carries.

    Raises:
        InvalidType: If it is none.
    """
    loop = looping_in(model)
    if not isinstance(loop, FeedbackModel):
        raise InvalidType(f"{type(model).__name__} looks once: expected a looping model, as smp_feedback.create makes.")
    return loop


@torch.inference_mode()
def answered_looks(model: FeedbackModel, image: Tensor, steps: Looks | None = None) -> list[AnsweredLook]:
    """Every look at *image* (1, C, H, W), as *model* takes it; a loop around a base begins with its answer, look 0.

    Raises: As the model.

    >>> import smp_feedback as smpf
    >>> model = smpf.create("PlainConv", classes=2, feedback=smpf.Repair(steps=2, width=8))
    >>> [look.title for look in answered_looks(model, torch.rand(1, 3, 16, 16))]
    ['base', 'look 1', 'look 2']
    """
    task, found = given_config(model).config.task, list[AnsweredLook]()
    with evaluating(model):
        for number, logits, labels, segmented in _looked(model, image, steps):
            said = labels if task == CLASSIFICATION and labels is not None else logits
            classes = max(2, said.shape[1]) if task != "multilabel" else said.shape[1]
            answer = chances_of(said, task)[0] if said.ndim == 2 else labels_of(said, task)[0]
            whole = torch.int16 if classes <= 2**15 else torch.int32
            answer = answer.to(torch.float32 if said.ndim == 2 else whole).cpu()
            if found and torch.equal(found[-1].answer, answer):
                answer = found[-1].answer  # one map for all looks that say the same
            begins = UNTOLD if isinstance(model, RestorationModel) else BASE
            shown = None if segmented is None else segmented[0].cpu()
            found.append(AnsweredLook(number, answer, classes, shown, f"look {number}" if number else begins))
    return found


def _looked(
    model: FeedbackModel, image: Tensor, steps: Looks | None
) -> Iterator[tuple[int, Tensor, Tensor | None, Tensor | None]]:
    """Number, logits, image labels and what was segmented, look by look."""
    if isinstance(model, RestorationModel):
        first = 0 if model.feedback.config.weight else 1
        for number, one in enumerate(model.passes(image, steps), first):  # type: ignore[arg-type]
            yield number, one.logits, one.labels, one.restored if one.mean is None else one.mean
        return
    if isinstance(model, ScoreModel | RepairModel):
        said = model(image, steps=0)
        logits, labels = said if isinstance(said, tuple) else (said, None)
        yield 0, logits, labels, None
        if steps == 0 or (steps is None and not model.feedback.steps()):
            return
    for step in model.iterate(image, steps):
        yield step.index + 1, step.logits, step.labels, None


def few_of(looks: int, settled: int) -> list[int]:
    """Which of looks 1 ... *looks* are drawn: all of few, else as many as :data:`FEW`, evenly apart on a log scale.

    Args:
        looks: How many there are.
        settled: The look after which nothing changes; the last one is drawn, too.

    >>> few_of(4, 4), few_of(160, 160), few_of(160, 20)
    ([1, 2, 3, 4], [1, 3, 8, 21, 58, 160], [1, 2, 4, 9, 20, 160])
    """
    if looks <= FEW:
        return [*range(1, looks + 1)]
    apart = np.geomspace(1, settled, FEW - (settled < looks))
    return sorted({*(round(look) for look in apart.tolist()), looks})


def checked_looks(looks: object, steps: Looks | None, begins: int, own: int) -> tuple[list[int] | None, Looks | None]:
    """*looks* that are to be drawn, in order, and how often to look for them.

    Args:
        looks: Numbers, or None.
        steps: What the call is told.
        begins: The first look that there is, 0 or 1.
        own: How many looks there are where nobody says.

    Raises:
        InvalidType, InvalidValue: If they are no such numbers, or more than *steps*.

    >>> checked_looks([8, 1], None, 1, 4), checked_looks(None, 3, 1, 4)
    (([1, 8], 8), (None, 3))
    """
    if looks is None:
        return None, steps
    if isinstance(looks, str) or not isinstance(looks, Collection) or not len(looks):
        raise InvalidType(f"looks={looks!r}: expected numbers of looks, such as [1, 2, 4], or None.")
    numbers = sorted({check_whole("looks", look, least=begins) for look in looks})
    if steps is None:
        return numbers, max(own, numbers[-1])
    most = steps.at_most if isinstance(steps, UntilSettled) else steps
    if isinstance(most, int) and numbers[-1] > most:
        raise InvalidValue(f"looks={[*looks]}: this call looks {most} times; give steps={numbers[-1]}, or fewer looks.")
    return numbers, steps


def at_looks(found: Sequence[AnsweredLook], numbers: Sequence[int]) -> list[AnsweredLook]:
    """Those of *found* with these *numbers*; one beyond the last answers as that does, for the model came to rest."""
    known = {look.number: look for look in found}
    last = found[-1]
    return [known.get(n, last._replace(number=n, title=f"look {n}")) for n in numbers]
