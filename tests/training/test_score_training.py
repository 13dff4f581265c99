"""Training the score loop's autoencoder: what it learns from, what it leaves alone, and that a run repeats."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.data import Shapes
from smp_feedback.data.augment import as_transform, augmented, cropped
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue, UnknownName
from smp_feedback.evaluation import miou
from smp_feedback.losses.pixels import in_a_row

pytest.importorskip("lightning")
from smp_feedback.training import PairsModule, fit
from smp_feedback.training.denoising import DenoisingModule

TINY = smpf.Score(filters=8, additional_pools=1, features=("stage:2",), steps=2)
BASE = {"encoder": "tu-test_resnet", "encoder_weights": None, "decoder_channels": (16, 16, 8, 8, 8)}
QUIET = {"progress": False, "accelerator": "cpu"}


def refined(feedback=TINY, classes=3):
    return smpf.create("Unet", classes=classes, feedback=feedback, **BASE)


def batch(count=2, void=False):
    data = Shapes(count, size=32)
    image, target = (torch.stack(column) for column in zip(*(data[i] for i in range(count)), strict=True))
    if void:
        target[:, :16] = 255
    return image, target


def hears(model, heard):
    """Notes each y that the autoencoder is given."""
    autoencoder = model.feedback.autoencoder
    autoencoder.register_forward_pre_hook(lambda _, given: heard.append(given[0].detach().clone()))
    return model


def published_loss(logits, target, lam=1.0):
    """Section j of the golden arrays' README, in float64, pixel by pixel."""
    p = logits.double().softmax(1).movedim(1, -1)[target != 255]
    t = target[target != 255]
    of_right = p[torch.arange(len(t)), t].clamp_min(1e-7)
    return (-of_right.log()).mean() + lam * (p - F.one_hot(t, p.shape[1])).square().mean()


@pytest.mark.parametrize("lam", [0.0, 1.0, 3.0])
def test_the_loss_is_that_of_one_pass_over_the_bases_prediction_void_left_out(lam):
    model = refined().eval()  # no noise
    image, target = batch(void=True)
    begun = model.begin(image)
    wanted = published_loss(model.reconstruct(begun.y, begun.features), target, lam)
    module = DenoisingModule(model, classes=3, ignore_index=255, squared_error=lam)
    assert module.loss_of((image, target)).item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("from_gt", [False, True])
def test_it_learns_from_the_bases_prediction_or_from_the_truth(from_gt):
    heard = []
    model = hears(refined(smpf.Score(filters=8, additional_pools=1, features=("stage:2",), noise="none")), heard)
    image, target = batch(void=True)
    DenoisingModule(model, classes=3, ignore_index=255, from_gt=from_gt).loss_of((image, target))
    truth = torch.zeros(2, 3, 32, 32)
    for k in range(3):
        truth[:, k] = target == k
    wanted = truth if from_gt else model.begin(image).y
    torch.testing.assert_close(heard[0], wanted)
    assert not truth[:, :, :16].any(), "void is no class"


def test_gradients_reach_the_autoencoder_alone():
    model = refined()
    DenoisingModule(model, classes=3).loss_of(batch()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith("feedback.autoencoder."), name
        assert parameter.grad is None or parameter.grad.abs().sum() > 0, name


def test_a_base_that_is_not_frozen_learns_too():
    model = refined(smpf.Score(filters=8, additional_pools=1, features=("stage:2",), freeze=False))
    DenoisingModule(model, classes=3).loss_of(batch()).backward()
    assert model.segmentation_head[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("own_loop", [None, smpf.Recurrent(steps=2)])
def test_a_frozen_base_stays_bit_for_bit_as_it_was_statistics_too(own_loop):
    model = refined(smpf.Score(filters=8, additional_pools=1, features=("stage:2",), base=own_loop))
    before = copy.deepcopy(model.state_dict())
    pairs = PairsModule(Shapes(8, 32), Shapes(4, 32), batch_size=4)
    fit(DenoisingModule(model, classes=3), pairs, steps=3, **QUIET)
    ours = "feedback.autoencoder."
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert all(key.startswith(ours) for key in changed), changed
    assert {key.removeprefix(ours).rpartition(".")[2] for key in changed} >= {"weight", "bias"}


def test_the_base_runs_once_for_a_batch():
    model, seen = refined(), []
    model.encoder.register_forward_hook(lambda *_: seen.append(1))
    fit(DenoisingModule(model, classes=3), PairsModule(Shapes(8, 32), batch_size=4), steps=3, **QUIET)
    assert len(seen) == 3


def test_one_batch_is_learnt_by_heart():
    model = refined(smpf.Score(filters=8, additional_pools=2, noise="none", features=("input",)))
    image, target = batch(2)
    pairs = [(image[i], target[i]) for i in range(2)]
    module = DenoisingModule(model, classes=3, decay=1.0, lr=5e-3)
    with torch.no_grad():
        before = float(module.loss_of((image, target)))
    fit(module, PairsModule(pairs, pairs, batch_size=2), steps=60, **QUIET)
    with torch.no_grad():
        after = float(module.loss_of((image, target)))
    assert after < 0.4 * before
    found = module.trainer.callback_metrics
    assert found["val_miou"] > found["base_miou"] + 0.2


def test_validation_scores_the_base_and_one_pass():
    model, val = refined().eval(), Shapes(5, 32, seed=3)
    module = DenoisingModule(model, classes=3, lr=1e-12)
    fit(module, PairsModule(Shapes(4, 32), val, batch_size=4), steps=1, **QUIET)

    class Once(nn.Module):
        def forward(self, image):
            begun = model.begin(image)
            return model.reconstruct(begun.y, begun.features)

    class Base(nn.Module):
        def forward(self, image):
            return model(image, steps=0)

    found = module.trainer.callback_metrics
    assert float(found["val_miou"]) == pytest.approx(miou(Once(), val, classes=3, batch_size=4), abs=1e-6)
    assert float(found["base_miou"]) == pytest.approx(miou(Base(), val, classes=3, batch_size=4), abs=1e-6)
    images = torch.stack([val[i][0] for i in range(5)])
    targets = torch.stack([val[i][1] for i in range(5)])
    with torch.no_grad():
        losses = [published_loss(Once()(images[part]), targets[part]) for part in (slice(0, 4), slice(4, 5))]
    assert float(found["val_loss"]) == pytest.approx(float(4 * losses[0] + losses[1]) / 5, rel=1e-5)


def test_the_published_optimiser_and_its_rate_falls_once_an_epoch():
    module = DenoisingModule(refined(), classes=3)
    fit(module, PairsModule(Shapes(8, 32), batch_size=4), steps=7, **QUIET)  # 2 a epoch: in the fourth
    (optimizer,) = module.trainer.optimizers
    assert isinstance(optimizer, torch.optim.RMSprop)
    for group in optimizer.param_groups:
        assert (group["alpha"], group["eps"]) == (0.9, 1e-6)
        assert group["lr"] == pytest.approx(1e-3 * 0.99**3)


def test_an_optimiser_and_a_schedule_of_ones_own():
    make = functools.partial(torch.optim.SGD, lr=0.5)
    halve = functools.partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)
    for schedule, rate in ((None, 0.5 * 0.9), (halve, 0.5 / 8)):
        module = DenoisingModule(refined(), classes=3, optimizer=make, schedule=schedule, decay=0.9)
        fit(module, PairsModule(Shapes(4, 32), batch_size=2), steps=3, **QUIET)
        assert [group["lr"] for group in module.trainer.optimizers[0].param_groups] == pytest.approx([rate] * 2)


class Killed(Exception):
    pass


class Killable(DenoisingModule):
    kill = None

    def training_step(self, batch, index):
        if self.global_step == self.kill:
            raise Killed
        return super().training_step(batch, index)


@pytest.mark.parametrize("kill", [4, 6], ids=["between two epochs", "in the middle of one"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(kill, tmp_path):
    def run(out, kill=None, resume=False):
        torch.manual_seed(1)
        module = Killable(refined(), classes=3, decay=0.5)
        module.kill = kill
        pairs = PairsModule(Shapes(8, 32), Shapes(2, 32), batch_size=2)
        fit(module, pairs, steps=9, seed=3, out=out, save_every=1, resume=resume, **QUIET)
        return module.state_dict()

    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", kill)
    resumed = run(tmp_path / "killed", resume=True)
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_a_base_of_one_class_is_trained_as_two():
    model = refined(classes=1)
    data = [(image, (mask > 0).long()) for image, mask in (Shapes(4, 32)[i] for i in range(4))]
    module = DenoisingModule(model, classes=2)
    fit(module, PairsModule(data, data, batch_size=4), steps=1, **QUIET)
    assert module.scored.per_class.shape == (2, 2)
    labels = torch.cat([(model(image[None], steps=0) > 0).long() for image, _ in data])[:, 0]
    truth = torch.stack([mask for _, mask in data])
    ious = [float(((labels == k) & (truth == k)).sum() / ((labels == k) | (truth == k)).sum()) for k in (0, 1)]
    assert module.scored.per_class[0].tolist() == pytest.approx(ious, nan_ok=True)


def test_an_image_that_is_not_finite_is_named():
    class Files(Shapes):
        def __getitem__(self, index):
            image, mask = super().__getitem__(index)
            return (image * torch.nan if index == 2 else image), mask

        def name(self, index):
            return f"street_{index}.png"

    for data in ({"train": Files(4, 32)}, {"train": Shapes(4, 32), "val": Files(4, 32)}):
        with pytest.raises(InvalidInput, match=r"^street_2.png: NaN or infinite"):
            fit(DenoisingModule(refined(), classes=3), PairsModule(**data, batch_size=4), steps=1, **QUIET)


def test_images_without_a_label_to_score_are_refused():
    void = [(image, torch.full_like(mask, 255)) for image, mask in (Shapes(2, 32)[i] for i in range(2))]
    module = DenoisingModule(refined(), classes=3, ignore_index=255)
    with pytest.raises(InvalidInput, match="every validation label is ignored"):
        fit(module, PairsModule(Shapes(2, 32), void, batch_size=2), steps=1, **QUIET)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"classes": 11}, InvalidValue, "classes=11: this model's base tells 3 classes"),
        ({"classes": 3.0}, InvalidType, "classes=3.0"),
        ({"classes": 3, "from_gt": 1}, InvalidType, "from_gt=1"),
        ({"classes": 3, "lr": 0}, InvalidValue, "lr=0"),
        ({"classes": 3, "decay": 0}, InvalidValue, "decay=0"),
        ({"classes": 3, "squared_error": -1}, InvalidValue, "squared_error=-1"),
        ({"classes": 3, "cross_entropy": 0, "squared_error": 0}, InvalidValue, "one weight > 0"),
    ],
)
def test_bad_arguments_are_refused_at_birth(arguments, error, words):
    with pytest.raises(error, match=words):
        DenoisingModule(refined(), **arguments)


def test_a_model_without_a_score_loop_is_refused():
    with pytest.raises(InvalidType, match="expected one with a score loop"):
        DenoisingModule(nn.Conv2d(3, 3, 1), classes=3)


# --- what it is shown


def test_a_window_is_cut_from_image_and_mask_alike():
    place = torch.arange(6 * 8).view(6, 8)
    image, corners = place.float().expand(3, 6, 8) / 64, set()
    for _ in range(60):
        shown, mask = augmented(as_transform(cropped(None, 4)), image, place)
        torch.testing.assert_close(shown[0] * 64, mask.float())
        y, x = divmod(int(mask[0, 0]), 8)
        assert torch.equal(mask, place[y : y + 4, x : x + 4])
        corners.add((y, x))
    assert {y for y, _ in corners} == set(range(3)), "every row that there is room for"
    assert {x for _, x in corners} == set(range(5))


def test_a_window_keeps_a_side_that_is_shorter_and_comes_after_the_augmentation():
    mask = torch.arange(6 * 8).view(6, 8)
    image = mask.expand(3, 6, 8).float()
    assert torch.equal(augmented(as_transform(cropped("none", 224)), image, mask)[1], mask)
    flipped = [augmented(as_transform(cropped("flip", 224)), image, mask)[1] for _ in range(20)]
    assert {int(one[0, 0]) for one in flipped} == {0, 7}
    with pytest.raises(InvalidValue, match="crop=0"):
        cropped("flip", 0)
    with pytest.raises(UnknownName, match="'flip'"):
        cropped("flop", 3)


def test_labels_become_one_hot_and_void_nothing():
    target = torch.tensor([[[0, 2, 1, 255]]])
    wanted = [[[1, 0, 0, 0]], [[0, 0, 1, 0]], [[0, 1, 0, 0]]]
    assert in_a_row(torch.zeros(1, 3, 1, 4), target, 255).one_hot[0].unflatten(1, (1, 4)).tolist() == wanted
