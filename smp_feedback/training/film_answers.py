"""What a model answers to the frames of a film, one after another: one look a frame where its state goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from time import perf_counter
from typing import Any, NamedTuple, cast

import torch
from lightning.pytorch.plugins.precision import Precision
from torch import Tensor, nn
from torch.nn import functional as F

from smp_feedback.data.files import by
from smp_feedback.errors import InvalidInput, InvalidValue
from smp_feedback.exporting.serving import stride_of
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.loops.call import Looks
from smp_feedback.loops.looking import Reset, carries
from smp_feedback.loops.steps import Step
from smp_feedback.models.normalisation import given_config
from smp_feedback.models.preprocess import Preprocess
from smp_feedback.ops.maps import Size, masks_of, size_of
from smp_feedback.ops.reading import CLASSIFICATION, labels_of
from smp_feedback.surgery.extension import looping_in
from smp_feedback.training.build import check_size
from smp_feedback.training.image_files import divisible

RESETS = "auto", "never"
CLASSIFIES = "The model classifies, and a film is answered by masks: give its frames as --images."


class Answered(NamedTuple):
    """A frame and its answer.

    Attributes:
        frame: As it came (C, H, W).
        labels: Of the frame's size (H, W), or (classes, H, W) of ``multilabel``.
        channels: Of the logits that they were read off.
        step: The look, for who wants more; None where the model answers frame by frame.
        seconds: What the answer took.
    """

    frame: Tensor
    labels: Tensor
    channels: int
    step: Step | None
    seconds: float


class FilmAnswers:
    """Answers the frames of films. A film's state lives in the loop over its answers, and nothing else is kept.

    Args:
        model: Any that segments; set to evaluation, and moved to *device*.
        size: (H, W) at which frames are shown to it; None is that of its training, else the frame's own, up to what
            the model's strides divide. Answers are resized back, bilinearly, before they are read.
        reset: ``auto`` begins anew at cuts as the model has learned to, a number is the change of the state that tells
            them, ``never`` goes on; None is ``auto`` where the model has learned it.
        steps: How often to look at each frame, of a model that carries nothing.
        device: Where it runs.
        precision: Lightning's, such as that of ``trainer.precision_plugin``, which is an answer's as it is an image's;
            None is the model's own.

    Attributes:
        carries: Whether a frame goes on from the one before.
        reset: What was settled for *reset*, as ``model.look`` takes it.
        precision: What it answers in, in Lightning's words; None is the model's own.

    Raises:
        InvalidValue: For what cannot be meant, before any work.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        size: Size | None = None,
        reset: str | None = None,
        steps: Looks | None = None,
        device: torch.device | str = "cpu",
        precision: Precision | None = None,
    ) -> None:
        self.model = looping_in(model).to(device).eval()
        self.context: Callable[[], AbstractContextManager[Any]] = nullcontext
        self.precision = None if precision is None else str(precision.precision)  # which another may stand for
        if precision is not None:
            self.model, self.context = cast(Any, precision.convert_module(self.model)), precision.forward_context
        self.config, self.device, self.steps = given_config(model).config, torch.device(device), steps
        self.dtype = next((p.dtype for p in self.model.parameters() if p.is_floating_point()), torch.float32)
        if self.config.task == CLASSIFICATION:
            raise InvalidValue(CLASSIFIES)
        if size is not None:
            self.config = replace(self.config, size=size)
        self.carries = carries(self.model)
        self.reset = self._checked(reset)
        if steps is not None and self.carries:
            raise InvalidValue(f"steps={steps}: this model goes on from frame to frame, and looks once at each.")
        if steps is not None and not isinstance(self.model, FeedbackModel):
            raise InvalidValue(f"steps={steps}: a plain {type(self.model).__name__} looks once; leave it out.")

    def _checked(self, reset: str | None) -> Reset:
        learned = getattr(getattr(self.model, "loop_config", None), "cut", None)
        if reset is None:
            return "auto" if self.carries and learned is not None else None
        if not self.carries:
            raise InvalidValue(f"reset={reset}: the model begins anew with every frame; leave it out.")
        found = threshold(reset)
        if found == "auto" and learned is None:
            raise InvalidValue(
                "reset=auto: this model has learned no threshold (cut: null); give a number, such as 0.5, or 'never'."
            )
        return found

    def answers(self, frames: Iterable[Tensor]) -> Iterator[Answered]:
        """Answer the frames of one film, lazily.

        Args:
            frames: (C, H, W), bytes, or floating point in [0, 1].

        Raises:
            InvalidInput: If the model cannot read them, or they are of several sizes, and none was said for all.
            InvalidValue: If it classifies, which a model without settings says by its answer alone.
        """
        step: Step | None = None
        ready: Preprocess | None = None
        size: Size | None = None
        for count, frame in enumerate(frames):
            ready = self._preprocess(frame) if ready is None else ready
            size = size_of(frame) if size is None else size
            if self.config.size is None and size_of(frame) != size:
                raise InvalidInput(
                    f"Frame {count} has {by(size_of(frame))} pixels, those before it {by(size)}: expected a film of "
                    "one size; size (--data.size) resizes all."
                )
            begun = perf_counter()
            with torch.inference_mode():
                image = ready(frame.to(self.device))[None].to(self.dtype)
                step, logits = self._look(image, step)
                labels = self._labels(logits, size_of(frame))
            yield Answered(frame, labels, logits.shape[1], step, perf_counter() - begun)

    def _look(self, image: Tensor, before: Step | None) -> tuple[Step | None, Tensor]:
        model: Any = self.model
        with self.context():
            if self.carries:
                step = model.look(image, before, reset=self.reset)
                return step, step.logits
            answer = model(image) if self.steps is None else model(image, steps=self.steps)
        return None, masks_of(answer)

    def _labels(self, logits: Tensor, size: Size) -> Tensor:
        if logits.ndim != 4:
            raise InvalidValue(CLASSIFIES)
        if size_of(logits) != size:
            logits = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
        return labels_of(logits, self.config.task)[0].cpu()

    def _preprocess(self, frame: Tensor) -> Preprocess:
        """What makes *frame*, the first, and all others of its film ready."""
        config = self.config
        if len(frame) != config.channels:
            raise InvalidInput(
                f"Frames of {len(frame)} channels: expected {config.channels}, as the images that the model was "
                "trained on."
            )
        if config.size is None:
            config = replace(config, size=divisible(size_of(frame), stride_of(self.model)))
        check_size(self.model, (config.channels, *(config.size or ())), "data.size")
        return Preprocess(config)


def threshold(reset: str) -> Reset:
    """*reset* of a command line, as ``model.look`` takes it.

    >>> threshold("auto"), threshold("0.5"), threshold("never")
    ('auto', 0.5, None)
    """
    if reset in RESETS:
        return "auto" if reset == "auto" else None
    try:
        found = float(reset)
    except ValueError:
        found = -1.0
    if not 0 < found < float("inf"):
        raise InvalidValue(f"reset={reset}: expected auto, never, or a number > 0, the change of the state at a cut.")
    return found
