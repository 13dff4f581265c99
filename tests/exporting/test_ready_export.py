"""Bytes in, a label map out: the file says what the model says of the same photograph, with nothing done outside."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnxruntime

import smp_feedback as smpf
from smp_feedback.config.data import DataConfig
from smp_feedback.errors import ExportError, InvalidValue
from smp_feedback.exporting import formats
from smp_feedback.ops.reading import labels_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "predict_without_torch.py"
CLASSES = ("sky", "road", "tree")
SMALL = torch.zeros(1, 3, 20, 28)


def model_of(classes=3, **data):
    """A small loop that was trained on normalised images."""
    torch.manual_seed(0)
    model = smpf.create("PlainConv", classes=classes, feedback=smpf.Recurrent(steps=2, feedback_init=0.3)).eval()
    model.data_config = DataConfig(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25), classes=CLASSES[:classes], **data)
    return model


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A model, and its file."""
    model = model_of()
    return model, smpf.export(model, tmp_path_factory.mktemp("ready") / "model.onnx", with_preprocess=True, image=SMALL)


def images(height=20, width=28, batch=2):
    return np.random.default_rng(3).integers(0, 256, (batch, 3, height, width), np.uint8)


@torch.no_grad()
def test_the_file_says_what_the_model_says_of_the_prepared_image(written):
    model, file = written
    session = onnxruntime.InferenceSession(file.path, providers=["CPUExecutionProvider"])
    assert file.outputs == ("label_map",)
    assert session.get_inputs()[0].type == "tensor(uint8)"
    (got,) = session.run(None, {"image": images()})
    wanted = labels_of(model(model.preprocess(torch.from_numpy(images()))))
    assert (got.dtype, got.shape) == (np.uint8, (2, 20, 28))
    assert len(np.unique(got)) > 1
    assert (got == wanted.numpy()).mean() > 0.999
    facts = session.get_modelmeta().custom_metadata_map
    assert (facts["dtype"], facts["with_preprocess"], facts["reading"]) == ("uint8", "true", "argmax")


@torch.no_grad()
@pytest.mark.parametrize(("classes", "task"), [(1, "segmentation"), (3, "multilabel")])
def test_other_readings_are_inside_as_well(classes, task, tmp_path):
    model = model_of(classes)
    model.data_config = dataclasses.replace(model.data_config, classes=CLASSES[: max(2, classes)], task=task)
    file = smpf.export(model, tmp_path / "model.pt2", with_preprocess=True, image=SMALL)
    got = torch.export.load(file.path).module()(torch.from_numpy(images()))
    wanted = labels_of(model(model.preprocess(torch.from_numpy(images()))), task)
    assert torch.equal(got, wanted.to(torch.uint8))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["half", "bfloat16"])
def test_a_program_of_coarse_numbers_is_held_to_its_own_digits(kind, tmp_path):
    model = getattr(model_of(), kind)()
    dtype = getattr(torch, {"half": "float16"}.get(kind, kind))
    allowed = formats.tolerance_of(formats.FORMATS["pt2"], dtype, 2)
    assert allowed == pytest.approx(4 * (2 * 100 / 12) ** 0.5 * torch.finfo(dtype).eps)
    assert smpf.export(model, tmp_path / "model.pt2", image=SMALL.to(dtype)).difference <= allowed


def test_the_tolerance_of_coarse_numbers_covers_roundings_at_random():
    """Sums that round after each of fifty additions, twice: as far apart as is allowed, and not farther."""
    rng, eps = np.random.default_rng(0), float(np.finfo(np.float16).eps)
    errors = rng.uniform(-eps / 2, eps / 2, (2, 50, 20_000)).sum(1)
    farthest = np.abs(errors[0] - errors[1]).max()
    allowed = formats.tolerance_of(formats.FORMATS["pt2"], torch.float16)
    assert 0.7 * allowed < farthest < 1.3 * allowed


@torch.no_grad()
@pytest.mark.parametrize("kind", ["half", "bfloat16"])
def test_a_program_of_coarse_numbers_takes_bytes(kind, tmp_path):
    model = getattr(model_of(), kind)()
    ready = smpf.export(model, tmp_path / "ready.pt2", with_preprocess=True, image=SMALL)
    assert torch.export.load(ready.path).module()(torch.from_numpy(images())).dtype == torch.uint8


def test_a_file_that_answers_otherwise_is_refused(tmp_path, monkeypatch):
    kind = formats.FORMATS["pt2"]

    def wrong(path):
        run = kind.open(path)
        return lambda image: [(label + 1) % 3 for label in run(image)]

    monkeypatch.setitem(formats.FORMATS, "pt2", kind._replace(open=wrong))
    with pytest.raises(ExportError, match="label_map differ from the model's"):
        smpf.export(model_of(), tmp_path / "model.pt2", with_preprocess=True, image=SMALL)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("more", [{"look": True}, {"outputs": "all"}])
def test_labels_alone_are_one_answer_of_one_image(more, tmp_path):
    with pytest.raises(InvalidValue, match="answers in labels alone"):
        smpf.export(model_of(), tmp_path / "model.pt2", with_preprocess=True, **more)


def test_images_that_are_no_bytes_are_refused(tmp_path):
    with pytest.raises(InvalidValue, match=r"reads files by scale=.*leave it out"):
        smpf.export(model_of(scale=((0.0, 4000.0),)), tmp_path / "model.pt2", with_preprocess=True, image=SMALL)


def test_what_is_being_done_is_told(tmp_path):
    told = []
    smpf.export(nn.Conv2d(3, 3, 1).eval(), tmp_path / "model.pt2", image=SMALL, tell=told.append)
    assert [line.partition(" ")[0] for line in told] == ["tracing", "writing", *["comparing"] * 3]


def test_the_example_needs_neither_torch_nor_this_package(written, tmp_path):
    model, file = written
    photo = tmp_path / "photo.png"
    Image.fromarray(images()[0].transpose(1, 2, 0)).save(photo)
    lines = EXAMPLE.read_text().partition('"""\n\n')[2].splitlines()
    assert len(lines) <= 20
    code = (
        f"import runpy, sys\nfor name in ('torch', 'smp_feedback'): sys.modules[name] = None\n"
        f"sys.argv[1:] = {[str(file.path), str(photo), str(tmp_path / 'labels.png')]!r}\n"
        f"runpy.run_path({str(EXAMPLE)!r})"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    got = np.asarray(Image.open(tmp_path / "labels.png"))
    with torch.no_grad():
        wanted = labels_of(model(model.preprocess(Image.open(photo))[None]))[0].numpy()
    assert (got == wanted).mean() > 0.99
