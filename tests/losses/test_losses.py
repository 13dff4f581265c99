"""The losses: our own derivation, what every loss of pixels keeps, and numbers that are far out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import reference as ref
import reference_autoencoders as ref_autoencoders
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segmentation_models_pytorch import losses as smp_losses
from torch import nn

from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.losses.evidential import Evidential, divergence_from_uniform, risk, slow_part
from smp_feedback.losses.pixels import PixelLoss
from smp_feedback.losses.published import DiceFocal, ForegroundFocal, GeneralizedDice
from smp_feedback.losses.reconstruction import Reconstruction
from smp_feedback.ops.dirichlet import log_concentration
from smp_feedback.registry.public import catalogue
from smp_feedback.training.build_loss import build_loss

OURS = {
    "evidential": Evidential,
    "generalized_dice": GeneralizedDice,
    "foreground_focal": ForegroundFocal,
    "dice_focal": DiceFocal,
    "reconstruction": Reconstruction,
}
every_loss = pytest.mark.parametrize("make", OURS.values(), ids=OURS)
batches = given(
    classes=st.integers(2, 5), size=st.integers(1, 4), seed=st.integers(0, 999), scale=st.sampled_from([0.1, 1.0, 5.0])
)


def batch(classes=3, size=4, seed=0, scale=1.0, images=3):
    """log(alpha) that a Dirichlet model could give, float64, and labels."""
    generator = torch.Generator().manual_seed(seed)
    evidence = scale * torch.randn(images, classes, size, size + 1, dtype=torch.float64, generator=generator)
    return log_concentration(evidence), torch.randint(0, classes, (images, size, size + 1), generator=generator)


def theirs(name, logits, target, **options):
    logits, y = logits.numpy(), ref.one_hot(target.numpy(), logits.shape[1])
    if name == "evidential":
        return ref.evidential_loss(np.exp(logits), y, options.get("weight", 1.0))
    if name == "reconstruction":
        parts = ref_autoencoders.reconstruction_loss(ref.softmax(logits), y, np.ones(target.shape, dtype=bool))
        return sum(
            options.get(key, 1.0) * part for key, part in zip(("cross_entropy", "squared_error"), parts, strict=True)
        )
    dice = ref.generalized_dice(logits, y, options.get("kappa", 0.75))
    focal = ref.foreground_focal(logits, y, options.get("alpha", 0.25), options.get("gamma", 2.0))
    return {"generalized_dice": dice, "foreground_focal": focal, "dice_focal": (dice + focal) / 2}[name]


# --- what they are


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("evidential", {}),
        ("evidential", {"weight": 0.3}),
        ("evidential", {"weight": 0.0}),
        ("generalized_dice", {}),
        ("generalized_dice", {"kappa": 0.0}),
        ("generalized_dice", {"kappa": -0.5}),
        ("foreground_focal", {}),
        ("foreground_focal", {"alpha": 0.9, "gamma": 0.0}),
        ("foreground_focal", {"alpha": 0.5, "gamma": 0.5}),
        ("dice_focal", {}),
        ("dice_focal", {"kappa": 0.2, "alpha": 0.6, "gamma": 1.0}),
        ("reconstruction", {}),
        ("reconstruction", {"cross_entropy": 0.0, "squared_error": 2.0}),
        ("reconstruction", {"cross_entropy": 0.5, "squared_error": 0.0}),
    ],
)
@pytest.mark.parametrize("scale", [0.3, 20.0])
def test_a_loss_is_our_own_derivation(name, options, scale):
    logits, target = batch(classes=4, scale=scale)
    assert OURS[name](**options)(logits, target).item() == pytest.approx(theirs(name, logits, target, **options))


@every_loss
def test_gradients_are_those_of_finite_differences(make):
    logits, target = batch(size=2)
    target[0, 0] = 9
    logits = logits.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: make(ignore_index=9)(x, target), logits)


def test_the_risk_is_the_expected_squared_error_of_a_draw():
    a, y = torch.tensor([3.0, 1.5, 1.0, 6.0]), torch.tensor([0.0, 1.0, 0.0, 0.0])
    drawn = torch.distributions.Dirichlet(a).sample((200_000,))
    expected = (drawn - y).square().sum(1).mean()
    assert risk(a.log()[None, :, None], y[None, :, None]).item() == pytest.approx(expected.item(), rel=5e-3)


@given(st.lists(st.floats(1, 500), min_size=2, max_size=6))
@settings(max_examples=50, deadline=None)
def test_the_divergence_is_torchs(alpha):
    a = torch.tensor(alpha, dtype=torch.float64)
    kl = torch.distributions.kl_divergence(
        torch.distributions.Dirichlet(a), torch.distributions.Dirichlet(torch.ones_like(a))
    )
    ours = divergence_from_uniform(a[None, :, None]).item()
    assert ours == pytest.approx(kl.item(), abs=1e-8)
    assert ours > 0 or max(alpha) < 1.01


def test_the_divergence_is_exact_where_its_terms_are_huge():
    """Of Dir(a, 1) for large a: the density tends to a p^(a - 1), whose divergence is log a - 1 + 1 / a."""
    for a in (1e2, 1e5, 1e9, 5e21):
        ours = divergence_from_uniform(torch.tensor([[[a], [1.0]]])).item()
        assert ours == pytest.approx(math.log(a) - 1 + 1 / a, rel=1e-5)


def test_the_series_meets_the_definition():
    x = torch.linspace(1, 60, 2000, dtype=torch.float64)
    torch.testing.assert_close(slow_part(x), torch.lgamma(x) - (x - 1) * torch.digamma(x) + x, rtol=0, atol=1e-9)


@batches
@settings(max_examples=25, deadline=None)
def test_only_evidence_for_wrong_classes_is_divergent(classes, size, seed, scale):
    logits, target = batch(classes, size, seed, scale)
    right = nn.functional.one_hot(target, classes).permute(0, 3, 1, 2)
    none_wrong = logits * right
    both = Evidential()(none_wrong, target)
    assert both.item() == pytest.approx(Evidential(weight=0.0)(none_wrong, target).item(), abs=1e-12)
    assert Evidential()(logits, target) > Evidential(weight=0.0)(logits, target)


def test_negative_logits_are_no_evidence():
    logits, target = batch()
    less = torch.where(logits < 0.5, -logits, logits)
    assert torch.equal(Evidential()(less, target), Evidential()(less.clamp_min(0), target))


def test_the_loss_of_a_reconstruction_is_a_mean_over_the_batchs_counted_pixels():
    logits, target = batch()
    target[0, 1:], target[1, :, 2] = 255, 255
    p, counted = ref.softmax(logits.numpy()), target.numpy() != 255
    y = ref.one_hot(np.where(counted, target.numpy(), 0), 3)
    theirs = sum(ref_autoencoders.reconstruction_loss(p, y, counted))
    assert Reconstruction(ignore_index=255)(logits, target).item() == pytest.approx(theirs, rel=1e-12)


def test_a_reconstruction_costs_no_more_than_its_clip():
    """A pixel beyond it has the squared error's gradient alone."""
    logits, target = torch.tensor([[[[40.0]], [[0.0]]]], requires_grad=True), torch.tensor([[[1]]])
    loss = Reconstruction(squared_error=0.0)(logits, target)
    assert loss.item() == pytest.approx(7 * math.log(10))
    assert not torch.autograd.grad(loss, logits)[0].any()
    near = torch.tensor([[[[16.0]], [[0.0]]]], requires_grad=True)  # p = 1.1e-7
    gradient = torch.autograd.grad(Reconstruction(squared_error=0.0)(near, target), near)[0]
    assert gradient.flatten().tolist() == pytest.approx([1, -1])


# --- what every loss of pixels keeps


@every_loss
@batches
@settings(max_examples=20, deadline=None)
def test_no_loss_is_negative(make, classes, size, seed, scale):
    assert make()(*batch(classes, size, seed, scale)) >= 0


@every_loss
@batches
@settings(max_examples=20, deadline=None)
def test_ignored_pixels_are_as_if_cut_out(make, classes, size, seed, scale):
    """For an image; of a batch, evidence is averaged over all its pixels and the rest image by image."""
    logits, target = batch(classes, size, seed, scale, images=1)
    ignored = target.clone()
    ignored[:, :, 0] = 255
    whole, cut = make(ignore_index=255)(logits, ignored), make()(logits[..., 1:], target[..., 1:])
    torch.testing.assert_close(whole, cut)
    elsewhere = torch.where(ignored[:, None] == 255, logits.flip(1) + 3, logits)
    torch.testing.assert_close(make(ignore_index=255)(elsewhere, ignored), cut)


@every_loss
@batches
@settings(max_examples=20, deadline=None)
def test_the_order_of_images_and_pixels_does_not_matter(make, classes, size, seed, scale):
    logits, target = batch(classes, size, seed, scale)
    value = make()(logits, target)
    torch.testing.assert_close(make()(logits.flip(0), target.flip(0)), value)
    torch.testing.assert_close(make()(logits.flip(3), target.flip(2)), value)


@every_loss
def test_labels_of_whole_images_are_images_of_one_pixel(make):
    logits, target = batch(size=1)
    logits, target = logits[..., 0], target[..., 0]
    torch.testing.assert_close(make()(logits[..., 0], target[..., 0]), make()(logits[..., None], target[..., None]))


@every_loss
def test_where_all_is_ignored_there_is_no_loss_and_no_gradient(make):
    logits, target = batch()
    logits.requires_grad_()
    value = make(ignore_index=255)(logits, torch.full_like(target, 255))
    value.backward()
    assert value == 0
    assert (logits.grad == 0).all()


@every_loss
def test_a_negative_label_can_be_ignored_too(make):
    logits, target = batch()
    mixed = target.clone()
    mixed[:, 0] = -100
    other = target.clone()
    other[:, 0] = 255
    assert torch.equal(make(ignore_index=-100)(logits, mixed), make(ignore_index=255)(logits, other))


# --- numbers far out


@every_loss
@pytest.mark.parametrize("size", [50.0, -50.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_give_finite_losses_and_gradients(make, size, dtype):
    target = torch.arange(4).reshape(1, 2, 2) % 3
    for right in (True, False):
        one_hot = nn.functional.one_hot(target if right else (target + 1) % 3, 3).permute(0, 3, 1, 2)
        logits = (size * one_hot).to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = make()(logits, target)
        assert value.dtype == torch.float32
        assert value.isfinite()
        assert value >= -1e-5
        value.backward()
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 0.1, 2.0])
def test_a_pixel_of_which_all_is_certain_has_a_gradient(gamma):
    logits = torch.tensor([[300.0, 0.0], [0.0, 300.0]], requires_grad=True)
    ForegroundFocal(gamma=gamma)(logits, torch.tensor([0, 0])).backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[1].abs().max() > 0


@every_loss
def test_under_autocast_it_is_computed_in_single_precision(make):
    logits, target = batch()
    logits = logits.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = make()(logits, target)
    torch.testing.assert_close(value, make()(logits.float(), target))


def test_a_loss_of_ones_own_is_computed_in_single_precision_whatever_it_does():
    class Crossed(PixelLoss):
        def of(self, pixels):
            return torch.einsum("bcn,bdn->", pixels.logits, pixels.one_hot)

    logits, target = batch()
    logits = logits.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = Crossed()(logits, target)
    torch.testing.assert_close(value, logits.sum())


# --- by name


@pytest.mark.parametrize("name", list(catalogue().losses))
@pytest.mark.parametrize("ignore_index", [None, 255, -1])
def test_every_loss_is_built_by_its_name_and_learns(name, ignore_index):
    logits, target = batch(size=8)
    if ignore_index is not None:
        target[:, 0] = ignore_index
    logits = logits.float().requires_grad_()
    loss = build_loss(name, ignore_index)
    value = loss(logits, target)
    value.backward()
    assert value.ndim == 0
    assert value.isfinite()
    assert logits.grad.abs().max() > 0
    if ignore_index is not None:
        assert (logits.grad[:, :, 0] == 0).all()


def test_smps_names_mean_smps_losses():
    for name in ("Dice", "Jaccard", "Focal", "Lovasz", "Tversky"):
        assert catalogue().losses[name] is getattr(smp_losses, f"{name}Loss")
    assert catalogue().losses["cross_entropy"] is nn.CrossEntropyLoss
    assert {name: catalogue().losses[name] for name in OURS} == OURS


def test_the_focal_of_the_papers_is_not_smps():
    logits, target = batch()
    assert not build_loss("foreground_focal", None)(logits, target).isclose(build_loss("focal", None)(logits, target))


# --- what does not fit


@every_loss
@pytest.mark.parametrize(
    ("logits", "target", "words"),
    [
        ((2, 1, 4, 4), (2, 4, 4), ["(2, 1, 4, 4)", "C >= 2"]),
        ((2,), (2,), ["(2,)", "C >= 2"]),
        ((2, 3, 4, 4), (2, 1, 4, 4), ["(2, 3, 4, 4)", "(2, 1, 4, 4)", "(2, 4, 4)"]),
        ((2, 3, 4, 4), (2, 4, 5), ["(2, 4, 5)", "(2, 4, 4)"]),
        ((2, 3), (3,), ["(2, 3)", "(3,)", "(2,)"]),
    ],
)
def test_shapes_that_do_not_fit_are_named(make, logits, target, words):
    with pytest.raises(InvalidInput) as caught:
        make()(torch.zeros(logits), torch.zeros(target, dtype=torch.long))
    assert all(word in str(caught.value) for word in words)


@every_loss
def test_a_target_of_numbers_that_are_not_whole_is_refused(make):
    with pytest.raises(InvalidInput, match=r"torch.float32: expected class indices"):
        make()(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3))


@every_loss
@pytest.mark.parametrize("index", ["255", 1.5, True])
def test_an_ignored_label_is_a_whole_number(make, index):
    with pytest.raises(InvalidType, match=f"ignore_index={index!r}"):
        make(ignore_index=index)


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (Evidential, {"weight": -1}, "weight=-1: expected a number >= 0"),
        (GeneralizedDice, {"kappa": -1}, "kappa=-1: expected a number > -1"),
        (ForegroundFocal, {"alpha": -0.1}, "alpha=-0.1: expected a number >= 0"),
        (ForegroundFocal, {"alpha": 1.5}, "alpha=1.5: expected a number from 0 to 1"),
        (Reconstruction, {"cross_entropy": -1}, "cross_entropy=-1: expected a number >= 0"),
        (Reconstruction, {"squared_error": math.inf}, "squared_error=inf: expected a number >= 0, finite"),
        (Reconstruction, {"cross_entropy": 0, "squared_error": 0.0}, "nothing is left"),
        (DiceFocal, {"gamma": -2}, "gamma=-2: expected a number >= 0"),
        (DiceFocal, {"gamma": math.nan}, "gamma=nan: expected a number >= 0"),
    ],
)
def test_arguments_out_of_range_are_refused_with_it(make, options, words):
    with pytest.raises(InvalidValue, match=words):
        make(**options)
