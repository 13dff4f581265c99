"""How many looks a batch has, which of them learn, and that a run is the same however it is interrupted."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.data import Shapes
from smp_feedback.errors import InvalidType, InvalidValue

pytest.importorskip("lightning")
from smp_feedback.training import FeedbackModule, PairsModule, fit
from smp_feedback.training.callbacks import NotFinite
from smp_feedback.training.quiet import quiet
from smp_feedback.training.trainer import build_trainer
from smp_feedback.training.unrolling import LOOP_ONLY, LookPass, Unrolling
from smp_feedback.training.weight_average import averaged

QUICK = {"progress": False, "accelerator": "cpu"}
SGD = functools.partial(torch.optim.SGD, lr=0.5)
SPANS = st.tuples(st.integers(1, 9), st.integers(0, 9)).map(lambda pair: [pair[0], pair[0] + pair[1]])


def tiny(base_norm="group", **loop):
    torch.manual_seed(0)
    config = smpf.Recurrent(**{"steps": 3, "dynamics": "gated", "feedback_init": 0.3} | loop)
    base = {"encoder_depth": 3, "decoder_channels": (8, 8, 8), "base_norm": base_norm}
    return smpf.create("Unet", "tu-test_resnet.r160_in1k", None, classes=3, feedback=config, **base)


def batch(count=2):
    data = Shapes(count, size=32)
    return tuple(torch.stack(column) for column in zip(*(data[i] for i in range(count)), strict=True))


def exactly(model):
    """*model*, evaluating, and a batch, both in double: no order of summation shows."""
    image, target = batch()
    return model.eval().double(), (image.double(), target)


def constant(optimizer):
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], atol=1e-6, rtol=1e-4, msg=name)


def cut(model, image, target, free, steps):
    """The loss of the last of *steps* looks that follow *free* without gradient, as the loop's config says it."""
    before = model.feedback.config
    model.feedback.config = dataclasses.replace(before, grad_steps=steps)
    loss = F.cross_entropy(model.trajectory(image, steps=free + steps)[-1], target)
    model.feedback.config = before
    return loss


# --- what is drawn


@given(SPANS, st.integers(0, 5), st.integers(0, 2**31), st.integers(0, 99))
def test_looks_are_a_function_of_seed_epoch_and_batch_within_their_span(steps, free, seed, index):
    how = Unrolling(usual=4, steps=steps, free_steps=[0, free])
    (looks,) = how.passes(seed, 1, index)
    assert how.passes(seed, 1, index) == (looks,)
    carrying = looks.call.get("grad_steps", looks.call["steps"])
    assert steps[0] <= carrying <= steps[1]
    assert 0 <= looks.call["steps"] - carrying <= free
    assert len(looks.weights) == looks.call["steps"]
    assert sum(looks.weights) == looks.weights[-1] == 1


@pytest.mark.parametrize("place", ["seed", "epoch", "batch", "segment"])
def test_each_number_of_looks_is_as_likely_over(place):
    how, count = Unrolling(usual=4, steps=[8, 16]), 1800
    drawn = [how.passes(**{"seed": 3, "epoch": 2, "batch": 1} | {place: i})[0].call["steps"] for i in range(count)]
    found = collections.Counter(drawn)
    assert found.keys() == set(range(8, 17))
    chi = sum((n - count / 9) ** 2 / (count / 9) for n in found.values())
    assert chi < 26.1, "8 degrees of freedom: exceeded once in a thousand"


def test_nothing_asked_is_a_call_that_says_nothing():
    assert Unrolling(usual=3).passes(0, 0, 0) == (LookPass((0, 0, 1), {}),)


@given(st.integers(1, 12), st.floats(0.01, 0.99), st.integers(0, 10**6))
def test_progressive_looks_are_drawn_as_published(steps, alpha, seed):
    every, *later = Unrolling(usual=1, steps=steps, progressive=alpha).passes(seed, 0, 0)
    assert every.call == {"steps": steps}
    if later:
        (one,) = later
        n = one.call["steps"] - one.call["grad_steps"]
        assert 1 <= n < steps
        assert n < one.call["steps"] <= steps
        assert every.weights[-1] == pytest.approx(1 - alpha)
        assert one.weights[-1] == alpha
        assert one.only_last
    assert sum(w for looks in (every, *later) for w in looks.weights) == pytest.approx(1)


def test_progressive_looks_meet_every_n_and_k_as_often_as_published():
    counts = collections.Counter()
    for seed in range(1800):
        one = Unrolling(usual=1, steps=3, progressive=1.0).passes(seed, 0, 0)[-1]
        k = one.call.get("grad_steps", one.call["steps"])
        counts[one.call["steps"] - k, k] += 1
    wanted = {(n, k): 1800 / 3 / (3 - n) for n in range(3) for k in range(1, 4 - n)}
    assert counts.keys() == wanted.keys()
    assert sum((counts[key] - mean) ** 2 / mean for key, mean in wanted.items()) < 20.5


# --- what the loss is


def test_free_looks_go_before_and_carry_no_gradient():
    model, pair = exactly(tiny())
    module = FeedbackModule(model, classes=3, steps=2, free_steps=3)
    same(gradients(model, module.loss_of(pair)), gradients(model, cut(model, *pair, free=3, steps=2)))


def test_the_progressive_loss_is_that_of_the_paper():
    model, (image, target) = exactly(tiny())
    module = FeedbackModule(model, classes=3, steps=4, progressive=0.3)
    seen = set()
    for seed in range(6):
        every, *later = module.unrolling.passes(seed, 0, 0)
        call = later[0].call if later else {"steps": 4 if every.only_last else 1 + every.weights.index(0.3)}
        free = call["steps"] - call.get("grad_steps", call["steps"])
        seen.add(bool(later))
        whole = F.cross_entropy(model.trajectory(image, steps=4)[-1], target)
        loss = 0.7 * whole + 0.3 * cut(model, image, target, free, call["steps"] - free)
        ours = module.loss_of((image, target), module.unrolling.passes(seed, 0, 0))
        same(gradients(model, ours), gradients(model, loss))
    assert seen == {True, False}, "with looks before those that carry, and without"


def test_a_drawn_look_is_judged_alone_and_no_later_one_is_run():
    model, (image, target) = tiny(steps=5).eval(), batch()
    module = FeedbackModule(model, classes=3, supervise="drawn")
    each = [F.cross_entropy(logits, target).item() for logits in model.trajectory(image)]
    turns = []
    model.segmentation_head.register_forward_hook(lambda *_: turns.append("head"))
    model.encoder.model.layer1.register_forward_hook(lambda *_: turns.append("look"))
    for seed in range(4):
        passes = module.unrolling.passes(seed, 0, 0)
        chosen = passes[0].weights.index(1)
        turns.clear()
        assert module.loss_of((image, target), passes).item() == pytest.approx(each[chosen], rel=1e-5)
        assert collections.Counter(turns) == {"look": chosen + 1, "head": 1}


@pytest.mark.parametrize("supervise", ["mean", "increasing"])
def test_weights_are_those_of_the_looks_that_were_drawn(supervise):
    model, (image, target) = tiny().eval(), batch()
    module = FeedbackModule(model, classes=3, supervise=supervise, steps=[1, 4], free_steps=2)
    passes = module.unrolling.passes(1, 0, 0)
    (looks,) = passes
    steps = looks.call["grad_steps"]
    each = [F.cross_entropy(logits, target).item() for logits in model.trajectory(image, steps=2 + steps)[2:]]
    raw = [1 if supervise == "mean" else t + 1 for t in range(steps)]
    expected = sum(w * loss for w, loss in zip(raw, each, strict=True)) / sum(raw)
    assert module.loss_of((image, target), passes).item() == pytest.approx(expected, rel=1e-5)


def test_fewer_looks_carry_gradient_where_the_loop_says_so():
    assert Unrolling(usual=1, steps=8, free_steps=2, carrying=3).passes(0, 0, 0)[0].call["grad_steps"] == 3
    model, pair = exactly(tiny(grad_steps=1))
    module = FeedbackModule(model, classes=3, steps=2, free_steps=2)
    same(gradients(model, module.loss_of(pair)), gradients(model, cut(model, *pair, free=3, steps=1)))


# --- segments and clipping


def by_hand(model, pair, *, segments, looks, stops, clip, decay):
    """Deep supervision as the paper has it, without Lightning: the weights and their average."""
    average, optimizer = None, SGD(model.parameters())
    image, target = pair
    done = 0
    while done < stops:
        before = None
        for _ in range(min(segments, stops - done)):
            steps = list(model.iterate(image, looks, **({} if before is None else {"before": before})))
            optimizer.zero_grad()
            F.cross_entropy(steps[-1].logits, target).backward()
            nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            before, done = steps[-1].detach(), done + 1
            now = {name: p.detach().clone() for name, p in model.named_parameters()}
            mixed = average or now
            average = {name: averaged(decay, mixed[name], now[name], torch.tensor(done - 1)) for name in now}
    return now, average


def test_segments_carry_the_state_clip_average_and_stop_in_the_middle_of_a_batch():
    data = [tuple(one[0] for one in batch(1))] * 2  # a batch that no order changes
    pair = tuple(torch.stack(column) for column in zip(*data, strict=True))
    how = {"segments": 3, "steps": 2, "optimizer": SGD, "schedule": constant}
    expected, average = by_hand(tiny().train(), pair, segments=3, looks=2, stops=5, clip=0.1, decay=0.9)
    module = FeedbackModule(tiny(), classes=3, **how)
    fit(module, PairsModule(data, batch_size=2), steps=5, clip=0.1, **QUICK)
    assert module.trainer.global_step == 5
    same(dict(module.model.named_parameters()), expected)
    module = FeedbackModule(tiny(), classes=3, ema=0.9, **how)
    fit(module, PairsModule(data, batch_size=2), steps=5, clip=0.1, **QUICK)
    same(dict(module.model.named_parameters()), average)


def test_one_cycle_is_over_all_steps_of_all_segments():
    def cycle(**how):
        module = FeedbackModule(tiny(), classes=3, segments=3, steps=1)
        told = {"accelerator": "cpu", "enable_progress_bar": False, "limit_val_batches": 0}
        with quiet():
            trainer = build_trainer({**told, **how})
            trainer.fit(module, PairsModule(Shapes(4, 32), batch_size=2))
        return module.lr_schedulers().total_steps, module.lr_schedulers().last_epoch, trainer.global_step

    assert cycle(max_epochs=2) == (12, 12, 12)
    assert cycle(max_steps=4, max_epochs=9) == (4, 4, 4)
    assert cycle(max_steps=4) == (4, 4, 4)


@pytest.mark.parametrize("how", [{}, {"steps": 2, "free_steps": 2}])
def test_per_step_clips_what_it_steps_with(how):
    data = [tuple(one[0] for one in batch(1))] * 2
    pair = tuple(torch.stack(column) for column in zip(*data, strict=True))
    model, image, target = tiny(), *pair
    module = FeedbackModule(model, classes=3, backward="per_step", optimizer=SGD, schedule=constant, **how)
    reference = tiny(detach=True).train()
    free = how.get("free_steps", 0)
    *_, last = reference.iterate(image, free + how.get("steps", 3))  # each look on its own: no gradient before it
    F.cross_entropy(last.logits, target).backward()
    norm = nn.utils.clip_grad_norm_(reference.parameters(), 0.1)
    assert norm > 0.1
    SGD(reference.parameters()).step()
    fit(module, PairsModule(data, batch_size=2), steps=1, clip=0.1, **QUICK)
    same(dict(model.named_parameters()), dict(reference.named_parameters()))


@pytest.mark.parametrize("segments", [1, 2])
def test_nan_ends_a_run_that_steps_by_hand_too(segments):
    class Poisoned(Shapes):
        def __getitem__(self, index):
            image, mask = super().__getitem__(index)
            return image * float("nan"), mask

    module = FeedbackModule(tiny(), classes=3, segments=segments, steps=[1, 2])
    with pytest.raises(NotFinite, match="step 0 "):
        fit(module, PairsModule(Poisoned(2, 32), batch_size=2), steps=4, **QUICK)


# --- what is scored and kept


def test_the_average_is_what_is_scored_kept_and_saved(tmp_path):
    from smp_feedback.evaluation import miou
    from smp_feedback.training.run_folder import save_model, train_in

    now = []

    class Seen(FeedbackModule):
        def on_train_batch_end(self, outputs, batch, index):
            now.append({name: p.detach().double().clone() for name, p in self.model.named_parameters()})

    val = Shapes(4, size=32, seed=3)
    module = Seen(tiny(), classes=3, ema=0.99, optimizer=SGD, schedule=constant, steps=[1, 3])
    data = PairsModule(Shapes(6, size=32), val, batch_size=2)
    trainer = {"max_steps": 3, "accelerator": "cpu", "enable_progress_bar": False, "logger": False}
    told = {"monitor": "val_miou", "config": "", "seed": 0, "save_every": 9, "patience": None, "resume": False}
    with quiet():
        assert train_in(tmp_path, module, data, trainer, begin=lambda: None, **told)
    average = now[0]
    for n, weights in enumerate(now[1:], start=1):  # a short run: the decay has hardly begun
        keep = (1 + n) / (10 + n)
        average = {name: keep * average[name] + (1 - keep) * weights[name] for name in average}
    save_model(module, tmp_path, "shapes")
    kept = torch.load(tmp_path / "best.ckpt", weights_only=True)["state_dict"]
    saved = smpf.from_pretrained(tmp_path / "model")
    for found in (
        {name: p.double() for name, p in module.model.named_parameters()},
        {name.removeprefix("model."): p.double() for name, p in kept.items() if name.removeprefix("model.") in average},
        {name: p.double() for name, p in saved.named_parameters()},
    ):
        same(found, average)
    scored = float(module.trainer.callback_metrics["val_miou"])
    assert scored == pytest.approx(miou(saved, val, classes=3), abs=1e-5)


def test_the_loops_own_looks_are_scored_whatever_is_drawn():
    module = FeedbackModule(tiny(), classes=3, steps=[4, 6], free_steps=2)
    fit(module, PairsModule(Shapes(2, 32), Shapes(2, 32), batch_size=2), steps=1, **QUICK)
    assert [key for key in module.trainer.callback_metrics if key.startswith("val_miou/")] == [
        f"val_miou/look_{t}" for t in (1, 2, 3)
    ]


# --- what is refused, and what is warned of


@pytest.mark.parametrize(
    ("training", "loop", "norm", "words"),
    [
        (
            {"steps": 1},
            {},
            None,
            r"comes to 1 look of the loop's 3, .* looks 2 to 3 stay .*statistics='shared'.*steps=3",
        ),
        ({"steps": [1, 2]}, {}, None, "comes to 2 looks of the loop's 3, .* look 3 stay"),
        ({"steps": 1, "progressive": 0.5}, {}, None, "comes to 1 look"),
        ({}, {}, None, None),
        ({"steps": 3}, {}, None, None),
        ({"steps": 1, "free_steps": [0, 2]}, {}, None, None),
        ({"steps": 1, "segments": 3}, {}, None, None),
        ({"steps": 1}, {"statistics": "shared"}, None, None),
        ({"steps": 1}, {}, "group", None),
    ],
)
def test_statistics_of_looks_that_training_never_comes_to_are_warned_of(training, loop, norm, words):
    model = tiny(**loop, base_norm=norm)
    module = FeedbackModule(model, classes=3, optimizer=SGD, schedule=constant, **training)
    expected = contextlib.nullcontext() if words is None else pytest.warns(UserWarning, match=words)
    with expected:
        fit(module, PairsModule(Shapes(4, 32), batch_size=2), steps=12, **QUICK)
    rows = [statistics.num_batches_tracked for statistics in model.recurrent.statistics]
    untrained = any((counts == 0).any() for counts in rows)
    assert untrained == (words is not None), "what is said is what there is"


def test_a_preset_of_any_number_of_looks_has_one_set_of_statistics():
    base = {"encoder_depth": 3, "decoder_channels": (8, 8, 8)}
    model = smpf.create("Unet", "tu-test_resnet.r160_in1k", None, classes=3, feedback="anytime", **base)
    module = FeedbackModule(model, classes=3, steps=1, optimizer=SGD, schedule=constant)
    fit(module, PairsModule(Shapes(2, 32), batch_size=2), steps=1, **QUICK)


@pytest.mark.parametrize(
    ("training", "error", "words"),
    [
        ({"steps": [16, 8]}, InvalidValue, r"steps=\[16, 8\]: expected low <= high"),
        ({"steps": 0}, InvalidValue, "steps=0: expected a whole number >= 1"),
        ({"steps": [0, 2]}, InvalidValue, "steps=0"),
        ({"steps": [1, 2, 3]}, InvalidType, r"steps=\[1, 2, 3\]: expected a whole number >= 1, or two, \[low, high\]"),
        ({"steps": "8"}, InvalidType, "steps='8'"),
        ({"steps": True}, InvalidType, "steps=True"),
        ({"steps": [1.0, 2]}, InvalidType, r"steps=1\.0"),
        ({"free_steps": -1}, InvalidValue, "free_steps=-1"),
        ({"free_steps": [4, 2]}, InvalidValue, r"free_steps=\[4, 2\]: expected low <= high"),
        ({"progressive": 1.5}, InvalidValue, r"progressive=1\.5: expected a share of the loss, 0 to 1"),
        ({"progressive": -0.1}, InvalidValue, r"progressive=-0\.1"),
        ({"progressive": 0.5, "free_steps": 2}, InvalidValue, "leave out free_steps=2"),
        ({"progressive": 0.5, "segments": 2}, InvalidValue, "leave out segments=2"),
        ({"segments": 0}, InvalidValue, "segments=0"),
        ({"segments": 2, "backward": "per_step"}, InvalidValue, "segments=2.*backward='together'"),
        ({"progressive": 0.5, "backward": "per_step"}, InvalidValue, "progressive=0.5.*backward='together'"),
        ({"steps": [2, 3], "supervise": [1, 1]}, InvalidValue, "expected last, mean, increasing or drawn"),
        ({"steps": 2, "supervise": [1, 1, 1]}, InvalidValue, "expected 2 numbers"),
        ({"supervise": "draw"}, InvalidValue, "'drawn'"),
    ],
)
def test_what_makes_no_sense_is_refused_at_birth(training, error, words):
    with pytest.raises(error, match=words):
        FeedbackModule(looping(), classes=3, **training)


@functools.cache
def looping():
    return tiny()


def test_segments_want_dynamics_that_carry():
    with pytest.raises(
        InvalidValue, match=r"segments=2 .* begins anew with each call: take feedback.dynamics of .*leaky"
    ):
        FeedbackModule(tiny(dynamics="decay"), classes=3, segments=2)


@pytest.mark.parametrize(
    "asked", [{"steps": 2}, {"steps": [1, 2]}, {"free_steps": 1}, {"progressive": 0.5}, {"segments": 2}]
)
def test_a_model_that_looks_once_is_asked_for_no_more(asked):
    (name,) = asked
    with pytest.raises(InvalidValue, match=f"{name}=.* is for models that look again, and this Conv2d looks once"):
        FeedbackModule(nn.Conv2d(3, 3, 1), classes=3, **asked)
    assert name in LOOP_ONLY


def test_all_that_only_loops_take_are_arguments():
    import inspect

    assert set(LOOP_ONLY) <= inspect.signature(FeedbackModule).parameters.keys()


def test_accumulated_gradients_are_refused_where_steps_are_taken_by_hand():
    module, data = FeedbackModule(tiny(), classes=3, segments=2), PairsModule(Shapes(2, 32), batch_size=2)
    with quiet():
        trainer = build_trainer({"accumulate_grad_batches": 2, "accelerator": "cpu", "max_steps": 1})
        with pytest.raises(InvalidValue, match="segments=2 does not accumulate gradients"):
            trainer.fit(module, data)
