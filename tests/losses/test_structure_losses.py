"""Losses of structures: other derivations of soft skeletons and thinning, closed forms, and mixtures by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue, UnknownKeyword, UnknownName
from smp_feedback.losses.cldice import DiceClDice, SoftClDice, soft_skeleton
from smp_feedback.losses.mixture import LossMixture, Term
from smp_feedback.losses.skeleton_recall import SkeletonRecall
from smp_feedback.losses.thinning import thinned, tube
from smp_feedback.ops.reading import CLASSIFICATION, MULTILABEL
from smp_feedback.testing import check_loss
from smp_feedback.training.apply_loss import loss_of_look
from smp_feedback.training.build_loss import build_loss
from smp_feedback.training.loss_terms import check_reached

ndimage = pytest.importorskip("scipy.ndimage")
OURS = {"soft_cldice": SoftClDice, "dice_cldice": DiceClDice, "skeleton_recall": SkeletonRecall}
every_loss = pytest.mark.parametrize("make", OURS.values(), ids=OURS)
CROSS = ndimage.generate_binary_structure(2, 1)


def batch(classes=3, size=6, seed=0, images=2):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(images, classes, size, size + 1, dtype=torch.float64, generator=generator)
    return logits, torch.randint(0, classes, (images, size, size + 1), generator=generator)


def sure(target, classes=2, by=40.0):
    return by * F.one_hot(target, classes).permute(0, 3, 1, 2).float()


def bar(height=9, width=24, top=3, bottom=6):
    mask = torch.zeros(1, height, width).long()
    mask[:, top:bottom, 2:-2] = 1
    return mask


# --- soft skeletons and clDice


def eroded(image):
    return ndimage.grey_erosion(image, footprint=CROSS, mode="constant", cval=np.inf)


def skeleton_of(image, iterations):
    """Algorithm 1, from its words, with scipy's filters."""
    opened = ndimage.grey_dilation(eroded(image), size=(3, 3), mode="constant", cval=-np.inf)
    skeleton = np.maximum(image - opened, 0)
    for _ in range(iterations):
        image = eroded(image)
        opened = ndimage.grey_dilation(eroded(image), size=(3, 3), mode="constant", cval=-np.inf)
        skeleton = skeleton + (1 - skeleton) * np.maximum(image - opened, 0)
    return skeleton


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.integers(1, 12), st.integers(1, 12), st.integers(0, 4))
def test_a_soft_skeleton_is_that_of_scipys_filters(seed, height, width, iterations):
    image = np.random.default_rng(seed).random((height, width))
    found = soft_skeleton(torch.from_numpy(image)[None, None], iterations)[0, 0].numpy()
    np.testing.assert_allclose(found, skeleton_of(image, iterations), rtol=0, atol=1e-12)
    assert found.min() >= 0
    assert found.max() <= 1


def test_a_soft_skeleton_is_monais():
    monai = pytest.importorskip("monai.losses.cldice")
    image = torch.rand(2, 3, 17, 13, generator=torch.Generator().manual_seed(0))
    for iterations in (0, 1, 3):
        torch.testing.assert_close(soft_skeleton(image, iterations), monai.soft_skel(image, iterations))


@pytest.mark.parametrize(("iterations", "smooth"), [(0, 1.0), (3, 1.0), (5, 0.1)])
def test_soft_cldice_is_our_own_derivation(iterations, smooth):
    logits, target = batch()
    target[0, :2] = 255
    shares = []
    p, counted = logits.softmax(1).numpy(), (target != 255).numpy()
    for image in range(2):
        for k in (1, 2):
            said, so = p[image, k] * counted[image], ((target[image] == k).numpy() & counted[image]).astype(float)
            said_line, so_line = (skeleton_of(mask, iterations) for mask in (said, so))
            precision = ((said_line * so).sum() + smooth) / (said_line.sum() + smooth)
            sensitivity = ((so_line * said).sum() + smooth) / (so_line.sum() + smooth)
            shares.append(1 - 2 / (1 / precision + 1 / sensitivity))
    found = SoftClDice(255, iterations=iterations, smooth=smooth)(logits, target)
    assert float(found) == pytest.approx(np.mean(shares), rel=1e-10)


def test_the_published_sum_is_that_of_dice_and_cldice():
    logits, target = batch()
    p, y = logits.softmax(1)[:, 1:].flatten(2), F.one_hot(target, 3).permute(0, 3, 1, 2)[:, 1:].flatten(2)
    dice = (1 - (2 * (p * y).sum(2) + 1) / (p.sum(2) + y.sum(2) + 1)).mean()
    for alpha in (0.0, 0.3, 1.0):
        expected = (1 - alpha) * dice + alpha * SoftClDice()(logits, target)
        torch.testing.assert_close(DiceClDice(alpha=alpha)(logits, target), expected)


@pytest.mark.parametrize("make", [SoftClDice, SkeletonRecall])
def test_a_gap_costs_more_than_as_many_pixels_of_the_rim(make):
    """Of equal Dice, the broken one is worse: what mean overlap cannot see."""
    truth = bar()
    broken, narrower = truth.clone(), truth.clone()
    broken[:, :, 10:13] = 0
    narrower[:, 3, 6:15] = 0
    assert broken.sum() == narrower.sum()
    broken, narrower = (float(make()(sure(said), truth)) for said in (broken, narrower))
    assert broken > narrower + (0.02 if make is SoftClDice else -1)
    assert broken > 0.04


# --- thinning, and recall of centre lines


def euler_and_pieces(mask):
    """The Euler number of pixels as closed squares, and 8-connected pieces as scipy labels them."""
    up = np.pad(mask, 1)
    corners = up[1:, 1:] | up[1:, :-1] | up[:-1, 1:] | up[:-1, :-1]
    edges = (up[1:] | up[:-1]).sum() + (up[:, 1:] | up[:, :-1]).sum()
    return int(corners.sum() - edges + mask.sum()), ndimage.label(mask, np.ones((3, 3)))[1]


@pytest.mark.parametrize("rounds", [1, 2, 20])
def test_thinning_is_scikit_images_and_keeps_every_piece_and_every_hole(rounds):
    skimage = pytest.importorskip("skimage.morphology")
    rng = np.random.default_rng(rounds)
    masks = rng.random((200, 14, 15)) < rng.random((200, 1, 1))
    masks[:60] = ndimage.gaussian_filter(rng.random((60, 14, 15)), (0, 1.5, 1.5)) > 0.5
    found = thinned(torch.from_numpy(masks), rounds).numpy()
    for mask, line in zip(masks, found, strict=True):
        assert euler_and_pieces(line) == euler_and_pieces(mask)
        assert not (line & ~mask).any()
        assert np.array_equal(line, skimage.thin(mask, max_num_iter=rounds))
    if rounds == 20:
        assert np.array_equal(thinned(torch.from_numpy(found), 5).numpy(), found), "there is nothing left to take"


@pytest.mark.parametrize("width", range(1, 9))
def test_a_bar_becomes_a_line_of_one_pixel_and_of_its_length(width):
    mask = torch.zeros(12, 40, dtype=torch.bool)
    mask[2 : 2 + width, 3:37] = True
    line = thinned(mask, (width + 1) // 2)
    assert line.sum(0).max() == 1
    assert 34 - width <= line.sum() <= 34
    assert line.any(0)[3 + width : 37 - width].all()


def test_tubes_are_those_of_scikit_images_skeletons_but_for_their_ends():
    """The published ones, which are made by another thinning: of a tube of five pixels it matters little."""
    skeletonize = pytest.importorskip("skimage.morphology").skeletonize
    rng = np.random.default_rng(0)
    masks = ndimage.gaussian_filter(rng.random((12, 48, 48)), (0, 2, 2)) > 0.52
    theirs = np.stack([ndimage.binary_dilation(skeletonize(mask), CROSS, iterations=2) for mask in masks])
    ours = tube(thinned(torch.from_numpy(masks), 20), 2).numpy()
    inside = masks & ours, masks & theirs
    overlap = 2 * (inside[0] & inside[1]).sum() / (inside[0].sum() + inside[1].sum())
    assert overlap > 0.9


def test_a_tube_is_scipys_dilation():
    mask = np.random.default_rng(0).random((3, 9, 11)) < 0.1
    for radius in (0, 1, 3):
        theirs = [ndimage.binary_dilation(one, CROSS, iterations=radius) if radius else one for one in mask]
        assert np.array_equal(tube(torch.from_numpy(mask), radius).numpy(), np.stack(theirs))


def test_recall_is_that_of_each_class_in_the_tubes_of_all():
    """Two classes that touch are one structure, whose centre line runs on; each has the part that is its own."""
    logits, target = batch(size=9)
    target[0, 3:6], target[0, 3:6, 5:] = 1, 2
    target[1, 0] = 255
    lines = thinned((target > 0) & (target != 255), 10).numpy()
    shares = []
    for image in range(2):
        tubes = ndimage.binary_dilation(lines[image], CROSS, iterations=2)
        for k in (1, 2):
            own = tubes & (target[image] == k).numpy()
            shares.append(1 - (logits.softmax(1)[image, k].numpy()[own].sum() + 1e-5) / (own.sum() + 1e-5))
    assert float(SkeletonRecall(255)(logits, target)) == pytest.approx(np.mean(shares), rel=1e-10)


# --- what each keeps


@pytest.mark.parametrize("name", [*OURS, "mixture"])
def test_each_is_a_loss(name):
    check_loss(name)


@every_loss
def test_gradients_are_those_of_finite_differences(make):
    logits, target = batch(size=4)
    target[0, 0] = 9
    assert torch.autograd.gradcheck(lambda x: make(9)(x, target), logits.clone().requires_grad_())


@every_loss
def test_a_class_that_is_nowhere_costs_nothing_where_nobody_says_it(make):
    target = bar()
    assert float(make()(sure(target, 4), target)) == pytest.approx(0, abs=1e-5)


@every_loss
def test_under_autocast_it_is_computed_in_single_precision(make):
    logits, target = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = make()(logits.bfloat16(), target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, make()(logits.bfloat16().float(), target))


@every_loss
def test_labels_of_images_are_no_maps(make):
    with pytest.raises(InvalidInput, match=f"{make.__name__} is of maps"):
        make()(torch.zeros(2, 3), torch.zeros(2).long())


@pytest.mark.parametrize("name", OURS)
def test_tasks_without_maps_of_exclusive_classes_are_refused(name):
    with pytest.raises(InvalidValue, match=f"'{name}' is of maps"):
        build_loss(name, task=CLASSIFICATION)
    with pytest.raises(InvalidValue, match=f"'{name}' is of classes that exclude"):
        build_loss(name, task=MULTILABEL)


@pytest.mark.parametrize(
    ("make", "arguments", "error"),
    [
        (SoftClDice, {"iterations": -1}, "iterations=-1"),
        (SoftClDice, {"smooth": 0}, "smooth=0"),
        (DiceClDice, {"alpha": 1.5}, "alpha=1.5"),
        (SkeletonRecall, {"radius": -1}, "radius=-1"),
        (SkeletonRecall, {"rounds": -1}, "rounds=-1"),
        (SkeletonRecall, {"smooth": 0}, "smooth=0"),
    ],
)
def test_arguments_out_of_range_are_refused(make, arguments, error):
    with pytest.raises(InvalidValue, match=error):
        make(**arguments)


# --- mixtures

TERMS = [{"name": "cross_entropy"}, {"name": "soft_cldice", "weight": 0.5, "from_look": 3}]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_mixture_is_the_sum_of_what_judges_the_look(channels):
    logits, target = batch(channels)
    target = target.clamp_max(max(channels - 1, 1))
    target[:, 0] = 255
    about = {"channels": channels, "classes": max(2, channels)}
    loss = build_loss("mixture", 255, {"terms": [*TERMS, {"name": "dice", "arguments": {"smooth": 1.0}}]}, **about)
    alone = [("cross_entropy", {}), ("soft_cldice", {}), ("dice", {"smooth": 1.0})]
    entropy, cldice, dice = (
        loss_of_look(build_loss(name, 255, told, **about), logits, target, 0, ignore_index=255, named=True)
        for name, told in alone
    )
    for look, expected in ((0, entropy + dice), (1, entropy + dice), (2, entropy + 0.5 * cldice + dice)):
        found = loss_of_look(loss, logits, target, look, ignore_index=255, named=True)
        torch.testing.assert_close(found, expected)


def test_of_several_labels_each_term_is_as_it_is_alone():
    logits, target = batch()
    target = F.one_hot(target, 3).movedim(-1, 1)
    loss = build_loss("mixture", None, None, task=MULTILABEL, classes=3)
    expected = F.binary_cross_entropy_with_logits(logits, target.double())
    expected = expected + build_loss("dice", task=MULTILABEL)(logits, target)
    torch.testing.assert_close(loss_of_look(loss, logits, target, 0, named=True), expected)


def test_a_look_that_no_term_judges_costs_nothing():
    logits, target = batch()
    logits.requires_grad_()
    loss = build_loss("mixture", None, {"terms": TERMS[1:]})
    value = loss_of_look(loss, logits, target, 0, named=True)
    value.backward()
    assert (value.item(), logits.grad.abs().sum().item()) == (0, 0)


def test_steps_are_told_to_terms_that_read_them():
    logits, target = batch()
    loss = build_loss("mixture", None, {"terms": [{"name": "iterative_focal", "arguments": {"gammas": [0, 2]}}]})
    alone = build_loss("iterative_focal", None, {"gammas": [0, 2]})
    assert loss(logits, target, step=1) == alone(logits, target, step=1) != alone(logits, target)


def test_a_term_that_no_look_reaches_is_refused_before_training():
    loss = build_loss("mixture", None, {"terms": TERMS})
    check_reached(loss, furthest=3)
    with pytest.raises(InvalidValue, match=r"terms\[1\].from_look=3: training comes to 1 look; expected 1\."):
        check_reached(loss, furthest=1)
    check_reached(nn.CrossEntropyLoss(), furthest=1)


@pytest.mark.parametrize(
    ("terms", "error", "words"),
    [
        ("dice", InvalidType, "terms='dice': expected a list"),
        ([], InvalidValue, "at least one loss"),
        ([3], InvalidType, r"terms\[0\]=3: expected the name of a loss"),
        ([{"weight": 1}], InvalidType, "with its 'name'"),
        (
            ["dice", {"name": "dice", "wieght": 2}],
            UnknownKeyword,
            r"terms\[1\] takes no 'wieght'. Did you mean 'weight'",
        ),
        (["dicee"], UnknownName, "Did you mean 'dice'"),
        ([{"name": "dice", "weight": 0}], InvalidValue, r"terms\[0\].weight=0"),
        ([{"name": "dice", "from_look": 0}], InvalidValue, r"terms\[0\].from_look=0"),
        ([{"name": "dice", "arguments": 3}], InvalidType, r"terms\[0\].arguments=3"),
        ([{"name": "soft_cldice", "arguments": {"iterations": -1}}], InvalidType, r"terms.*iterations=-1"),
        (["dice", "mixture"], InvalidValue, r"terms\[1\] is a mixture itself"),
    ],
)
def test_terms_that_are_none_are_refused_by_their_place(terms, error, words):
    with pytest.raises(error, match=words):
        build_loss("mixture", None, {"terms": terms})


def test_classes_are_weighed_in_a_term():
    with pytest.raises(
        InvalidValue, match=r"no term of this mixture weighs classes; those that do are .*cross_entropy"
    ):
        build_loss("mixture", None, {"terms": ["soft_cldice", "lovasz"]}, class_weights=[1, 2], classes=2)
    terms = [{"name": "cross_entropy", "arguments": {"weight": [1, 2]}}]
    assert build_loss("mixture", None, {"terms": terms}, classes=2).terms[0].loss.weight.tolist() == [1, 2]


def test_weights_of_classes_are_those_of_each_term_that_weighs_them():
    about, (logits, target) = {"class_weights": [1.0, 2.0], "classes": 2}, batch(classes=2)
    loss = build_loss("mixture", None, {"terms": ["cross_entropy", "soft_cldice", "dice"]}, **about)
    for term, name in zip(loss.terms, ("cross_entropy", "soft_cldice", "dice"), strict=True):
        alone = build_loss(name, **({} if name == "soft_cldice" else about))
        assert torch.equal(*(loss_of_look(one.double(), logits, target, 0) for one in (term.loss, alone)))
    one = build_loss("mixture", None, {"terms": ["cross_entropy", "dice"]}, channels=1, **about)  # dice of one is none
    assert one.terms[0].loss.weight.tolist() == [1, 2]
    with pytest.raises(InvalidValue, match="are the same thing"):
        build_loss("mixture", None, {"terms": [{"name": "cross_entropy", "arguments": {"weight": [1, 2]}}]}, **about)


def test_what_is_no_term_is_refused():
    with pytest.raises(InvalidType, match="expected a Term"):
        LossMixture(terms=[nn.CrossEntropyLoss()])
    assert LossMixture(terms=[Term(nn.CrossEntropyLoss(), 2.0)]).weights == (2.0,)
