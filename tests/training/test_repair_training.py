"""Training the repair loop: the base stays, states go on through the pool, and broken lines are mended."""

from __future__ import annotations

import functools
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

pytest.importorskip("lightning")

import smp_feedback as smpf
from smp_feedback.data.corruption.broken_masks import as_softened, broken_mask, depths
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.training import CrossFitted, FeedbackModule, PairsModule, RepairModule, fit
from smp_feedback.training.cross_fitting import folds_of
from smp_feedback.training.state_pool import Kept, StatePool

LOOP = smpf.Repair(steps=4, width=8, channels=2)
HOW = {"progress": False, "accelerator": "cpu"}


class Base(nn.Module):
    """A threshold on a norm of the image: what is dark it does not see."""

    def __init__(self):
        super().__init__()
        self.norm, self.head = nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)

    def forward_features(self, image):
        return self.norm(image)

    def forward_head(self, features):
        return self.head(features)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


class Lines(list):
    """Straight lines through images of noise; where they have gaps nothing is to be seen of them."""

    classes, ignore_index = ("ground", "line"), None

    def __init__(self, count, seed=0, side=16):
        rng = np.random.default_rng(seed)
        items = []
        for _ in range(count):
            mask, seen = np.zeros((side, side), np.int64), np.zeros((side, side), np.float32)
            for row in rng.choice(np.arange(1, side - 1, 4), 2, replace=False):
                mask[row] = seen[row] = 1
                gap = rng.integers(2, side - 5)
                seen[row, gap : gap + rng.integers(1, 4)] = 0
            grey = 0.8 * seen + 0.2 * rng.random((side, side), np.float32)
            turned = (lambda x: x.T.copy()) if rng.random() < 0.5 else (lambda x: x)
            items.append((torch.from_numpy(turned(grey)).expand(3, -1, -1), torch.from_numpy(turned(mask))))
        super().__init__(items)


def made(seed=0, config=LOOP):
    torch.manual_seed(seed)
    base = Base()
    with torch.no_grad():
        base.head.weight.copy_(torch.tensor([-4.0, 4.0])[:, None, None, None].expand(2, 3, 1, 1))
        base.head.bias.copy_(torch.tensor([6.0, -6.0]))
    return smpf.wrap(base.eval(), config)


def taught(seed=0, **training):
    told = {"steps": [1, 2], "free_steps": [0, 3], "pool": 4, **training}
    return RepairModule(made(seed), classes=2, **told)


# --- the pool


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(0, 6), st.floats(0, 0.99), st.integers(0, 2**32))
def test_a_pool_gives_what_was_put_and_leaves_the_others(batch, more, share, seed):
    pool, size, steps = StatePool(batch + more), batch + more, []
    expected: dict[int, float] = {}
    for step in range(4):
        slots = pool.slots(batch, Random(seed + step))
        assert len({*slots}) == batch
        assert all(0 <= slot < size for slot in slots)
        rows = pool.rows(slots, share, (1, 1, 1))
        assert len(rows) <= round(share * batch)
        assert len(rows) == min(round(share * batch), sum(slot in expected for slot in slots))
        for row, kept in zip(rows, pool.take([slots[row] for row in rows]), strict=True):
            assert kept.state.item() == expected[slots[row]]
        values = [float(100 * step + k) for k in range(batch)]
        pool.put(slots, [Kept(torch.zeros(1, 1, 1), torch.zeros(1, 1), torch.full((1, 1, 1), x)) for x in values])
        expected |= dict(zip(slots, values, strict=True))
        steps.append(slots)
    twin = StatePool(size)
    twin.load_state_dict(pool.state_dict())
    assert {k: v.state.item() for k, v in twin._kept.items()} == expected
    assert steps == [pool.slots(batch, Random(seed + step)) for step in range(4)]  # what is drawn is the draw's alone


def test_a_slot_of_another_size_begins_anew_and_too_few_slots_are_refused():
    pool = StatePool(2)
    pool.put([0, 1], [Kept(torch.zeros(4, 8, 8), torch.zeros(8, 8), torch.zeros(3, 8, 8))] * 2)
    assert pool.rows([0, 1], 0.5, (4, 8, 8)) == [0]
    assert pool.rows([0, 1], 0.5, (4, 8, 6)) == []
    with pytest.raises(InvalidValue, match="pool=2: expected at least a slot for each image of a batch of 3"):
        pool.slots(3, Random(0))
    with pytest.raises(InvalidInput, match="has pool=2"):
        StatePool(3).load_state_dict(pool.state_dict())


def test_a_share_of_a_batch_goes_on_from_the_states_that_were_reached():
    """With fixed weights a batch whose rows go on from the pool ends where one call of both lengths ends."""
    module = taught(pool=2, pooled=0.5, steps=2, free_steps=0)
    nn.init.normal_(module.model.feedback.net.feedback.readers[0].weight)
    net = module.model.feedback.net
    shown, target = torch.rand(2, 5, 8, 8), torch.zeros(2, 8, 8).long()
    other = torch.rand(2, 5, 8, 8)
    (looks,) = module.unrolling.passes(0, 0, 0)
    with torch.no_grad():
        module._going_on(shown, target, looks, Random(0))
        module._going_on(other, target, looks, Random(0))
        *_, longer = net.iterate(shown, 4)
        *_, fresh = net.iterate(other, 2)
    slots = module.pool.slots(2, Random(0))
    first, second = module.pool.take(slots)
    assert torch.equal(first.shown, shown[0])  # the first row went on, the second began anew
    assert torch.equal(second.shown, other[1])
    torch.testing.assert_close(first.state, longer.state[0, 2:], atol=5e-3, rtol=5e-3)  # through half precision
    torch.testing.assert_close(second.state, fresh.state[1, 2:], atol=5e-3, rtol=5e-3)


# --- broken masks


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(5, 20), st.integers(5, 20), st.integers(2, 4))
def test_a_broken_mask_has_labels_of_the_mask_alone_and_what_is_void_stays(seed, height, width, classes):
    drawn = torch.Generator().manual_seed(seed)
    mask = torch.randint(classes, (height // 4 + 1, width // 4 + 1), generator=drawn)
    mask = mask.repeat_interleave(4, 0).repeat_interleave(4, 1)[:height, :width].contiguous()
    mask[torch.rand(height, width, generator=drawn) < 0.1] = 255
    before = torch.get_rng_state()
    found = broken_mask(mask, torch.Generator().manual_seed(seed), ignore_index=255)
    assert torch.equal(found, broken_mask(mask, torch.Generator().manual_seed(seed), ignore_index=255))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(found == 255, mask == 255)
    assert {*found.unique().tolist()} <= {*mask.unique().tolist()}


@pytest.mark.parametrize("wide", [1, 3])
def test_a_gap_cuts_through_a_line(wide):
    """Of a line through the image more than one piece is left, or it has lost an end: nowhere is it only thinner."""
    for seed in range(20):
        line = torch.zeros(24, 32, dtype=torch.long)
        line[10 : 10 + wide] = 1
        from smp_feedback.data.corruption.broken_masks import _cut

        cut = _cut(line, torch.tensor(1), torch.tensor(0), torch.Generator().manual_seed(seed))
        assert bool((cut.sum(0) == 0).any()), "no column is free of the line"
        assert torch.equal(cut[line == 0], line[line == 0])


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32))
def test_depths_are_the_chessboard_distance_by_brute_force(seed):
    region = torch.rand(9, 7, generator=torch.Generator().manual_seed(seed)) < 0.8
    outside = (~region).nonzero()
    outside = outside.tolist()
    for y in range(9):
        for x in range(7):
            far = [max(abs(y - b), abs(x - a)) for b, a in outside] or [32]
            assert int(depths(region)[y, x]) == min(32, min(far))


def test_softened_labels_are_probabilities_with_the_labels_largest():
    labels = torch.tensor([[0, 1, 2], [255, 1, 0]])
    chances = as_softened(labels, 3, 0.7, 255)
    assert torch.allclose(chances.sum(0), torch.ones(2, 3))
    assert torch.equal(chances.argmax(0)[labels != 255], labels[labels != 255])
    assert torch.allclose(chances[:, 1, 0], torch.full((3,), 1 / 3))


# --- cross-fitting


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(5, 12))
def test_each_image_is_answered_for_by_one_that_did_not_learn_from_it(folds, count):
    parts = folds_of(range(count), folds)
    assert len(parts) == count
    sizes = [parts.count(k) for k in range(folds)]
    assert max(sizes) - min(sizes) <= 1


def test_the_frames_of_a_film_are_in_one_fold():
    films = type("Films", (list,), {"films": (range(0, 3), range(3, 5), range(5, 9))})(range(9))
    assert folds_of(films, 2) == [0, 0, 0, 1, 1, 0, 0, 0, 0]
    with pytest.raises(InvalidValue, match="at most the 3 images, or films"):
        folds_of(films, 4)


def test_the_model_of_a_fold_is_asked_for_its_images_alone():
    class Constant(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = nn.Parameter(torch.tensor(float(value)))

        def forward(self, image):
            return self.value + 0 * image[:, :1]

    fitted = CrossFitted([Constant(k) for k in range(3)], [2, 0, 1, 2])
    found = fitted.chances(torch.rand(3, 3, 2, 2), torch.tensor([3, 1, 2]))
    torch.testing.assert_close(found[:, 0, 0, 0], torch.tensor([2.0, 0.0, 1.0]).sigmoid())
    module = taught(fitted=fitted, broken=0.0)
    assert not any("fitted" in name for name, _ in module.named_parameters())
    with pytest.raises(InvalidInput, match=r"expected \(image, target, index\)"):
        module.shown(torch.rand(1, 3, 2, 2), torch.zeros(1, 2, 2).long(), None, Random(0))


# --- a run


def test_training_moves_the_net_alone():
    module = taught(ema=None)
    before = {name: value.clone() for name, value in module.model.state_dict().items()}
    fit(module, PairsModule(Lines(8), batch_size=4), steps=4, **HOW)
    after = module.model.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("feedback.net.") for name in moved), moved
    assert len(module.pool) == 4


def test_a_run_taken_up_again_is_the_uninterrupted_one_pool_and_all(tmp_path):
    def run(seed, steps, **how):
        constant = functools.partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0)
        return fit(taught(seed, schedule=constant), PairsModule(Lines(8), batch_size=4), steps=steps, **HOW, **how)

    whole = run(0, 4)
    run(0, 2, out=tmp_path)
    resumed = run(1, 4, out=tmp_path, resume=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    ours, theirs = whole.pool.state_dict()["slots"], resumed.pool.state_dict()["slots"]
    assert ours.keys() == theirs.keys()
    for slot, kept in ours.items():
        assert all(torch.equal(a, b) for a, b in zip(kept, theirs[slot], strict=True))


@pytest.mark.parametrize(
    ("told", "kind", "words"),
    [
        ({"broken": 1.5}, InvalidValue, "broken=1.5"),
        ({"pooled": 1.0}, InvalidValue, "pooled=1.0"),
        ({"pool": -1}, InvalidValue, "pool=-1"),
        ({"segments": 2}, InvalidValue, "segments=2: a state goes on through the pool"),
        ({"task": "multilabel"}, InvalidValue, "task='multilabel': masks of one class a pixel"),
        ({"progressive": 0.5}, InvalidValue, "progressive=0.5"),
    ],
)
def test_what_cannot_be_is_refused_by_name(told, kind, words):
    with pytest.raises(kind, match=words):
        taught(**told)


def test_a_model_without_the_loop_is_refused():
    with pytest.raises(InvalidType, match="feedback='repair'"):
        RepairModule(Base(), classes=2)
    with pytest.raises(InvalidValue, match="classes=3"):
        RepairModule(made(), classes=3)


def test_more_images_in_a_step_than_slots_are_refused_before_training():
    with pytest.raises(InvalidValue, match="pool=2: expected at least a slot"):
        fit(taught(pool=2), PairsModule(Lines(8), batch_size=4), steps=1, **HOW)


def test_it_is_a_module_as_any_other():
    assert issubclass(RepairModule, FeedbackModule)


# --- what it learns


@pytest.mark.sweep
def test_broken_lines_are_mended_where_the_image_shows_nothing():
    """Gaps that no threshold sees are closed, more looks than in training included; the base leaves all of them."""
    module = RepairModule(made(), classes=2, steps=[2, 4], free_steps=[0, 6], pool=8, lr=1e-2, broken=0.25)
    fit(module, PairsModule(Lines(96), batch_size=8), steps=120, clip=1.0, **HOW)
    test = Lines(40, seed=7)
    images, masks = (torch.stack(parts) for parts in zip(*test, strict=True))
    with torch.no_grad():
        solved = {
            looks: float((module.model(images, steps=looks).argmax(1) == masks).flatten(1).all(1).float().mean())
            for looks in (0, 8, 40)
        }
    assert solved[0] < 0.05
    assert solved[8] > 0.8
    assert solved[40] > 0.8
