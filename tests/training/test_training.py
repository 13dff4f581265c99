"""Training and evaluation: small, and held to values."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import ReduceLROnPlateau

import smp_feedback as smpf
from smp_feedback.data import Shapes
from smp_feedback.errors import InvalidType, InvalidValue, UnknownKeyword, UnknownName
from smp_feedback.evaluation import miou

pytest.importorskip("lightning")
from smp_feedback.plotting.pictures import colours, refinement
from smp_feedback.training import FeedbackModule, PairsModule, fit


def tiny(feedback=True):
    more = {"encoder_weights": None, "classes": 3, "decoder_channels": (32, 16, 8, 8, 8)}
    return smpf.create("Unet", "tu-test_resnet.r160_in1k", feedback=feedback, **more)


def batch(count=2):
    data = Shapes(count, size=32)
    return tuple(torch.stack(column) for column in zip(*(data[i] for i in range(count)), strict=True))


def test_the_loss_is_on_the_last_look_or_the_mean_over_all():
    model = tiny(smpf.Recurrent(steps=3)).eval()
    image, target = batch()
    each = [F.cross_entropy(logits, target) for logits in model.trajectory(image)]
    last = FeedbackModule(model, classes=3).loss_of((image, target))
    every = FeedbackModule(model, classes=3, supervise="mean").loss_of((image, target))
    torch.testing.assert_close(last, each[-1])
    torch.testing.assert_close(every, sum(each) / 3)


@pytest.mark.parametrize(
    ("supervise", "weights"),
    [("last", [0, 0, 1]), ("mean", [1 / 3] * 3), ("increasing", [1 / 6, 2 / 6, 3 / 6]), ([0, 1, 3], [0, 1 / 4, 3 / 4])],
)
def test_looks_weigh_as_they_are_told_in_one_backward(supervise, weights):
    model = tiny(smpf.Recurrent(steps=3)).eval()
    image, target = batch()
    each = [F.cross_entropy(logits, target).item() for logits in model.trajectory(image)]
    loss = FeedbackModule(model, classes=3, supervise=supervise).loss_of((image, target, torch.arange(2)))
    assert loss.item() == pytest.approx(sum(w * one for w, one in zip(weights, each, strict=True)), rel=1e-6)


def test_per_step_is_the_gradient_of_detached_looks_and_takes_the_optimisers_step():
    loop = smpf.Recurrent(steps=3, feedback_init=0.3)
    torch.manual_seed(0)
    model = tiny(loop)
    reference = copy.deepcopy(model)
    data = [tuple(one[0] for one in batch(1))] * 2  # a batch that no order changes
    plain = {"optimizer": functools.partial(torch.optim.SGD, lr=0.1), "schedule": constant}
    module = FeedbackModule(model, classes=3, supervise="increasing", backward="per_step", **plain)
    fit(module, PairsModule(data, batch_size=2), steps=1, progress=False, accelerator="cpu")
    detached = smpf.Recurrent(steps=3, feedback_init=0.3, detach=True)
    reference.feedback.config = detached
    image, target = (torch.stack([a, b]) for a, b in zip(*data, strict=True))
    steps = reference.train().iterate(image)
    loss = sum((t + 1) / 6 * F.cross_entropy(step.logits, target) for t, step in enumerate(steps))
    loss.backward()
    torch.optim.SGD(reference.parameters(), lr=0.1).step()
    for (name, ours), theirs in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3, msg=name)
    assert module.trainer.global_step == 1


def constant(optimizer):
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def test_an_optimiser_and_a_schedule_of_ones_own():
    make = functools.partial(torch.optim.SGD, lr=0.5, weight_decay=0.3)
    halve = functools.partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)
    module = FeedbackModule(nn.Conv2d(3, 3, 1), classes=3, optimizer=make, schedule=halve)
    fit(module, PairsModule(Shapes(4, size=32), batch_size=2), steps=3, progress=False, accelerator="cpu")
    groups = module.trainer.optimizers[0].param_groups
    assert [group["lr"] for group in groups] == [0.5 / 8] * 2, "stepped once an optimiser step"
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]


@pytest.mark.parametrize("backward", ["together", "per_step"])
def test_a_plateau_is_seen_after_each_validation(backward):
    model = tiny(smpf.Recurrent(steps=2))
    plateau = functools.partial(ReduceLROnPlateau, patience=0, threshold=10.0)  # of which nothing is better
    module = FeedbackModule(model, classes=3, schedule=plateau, lr=0.1, backward=backward)
    fit(module, PairsModule(Shapes(4, 32), Shapes(2, 32), batch_size=2), steps=6, progress=False, accelerator="cpu")
    rates = [group["lr"] for group in module.trainer.optimizers[0].param_groups]
    assert rates == pytest.approx([0.1 * 0.1**3] * 2), "a tenth after each of three epochs"


def test_one_cycle_is_as_long_as_it_began(tmp_path):
    data, how = PairsModule(Shapes(4, 32), batch_size=2), {"progress": False, "accelerator": "cpu", "out": tmp_path}
    fit(FeedbackModule(nn.Conv2d(3, 3, 1), classes=3), data, steps=2, **how)
    with pytest.raises(InvalidValue, match=r"a run of 4 steps: the run to resume has one cycle .* over 2"):
        fit(FeedbackModule(nn.Conv2d(3, 3, 1), classes=3), data, steps=4, resume=True, **how)


def test_an_optimiser_without_groups_is_refused_in_words():
    module = FeedbackModule(nn.Conv2d(3, 3, 1), classes=3, optimizer=torch.optim.LBFGS)
    with pytest.raises(InvalidValue, match="does not take 2 groups"):
        fit(module, PairsModule(Shapes(2, 32), batch_size=2), steps=1, progress=False, accelerator="cpu")


def test_the_average_is_that_of_the_weights_by_its_formula():
    seen = []

    class Seen(FeedbackModule):
        def on_train_batch_end(self, outputs, batch, index):
            seen.append(self.model.weight.detach().double().clone())

    make = functools.partial(torch.optim.SGD, lr=0.5)
    module = Seen(nn.Conv2d(3, 3, 1), classes=3, ema=0.27, optimizer=make, schedule=constant)
    data = PairsModule(Shapes(8, size=32), Shapes(2, size=32), batch_size=2)
    fit(module, data, steps=4, progress=False, accelerator="cpu")
    average = seen[0]
    for now, keep in zip(seen[1:], (2 / 11, 3 / 12, 0.27), strict=True):
        average = keep * average + (1 - keep) * now
    torch.testing.assert_close(module.model.weight.double(), average, atol=1e-7, rtol=1e-6)
    assert (average - seen[-1]).abs().max() > 1e-4


@pytest.mark.parametrize("ema", [None, 0.5])
def test_the_average_keeps_the_statistics_of_every_step(ema):
    module = FeedbackModule(tiny(smpf.Recurrent(steps=2)), classes=3, ema=ema)
    fit(module, PairsModule(Shapes(8, size=32), batch_size=4), steps=3, progress=False, accelerator="cpu")
    rows = module.model.feedback.statistics[0]
    assert rows.num_batches_tracked.tolist() == [3]
    assert rows.running_mean.isfinite().all()
    assert rows.running_mean.abs().sum() > 0


def test_every_look_is_scored_as_miou_scores_it():
    model, val = tiny(smpf.Recurrent(steps=3, feedback_init=0.5)), Shapes(5, size=32, seed=3)
    module = FeedbackModule(model, classes=3)
    fit(module, PairsModule(Shapes(8, size=32), val, batch_size=4), steps=2, progress=False, accelerator="cpu")
    found = module.trainer.callback_metrics

    class At(nn.Module):
        def forward(self, image):
            return model(image, steps=self.steps)

    for t in range(3):
        At.steps = t + 1
        assert float(found[f"val_miou/look_{t + 1}"]) == pytest.approx(miou(At(), val, classes=3), abs=1e-5)
    assert found["val_miou"] == found["val_miou/look_3"]
    assert module.scored.per_class.shape == (3, 3)
    assert module.scored.per_class.nanmean(1).tolist() == pytest.approx(module.scored.looks.tolist(), abs=1e-6)


def test_labels_are_scored_by_accuracy():
    labels = torch.tensor([0, 1, 2, 2])
    images = torch.eye(3)[torch.tensor([0, 1, 1, 2])][:, :, None, None]  # three of four are right
    model = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.Flatten())
    data = list(zip(images, labels, strict=True))
    module = FeedbackModule(model, classes=3, lr=1e-12)
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(3)[:, :, None, None])
    fit(module, PairsModule(data, data, batch_size=4), steps=1, progress=False, accelerator="cpu")
    assert float(module.trainer.callback_metrics["val_accuracy"]) == pytest.approx(3 / 4)
    assert module.scored.per_class[0].tolist() == pytest.approx([1, 1, 1 / 2])


def test_a_classifier_that_looks_again_is_scored_look_by_look():
    timm = pytest.importorskip("timm")
    data = [(torch.rand(3, 32, 32), torch.tensor(i % 2)) for i in range(4)]
    model = smpf.wrap(timm.create_model("test_resnet", num_classes=3), smpf.Recurrent(steps=2))
    module = FeedbackModule(model, classes=3, supervise="mean")
    fit(module, PairsModule(data, data, batch_size=4), steps=1, progress=False, accelerator="cpu")
    assert {"val_accuracy", "val_accuracy/look_1", "val_accuracy/look_2"} <= module.trainer.callback_metrics.keys()


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("cross_entropy", {"label_smoothing": 0.1}, "CrossEntropyLoss"),
        ("dice", {"smooth": 1.0}, "DiceLoss"),
        ("SoftCrossEntropyLoss", {"smooth_factor": 0.1}, "SoftCrossEntropyLoss"),
        ("NLLLoss", None, "NLLLoss"),
    ],
)
def test_losses_come_by_name_from_the_registry_smp_and_torch(name, arguments, expected):
    loss = FeedbackModule(nn.Conv2d(3, 3, 1), classes=3, loss=name, loss_arguments=arguments, ignore_index=255).loss
    assert type(loss).__name__ == expected
    assert all(getattr(loss, key) == value for key, value in (arguments or {}).items())
    assert loss.ignore_index == 255


def test_a_model_that_comes_evaluating_is_trained_training():
    module = FeedbackModule(tiny().eval(), classes=3)
    fit(module, PairsModule(Shapes(4, size=32), batch_size=2), steps=1, progress=False, accelerator="cpu")
    assert module.model.encoder.model.bn1.num_batches_tracked == 1
    assert not module.model.training


def test_a_feed_forward_model_has_one_look():
    model = tiny(feedback=False).eval()
    image, target = batch()
    losses = [FeedbackModule(model, classes=3, supervise=s).loss_of((image, target)) for s in ("last", "mean")]
    assert torch.equal(*losses)


def test_void_is_neither_trained_on_nor_scored():
    model = nn.Conv2d(3, 3, 1)
    image, target = batch()
    void = target.clone()
    void[:, :16] = 255
    loss = FeedbackModule(model, classes=3, ignore_index=255).loss_of((image, void))
    torch.testing.assert_close(loss, F.cross_entropy(model(image)[:, :, 16:], target[:, 16:]))
    scores = [
        miou(model, [(image[0], void[0])], classes=3, ignore_index=255),
        miou(model, [(image[0][:, 16:], target[0][16:])], classes=3),
    ]
    assert scores[0] == pytest.approx(scores[1])


def test_miou_is_intersection_over_union():
    prediction = torch.tensor([[0, 0, 1, 1], [2, 2, 1, 1]])
    target = torch.tensor([[0, 1, 1, 1], [2, 2, 2, 1]])
    logits = F.one_hot(prediction, 3).permute(2, 0, 1).float()
    assert miou(nn.Identity(), [(logits, target)], classes=3) == pytest.approx((1 / 2 + 3 / 5 + 2 / 3) / 3)


@pytest.mark.parametrize("feedback", [False, True])
def test_fitting_learns_and_repeats(feedback):
    torch.manual_seed(0)
    first = tiny(feedback)
    second, data = copy.deepcopy(first), Shapes(32, size=32)
    with torch.no_grad():
        before = FeedbackModule(copy.deepcopy(first).train(), classes=3).loss_of(batch(8))
    for model in (first, second):
        pairs = PairsModule(data, batch_size=4)
        fit(FeedbackModule(model, classes=3, lr=3e-3), pairs, steps=16, progress=False, accelerator="cpu")
    assert all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())
    with torch.no_grad():
        after = FeedbackModule(first.train(), classes=3).loss_of(batch(8))
    assert after < 0.9 * before


def test_validation_scores_as_miou_does():
    model, val = tiny(), Shapes(4, size=32, seed=3)
    module = FeedbackModule(model, classes=3)
    fit(module, PairsModule(Shapes(8, size=32), val, batch_size=4), steps=2, progress=False, accelerator="cpu")
    assert float(module.trainer.callback_metrics["val_miou"]) == pytest.approx(miou(model, val, classes=3), abs=1e-5)


def test_fewer_images_than_a_batch_are_refused():
    with pytest.raises(InvalidValue, match="at most the 3 training images"):
        PairsModule(Shapes(3), batch_size=4)


def test_small_weights_do_not_decay_what_has_one_dimension():
    model = tiny(smpf.Recurrent(dynamics="residual"))
    module = FeedbackModule(model, classes=3, weight_decay=0.3)
    module.trainer = type("Trainer", (), {"estimated_stepping_batches": 10})()
    groups = module.configure_optimizers()["optimizer"].param_groups
    free = {id(p) for p in groups[1]["params"]}
    assert [g["weight_decay"] for g in groups] == [0.3, 0.0]
    assert id(model.feedback.dynamics.gamma) in free
    assert id(model.encoder.model.conv1[0].weight) not in free


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"classes": 0}, InvalidValue, "classes=0"),
        ({"classes": 2.5}, InvalidType, "classes=2.5"),
        ({"classes": 3, "supervise": "lst"}, InvalidValue, "'last'"),
        ({"classes": 3, "lr": -1}, InvalidValue, "lr=-1"),
        ({"classes": 3, "loss": "dise"}, UnknownName, "'dice'"),
        ({"classes": 3, "loss": "SoftCrossEntropyLos"}, UnknownName, "'SoftCrossEntropyLoss'"),
        ({"classes": 3, "loss": "dice", "loss_arguments": {"smoth": 1}}, UnknownKeyword, "'smooth'"),
        ({"classes": 3, "loss": "dice", "loss_arguments": {"mode": "no"}}, InvalidType, "'dice' refuses"),
        ({"classes": 3, "loss": nn.NLLLoss(), "loss_arguments": {"smoth": 1}}, InvalidValue, "is a module"),
        ({"classes": 3, "loss": "MSELoss", "ignore_index": 2}, InvalidValue, "cannot leave out"),
        ({"classes": 3, "supervise": [1, 2]}, InvalidValue, "expected 1 numbers"),
        ({"classes": 3, "supervise": [-1]}, InvalidValue, "supervise=-1"),
        ({"classes": 3, "supervise": [0]}, InvalidValue, "at least one number > 0"),
        ({"classes": 3, "supervise": 3}, InvalidType, "supervise=3"),
        ({"classes": 3, "backward": "per step"}, InvalidValue, "'per_step'"),
        ({"classes": 3, "task": "segment"}, InvalidValue, "'segmentation'"),
        ({"classes": 3, "ema": 1.0}, InvalidValue, "ema=1.0"),
    ],
)
def test_bad_arguments_are_refused_at_birth(arguments, error, words):
    with pytest.raises(error, match=words):
        FeedbackModule(nn.Conv2d(3, 3, 1), **arguments)


def test_a_score_leaves_the_models_mode_alone():
    model = nn.Conv2d(3, 3, 1).train()
    miou(model, Shapes(1, size=32), classes=3)
    assert model.training


# --- pictures


def test_classes_are_told_apart_and_void_is_white():
    painted = colours(torch.tensor([[*range(12), 255, -1]]), classes=12)
    assert len({tuple(c) for c in painted[0].tolist()}) == 13
    assert painted[0, 12].tolist() == painted[0, 13].tolist() == [255, 255, 255]


def test_pictures_are_written_whole(tmp_path):
    samples = [Shapes(2, size=32)[i] for i in range(2)]
    models = {"plain": tiny(False).eval(), "feedback": tiny(smpf.Recurrent(steps=2)).eval()}
    from PIL import Image

    with Image.open(refinement(models, samples, tmp_path / "deep" / "refinement.png", classes=3)) as picture:
        assert picture.format == "PNG"
        assert picture.convert("L").getextrema()[0] < 128
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["refinement.png"]
    with pytest.raises(InvalidValue, match="at least one"):
        refinement(models, [], tmp_path / "none.png", classes=3)
