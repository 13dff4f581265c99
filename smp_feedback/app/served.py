"""What the app serves: a model that segments, how images are shown to it, and what it is in a line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Lock
from typing import Any

import torch
from torch import Tensor, nn

from smp_feedback.app.without_feedback import without_feedback
from smp_feedback.checks import check_whole
from smp_feedback.config.data import DataConfig
from smp_feedback.config.restoration import Restoration
from smp_feedback.data.items import height_width
from smp_feedback.errors import InvalidValue
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.models.normalisation import given_config
from smp_feedback.ops.maps import Size, masks_of
from smp_feedback.ops.reading import CLASSIFICATION, MULTILABEL
from smp_feedback.saving.weights import base_name
from smp_feedback.surgery.extension import looping_in
from smp_feedback.surgery.head import channels_of
from smp_feedback.training.image_files import ImageFiles, fit_to

TIMES = 4  # as many looks as the model's own number are shown: where it settles, or what becomes of it, is beyond
NAMED = 6  # classes that the first line names
CLASSIFIES = "The model classifies, and the app shows maps: smp-feedback predict writes its labels."


@dataclass(frozen=True)
class ServedModel:
    """A model, and how images are shown to it.

    Attributes:
        model: Evaluating, on its device.
        config: What it expects of its images, and what its answers mean; every class has a name.
        size: (H, W) of the images that it is shown; None is each image's own.
        usual: Looks of a call that names none.
        most: Looks at an image, at most.
        stride: What the sides of an image that keeps its size are made up to multiples of.
        base: What answers without feedback; None where there is nothing but the first look.
        base_said: What that answer is, in words; empty of a model without feedback.
        stopping: Set when the app ends: whatever is at work gives up after the look at hand.
    """

    model: nn.Module
    config: DataConfig
    size: Size | None
    usual: int
    most: int
    stride: int = 1
    base: nn.Module | None = None
    base_said: str = ""
    stopping: Event = field(default_factory=Event, compare=False)
    _busy: Lock = field(default_factory=Lock, compare=False)

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    def files(self, path: Path) -> ImageFiles:
        """The image at *path*, read as ``predict`` reads it."""
        files = ImageFiles([path], self.size, self.config)
        files.stride = self.stride
        return files

    def fed(self, image: Tensor) -> Tensor:
        """*image* (C, H, W) in [0, 1] as a batch of one, normalised, on the model's device and in its precision."""
        dtype = next((p.dtype for p in self.model.parameters() if p.is_floating_point()), torch.float32)
        return self.config.normalise(image[None].to(self.device)).to(dtype)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Context: the model works for one visitor at a time, without gradient.

        Raises:
            InvalidValue: If the app ends.
        """
        with self._busy, torch.inference_mode():
            self.check_going_on()
            yield

    def check_going_on(self) -> None:
        """The app does not end.

        Raises:
            InvalidValue: If it does.
        """
        if self.stopping.is_set():
            raise InvalidValue("The app was stopped.")

    def stop(self, seconds: float = 10.0) -> None:
        """Let what is at work give up, and wait for it: a process that ends under a working model is aborted."""
        self.stopping.set()
        if self._busy.acquire(timeout=seconds):
            self._busy.release()

    def every_look(self, shown: Tensor) -> Iterator[Tensor]:
        """The logits (1, C, H, W) of each look, fewer than `most` where a loop rests; InvalidValue if no maps."""
        if isinstance(self.model, FeedbackModel):
            for step in self.model.iterate(shown, self.most):
                yield maps_of(step.logits)
            return
        yield maps_of(self.model(shown))


def maps_of(answer: Any) -> Tensor:
    """The logits (B, C, H, W) of a model's *answer*, which may have labels beside them; InvalidValue if no maps.

    >>> maps_of((torch.zeros(1, 2, 4, 4), torch.zeros(1, 2))).shape
    torch.Size([1, 2, 4, 4])
    """
    logits = masks_of(answer)
    if logits.ndim != 4:
        raise InvalidValue(CLASSIFIES)
    return logits


def served(model: nn.Module, *, looks: int | None = None, size: Any = None, device: Any = "cpu") -> ServedModel:
    """*model*, ready to be shown images.

    Args:
        model: A looping model or a plain one; set to evaluation, and moved to *device*.
        looks: At an image, at most; None is four times the model's own number, or that number where each look is
            weighed by how many there will be (``fractional``) or there can be no second.
        size: A side, or (H, W), of the images that it is shown; None is that of its training.
        device: Where it runs.

    Raises:
        InvalidValue: If it classifies, or there are no looks.

    >>> import smp_feedback as smpf
    >>> found = served(smpf.create("PlainConv", classes=2, feedback=smpf.Recurrent(steps=3)))
    >>> found.usual, found.most, found.config.classes
    (3, 12, ('0', '1'))
    """
    config = given_config(model).config
    opened = looping_in(model).to(device).eval()
    if config.task == CLASSIFICATION:
        raise InvalidValue(CLASSIFIES)
    config = replace(config, classes=class_names(config, channels_of(opened) or 2))
    usual = opened._count(None) if isinstance(opened, FeedbackModel) else 1
    most = most_looks(opened, usual) if looks is None else check_whole("looks", looks)
    if not isinstance(opened, FeedbackModel) and most > 1:
        raise InvalidValue(f"looks={looks}: a plain {type(opened).__name__} looks once; leave it out.")
    side = config.size if size is None else height_width(size, least=1)
    files = ImageFiles([], side, config)
    if side is None:
        fit_to(files, opened, config.task)
    said, base = ("", None) if config.clicks is not None else without_feedback(opened)
    base = base if base is None else base.to(device)
    return ServedModel(opened, config, side, usual, most, files.stride, base, said)


def class_names(config: DataConfig, channels: int) -> tuple[str, ...]:
    """The name of each class that an answer of so many *channels* can say: a number where nobody named it.

    >>> class_names(DataConfig(), 1), class_names(DataConfig(classes=("road",)), 1)
    (('0', '1'), ('background', 'road'))
    """
    count = channels if config.task == MULTILABEL else max(2, channels)
    if len(config.classes) == 1 and count == 2:  # one channel tells what is named from what is not
        return ("background", *config.classes)
    return config.classes or tuple(map(str, range(count)))


def most_looks(model: nn.Module, usual: int) -> int:
    """How many looks are shown where nobody says."""
    if not isinstance(model, FeedbackModel):
        return 1
    if getattr(getattr(model.feedback, "dynamics", None), "knows_the_end", False):
        return usual
    config = model.loop_config
    if isinstance(config, Restoration) and not config.weight:  # nothing is fed back
        return usual
    return TIMES * usual


def described(found: ServedModel) -> str:
    """What the model is, in a line.

    >>> import smp_feedback as smpf
    >>> described(served(smpf.create("PlainConv", classes=2, feedback=smpf.Recurrent(steps=3))))
    'PlainConv; 2 classes; feedback loop recurrent (dynamics decay): 3 looks at an image by itself, up to 12 here'
    """
    model = found.model
    origin = getattr(getattr(model, "feedback", None), "origin", None) or {}
    encoder = origin.get("arguments", {}).get("encoder_name")
    name = str(origin.get("architecture") or base_name(model)) + (f", encoder {encoder}" if encoder else "")
    return "; ".join((name, _classes(found.config), _loop(found)))


def _classes(config: DataConfig) -> str:
    names = config.classes
    if names == tuple(map(str, range(len(names)))):
        return f"{len(names)} classes"
    shown = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
    return f"{len(names)} class{'es' * (len(names) != 1)} ({shown})"


def _loop(found: ServedModel) -> str:
    if not isinstance(found.model, FeedbackModel):
        return "no feedback: one look"
    config = found.model.loop_config
    dynamics = getattr(config, "dynamics", None)
    how = "" if dynamics is None else f" (dynamics {dynamics})"
    if found.config.clicks is not None:
        each = found.config.clicks.looks
        return f"feedback loop {config.loop}{how}: {each} look{'s' * (each != 1)} a click"
    looks = f"{found.usual} look{'s' * (found.usual != 1)} at an image by itself"
    return f"feedback loop {config.loop}{how}: {looks}, up to {found.most} here"
