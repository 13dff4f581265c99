"""What several processes have predicted, put together: the tables that one process would have written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from torch import distributed

from smp_feedback.training.image_outputs import ImageOutputs
from smp_feedback.training.outlines import CocoOutlines
from smp_feedback.training.prediction_summary import PredictionSummary

T = TypeVar("T")


class Share(NamedTuple):
    """The tables of one process.

    Attributes:
        summary: Its rows; None where it has answered no image.
        coco: Its outlines, where those are asked for.
        annotated: What the outlines call each image.
    """

    summary: PredictionSummary | None
    coco: CocoOutlines | None
    annotated: dict[str, str]


def gathered(trainer: Any, mine: T) -> list[T]:
    """*mine* of each process of *trainer*; all of them have to ask.

    >>> from types import SimpleNamespace
    >>> gathered(SimpleNamespace(world_size=1), "mine")
    ['mine']
    """
    if trainer.world_size == 1:
        return [mine]
    found: list[Any] = [None] * trainer.world_size
    distributed.all_gather_object(found, mine)
    return found


def share_of(outputs: ImageOutputs) -> Share:
    """The tables that *outputs* has so far."""
    return Share(outputs.summary, outputs.coco, outputs.annotated)


def put_together(outputs: ImageOutputs, shares: Iterable[Share], images: Sequence[str]) -> None:
    """Give *outputs* the rows and outlines of all *shares*, in the order of *images*."""
    there = [share for share in shares if share.summary is not None]
    if not there:
        return
    rows: dict[str, dict[str, str]] = {}
    annotated: dict[str, str] = {}
    for share in there:
        assert share.summary is not None
        rows |= share.summary.rows
        annotated |= share.annotated
    outputs.summary = there[0].summary
    assert outputs.summary is not None
    outputs.summary.rows, outputs.classes = in_order(rows, images), outputs.summary.classes
    if there[0].coco is not None:
        parts = [share.coco for share in there if share.coco is not None]
        outputs.coco = _outlines(parts, in_order(annotated, images).values())


def in_order(found: dict[str, T], images: Iterable[str]) -> dict[str, T]:
    """*found* in the order of *images*; what is none of them comes first, as it did.

    >>> in_order({"b": 1, "before": 0, "a": 2}, ["a", "b", "c"])
    {'before': 0, 'a': 2, 'b': 1}
    """
    order = {image: k for k, image in enumerate(images)}
    return {image: found[image] for image in sorted(found, key=lambda image: order.get(image, -1))}


def _outlines(parts: Sequence[CocoOutlines], names: Iterable[str]) -> CocoOutlines:
    """One of all *parts*, with the numbers that images have in the order of *names*."""
    whole = parts[0]
    images = {name: entry for part in parts for name, entry in part.images.items()}
    patches = {name: found for part in parts for name, found in part.of_image.items()}
    whole.images, whole.of_image = {}, {}
    for name in dict.fromkeys(names):
        number = len(whole.images) + 1
        whole.images[name] = {**images[name], "id": number}
        whole.of_image[name] = [{**one, "image_id": number} for one in patches[name]]
    return whole
