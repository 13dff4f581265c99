"""Losses as training calls them: of one channel, of several labels, of void alone, with weights as lists."""

from __future__ import annotations

import math

import pytest
import torch
from segmentation_models_pytorch import losses as smp_losses
from torch import nn
from torch.nn import functional as F

from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue, UnknownName
from smp_feedback.losses.balance import class_balanced_weights
from smp_feedback.ops.reading import MULTILABEL
from smp_feedback.registry.public import catalogue
from smp_feedback.training.apply_loss import loss_of_look
from smp_feedback.training.build_loss import build_loss

REGISTERED = list(catalogue().losses)
OF_CLASSES = [*REGISTERED, "CrossEntropyLoss", "NLLLoss", "DiceLoss", "FocalLoss", "SoftCrossEntropyLoss"]
BINARY = ["BCEWithLogitsLoss", "SoftBCEWithLogitsLoss"]
SMPS = ["dice", "jaccard", "focal", "lovasz", "tversky"]


def drawn(channels, images=2, size=5):
    generator = torch.Generator().manual_seed(channels)
    return torch.randn(images, channels, size, size, generator=generator), generator


def masks(channels, images=2, size=5):
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, max(2, channels), (images, size, size), generator=generator)


def several(channels=3, images=2, size=5):
    return torch.randint(0, 2, (images, channels, size, size), generator=torch.Generator().manual_seed(3))


def judged(name, logits, target, ignore_index=None, task="segmentation", **arguments):
    loss = build_loss(name, ignore_index, arguments, channels=logits.shape[1], task=task)
    return loss_of_look(loss, logits, target, 0, ignore_index=ignore_index, named=True)


# --- void alone


@pytest.mark.parametrize("ignore_index", [255, -1, 0])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_batch_of_void_alone_costs_nothing_and_teaches_nothing(name, channels, ignore_index):
    logits, _ = drawn(channels)
    logits.requires_grad_()
    value = judged(name, logits, torch.full((2, 5, 5), ignore_index), ignore_index)
    value.backward()
    assert value.item() == 0
    assert not logits.grad.any()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", BINARY)
def test_so_it_is_of_one_channel(name):
    logits, _ = drawn(1)
    logits.requires_grad_()
    value = judged(name, logits, torch.full((2, 5, 5), 255), 255)
    value.backward()
    assert (value.item(), logits.grad.abs().sum().item()) == (0, 0)


@pytest.mark.parametrize("name", ["cross_entropy", *SMPS, *BINARY])
def test_so_it_is_of_several_labels(name):
    logits, _ = drawn(3)
    logits.requires_grad_()
    value = judged(name, logits, torch.full((2, 3, 5, 5), 255), 255, MULTILABEL)
    value.backward()
    assert (value.item(), logits.grad.abs().sum().item()) == (0, 0)


@pytest.mark.parametrize("name", OF_CLASSES)
def test_what_is_not_finite_stays_so_in_void(name):
    """A model that broke is not hidden by masks that say nothing."""
    logits = torch.full((2, 3, 5, 5), math.nan)
    assert judged(name, logits, torch.full((2, 5, 5), 255), 255).isnan()


def test_a_module_of_ones_own_is_spared_void_too():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = nn.CrossEntropyLoss(ignore_index=9), nn.CrossEntropyLoss(ignore_index=9)

        def forward(self, logits, target):
            return self.one(logits, target) + self.other(logits, target)

    logits, _ = drawn(3)
    assert loss_of_look(Both(), logits, torch.full((2, 5, 5), 9), 0, ignore_index=9) == 0
    some = masks(3)
    some[:, 0] = 9
    expected = 2 * F.cross_entropy(logits, some, ignore_index=9)
    torch.testing.assert_close(loss_of_look(Both(), logits, some, 0, ignore_index=9), expected)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), smp_losses.DiceLoss("multiclass")])
def test_a_module_that_leaves_out_another_label_is_refused(loss):
    with pytest.raises(InvalidValue, match=r"ignore_index=255, and the loss .* leaves out ignore_index=(-100|None)"):
        build_loss(loss, 255)
    assert build_loss(loss) is loss
    loss.ignore_index = 255
    assert build_loss(loss, 255) is loss


def test_classes_without_weight_are_void():
    logits, _ = drawn(3)
    logits.requires_grad_()
    loss = build_loss("cross_entropy", 255, {"weight": [0, 1, 1]})
    value = loss_of_look(loss, logits, torch.zeros(2, 5, 5).long(), 0, ignore_index=255)
    value.backward()
    assert (value.item(), logits.grad.abs().sum().item()) == (0, 0)


# --- one channel


@pytest.mark.parametrize("ignore_index", [None, 255])
@pytest.mark.parametrize("name", [*OF_CLASSES, *BINARY])
def test_one_channel_learns_with_every_loss(name, ignore_index):
    logits, target = drawn(1)[0], masks(1)
    if ignore_index is not None:
        target[:, 0] = ignore_index
    logits.requires_grad_()
    value = judged(name, logits, target, ignore_index)
    value.backward()
    assert value.ndim == 0
    assert value.isfinite()
    assert logits.grad.isfinite().all()
    assert logits.grad.any()
    if ignore_index is not None:
        assert not logits.grad[:, :, 0].any()
    if name != "evidential":  # which reads no logits
        with torch.no_grad():
            right = judged(name, (20.0 * (target == 1) - 10)[:, None], target, ignore_index)
            wrong = judged(name, (10 - 20.0 * (target == 1))[:, None], target, ignore_index)
        assert right < value < wrong or right < wrong


@pytest.mark.parametrize("name", ["cross_entropy", "CrossEntropyLoss", "BCEWithLogitsLoss"])
@pytest.mark.parametrize("ignore_index", [None, 255])
def test_cross_entropy_of_one_channel_is_the_binary_one(name, ignore_index):
    logits, target = drawn(1)[0], masks(1)
    kept = torch.ones_like(target, dtype=torch.bool)
    if ignore_index is not None:
        target[:, :2] = ignore_index
        kept[:, :2] = False
    expected = F.binary_cross_entropy_with_logits(logits[:, 0][kept], target[kept].float())
    torch.testing.assert_close(judged(name, logits, target, ignore_index), expected)


@pytest.mark.parametrize("name", SMPS)
@pytest.mark.parametrize("ignore_index", [None, 255])
def test_smps_losses_of_one_channel_are_its_binary_ones(name, ignore_index):
    logits, target = drawn(1)[0], masks(1)
    if ignore_index is not None:
        target[:, 0] = ignore_index
    make = getattr(smp_losses, f"{name.title()}Loss")
    expected = make("binary", ignore_index=ignore_index)(logits, target)
    assert build_loss(name, channels=1).mode == "binary"
    torch.testing.assert_close(judged(name, logits, target, ignore_index), expected)
    torch.testing.assert_close(judged(name, logits, target, ignore_index, mode="binary"), expected)
    both = torch.cat([torch.zeros_like(logits), logits], 1)
    of_two = make("multiclass", ignore_index=ignore_index)(both, target)
    torch.testing.assert_close(judged(name, logits, target, ignore_index, mode="multiclass"), of_two)


def test_a_loss_of_ones_own_is_given_one_channel_as_it_is():
    seen = []

    class Own(nn.Module):
        def forward(self, logits, target):
            seen.append((logits.shape, target.shape))
            return logits.mean()

    loss_of_look(Own(), drawn(1)[0], masks(1), 0)
    assert seen == [((2, 1, 5, 5), (2, 5, 5))]


def test_matthews_correlation_is_given_chances():
    target = masks(1)
    assert judged("MCCLoss", (40.0 * target - 20)[:, None], target).item() == pytest.approx(0, abs=1e-3)
    assert judged("MCCLoss", (20 - 40.0 * target)[:, None], target).item() == pytest.approx(2, abs=1e-3)


def test_a_loss_of_channels_says_what_it_takes():
    with pytest.raises(InvalidInput, match=r"BCEWithLogitsLoss judges each channel on its own.*cross_entropy"):
        judged("BCEWithLogitsLoss", drawn(3)[0], masks(3))


# --- several labels


@pytest.mark.parametrize("name", ["cross_entropy", "BCEWithLogitsLoss"])
@pytest.mark.parametrize("ignore_index", [None, 255])
def test_the_usual_loss_of_several_labels_is_binary_cross_entropy(name, ignore_index):
    logits, target = drawn(3)[0], several()
    if ignore_index is not None:
        target[:, 1, :2] = ignore_index
    kept = target != 255
    expected = F.binary_cross_entropy_with_logits(logits[kept], target[kept].float())
    torch.testing.assert_close(judged(name, logits, target, ignore_index, MULTILABEL), expected)


@pytest.mark.parametrize("name", SMPS)
def test_smps_losses_of_several_labels_are_its_own(name):
    logits, target = drawn(3)[0], several()
    expected = getattr(smp_losses, f"{name.title()}Loss")("multilabel")(logits, target)
    torch.testing.assert_close(judged(name, logits, target, None, MULTILABEL), expected)


@pytest.mark.parametrize("arguments", [{}, {"gamma": 0.5, "alpha": 0.3}, {"normalized": True}, {"reduction": "sum"}])
def test_focal_loss_of_several_labels_leaves_void_out(arguments):
    """As smp's binary one of each class; its own multilabel one cannot."""
    logits, target = drawn(3)[0], several()
    target[:, 1, :2], target[0, 0, 0] = 255, 255
    binary = smp_losses.FocalLoss("binary", ignore_index=255, **arguments)
    expected = torch.stack([binary(logits[:, k], target[:, k]) for k in range(3)]).mean()
    torch.testing.assert_close(judged("focal", logits, target, 255, MULTILABEL, **arguments), expected)


@pytest.mark.parametrize("name", ["cross_entropy", *SMPS, *BINARY])
def test_void_of_several_labels_has_no_gradient(name):
    logits, target = drawn(3)[0], several()
    target[:, 1, :2] = 255
    logits.requires_grad_()
    judged(name, logits, target, 255, MULTILABEL).backward()
    assert not logits.grad[:, 1, :2].any()
    assert logits.grad.any()


@pytest.mark.parametrize("name", ["evidential", "iterative_focal", "CrossEntropyLoss", "NLLLoss", "MCCLoss"])
def test_losses_of_exclusive_classes_refuse_several_labels(name):
    with pytest.raises(InvalidValue, match=f"loss='{name}' is of classes that exclude .* take cross_entropy, dice"):
        build_loss(name, task=MULTILABEL)


# --- losses of something else than logits


@pytest.mark.parametrize("channels", [1, 3])
def test_negative_log_likelihood_is_given_logarithms_of_chances(channels):
    logits, target = drawn(channels)[0], masks(channels)
    torch.testing.assert_close(judged("NLLLoss", logits, target), judged("cross_entropy", logits, target))
    if channels > 1:  # a model of one's own may answer them already
        loss = nn.NLLLoss()
        torch.testing.assert_close(
            loss_of_look(loss, logits.log_softmax(1), target, 0), F.cross_entropy(logits, target)
        )


@pytest.mark.parametrize("name", ["MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss"])
def test_distances_are_those_of_chances(name):
    right, target = torch.tensor([[[[30.0, -30.0]]]]), torch.tensor([[[1, 0]]])
    assert judged(name, right, target).item() == pytest.approx(0, abs=1e-6)
    unsure = judged(name, torch.zeros(1, 1, 1, 2), target).item()
    assert unsure == pytest.approx({"MSELoss": 0.25, "L1Loss": 0.5}.get(name, 0.125))
    several_labels = judged(name, torch.zeros(1, 2, 1, 1), torch.ones(1, 2, 1, 1).long(), None, MULTILABEL)
    assert several_labels.item() == pytest.approx(unsure)


@pytest.mark.parametrize(
    "name",
    [
        *("BCELoss", "KLDivLoss", "MultiMarginLoss", "CTCLoss", "GaussianNLLLoss", "HingeEmbeddingLoss"),
        *("PoissonNLLLoss", "SoftMarginLoss", "MultiLabelSoftMarginLoss", "TripletMarginLoss"),
    ],
)
def test_losses_of_torch_that_judge_no_labels_are_refused_by_name(name):
    with pytest.raises(
        InvalidValue, match=f"loss='{name}' cannot judge logits .*; take cross_entropy, dice or, .*BCEWithLogitsLoss"
    ):
        build_loss(name, classes=2)


def test_other_names_of_binary_cross_entropy_lead_to_it():
    with pytest.raises(UnknownName, match="Did you mean 'BCEWithLogitsLoss'"):
        build_loss("bce", classes=2)


# --- arguments as people write them


@pytest.mark.parametrize("name", ["cross_entropy", "CrossEntropyLoss"])
def test_weights_may_be_a_list(name):
    logits, target = drawn(3)[0], masks(3)
    weights = class_balanced_weights([900, 90, 10], samples=100)
    loss = build_loss(name, 255, {"weight": weights}, classes=3)
    expected = F.cross_entropy(logits, target, torch.tensor(weights))
    torch.testing.assert_close(loss_of_look(loss, logits, target, 0, ignore_index=255), expected)
    assert loss.to("meta").weight.is_meta, "a buffer, which goes where the module goes"


def test_weights_of_one_channel_are_those_of_background_and_foreground():
    logits, target = drawn(1)[0], masks(1)
    each = F.binary_cross_entropy_with_logits(logits[:, 0], target.float(), reduction="none")
    w = torch.tensor([1.0, 5.0])[target]
    torch.testing.assert_close(judged("cross_entropy", logits, target, weight=[1, 5]), (w * each).sum() / w.sum())


@pytest.mark.parametrize("name", BINARY)
def test_positive_weights_are_numbers_or_lists_of_channels(name):
    logits, target = drawn(3)[0], several()
    weight = torch.tensor([1.0, 2.0, 5.0])
    expected = F.binary_cross_entropy_with_logits(logits, target.float(), pos_weight=weight[:, None, None])
    value = judged(name, logits, target, None, MULTILABEL, pos_weight=[1, 2, 5])
    torch.testing.assert_close(value, expected)
    one, mask = drawn(1)[0], masks(1)
    expected = F.binary_cross_entropy_with_logits(one[:, 0], mask.float(), pos_weight=torch.tensor(5.0))
    torch.testing.assert_close(judged(name, one, mask, pos_weight=5), expected)


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "jaccard", "focal", "tversky", "NLLLoss"])
def test_class_weights_are_called_as_the_loss_calls_them(name):
    loss = build_loss(name, class_weights=[1, 5, 2], classes=3)
    kept = loss.weight if hasattr(loss, "weight") and loss.weight is not None else loss.class_weights
    assert kept.tolist() == [1, 5, 2]


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("cross_entropy", {"arguments": {"weight": [1, 2, 3]}}, "weight of 'cross_entropy' has 3 numbers: expected 2"),
        ("cross_entropy", {"arguments": {"weight": [1, -2]}}, "weight of 'cross_entropy'=-2"),
        ("cross_entropy", {"class_weights": [1, 2, 3]}, "class_weights has 3 numbers, the data have 2 classes"),
        ("cross_entropy", {"class_weights": [1, 2], "arguments": {"weight": [1, 2]}}, "are the same thing"),
        ("lovasz", {"class_weights": [1, 2]}, "'lovasz' weighs no classes; those that do are .*, cross_entropy, dice"),
        ("BCEWithLogitsLoss", {"class_weights": [1, 2]}, "weighs no classes; those that do are .*, cross_entropy"),
        ("BCEWithLogitsLoss", {"arguments": {"pos_weight": [1, 2]}}, "has 2 numbers: expected 1"),
        ("dice", {"class_weights": [1, 2], "channels": 1}, "of one channel weighs no classes.*multiclass"),
        ("dice", {"arguments": {"class_weights": [1, 2, 3]}}, "has 3 numbers: expected 2"),
    ],
)
def test_weights_that_do_not_fit_are_refused_at_birth(name, arguments, words):
    with pytest.raises(InvalidValue, match=words):
        build_loss(name, **arguments, classes=2)


def test_weights_that_are_no_numbers_are_refused():
    with pytest.raises(InvalidType, match=r"loss_arguments.weight=\['a'\]: the loss 'cross_entropy' takes numbers"):
        build_loss("cross_entropy", arguments={"weight": ["a"]})
