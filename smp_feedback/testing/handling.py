"""What is done with a model that looks again: served in batches, moved, saved and loaded, exported."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from smp_feedback.exporting.export import export
from smp_feedback.factory import from_pretrained
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.ops.maps import masks_of
from smp_feedback.testing import conformance
from smp_feedback.testing.promises import check_close, hearing


@torch.no_grad()
def check_batches(model: FeedbackModel, image: Tensor) -> None:
    """In evaluation an image's answer does not depend on what else is in its batch: of 1, 2 and 3."""
    first = image[:1]
    images = torch.cat([first, first.flip(-1), first.flip(-2) / 2])
    with hearing(model.eval()):
        alone = torch.cat([masks_of(model(one)) for one in images[:, None]])
        for size in (2, 3):
            answer = masks_of(model(images[:size]))
            assert len(answer) == size, f"a batch of {size} has {len(answer)} answers"
            check_close(answer, alone[:size], f"in a batch of {size} an image is answered otherwise than alone")


@torch.no_grad()
def check_devices(model: FeedbackModel, image: Tensor, *, device: str | torch.device | None = None) -> None:
    """All of it moves: to float64 and back, to torch's device without memory, and to *device*.

    On the device ``meta`` nothing is computed, and what was left behind on the CPU is found without a GPU. A model
    that reads numbers out of its tensors cannot go there, which is no fault.

    Args:
        model: The model; left as it was.
        image: (B, C, H, W).
        device: One more device to answer on, as on the CPU; None is a CUDA device if there is one.
    """
    with hearing(model.eval()):
        expected = masks_of(model(image))
        double = copy.deepcopy(model).double()
        answer = masks_of(double(image.double()))
        assert answer.dtype == torch.float64, f"in float64 it answers in {answer.dtype}"
        check_close(answer.float(), expected, "in float64 it answers otherwise")
        check_close(masks_of(double.float()(image)), expected, "back from float64 it answers otherwise")
        _check_meta(model, image, expected)
        for place in [device] if device is not None else ["cuda"] * torch.cuda.is_available():
            moved = masks_of(copy.deepcopy(model).to(place)(image.to(place)))
            assert moved.device.type == torch.device(place).type, f"on {place} it answers on {moved.device}"
            check_close(moved.cpu(), expected, f"on {place} it answers otherwise", 0.05)  # TF32, T times


def _check_meta(model: FeedbackModel, image: Tensor, expected: Tensor) -> None:
    try:
        answer = masks_of(copy.deepcopy(model).to("meta")(image.to("meta")))
    except (RuntimeError, NotImplementedError) as error:
        if isinstance(error, NotImplementedError) or "meta tensors" in str(error):  # it reads numbers
            return
        raise AssertionError(f"moved to another device it fails, as if a tensor were left behind: {error}") from error
    assert answer.is_meta, "moved to another device, it answers on the old one"
    assert answer.shape == expected.shape, f"moved to another device, it answers {tuple(answer.shape)}"


@torch.no_grad()
def check_saved(model: FeedbackModel, image: Tensor) -> None:
    """Saved and loaded again it is the same, bit by bit: class, loop, weights, answer."""
    with hearing(model.eval()), TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        loaded = from_pretrained(folder)
        assert type(loaded).__mro__[1:] == type(model).__mro__[1:], f"loaded, it is a {type(loaded).__name__}"
        assert loaded.loop_config == model.loop_config, f"loaded, its loop is {loaded.loop_config}"
        ours, theirs = model.state_dict(), loaded.state_dict()
        assert ours.keys() == theirs.keys(), f"loaded, these keys differ: {sorted(ours.keys() ^ theirs.keys())}"
        for key, value in ours.items():
            assert torch.equal(theirs[key], value), f"loaded, {key} is another"
        assert torch.equal(masks_of(loaded(image)), masks_of(model(image))), "loaded, it answers otherwise"


def check_exported(model: FeedbackModel, image: Tensor) -> None:
    """``torch.export`` makes a program of it, and :func:`smp_feedback.export` files that answer as it does.

    An ONNX file, too, if the extra ``export`` is installed.
    """
    conformance.check_exports(model, image)
    formats = ["pt2"] + ["onnx"] * all(map(find_spec, ("onnx", "onnxruntime", "onnxscript")))
    with hearing(model.eval()), TemporaryDirectory() as folder:
        for suffix in formats:
            export(model, Path(folder) / f"model.{suffix}", image=image, dynamic=False)
