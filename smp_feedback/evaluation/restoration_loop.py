"""What restoring changes: the segmentation of the clean, the distorted and the restored image, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from smp_feedback.config.data import DataConfig
from smp_feedback.data.feeding import config_for
from smp_feedback.data.triplets import check_triplets
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.evaluation.asking import device_of
from smp_feedback.evaluation.batches import batches
from smp_feedback.evaluation.html_scores import scores_html
from smp_feedback.evaluation.image_quality import ImageTally
from smp_feedback.evaluation.one_pass import Advance
from smp_feedback.evaluation.results import VERSION, Result
from smp_feedback.evaluation.score_loop import check_classes
from smp_feedback.evaluation.scores import LookScore
from smp_feedback.loops.restoration.model import RestorationModel
from smp_feedback.loops.restoration.state import Pass
from smp_feedback.ops.maps import masks_of
from smp_feedback.surgery.extension import evaluating

CLEAN, DISTORTED, RESTORED = "clean", "distorted", "restored"


@dataclass(frozen=True)
class ImageScore:
    """One image that the base was shown, and what it made of it.

    Attributes:
        image: Which: ``clean``, ``distorted``, ``restored`` (without feedback), or ``step 1``, ``step 2``, ...
        score: Of the segmentation.
        psnr: Of the image against the clean one, in dB, mean over the images; infinite where one is equal to it.
        l1: Its mean distance to the clean one, in [0, 1].
    """

    image: str
    score: LookScore
    psnr: float
    l1: float


@dataclass(frozen=True)
class RestorationScores:
    """The scores of all that the base was shown, in the order in which they are printed."""

    seen: tuple[ImageScore, ...]

    @property
    def last(self) -> ImageScore:
        """Of the model's own answer."""
        return self.seen[-1]

    @property
    def answer(self) -> LookScore:
        """Of the model's own answer: its segmentation."""
        return self.last.score

    def of(self, image: str) -> ImageScore:
        """Of one of the images.

        Raises:
            InvalidValue: If there is no such.
        """
        for one in self.seen:
            if one.image == image:
                return one
        raise InvalidValue(f"image={image!r}: there are {', '.join(one.image for one in self.seen)}.")

    def _repr_html_(self) -> str:
        more = [("PSNR (dB)", [one.psnr for one in self.seen]), ("L1", [one.l1 for one in self.seen])]
        return scores_html([(one.image, one.score) for one in self.seen], "image", more=more)

    def result(self, classes: Sequence[str]) -> Result:
        """As `save_result` takes it, kind ``restored``; *classes* are their names."""
        rows = [{"model": s.image, "seed": 0, **s.score.row(), "psnr": s.psnr, "l1": s.l1} for s in self.seen]
        facts = {"task": "segmentation", "classes": list(classes)}
        return {"kind": "restored", "version": VERSION, **facts, "rows": rows}


def evaluate_restoration(
    model: RestorationModel,
    data: Any,
    *,
    classes: int,
    ignore_index: int | None = None,
    batch_size: int = 16,
    workers: int = 0,
    images: bool = False,
    advance: Advance = lambda: None,
) -> RestorationScores:
    """Score *model*'s base on clean and on distorted images, and on what its restorer makes of these, step by step.

    Scored is as in `evaluate`; each image is shown to the base T + 3 times.

    Args:
        model: With a restoration loop.
        data: Map-style triplets (distorted image, clean image, mask).
        classes: Number of classes.
        ignore_index: Label that is not scored.
        batch_size: Images at a time.
        workers: Processes that load data.
        images: Whether to keep what each image is worth, too, as `evaluate` does.
        advance: Called after each batch (progress bars).

    Raises:
        InvalidType, InvalidValue: If an argument is out of its range, before any work.
        InvalidInput: If the parts of a triplet do not fit, a label is neither a class nor ignored, or all are ignored.

    >>> import smp_feedback as smpf
    >>> loop = smpf.Restoration(steps=1, depth=2, filters=4)
    >>> model = smpf.create("Unet", "resnet18", None, classes=3, feedback=loop)
    >>> image = torch.rand(3, 32, 32)
    >>> scores = evaluate_restoration(model, [(image, image, torch.zeros(32, 32).long())], classes=3)
    >>> [one.image for one in scores.seen], scores.of("distorted").l1
    (['clean', 'distorted', 'restored', 'step 1'], 0.0)
    """
    if not isinstance(model, RestorationModel):
        raise InvalidType(f"model is a {type(model).__name__}: expected one with a restoration loop.")
    check_classes(model, classes)
    if not len(data):
        raise InvalidValue("data is empty: expected at least one triplet of distorted image, clean image and mask.")
    how: dict[str, Any] = {"classes": classes, "ignore_index": ignore_index, "batch_size": batch_size}
    found = counted(model, data, partial(shown, model), workers=workers, images=images, advance=advance, **how)
    rows = zip(images_of(model), found, strict=True)
    return RestorationScores(tuple(ImageScore(name, one.score(), **one.closeness()) for name, one in rows))


def counted(
    model: nn.Module,
    data: Any,
    shown: Callable[[Tensor, Tensor], Iterable[Pass]],
    *,
    classes: int,
    ignore_index: int | None,
    batch_size: int,
    workers: int = 0,
    images: bool = False,
    advance: Advance = lambda: None,
) -> list[ImageTally]:
    """What is counted of each image that *model*'s base is shown: all that *shown* makes of distorted and clean ones.

    Every module's mode is left as it was. The rest is as in `evaluate_restoration`.
    """
    device, found = device_of(model), list[ImageTally]()
    config = config_for(model, data)  # R and M see normalised images; how close they are is told in [0, 1]
    with evaluating(model), torch.inference_mode():
        for batch in batches(data, batch_size, workers):
            distorted, clean, target = (part.to(device, non_blocking=True) for part in check_triplets(batch))
            given = [(config.normalise(image), image) for image in (distorted, clean)]
            for i, seen in enumerate(shown(*(normalised for normalised, _ in given))):
                if i == len(found):
                    found.append(ImageTally(classes, ignore_index, device, images=images))
                found[i].add(_as_given(seen.restored, given, config), seen.logits, clean, target)
            advance()
    return found


def _as_given(image: Tensor, given: Sequence[tuple[Tensor, Tensor]], config: DataConfig) -> Tensor:
    """*image* in [0, 1]: one that was *given*, to the bit, or what became of it."""
    known = [raw for normalised, raw in given if normalised is image]
    return known[0] if known else config.undo(image)


def shown(model: RestorationModel, distorted: Tensor, clean: Tensor) -> Iterator[Pass]:
    """All that the base is shown, as `images_of` names it."""
    for image in (clean, distorted):
        yield Pass(model.segment(image), None, image, None)
    yield from model.passes(distorted)


def answers(model: nn.Module, image: Tensor) -> Iterator[Pass]:
    """What the base is shown when *model* is; a model that restores nothing is its own base."""
    if isinstance(model, RestorationModel):
        yield from model.passes(image)
    else:
        answer = model(image)
        yield Pass(masks_of(answer), None, image, None)


def images_of(model: RestorationModel) -> tuple[str, ...]:
    """The names of what the base is shown."""
    config = model.feedback.config
    steps = config.steps if config.weight else 0
    return (CLEAN, DISTORTED, RESTORED, *(f"step {t + 1}" for t in range(steps)))
