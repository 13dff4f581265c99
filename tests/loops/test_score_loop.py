"""The score loop: the published update, which images stop when, and what every looping model promises."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from conftest import GOLDEN, a_few
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.config.base import GradientFlow
from smp_feedback.errors import FeedbackError, InvalidInput, InvalidType, InvalidValue, SurgeryError
from smp_feedback.loops.score.update import Refinement, norm_of, update
from smp_feedback.loops.unroll import unroll
from smp_feedback.registry.public import catalogue
from smp_feedback.testing import check_loop, conformance

needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden arrays are not part of the project")
SMALL = {"arch": "Unet", "encoder": "tu-test_resnet", "encoder_weights": None, "decoder_channels": (16, 16, 8, 8, 8)}
SMOOTH = {"steps": 3, "filters": 4, "additional_pools": 1, "unpooling": "nearest"}  # no maximum to change by rounding
TINY = smpf.Score(filters=4, additional_pools=1, steps=4)


def create(feedback=TINY, **more):
    return smpf.create(**{**SMALL, "classes": 3, **more, "feedback": feedback})


def published(h, y, w, b, step, steps, tolerance, soft=True):
    """Section i of the golden arrays' README in NumPy, one image: every y, and every norm."""
    path, norms = [y], []
    for _ in range(steps):
        z = np.pad(np.concatenate([h, y]), ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(z, (3, 3), axis=(1, 2))
        r = np.einsum("chwij,kcij->khw", windows, w) + b[:, None, None]
        if soft:
            r = np.exp(r - r.max(0)) / np.exp(r - r.max(0)).sum(0)
        gradient = y - r
        y = np.clip(y - step * gradient, 0, 1)
        path.append(y)
        norms.append(np.sqrt((gradient**2).sum(0)).mean())
        if norms[-1] < tolerance:
            break
    return np.stack(path), np.array(norms)


def stub(w, b, soft=True):
    def reconstruct(y, conditions):
        r = F.conv2d(torch.cat([*conditions, y], 1), w, b, padding=1)
        return r.softmax(1) if soft else r

    return reconstruct


def turned(h, y, w, b, step, steps, tolerance, *, leaves_out, soft=True):
    turn = Refinement(stub(w, b, soft), (h,), step, tolerance, leaves_out)
    return [one for _, one in unroll(turn, y, steps=steps, flow=GradientFlow())]


def case(seed, images=3, k=4):
    rng = np.random.default_rng(seed)
    h, logits = rng.normal(size=(images, 2, 5, 6)), rng.normal(size=(images, k, 5, 6))
    logits *= np.array([0.1, 1.0, 5.0])[:images, None, None, None]  # nearer and farther from rest
    y = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return h, y, rng.normal(size=(k, 2 + k, 3, 3)) * 0.3, rng.normal(size=k)


# --- the update


@needs_golden
@pytest.mark.parametrize("leaves_out", [False, True])
def test_the_golden_updates_norms_and_stops(leaves_out):
    a = {key: torch.from_numpy(value) for key, value in np.load(GOLDEN / "i_iterative_inference.npz").items()}
    about = json.loads((GOLDEN / "index.json").read_text())["i_iterative_inference"]["meta"]
    assert torch.allclose(stub(a["W"], a["b"])(a["y0"], [a["h"]]), a["dae_y0"], atol=1e-6)
    for i, step in enumerate(about["steps"]):
        told = (a["h"], a["y0"], a["W"], a["b"], step, about["max_iter"], about["eps_stop"])
        path = turned(*told, leaves_out=leaves_out)
        norms = torch.stack([one.more.norm for one in path], 1)
        counts = (~norms.isnan()).sum(1)
        assert counts.tolist() == a["n_updates"][i].tolist()
        assert torch.allclose(norms, a["norms"][i], rtol=2e-4, equal_nan=True)
        assert torch.allclose(path[-1].state, a["y_final"][i], atol=2e-5)
        if step == 0.1:
            seen = torch.stack([a["y0"], *(one.state for one in path)])[: len(a["seq"]), 0]
            assert torch.allclose(seen, a["seq"], atol=1e-5)


@needs_golden
def test_the_golden_clipping():
    a = {key: torch.from_numpy(value) for key, value in np.load(GOLDEN / "i_iterative_inference.npz").items()}
    y = a["seq_clip"][:1]
    told = (a["h"][:1], y, 2 * a["W"], a["b"], 0.5, len(a["seq_clip"]) - 1, None)
    path = turned(*told, leaves_out=False, soft=False)
    assert torch.allclose(torch.cat([y, *(one.state for one in path)]), a["seq_clip"], atol=1e-5)
    assert (path[-1].state == 0).any(), "nothing was clipped"


@pytest.mark.parametrize("leaves_out", [False, True])
@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("step", [0.05, 0.5, 1.0, 1.7])
def test_updates_are_those_of_our_own_derivation(step, soft, leaves_out):
    h, y, w, b = case(0)
    expected = [published(h[i], y[i], w, b, step, 30, 0.05, soft) for i in range(len(h))]
    tensors = [torch.from_numpy(x) for x in (h, y, w, b)]
    path = turned(*tensors, step, 30, 0.05, leaves_out=leaves_out, soft=soft)
    for i, (states, norms) in enumerate(expected):
        for t, one in enumerate(path):
            last = min(t + 1, len(states) - 1)
            assert np.allclose(one.state[i], states[last], atol=1e-10)
            assert np.allclose(one.more.norm[i], norms[t] if t < len(norms) else np.nan, equal_nan=True)
    if soft and step == 0.5:
        assert len({len(norms) for _, norms in expected}) > 1, "all stopped at once: nothing was left out"


def test_stopped_images_are_left_out_of_the_work_on_a_cpu():
    h, y, w, b = (torch.from_numpy(x) for x in case(0))
    seen = []

    def counted(y, conditions):
        seen.append(len(y))
        assert all(len(x) == len(y) for x in conditions)
        return stub(w, b)(y, conditions)

    turn = Refinement(counted, (h,), 0.5, 0.05, leaves_out=True)
    path = [one for _, one in unroll(turn, y, steps=30, flow=GradientFlow())]
    moving = [int((~one.more.norm.isnan()).sum()) for one in path]
    assert len(path) == 30
    assert seen == [n for n in moving if n]
    assert moving[0] == 3
    assert moving[-1] == 0


def test_the_score_of_a_stopped_image_is_zero_masked_or_left_out():
    h, y, w, b = (torch.from_numpy(x) for x in case(0))
    for leaves_out in (False, True):
        last = turned(h, y, w, b, 0.5, 30, 0.05, leaves_out=leaves_out)[-1]
        assert last.more.norm.isnan().all()
        assert not last.more.score.any()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(0.01, 1.0))
def test_a_prediction_stays_a_distribution_for_steps_up_to_one(seed, step):
    h, y, w, b = (torch.from_numpy(x) for x in case(seed, images=1))
    for one in turned(h, y, w, b, step, 5, None, leaves_out=False):
        assert torch.allclose(one.state.sum(1), torch.ones(()).double())
        assert one.state.min() >= 0


def test_a_step_of_one_is_the_reconstruction_itself():
    y, r = torch.rand(1, 3, 2, 2).softmax(1), torch.rand(1, 3, 2, 2).softmax(1)
    after, score = update(y, r, 1.0)
    assert torch.allclose(after, r)
    assert torch.equal(score, r - y)


def test_geometric_approach_of_a_fixed_reconstruction():
    y, r = torch.rand(2, 3, 4, 4).double().softmax(1), torch.rand(2, 3, 4, 4).double().softmax(1)
    turn = Refinement(lambda y, c: r.expand_as(y), (), 0.2)
    path = [one for _, one in unroll(turn, y, steps=7, flow=GradientFlow())]
    assert torch.allclose(path[-1].state, r + 0.8**7 * (y - r))
    assert torch.allclose(path[-1].more.norm, 0.8**6 * norm_of(r - y))


# --- the model


@pytest.mark.parametrize("name", [None, smpf.Recurrent(steps=2)])
def test_it_keeps_the_promises_of_a_loop(name):
    check_loop("score", **SMOOTH, base=name)


def test_without_an_update_it_is_the_plain_model():
    image = torch.rand(2, 3, 64, 64)
    plain = smp.Unet("resnet18", encoder_weights=None, classes=3).eval()
    model = smpf.wrap(plain, TINY).eval()
    with torch.no_grad():
        assert torch.equal(model(image, steps=0), plain(image))
        assert torch.equal(model.choose(step=0.1, steps=0)(image), plain(image))
        (only,) = model.iterate(image)
        assert torch.equal(only.logits, plain(image))
        assert torch.equal(model.trajectory(image)[0], plain(image))
    plain.load_state_dict(model.feedforward_state_dict(), strict=True)


def test_it_is_the_update_of_the_softmax_by_what_the_autoencoder_answers():
    image, model = torch.rand(2, 3, 64, 64), create().eval()
    with torch.no_grad():
        begun = model.begin(image)
        y = model(image, steps=0).softmax(1)
        assert torch.allclose(begun.y, y)
        for step in model.iterate(image, steps=3):
            y = update(y, model.reconstruct(y, begun.features).softmax(1), 0.1)[0]
            assert torch.allclose(step.state, y, atol=1e-6)
            assert torch.allclose(step.logits.softmax(1), y, atol=1e-6)
        assert torch.allclose(model(image, steps=3), step.logits)


def test_temperature_softens_the_first_prediction():
    image = torch.rand(1, 3, 64, 64)
    model = create(replace(TINY, temperature=2.0)).eval()
    with torch.no_grad():
        assert torch.allclose(model.begin(image).y, (model(image, steps=0) / 2).softmax(1))


def test_a_single_class_is_refined_as_two():
    image, model = torch.rand(1, 3, 64, 64), create(classes=1).eval()
    with torch.no_grad():
        begun = model.begin(image)
        assert torch.allclose(begun.y[:, 1:], begun.logits.sigmoid(), atol=1e-6)
        step = next(iter(model.refine(begun, step=0.5, steps=1)))
        r = model.reconstruct(begun.y, begun.features).softmax(1)
        assert step.logits.shape == (1, 1, 64, 64)
        assert torch.allclose(step.logits.sigmoid(), (0.5 * (begun.y + r))[:, 1:], atol=1e-5)


def test_the_base_runs_once_and_the_autoencoder_once_a_step():
    model, calls = create(replace(TINY, tolerance=None)).eval(), []
    for name in ("encoder", "decoder", "segmentation_head"):
        getattr(model, name).register_forward_hook(lambda *_, name=name: calls.append(name))
    model.feedback.autoencoder.register_forward_hook(lambda *_: calls.append("autoencoder"))
    with torch.no_grad():
        model(torch.rand(1, 3, 64, 64), steps=5)
    assert calls == ["encoder", "decoder", "segmentation_head"] + 5 * ["autoencoder"]


def test_no_graph_is_kept_in_inference():
    image, model = torch.rand(1, 3, 64, 64), create()
    assert model.predict(image).grad_fn is None
    with torch.no_grad():
        assert all(step.state.grad_fn is None and step.norm.grad_fn is None for step in model.iterate(image))
    begun = model.begin(image)
    for x in (begun.y, *begun.features):
        assert x.grad_fn is None, "a frozen base needs no graph"


def test_energy_falls_by_the_step_times_the_squared_score():
    image, model = torch.rand(2, 3, 64, 64), create().eval()
    with torch.no_grad():
        for step in model.refine(model.begin(image), step=0.25, steps=2):
            score = (step.state - step._update.before) / 0.25
            assert torch.allclose(step.energy, -0.25 * score.square().sum(1).mean((1, 2)), rtol=1e-3)
            assert torch.allclose(step.norm, score.norm(dim=1).mean((1, 2)), rtol=1e-3)


def test_a_frozen_base_stays_as_it_is_in_training():
    model = create(replace(TINY, noise_level=0.1)).train()
    assert model.training
    assert model.feedback.autoencoder.training
    assert not any(m.training for m in model.encoder.modules())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model(torch.rand(2, 3, 64, 64)).square().mean().backward()
    learns = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learns
    assert all(name.startswith("feedback.autoencoder.") for name in learns)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    free = create(replace(TINY, freeze=False)).train()
    assert all(m.training for m in free.modules())
    free(torch.rand(2, 3, 64, 64)).square().mean().backward()
    assert all(p.grad is not None for p in free.segmentation_head.parameters())


def test_no_image_stops_in_training():
    image, model = torch.rand(2, 3, 32, 32), create(replace(TINY, noise="none", tolerance=10.0))
    with torch.no_grad():
        stopped = [
            [bool(step.norm.isnan().all()) for step in model.train(mode).iterate(image)] for mode in (False, True)
        ]
    assert stopped == [[False, True, True, True], 4 * [False]]


@pytest.mark.parametrize("flow", [{"grad_steps": 1}, {"detach": True}, {"recompute": True}, {}])
def test_gradients_flow_through_time_as_told(flow):
    image = torch.rand(1, 3, 32, 32)
    model = create(replace(TINY, noise="none", tolerance=None, **flow)).train()
    last = [*model.iterate(image, steps=3)][-1]
    last.logits.square().mean().backward()
    ours = [p.grad.clone() for p in model.feedback.parameters()]
    model.zero_grad()
    begun = model.begin(image)
    y = begun.y
    for t in range(3):
        if flow.get("detach") or (flow.get("grad_steps") and t < 2):
            with torch.set_grad_enabled(bool(flow.get("detach"))):
                y = y.detach()
        y = update(y, model.reconstruct(y, begun.features).softmax(1), 0.1)[0]
        if flow.get("grad_steps") and t < 2:
            y = y.detach()
    model.feedback.logits_of(y).square().mean().backward()
    for found, p in zip(ours, model.feedback.parameters(), strict=True):
        assert torch.allclose(found, p.grad, atol=1e-6, rtol=1e-3)


def test_a_step_that_is_run_again_is_counted_once():
    image = torch.rand(2, 3, 32, 32)
    config = replace(TINY, noise="none", batch_norm=True, steps=3)
    once, again = create(config).train(), create(replace(config, recompute=True)).train()
    again.load_state_dict(once.state_dict())
    for model in (once, again):
        model(image).square().mean().backward()
    for key, value in once.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    for p, q in zip(once.feedback.parameters(), again.feedback.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, atol=1e-6, rtol=1e-4)


def test_each_steps_loss_may_be_sent_back_by_itself():
    image = torch.rand(1, 3, 32, 32)
    model = create(replace(TINY, noise="none", detach=True, steps=3)).train()
    torch.stack([step.logits.square().mean() for step in model.iterate(image)]).sum().backward()
    expected = [p.grad.clone() for p in model.feedback.parameters()]
    model.zero_grad()
    losses = model.backward_per_step(image, lambda step: step.logits.square().mean())
    assert losses.shape == (3,)
    for found, p in zip(expected, model.feedback.parameters(), strict=True):
        assert torch.allclose(found, p.grad, atol=1e-6, rtol=1e-3)


# --- what conditions it


def test_features_are_what_the_base_gave():
    image = torch.rand(1, 3, 64, 64)
    names = ("stage:2", "input", "output", "encoder.model.layer3", "decoder.blocks.0")
    model = create(replace(TINY, features=names)).eval()
    with torch.no_grad():
        found = dict(zip(names, model.begin(image).features, strict=True))
        stages = model.encoder(image)
        assert torch.equal(found["stage:2"], stages[2])
        assert found["input"] is image
        assert torch.equal(found["output"], model.decoder(stages))
        assert torch.equal(model.segmentation_head(found["output"]), model(image, steps=0))
        heard = []
        hook = model.get_submodule("encoder.model.layer3").register_forward_hook(lambda *c: heard.append(c[2]))
        model.encoder(image)
        hook.remove()
        assert torch.equal(found["encoder.model.layer3"], heard[0])


def test_the_usual_feature_is_the_stage_of_stride_16():
    model = create()
    assert [source.name for source in model.feedback.sources] == ["stage:4"]
    context = create(smpf.Score(autoencoder="context"))
    assert [source.name for source in context.feedback.sources] == ["input"]
    shallow = create(encoder_depth=3, decoder_channels=(16, 16, 8))
    assert [source.name for source in shallow.feedback.sources] == ["stage:3"]


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (["stage:9"], r"'stage:9': This Unet has stage:1, stage:2, .*'input', 'output'"),
        (["stage:x"], r"'stage:x': This Unet has stage:1"),
        (["encoder.model.layer9"], r"no module of this Unet is called that\. Did you mean .*layer"),
        (["relu"], r"features: 'relu'"),
    ],
)
def test_a_missing_feature_is_explained(features, words):
    with pytest.raises(SurgeryError, match=words):
        create(replace(TINY, features=features))


class Lonely(nn.Module):
    """A base with a module that never runs, and one that gives no map."""

    def __init__(self):
        super().__init__()
        self.trunk, self.idle, self.pool = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1)
        self.flat, self.last = nn.Flatten(), nn.Conv2d(4, 3, 1)

    def forward_features(self, image):
        x = self.trunk(image)
        return x + self.flat(self.pool(x))[:, :, None, None]

    def forward_head(self, features):
        return self.last(features)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


def test_features_of_a_base_without_encoder():
    image = torch.rand(2, 3, 16, 16)
    model = smpf.wrap(Lonely(), TINY).eval()
    with torch.no_grad():
        assert torch.equal(model.begin(image).features[0], model.forward_features(image))
    with pytest.raises(SurgeryError, match=r"'idle' did not run"):
        smpf.wrap(Lonely(), replace(TINY, features=("idle",)))
    with pytest.raises(SurgeryError, match=r"'flat' gives \(1, 4\); expected a map"):
        smpf.wrap(Lonely(), replace(TINY, features=("flat",)))


class Windows(Lonely):
    """A base that works on the halves of its image."""

    def __init__(self):
        super().__init__()
        self.halves = nn.Identity()

    def forward_features(self, image):
        return torch.cat(self.halves(torch.cat(self.trunk(image).chunk(2, 2))).chunk(2), 2)


def test_a_feature_is_of_the_image_and_not_of_its_windows():
    with pytest.raises(SurgeryError, match=r"'halves' gives 2 maps for 1 images"):
        smpf.wrap(Windows(), replace(TINY, features=("halves",)))


def test_threads_take_notes_of_their_own():
    import threading

    model = create().eval()
    images, found = [torch.rand(1, 3, 64, 64) for _ in range(4)], {}

    def work(i):
        with torch.no_grad():
            found[i] = model(images[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    with torch.no_grad():
        for i, image in enumerate(images):
            assert torch.allclose(found[i], model(image), atol=1e-6)


class Padded(nn.Module):
    """A base whose first convolution pads, as FCN-8's does, and which crops its answer."""

    def __init__(self, padding=20):
        super().__init__()
        self.padding, self.first = padding, nn.Conv2d(3, 4, 3, padding=padding)
        self.pool, self.last, self.squeeze = nn.AvgPool2d(4), nn.Conv2d(4, 3, 1), nn.AdaptiveAvgPool2d(2)
        self.laid = nn.Identity()

    def forward_features(self, image):
        x = self.first(image)
        self.pool(x), self.squeeze(x), self.laid(image.permute(0, 2, 3, 1))
        begin, (height, width) = self.padding - 1, image.shape[-2:]
        return x[..., begin : begin + height, begin : begin + width]

    def forward_head(self, features):
        return self.last(features)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


def test_the_stride_of_a_base_that_pads_is_that_of_its_pooling():
    model = smpf.wrap(Padded(), replace(TINY, features=("pool", "input"), padding=20)).eval()
    levels = [feature.level for feature in model.feedback.autoencoder.features]
    assert levels == [2, 0]
    with torch.no_grad():
        assert model(torch.rand(1, 3, 30, 44)).shape == (1, 3, 30, 44)


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"features": ("pool",)}, InvalidValue, r"'pool' covers more than the image, .* give Score\(padding=20\)"),
        ({"features": ("output",), "padding": 20}, InvalidValue, r"padding=20: the feature 'output' covers the image"),
        ({"features": ("squeeze",)}, SurgeryError, r"'squeeze' gives \(1, 4, 2, 2\) whatever the image"),
        ({"features": ("laid",)}, SurgeryError, r"'laid' gives \(1, 64, 64, 3\) and, of a larger image"),
    ],
)
def test_a_feature_that_does_not_fit_is_refused_when_the_model_is_made(fields, error, words):
    with pytest.raises(error, match=words):
        smpf.wrap(Padded(), replace(TINY, **fields))


def test_certain_predictions_are_answered_within_the_published_clip():
    model = create()
    y = torch.zeros(1, 3, 2, 2)
    y[:, 0] = 1
    assert torch.allclose(model.feedback.logits_of(y)[0, :, 0, 0], torch.tensor([0, -16.118096, -16.118096]))


def test_the_model_leaves_stopped_images_out_on_a_cpu():
    model, seen = create(replace(TINY, tolerance=10.0, steps=3)).eval(), []  # all stop after the first update
    model.feedback.autoencoder.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    with torch.no_grad():
        path = [*model.iterate(torch.rand(2, 3, 32, 32))]
    assert seen == [2]
    assert len(path) == 3
    assert torch.equal(path[-1].state, path[0].state)


def test_channels_that_a_base_makes_to_be_fed_back_condition_nothing():
    told = {"encoder": "tu-test_resnet", "encoder_weights": None, "classes": 3, "feedback_channels": 0}
    model = smpf.create("NeumannUnet", **told, feedback=replace(TINY, features=("output",), base="recurrent")).eval()
    with torch.no_grad():
        (read,) = model.begin(torch.rand(1, 3, 64, 64)).features
    assert read.shape[1] == model.feedback.inner.state_channels


# --- over a base that looks again


def test_a_frozen_base_comes_to_rest_in_training_as_in_evaluation():
    image, base = torch.rand(2, 3, 64, 64), smpf.Recurrent(steps=8, dynamics="leaky", tau=2.0, feedback_init=0.1)
    model = create(replace(TINY, base=replace(base, tolerance=0.3)))
    full = create(replace(TINY, base=base))
    full.load_state_dict(model.state_dict())
    resting = model.eval().begin(image).y
    assert not torch.allclose(resting, full.eval().begin(image).y), "nothing came to rest"
    assert torch.equal(model.train().begin(image).y, resting)


def test_a_recurrent_models_last_look_is_refined():
    image = torch.rand(2, 3, 64, 64)
    recurrent = create(smpf.Recurrent(steps=3, feedback_init=0.1)).eval()
    model = smpf.wrap(recurrent, TINY)
    assert model.loop_config.base == recurrent.loop_config
    with torch.no_grad():
        assert torch.equal(model(image, steps=0), recurrent(image))
        begun = model.begin(image)
        assert torch.allclose(begun.y, recurrent(image).softmax(1))
        last = [*recurrent.iterate(image)][-1]
        stages = replace(TINY, features=("output",))
        read = smpf.wrap(recurrent, stages).begin(image).features[0]
        assert torch.equal(read, last.state[:, : recurrent.recurrent.state_channels])
        assert read.shape[1] < last.state.shape[1]
    plain = create(False)
    plain.load_state_dict(model.feedforward_state_dict(), strict=True)


def test_it_goes_to_disk_and_back_with_both_loops(tmp_path):
    image = torch.rand(1, 3, 64, 64)
    model = create(replace(TINY, base=smpf.Recurrent(steps=3, feedback_init=0.1))).eval().choose(step=0.05, steps=2)
    again = smpf.from_pretrained(model.save_pretrained(tmp_path))
    assert again.loop_config == model.loop_config
    assert (again.loop_config.step, again.loop_config.steps, again.loop_config.base.steps) == (0.05, 2, 3)
    with torch.no_grad():
        assert torch.equal(again(image), model(image))
    longer = smpf.from_pretrained(tmp_path, feedback={"base": smpf.Recurrent(steps=5, feedback_init=0.1)})
    assert longer.loop_config.base.steps == 5
    assert len(next(longer.feedback.inner.statistics[0].buffers())) == 4


def test_copies_and_pickles_answer_alike():
    image = torch.rand(1, 3, 64, 64)
    model = create(replace(TINY, base="recurrent")).eval()
    with torch.no_grad():
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert type(other) is type(model)
            assert torch.equal(other(image), model(image))


@pytest.mark.parametrize("base", a_few([None, smpf.Recurrent(steps=2)], smpf.Recurrent(steps=2)))
@pytest.mark.sweep
def test_it_compiles_exports_and_takes_other_dtypes(base):
    shallow = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
    model, image = create(smpf.Score(**SMOOTH, base=base), **shallow).eval(), torch.rand(2, 3, 64, 64)
    conformance.check_compiles(model, image, dynamic=False)
    conformance.check_exports(model, image)
    conformance.check_dtypes(model, image)


# --- what is refused


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"steps": -1}, InvalidValue, r"steps=-1: expected a whole number >= 0; 0 is the base's own answer"),
        ({"steps": 1.5}, InvalidType, r"steps=1\.5 \(float\)"),
        ({"step": 0}, InvalidValue, r"step=0: expected a number > 0"),
        ({"step": float("nan")}, InvalidValue, r"step=nan"),
        ({"tolerance": 0.0}, InvalidValue, r"tolerance=0\.0"),
        ({"autoencoder": "standart"}, InvalidValue, r"Did you mean 'standard'"),
        ({"unpooling": "indices"}, InvalidValue, r"unpooling='indices'"),
        ({"noise": "gausian"}, InvalidValue, r"Did you mean 'gaussian'"),
        ({"noise": "swap", "noise_level": 1.5}, InvalidValue, r"noise_level=1\.5 with noise='swap'"),
        ({"dropout": 1.0}, InvalidValue, r"dropout=1\.0: expected a probability < 1"),
        ({"temperature": 0}, InvalidValue, r"temperature=0"),
        ({"filters": 0}, InvalidValue, r"filters=0"),
        ({"additional_pools": 0}, InvalidValue, r"additional_pools=0: .* nothing would read the deepest feature"),
        ({"features": "stage:4"}, InvalidType, r"features='stage:4': expected a list"),
        ({"features": []}, InvalidType, r"features=\[\]"),
        ({"features": ["input", "input"]}, InvalidValue, r"expected each name once"),
        ({"grad_steps": 2, "detach": True}, InvalidValue, r"grad_steps=2 with detach=True"),
        ({"base": "score"}, InvalidValue, r"base='score'"),
        ({"base": smpf.Score()}, InvalidValue, r"base='score'"),
        ({"freeze": "yes"}, InvalidType, r"freeze='yes'"),
    ],
)
def test_a_wrong_field_is_refused_at_birth(fields, error, words):
    with pytest.raises(error, match=words):
        smpf.Score(**fields)


def test_its_config_goes_through_json():
    config = smpf.Score(features=["stage:3", "input"], base={"steps": 2}, tolerance=None)
    assert config.features == ("stage:3", "input")
    again = smpf.Score.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert isinstance(again.base, smpf.Recurrent)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_images_that_are_not_finite_are_named(value):
    image, model = torch.rand(3, 3, 64, 64), create()
    image[1, 0, 5, 5] = value
    for call in (model, model.iterate, model.trajectory, model.begin):
        with pytest.raises(InvalidInput, match=r"NaN or infinite values in \[1\] of a batch of 3"):
            call(image)


def test_what_is_no_map_is_refused():
    with pytest.raises(SurgeryError, match=r"needs a map of classes, and ResNet gives one answer per image"):
        smpf.create("timm/test_resnet", feedback="score")
    with pytest.raises(InvalidValue, match=r"reads logits, and the head's activation"):
        create(activation="softmax2d")


def test_steps_and_step_are_checked_before_any_work():
    model = create()
    for steps, error in ((-1, InvalidValue), (1.0, InvalidType), (True, InvalidType)):
        with pytest.raises(error, match="steps="):
            model(torch.rand(1, 3, 64, 64), steps=steps)
    begun = model.begin(torch.rand(1, 3, 64, 64))
    with pytest.raises(InvalidValue, match="step=0"):
        model.refine(begun, step=0)
    with pytest.raises(InvalidValue, match="steps=-1"):
        model.refine(begun, steps=-1)
    with pytest.raises(InvalidValue, match="step=-1"):
        model.choose(step=-1, steps=2)


def test_who_looks_again_is_refined_once():
    model = create(replace(TINY, base="recurrent"))
    with pytest.raises(InvalidValue, match="looks again already"):
        smpf.wrap(model, "score")
    with pytest.raises(InvalidValue, match="looks again already"):
        smpf.wrap(create(smpf.Recurrent()))
    with pytest.raises(InvalidValue, match="this model's own loop is"):
        smpf.wrap(create(smpf.Recurrent(steps=2)), replace(TINY, base=smpf.Recurrent(steps=9)))
    with pytest.raises(FeedbackError, match=r"looks again already"):
        smpf.wrap(create(smpf.Recurrent()), False)


# --- over every base


BASES = {  # where small needs other words: its arguments, and the side of its image
    "DPT": ({"encoder": "tu-test_vit", "dynamic_img_size": True, "decoder_fusion_channels": 16}, 64),
    "PAN": ({"encoder": "resnet18"}, 128),
    "PlainConv": ({"width": 8}, 32),
    "DFMDeepLabV3Plus": ({"encoder": "resnet18"}, 64),
    "torchvision/lraspp_mobilenet_v3_large": ({}, 64),
    "torchvision/fcn_resnet50": ({}, 64),
}
OURS = [name for name in catalogue().architectures if catalogue().architectures.origin(name) == "smp_feedback"]
SEGMENT = {name for name in OURS if not name.endswith("/*") and "ResNet" not in name} | BASES.keys()


@pytest.mark.parametrize("name", sorted(SEGMENT))
def test_every_base_is_refined_from_its_own_answer(name):
    told, side = BASES.get(name, ({"encoder": "tu-test_resnet"}, 64))
    told = {"arch": name, "encoder_weights": None, "classes": 3, **told}
    plain = smpf.create(**told, feedback=False).eval()
    model = smpf.create(**told, feedback=TINY).eval()
    model.load_feedforward(plain.state_dict())
    image = torch.rand(1, 3, side, side)
    with torch.no_grad():
        expected = plain(image)
        assert torch.equal(model(image, steps=0), expected)
        begun = model.begin(image)
        first = next(iter(model.refine(begun, step=0.5, steps=1)))
        r = model.reconstruct(begun.y, begun.features).softmax(1)
        assert torch.allclose(first.state, (expected.softmax(1) + r) / 2, atol=1e-6)
        assert first.logits.shape == expected.shape
