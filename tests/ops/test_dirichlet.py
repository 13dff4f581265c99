"""Dirichlet models: the loop holds what it promises of any other, and their doubt is that of the distribution."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import reference as ref
import segmentation_models_pytorch as smp
import torch
from conftest import pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.config.recurrent import DIRICHLET_NORM, Recurrent
from smp_feedback.errors import InvalidInput, InvalidValue
from smp_feedback.losses.evidential import Evidential
from smp_feedback.ops.dirichlet import log_concentration, mean_entropy, uncertainty
from smp_feedback.registry.public import catalogue
from smp_feedback.testing import check_agreement, check_heard, check_same_keys
from smp_feedback.testing import conformance as promised

SMALL = {
    "encoder_name": "tu-test_resnet.r160_in1k",
    "encoder_weights": None,
    "classes": 3,
    "encoder_depth": 3,
    "decoder_channels": (16, 8, 8),
}
IMAGE = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
TARGET = torch.randint(0, 3, (2, 32, 32), generator=torch.Generator().manual_seed(2))


def build(feedback=True, **more):
    """A small U-Net; True is a Dirichlet model of two looks."""
    loop = Recurrent(output="dirichlet", steps=2) if feedback is True else feedback
    return smpf.create("Unet", **(SMALL | more), feedback=loop)


def dirichlet(seed=0, **options):
    """A small Dirichlet U-Net whose feedback is heard."""
    torch.manual_seed(seed)
    model = build(Recurrent(**({"output": "dirichlet", "steps": 3} | options)))
    for weight in model.feedback.readers.parameters():
        nn.init.normal_(weight, std=0.3)
    return model


# --- what it is


def test_the_output_alone_is_the_papers_model():
    config = Recurrent(output="dirichlet")
    assert config.fed_back == "entropy"
    assert Recurrent().fed_back == "softmax"
    assert Recurrent(output="dirichlet", projection="softmax").fed_back == "softmax"
    model = build(config)
    assert model.feedback.projection.channels == 1
    assert model.feedback.readout is None


@torch.no_grad()
@pytest.mark.parametrize(
    ("norm", "normalised"),
    [
        (None, lambda y: F.layer_norm(y, y.shape[1:])),  # of all classes at once
        ("none", lambda y: y),
        ("instance", F.instance_norm),
    ],
)
def test_a_look_is_what_the_head_says_added_to_evidence_that_starts_at_one(norm, normalised):
    model = dirichlet(tau=2.0, norm_error=norm).eval()
    fed, given = [], []
    model.feedback.readers[0].register_forward_pre_hook(lambda m, args: fed.append(args[0]))
    model.segmentation_head.register_forward_hook(lambda m, args, y: given.append(y))
    looks = list(model.iterate(IMAGE))
    h = torch.ones(2, 3, 32, 32)
    for t, look in enumerate(looks):
        p = (1 + F.softplus(h)) / (1 + F.softplus(h)).sum(1, keepdim=True)
        torch.testing.assert_close(fed[t], -(p * p.log()).sum(1, keepdim=True))
        h = h + math.exp(-t / 2) * normalised(given[t])
        torch.testing.assert_close(look.state, h)
        torch.testing.assert_close(look.logits.exp(), 1 + F.softplus(h))
    assert len(given) == 3, "the head runs inside the step, and not again for the answer"
    assert torch.equal(fed[0], torch.full((2, 1, 32, 32), math.log(3)))
    assert torch.equal(model.trajectory(IMAGE), torch.stack([look.logits for look in looks]))
    assert torch.equal(model(IMAGE), looks[-1].logits)


@torch.no_grad()
def test_softmax_of_the_answer_is_the_mean_of_the_distribution():
    logits = dirichlet().eval()(IMAGE)
    mean = torch.distributions.Dirichlet(logits.exp().movedim(1, -1)).mean
    torch.testing.assert_close(logits.softmax(1), mean.movedim(-1, 1))
    assert (logits > 0).all()


@torch.no_grad()
@pytest.mark.parametrize("dynamics", ["decay", "fractional"])
def test_the_evidence_cannot_run_away(dynamics):
    model = dirichlet(dynamics=dynamics, tau=3.0, steps=12, norm_error="instance").eval()
    model.segmentation_head[0].weight.mul_(1e3)
    *_, last = model.iterate(IMAGE)
    moved = (last.state - 1).square().mean((2, 3)).sqrt()
    assert (moved <= sum(model.feedback.dynamics.size(t, 12) for t in range(12)) + 1e-4).all()


def test_an_end_that_is_found_needs_corrections_of_a_known_size():
    with pytest.raises(InvalidValue, match=r"steps='auto': with norm_error='none' .* norm_error='layer'"):
        Recurrent(output="dirichlet", steps="auto", norm_error="none")


@torch.no_grad()
def test_leaky_evidence_comes_to_rest_where_the_head_says():
    """Under a constant drive: the feedback of an untrained model is not heard."""
    model = build(Recurrent(output="dirichlet", dynamics="leaky", tau=2.0, steps=40, norm_error="none")).eval()
    *_, last = model.iterate(IMAGE)
    plain = smp.Unet(**SMALL).eval()
    plain.load_state_dict(model.feedforward_state_dict())
    torch.testing.assert_close(last.state, plain(IMAGE), atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 4])
def test_a_trained_model_wrapped_keeps_the_class_of_every_pixel(steps):
    """Residual: the evidence starts from the trained logits, whose order softplus keeps."""
    plain = smp.Unet(**SMALL).eval()
    model = smpf.wrap(plain, Recurrent(output="dirichlet", dynamics="residual")).eval()
    torch.testing.assert_close(model(IMAGE, steps=steps), log_concentration(plain(IMAGE)), atol=1e-5, rtol=1e-4)
    assert torch.equal(model(IMAGE, steps=steps).argmax(1), plain(IMAGE).argmax(1))


# --- what any loop holds


@pytest.mark.parametrize(
    ("dynamics", "projection"), pairs(catalogue().dynamics, [None, *catalogue().projections], "fractional", None)
)
def test_every_dynamics_and_projection_goes_with_it(dynamics, projection):
    model = dirichlet(dynamics=dynamics, projection=projection, steps=3)
    check_agreement(model, IMAGE)
    check_heard(model, IMAGE)


@pytest.mark.parametrize("insert", ["input", "stem", "stage:2"])
def test_the_entropy_enters_anywhere(insert):
    model = dirichlet(insert=insert)
    with torch.no_grad():
        for parameter in model.encoder.parameters():  # timm's residual branches begin with a factor of zero
            parameter.add_(0.05 * torch.randn_like(parameter))
    check_agreement(model, IMAGE)
    check_heard(model, IMAGE)


@pytest.mark.parametrize("arch", ["FPN", "Linknet", "Segformer"])
def test_other_architectures_have_heads_too(arch):
    config = Recurrent(output="dirichlet", steps=2)
    model = smpf.create(arch, SMALL["encoder_name"], None, classes=2, feedback=config)
    check_same_keys(model, smp.create_model(arch, SMALL["encoder_name"], encoder_weights=None, classes=2))
    check_agreement(model, torch.rand(1, 3, 64, 64))


def test_smps_promises_are_kept():
    promised.check_trains(build, IMAGE)
    promised.check_like_plain(build, torch.rand(1, 3, 35, 35))
    promised.check_like_plain(build, torch.rand(1, 1, 32, 32), in_channels=1, classes=7)
    promised.check_parameters(build(), build(feedback=False))
    deep = smpf.create("Unet", "tu-test_resnet.r160_in1k", None, classes=3, feedback=Recurrent(output="dirichlet"))
    promised.check_freezing(deep, torch.rand(2, 3, 64, 64))
    promised.check_mismatched_weights(build)
    promised.check_refuses_script(build())


def test_labels_are_those_of_the_last_look():
    promised.check_labels(build(aux_params={"classes": 4, "dropout": None}), IMAGE)


def test_it_answers_in_every_floating_type():
    promised.check_dtypes(build(), IMAGE[:1])


@pytest.mark.sweep
def test_it_compiles_to_one_graph():
    promised.check_compiles(build(), IMAGE)
    model = dirichlet().eval()
    with torch.no_grad():
        plain = model(IMAGE)
        torch.testing.assert_close(model.compile_step(backend="eager")(IMAGE), plain)


@pytest.mark.sweep
def test_it_exports_strictly():
    promised.check_exports(build(), IMAGE)


def test_it_is_saved_and_comes_back(tmp_path):
    model = dirichlet(dynamics="fractional").eval()
    model.save_pretrained(tmp_path)
    again = smpf.from_pretrained(tmp_path).eval()
    assert again.loop_config == model.loop_config
    assert torch.equal(again(IMAGE), model(IMAGE))
    assert model.feedforward_state_dict().keys() == smp.Unet(**SMALL).state_dict().keys()


def test_a_config_from_before_there_were_outputs_is_loaded(tmp_path):
    model = build(Recurrent(steps=2, projection="entropy")).eval()
    model.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    del config["feedback"]["output"]
    file.write_text(json.dumps(config))
    again = smpf.from_pretrained(tmp_path).eval()
    assert again.loop_config == model.loop_config
    assert torch.equal(again(IMAGE), model(IMAGE))


@torch.no_grad()
@pytest.mark.parametrize("around", [False, True], ids=["recurrent", "score around it"])
def test_a_model_saved_before_its_normalisation_was_said_is_normalised_over_space(around, tmp_path):
    """One correction of the loop, e, has no mean over space and a variance of 1."""
    loop = Recurrent(output="dirichlet", steps=2)
    model = build(smpf.Score(base=loop, filters=4, features=("stage:2",), additional_pools=1) if around else loop)
    file = model.save_pretrained(tmp_path) / "config.json"
    said = json.loads(file.read_text())
    own = said["feedback"]["base"] if around else said["feedback"]
    assert own["norm_error"] == DIRICHLET_NORM, "what is saved today says so itself"
    own["norm_error"] = None
    del said["save"]  # written by hand: else what lies beside the weights would count
    file.write_text(json.dumps(said))
    again = smpf.from_pretrained(tmp_path)
    inner = again.loop_config.base if around else again.loop_config
    assert inner.norm_error == "instance"
    if not around:
        moved = next(iter(again.iterate(IMAGE))).state - 1
        torch.testing.assert_close(moved.mean((2, 3)), torch.zeros(2, 3), atol=1e-5, rtol=0)
        torch.testing.assert_close(moved.var((2, 3), correction=0), torch.ones(2, 3), atol=1e-2, rtol=0)
        assert smpf.from_pretrained(tmp_path, feedback={"norm_error": None}).loop_config.norm_error == DIRICHLET_NORM


def test_steps_are_found_and_left_out_as_ever():
    auto = dirichlet(steps="auto", tau=2.0, norm_error="layer").eval()
    with torch.no_grad():
        assert len(auto.trajectory(IMAGE)) == auto.feedback.dynamics.auto_steps(0.01)
        exact = dirichlet(steps=12, tau=1.0).eval()
        settled = dirichlet(steps=12, tau=1.0, tolerance=1e-3).eval()
        assert len(list(settled.iterate(IMAGE))) < 12
        torch.testing.assert_close(settled(IMAGE), exact(IMAGE), atol=5e-3, rtol=0)


def test_a_random_first_state_lies_around_one():
    model = dirichlet(init_std=1e-3)
    state = model.feedback.first_state(IMAGE)
    assert state.shape == (2, 3, 32, 32)
    assert (state - 1).abs().max() < 1e-2
    assert state.std() > 5e-4
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(IMAGE), dirichlet().eval()(IMAGE), atol=2e-2, rtol=0)


# --- learning


def gradients(model, loss):
    model.zero_grad(set_to_none=True)
    loss(model)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_recomputing_changes_no_gradient():
    score = Evidential()
    ours, theirs = (
        gradients(dirichlet(recompute=again), lambda m: score(m(IMAGE), TARGET).backward()) for again in (False, True)
    )
    torch.testing.assert_close(ours, theirs)


def test_a_backward_per_step_is_one_over_detached_steps():
    score = Evidential()

    def per_step(model):
        model.backward_per_step(IMAGE, lambda step: score(step.logits, TARGET))

    def at_once(model):
        sum(score(step.logits, TARGET) for step in model.iterate(IMAGE)).backward()

    torch.testing.assert_close(gradients(dirichlet(), per_step), gradients(dirichlet(detach=True), at_once))


def test_the_last_steps_alone_carry_gradient():
    score = Evidential()
    all_steps, last = (
        gradients(dirichlet(grad_steps=k), lambda m: score(m(IMAGE), TARGET).backward()) for k in (None, 1)
    )
    assert all_steps.keys() == last.keys()
    first = "encoder.model.conv1.0.weight"
    assert not torch.allclose(all_steps[first], last[first])


def test_it_learns_a_picture_and_grows_sure_of_it():
    torch.manual_seed(0)
    image, target = torch.rand(2, 3, 32, 32), torch.zeros(2, 32, 32, dtype=torch.long)
    target[:, 8:24, 8:24], target[:, :6] = 1, 2
    image = image / 4 + target[:, None] / 4
    model, score = dirichlet(dynamics="fractional").train(), Evidential()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = torch.stack([score(step.logits, target) for step in model.iterate(image)]).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert (model(image).argmax(1) == target).float().mean() > 0.9


# --- its doubt


@given(st.integers(2, 6), st.floats(0, 12), st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_doubt_keeps_its_ranges_and_its_sum(classes, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.rand(2, classes, 3, 4, dtype=torch.float64, generator=generator)
    u = uncertainty(logits)
    assert all(part.shape == (2, 3, 4) for part in u)
    assert (u.evidence >= 0).all()
    assert ((u.vacuity > 0) & (u.vacuity <= 1)).all()
    assert ((u.entropy >= 0) & (u.entropy <= math.log(classes) + 1e-12)).all()
    assert (u.expected_entropy >= -1e-12).all()
    assert (u.mutual_information >= 0).all()
    torch.testing.assert_close(u.expected_entropy + u.mutual_information, u.entropy)
    torch.testing.assert_close(u.vacuity * (u.evidence + classes), torch.full_like(u.vacuity, classes))


def test_doubt_is_that_of_distributions_drawn():
    alpha = torch.tensor([[1.0, 1.0, 1.0], [1.3, 2.0, 1.1], [9.0, 1.0, 2.0]], dtype=torch.float64)
    u = uncertainty(alpha.log())
    drawn = torch.distributions.Dirichlet(alpha).sample((200_000,))
    entropies = -(drawn * drawn.log()).sum(2)
    torch.testing.assert_close(u.expected_entropy, entropies.mean(0), atol=3e-3, rtol=0)
    mean = drawn.mean(0)
    torch.testing.assert_close(u.entropy, -(mean * mean.log()).sum(1), atol=3e-3, rtol=0)
    relative = (drawn * (drawn / mean).log()).sum(2).mean(0)  # the information a draw gives about the label
    torch.testing.assert_close(u.mutual_information, relative, atol=3e-3, rtol=0)


def test_doubt_without_evidence_is_that_of_the_uniform_dirichlet():
    """E[H(p)] = psi(C + 1) - psi(2) = 1/2 + ... + 1/C."""
    for classes in (2, 3, 7):
        u = uncertainty(torch.zeros(1, classes, dtype=torch.float64))
        assert u.evidence.item() == 0
        assert u.vacuity.item() == 1
        assert u.entropy.item() == pytest.approx(math.log(classes))
        assert u.expected_entropy.item() == pytest.approx(sum(1 / k for k in range(2, classes + 1)))


def test_more_evidence_leaves_the_doubt_that_none_removes():
    once, often = (uncertainty(torch.tensor([[2.0, 2.0]], dtype=torch.float64) + more) for more in (0, 6))
    torch.testing.assert_close(once.entropy, often.entropy)
    assert often.mutual_information < 1e-3 < once.mutual_information
    assert often.vacuity < once.vacuity


def test_doubt_is_our_own_derivation():
    logits = log_concentration(2 * torch.randn(2, 4, 3, 5, dtype=torch.float64))
    a = np.exp(logits.numpy())
    s = a.sum(1)
    expected = ref.digamma(s + 1) - (a / s[:, None] * ref.digamma(a + 1)).sum(1)
    u = uncertainty(logits)
    torch.testing.assert_close(u.expected_entropy, torch.from_numpy(expected))
    torch.testing.assert_close(u.evidence, torch.from_numpy(s - 4))
    h = np.log(np.expm1(a - 1))
    torch.testing.assert_close(mean_entropy(logits), torch.from_numpy(ref.dirichlet_entropy(h)))


def test_doubt_is_computed_in_single_precision_and_stays_finite():
    logits = torch.tensor([[50.0, 0.0], [50.0, 50.0], [0.0, 0.0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        u = uncertainty(logits.bfloat16())
    assert all(part.dtype == torch.float32 and part.isfinite().all() for part in u)
    torch.testing.assert_close(u.entropy, torch.tensor([0.0, math.log(2), math.log(2)]))
    torch.testing.assert_close(u.mutual_information[:2], torch.zeros(2), atol=1e-5, rtol=0)


# --- what makes no sense


@pytest.mark.parametrize("shape", [(3,), (2, 1), (2, 1, 4, 4)])
def test_doubt_about_one_class_is_refused(shape):
    with pytest.raises(InvalidInput, match="C >= 2"):
        uncertainty(torch.zeros(shape))


@pytest.mark.parametrize("projection", [None, "softmax", "probabilities"])
def test_one_class_is_refused(projection):
    with pytest.raises(InvalidValue, match=r"output='dirichlet': expected classes >= 2, got classes=1"):
        build(Recurrent(output="dirichlet", projection=projection), classes=1)


def test_a_head_with_an_activation_gives_no_evidence():
    with pytest.raises(InvalidValue, match=r"output='dirichlet' reads logits, .* Sigmoid"):
        build(activation="sigmoid")


def test_a_head_that_gives_no_map_is_refused():
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

        def forward_features(self, image):
            return self.conv(image)

        def forward_head(self, features):
            return self.fc(features.mean((2, 3)))

        def forward(self, image):
            return self.forward_head(self.forward_features(image))

    with pytest.raises(InvalidValue, match=r"'dirichlet': Classifier is a classifier, .* \(1, 3\) has no pixels"):
        smpf.wrap(Classifier(), Recurrent(output="dirichlet"))
    assert smpf.wrap(Classifier(), Recurrent(norm_error="layer"))(IMAGE).shape == (2, 3)
    with pytest.raises(InvalidValue, match=r"'dirichlet': ResNet is a classifier, .* Leave output='logits'"):
        smpf.create("timm/test_resnet", classes=3, feedback=Recurrent(output="dirichlet"))
