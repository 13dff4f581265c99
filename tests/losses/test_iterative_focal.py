"""The iterative focal losses, the weights they take, the counts of which these are made, and what training tells."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import reference as ref
import torch
from conftest import GOLDEN
from torch import nn
from torch.utils.data import Subset

import smp_feedback as smpf
from smp_feedback.data import Corrupted, Shapes, count_classes
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.losses.balance import class_balanced_weights
from smp_feedback.losses.iterative import ClassBalancedIterativeFocal, IterativeFocal
from smp_feedback.testing import check_loss
from smp_feedback.training.apply_loss import loss_of_look
from smp_feedback.training.build_loss import build_loss

needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden arrays are not part of the project")
BOTH = pytest.mark.parametrize("make", [IterativeFocal, ClassBalancedIterativeFocal])
WEIGHTS = (0.2, 1.0, 3.0, 0.0, 0.7)


def batch(seed=0, images=3, classes=5, size=4):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((images, classes, size, size + 1))
    return logits, rng.integers(0, classes, (images, size, size + 1))


def as_tensors(logits, target):
    return torch.from_numpy(logits).requires_grad_(), torch.from_numpy(target)


def by_hand(logits, target, gamma, weights):
    """Value, gradient with the focal factor held, and that of the whole: images and pixels one by one, float64."""
    p = ref.softmax(logits)
    value, held, whole = 0.0, np.zeros_like(p), np.zeros_like(p)
    for b in range(len(p)):
        labels = [(i, int(target[b][i])) for i in np.ndindex(target.shape[1:])]
        total = sum(weights[c] for _, c in labels)
        for (i, j), c in labels:
            share = weights[c] / total / len(p) if total else 0.0
            right, factor = p[b, c, i, j], (1 - p[b, c, i, j]) ** gamma
            value -= share * factor * math.log(right)
            slope = np.eye(p.shape[1])[c] - p[b, :, i, j]  # of log p_right
            held[b, :, i, j] = -share * factor * slope
            of_factor = gamma * (1 - right) ** (gamma - 1) * right * math.log(right)
            whole[b, :, i, j] = share * (of_factor - factor) * slope
    return value, held, whole


# --- the loss


@needs_golden
def test_values_and_gradients_are_the_published_ones():
    with np.load(GOLDEN / "f_cb_ifl.npz") as a:
        weights, target = a["class_weights"].astype(float).tolist(), torch.from_numpy(a["target"])
        for gamma in (0.0, 0.1, 0.2, 2.0):
            logits = torch.from_numpy(a["logits"]).requires_grad_()
            loss = ClassBalancedIterativeFocal(class_weights=weights, gammas=[gamma])(logits, target)
            assert loss.item() == pytest.approx(a[f"cbifl_g{gamma}"].item(), rel=1e-6)
            loss.backward()
            theirs = a[f"cbifl_g{gamma}_grad"]
            assert np.abs(logits.grad.numpy() - theirs).max() < 1e-5 * np.abs(theirs).max()
        looks = [torch.from_numpy(a[f"iter_logits_{t}"]) for t in range(3)]
        ours = ClassBalancedIterativeFocal(class_weights=weights)
        assert ours.of_steps(looks, target).item() == pytest.approx(a["iter_loss"].item(), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 1.0, 2.5])
@pytest.mark.parametrize("weights", [(1.0,) * 5, WEIGHTS])
def test_value_and_gradient_are_those_of_our_own_derivation(gamma, weights):
    arrays = batch()
    logits, target = as_tensors(*arrays)
    loss = ClassBalancedIterativeFocal(class_weights=weights, gammas=[gamma])(logits, target)
    value, held, _ = by_hand(*arrays, gamma, weights)
    assert loss.item() == pytest.approx(value, rel=1e-12)
    loss.backward()
    np.testing.assert_allclose(logits.grad.numpy(), held, rtol=1e-10, atol=1e-14)


def test_of_the_slope_the_focal_factor_carries_none():
    """Finite differences see the whole slope; ours is the part that the logarithm carries."""
    arrays = batch(size=2)
    logits, target = as_tensors(*arrays)
    loss = IterativeFocal(gammas=[2.0])
    loss(logits, target).backward()
    _, held, whole = by_hand(*arrays, 2.0, (1.0,) * 5)
    numeric, h = np.zeros_like(arrays[0]), 1e-6
    for place in np.ndindex(numeric.shape):
        moved = [arrays[0].copy() for _ in range(2)]
        moved[0][place] += h
        moved[1][place] -= h
        up, down = (loss(torch.from_numpy(m), target).item() for m in moved)
        numeric[place] = (up - down) / (2 * h)
    np.testing.assert_allclose(numeric, whole, atol=1e-8)
    assert np.abs(numeric - held).max() > 0.1 * np.abs(held).max()
    np.testing.assert_allclose(logits.grad.numpy(), held, atol=1e-14)


def test_without_focus_it_is_cross_entropy_image_by_image():
    logits, target = as_tensors(*batch())
    weight = torch.tensor(WEIGHTS, dtype=torch.float64)
    for ours, theirs in (
        (IterativeFocal(), nn.CrossEntropyLoss()),
        (ClassBalancedIterativeFocal(class_weights=WEIGHTS), nn.CrossEntropyLoss(weight=weight)),
    ):
        each = [theirs(one[None], t[None]) for one, t in zip(logits, target, strict=True)]
        torch.testing.assert_close(ours(logits, target), torch.stack(each).mean())


def test_look_t_has_its_focus_and_its_weight_and_the_last_ones_stay():
    arrays = batch()
    logits, target = as_tensors(*arrays)
    loss = IterativeFocal(gammas=[0.0, 1.0], step_weights=[0.5, 0.0, 2.0])
    expected = [alpha * by_hand(*arrays, gamma, (1.0,) * 5)[0] for alpha, gamma in ((0.5, 0), (0, 1), (2, 1), (2, 1))]
    for t, value in enumerate(expected):
        assert loss(logits, target, step=t).item() == pytest.approx(value, rel=1e-12)
    assert loss(logits, target).item() == pytest.approx(expected[0], rel=1e-12)
    assert loss.of_steps([logits] * 4, target).item() == pytest.approx(sum(expected), rel=1e-12)
    assert loss.of_steps(logits.expand(4, *logits.shape), target).item() == pytest.approx(sum(expected), rel=1e-12)


def test_the_published_schedule_is_the_default():
    loss = IterativeFocal()
    assert (loss.gammas, loss.step_weights) == ((0.0, 0.1, 0.2), (1.0,))


def test_ignored_pixels_are_as_if_of_no_weight_and_as_if_cut_out():
    arrays = batch()
    logits, target = as_tensors(*arrays)
    ignored = target.clone()
    ignored[target == 3] = 255
    by_label = IterativeFocal(ignore_index=255)(logits, ignored, step=2)
    by_weight = ClassBalancedIterativeFocal(class_weights=(1, 1, 1, 0, 1))(logits, target, step=2)
    torch.testing.assert_close(by_label, by_weight)
    value, held, _ = by_hand(*arrays, 0.2, (1.0, 1.0, 1.0, 0.0, 1.0))
    assert by_label.item() == pytest.approx(value, rel=1e-12)
    by_label.backward()
    np.testing.assert_allclose(logits.grad.numpy(), held, rtol=1e-10, atol=1e-14)
    column = target.clone()
    column[:, :, 0] = -1
    cut = IterativeFocal()(logits[..., 1:], target[..., 1:])
    torch.testing.assert_close(IterativeFocal(ignore_index=-1)(logits, column), cut)


@pytest.mark.parametrize("loss", [IterativeFocal(9), ClassBalancedIterativeFocal(9, class_weights=(1, 1, 1, 0, 1))])
def test_an_image_of_which_nothing_counts_costs_nothing(loss):
    logits, target = as_tensors(*batch())
    target[0], target[1] = 9, 3
    target[2] = 1
    weigh_all = isinstance(loss, ClassBalancedIterativeFocal)
    alone = [IterativeFocal()(logits[i : i + 1], target[i : i + 1]) for i in (1, 2)]
    expected = (alone[1] if weigh_all else alone[0] + alone[1]) / 3
    value = loss(logits, target)
    torch.testing.assert_close(value, expected)
    value.backward()
    assert logits.grad.isfinite().all()
    assert not logits.grad[0].any()
    assert logits.grad[2].any()
    assert loss(logits[:1], target[:1]) == 0


def test_a_common_factor_of_the_weights_changes_nothing():
    logits, target = as_tensors(*batch())
    small = [1e-12 * w for w in WEIGHTS]
    one, other = (ClassBalancedIterativeFocal(class_weights=w)(logits, target, step=1) for w in (WEIGHTS, small))
    torch.testing.assert_close(one, other)


def test_labels_of_whole_images_are_images_of_one_pixel():
    logits, target = as_tensors(*batch(size=1))
    logits, target = logits[..., :1], target[..., :1]
    for loss in (IterativeFocal(), ClassBalancedIterativeFocal(class_weights=(1, 2, 3, 4, 5))):
        torch.testing.assert_close(loss(logits[..., 0, 0], target[..., 0, 0]), loss(logits, target))


@pytest.mark.parametrize("gamma", [0.0, 0.1, 2.0])
def test_certainty_is_survived_and_only_the_wrong_are_moved(gamma):
    """p = 1 exactly in float32: no gradient; p = 0: that of cross-entropy, 1 a pixel."""
    logits = torch.tensor([[300.0, 0.0], [0.0, 300.0]], requires_grad=True)
    loss = IterativeFocal(gammas=[gamma])(logits, torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(150)
    assert logits.grad.flatten().tolist() == pytest.approx([0, 0, -0.5, 0.5])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    logits, target = as_tensors(*batch())
    logits = logits.detach().to(dtype)
    loss = ClassBalancedIterativeFocal(class_weights=[1e-9 * w for w in WEIGHTS])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, target, step=1)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(logits.float(), target, step=1))


@pytest.mark.parametrize("name", ["iterative_focal", "class_balanced_iterative_focal"])
def test_both_go_by_name_and_keep_what_every_loss_promises(name):
    check_loss(name)
    check_loss(name, gammas=[2.0], step_weights=[0.3])
    assert build_loss(name, 255, {"gammas": [0.0, 3.0]}).gammas == (0.0, 3.0)
    assert not build_loss(name).state_dict()


def test_class_weights_reach_the_loss_by_its_name():
    check_loss("class_balanced_iterative_focal", class_weights=[0.1, 1, 10])


def test_no_class_weights_weigh_all_alike():
    logits, target = as_tensors(*batch())
    assert torch.equal(ClassBalancedIterativeFocal()(logits, target, step=1), IterativeFocal()(logits, target, step=1))


@BOTH
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"gammas": []}, InvalidValue, r"gammas=\[\]: expected at least one number"),
        ({"gammas": 0.1}, InvalidType, r"gammas=0\.1 \(float\): expected a list of numbers >= 0"),
        ({"gammas": "01"}, InvalidType, r"gammas='01' \(str\): expected a list"),
        ({"gammas": [0, -0.1]}, InvalidValue, r"gammas=-0\.1: expected a number >= 0"),
        ({"gammas": [math.nan]}, InvalidValue, "gammas=nan: expected a number >= 0"),
        ({"gammas": ["a"]}, InvalidType, r"gammas='a' \(str\): expected a number"),
        ({"step_weights": [0, 0]}, InvalidValue, r"step_weights=\[0, 0\]: expected at least one number > 0"),
        ({"step_weights": [1, -1]}, InvalidValue, "step_weights=-1: expected a number >= 0"),
        ({"step_weights": []}, InvalidValue, "step_weights=.*at least one"),
        ({"ignore_index": 1.0}, InvalidType, r"ignore_index=1\.0"),
    ],
)
def test_schedules_out_of_range_are_refused_at_birth(make, options, error, words):
    with pytest.raises(error, match=words):
        make(**options)


@pytest.mark.parametrize(
    ("weights", "error", "words"),
    [
        ([], InvalidValue, "at least one"),
        ([1, -1], InvalidValue, "class_weights=-1: expected a number >= 0"),
        ([1, math.nan], InvalidValue, "class_weights=nan"),
        ([1, math.inf], InvalidValue, "class_weights=inf: expected a number >= 0, finite"),
        ([0, 0.0], InvalidValue, r"class_weights=\[0, 0\.0\]: expected at least one number > 0"),
        (2.0, InvalidType, r"class_weights=2\.0 \(float\): expected a list"),
    ],
)
def test_class_weights_out_of_range_are_refused_at_birth(weights, error, words):
    with pytest.raises(error, match=words):
        ClassBalancedIterativeFocal(class_weights=weights)


def test_as_many_weights_as_classes_and_both_numbers_are_said():
    logits, target = as_tensors(*batch())
    with pytest.raises(InvalidInput, match=r"class_weights has 4 numbers and the logits have 5 classes"):
        ClassBalancedIterativeFocal(class_weights=[1, 1, 1, 1])(logits, target)


@BOTH
def test_calls_that_do_not_fit_are_refused(make):
    logits, target = as_tensors(*batch())
    with pytest.raises(InvalidValue, match="step=-1: expected a whole number >= 0"):
        make()(logits, target, step=-1)
    with pytest.raises(InvalidType, match=r"step=1\.0"):
        make()(logits, target, step=1.0)
    with pytest.raises(InvalidInput, match="found none"):
        make().of_steps([], target)
    with pytest.raises(InvalidInput, match=r"\(3, 5, 4, 5\) and target of shape \(3, 4\)"):
        make()(logits, target[..., 0])


# --- class weights


def effective_number(n, beta):
    """1 + beta + ... + beta^(n - 1), term by term."""
    return math.fsum(beta**k for k in range(n))


@pytest.mark.parametrize("beta", [0.5, 0.9, 0.9999])
def test_a_weight_is_one_over_the_effective_number(beta):
    counts = [1, 2, 7, 500, 3000]
    assert class_balanced_weights(counts, beta) == pytest.approx([1 / effective_number(n, beta) for n in counts])


def test_few_samples_weigh_as_one_over_n_and_many_all_alike():
    slope = 1e-4 / -math.log(0.9999)
    assert class_balanced_weights([1e-9, 1e-3]) == pytest.approx([1e9 * slope, 1e3 * slope], rel=1e-7)
    assert class_balanced_weights([10**8, 10**9]) == pytest.approx([1e-4, 1e-4], rel=1e-12)
    assert class_balanced_weights([3, 50], beta=0) == [1, 1]


def test_samples_are_shared_as_the_counts_are():
    given = class_balanced_weights([60, 30, 10], 0.99, samples=1000)
    assert given == pytest.approx([1 / effective_number(n, 0.99) for n in (600, 300, 100)])
    assert class_balanced_weights(torch.tensor([0.6, 0.3, 0.1]), 0.99, samples=1000) == pytest.approx(given, rel=1e-6)


@needs_golden
def test_the_published_weights_are_those_of_cityscapes_shares():
    """f_c of the published code is 1 / log(1.1 + p_c): with void, the shares that it says of 19 classes add up to 1."""
    with np.load(GOLDEN / "f_cb_ifl.npz") as a:
        published = a["class_weights"].astype(float)
    n = np.log1p(-1e-4 / published[:19]) / math.log(0.9999)
    shares = np.exp(n / 100) - 1.1
    assert (shares > 0).all()
    assert shares.sum() < 1
    ours = class_balanced_weights([*shares, 1 - shares.sum()], samples="log", ignore_index=19)
    assert ours == pytest.approx(published, rel=1e-4)
    road = 1e-4 / (1 - 0.9999 ** (100 * math.log(1.1 + 0.3265)))  # 32.65 % of all pixels
    assert ours[0] == pytest.approx(road, rel=1e-3)


def test_what_does_not_occur_or_is_ignored_weighs_nothing():
    for samples in (None, 50, "log"):
        weights = class_balanced_weights([0, 5, 0, 20], samples=samples, ignore_index=3)
        assert [bool(w) for w in weights] == [False, True, False, False]
    shared = class_balanced_weights([5, 5, 10], 0.9, samples=20, ignore_index=2)
    assert shared == pytest.approx([1 / effective_number(5, 0.9)] * 2 + [0])


def test_normalised_weights_are_one_on_average_over_what_occurs():
    plain = class_balanced_weights([0, 4, 9, 100], 0.9)
    ours = class_balanced_weights([0, 4, 9, 100], 0.9, normalise=True)
    assert sum(ours) == pytest.approx(3)
    assert ours == pytest.approx([w * 3 / sum(plain) for w in plain])


@pytest.mark.parametrize(
    ("counts", "options", "error", "words"),
    [
        ([1, 2], {"beta": 1}, InvalidValue, "beta=1: expected a number from 0 to less than 1"),
        ([1, 2], {"beta": -0.1}, InvalidValue, "beta=-0.1"),
        ([1, -2], {}, InvalidValue, "counts=-2.0: expected a number >= 0"),
        ([1, math.nan], {}, InvalidValue, "counts=nan"),
        (["a"], {}, InvalidType, "counts="),
        (3, {}, InvalidType, "counts=3"),
        ([0, 0], {}, InvalidValue, r"counts=\[0\.0, 0\.0\]: expected at least one number > 0"),
        ([], {}, InvalidValue, r"counts=\[\]"),
        ([1, 0], {"ignore_index": 0}, InvalidValue, "besides that of ignore_index"),
        ([1, 2], {"ignore_index": 2}, InvalidValue, "ignore_index=2: expected one of the 2 classes"),
        ([1, 2], {"samples": 0}, InvalidValue, "samples=0: expected a number > 0"),
        ([1, 2], {"samples": "logs"}, InvalidValue, "samples='logs': expected None, 'log' or a number"),
        ([1, 2], {"normalise": 1}, InvalidType, "normalise=1"),
    ],
)
def test_weights_of_what_is_no_count_are_refused(counts, options, error, words):
    with pytest.raises(error, match=words):
        class_balanced_weights(counts, **options)


# --- counting


class Masks:
    """Three classes and a void; each item is read once."""

    classes, ignore_index = ("a", "b", "c"), 255

    def __init__(self):
        self.read = []
        self.masks = np.random.default_rng(0).choice([0, 1, 2, 255], (6, 5, 7)).astype(np.int64)

    def __len__(self):
        return len(self.masks)

    def __getitem__(self, index):
        self.read.append(index)
        return torch.rand(3, 5, 7), torch.from_numpy(self.masks[index])

    def name(self, index):
        return f"mask {index}"


def test_counts_are_those_of_all_masks_read_once_and_no_random_number_is_used_up():
    data, state = Masks(), torch.random.get_rng_state()
    assert count_classes(data) == [int((data.masks == c).sum()) for c in range(3)]
    assert data.read == list(range(6))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_wrapped_dataset_is_asked_for_its_classes():
    data = Masks()
    wrapped = Corrupted(Subset(data, [4, 1]), "gaussian_noise", 2)
    expected = [int((data.masks[[4, 1]] == c).sum()) for c in range(3)]
    assert count_classes(wrapped) == count_classes(wrapped, progress=True) == expected


def test_what_is_said_goes_before_what_the_dataset_says():
    data = Masks()
    data.masks[data.masks == 255] = 3
    expected = [int((data.masks == c).sum()) for c in range(5)]
    assert count_classes(data, 5) == expected
    assert count_classes(data, 4, ignore_index=0) == [0, *expected[1:4]]
    data.masks[data.masks == 3] = -1
    assert count_classes(data, 3, ignore_index=-1) == expected[:3]


def test_labels_of_images_are_counted_by_image():
    pairs = [(torch.zeros(1, 2, 2), torch.tensor(label)) for label in (2, 0, 2)]
    assert count_classes(pairs, classes=3) == [1, 0, 2]
    assert count_classes([(None, 1), (None, 1)], classes=2) == [0, 2]
    assert count_classes([(None, np.uint8(1)), (None, np.array([[0, 1], [1, 1]]))], classes=2) == [1, 4]


def test_what_cannot_be_counted_is_named():
    data = Masks()
    data.masks[3, 0, 0] = 7
    with pytest.raises(InvalidInput, match=r"mask 3: labels \[7\]; expected 0 to 2 \(the classes\) or 255 \(ignored\)"):
        count_classes(data)
    with pytest.raises(InvalidInput, match=r"item 0: labels \[-1\]; expected 0 to 1 \(the classes\)\."):
        count_classes([(None, torch.tensor([[0, -1]]))], classes=2)
    with pytest.raises(InvalidInput, match=r"item 0: a target of torch.float32, expected class indices"):
        count_classes([(None, torch.zeros(2, 2))], classes=2)
    with pytest.raises(InvalidInput, match="item 0: IndexError"):
        count_classes([(None,)], classes=2)
    with pytest.raises(InvalidValue, match="found none"):
        count_classes([], classes=2)
    with pytest.raises(InvalidValue, match="classes=None, and the dataset has no list of its classes"):
        count_classes([(None, torch.tensor(0))])
    with pytest.raises(InvalidType, match="with a length"):
        count_classes(iter([]), classes=2)


def test_from_a_dataset_to_its_loss():
    weights = class_balanced_weights(count_classes(Shapes(4, size=32)), samples=100)
    assert len(weights) == 3
    assert weights[0] == min(weights)  # the background
    check_loss("class_balanced_iterative_focal", class_weights=weights)


# --- training tells it the look


def test_a_loss_is_told_the_look_if_it_asks():
    logits, target = as_tensors(*batch())
    loss = IterativeFocal()
    assert torch.equal(loss_of_look(loss, logits, target, 2), loss(logits, target, step=2))
    assert torch.equal(loss_of_look(nn.CrossEntropyLoss(), logits, target, 2), nn.CrossEntropyLoss()(logits, target))


def tiny(steps=3):
    loop = smpf.Recurrent(steps=steps, feedback_init=0.3)
    more = {"encoder_weights": None, "classes": 3, "decoder_channels": (16, 8, 8, 8, 8)}
    return smpf.create("Unet", "tu-test_resnet.r160_in1k", feedback=loop, **more)


STEEP = {"gammas": [0.0, 1.0, 3.0], "step_weights": [1.0, 2.0, 4.0]}


@pytest.mark.parametrize("supervise", ["last", "mean", [1, 0, 3]])
def test_training_judges_each_look_by_its_own_focus(supervise):
    pytest.importorskip("lightning")
    from smp_feedback.training import FeedbackModule

    model = tiny().eval()
    image, target = torch.rand(2, 3, 32, 32), torch.randint(0, 3, (2, 32, 32))
    module = FeedbackModule(model, classes=3, loss="iterative_focal", loss_arguments=STEEP, supervise=supervise)
    expected, (looks,) = 0.0, module.unrolling.passes(seed=0, epoch=0, batch=0)
    for share, gamma, alpha, logits in zip(
        looks.weights, STEEP["gammas"], STEEP["step_weights"], model.trajectory(image), strict=True
    ):
        expected += share * alpha * by_hand(logits.detach().double().numpy(), target.numpy(), gamma, (1.0,) * 3)[0]
    assert module.loss_of((image, target)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("backward", ["together", "per_step"])
def test_a_fit_judges_each_look_by_its_own_focus(backward):
    pytest.importorskip("lightning")
    from smp_feedback.training import FeedbackModule, PairsModule, fit

    class Noting(IterativeFocal):
        def forward(self, logits, target, step=0):
            asked.append((self.training, step))
            return super().forward(logits, target, step)

    asked = []
    data = Shapes(2, size=32)
    module = FeedbackModule(tiny(), classes=3, loss=Noting(), supervise="mean", backward=backward)
    fit(module, PairsModule(data, val=data, batch_size=2), steps=1, progress=False, accelerator="cpu")
    assert [step for training, step in asked if training] == [0, 1, 2]
    assert {step for training, step in asked if not training} == {2}  # val_loss is the last look's


def test_from_the_command_line(tmp_path):
    pytest.importorskip("lightning")
    from smp_feedback.cli.main import main

    settings = {
        "model": {
            "encoder": "tu-test_resnet.r160_in1k",
            "encoder_weights": None,
            "feedback": {"steps": 2},
            "arguments": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
            "supervise": "mean",
            "loss_arguments": {"gammas": [0.0, 0.5], "class_weights": [1.0, 2.0, 3.0]},
        },
        "data": {"name": "coloured_shapes", "size": 32, "batch_size": 2, "train_count": 4},
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False},
    }
    (tmp_path / "run.yaml").write_text(json.dumps(settings))  # JSON is YAML
    words = ["--model.loss", "class_balanced_iterative_focal", "--out", str(tmp_path / "out")]
    assert main(["fit", "--config", str(tmp_path / "run.yaml"), *words]) == 0
    assert (tmp_path / "out/model").is_dir()


@pytest.mark.parametrize("kind", [list, tuple, torch.tensor, np.array])
def test_numbers_may_come_as_a_tensor_or_an_array(kind):
    logits, target = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    loss = build_loss(
        "class_balanced_iterative_focal", arguments={"class_weights": kind([0.5, 1.0, 2.0]), "gammas": kind([0.0, 1.0])}
    )
    expected = ClassBalancedIterativeFocal(class_weights=[0.5, 1.0, 2.0], gammas=[0.0, 1.0])
    assert torch.equal(loss(logits, target, step=1), expected(logits, target, step=1))
