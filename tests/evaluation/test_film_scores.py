"""Scores of films, held to a count in NumPy: frame by frame, flicker, around cuts and behind occluders."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import ConcatDataset, Subset

import smp_feedback as smpf
from smp_feedback.data import Corrupted
from smp_feedback.errors import DataWarning, InvalidInput, InvalidType, InvalidValue
from smp_feedback.evaluation.films import (
    Averaged,
    FilmScores,
    FrameByFrame,
    FrameStack,
    JoinedFilms,
    LookByLook,
    evaluate_films,
    learn_cut,
    tune_rate,
)
from smp_feedback.evaluation.films.counts import SPAN, FilmTally
from smp_feedback.evaluation.films.cuts import youden
from smp_feedback.evaluation.films.evaluating import count_frames
from smp_feedback.evaluation.films.order import FilmIndex, FrameBatch, films_in, frames_of

VOID, CLASSES, SIDE = 9, 3, 3


class Frames(list):
    """Pairs that say which of them are films; what each frame says is its own logits."""

    classes, ignore_index = ("a", "b", "c"), VOID

    def __init__(self, said, target, films, cuts=(), hidden=None):
        logits = torch.tensor(np.moveaxis(np.eye(CLASSES)[said], -1, 1), dtype=torch.float32)
        super().__init__(zip(5 * logits, torch.tensor(target), strict=True))
        self.films, self.cuts = films, cuts
        if hidden is not None:
            self.hidden = lambda i: torch.tensor(hidden[i])


def drawn(seed, lengths, void=0.2, cuts=True):
    rng = np.random.default_rng(seed)
    count = sum(lengths)
    begins = np.cumsum([0, *lengths])
    films = tuple(range(a, b) for a, b in itertools.pairwise(begins))
    target = rng.integers(0, CLASSES, (count, SIDE, SIDE))
    for film in films:  # the truth stays now and then, so that there is something to flicker
        for i in film[1:]:
            stays = rng.random((SIDE, SIDE)) < 0.7
            target[i] = np.where(stays, target[i - 1], target[i])
    said = np.where(rng.random(target.shape) < 0.3, rng.integers(0, CLASSES, target.shape), target)
    target = np.where(rng.random(target.shape) < void, VOID, target)
    at = tuple(i for film in films for i in film[1:] if rng.random() < 0.2) if cuts else ()
    return said, target, films, at, rng.random(target.shape) < 0.3


def miou(said, target):
    """By sets of pixels, class by class; None where nothing counts."""
    said, target = (
        np.concatenate([s.ravel() for s in said] or [[]]),
        np.concatenate([t.ravel() for t in target] or [[]]),
    )
    said, target = said[target != VOID], target[target != VOID]
    shares = []
    for k in range(CLASSES):
        whole = ((said == k) | (target == k)).sum()
        if whole:
            shares.append(((said == k) & (target == k)).sum() / whole)
    return float(np.mean(shares)) if shares else None


def by_counting(said, target, films, cuts, hidden):
    """All scores, one frame after the other."""
    every = [i for film in films for i in film]
    changed = stayed = 0
    after, before = {k: [] for k in range(SPAN)}, []
    for film in films:
        for t, i in enumerate(film):
            own = [s for s, j in enumerate(film) if s and j in cuts]
            since = [t - s for s in own if s <= t]
            until = [s - t for s in own if s > t]
            if since and min(since) < SPAN:
                after[min(since)].append(i)
            if until and min(until) <= SPAN:
                before.append(i)
            if t == 0 or i in cuts:
                continue
            both = (target[i] != VOID) & (target[i] == target[film[t - 1]])
            stayed += both.sum()
            changed += (both & (said[i] != said[film[t - 1]])).sum()
    behind = hidden & (target != VOID)
    longest = max(map(len, films))
    at = [[film[t] for film in films if len(film) > t] for t in range(longest)]
    cut = any(i in cuts for film in films for i in film[1:])
    return FilmScores(
        miou=miou(said[every], target[every]),
        per_class=(),
        accuracy=float((said == target)[target != VOID].mean()),
        flicker=changed / stayed if stayed else None,
        by_frame=tuple(miou(said[i], target[i]) for i in at),
        after_cut=tuple(miou(said[after[k]], target[after[k]]) for k in range(SPAN)) if cut else (),
        before_cut=miou(said[before], target[before]),
        hidden=float((said == target)[behind].mean()) if behind.any() else None,
        films=len(films),
        frames=len(every),
    )


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31),
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.3]),
    st.integers(1, 3),
)
def test_films_are_scored_as_numpy_counts(seed, lengths, void, side_by_side):
    said, target, films, cuts, hidden = drawn(seed, lengths, void)
    if (target == VOID).all():
        return
    data = Frames(said, target, films, cuts, hidden)
    found = evaluate_films(nn.Identity(), data, classes=CLASSES, ignore_index=VOID, batch_size=side_by_side)
    wanted = by_counting(said, target, films, cuts, hidden)
    for name in ("miou", "accuracy", "flicker", "before_cut", "hidden", "films", "frames"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name)), name
    assert found.by_frame == pytest.approx(wanted.by_frame)
    assert found.after_cut == pytest.approx(wanted.after_cut)


def test_wrappers_and_parts_put_together_say_the_same_films():
    said, target, films, cuts, hidden = drawn(3, [5, 4])
    data = Frames(said, target, films, cuts, hidden)
    plain = films_in(data)
    assert films_in(Corrupted(data, "clean", 0))[:2] == plain[:2]
    assert films_in(Corrupted(data, "clean", 0)).hidden(3).equal(data.hidden(3))
    some = films_in(Subset(data, [6, 7, 0, 2]))
    assert some.places == ((2, 3), (0, 1))
    assert some.hidden(1).equal(data.hidden(7))
    both = films_in(ConcatDataset([data, data]))
    assert both.places[2:] == tuple(tuple(9 + i for i in film) for film in plain.places)
    assert both.cuts == plain.cuts * 2


def test_nothing_leaves_the_device_while_frames_are_counted(monkeypatch):
    films = FilmIndex(((0, 1), (2, 3)), ((1,), ()))
    tally = FilmTally(films, 2, None, torch.device("cpu"))

    def refused(*args):
        raise AssertionError("read from the device")

    with monkeypatch.context() as patched:
        for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__"):
            patched.setattr(torch.Tensor, name, refused)
        for t in range(2):
            hidden = torch.ones(2, 2, 2, dtype=torch.bool)
            tally.add(torch.rand(2, 2, 2, 2), FrameBatch(None, torch.zeros(2, 2, 2).long(), hidden, t, (0, 1)))
    assert tally.scores().frames == 4


def test_progress_is_told_of_every_frame_of_films_side_by_side():
    said, target, films, _, _ = drawn(0, [4, 2, 4, 4])
    data, told = Frames(said, target, films), []
    evaluate_films(nn.Identity(), data, classes=3, ignore_index=VOID, batch_size=2, advance=lambda: told.append(1))
    assert len(told) == count_frames(data, 2) == 4 + 4 + 2


def test_frames_come_in_the_films_order_side_by_side():
    data = Frames(*drawn(0, [2, 3, 2])[:3])
    data.films = ((1, 0), (2, 3, 4), (6, 5))
    seen = [(frame.place, frame.films) for frame in frames_of(data, films_in(data), batch_size=8)]
    assert seen == [(0, (0, 2)), (1, (0, 2)), (0, (1,)), (1, (1,)), (2, (1,))]
    first = next(iter(frames_of(data, films_in(data))))
    assert first.target.equal(torch.stack([data[1][1], data[6][1]]))


class Noted(nn.Module):
    """Says what it was shown, and takes note of it."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, image):
        self.seen.append(image)
        return image


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 7))
def test_a_stack_holds_the_last_frames_and_repeats_the_first(count, length):
    stack = FrameStack(Noted(), count)
    for _ in range(2):  # a film begun again remembers nothing of the one before
        stack.begin()
        for t in range(length):
            stack.see(torch.full((1, 2, 1, 1), float(t)))
            shown = stack.model.seen[-1][0, ::2, 0, 0].tolist()
            assert shown == [max(0, t - back) for back in reversed(range(count))]


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 1.0), st.integers(1, 9), st.integers(0, 2**31))
def test_averaged_answers_meet_their_closed_form(rate, length, seed):
    logits = torch.randn(length, 1, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    average = Averaged(nn.Identity(), rate)
    average.begin()
    answers = [average.see(frame) for frame in logits]
    q = logits.softmax(2).numpy()
    weights = [(1 - rate) ** (length - 1 - t) * (rate if t else 1) for t in range(length)]
    wanted = sum(w * one for w, one in zip(weights, q, strict=True))
    np.testing.assert_allclose(answers[-1].numpy(), wanted, rtol=1e-9)


def test_rates_are_tuned_by_the_scores_that_averaging_has():
    said, target, films, _, _ = drawn(1, [9, 9, 7])
    data = Frames(said, target, films)
    found = tune_rate(nn.Identity(), data, classes=3, ignore_index=VOID, rates=[0.2, 0.5, 1.0])
    assert set(found) == {0.2, 0.5, 1.0}
    assert [*found.values()] == sorted(found.values(), reverse=True)
    for rate, score in found.items():
        alone = evaluate_films(Averaged(nn.Identity(), rate), data, classes=3, ignore_index=VOID)
        assert score == alone.miou
    plain = evaluate_films(nn.Identity(), data, classes=3, ignore_index=VOID)
    assert found[1.0] == plain.miou


def tiny(**feedback):
    torch.manual_seed(0)
    config = smpf.Recurrent(**{"dynamics": "gated", "projection": "state", "channels": 2, **feedback})
    return smpf.create("PlainConv", classes=3, width=4, depth=2, feedback=config).eval()


@torch.no_grad()
def test_a_carried_state_is_asked_one_look_a_frame():
    model, film = tiny(), torch.rand(4, 2, 3, 8, 8)
    looking, step = LookByLook(model), None
    for _ in range(2):
        looking.begin()
        step = None
        for frame in film:
            step = model.look(frame, step)
            assert looking.see(frame).equal(step.logits.softmax(1))
    apart = FrameByFrame(model, looks=3)
    assert apart.see(film[1]).equal(model(film[1], steps=3).softmax(1))


def test_a_model_that_carries_is_scored_look_by_look_and_others_frame_by_frame():
    said, target, films, _, _ = drawn(2, [4, 4])
    data = Frames(said, target, films)
    how = {"classes": 3, "ignore_index": VOID}
    model = tiny()
    assert evaluate_films(model, data, **how) == evaluate_films(LookByLook(model), data, **how)
    assert evaluate_films(smpf.Film(model), data, **how) == evaluate_films(model, data, **how)
    anew = tiny(dynamics="decay", projection="softmax")
    assert evaluate_films(anew, data, **how) == evaluate_films(FrameByFrame(anew), data, **how)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=4), st.integers(2, 3), st.sampled_from([None, 1, 3]))
def test_joined_films_go_over_into_the_next_ones(lengths, parts, most):
    data = Frames(*drawn(0, lengths, cuts=False)[:3])
    joined = JoinedFilms(data, parts, most)
    shots = [tuple(film)[:most] for film in data.films]
    found = films_in(joined)
    assert len(found.places) == len(shots)
    for i, (film, cuts) in enumerate(zip(found.places, found.cuts, strict=True)):
        own = [shots[(i + k) % len(shots)] for k in range(parts)]
        assert film == sum(own, ())
        assert {0, *cuts} >= {sum(map(len, own[:k])) for k in range(parts)}
    assert joined[1][0].equal(data[1][0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=12))
def test_the_threshold_has_the_largest_j_and_the_auc_counts_pairs(drawn_changes):
    changes = torch.tensor([value / 4 for value, _ in drawn_changes])
    cuts = torch.tensor([cut for _, cut in drawn_changes])
    if cuts.all() or not cuts.any():
        with pytest.raises(InvalidInput, match="cuts and"):
            youden(changes, cuts)
        return
    found = youden(changes, cuts)
    yes, no = changes[cuts].numpy(), changes[~cuts].numpy()
    pairs = [(a > b) + 0.5 * (a == b) for a in yes for b in no]
    assert found.auc == pytest.approx(np.mean(pairs))
    above = (yes > found.threshold).mean(), (no > found.threshold).mean()
    assert (found.found, found.false) == pytest.approx(above)
    best = max((yes > t).mean() - (no > t).mean() for t in [-1.0, *(changes.numpy() - 1e-4)])
    assert found.found - found.false == pytest.approx(best)


def still(films, shots):
    """Films that stand still: each shot one picture, so that nothing but a cut moves the state for long."""
    pictures = torch.rand(films, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    said = Frames(np.zeros((films * shots, 8, 8), int), np.zeros((films * shots, 8, 8), int), ())
    said[:] = [(pictures[i // shots], torch.zeros(8, 8).long()) for i in range(films * shots)]
    said.films = tuple(range(i * shots, (i + 1) * shots) for i in range(films))
    return said


def test_a_cut_is_learned_where_the_state_tells_it():
    model, data = tiny(), still(4, 12)
    later = JoinedFilms(data)
    found = learn_cut(model, later, keep=True)
    assert (found.cuts, found.others) == (4, 4 * 21)
    assert model.loop_config.cut == float(found) == found.threshold
    assert 0.5 < found.auc <= 1
    with torch.no_grad():
        changes = {False: [], True: []}
        for film in films_in(later).places:
            step = None
            for t, place in enumerate(film):
                step = model.look(later[place][0][None], step)
                changes[t == 12] += [float(step.change)] if t >= 2 else []
    assert np.mean([change > found.threshold for change in changes[True]]) == pytest.approx(found.found)
    assert np.mean([change > found.threshold for change in changes[False]]) == pytest.approx(found.false)
    assert learn_cut(tiny(), data) == found, "films without cuts are joined"


def test_frames_in_no_film_are_counted_in_a_warning_and_not_scored():
    said, target, *_ = drawn(0, (4, 3), void=0)
    data = Frames(said, target, (range(2), (4, 6)))
    with pytest.warns(DataWarning, match=r"^3 of 7 frames of Frames are in no film, and not scored"):
        found = evaluate_films(nn.Identity(), data, classes=CLASSES)
    chosen = Frames(said[[0, 1, 4, 6]], target[[0, 1, 4, 6]], (range(2), range(2, 4)))
    assert found == evaluate_films(nn.Identity(), chosen, classes=CLASSES)
    whole = Frames(said, target, (range(4), range(4, 7)))
    evaluate_films(nn.Identity(), JoinedFilms(whole, frames=1), classes=CLASSES)  # asked for, and not said


def test_what_is_no_film_or_cannot_be_scored_is_refused():
    said, target, films, _, _ = drawn(0, [3, 3])
    data = Frames(said, target, films)
    with pytest.raises(InvalidInput, match=r"list does not say which frames are a film"):
        evaluate_films(nn.Identity(), [*data], classes=3)
    with pytest.raises(InvalidValue, match="classes=1"):
        evaluate_films(nn.Identity(), data, classes=1)
    with pytest.raises(InvalidValue, match=r"reset='auto': this Identity carries no state"):
        evaluate_films(nn.Identity(), data, classes=3, reset="auto")
    with pytest.raises(InvalidType, match="a model, or a Predictor"):
        evaluate_films("plain", data, classes=3)
    with pytest.raises(InvalidValue, match="carries no state"):
        LookByLook(nn.Identity())
    with pytest.raises(InvalidInput, match="neither a class nor ignored"):
        evaluate_films(nn.Identity(), data, classes=3)
    with pytest.raises(InvalidValue, match=r"rate=1.5"):
        Averaged(nn.Identity(), 1.5)
    with pytest.raises(InvalidValue, match="looks=2"):
        FrameByFrame(nn.Identity(), looks=2)
    one = Frames(said[:3], target[:3], films[:1])
    with pytest.raises(InvalidInput, match="two films or more"):
        learn_cut(tiny(), one)
    data.task = "multilabel"
    with pytest.raises(InvalidValue, match="data is for 'multilabel'"):
        evaluate_films(nn.Identity(), data, classes=3)
    data.films = ((),)
    with pytest.raises(InvalidInput, match="at least one frame"):
        films_in(data)


def test_a_stack_is_shown_frames_normalised_as_its_channels_are():
    frames = Frames(*drawn(0, [3, 2])[:3])
    frames.normalised = False
    frames[:] = [(image / 5, mask) for image, mask in frames]  # in [0, 1]
    shown = []

    class Says(nn.Conv2d):
        def forward(self, x):
            shown.append(x)
            return super().forward(x)

    model = Says(2 * CLASSES, CLASSES, 1)
    mean, std = (0.1, 0.2, 0.3) * 2, (0.5, 0.25, 0.2) * 2
    model.data_config = smpf.DataConfig(mean=mean, std=std, channels=2 * CLASSES)
    evaluate_films(FrameStack(model, 2), frames, classes=CLASSES, ignore_index=VOID, batch_size=1)
    wanted = [(0, 0), (0, 1), (1, 2), (3, 3), (3, 4)]
    for x, (before, now) in zip(shown, wanted, strict=True):
        stack = torch.cat([frames[before][0], frames[now][0]])[None]
        torch.testing.assert_close(x, model.data_config.normalise(stack))


def test_films_that_are_joined_keep_their_own_cuts():
    nothing = np.zeros((7, SIDE, SIDE), int)
    data = Frames(nothing, nothing, (range(4), range(4, 7)), cuts=(2, 5))
    assert films_in(JoinedFilms(data)).cuts == ((2, 4, 5), (1, 3, 5))
