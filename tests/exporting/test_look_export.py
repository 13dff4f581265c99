"""One look in a file: a state of zeros is the first look, and going on from its own states is going on by look."""

from __future__ import annotations

import json

import onnxruntime
import pytest
import torch
from torch import nn

import smp_feedback as smpf
from smp_feedback.dynamics import Gated
from smp_feedback.errors import ExportError, InvalidType, InvalidValue
from smp_feedback.exporting import export as exporting
from smp_feedback.exporting import formats
from smp_feedback.exporting.axes import make_plan
from smp_feedback.exporting.looking import ServedLook
from smp_feedback.registry.public import catalogue

SMALL = torch.rand(1, 3, 16, 16)
CARRYING = [name for name, rule in catalogue().dynamics.items() if rule.carries]
OTHERS = [name for name in catalogue().dynamics if name not in CARRYING]


class Small(nn.Module):
    """Two convolutions and a BatchNorm."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Conv2d(6, 3, 1)

    def forward_features(self, image):
        return self.norm(self.stem(image)).relu()

    def forward_head(self, features):
        return self.head(features)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


def in_use(model):
    """The feedback heard, and every look's statistics its own."""
    with torch.no_grad():
        for reader in model.feedback.readers:
            nn.init.normal_(reader.weight, std=0.5)
        for rule in (module for module in model.modules() if isinstance(module, Gated)):
            nn.init.normal_(rule.gate.weight)
        for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
            nn.init.normal_(norm.bias)
        for rows in model.feedback.statistics:
            rows.running_mean.copy_(torch.randn_like(rows.running_mean))
            rows.running_var.copy_(rows.running_var.clone().uniform_(0.5, 2))
    return model.eval()


def small(**config):
    return in_use(smpf.wrap(Small(), smpf.Recurrent(**{"dynamics": "gated", "steps": 3, **config})))


def looks(model, frames, began=0):
    """What look gives of one frame after another, without the graph."""
    step = None
    for frame in frames[began:]:
        step = model.look(frame, step)
        yield step


def assert_close(got, wanted, tolerance=1e-4):
    torch.testing.assert_close(got, wanted, atol=tolerance * max(1, float(wanted.abs().max())), rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("statistics", ["per_step", "shared"])
@pytest.mark.parametrize("projection", sorted(catalogue().projections))
@pytest.mark.parametrize("dynamics", CARRYING)
def test_the_graph_looks_as_the_model_does_from_a_state_of_zeros_on(dynamics, projection, statistics):
    model = small(dynamics=dynamics, projection=projection, statistics=statistics)
    graph, frames = ServedLook(model), torch.rand(5, 2, 3, 12, 16)
    state = graph.zeros((2, 3, 12, 16))
    assert not state.any()
    for frame, step in zip(frames, looks(model, frames), strict=True):
        logits, state = graph(frame, state)
        assert_close(logits, step.logits, 1e-5)
        assert_close(state[:, :-1], step.state, 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("statistics", ["per_step", "shared"])
def test_the_graph_begins_a_dirichlet_state_where_the_model_does(statistics):
    model = small(output="dirichlet", statistics=statistics)
    graph, frames = ServedLook(model), torch.rand(3, 1, 3, 12, 16)
    state = graph.zeros((1, 3, 12, 16))
    for frame, step in zip(frames, looks(model, frames), strict=True):
        logits, state = graph(frame, state)
        assert_close(logits, step.logits, 1e-5)


@torch.no_grad()
def test_a_stream_whose_state_is_zeroed_begins_anew_and_the_others_go_on():
    model = small(projection="probabilities")
    graph, frames = ServedLook(model), torch.rand(6, 3, 3, 12, 16)
    state, gone_on, anew = graph.zeros((3, 3, 12, 16)), list(looks(model, frames)), list(looks(model, frames, 2))
    for t, frame in enumerate(frames):
        if t == 2:
            state[1] = 0
        logits, state = graph(frame, state)
        assert_close(logits[[0, 2]], gone_on[t].logits[[0, 2]], 1e-5)
        if t >= 2:
            assert_close(logits[1], anew[t - 2].logits[1], 1e-5)
            assert (logits[1] - gone_on[t].logits[1]).abs().max() > 1e-3 or t > 2, "nothing was tested"


@torch.no_grad()
def test_a_state_counts_no_further_than_statistics_are_told_apart():
    graph = ServedLook(small(steps=3))
    state, counts = graph.zeros((1, 3, 12, 16)), []
    for _ in range(4):
        _, state = graph(torch.rand(1, 3, 12, 16), state)
        counts.append(state[:, -1].unique().tolist())
    assert counts == [[1], [2], [2], [2]], "one for the first look, one for each later row"


def test_one_look_in_onnx_reproduces_look_over_a_film_with_streams(tmp_path):
    model = small(projection="probabilities")
    written = smpf.export(model, tmp_path / "look.onnx", look=True, image=SMALL)
    assert (written.image, written.state) == (("batch", 3, "height", "width"), ("batch", 7, "height", "width"))
    assert written.outputs == ("logits", "next_state")
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    assert [one.shape for one in session.get_inputs()] == [list(written.image), list(written.state)]
    facts = session.get_modelmeta().custom_metadata_map
    about = json.loads(facts["state"])
    assert (about["shape"], about["of_image"]) == ([1, 7, 16, 16], [1, 3, 16, 16])
    assert (about["channels"], about["stride"], about["dtype"]) == (7, [1, 1], "float32")
    assert facts["reading"] == "argmax"
    assert json.loads(facts["data"])["mean"] is None
    frames = torch.rand(5, 2, 3, 20, 12)
    state = torch.zeros(2, 7, 20, 12).numpy()
    with torch.no_grad():
        for frame, step in zip(frames, looks(model, frames), strict=True):
            logits, state = session.run(None, {"image": frame.numpy(), "state": state})
            assert_close(torch.from_numpy(logits), step.logits)


@torch.no_grad()
@pytest.mark.sweep
@pytest.mark.parametrize("kind", ["onnx", "pt2"])
@pytest.mark.parametrize("dynamics", CARRYING)
def test_one_look_is_a_file_of_each_format(dynamics, kind, tmp_path):
    model = small(dynamics=dynamics, projection="answer+state")
    written = smpf.export(model, tmp_path / f"look.{kind}", look=True, image=SMALL)
    run, frames = formats.FORMATS[kind].open(written.path), torch.rand(4, 3, 3, 20, 12)
    state = torch.zeros(3, written.state[1], 20, 12)
    for frame, step in zip(frames, looks(model, frames), strict=True):
        logits, state = run(frame, state)
        assert_close(logits, step.logits)


@torch.no_grad()
@pytest.mark.sweep
@pytest.mark.parametrize("arch", ["DeepLabV3Plus", "Segformer"])
def test_one_look_of_smps_own_keeps_its_sizes_open(arch, tmp_path):
    labels = {"aux_params": {"classes": 5}}
    loop = smpf.Recurrent(steps=2, dynamics="leaky", tau=2.0)
    model = in_use(smpf.create(arch, "tu-test_resnet", None, classes=3, feedback=loop, **labels))
    written = smpf.export(model, tmp_path / "look.onnx", look=True, image=torch.rand(1, 3, 64, 64))
    assert "height" in str(written.image), written.refused
    assert "height" in str(written.state)
    assert written.outputs == ("logits", "labels", "next_state")
    run, frames = formats.open_onnx(written.path), torch.rand(3, 1, 3, 96, 128)
    state = ServedLook(model).zeros((1, 3, 96, 128))
    for frame, step in zip(frames, looks(model, frames), strict=True):
        logits, labels, state = run(frame, state)
        assert_close(logits, step.logits)
        assert_close(labels, step.labels)


@torch.no_grad()
@pytest.mark.sweep
def test_one_look_of_half_precision_keeps_its_state_in_single(tmp_path):
    model = small(projection="state").half()
    written = smpf.export(model, tmp_path / "look.onnx", look=True, image=SMALL)
    assert 0 < written.difference < 1e-2
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    assert [one.type for one in session.get_inputs()] == ["tensor(float16)", "tensor(float)"]


def test_a_look_that_answers_otherwise_raises_and_leaves_no_file(tmp_path, monkeypatch):
    """Right at the first frame and wrong at the second: only a comparison over frames sees it."""
    kind = formats.FORMATS["pt2"]

    class Forgetful(ServedLook):
        def forward(self, image, state):
            return super().forward(image, 0 * state)

    monkeypatch.setattr(exporting, "ServedLook", Forgetful)
    with pytest.raises(ExportError, match=r"its logits differ from the model's by .* expected 1e-05"):
        smpf.export(small(), tmp_path / "look.pt2", look=True, image=SMALL, dynamic=False)
    assert not list(tmp_path.iterdir())
    assert kind is formats.FORMATS["pt2"]


@pytest.mark.parametrize("dynamics", OTHERS)
def test_dynamics_that_carry_nothing_are_refused_with_those_that_do(dynamics, tmp_path):
    with pytest.raises(InvalidValue, match=rf"dynamics='{dynamics}'.*take dynamics=.*leaky"):
        smpf.export(small(dynamics=dynamics), tmp_path / "look.pt2", look=True, image=SMALL)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"look": 1}, InvalidType, "look=1"),
        ({"look": True, "steps": 2}, InvalidValue, "steps=2: the file is one look"),
        ({"look": True, "outputs": "all"}, InvalidValue, "outputs='all': the file is one look"),
        ({"look": True, "dynamic": False}, InvalidValue, "fixes the size: give an image"),
    ],
)
def test_what_one_look_cannot_be_asked_raises_before_any_work(options, error, says, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "trace", lambda *_: pytest.fail("work began"))
    with pytest.raises(error, match=says):
        smpf.export(small(), tmp_path / "look.pt2", **options)
    assert not list(tmp_path.iterdir())


def test_what_keeps_no_state_is_refused_by_its_name(tmp_path):
    for model, says in (
        (Small(), "a plain Small keeps no state"),
        (small(init_std=0.1), "init_std=0.1: every call draws another first state"),
    ):
        with pytest.raises(InvalidValue, match=says):
            smpf.export(model, tmp_path / "look.pt2", look=True, image=SMALL)


def test_a_state_of_tokens_closes_the_size_and_is_asked_for_one():
    model = smpf.create("timm/vit_tiny_patch16_224", classes=3, feedback={"dynamics": "gated"}, img_size=64, depth=1)
    served = ServedLook(model)
    assert model.recurrent.placeless is not None
    with pytest.raises(InvalidValue, match=r"one of tokens.*give an image of the size to serve"):
        make_plan(served, None, True)
    plan = make_plan(served, torch.rand(1, 3, 64, 64), True)
    assert plan.tried == [("batch",), ()]
