"""The loop against the published mathematics: golden arrays where they are, and our own re-derivation everywhere."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
import reference as ref
import torch
from conftest import GOLDEN
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.config.base import GradientFlow
from smp_feedback.dynamics import Decay, Fractional, decay
from smp_feedback.loops.recurrent.step import Recurrence
from smp_feedback.loops.unroll import unroll
from smp_feedback.losses.evidential import Evidential, divergence_from_uniform, risk
from smp_feedback.losses.published import DiceFocal, ForegroundFocal, GeneralizedDice
from smp_feedback.losses.reconstruction import Reconstruction, cross_entropy, squared_error
from smp_feedback.ops.dirichlet import START, log_concentration
from smp_feedback.ops.normalise import normaliser
from smp_feedback.projections import dirichlet_entropy, softmax_feedback

needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden arrays are not part of the project")
VALUES, GRADIENTS = 1e-5, 1e-4  # largest error over largest magnitude, float32


def golden(name):
    """The arrays of one case as float32 tensors, and its scalars."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    return arrays, json.loads((GOLDEN / "index.json").read_text())[name]["meta"]


def agree(ours, theirs, tolerance=VALUES):
    error = (ours.detach().double() - theirs.double()).abs().max()
    assert error <= tolerance * theirs.double().abs().max(), f"{error:.2e}"


def small(seed, stub, **options):
    """One of our own cases, as float32 tensors and as the float64 arrays it came from."""
    case = ref.small_case(seed, stub, **options)
    as_tensor = {k: torch.from_numpy(np.asarray(v)) for k, v in case.items()}
    return {k: v.float() if v.is_floating_point() else v for k, v in as_tensor.items()}, case


# --- the decay operator


@needs_golden
@pytest.mark.parametrize("variant", ["dfm_default", "dfm_general", "fbs_default", "fbs_general"])
def test_decay_and_its_gradients_are_the_published_ones(variant):
    a, meta = golden(f"a_expdecay_{variant}")
    prefix = "true_" if "true_grad_x" in a else ""
    for i, tau in enumerate(a["taus"].tolist()):
        for j, t in enumerate(a["Ts"].tolist()):
            leaves = {k: a[k].clone().requires_grad_() for k in ("x", "S", "Q", "Qinv") if k in a}
            out = decay(leaves["x"], t, tau, leaves["S"], leaves["Q"], leaves.get("Qinv"), meta["alpha"])
            agree(out, a["out"][i, j])
            (out * a["g"]).sum().backward()
            for k, leaf in leaves.items():
                if (theirs := a.get(f"{prefix}grad_{k}")) is not None:
                    agree(leaf.grad, theirs[i, j], GRADIENTS)


@pytest.mark.parametrize("seed", range(3))
def test_decay_and_its_gradients_are_those_of_our_own_derivation(seed):
    rng = np.random.default_rng(seed)
    x, g = rng.standard_normal((2, 2, 5, 3, 4))
    rates, q, q_inv = rng.standard_normal(5), *rng.standard_normal((2, 5, 5))
    leaves = [torch.from_numpy(v).requires_grad_() for v in (x, rates, q, q_inv)]
    out = decay(leaves[0], 2, 1.7, *leaves[1:], exponent=1.3)
    agree(out, torch.from_numpy(ref.decay(x, 2, 1.7, rates, q, q_inv, 1.3)), 1e-12)
    (out * torch.from_numpy(g)).sum().backward()
    for leaf, theirs in zip(leaves, ref.decay_vjp(g, x, 2, 1.7, rates, q, q_inv, 1.3), strict=True):
        agree(leaf.grad, torch.from_numpy(theirs), 1e-11)


# --- Deep Feedback Models, segmentation


def dfm(case, tau, h0=None):
    """The package's own parts around the published stub network: the turn, and its first state."""
    front = F.relu(F.conv2d(case["x"], case["w_front"], case["b_front"], stride=2, padding=1))
    s, (h, w) = case["w_head"].shape[1], front.shape[-2:]
    k = front.shape[1]
    fb = case["w_enc"].shape[1] - k
    norm = normaliser("instance", s + fb)

    def body(u, t):
        z = F.max_pool2d(torch.cat([front, u], 1), 3, 2, 1)
        y = F.conv2d(torch.tanh(F.conv2d(z, case["w_enc"], case["b_enc"], padding=1)), case["w_dec"], case["b_dec"])
        return y, None

    def project(state):
        if state is None:
            return front.new_full((len(front), fb, h, w), 1 / fb)
        return softmax_feedback(state[:, s:], (h, w), normaliser("instance", fb))

    rule = Decay(s + fb, smpf.Recurrent(tau=tau)).begin(steps=1)
    return Recurrence(body, project, norm, rule), h0


def dfm_states(case, tau, steps, h0=None):
    turn, first = dfm(case, tau, h0)
    return [turned.state for _, turned in unroll(turn, first, steps=steps, flow=GradientFlow())]


def dfm_logits(case, state):
    logits = F.conv2d(state[:, : case["w_head"].shape[1]], case["w_head"], case["b_head"])
    return F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=True)


@needs_golden
@pytest.mark.parametrize("name", ["b_dfm_seg_A_explicit", "b_dfm_seg_B_explicit", "b_dfm_seg_A_T1", "b_dfm_seg_B_T1"])
def test_the_published_states_from_the_published_first_state(name):
    a, meta = golden(name)
    states = dfm_states(a, meta["tau"], len(a["h"]) - 1, h0=a["h"][0])
    agree(torch.stack(states), a["h"][1:], 2e-5)


@needs_golden
@pytest.mark.parametrize("name", ["b_dfm_seg_A_forward", "b_dfm_seg_B_forward"])
def test_the_published_forward_loss_and_gradients(name):
    a, meta = golden(name)
    leaves = {k: a[k].requires_grad_() for k in ("w_front", "w_enc", "w_dec", "b_dec", "w_head", "x")}
    states = dfm_states(a, meta["tau"], meta["T"])
    agree(torch.stack(states), a["h"][1:])
    logits = dfm_logits(a, states[-1])
    agree(logits, a["logits"])
    loss = F.cross_entropy(logits, a["y"].long())
    assert float(loss.detach()) == pytest.approx(meta["loss"], rel=VALUES)
    loss.backward()
    for key, leaf in leaves.items():
        if key == "b_dec":  # mathematically zero: the normalisation removes it
            assert leaf.grad.abs().max() < 1e-5
        else:
            agree(leaf.grad, a[f"g_{key.removeprefix('w_')}"], GRADIENTS)


@needs_golden
def test_the_published_states_until_the_published_stop():
    a, meta = golden("b_dfm_seg_earlystop")
    states = dfm_states(a, meta["tau"], meta["steps_executed"])
    agree(torch.stack(states), a["h"][1:])
    agree(dfm_logits(a, states[-1]), a["logits"])


@pytest.mark.parametrize(("seed", "tau", "steps"), [(0, 1.0, 1), (1, 0.3, 4), (2, 5.0, 9)])
def test_the_loop_is_our_own_derivation_of_deep_feedback_models(seed, tau, steps):
    case, arrays = small(seed, "dfm")
    run = ref.dfm_run(arrays, steps, tau)
    states = dfm_states(case, tau, steps)
    agree(torch.stack(states), torch.from_numpy(run.h[1:]), 3e-5)
    agree(dfm_logits(case, states[-1]), torch.from_numpy(run.logits[-1]), 3e-5)


# --- Deep Recurrence: fractional weights, a loss on every step


def neumann(case, meta, steps, train=False):
    """The package's own parts around the published stub network."""
    s = case["w_head"].shape[1]
    channels, fb = case["w2"].shape[0], case["w1"].shape[1] - case["x"].shape[1]
    free = "Q" in case
    config = smpf.Recurrent(
        dynamics="fractional",
        tau=meta["tau"] if free else float("inf"),
        order=meta["alpha"],
        basis="free" if free else "identity",
    )
    rule = Fractional(channels, config)
    if free:
        rule.basis.weight, rule.inverse.weight = (torch.nn.Parameter(case[k]) for k in ("Q", "Qinv"))

    def layer_norm(z, kind):
        return normaliser("instance", z.shape[1])(z) * case[f"ln_{kind}_w"] + case[f"ln_{kind}_b"]

    def project(state):
        fed = case["x"].new_zeros(len(case["x"]), fb, *case["x"].shape[-2:]) if state is None else state[:, s : s + fb]
        fed = layer_norm(fed, "in")
        return fed.softmax(1) if meta["soft"] else fed

    def body(u, t):
        z = F.conv2d(torch.cat([case["x"], u], 1), case["w1"], case["b1"], padding=1)
        if "bn_w" in case:  # quirk: all steps but the last run on the running statistics, in training too
            stats = case["bn_rm"].clone(), case["bn_rv"].clone()
            z = F.batch_norm(z, *stats, case["bn_w"], case["bn_b"], training=train and t == steps - 1)
        return F.conv2d(torch.tanh(z), case["w2"], case["b2"], padding=1), None

    return Recurrence(body, project, lambda y: layer_norm(y, "err"), rule.begin(steps)), rule


def neumann_path(case, meta, steps, train=False):
    turn, rule = neumann(case, meta, steps, train)
    states = [turned.state for _, turned in unroll(turn, None, steps=steps, flow=GradientFlow())]
    s = case["w_head"].shape[1]
    return states, [F.conv2d(h[:, :s], case["w_head"], case["b_head"], padding=1) for h in states], rule


NEUMANN = ["d_neumann_base", "d_neumann_tau2", "d_neumann_nosoftmax", "d_neumann_noerror", "d_neumann_bn"]


@needs_golden
@pytest.mark.parametrize("name", NEUMANN)
def test_the_published_fractional_states_and_logits(name):
    a, meta = golden(name)
    for steps in meta["T"]:
        states, logits, _ = neumann_path(a, meta, steps)
        agree(torch.stack(states), a[f"h_T{steps}"][1:], 2e-5)
        agree(torch.stack(logits), a[f"logits_T{steps}"], 2e-5)


@needs_golden
@pytest.mark.parametrize("name", NEUMANN)
def test_one_backward_over_the_summed_losses_is_the_exact_gradient(name):
    a, meta = golden(name)
    keys = [
        k for k in ("w1", "b1", "w2", "b2", "w_head", "b_head", "ln_in_w", "ln_err_w", "bn_w", "bn_b", "x") if k in a
    ]
    for steps in meta["T"]:
        exact = "truegrad" if f"truegrad_T{steps}_w1" in a else "grad"
        leaves = {k: a[k].detach().clone().requires_grad_() for k in keys}
        _, logits, rule = neumann_path({**a, **leaves}, meta, steps, train=True)
        sum(F.cross_entropy(step, a["gt"].argmax(1)) for step in logits).backward()
        if "Q" in a:
            leaves |= {"Q": rule.basis.weight, "Qinv": rule.inverse.weight}
        for key, leaf in leaves.items():
            theirs = a[f"{exact}_T{steps}_{key}"]
            if theirs.abs().max() < 1e-6:  # mathematically zero
                assert leaf.grad is None or leaf.grad.abs().max() < 1e-5
            else:
                agree(leaf.grad, theirs, 3e-4)


@needs_golden
def test_the_published_fractional_states_until_the_published_stop():
    a, meta = golden("d_neumann_earlystop")
    turn, _ = neumann(a, meta | {"soft": True}, meta["T"])
    states = [t.state for _, t in unroll(turn, None, steps=meta["steps_executed"], flow=GradientFlow())]
    theirs = next(v for k, v in a.items() if k.startswith("h") and v.ndim == 5)
    agree(torch.stack(states), theirs[1:], 2e-5)


@pytest.mark.parametrize(("seed", "steps"), [(0, 1), (1, 5)])
def test_the_loop_is_our_own_derivation_of_fractional_recurrence(seed, steps):
    case, arrays = small(seed, "neumann")
    meta = {"tau": 0.8, "alpha": 1.5, "soft": True}
    run = ref.neumann_run(arrays, steps, 0.8)
    w1 = case["w1"].clone().requires_grad_()
    states, logits, _ = neumann_path({**case, "w1": w1}, meta, steps)
    agree(torch.stack(states), torch.from_numpy(run.h[1:]), 3e-5)
    agree(torch.stack(logits), torch.from_numpy(run.logits), 3e-5)
    sum(F.cross_entropy(step, case["gt"].argmax(1)) for step in logits).backward()
    entries = ref.pick_entries(w1.grad.numpy())
    theirs = ref.numerical_gradient(lambda w: ref.neumann_loss(arrays | {"w1": w}, steps, 0.8), arrays["w1"], entries)
    agree(torch.stack([w1.grad[e] for e in entries]), torch.from_numpy(theirs), 3e-4)


def det_fill(key, shape):
    r = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
    if r.ndim >= 2:
        r = r / np.sqrt(np.prod(r.shape[1:]))
    elif key.endswith("running_var"):
        r = 1 + 0.1 * np.abs(r)
    else:
        r = 1 + 0.1 * r if key.endswith("weight") else 0.1 * r
    return torch.from_numpy(np.asarray(r, dtype=np.float32))


# --- Dirichlet predictions and the losses on masks


class PublishedStub(nn.Module):
    """The published stub, the normalisation of its corrections, with a map of affine numbers, taken into its head."""

    def __init__(self, case):
        super().__init__()
        read = {"w1": 3, "w2": case["w2"].shape[1], "w_head": case["w_head"].shape[1]}
        self.w1, self.w2, self.w_head = (nn.Conv2d(n, len(case[k]), 3, padding=1) for k, n in read.items())
        self.ln_err_w, self.ln_err_b = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))

    def forward_features(self, image):
        return self.w2(torch.tanh(self.w1(image)))

    def forward_head(self, features):
        y = self.w_head(features)
        return normaliser("instance", y.shape[1])(y) * self.ln_err_w + self.ln_err_b

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


def published_dirichlet(case, meta):
    """The published Dirichlet model, made by ``wrap``; and its parameters under their published names."""
    config = smpf.Recurrent(
        output="dirichlet",
        dynamics="fractional",
        tau=meta["tau"],
        order=meta["alpha"],
        basis="free",
        norm_error="none",
    )
    model = smpf.wrap(PublishedStub(case), config)
    model.ln_err_w, model.ln_err_b = (nn.Parameter(case[f"ln_err_{k}"]) for k in "wb")  # of one size, unlike the probe
    own = {"Q": model.feedback.dynamics.basis.weight, "Qinv": model.feedback.dynamics.inverse.weight}
    for name in ("1", "2", "_head"):
        conv = model.get_submodule(f"w{name}")
        own |= {f"w{name}": conv.weight, f"b{name}": conv.bias}
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(case[name][:, :3] if name == "w1" else case[name])
        model.feedback.readers[0].weight.copy_(case["w1"][:, 3:])
    return model, own | {"ln_err_w": model.ln_err_w, "ln_err_b": model.ln_err_b}


def dirichlet_path(case, meta, steps):
    """States, what was fed back and log(alpha) of each step; a function that gives a parameter's gradient."""
    model, parameters = published_dirichlet(case, meta)
    fed, reader = [], model.feedback.readers[0]
    reader.register_forward_pre_hook(lambda module, args: fed.append(args[0]))
    looks = list(model.iterate(case["x"], steps=steps))

    def gradient(name):
        grad = parameters[name].grad
        return torch.cat([grad, reader.weight.grad], 1) if name == "w1" else grad

    return [look.state for look in looks], fed, [look.logits for look in looks], gradient


@needs_golden
@pytest.mark.parametrize("steps", [1, 5, 10])
def test_the_published_evidence_entropy_and_concentrations(steps):
    a, meta = golden("e_dirichlet")
    assert steps in meta["T"]
    states, fed, logits, _ = dirichlet_path(a, meta, steps)
    agree(torch.full_like(states[0], START), a[f"h_T{steps}"][0])
    agree(torch.stack(states), a[f"h_T{steps}"][1:], 2e-5)
    agree(torch.stack(fed), a[f"u_T{steps}"], 2e-5)
    agree(torch.stack(logits).exp(), a[f"conc_T{steps}"], 2e-5)
    agree(Evidential()(logits[-1], a["gt"].argmax(1)), a[f"loss_T{steps}"].squeeze(), 2e-5)


@needs_golden
@pytest.mark.parametrize("steps", [1, 5, 10])
def test_one_backward_over_the_evidential_losses_is_the_exact_gradient(steps):
    a, meta = golden("e_dirichlet")
    _, _, logits, gradient = dirichlet_path(a, meta, steps)
    sum(Evidential()(step, a["gt"].argmax(1)) for step in logits).backward()
    for name in ("w1", "b1", "w2", "b2", "w_head", "b_head", "ln_err_w", "ln_err_b", "Q", "Qinv"):
        if name == "b_head":  # mathematically zero: the normalisation removes it
            assert gradient(name).abs().max() < 1e-5
        else:
            agree(gradient(name), a[f"truegrad_T{steps}_{name}"], 3e-4)


@pytest.mark.parametrize(("seed", "steps"), [(0, 1), (1, 5)])
def test_the_loop_is_our_own_derivation_of_dirichlet_recurrence(seed, steps):
    case, arrays = small(seed, "dirichlet")
    run = ref.dirichlet_run(arrays, steps, 0.8)
    states, fed, logits, gradient = dirichlet_path(case, {"tau": 0.8, "alpha": 1.5}, steps)
    for ours, theirs in ((states, run.h[1:]), (fed, run.u), (logits, run.logits)):
        agree(torch.stack(ours), torch.from_numpy(theirs), 3e-5)
    loss = sum(Evidential()(step, case["gt"].argmax(1)) for step in logits)
    assert float(loss.detach()) == pytest.approx(ref.dirichlet_loss(arrays, steps, 0.8), rel=3e-5)
    loss.backward()
    ours = gradient("w1")
    entries = ref.pick_entries(ours.numpy())
    theirs = ref.numerical_gradient(lambda w: ref.dirichlet_loss(arrays | {"w1": w}, steps, 0.8), arrays["w1"], entries)
    agree(torch.stack([ours[e] for e in entries]), torch.from_numpy(theirs), 3e-4)


@needs_golden
def test_the_published_entropy_is_that_of_the_evidence():
    a, meta = golden("e_dirichlet")
    for steps in meta["T"]:
        agree(dirichlet_entropy(a[f"h_T{steps}"][:-1].flatten(0, 1)), a[f"u_T{steps}"].flatten(0, 1))


@needs_golden
def test_the_published_evidential_loss_its_parts_and_gradients():
    a, _ = golden("e_evidential_loss")
    target = a["y"].argmax(1)
    agree(risk(a["alpha"].log(), a["y"]), a["risk"].squeeze(1))
    agree(divergence_from_uniform((a["alpha"] - 1) * (1 - a["y"]) + 1), a["kl_removed"].squeeze(1))
    alpha = a["alpha"].clone().requires_grad_()
    divergence = divergence_from_uniform(alpha)
    agree(divergence, a["kl_alpha"].squeeze(1))
    agree(torch.autograd.grad(divergence.sum(), alpha)[0], a["grad_kl_alpha"], GRADIENTS)
    loss = Evidential()(alpha.log(), target)
    agree(loss, a["loss"].squeeze())
    agree(torch.autograd.grad(loss, alpha)[0], a["grad_alpha"], GRADIENTS)
    h = a["h"].clone().requires_grad_()
    agree(torch.autograd.grad(Evidential()(log_concentration(h), target), h)[0], a["grad_h"], GRADIENTS)


PUBLISHED = {
    "gdl_k0.0": GeneralizedDice(kappa=0.0),
    "gdl_k0.75": GeneralizedDice(),
    "focal_a0.25_g2.0": ForegroundFocal(),
    "focal_a0.5_g0.0": ForegroundFocal(alpha=0.5, gamma=0.0),
    "combined": DiceFocal(),
}


@needs_golden
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_losses_on_masks_and_their_gradients(name):
    a, _ = golden("f_dice_focal")
    logits, loss = a["logits"].clone().requires_grad_(), PUBLISHED[name]
    target = a["y"].argmax(1)
    value = loss(logits, target)
    agree(value, a[name].squeeze())
    if f"{name}_grad" in a:
        agree(torch.autograd.grad(value, logits)[0], a[f"{name}_grad"], GRADIENTS)
    if f"{name}_none" in a:
        each = torch.stack([loss(logits[i : i + 1], target[i : i + 1]) for i in range(len(logits))])
        agree(each, a[f"{name}_none"])


@needs_golden
def test_the_published_loss_of_the_autoencoder_and_its_gradients():
    a, meta = golden("i_dae_losses_metrics")
    p, y, counted = a["probs"].clone().requires_grad_(), a["onehot"][:, :-1], (a["label"] != meta["void"]).float()
    for name, loss in (("crossentropy", cross_entropy), ("squared_error", squared_error)):
        value = loss(p, y, counted)
        agree(value, a[name].squeeze())
        agree(torch.autograd.grad(value, p)[0], a[f"grad_{name}"], GRADIENTS)
    whole = Reconstruction(ignore_index=meta["void"])
    agree(whole(a["probs"].log(), a["label"]), a["total"].squeeze())
