"""The two files a model can become: how it is traced for them, how each is written and opened again."""

from __future__ import annotations

import json
import logging
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from smp_feedback.errors import InvalidValue, UnknownName

Session = Callable[..., Sequence[Tensor]]
"""An opened file: answers an image (B, C, H, W), and a state where it takes one, with its outputs."""
Write = Callable[[ExportedProgram, Path, Sequence[str], Mapping[str, str], int | None], None]
"""Writes a program, with the outputs' names and the facts that are kept in the file, in an opset of ONNX's."""
FACTS = "smp_feedback.json"
PLACES = {"batch": 0, "height": 2, "width": 3}


class Format(NamedTuple):
    """A kind of file.

    Attributes:
        tolerance: How far its answers may be from the model's, as a part of the largest answer (of 1 if that is less),
            in single precision; see `tolerance_of`.
        write: Writes it.
        open: Opens it again, as what turns an image (B, C, H, W) into the outputs.
        writes_with, opens_with: The libraries that takes.
    """

    tolerance: float
    write: Write
    open: Callable[[Path], Session]
    writes_with: tuple[str, ...] = ()
    opens_with: tuple[str, ...] = ()


ROUNDINGS = 50  # of a look, in succession
FARTHEST = 4  # standard deviations: the largest of many thousand errors at random


def tolerance_of(form: Format, dtype: torch.dtype, looks: int = 1) -> float:
    """How far a file's answers in *dtype* may be from the model's: what its format allows, or its digits do.

    A rounding is uniform within the last digit, eps, and so has a standard deviation of eps / sqrt(12); `ROUNDINGS` in
    each look add up as if at random, model and file round each on its own, and the largest of many errors lies
    `FARTHEST` deviations out.

    >>> one = Format(1e-4, write_onnx, open_onnx)
    >>> [f"{tolerance_of(one, dtype):.1e}" for dtype in (torch.float64, torch.float32, torch.float16)]
    ['1.0e-04', '1.0e-04', '1.1e-02']
    >>> f"{tolerance_of(one, torch.float16, looks=4):.1e}"  # twice as far
    '2.3e-02'
    """
    digits = FARTHEST * math.sqrt(2 * ROUNDINGS * looks / 12) * torch.finfo(dtype).eps
    return max(form.tolerance, digits)


def trace(
    module: nn.Module, given: Mapping[str, Tensor], axes: Sequence[str], strides: Mapping[str, Sequence[int]]
) -> ExportedProgram:
    """*module* as one graph.

    Args:
        module: Takes arguments of the names in *given*.
        given: What it is traced with, by name, each (B, C, H, W).
        axes: The axes left open, of ``batch``, ``height``, ``width``.
        strides: What height and width of each are multiples of.
    """
    opened = {axis: Dim(axis) for axis in axes}
    dims = {name: _dims(opened, strides[name]) for name in given} if axes else None
    with quiet(), torch.no_grad():
        return torch.export.export(module, tuple(given.values()), dynamic_shapes=dims, strict=True)


def _dims(opened: Mapping[str, Any], strides: Sequence[int]) -> dict[int, Any]:
    """The open axes by their place."""
    times = {"height": strides[0], "width": strides[1]}
    return {PLACES[a]: dim if times.get(a, 1) == 1 else times[a] * dim for a, dim in opened.items()}


@contextmanager
def quiet() -> Iterator[None]:
    """Without torch's remarks on what is meant here.

    The look is set for the length of a call and put back: a side effect to the tracer. An axis that cannot be
    dynamic is tried and then fixed: an error with pages of stack to the log.
    """
    guards = logging.getLogger("torch._guards")
    before = guards.level
    guards.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "While compiling, we found certain side effects", UserWarning)
            yield
    finally:
        guards.setLevel(before)


def write_onnx(
    program: ExportedProgram, path: Path, outputs: Sequence[str], facts: Mapping[str, str], opset: int | None
) -> None:
    """ONNX in one file; from 2 GB on (protobuf's limit) its weights lie beside it, in *path* + ``.data``."""
    with quiet():
        onnx: Any = torch.onnx.export(
            program.run_decompositions(POOLING),
            dynamo=True,
            input_names=list(program.graph_signature.user_inputs),
            output_names=outputs,
            opset_version=opset,
            verbose=False,
        )
    written = onnx.model.opset_imports[""]
    if opset not in (None, written):  # the exporter converts what it can and logs what it cannot
        raise InvalidValue(f"opset={opset}: the exporter could write opset {written} only; leave opset=None.")
    name_axes(onnx.model)
    onnx.model.metadata_props.update(facts)
    onnx.save(path)


def pooled(x: Tensor, bins: Sequence[int]) -> Tensor:
    """``adaptive_avg_pool2d`` as two products, for images of any size: the exporter's own is for the traced one.

    >>> x = torch.rand(1, 2, 7, 10)
    >>> torch.allclose(pooled(x, (3, 6)), torch.nn.functional.adaptive_avg_pool2d(x, (3, 6)))
    True
    """
    if tuple(bins) == (1, 1):
        return x.mean((-2, -1), keepdim=True)
    over = [_averages(n, size, x) for n, size in zip(bins, x.shape[-2:], strict=True)]
    return torch.matmul(torch.matmul(over[0], x), over[1].mT)


def _averages(bins: int, size: int, like: Tensor) -> Tensor:
    """(bins, size): row i averages from ``floor(i * size / bins)`` to before ``ceil((i + 1) * size / bins)``."""
    i, place = torch.arange(bins, device=like.device)[:, None], torch.arange(size, device=like.device)
    inside = (place >= i * size // bins) & (place < ((i + 1) * size + bins - 1) // bins)
    return inside.to(like.dtype) / inside.sum(1, keepdim=True)


POOLING: dict[Any, Callable[..., Tensor]] = {torch.ops.aten.adaptive_avg_pool2d.default: pooled}


def name_axes(model: Any) -> None:
    """Call the open axes batch, height and width, where torch says s6, 32*s39, 32*s94."""
    shape = model.graph.inputs[0].shape
    named = {s: axis for axis, i in PLACES.items() for s in re.findall(r"\bs\d+\b", str(shape[i]))}
    for value in (*model.graph.inputs, *(output for node in model.graph for output in node.outputs)):
        for i, dim in enumerate(value.shape or ()):
            if not isinstance(dim, int):
                value.shape[i] = re.sub(r"\bs\d+\b", lambda s: named.get(s[0], s[0]), str(dim))


def open_onnx(path: Path) -> Session:
    """In onnxruntime on the CPU, silent: what fails raises."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(*given: Tensor) -> list[Tensor]:
        told = {name: x.numpy() for name, x in zip(names, given, strict=True)}
        return [torch.from_numpy(answer) for answer in session.run(None, told)]

    return run


def check_runs(dtype: torch.dtype) -> None:
    """See that onnxruntime convolves in *dtype*, with a file of one convolution, before a model is traced for it.

    Raises:
        InvalidValue: If it does not.
    """
    import onnxruntime
    from onnx import TensorProto, helper

    if dtype == torch.float32:
        return
    name = str(dtype).removeprefix("torch.")
    kind = getattr(TensorProto, {"float64": "DOUBLE"}.get(name, name.upper()))
    told = [helper.make_tensor_value_info(one, kind, [1, 1, 1, 1]) for one in ("image", "weight", "logits")]
    graph = helper.make_graph([helper.make_node("Conv", ["image", "weight"], ["logits"])], name, told[:2], told[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # a class for each of its states
        raise InvalidValue(
            f"the model is of {name}, in which onnxruntime {onnxruntime.__version__} runs no convolution on a CPU, so "
            "its file could not be compared: export model.float() (--precision full), model.half() (--precision half), "
            "or a .pt2; check=False writes it unchecked."
        ) from error


def write_program(
    program: ExportedProgram, path: Path, outputs: Sequence[str], facts: Mapping[str, str], opset: int | None
) -> None:
    """``torch.export.save``, the facts in an extra file."""
    torch.export.save(program, path, extra_files={FACTS: json.dumps(dict(facts))})


def open_program(path: Path) -> Session:
    """``torch.export.load``."""
    module = torch.export.load(path).module()
    return lambda *given: answers(module(*given))


def answers(given: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """One answer or several, as several."""
    return (given,) if isinstance(given, Tensor) else tuple(given)


FORMATS = {
    "onnx": Format(1e-4, write_onnx, open_onnx, ("onnx", "onnxscript"), ("onnxruntime",)),
    "pt2": Format(1e-5, write_program, open_program),
}


def format_of(path: Path, name: str | None = None) -> str:
    """The format called *name*, else that of the suffix.

    >>> format_of(Path("model.onnx"))
    'onnx'
    >>> format_of(Path("model.onx"))
    Traceback (most recent call last):
    smp_feedback.errors.UnknownName: No export format is called 'onx'. Did you mean 'onnx'? ...
    """
    suffix = path.suffix.lower().removeprefix(".")
    found = suffix if name is None else name
    if found not in FORMATS:
        raise UnknownName("export format", found, FORMATS, "Give a path that ends in .onnx or .pt2, or format='...'.")
    if suffix in FORMATS and suffix != found:
        raise InvalidValue(f"format={name!r} and {path.name}: the suffix says {suffix!r}; let them agree.")
    return found
