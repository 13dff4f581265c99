"""One pass of the base over a dataset: what every refinement of its predictions begins with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from smp_feedback.checks import check_whole
from smp_feedback.data.items import item_name
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.evaluation.onepass import Pairs, device_of
from smp_feedback.loops.around import AroundModel
from smp_feedback.loops.score import ScoreModel
from smp_feedback.loops.score_parts import Begun


def begun(model: ScoreModel, data: Pairs, batch_size: int, workers: int) -> Iterator[tuple[Tensor, Tensor, Begun]]:
    """The images, their targets and what the base says of them, batch by batch, on the model's device.

    Args:
        model: Left in the mode that it is in.
        data: Map-style pairs of image and target.
        batch_size: Images at a time.
        workers: Processes that load data.

    Raises:
        InvalidInput: If an image holds NaN or infinity, naming it.
    """
    device = device_of(model)
    # a generator of its own: the loader would else draw from, and move, everybody's
    loader: Any = DataLoader(data, batch_size, num_workers=workers, generator=torch.Generator())
    for number, (image, target, *_) in enumerate(loader):
        name = functools.partial(_name, data, number * batch_size)
        image = image.to(device, non_blocking=True)
        yield image, target.to(device, non_blocking=True), begin_named(model, image, name)


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


def check_classes(model: AroundModel, classes: int) -> None:
    """The base of *model* tells *classes* classes; one of one class tells two.

    Raises:
        InvalidType, InvalidValue: If it does not.
    """
    own = max(2, model.feedback.classes)
    if check_whole("classes", classes) != own:
        raise InvalidValue(f"classes={classes}: this model's base tells {own} classes; expected data of as many.")
