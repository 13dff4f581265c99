"""A model as one file that runs without this package: traced, written, opened again, and compared before it counts."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor, nn

from smp_feedback.checks import at_home, check_bool, check_whole
from smp_feedback.errors import ExportError, InvalidType, InvalidValue, require
from smp_feedback.exporting.axes import GIVE_SIZE, Axes, Plan, make_plan, named_axes, shapes
from smp_feedback.exporting.formats import FORMATS, check_runs, format_of, tolerance_of, trace
from smp_feedback.exporting.looking import STATE, ServedLook
from smp_feedback.exporting.ready import ServedReady
from smp_feedback.exporting.serving import AnswersDiffer, Served, Shape, architecture, compare, first_line
from smp_feedback.saving.drafts import clear_drafts, draft_of
from smp_feedback.saving.files import settle
from smp_feedback.surgery.extension import InParts

log = logging.getLogger(__name__)

FIRST_OPSET = 18  # torch's exporter writes none before


@dataclass(frozen=True)
class Exported:
    """A written file, usable as a path, and what is in it.

    Attributes:
        path: The file.
        image: The input's axes, a name where one is dynamic: ``("batch", 3, "32*height", "32*width")``.
        outputs: The outputs' names.
        steps: Looks at the image; 1 for a plain model.
        state: The state's axes, of one look: ``("batch", 11, "32*height", "32*width")``, before the first look zeros;
            None of a file that takes an image alone.
        difference: The largest one from the model's answers that was seen, as a part of the largest answer (of 1
            if that is less); None if nothing was checked.
        refused: Why no more axes are dynamic, where more were asked for.
    """

    path: Path
    image: tuple[int | str, ...]
    outputs: tuple[str, ...]
    steps: int
    difference: float | None
    refused: str | None = None
    state: tuple[int | str, ...] | None = None

    def __fspath__(self) -> str:
        return str(self.path)


def export(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    image: Tensor | None = None,
    steps: int | None = None,
    outputs: Literal["last", "all"] = "last",
    look: bool = False,
    with_preprocess: bool = False,
    format: Literal["onnx", "pt2"] | None = None,
    dynamic: bool | Literal["batch"] = True,
    check: bool = True,
    opset: int | None = None,
    tell: Callable[[str], object] = log.info,
) -> Exported:
    """Write *model*, its T looks unrolled, as ONNX or as a ``torch.export`` program.

    The file is written beside *path*, opened again and compared with the model, at another batch and another size
    where these are dynamic; only then does it take its place. The model is copied and left as it is. The exporters
    are torch's own: ``torch.export.export(strict=True)`` and ``torch.onnx.export(dynamo=True)``.

    Args:
        model: From :func:`create`, :func:`wrap` or :func:`from_pretrained`, or a plain smp model; ``model.half()``
            makes a file of half the size, which reads and answers float16.
        path: Ends in ``.onnx`` or ``.pt2``.
        image: An image (B, C, H, W) of the shape to serve; its values do not matter. None picks a shape, and is an
            error where the size must be fixed and nothing says at what.
        steps: T, fixed in the file; None is the model's own, ``"auto"`` resolved to its number. A number, too, for a
            model that is called with :func:`smp_feedback.until_settled`: no file stops by itself.
        outputs: ``last`` gives ``logits`` (B, classes, H, W), and ``labels`` (B, classes) of a model with
            ``aux_params``; ``all`` gives ``trajectory`` (T, B, classes, H, W).
        look: Whether the file is one look, for films and streams: of ``image`` and ``state`` it makes ``logits`` (and
            ``labels``) and ``next_state``, which is handed in with the next frame. A state of zeros is the first look,
            of each image on its own. For models whose dynamics carry; compared over several frames.
        with_preprocess: Whether normalisation and reading are inside: of bytes (B, C, H, W) the file makes
            ``label_map`` (B, H, W), bytes, too. Images are not resized in it.
        format: ``onnx`` or ``pt2``; None is the suffix's.
        dynamic: True leaves batch, height and width open if the model allows, else the batch, else nothing; the
            result says which and why. ``"batch"`` leaves the batch open at most, False nothing.
        check: Whether the file is compared with the model: within 1e-4 of the largest answer (of 1 if that is less)
            for ONNX, 1e-5 for a program; sqrt(T) times 1.1e-2 where the model is of float16, 9e-2 of bfloat16, whose
            digits are no finer; labels are those of the model where it tells two classes further apart. Unchecked, an
            axis counts as dynamic if the exporter says so.
        opset: ONNX's, >= 18; None is the exporter's own.
        tell: Called with a sentence as the work proceeds; the log's ``info`` by default.

    Raises:
        InvalidValue, InvalidType, InvalidInput, UnknownName: For what cannot be meant, before any work.
        MissingExtra: If onnx, onnxscript or onnxruntime is missing.
        ExportError: If the model cannot be traced, or the file answers otherwise than the model; none is left then,
            and one that was there before stays whole.

    >>> import tempfile, torch, smp_feedback as smpf
    >>> model = smpf.create("PlainConv", width=4, feedback=smpf.Recurrent(steps=2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     smpf.export(model, f"{folder}/model.pt2").image
    ('batch', 3, 'height', 'width')
    """
    if isinstance(model, InParts):
        raise InvalidType(
            f"model is a {type(model).__name__}: windows are laid around a model, not in its file; export the one "
            "inside, and lay them where it is served."
        )
    target = destination(path, format)
    kind = format_of(target, format)
    check_options(kind, check, dynamic, opset)
    check_look(look, steps, outputs)
    check_ready(with_preprocess, look, outputs)
    served = (
        ServedLook(model) if look else ServedReady(model, steps) if with_preprocess else Served(model, steps, outputs)
    )
    if kind == "onnx" and check:
        check_runs(served.dtype)
    plan = make_plan(served, image, dynamic)
    clear_drafts(target.parent, target.name)
    with draft_of(target, folder=True) as folder:
        job = Job(served, plan.shape, kind, folder / target.name, check, opset, tell)
        axes, difference, refused = first_that_holds(job, plan)
        put_in_place(folder, target)
    named = {name: job.axes(name, axes) for name in served.strides}
    why = None if refused is None else first_line(refused)
    return Exported(target, named["image"], served.names(), served.steps, difference, why, named.get(STATE))


class Job(NamedTuple):
    """What is written, as what, where."""

    served: Served
    shape: Shape
    kind: str
    path: Path
    check: bool
    opset: int | None
    tell: Callable[[str], object]

    def draft(self, axes: Axes) -> float | None:
        """Write the file with these axes open and compare it with the model; returns their largest difference."""
        served, form = self.served, FORMATS[self.kind]
        tried = shapes(self.shape, axes, served.stride)
        self.tell(f"tracing {served.steps} looks at image {self.axes('image', axes)}")
        program = trace(served, served.given(tried[0]), axes, served.strides)
        self.tell(f"writing {self.kind}, {served.steps} looks")
        form.write(program, self.path, served.names(), served.facts(self.shape), self.opset)
        if not self.check:
            return None
        run, apart = form.open(self.path), 0.0
        for shape in tried:
            self.tell(f"comparing with the model at image {shape}")
            apart = max(apart, compare(run, served, [shape], self.tolerance))
        return apart

    def axes(self, name: str, opened: Axes) -> tuple[int | str, ...]:
        """The axes of the input *name*, those that are *opened* by name."""
        shape = self.served.given(shapes(self.shape, opened, self.served.stride)[0])[name].shape
        return named_axes(tuple(shape), opened, self.served.strides[name])

    @property
    def tolerance(self) -> float:
        """How far the file's answers may be from the model's."""
        return tolerance_of(FORMATS[self.kind], self.served.dtype, self.served.steps)

    @property
    def rounded(self) -> bool:
        """Whether it is the model's precision, and not the format, that says so."""
        return self.tolerance > FORMATS[self.kind].tolerance


def first_that_holds(job: Job, plan: Plan) -> tuple[Axes, float | None, Exception | None]:
    """The most dynamic axes with which the file answers as the model, the difference, and why not more.

    Raises:
        ExportError: If there are none.
    """
    refused = plan.refused
    for axes in plan.tried:
        try:
            return axes, job.draft(axes), refused
        except (OSError, InvalidValue):  # the disk, or what was asked for
            raise
        except Exception as error:  # exporters fail in as many ways as there are models
            refused = error
    name = architecture(job.served.model)
    raise ExportError(f"{name} was not exported: {first_line(refused)}{_advice(job, plan, refused)}") from refused


def _advice(job: Job, plan: Plan, refused: Exception | None) -> str:
    """What may do instead."""
    if job.rounded and isinstance(refused, AnswersDiffer):
        name = str(job.served.dtype).removeprefix("torch.")
        return f"; {name} is too coarse for this model: export model.float() (--precision full)."
    return "" if plan.at_a_size else f" A fixed size may do: {GIVE_SIZE.format(job.served.channels)}"


def destination(path: str | os.PathLike[str], format: str | None = None) -> Path:
    """*path*, if a file of a known format can be written there.

    Raises:
        UnknownName: If neither the suffix nor *format* is one.
        InvalidValue: If its directory is none, or not writable.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidType(f"path={path!r:.80} ({type(path).__name__}): expected a path that ends in .onnx or .pt2.")
    target = at_home(path)
    format_of(target, format)
    if target.is_dir():
        raise InvalidValue(f"{target} is a directory: name the file to write in it.")
    if not target.parent.is_dir():
        raise InvalidValue(f"{target.parent} is no directory: make it first.")
    if not os.access(target.parent, os.W_OK):
        raise InvalidValue(f"{target.parent} is not writable.")
    return target


def check_options(kind: str, check: bool, dynamic: object, opset: object) -> None:
    """The options fit the format, and its libraries are there."""
    check_bool("check", check)
    if not (isinstance(dynamic, bool) or dynamic == "batch"):
        raise InvalidValue(f"dynamic={dynamic!r}: expected True, 'batch' or False.")
    if opset is not None and check_whole("opset", opset) < FIRST_OPSET:
        raise InvalidValue(f"opset={opset}: expected {FIRST_OPSET} or more, what torch's exporter writes.")
    if opset is not None and kind != "onnx":
        raise InvalidValue(f"opset={opset} is ONNX's, and this file is {kind}: leave it out.")
    for library in (*FORMATS[kind].writes_with, *(FORMATS[kind].opens_with if check else ())):
        require(library, extra="export")


def check_look(look: bool, steps: object, outputs: str) -> None:
    """One look has no number of looks, and no other outputs."""
    check_bool("look", look)
    if look and (steps is not None or outputs != "last"):
        said = f"outputs={outputs!r}" if steps is None else f"steps={steps}"
        raise InvalidValue(f"look=True, {said}: the file is one look, called once a frame; leave {said} out.")


def check_ready(with_preprocess: bool, look: bool, outputs: str) -> None:
    """Labels alone are one answer, of one image."""
    check_bool("with_preprocess", with_preprocess)
    if with_preprocess and (look or outputs != "last"):
        said = "look=True" if look else f"outputs={outputs!r}"
        raise InvalidValue(f"with_preprocess=True, {said}: the file answers in labels alone; leave one of them out.")


def put_in_place(folder: Path, target: Path) -> None:
    """Move what was written in *folder* beside or over *target*, the file that refers to others last."""
    for written in sorted(folder.iterdir(), key=lambda file: file.name == target.name):
        settle(written)
        written.replace(target.parent / written.name)
