"""Training the restoration loop: the published order of updates, where gradients end, and that a run repeats."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from test_golden import agree, golden, needs_golden
from torch import nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_pre_hook

import smp_feedback as smpf
from smp_feedback.data import Shapes, Triplets
from smp_feedback.data.augment import as_transform, augmented
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue, UnknownKeyword, UnknownName
from smp_feedback.evaluation.image_quality import l1, psnr
from smp_feedback.ops.warp import warp
from smp_feedback.restorers.base import Restored, Restorer

pytest.importorskip("lightning")
import lightning

from smp_feedback.training import PairsModule, RestorationModule, TripletsModule, fit
from smp_feedback.training.callbacks import NotFinite
from smp_feedback.training.quiet import quiet
from smp_feedback.training.restoration_step import step_by_step
from smp_feedback.training.step_loss import StepLoss

QUIET = {"progress": False, "accelerator": "cpu"}
PLAIN = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
TINY = {"depth": 2, "filters": 4}


class StubRestorer(Restorer):
    """z = conv3x3(x) [+ conv1x1(feedback)]; the image is warped by 10 tanh(z)."""

    def __init__(self, channels, feedback_channels):
        super().__init__()
        self.c, self.f = nn.Conv2d(channels, 2, 3, padding=1), nn.Conv2d(feedback_channels, 2, 1)

    def restore(self, image, begun, feedback):
        z = self.c(image) if feedback is None else self.c(image) + self.f(feedback)
        displacement = 10 * z.tanh()
        return Restored(warp(image, displacement), displacement)


class StubSegmenter(nn.Module):
    """conv1x1(tanh(conv3x3(image)))"""

    def __init__(self, classes, channels=3):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(channels, 6, 3, padding=1), nn.Conv2d(6, classes, 1)

    def forward_features(self, image):
        return self.c1(image).tanh()

    def forward_head(self, x):
        return self.c2(x)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


@pytest.fixture
def stub(restored):
    """The stub among the restorers."""
    smpf.register_restorer("stub", lambda config, channels, classes: StubRestorer(channels, channels * classes))


def stub_model(classes=20, **loop):
    return smpf.wrap(StubSegmenter(classes), feedback=smpf.Restoration(restorer="stub", **loop))


def parts(model):
    """R's and M's convolutions by the names of the golden arrays."""
    restorer = model.restorer
    return {"r_c": restorer.c, "r_f": restorer.f, "s_c1": model.c1, "s_c2": model.c2}


def watched(steps):
    """Notes the gradients with which each optimiser steps."""

    def note(optimizer, *_):
        steps.append([None if p.grad is None else p.grad.clone() for g in optimizer.param_groups for p in g["params"]])

    return register_optimizer_step_pre_hook(note)


class Listed(list):
    """Triplets in memory, with their classes."""

    ignore_index = None

    def __init__(self, *columns, classes=20):
        super().__init__(zip(*columns, strict=True))
        self.classes = tuple(map(str, range(classes)))


@needs_golden
def test_one_batch_is_the_published_one(stub):
    a, meta = golden("g_feedback_loop")
    model = stub_model()
    for name, conv in parts(model).items():
        conv.load_state_dict({key: a[f"{name}_{key}"] for key in ("weight", "bias")})
    weights = {"class_weights": a["class_weights"].tolist(), "ignore_index": 19}
    module = RestorationModule(model, classes=20, **weights)
    triplets = Listed(a["turbulent"], a["clean"], a["target"])
    steps = []
    handle = watched(steps)
    fit(module, TripletsModule(triplets, triplets, batch_size=2), steps=1, **QUIET)
    handle.remove()

    for ours, theirs in zip(module.trainer.optimizers, (meta["adam_r"], meta["adam_s"]), strict=True):
        assert {key: ours.param_groups[0][key] for key in theirs} == {**theirs, "betas": tuple(theirs["betas"])}
    assert len(steps) == 4, "three of R, and one of M"
    for number, gradients in enumerate(steps[:3], start=1):
        for name, gradient in zip(("c_weight", "c_bias", "f_weight", "f_bias"), gradients, strict=True):
            theirs = a[f"grad_r_it{number}_{name}"]
            if (number, name) == (1, "f_weight"):
                assert max(gradient.abs().max(), theirs.abs().max()) < 1e-5, "there is no feedback yet"
            else:
                agree(gradient, theirs, 1e-3)
    for name, gradient in zip(("c1_weight", "c1_bias", "c2_weight", "c2_bias"), steps[3], strict=True):
        agree(gradient, a[f"grad_s_{name}"], 1e-3)
    for name, conv in parts(model).items():
        for key, value in conv.state_dict().items():
            agree(value, a[f"after_{name}_{key}"], 1e-5)

    with torch.no_grad():
        for t, passed in enumerate(model.eval().passes(a["turbulent"])):
            agree(passed.restored, a["val_restored"][t], 2e-4)
            agree(passed.logits, a["val_logits"][t], 2e-4)
    there = a["val_iou"][~module.scored.per_class[-1][:19].isnan()]
    torch.testing.assert_close(module.scored.per_class[-1][: len(a["val_iou"])].nan_to_num(0), a["val_iou"])
    assert module.trainer.callback_metrics["val_miou"].item() == pytest.approx(there.mean().item(), rel=1e-5)


# --- one batch again, in NumPy and float64, by finite differences

LR_R, LR, DECAY = 2e-4, 5e-4, 0.5  # a decay that shows in one step of Adam
GAMMAS, CLASS_WEIGHTS = (0.0, 1.5), np.array([1.0, 4.0])
SHAPES = {"c": (2, 3), "c0": (2,), "f": (2, 6), "f0": (2,), "m": (2, 3), "m0": (2,)}
"""R: displacement = 10 tanh(c x + c0 [+ f feedback + f0]); M: logits = m x + m0, all of them 1 x 1 convolutions."""


def mixed(weight, x):
    return np.einsum("oi,bihw->bohw", weight, x)


def warped(x, d):
    """Bilinear, clamped at the border, pixel by pixel."""
    out = np.empty_like(x)
    height, width = x.shape[2:]
    for b, c, i, j in np.ndindex(x.shape):
        y, z = np.clip(i + d[b, 0, i, j], 0, height - 1), np.clip(j + d[b, 1, i, j], 0, width - 1)
        y0, z0 = min(int(y), height - 2), min(int(z), width - 2)
        dy, dz = y - y0, z - z0
        rows = [(1 - dz) * x[b, c, r, z0] + dz * x[b, c, r, z0 + 1] for r in (y0, y0 + 1)]
        out[b, c, i, j] = (1 - dy) * rows[0] + dy * rows[1]
    return out


def restored_by(w, x, feedback):
    z = mixed(w["c"], x) + w["c0"][:, None, None]
    if feedback is not None:
        z = z + mixed(w["f"], feedback) + w["f0"][:, None, None]
    return warped(x, 10 * np.tanh(z))


def segmented_by(w, z):
    return mixed(w["m"], z) + w["m0"][:, None, None]


def chance(logits, target):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return np.take_along_axis(e / e.sum(1, keepdims=True), target[:, None], 1)[:, 0]


def focal(logits, target, factor):
    """Weighted mean over each image's pixels, label 9 left out; *factor* does not move."""
    weight = np.where(target == 9, 0, CLASS_WEIGHTS[target % 9])
    lost = -(weight * factor * np.log(chance(logits, target % 9))).sum((1, 2)) / weight.sum((1, 2))
    return lost.mean()


def slopes(loss, w, names, step=1e-6):
    """Central differences of loss(w) along each of the arrays *names*."""
    found = {}
    for name in names:
        found[name] = np.zeros_like(w[name])
        for place in np.ndindex(w[name].shape):
            ends = []
            for sign in (1, -1):
                moved = w[name].copy()
                moved[place] += sign * step
                ends.append(loss({**w, name: moved}))
            found[name][place] = (ends[0] - ends[1]) / (2 * step)
    return found


class Adam:
    """Kingma and Ba's, with the decay added to the gradient."""

    def __init__(self, lr, decay=0.0):
        self.lr, self.decay, self.t, self.m, self.v = lr, decay, 0, {}, {}

    def step(self, w, gradients):
        self.t += 1
        new = dict(w)
        for name, plain in gradients.items():
            g = plain + self.decay * w[name]
            self.m[name] = 0.9 * self.m.get(name, 0) + 0.1 * g
            self.v[name] = 0.999 * self.v.get(name, 0) + 0.001 * g * g
            m, v = self.m[name] / (1 - 0.9**self.t), self.v[name] / (1 - 0.999**self.t)
            new[name] = w[name] - self.lr * m / (np.sqrt(v) + 1e-8)
        return new


def batch_in_numpy(w, x, clean, target):
    """The gradients of R step by step, those of M, and the weights after one batch of two feedback iterations."""
    of_r, of_m, adam = [], [], Adam(LR_R)
    z = restored_by(w, x, None)
    before = last = segmented_by(w, z)
    for gamma in GAMMAS:
        feedback = np.concatenate([z[:, k : k + 1] * (last - before) for k in range(3)], 1)
        of_r.append(
            slopes(lambda v, f=feedback: np.abs(restored_by(v, x, f) - clean).mean(), w, ("c", "c0", "f", "f0"))
        )
        z = restored_by(w, x, feedback)
        before, last = last, segmented_by(w, z)
        factor = (1 - chance(last, target % 9)) ** gamma
        of_m.append(slopes(lambda v, z=z, k=factor: focal(segmented_by(v, z), target, k), w, ("m", "m0")))
        w = adam.step(w, of_r[-1])
    total = {name: sum(each[name] for each in of_m) for name in ("m", "m0")}
    return of_r, total, Adam(LR, DECAY).step(w, total)


class OneByOne(StubRestorer):
    def __init__(self, channels, feedback_channels):
        super().__init__(channels, feedback_channels)
        self.c = nn.Conv2d(channels, 2, 1)


class OneByOneSegmenter(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = nn.Conv2d(3, 2, 1)

    def forward_features(self, image):
        return image

    def forward_head(self, x):
        return self.m(x)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


def test_one_batch_is_that_of_our_own_derivation(restored):
    rng = np.random.default_rng(4)
    w = {name: 0.3 * rng.standard_normal(shape) for name, shape in SHAPES.items()}
    w["m"] *= 4
    x, clean = rng.random((2, 2, 3, 4, 5))
    target = rng.choice([0, 1, 9], (2, 4, 5))
    of_r, of_m, after = batch_in_numpy(w, x, clean, target)

    smpf.register_restorer("one by one", lambda config, channels, classes: OneByOne(channels, channels * classes))
    loop = smpf.Restoration(steps=2, restorer="one by one")
    model = smpf.wrap(OneByOneSegmenter(), feedback=loop)
    convs = {"c": model.restorer.c, "f": model.restorer.f, "m": model.m}
    with torch.no_grad():
        for name, conv in convs.items():
            conv.weight.copy_(torch.from_numpy(w[name])[..., None, None])
            conv.bias.copy_(torch.from_numpy(w[f"{name}0"]))
    module = RestorationModule(
        model, classes=2, ignore_index=9, gammas=[0, 1.5], class_weights=[1, 4], weight_decay=DECAY
    )
    triplets = Listed(*(torch.from_numpy(part).float() for part in (x, clean)), torch.from_numpy(target), classes=2)
    steps = []
    handle = watched(steps)
    fit(module, TripletsModule(triplets, batch_size=2), steps=1, **QUIET)
    handle.remove()

    for theirs, ours in zip([*of_r, of_m], steps, strict=True):
        for wanted, found in zip(theirs.values(), ours, strict=True):
            torch.testing.assert_close(found.flatten().double(), torch.from_numpy(wanted.ravel()), rtol=1e-3, atol=1e-5)
    assert np.abs(of_r[1]["f"]).min() > 1e-4, "the second iteration hears something"
    for name, conv in convs.items():
        for key, wanted in (("weight", after[name]), ("bias", after[f"{name}0"])):
            if (name, key) != ("f", "weight"):  # the first gradient of f is zero: what Adam makes of it is chance
                found = getattr(conv, key).detach().flatten().double()
                torch.testing.assert_close(found, torch.from_numpy(wanted.ravel()), rtol=0, atol=2e-6)


# --- what a batch does


def triplets(count=8, **how):
    return Triplets(Shapes(count, 32, **how), "motion_blur", 2)


def tiny(classes=3, **loop):
    base = {"encoder": "tu-test_resnet", "encoder_weights": None, "decoder_channels": (16, 16, 8, 8, 8)}
    return smpf.create("Unet", classes=classes, feedback=smpf.Restoration(**{**TINY, "steps": 2, **loop}), **base)


def batch(count=2):
    data = triplets(count)
    return tuple(torch.stack(column) for column in zip(*(data[i] for i in range(count)), strict=True))


def calls(module):
    """How often *module* runs, in which mode."""
    seen = []
    module.register_forward_pre_hook(lambda own, _: seen.append(own.training))
    return seen


def test_a_batch_costs_one_pass_more_than_there_are_steps_all_of_them_in_training_mode():
    model = tiny(steps=3)
    m, r = calls(model.segmentation_head), calls(model.restorer.last)
    fit(RestorationModule(model, classes=3), TripletsModule(triplets(), batch_size=4), steps=2, **QUIET)
    assert m == r == [True] * 8


def test_restoration_alone_is_one_pass_and_one_step_of_each():
    model, steps = tiny(weight=0, steps=1), []
    m = calls(model.segmentation_head)
    handle = watched(steps)
    fit(
        RestorationModule(model, classes=3, loss="cross_entropy"),
        TripletsModule(triplets(), batch_size=4),
        steps=1,
        **QUIET,
    )
    handle.remove()
    assert (m, len(steps)) == ([True], 2)
    learns = [name for name, _ in model.restorer.named_parameters() if not name.startswith("transfer.")]
    assert len(steps[0]) == len(learns), "nothing is fed back, all else learns"
    assert not any(g is None for g in steps[0])


@pytest.mark.parametrize("end_to_end", [False, True])
def test_a_step_of_the_run_is_a_batch(end_to_end):
    module = RestorationModule(tiny(), classes=3, end_to_end=end_to_end)
    count = []
    module.on_train_batch_start = lambda *_: count.append(module.trainer.global_step)
    fit(module, TripletsModule(triplets(), batch_size=4), steps=3, **QUIET)
    assert (count, module.trainer.global_step) == ([0, 1, 2], 3)


def test_both_networks_learn_and_validation_says_how_well():
    model = tiny(reach=4.0)
    data = Listed(*batch(4), classes=3)
    module = RestorationModule(model, classes=3, lr_restorer=5e-3, lr=5e-3, decay=1.0)
    once = lightning.Trainer(max_steps=36, check_val_every_n_epoch=36, accelerator="cpu", **PLAIN)
    with quiet():
        once.fit(module, TripletsModule(data, data, batch_size=4))
    found = module.trainer.callback_metrics
    distorted, clean, _ = (torch.stack(column) for column in zip(*data, strict=True))
    assert found["val_l1"] < 0.9 * l1(distorted, clean).mean()
    assert found["val_psnr"] > psnr(distorted, clean).mean() + 0.5
    assert found["val_miou"] > 0.6
    assert found["val_miou"] == found["val_miou/pass_2"] == module.scored.looks[-1]


def test_validation_scores_every_pass():
    model, data = tiny(steps=2).eval(), triplets(5, seed=3)
    nn.init.normal_(model.restorer.last.weight, std=0.5)
    module = RestorationModule(model, classes=3, lr=1e-12, lr_restorer=1e-12)
    fit(module, TripletsModule(triplets(4), data, batch_size=4), steps=1, **QUIET)
    distorted, clean, target = (torch.stack(column) for column in zip(*data, strict=True))
    with torch.no_grad():
        first = model.segment(model.restore(distorted).image)
        looks = list(model.iterate(distorted))
    for scored, logits in zip(module.scored.looks, [first, *(step.logits for step in looks)], strict=True):
        assert scored.item() == pytest.approx(numpy_miou(logits.argmax(1).numpy(), target.numpy()), abs=1e-6)
    found = module.trainer.callback_metrics
    mean = (looks[-1].restored - clean).abs().mean()
    assert found["val_l1"].item() == pytest.approx(mean.item(), rel=1e-5)
    mse = (looks[-1].restored - clean).double().square().mean((1, 2, 3)).numpy()
    assert found["val_psnr"].item() == pytest.approx(float((-10 * np.log10(mse)).mean()), rel=1e-5)


def numpy_miou(said, target):
    shares = []
    for k in range(3):
        either = ((said == k) | (target == k)).sum()
        if either:
            shares.append(((said == k) & (target == k)).sum() / either)
    return float(np.mean(shares))


@pytest.mark.parametrize("loop", [{}, {"steps": 3, "absolute": True}, {"weight": 0, "steps": 1}])
def test_passes_are_the_steps_of_the_model_and_the_one_before(loop):
    model, image = tiny(**loop).eval(), torch.rand(2, 3, 32, 32)
    nn.init.normal_(model.restorer.last.weight, std=0.5)
    every = list(model.passes(image))
    first = model.restore(image)
    torch.testing.assert_close(every[0].restored, first.image)
    torch.testing.assert_close(every[0].logits, model.segment(first.image))
    wanted = list(model.iterate(image))
    for passed, step in zip(every[-len(wanted) :], wanted, strict=True):
        torch.testing.assert_close(passed.logits, step.logits)
        torch.testing.assert_close(passed.restored, step.restored)
        torch.testing.assert_close(passed.displacement, step.displacement)


def test_learning_rates_are_functions_of_the_epoch():
    module, seen = RestorationModule(tiny(), classes=3, halve_every=2), []
    module.on_train_batch_start = lambda *_: seen.append([o.param_groups[0]["lr"] for o in module.optimizers()])
    fit(module, TripletsModule(triplets(4), batch_size=4), steps=5, **QUIET)
    wanted = [[2e-4 * 0.5 ** (e // 2), 5e-4 * 0.99**e] for e in range(5)]
    np.testing.assert_allclose(seen, wanted, rtol=1e-12)


def test_end_to_end_is_one_backward_pass_over_the_weighted_sum_and_reaches_the_restorer_from_the_segmentation():
    model, (distorted, clean, target) = tiny(steps=2), batch()
    nn.init.normal_(model.restorer.last.weight, std=0.1)
    twin = copy.deepcopy(model)
    module = RestorationModule(model, classes=3, loss="cross_entropy", end_to_end=True, segmentation_weight=0.25)
    steps = []
    handle = watched(steps)
    fit(module, TripletsModule(Listed(distorted, clean, target, classes=3), batch_size=2), steps=1, **QUIET)
    handle.remove()
    assert len(steps) == 2, "one of R, one of M"

    z = twin.restore(distorted).image
    before = last = twin.segment(z)
    total = 0
    for _ in range(2):
        z = twin.restore(distorted, twin.feed_back(last - before, z)).image
        before, last = last, twin.segment(z)
        total = total + (z - clean).abs().mean() + 0.25 * F.cross_entropy(last, target)
    total.backward()
    for found, wanted in zip(steps[0], twin.restorer.parameters(), strict=True):
        agree(found, wanted.grad, 1e-3)
    assert module.trainer.callback_metrics["loss"] > 0
    segmenter = [p.grad for n, p in twin.named_parameters() if not n.startswith("feedback.restorer.")]
    for found, wanted in zip(steps[1], segmenter, strict=True):
        agree(found, wanted, 1e-3)


def test_any_loss_is_summed_over_the_steps_with_their_weights():
    model, (distorted, clean, target) = tiny(steps=3).eval(), batch()  # eval: fit turns it to training again
    module = RestorationModule(model, classes=3, loss="cross_entropy", step_weights=[1.0, 0.5], lr_restorer=1e-12)
    twin = copy.deepcopy(model).train()
    fit(module, TripletsModule(Listed(distorted, clean, target, classes=3), batch_size=2), steps=1, **QUIET)
    each = F.cross_entropy(twin.segment(twin.restore(distorted).image), target)  # a new R gives the image back
    found = module.trainer.callback_metrics
    assert found["loss"].item() == pytest.approx(2.0 * each.item(), rel=1e-3)
    assert found["loss_restorer"].item() == pytest.approx(3 * (distorted - clean).abs().mean().item(), rel=1e-3)


def test_a_network_that_paints_learns_too(restored):
    smpf.register_restorer("painter", lambda config, channels, classes: nn.Conv2d(channels, channels, 3, padding=1))
    model = tiny(restorer="painter")
    before = copy.deepcopy(model.state_dict())
    fit(RestorationModule(model, classes=3), TripletsModule(triplets(4), triplets(2), batch_size=4), steps=2, **QUIET)
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {name for name, _ in model.named_parameters()}


def test_a_base_of_one_class_learns_two():
    module = RestorationModule(tiny(classes=1), classes=2, class_weights=[1, 2])
    pairs = [(d, c, (t > 0).long()) for d, c, t in triplets(4)]
    data = Listed(*zip(*pairs, strict=True), classes=2)
    fit(module, TripletsModule(data, data, batch_size=4), steps=1, **QUIET)
    assert module.scored.per_class.shape == (3, 2)


def test_under_autocast_a_step_uses_the_weights_of_the_update_before(stub):
    """Autocast keeps weights as it has cast them once; after R's update they are others."""
    model, seen = stub_model(3, steps=2), []
    with torch.no_grad():
        model.restorer.c.bias.fill_(5.0)  # far away
    module = RestorationModule(model, classes=3, loss="cross_entropy")
    restoring = model.restoring
    model.restoring = lambda *a: seen.append(restoring(*a)) or seen[-1]

    def at_once(optimizer, *_):
        if optimizer.param_groups[0]["lr"] == module.lr_restorer:
            with torch.no_grad():
                for p in model.restorer.parameters():
                    p.zero_()

    handle = register_optimizer_step_pre_hook(at_once)
    optimizer = torch.optim.SGD(model.restorer.parameters(), lr=module.lr_restorer)

    def update():
        optimizer.step()
        optimizer.zero_grad()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        step_by_step(model, batch(), nn.L1Loss(), module.loss, torch.Tensor.backward, update)
    handle.remove()
    assert seen[1].restored.displacement.abs().max() > 5
    assert seen[2].restored.displacement.abs().max() < 0.1
    assert all(p.grad is not None for n, p in model.named_parameters() if not n.startswith("feedback."))


def test_half_precision_is_close_to_full():
    found = []
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(1)
        module = RestorationModule(tiny(), classes=3)
        trainer = lightning.Trainer(max_steps=2, precision=precision, accelerator="cpu", **PLAIN)
        with quiet():
            trainer.fit(module, TripletsModule(triplets(), triplets(4), batch_size=4))
        found.append(trainer.callback_metrics)
    for name in ("loss", "loss_restorer"):
        assert found[1][name].item() == pytest.approx(found[0][name].item(), rel=0.05)


# --- class weights


def test_balanced_weights_are_counted_in_the_training_data_and_never_distort_it():
    data = triplets(6)
    data.corrupted.corrupt = None  # would fail when called
    module = RestorationModule(tiny(), classes=3)
    counts = np.bincount(np.concatenate([data.dataset[i][1].numpy().ravel() for i in range(6)]), minlength=3)
    n = 100 * np.log(1.1 + counts / counts.sum())
    module.loss.balance(data.dataset)
    np.testing.assert_allclose(module.loss.loss.class_weights, (1 - 0.9999) / (1 - 0.9999**n), rtol=1e-9)


def test_training_waits_for_nobody_to_balance_and_a_list_of_triplets_will_do():
    plain = [triplets(4)[i] for i in range(4)]
    weights = []
    for data in (triplets(4), plain):
        module = RestorationModule(tiny(), classes=3)
        assert module.loss.waits
        fit(module, TripletsModule(data, batch_size=4), steps=1, **QUIET)
        weights.append(module.loss.loss.class_weights)
    assert weights[0] == weights[1]
    assert len(set(weights[0])) == 3


def test_what_is_drawn_while_counting_is_drawn_alike_and_leaves_no_trace():
    class Cropped(Shapes):
        def __getitem__(self, index):
            return augmented(as_transform("crop_flip"), *super().__getitem__(index))

    loss, weights = StepLoss("class_balanced_iterative_focal", classes=3), []
    for seed in range(2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        weights.append(loss.balance(Cropped(4, 32)))
        assert torch.equal(torch.get_rng_state(), before)
    assert weights[0] == weights[1]


def test_a_class_to_ignore_weighs_nothing():
    module = RestorationModule(tiny(), classes=3, ignore_index=0)
    weights = module.loss.balance(Shapes(4, 32))
    assert weights[0] == 0
    assert min(weights[1:]) > 0


@pytest.mark.parametrize("loss", ["iterative_focal", "cross_entropy", "dice", nn.CrossEntropyLoss()])
def test_losses_without_class_weights_wait_for_none(loss):
    assert not RestorationModule(tiny(), classes=3, loss=loss).loss.waits


def test_the_classes_of_any_loss_that_weighs_them_are_weighed_as_torch_does():
    weights, logits, target = [1.0, 0.0, 4.0], torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    loss = RestorationModule(tiny(), classes=3, loss="cross_entropy", class_weights=weights).loss
    wanted = nn.functional.cross_entropy(logits, target, torch.tensor(weights))
    torch.testing.assert_close(loss(logits, target, 0), wanted)
    with pytest.raises(InvalidValue, match="weighs no classes; those that do are"):
        RestorationModule(tiny(), classes=3, loss="SoftCrossEntropyLoss", class_weights=weights)


# --- a run that stops


def kept(module):
    return {**module.state_dict(), **{f"{i}": o.state_dict() for i, o in enumerate(module.trainer.optimizers)}}


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


class KilledError(Exception):
    """What ends a run."""


@pytest.mark.parametrize("stop", [3, 4], ids=["inside an epoch", "between two"])
def test_a_run_that_was_killed_goes_on_bit_for_bit(stop, tmp_path):
    def run(out, resume=False, kill=None):
        torch.manual_seed(5)
        data = Triplets(Shapes(8, 32), "gaussian_noise", 2, fresh=True)
        module = RestorationModule(tiny(), classes=3, halve_every=1)

        def die(*_):
            if module.trainer.global_step == kill:
                raise KilledError

        module.on_train_batch_start = die
        how = {"steps": 6, "seed": 3, "out": tmp_path / out, "resume": resume, "save_every": 1, **QUIET}
        return kept(fit(module, TripletsModule(data, triplets(2), batch_size=4), **how))

    whole = run("whole")
    with pytest.raises(KilledError):
        run("killed", kill=stop)
    assert same(whole, run("killed", resume=True))


def test_a_displacement_that_is_no_number_spoils_its_pixel_alone_and_ends_no_process():
    image, displacement = torch.rand(1, 3, 4, 5), torch.rand(1, 2, 4, 5)
    wanted = warp(image, displacement)
    displacement[0, 1, 2, 3] = float("nan")
    found = warp(image, displacement.requires_grad_())
    found.nansum().backward()
    lost = torch.zeros(1, 3, 4, 5, dtype=torch.bool)
    lost[..., 2, 3] = True
    assert torch.equal(found.isnan(), lost)
    assert torch.equal(found[~lost], wanted[~lost])
    assert displacement.grad.isfinite().all()


def test_a_distorted_image_that_is_no_number_ends_the_run_and_is_named():
    data = triplets(4)
    corrupt = data.corrupted.corrupt
    data.corrupted.corrupt = lambda image, i: corrupt(image, i) * (float("nan") if i == 2 else 1)
    with pytest.raises(NotFinite, match=r"coloured_shapes\[2\]"):
        fit(RestorationModule(tiny(), classes=3), TripletsModule(data, batch_size=4), steps=1, **QUIET)


# --- what is refused

WRONG = {
    "loop": ({"model": nn.Identity()}, InvalidType, "model is a Identity: expected one with a restoration loop"),
    "classes": ({"classes": 4}, InvalidValue, "classes=4: this model's base tells 3"),
    "loss": ({"loss": "iterative_focl"}, UnknownName, "Did you mean 'iterative_focal'"),
    "gammas": ({"gammas": [-1.0]}, InvalidType, "gammas=-1.0"),
    "one gamma": ({"gammas": 0.1}, InvalidType, "gammas=0.1"),
    "no loss": ({"loss": 3}, InvalidType, "loss=3: expected a name, or a torch.nn.Module"),
    "no restoration loss": ({"restoration_loss": 3}, InvalidType, "restoration_loss=3: expected a name, or a torch"),
    "gammas of none": ({"loss": "dice", "gammas": [0.0]}, UnknownKeyword, "gammas"),
    "weights": ({"class_weights": [1.0, 2.0]}, InvalidValue, "class_weights has 2 numbers, the data have 3 classes"),
    "nan": ({"class_weights": [1.0, 2.0, float("nan")]}, InvalidValue, "class_weights=nan"),
    "zeros": ({"class_weights": [0, 0, 0]}, InvalidValue, "expected at least one number > 0"),
    "word": ({"class_weights": "balancd"}, InvalidValue, "class_weights='balancd': expected 'balanced'"),
    "weights of none": ({"loss": "iterative_focal", "class_weights": [1, 1, 1]}, InvalidValue, "weighs no classes"),
    "of a module": ({"loss": nn.CrossEntropyLoss(), "gammas": [0.0]}, InvalidValue, "has its arguments already"),
    "step weights": ({"step_weights": "ones"}, InvalidType, "step_weights='ones'"),
    "restoration loss": ({"restoration_loss": "L3Loss"}, UnknownName, "Did you mean 'L1Loss'"),
    "rate": ({"lr_restorer": float("nan")}, InvalidValue, "lr_restorer=nan"),
    "rate of M": ({"lr": 0}, InvalidValue, "lr=0"),
    "weight decay": ({"weight_decay": -1.0}, InvalidValue, "weight_decay=-1.0"),
    "decay": ({"decay": 0}, InvalidValue, "decay=0"),
    "halving": ({"halve_every": 0}, InvalidValue, "halve_every=0"),
    "end to end": ({"end_to_end": 1}, InvalidType, "end_to_end=1"),
    "sum": ({"segmentation_weight": -1}, InvalidValue, "segmentation_weight=-1"),
}


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.mark.parametrize("what", list(WRONG))
def test_wrong_arguments_are_refused_at_birth(what, model):
    told, kind, words = WRONG[what]
    with pytest.raises(kind, match=words.replace("[", r"\[")):
        RestorationModule(**{"model": model, "classes": 3, **told})


def test_no_step_is_refused():
    with pytest.raises(InvalidValue, match="steps=0"):
        smpf.Restoration(steps=0)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"accumulate_grad_batches": 2}, "RestorationModule does not accumulate gradients, as R takes a step in each"),
        ({"precision": "16-true"}, "does not scale gradients"),
        ({"precision": "16-mixed"}, "RestorationModule does not scale gradients"),
    ],
)
def test_what_optimisers_stepped_by_hand_cannot_do_is_refused(how, words, model):
    module = RestorationModule(model, classes=3)
    added = how.get("accumulate_grad_batches", 1)
    trainer = lightning.Trainer(max_steps=1, accelerator="cpu", accumulate_grad_batches=added, **PLAIN)
    trainer.precision_plugin.precision = how.get("precision", "32-true")  # a CPU has no scaler to refuse
    with pytest.raises(InvalidValue, match=words):
        trainer.fit(module, TripletsModule(triplets(4), batch_size=4))


def test_batches_that_are_no_triplets_are_refused_with_their_shapes(model):
    module = RestorationModule(model, classes=3, class_weights=None)
    with pytest.raises(InvalidInput, match=r"a batch of shapes \(4, 3, 32, 32\), \(4, 32, 32\), \(4,\)"):
        fit(module, PairsModule(Shapes(4, 32), batch_size=4), steps=1, **QUIET)


def test_a_side_that_is_frozen_is_refused():
    frozen = tiny()
    frozen.restorer.requires_grad_(False)
    with pytest.raises(InvalidValue, match="no parameter of the restorer requires a gradient"):
        fit(RestorationModule(frozen, classes=3), TripletsModule(triplets(4), batch_size=4), steps=1, **QUIET)


def test_balancing_without_data_to_count_says_so(model):
    module = RestorationModule(model, classes=3)
    with pytest.raises(InvalidValue, match="counts the pixels of a TripletsModule"):
        lightning.Trainer(max_steps=1, accelerator="cpu", **PLAIN).fit(module, [batch()], [batch()])
