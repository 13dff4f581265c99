"""Connectivity: an independent count of pieces and holes, closed forms, and one measurement for each other answer."""

from __future__ import annotations

import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

pytest.importorskip("skimage")
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue, MissingExtra
from smp_feedback.evaluation import (
    betti_errors,
    betti_numbers,
    breaks_per_length,
    cldice,
    connectivity,
    evaluate,
    evaluate_all,
    topology,
)
from smp_feedback.evaluation.confusion import cells_of
from smp_feedback.evaluation.connectivity import Betti, Traits, cldice_of, traits_of
from smp_feedback.evaluation.connectivity_names import NEITHER
from smp_feedback.evaluation.measures import measure_of
from smp_feedback.evaluation.named_metrics import METRICS, TOPOLOGY
from smp_feedback.ops.reading import CLASSIFICATION, MULTILABEL, SEGMENTATION

VOID = 255
BETTI = ["betti0_error", "betti1_error"]


def random_masks(count=200):
    """Specks, blobs and all but full ones, of several sizes."""
    rng = np.random.default_rng(0)
    return [rng.random((rng.integers(1, 18), rng.integers(1, 18))) < share for share in rng.random(count)]


def line(length=40, gaps=(), height=7):
    """A line of one pixel, without the columns of *gaps*."""
    mask = np.zeros((height, length), dtype=bool)
    mask[height // 2] = True
    for begin, end in gaps:
        mask[:, begin:end] = False
    return mask


def ring(side=16, gap=0):
    mask = np.zeros((side, side), dtype=bool)
    mask[2:-2, 2:-2] = True
    mask[3:-3, 3:-3] = False
    mask[2, 5 : 5 + gap] = False
    return mask


# --- Betti numbers, derived anew


def pieces(mask, diagonally):
    """Connected components, by union and find over pairs of neighbours."""
    steps = [(0, 1), (1, 0), (1, 1), (1, -1)] if diagonally else [(0, 1), (1, 0)]
    places = {tuple(place) for place in np.argwhere(mask).tolist()}
    parent = {place: place for place in places}

    def root(place):
        while parent[place] != place:
            place = parent[place]
        return place

    for y, x in places:
        for dy, dx in steps:
            if (y + dy, x + dx) in places:
                parent[root((y, x))] = root((y + dy, x + dx))
    return sum(parent[place] == place for place in places)


def euler(mask):
    """V - E + F of the pixels as closed unit squares, whose corners and edges are shared."""
    up = np.pad(mask, 1)
    corners = up[1:, 1:] | up[1:, :-1] | up[:-1, 1:] | up[:-1, :-1]
    edges = (up[1:] | up[:-1]).sum() + (up[:, 1:] | up[:, :-1]).sum()
    return int(corners.sum() - edges + mask.sum())


def test_betti_numbers_are_those_of_the_pixel_complex():
    for mask in random_masks():
        components, loops = betti_numbers(mask)
        assert components == pieces(mask, diagonally=True)
        assert components - loops == euler(mask)
        assert loops == pieces(~np.pad(mask, 1), diagonally=False) - 1, "holes, which hang together by sides alone"


def test_betti_errors_are_differences_of_independent_counts():
    masks = random_masks(100)
    for one, other in pairwise(masks):
        height, width = (min(a, b) for a, b in zip(one.shape, other.shape, strict=True))
        pair = one[:height, :width], other[:height, :width]
        counted = [(pieces(mask, True), pieces(mask, True) - euler(mask)) for mask in pair]
        assert betti_errors(*pair) == tuple(abs(a - b) for a, b in zip(*counted, strict=True))


@pytest.mark.parametrize(
    ("pred", "truth", "errors"),
    [
        (line(gaps=[(10, 14)]), line(), (1, 0)),
        (ring(gap=3), ring(), (0, 1)),
        (np.pad(np.ones((4, 9)), 2), np.pad(np.repeat([[1, 1, 1, 1, 0, 1, 1, 1, 1]], 4, 0), 2), (1, 0)),  # two merged
        (np.eye(5), np.ones((5, 5)), (0, 0)),
        (np.fliplr(np.eye(5)) + np.eye(5) > 0, np.eye(5), (0, 0)),
    ],
)
def test_known_shapes_have_known_errors(pred, truth, errors):
    assert betti_errors(pred, truth) == errors


# --- clDice


def sets(mask):
    return {tuple(place) for place in np.argwhere(mask).tolist()}


def independently(said, said_line, so, so_line):
    precision = len(sets(said_line) & sets(so)) / len(sets(said_line))
    sensitivity = len(sets(so_line) & sets(said)) / len(sets(so_line))
    return 2 / (1 / precision + 1 / sensitivity) if precision and sensitivity else 0.0


def test_cldice_is_the_harmonic_mean_of_both_shares_whatever_the_skeletons():
    rng = np.random.default_rng(1)
    for share in np.linspace(0.05, 0.95, 200):
        parts = rng.random((4, 9, 9)) < [[[share]], [[0.4]], [[0.5]], [[0.3]]]
        parts[:, 0, 0] = True
        said, so = Traits(parts[0], parts[1], Betti(0, 0)), Traits(parts[2], parts[3], Betti(0, 0))
        assert cldice_of(said, so) == pytest.approx(independently(*parts), rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.lists(st.booleans(), min_size=12, max_size=12)] * 2), min_size=1, max_size=3))
def test_of_straight_lines_it_is_their_dice(rows):
    """A line of one pixel is its own skeleton, so that precision and sensitivity are those of the masks."""
    said, so = (np.zeros((2 * len(rows), 12), dtype=bool) for _ in range(2))
    for k, (one, other) in enumerate(rows):
        said[2 * k], so[2 * k] = one, other
    found, both = cldice(said, so), said.sum() + so.sum()
    if both == 0:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(2 * (said & so).sum() / both)


def test_a_skeleton_keeps_every_piece_and_every_hole():
    """So that what is not empty has one, and breaks of it are breaks of the structure."""
    for mask in random_masks():
        found = traits_of(mask, "mask")
        assert (pieces(found.skeleton, True), euler(found.skeleton)) == (pieces(mask, True), euler(mask))
        assert not (found.skeleton & ~mask).any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 199), st.integers(0, 199))
def test_cldice_is_symmetric_and_one_of_the_same(one, other):
    masks = random_masks()
    said, so = masks[one], masks[other]
    height, width = (min(a, b) for a, b in zip(said.shape, so.shape, strict=True))
    said, so = said[:height, :width], so[:height, :width]
    assert cldice(said, so) == pytest.approx(cldice(so, said), nan_ok=True)
    assert cldice(said, said) == pytest.approx(1 if said.any() else math.nan, nan_ok=True)


def test_a_gap_costs_cldice_and_breadth_does_not():
    truth, broad = line(), np.repeat(line()[3:4], 7, 0)
    broad[[0, -1]] = False
    assert cldice(line(gaps=[(10, 20)]), truth) == pytest.approx(2 * 0.75 / 1.75)
    assert cldice(broad, truth) > 0.97 > 2 * truth.sum() / (truth.sum() + broad.sum()) + 0.5


# --- breaks


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=3, max_size=40), st.integers(0, 2))
def test_breaks_of_a_line_are_its_inner_gaps(said, tolerance):
    """Counted along one dimension: runs that are not covered, but for those at the ends; 1 where nothing is."""
    near = [any(said[max(0, i - tolerance) : i + tolerance + 1]) for i in range(len(said))]
    text = "".join("x" if one else " " for one in near)
    expected = len(text.strip().split()) - 1 if any(near) else 1
    mask = np.zeros((1, len(said)), dtype=bool)
    mask[0] = said
    found = breaks_per_length(mask, np.ones_like(mask), tolerance=tolerance)
    assert found == pytest.approx(1000 * expected / len(said))


@pytest.mark.parametrize(
    ("pred", "truth", "breaks"),
    [
        (line(gaps=[(10, 14)]), line(), 1),
        (line(gaps=[(10, 14), (20, 24)]), line(), 2),
        (line(gaps=[(10, 12)]), line(), 0),  # no longer than the tolerance lets through
        (line(gaps=[(0, 8), (36, 40)]), line(), 0),  # its ends are short, and it is whole
        (np.roll(line(), 1, 0), line(), 0),  # a pixel beside
        (np.roll(line(), 2, 0), line(), 1),  # as a whole
        (ring(gap=5), ring(), 1),
        (np.zeros((7, 40), dtype=bool), line(), 1),
    ],
)
def test_known_shapes_have_known_breaks(pred, truth, breaks):
    assert breaks_per_length(pred, truth) * traits_of(truth, "truth").skeleton.sum() / 1000 == pytest.approx(breaks)


def test_a_junction_that_is_missed_is_one_break():
    cross = np.zeros((31, 31), dtype=bool)
    cross[15], cross[:, 15] = True, True
    missed = cross.copy()
    missed[10:21, 10:21] = False
    assert breaks_per_length(missed, cross) * traits_of(cross, "truth").skeleton.sum() == pytest.approx(1000)
    stub = cross.copy()
    stub[:13] = False  # one arm is short, up to the junction's neighbourhood
    assert breaks_per_length(stub, cross) == 0


# --- where something is empty


NOTHING = np.zeros((7, 40), dtype=bool)


@pytest.mark.parametrize(
    ("pred", "truth", "expected"),
    [
        (NOTHING, NOTHING, (math.nan, (0, 0), math.nan)),
        (NOTHING, line(), (0, (1, 0), 25)),
        (line(), NOTHING, (0, (1, 0), math.nan)),
    ],
)
def test_what_is_empty_has_a_value_or_none(pred, truth, expected):
    found = cldice(pred, truth), betti_errors(pred, truth), breaks_per_length(pred, truth)
    assert found[0] == pytest.approx(expected[0], nan_ok=True)
    assert found[1] == expected[1]
    assert found[2] == pytest.approx(expected[2], nan_ok=True)


def test_a_class_that_is_nowhere_has_no_cldice_and_is_in_no_mean_but_that_of_errors():
    so = torch.zeros(2, 7, 40).long()
    so[0] = torch.from_numpy(line()).long()
    score = scored([so], so)
    assert score.images.measured["cldice"][:, 1].tolist() == pytest.approx([1, math.nan], nan_ok=True)
    assert score.images.measured["betti0_error"][:, 1].tolist() == [0, 0]
    assert (score.metrics["cldice"], score.metrics["true_components"]) == (1, 0.5)


# --- of images, classes and looks


class Said(nn.Module):
    """A model that answers with labels that are known, in succession."""

    def __init__(self, labels, classes):
        super().__init__()
        self.logits, self.place = nn.functional.one_hot(labels, classes).movedim(-1, 1).float(), 0

    def forward(self, image):
        self.place += len(image)
        return self.logits[self.place - len(image) : self.place]


def scored(looks, so, classes=2, **how):
    data = [(torch.zeros(3, *so.shape[-2:]), one) for one in so]
    about = {"classes": classes, "ignore_index": VOID, "images": True, "topology": True, **how}
    models = {t: Said(said, classes) for t, said in enumerate(looks)}
    found = evaluate_all(models, data, **about)
    return found[0].last if len(looks) == 1 else [found[t].last for t in models]


def test_each_class_is_a_mask_and_background_is_none():
    rng = np.random.default_rng(3)
    said, so = (torch.from_numpy(rng.integers(0, 3, (4, 9, 8))) for _ in range(2))
    so[:, :2] = VOID
    score = scored([said], so, classes=3)
    assert {*score.images.measured} == {*TOPOLOGY}
    for image in range(4):
        for k in (1, 2):
            masks = [((part[image] == k) & (so[image] != VOID)).numpy() for part in (said, so)]
            values = {name: float(score.images.measured[name][image, k]) for name in TOPOLOGY}
            assert values["cldice"] == pytest.approx(cldice(*masks), nan_ok=True)
            assert [values[name] for name in BETTI] == list(betti_errors(*masks))
            assert values["breaks"] == pytest.approx(breaks_per_length(*masks), nan_ok=True, rel=1e-6)
            assert (values["components"], values["loops"]) == betti_numbers(masks[0])
            assert (values["true_components"], values["true_loops"]) == betti_numbers(masks[1])
    for name in TOPOLOGY:
        assert score.images.measured[name][:, 0].isnan().all(), "the background is no structure"
        each = score.images.measured[name].double().nanmean(0)
        assert score.metrics[name] == pytest.approx(float(each.nanmean()))
        assert score.class_metrics[name][0] is None


def test_what_is_said_where_nothing_is_scored_does_not_matter_and_a_void_image_has_no_value():
    so, said = torch.from_numpy(np.stack([line(), line()])).long(), torch.zeros(2, 7, 40).long()
    so[0, :, 20:], so[1] = VOID, VOID
    said[0, 3, :20] = 1
    one, other = scored([said], so), scored([torch.where(so == VOID, 1, said)], so)
    for name in TOPOLOGY:
        values = one.images.measured[name]
        assert torch.equal(values.nan_to_num(-1), other.images.measured[name].nan_to_num(-1))
        assert values[1].isnan().all()
    assert one.metrics["cldice"] == 1


def test_of_several_labels_every_class_is_a_structure():
    so = torch.from_numpy(np.stack([line(), line(gaps=[(9, 14)])])).long()[None]
    cells = cells_of(torch.from_numpy(line()).long().expand(1, 2, 7, 40), so, 2, None, MULTILABEL)
    found = measure_of(2, None, MULTILABEL, topology=True)(cells)
    assert found["betti0_error"].tolist() == [[0, 1]]


def test_what_was_measured_is_not_measured_again(monkeypatch):
    """Three models: two answer alike, and the third as the truth is; the skeletons of three masks in all."""
    seen = []

    def counted(mask, name):
        seen.append(mask)
        return traits_of(mask, name)

    monkeypatch.setattr(topology, "traits_of", counted)
    so = torch.from_numpy(np.stack([line(), ring(16)[:7, :7].repeat(6, 1)[:, :40]])).long()
    said = torch.from_numpy(np.stack([line(gaps=[(4, 9)]), line()])).long()
    first, second, third = scored([said, said, so], so)
    assert len(seen) == 3
    assert first.metrics == second.metrics
    assert third.metrics["cldice"] == 1
    assert first.metrics["betti0_error"] > 0


@pytest.mark.parametrize(("most", "many"), [("PIXELS", 4 * line().size), ("KEPT", 4)])
def test_large_masks_and_many_are_not_all_remembered(most, many, monkeypatch):
    monkeypatch.setattr(topology, most, many)
    measure = topology.Topology(2, None, SEGMENTATION)
    so = torch.from_numpy(line()).long()[None]
    for gap in range(4, 12):
        said = torch.from_numpy(line(gaps=[(gap, gap + 5)])).long()[None]
        assert measure.of(cells_of(said, so, 2, None))["betti0_error"][0, 1] == 1
    assert len(measure._traits) == 4


def test_it_is_measured_where_it_is_asked_for_alone():
    so = torch.from_numpy(line()).long()[None]
    asked, not_asked = scored([so], so), scored([so], so, topology=False)
    assert {*asked.metrics} - {*not_asked.metrics} == {*TOPOLOGY}
    assert {*asked.intervals} == {*()}
    drawn = scored([so, so], so, bootstrap=40)[0].intervals
    assert drawn["betti0_error"] == (0, 0)


def test_what_measures_goes_to_another_process():
    so = torch.from_numpy(line()).long()[None]
    measure = measure_of(2, None, SEGMENTATION, topology=True)
    cells = cells_of(so, so, 2, None)
    measure(cells)
    again = pickle.loads(pickle.dumps(measure))(cells)
    assert torch.equal(again["cldice"].nan_to_num(-1), measure(cells)["cldice"].nan_to_num(-1))


# --- what does not fit


@pytest.mark.parametrize("call", [cldice, betti_errors, breaks_per_length])
def test_masks_that_do_not_fit_are_refused(call):
    for pair, words in (
        ((line(), line(30)), r"pred has the shape \(7, 40\), truth \(7, 30\)"),
        ((line()[None], line()), r"pred has the shape \(1, 7, 40\): expected a mask \(H, W\)"),
        ((line(), 2 * line()), "truth holds other values than 0 and 1"),
        ((torch.rand(7, 40), line()), "pred holds other values"),
    ):
        with pytest.raises(InvalidInput, match=words):
            call(*pair)
    assert call(torch.from_numpy(line()), line().astype(float)) == call(line(), line())


def test_a_tolerance_is_a_number_of_pixels():
    with pytest.raises(InvalidValue, match="tolerance=-1"):
        breaks_per_length(line(), line(), tolerance=-1)
    with pytest.raises(InvalidType, match="tolerance='1'"):
        breaks_per_length(line(), line(), tolerance="1")


def test_labels_are_not_connected_and_a_library_that_is_missing_is_named(monkeypatch):
    data = [(torch.zeros(3, 2, 2), torch.tensor(0))]
    with pytest.raises(InvalidValue, match="nothing that is connected"):
        evaluate(nn.Identity(), data, classes=3, task=CLASSIFICATION, topology=True)
    monkeypatch.setattr("smp_feedback.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"smp_feedback\[topology\]"):
        evaluate(nn.Identity(), [(torch.zeros(2, 2, 2), torch.zeros(2, 2).long())], classes=2, topology=True)
    with pytest.raises(MissingExtra, match=r"smp_feedback\[topology\]"):
        cldice(line(), line())


def test_every_metric_of_connectivity_knows_which_way_is_better():
    better = {name: METRICS[name].best for name in TOPOLOGY}
    assert better == {"cldice": "max", **dict.fromkeys([*BETTI, "breaks"], "min")} | dict.fromkeys(
        ["components", "loops", "true_components", "true_loops"], NEITHER
    )
    assert connectivity.TOLERANCE == 1
