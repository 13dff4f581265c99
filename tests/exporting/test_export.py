"""An exported file answers as the model does, says what it is, and is there whole or not at all."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import json
import pkgutil
import subprocess
import sys

import onnx
import onnxruntime
import pytest
import torch
from conftest import a_few
from torch import nn

import smp_feedback as smpf
from smp_feedback import errors
from smp_feedback.errors import ExportError, FeedbackError, InvalidInput, InvalidType, InvalidValue, MissingExtra
from smp_feedback.exporting import export as exporting
from smp_feedback.exporting import formats
from smp_feedback.exporting.axes import make_plan, named_axes
from smp_feedback.exporting.serving import Served
from smp_feedback.registry.public import catalogue

IMAGE = torch.rand(1, 3, 64, 64)
SMALL = torch.rand(1, 3, 16, 16)
OPEN = ("batch", 3, "height", "width")
SHALLOW = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}


class Small(nn.Module):
    """Three layers: what does not depend on the base is tested on it."""

    def __init__(self, middle=None):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.middle, self.head = middle or nn.Identity(), nn.Conv2d(8, 3, 1)

    def forward_features(self, image):
        return self.middle(self.norm(self.stem(image)).relu())

    def forward_head(self, features):
        return self.head(features)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


class OneSize(nn.Module):
    """Position embeddings, as in a vision transformer."""

    def __init__(self):
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, 8, 64, 64))

    def forward(self, x):
        return x + self.positions


class Bins(nn.Module):
    """A context of 3 x 2 bins, as in PSPNet: torch pools by any size, its ONNX exporter by the one that was traced."""

    def forward(self, x):
        return x + nn.functional.interpolate(nn.functional.adaptive_avg_pool2d(x, (3, 2)), x.shape[-2:])


class AsWide(nn.Module):
    """A loop over the columns, which a graph can only unroll."""

    def forward(self, x):
        for _ in range(x.shape[-1]):
            x = 0.99 * x
        return x


def in_use(model):
    """Every weight its own, the feedback heard, BatchNorm's statistics moved."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for reader in model.feedback.readers:
            nn.init.normal_(reader.weight, std=0.5)
        model.train()(torch.rand(4, 3, 64, 64))
    return model.eval()


def small(middle=None, **config):
    return in_use(smpf.wrap(Small(middle), smpf.Recurrent(**{"steps": 2, **config})))


def unet(**arguments):
    return in_use(smpf.create("Unet", "tu-test_resnet", None, classes=3, **arguments))


def in_onnxruntime(path, image):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    answers = session.run(None, {"image": image.numpy()})
    return {name: torch.from_numpy(answer) for name, answer in zip(names, answers, strict=True)}


def assert_close(got, wanted, tolerance=1e-4):
    torch.testing.assert_close(got, wanted, atol=tolerance * max(1, float(wanted.abs().max())), rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(
    ("arch", "stride", "more"),
    [
        ("Unet", 8, SHALLOW),
        *(pytest.param(*one, {}, marks=pytest.mark.sweep) for one in (("DeepLabV3Plus", 16), ("Segformer", 32))),
    ],
)
def test_an_onnx_file_answers_as_the_model_at_another_batch_and_size(arch, stride, more, tmp_path):
    model = in_use(smpf.create(arch, "tu-test_resnet", None, classes=3, feedback=smpf.Recurrent(steps=2), **more))
    written = smpf.export(model, tmp_path / "model.onnx", image=IMAGE)
    assert written.image == ("batch", 3, f"{stride}*height", f"{stride}*width"), written.refused
    image = torch.rand(4, 3, 128, 96)
    wanted = model(image)
    assert_close(in_onnxruntime(written, image)["logits"], wanted)
    assert (model(image, steps=1) - wanted).abs().max() > 1e-2, "the looks do not differ: nothing was tested"
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(written)
    assert session.get_inputs()[0].shape == list(written.image)
    facts = session.get_modelmeta().custom_metadata_map
    told = {"architecture": arch, "classes": "3", "steps": "2", "smp_feedback": smpf.__version__}
    assert facts.items() >= told.items()


@torch.no_grad()
@pytest.mark.sweep
def test_a_program_answers_as_the_model_in_a_process_that_knows_nothing_of_us(tmp_path):
    model, image = unet(feedback=smpf.Recurrent(steps=2), **SHALLOW), torch.rand(3, 3, 64, 64)
    smpf.export(model, tmp_path / "model.pt2", image=IMAGE, dynamic="batch")
    torch.save(image, tmp_path / "image.pt")
    code = """if True:
        import sys, torch
        facts = {"smp_feedback.json": ""}
        program = torch.export.load("model.pt2", extra_files=facts)
        torch.save(program.module()(torch.load("image.pt")), "logits.pt")
        assert not {"smp_feedback", "segmentation_models_pytorch", "timm"} & set(sys.modules)
        print(facts["smp_feedback.json"])
    """
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    logits = torch.load(tmp_path / "logits.pt")
    assert_close(logits, model(image), 1e-5)
    assert not logits.requires_grad
    facts = json.loads(run.stdout)
    assert (facts["architecture"], facts["encoder"], facts["steps"]) == ("Unet", "tu-test_resnet", "2")
    assert json.loads(facts["feedback"]) == model.loop_config.to_dict()


@torch.no_grad()
@pytest.mark.parametrize("dynamics", a_few(catalogue().dynamics, "leaky"))
@pytest.mark.sweep
def test_every_dynamics_is_onnx(dynamics, tmp_path):
    model = small(dynamics=dynamics, steps=3, learn_rates=dynamics not in ("leaky", "gated"))
    written = smpf.export(model, tmp_path / "model.onnx", image=SMALL)
    image = torch.rand(3, 3, 20, 12)
    assert written.image == OPEN
    assert_close(in_onnxruntime(written, image)["logits"], model(image))


@torch.no_grad()
@pytest.mark.parametrize("projection", a_few(catalogue().projections, "probabilities"))
@pytest.mark.sweep
def test_every_projection_is_onnx(projection, tmp_path):
    model = small(projection=projection)
    written = smpf.export(model, tmp_path / "model.onnx", image=SMALL)
    image = torch.rand(3, 3, 20, 12)
    assert_close(in_onnxruntime(written, image)["logits"], model(image))


@torch.no_grad()
@pytest.mark.sweep
def test_a_dirichlet_output_is_onnx(tmp_path):
    model = small(output="dirichlet", dynamics="fractional")
    written = smpf.export(model, tmp_path / "model.onnx", image=SMALL)
    image = torch.rand(3, 3, 20, 12)
    assert written.image == OPEN
    assert_close(in_onnxruntime(written, image)["logits"], model(image))


@torch.no_grad()
@pytest.mark.sweep
def test_pooling_into_bins_is_onnx_at_any_size(tmp_path):
    model, image = small(Bins()), torch.rand(3, 3, 20, 13)
    written = smpf.export(model, tmp_path / "model.onnx", image=SMALL)
    assert written.image == OPEN
    assert_close(in_onnxruntime(written, image)["logits"], model(image))


@torch.no_grad()
@pytest.mark.sweep
def test_all_looks_can_be_exported(tmp_path):
    model, image = small(), torch.rand(3, 3, 20, 12)
    written = smpf.export(model, tmp_path / "model.onnx", image=SMALL, steps=4, outputs="all")
    assert (written.outputs, written.steps) == (("trajectory",), 4)
    got = in_onnxruntime(written, image)["trajectory"]
    assert got.shape == (4, 3, 3, 20, 12)
    assert_close(got, model.trajectory(image, steps=4))


@torch.no_grad()
@pytest.mark.sweep
def test_labels_are_an_output_with_a_name(tmp_path):
    labels = {"aux_params": {"classes": 5}}
    model, image = unet(feedback=smpf.Recurrent(steps=2), **SHALLOW, **labels), torch.rand(3, 3, 64, 64)
    written = smpf.export(model, tmp_path / "model.onnx", image=IMAGE, dynamic="batch")
    got, (masks, labels) = in_onnxruntime(written, image), model(image)
    assert tuple(got) == written.outputs == ("logits", "labels")
    assert_close(got["logits"], masks)
    assert_close(got["labels"], labels)


@torch.no_grad()
def test_a_plain_model_is_exported_too(tmp_path):
    model, image = Small().eval(), torch.rand(3, 3, 20, 12)
    written = smpf.export(model, tmp_path / "model.pt2", image=SMALL)
    assert (written.image, written.steps) == (OPEN, 1)
    assert_close(formats.open_program(written.path)(image)[0], model(image), 1e-5)
    for more in ({"outputs": "all"}, {"steps": 3}):
        with pytest.raises(InvalidValue, match="looks once"):
            smpf.export(model, tmp_path / "more.pt2", **more)


def test_a_base_made_for_one_size_keeps_its_size_and_an_open_batch(tmp_path):
    written = smpf.export(small(OneSize()), tmp_path / "model.pt2")
    assert written.image == ("batch", 3, 64, 64)
    assert "cannot read an image of shape (3, 3, 65, 66)" in written.refused


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "more", "image"),
    [
        pytest.param("timm/test_resnet", {}, ("batch", 3, "32*height", "32*width"), marks=pytest.mark.sweep),
        ("timm/vit_tiny_patch16_224", {"img_size": 64, "depth": 1}, ("batch", 3, 64, 64)),
        pytest.param(
            *("torchvision/lraspp_mobilenet_v3_large", {}, ("batch", 3, "8*height", "8*width")), marks=pytest.mark.sweep
        ),
    ],
)
@pytest.mark.sweep
def test_bases_that_are_not_smps_keep_open_what_they_can(name, more, image, tmp_path):
    model = in_use(smpf.create(name, classes=3, feedback={"steps": 1}, **more))
    written = smpf.export(model, tmp_path / "model.onnx")
    assert written.image == image
    other = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        expected = model(other)
    assert torch.allclose(
        in_onnxruntime(written.path, other)["logits"], expected, atol=1e-4 * float(expected.abs().max())
    )


@pytest.mark.parametrize(
    ("name", "arguments", "stride"),
    [
        ("xcit_nano_12_p16_224", {}, 16),  # as many tokens as the image has patches
        ("vit_tiny_patch16_224", {"patch_size": (8, 12), "dynamic_img_size": True}, 24),  # of both sides
    ],
)
def test_open_sizes_of_a_model_of_tokens_are_multiples_of_its_patch(name, arguments, stride):
    model = smpf.create(f"timm/{name}", classes=3, feedback=smpf.Recurrent(steps=2), depth=1, **arguments)
    served = Served(model)
    plan = make_plan(served, None, True)
    assert (plan.tried[0], plan.refused) == (("batch", "height", "width"), None)
    named = named_axes(plan.shape, plan.tried[0], served.strides["image"])
    assert named == ("batch", 3, f"{stride}*height", f"{stride}*width")


@torch.no_grad()
def test_a_model_of_half_precision_is_held_to_its_own_digits(tmp_path):
    model, image = Small().eval().half(), torch.rand(3, 3, 20, 12).half()
    written = smpf.export(model, tmp_path / "model.onnx", image=SMALL)
    assert 0 < written.difference < 1e-2
    got = in_onnxruntime(written, image)["logits"]
    assert got.dtype == torch.float16
    assert_close(got.double(), model.double()(image.double()), 1e-2)
    assert onnxruntime.InferenceSession(written).get_modelmeta().custom_metadata_map["dtype"] == "float16"


def test_a_model_too_deep_for_half_precision_is_told_so(tmp_path, monkeypatch):
    kind = formats.FORMATS["pt2"]

    def slightly_wrong(path):
        run = kind.open(path)
        return lambda image: [answer + 0.02 for answer in run(image)]

    monkeypatch.setitem(formats.FORMATS, "pt2", kind._replace(open=slightly_wrong))
    with pytest.raises(ExportError, match=r"expected 1e-02 at most; float16 is too coarse .* model.float\(\)") as said:
        smpf.export(Small().eval().half(), tmp_path / "model.pt2")
    assert "fixed size" not in str(said.value)


@pytest.mark.parametrize("kind", ["bfloat16", "double"])
def test_what_onnxruntime_does_not_run_is_refused_before_any_work(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "trace", lambda *_: pytest.fail("work began"))
    model = getattr(Small().eval(), kind)()
    with pytest.raises(InvalidValue, match=r"in which onnxruntime .* runs no .*\(--precision half\), or a .pt2"):
        smpf.export(model, tmp_path / "model.onnx", image=SMALL)


def test_a_model_of_bfloat16_is_a_program(tmp_path):
    written = smpf.export(Small().eval().bfloat16(), tmp_path / "model.pt2", image=SMALL, dynamic=False)
    assert formats.open_program(written.path)(SMALL.bfloat16())[0].dtype == torch.bfloat16


@torch.no_grad()
@pytest.mark.sweep
def test_an_axis_on_which_the_file_fails_is_fixed(tmp_path):
    model = small(AsWide())
    with pytest.raises(
        ExportError, match=r"A fixed size may do: give an image of the size to serve, image=torch.rand\(1, 3, H, W\)"
    ):
        smpf.export(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
    written = smpf.export(model, tmp_path / "model.onnx", image=SMALL)
    assert written.image == ("batch", 3, 16, 16)
    assert written.refused
    image = torch.rand(5, 3, 16, 16)
    assert_close(in_onnxruntime(written, image)["logits"], model(image))


@torch.no_grad()
@pytest.mark.parametrize(("dynamic", "axes"), [("batch", ("batch", 3, 16, 16)), (False, (1, 3, 16, 16))])
def test_what_shall_be_fixed_is_fixed(dynamic, axes, tmp_path):
    model = small()
    written = smpf.export(model, tmp_path / "model.pt2", image=SMALL, dynamic=dynamic)
    assert (written.image, written.refused) == (axes, None)
    assert_close(formats.open_program(written.path)(SMALL)[0], model(SMALL), 1e-5)
    with pytest.raises(InvalidValue, match="fixes the size: give an image"):
        smpf.export(model, tmp_path / "model.pt2", dynamic=dynamic)


def test_a_file_that_answers_otherwise_raises_and_leaves_the_old_one_whole(tmp_path, monkeypatch):
    kind = formats.FORMATS["pt2"]

    def slightly_wrong(path):
        run = kind.open(path)
        return lambda image: [answer + 1e-3 for answer in run(image)]

    monkeypatch.setitem(formats.FORMATS, "pt2", kind._replace(open=slightly_wrong))
    (tmp_path / "model.pt2").write_text("old")
    with pytest.raises(
        ExportError, match=r"its logits differ from the model's by .*e-0. of the largest, expected 1e-05"
    ):
        smpf.export(small(), tmp_path / "model.pt2", image=SMALL, dynamic=False)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("model.pt2", "old")]
    smpf.export(small(), tmp_path / "model.pt2", image=SMALL, dynamic=False, check=False)


def test_a_full_disk_raises_at_once_and_leaves_the_old_file_whole(tmp_path, monkeypatch):
    tries = []

    def crash(program, path, *_):
        tries.append(path.write_text("half"))
        raise OSError("no space left on device")

    monkeypatch.setitem(formats.FORMATS, "pt2", formats.FORMATS["pt2"]._replace(write=crash))
    (tmp_path / "model.pt2").write_text("old")
    with pytest.raises(OSError, match="no space"):
        smpf.export(small(), tmp_path / "model.pt2", image=SMALL)
    assert len(tries) == 1
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("model.pt2", "old")]


def test_the_model_is_left_as_it_is(tmp_path):
    model = small().train()
    model.norm.eval()
    modes, weights = [m.training for m in model.modules()], copy.deepcopy(model.state_dict())
    smpf.export(model, tmp_path / "model.pt2", image=SMALL, dynamic=False)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@torch.no_grad()
@pytest.mark.sweep
def test_auto_is_a_number_in_the_file(tmp_path):
    model = small(steps="auto", tau=1.0)
    written = smpf.export(model, tmp_path / "model.pt2", image=SMALL, dynamic=False)
    assert written.steps == model.feedback.steps() > 2
    assert_close(formats.open_program(written.path)(SMALL)[0], model(SMALL), 1e-5)


@pytest.mark.sweep
def test_the_opset_is_the_one_asked_for(tmp_path):
    path = smpf.export(small(), tmp_path / "model.onnx", image=SMALL, dynamic=False, opset=20).path
    assert {imported.domain: imported.version for imported in onnx.load(path).opset_import}[""] == 20


@pytest.mark.parametrize(
    ("path", "options", "error", "says"),
    [
        ("model.onx", {}, FeedbackError, "Did you mean 'onnx'"),
        ("model", {}, FeedbackError, "ends in .onnx or .pt2"),
        ("model.onnx", {"format": "pt2"}, InvalidValue, "the suffix says 'onnx'"),
        ("model.pt2", {"format": "tensorrt"}, FeedbackError, "There is: onnx, pt2"),
        ("nowhere/model.onnx", {}, InvalidValue, "nowhere is no directory"),
        (3, {}, InvalidType, "path=3"),
        ("model.onnx", {"steps": 0}, InvalidValue, "steps=0: expected a whole number >= 1"),
        ("model.onnx", {"outputs": "lst"}, InvalidValue, "outputs='lst': Did you mean 'last'"),
        ("model.onnx", {"dynamic": "size"}, InvalidValue, "dynamic='size': expected True, 'batch' or False"),
        ("model.onnx", {"check": 3}, InvalidType, "check=3"),
        ("model.onnx", {"opset": 9}, InvalidValue, "opset=9: expected 18 or more"),
        ("model.pt2", {"opset": 18}, InvalidValue, "opset=18 is ONNX's"),
        ("model.onnx", {"image": [1, 3, 16, 16]}, InvalidType, "image is a list"),
        ("model.onnx", {"image": torch.rand(3, 16, 16)}, InvalidInput, "rank 4"),
        ("model.onnx", {"image": torch.rand(1, 4, 16, 16)}, InvalidInput, "4 channels: expected 3"),
        ("model.onnx", {"image": torch.rand(0, 3, 16, 16)}, InvalidInput, "is empty"),
    ],
)
def test_what_cannot_be_meant_raises_before_any_work(path, options, error, says, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "trace", lambda *_: pytest.fail("work began"))
    with pytest.raises(error, match=says):
        smpf.export(small(), tmp_path / path if isinstance(path, str) else path, **options)
    assert not list(tmp_path.iterdir())


def test_a_size_that_the_base_cannot_read_raises_with_the_one_that_it_can(tmp_path):
    with pytest.raises(InvalidInput, match=r"shape \(1, 3, 65, 64\).*divisible by 32.*\(96, 64\)"):
        smpf.export(smpf.create("FPN", "resnet18", None), tmp_path / "model.onnx", image=torch.rand(1, 3, 65, 64))


def test_a_place_where_nothing_can_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(InvalidValue, match="is a directory"):
        smpf.export(small(), tmp_path / "model.onnx")
    monkeypatch.setattr(exporting.os, "access", lambda path, mode: False)
    with pytest.raises(InvalidValue, match="is not writable"):
        smpf.export(small(), tmp_path / "other.onnx")


def test_what_is_no_model_is_said(tmp_path):
    with pytest.raises(InvalidType, match="model is a str"):
        smpf.export("Unet", tmp_path / "model.onnx")


@pytest.mark.parametrize(("field", "value"), [("tolerance", 0.01), ("init_std", 0.1)])
def test_a_loop_that_is_no_fixed_graph_is_refused_with_the_way_out(field, value, tmp_path):
    model = small(**{field: value})
    with pytest.raises(InvalidValue, match=rf"{field}={value}.*dataclasses.replace\(model.loop_config, {field}="):
        smpf.export(model, tmp_path / "model.pt2", image=SMALL)
    default = getattr(smpf.Recurrent(), field)
    model.feedback.config = dataclasses.replace(model.loop_config, **{field: default})
    smpf.export(model, tmp_path / "model.pt2", image=SMALL, dynamic=False)


@torch.no_grad()
def test_a_rule_of_a_call_is_refused_and_its_model_served_at_a_number(tmp_path):
    """The rule is the call's and not the model's: at as many looks as an image took, the graph answers as the rule."""
    model, image = small(dynamics="leaky", tau=4.0), torch.rand(*SMALL.shape)
    for step in model.iterate(image, rule := smpf.until_settled(2, at_most=9)):  # noqa: B007
        pass
    with pytest.raises(InvalidValue, match=r"steps=until_settled\(2, at_most=9\): each image stops.*steps=9"):
        smpf.export(model, tmp_path / "model.pt2", image=SMALL, steps=rule)
    assert list(tmp_path.iterdir()) == []
    assert not model.loop_config.is_data_dependent
    served = Served(model, steps=step.looks.item())
    assert_close(served(image), model(image, steps=rule))


@pytest.mark.parametrize("library", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_library_is_named_with_its_extra(library, tmp_path, monkeypatch):
    monkeypatch.setattr(errors, "find_spec", lambda name: None if name == library else name)
    with pytest.raises(MissingExtra, match=rf'needs {library}: pip install "smp_feedback\[export\]"'):
        smpf.export(small(), tmp_path / "model.onnx", image=SMALL)
    smpf.export(small(), tmp_path / "model.pt2", image=SMALL, dynamic=False)


def test_export_is_a_function_whatever_was_imported_before():
    for module in pkgutil.walk_packages(smpf.__path__, "smp_feedback."):
        importlib.import_module(module.name)
    assert smpf.export is exporting.export
