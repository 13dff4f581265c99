"""What is exported of a model: a copy with one image in and named answers out, and the shapes it is tried with."""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from smp_feedback._version import __version__
from smp_feedback.checks import check_choice, check_steps
from smp_feedback.config.stopping import UntilSettled
from smp_feedback.errors import ExportError, InvalidInput, InvalidType, InvalidValue
from smp_feedback.exporting.formats import Session, answers
from smp_feedback.loops.base import FeedbackModel, check_image
from smp_feedback.models.normalisation import given_config
from smp_feedback.ops.reading import reading_of
from smp_feedback.surgery.extension import carried
from smp_feedback.surgery.head import channels_of
from smp_feedback.surgery.probe import in_channels_of, noise, rectangles, sizes

Shape = tuple[int, ...]
ROOMY = 256  # px: from smaller images some decoders pool down to one pixel, which tracing takes for a constant
DRAWN = "init_std={}: every call draws another first state, so no file answers as the model does. "
SETTLES = "tolerance={}: each image stops when it has settled, and an exported graph always takes all its steps. "
BY_ITSELF = (
    "steps={}: each image stops by itself, and an exported graph always takes all its steps; give a number, such as "
    "steps={}."
)
REPLACE = "Export it with model.feedback.config = dataclasses.replace(model.loop_config, {}) (config.json on disk)."


class AnswersDiffer(ExportError):
    """A file that answers otherwise than its model."""


class Served(nn.Module):
    """One image in, named tensors out: a copy of the model, evaluating, on the CPU.

    Args:
        model: A looping model or a plain one; left as it is.
        steps: T; None is the model's own.
        outputs: ``last`` or ``all``.
    """

    def __init__(self, model: nn.Module, steps: int | None = None, outputs: str = "last") -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise InvalidType(f"model is a {type(model).__name__}: expected a model made by create, wrap or smp.")
        model = carried(model)[-1]
        check_choice("outputs", outputs, ("last", "all"))
        self.steps, self.outputs = self.looks(model, steps, outputs), outputs
        self.loops = isinstance(model, FeedbackModel)
        self.channels = model.feedback.in_channels if isinstance(model, FeedbackModel) else in_channels_of(model)[0]
        self.stride = stride_of(model)
        self.model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        self.dtype = next((p.dtype for p in model.parameters()), torch.float32)

    def looks(self, model: nn.Module, steps: int | None, outputs: str) -> int:
        """T of the graph, see :func:`looks_of`."""
        return looks_of(model, steps, outputs)

    def forward(self, image: Tensor) -> Any:
        """(B, C, H, W) -> logits; (masks, labels) with ``aux_params``; or the trajectory."""
        if not self.loops:
            return self.model(image)
        if self.outputs == "all":
            return self.model.trajectory(image, self.steps)  # type: ignore[operator]
        return self.model(image, steps=self.steps)

    @torch.no_grad()
    def answer(self, shape: Shape) -> tuple[Tensor, ...]:
        """What it makes of noise of this shape.

        Raises:
            InvalidInput: If it cannot read such an image.
        """
        try:
            return answers(self(*self.given(shape).values()))
        except Exception as error:  # sizes that do not fit fail in as many ways as there are models
            raise InvalidInput(f"The model cannot read an image of shape {shape}: {first_line(error)}") from error

    def given(self, shape: Shape) -> dict[str, Tensor]:
        """What it is traced with, by name, for an image of this shape."""
        return {"image": noise(self, shape)}

    @property
    def strides(self) -> dict[str, tuple[int, int]]:
        """What height and width of each input are multiples of."""
        return {"image": (self.stride, self.stride)}

    def closed(self) -> InvalidInput | None:
        """Why height and width cannot stay open, as far as that is known before it is traced."""
        return None

    def trials(self, run: Session, shape: Shape) -> Iterator[tuple[Sequence[Tensor], Sequence[Tensor]]]:
        """The answers of the opened file *run* for images of *shape*, and what they should be."""
        yield run(noise(self, shape)), self.answer(shape)

    def names(self) -> tuple[str, ...]:
        """The outputs' names."""
        labelled = getattr(self.model, "classification_head", None) is not None
        return ("trajectory",) if self.outputs == "all" else ("logits", "labels") if labelled else ("logits",)

    def facts(self, shape: Shape | None = None) -> dict[str, str]:
        """What somebody who finds the file would like to know; *shape* is one that it reads, if it is known."""
        feedback = getattr(self.model, "feedback", None) if self.loops else None
        origin = getattr(feedback, "origin", None) or {"architecture": architecture(self.model), "arguments": {}}
        data = given_config(self.model).config  # the file is given images that are normalised so already
        known = {"encoder": origin["arguments"].get("encoder_name"), "classes": origin["arguments"].get("classes")}
        return {
            "smp_feedback": __version__,
            "architecture": origin["architecture"],
            **{key: str(value) for key, value in known.items() if value is not None},
            "data": json.dumps(data.to_dict()),
            "images": data.normalisation,
            "outputs": " ".join(self.names()),
            "reading": self.reading(shape),
            "steps": str(self.steps),
            "stride": str(self.stride),
            "dtype": str(self.dtype).removeprefix("torch."),
            **({} if feedback is None else {"feedback": json.dumps(feedback.config.to_dict())}),
        }

    def reading(self, shape: Shape | None = None) -> str:
        """How logits become labels: ``argmax`` over channels, ``sign`` of the one channel, or ``multilabel``."""
        channels = channels_of(self.model)
        if channels is None:  # nothing of it tells, so its answer does
            channels = self.answer(shape or self.readable())[0].shape[2 if self.outputs == "all" else 1]
        return reading_of(channels, given_config(self.model).config.task)

    def readable(self) -> Shape:
        """The shape of an image that it reads, a roomy one if it can choose."""
        sides = sorted(sizes(self.model), key=lambda side: side < ROOMY)
        near_squares = ((side, side + extra) for side in sides for extra in (self.stride, 0))
        for height, width in (*rectangles(self.model), *near_squares):
            try:
                self.answer(shape := (1, self.channels, height, width))
                return shape
            except InvalidInput as error:
                refused = error
        raise InvalidInput(f"No square image of {sides} px is one it reads: give image=... {first_line(refused)}")

    def checked(self, image: Tensor) -> Shape:
        """The shape of *image*, if it is one that the model reads."""
        check_image(image, self.channels)
        if not image.numel():
            raise InvalidInput(f"image of shape {tuple(image.shape)} is empty.")
        self.answer(tuple(image.shape))
        return tuple(image.shape)


def stride_of(model: nn.Module) -> int:
    """Of what the sizes that stay open are multiples: smp's output stride, else that of the state, else 1."""
    stride = getattr(getattr(model, "encoder", None), "output_stride", None)
    if isinstance(stride, int):
        return stride
    own = getattr(getattr(model, "feedback", None), "stride", (1, 1))
    return math.lcm(*(max(1, round(side)) for side in own))


def looks_of(model: nn.Module, steps: int | None, outputs: str) -> int:
    """T of the exported graph; 1 for a plain model.

    Raises:
        InvalidValue: If the model looks once and more is asked for, or its looks are no fixed graph: by a rule of the
            call, or by the config's tolerance, which would stop images under any number.
    """
    if not isinstance(model, FeedbackModel):
        if steps not in (None, 1) or outputs == "all":
            asked = "outputs='all'" if outputs == "all" else f"steps={steps}"
            raise InvalidValue(f"{asked}: a plain {type(model).__name__} looks once; close it into a loop with wrap().")
        return 1
    if isinstance(steps, UntilSettled):
        raise InvalidValue(BY_ITSELF.format(steps, steps.at_most))
    config: Any = model.loop_config
    if config.is_data_dependent:
        raise InvalidValue(SETTLES.format(config.tolerance) + REPLACE.format("tolerance=None"))
    if getattr(config, "init_std", 0):
        raise InvalidValue(DRAWN.format(config.init_std) + REPLACE.format("init_std=0.0"))
    return int(model.feedback.steps()) if steps is None else check_steps(steps)


def compare(run: Session, served: Served, tried: Sequence[Shape], tolerance: float) -> float:
    """The largest difference between the file's answers and the model's, as a part of the largest answer.

    Answers below 1 are compared as they are: numbers are rounded in proportion to the sums behind an answer.

    Raises:
        AnswersDiffer: If it exceeds *tolerance*, or a shape is another.
    """
    worst = 0.0
    for shape in tried:
        named = (zip(served.names(), *both, strict=True) for both in served.trials(run, shape))
        for name, got, wanted in itertools.chain.from_iterable(named):
            apart = _apart(got, wanted)
            if not apart <= tolerance:  # NaN is not
                raise AnswersDiffer(
                    f"for an image of shape {shape} its {name} differ from the model's by {apart:.1e} of the largest, "
                    f"expected {tolerance:.0e} at most{_advice(served.model)}"
                )
            worst = max(worst, apart)
    return worst


def _advice(model: nn.Module) -> str:
    """What a model's own settings may have to do with it."""
    config = getattr(model, "loop_config", None)
    if getattr(config, "unpooling", None) != "tracked":
        return ""
    return " (unpooling='tracked' may track another maximum after rounding; 'nearest' and 'transposed' track none)"


def _apart(got: Tensor, wanted: Tensor) -> float:
    if got.shape != wanted.shape:
        return float("inf")
    got, wanted = got.double(), wanted.double()
    return float((got - wanted).abs().max() / wanted.abs().max().clamp_min(1))


def architecture(model: nn.Module) -> str:
    """The base's class."""
    return str(getattr(type(model), "_base_class", type(model)).__name__)


def first_line(error: BaseException | None, most: int = 300) -> str:
    """What *error* says, in one line."""
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= most else f"{line[:most]}..."
