"""Targets and models as people have them: one channel, several labels, dictionaries, bytes, void alone, weights."""

from __future__ import annotations

import csv
import functools
import json
import math

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import smp_feedback as smpf
from smp_feedback.data import count_classes
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.evaluation import evaluate
from smp_feedback.losses.balance import class_balanced_weights
from smp_feedback.ops.reading import MULTILABEL

pytest.importorskip("lightning")
import lightning

from smp_feedback.training import FeedbackModule, PairsModule, fit
from smp_feedback.training.callbacks import NotFinite
from smp_feedback.training.facts import facts_of
from smp_feedback.training.label_pictures import label_picture
from smp_feedback.training.prediction_writers import LabelWriter, PredictionWriter
from smp_feedback.training.run_folder import load_weights

QUICK = {"progress": False, "accelerator": "cpu"}
LEARNS = {
    "optimizer": functools.partial(torch.optim.Adam, lr=0.3),
    "schedule": functools.partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0),
}
TINY = {"encoder_weights": None, "encoder_depth": 3, "decoder_channels": (16, 8, 8)}


def unet(classes, feedback=True):
    torch.manual_seed(0)
    return smpf.create("Unet", "tu-test_resnet.r160_in1k", classes=classes, feedback=feedback, **TINY)


def bright(count=6, side=8, channels=1):
    """Images that are bright where they are foreground."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.rand(count, channels, side, side, generator=generator) > 0.5
    image = 0.1 * torch.rand(count, 3, side, side, generator=generator)
    image[:, :channels] += 0.8 * mask
    return image, mask.long()


def pairs(image, mask):
    return list(zip(image, mask, strict=True))


def kept(module, name):
    return float(module.trainer.callback_metrics[name])


# --- one channel


@pytest.mark.parametrize("loss", ["cross_entropy", "dice"])
def test_one_channel_is_learnt_and_scored_by_its_sign(loss):
    image, mask = bright()
    data = pairs(image, mask[:, 0])
    torch.manual_seed(0)
    module = FeedbackModule(nn.Conv2d(3, 1, 1), classes=2, loss=loss, **LEARNS)
    fit(module, PairsModule(data, data, batch_size=6), steps=60, **QUICK)
    assert kept(module, "val_miou") > 0.9
    assert kept(module, "val_miou") == pytest.approx(evaluate(module.model, data, classes=2).last.score, abs=1e-6)
    assert module.channels == 1


def test_a_loop_of_one_channel_is_scored_as_evaluate_scores_it():
    image, mask = bright(side=32)
    model, data = unet(1, smpf.Recurrent(steps=2)), pairs(image, mask[:, 0])
    module = FeedbackModule(model, classes=1, loss="dice", supervise="mean")
    assert (module.channels, module.classes, module.loss.mode) == (1, 2, "binary")
    fit(module, PairsModule(data, data, batch_size=3), steps=2, **QUICK)
    for score in evaluate(module.model, data, classes=2, looks=range(1, module.steps + 1)):
        assert kept(module, f"val_miou/look_{score.looks}") == pytest.approx(score.score, abs=1e-6)


def test_one_channel_for_three_classes_is_refused_before_any_work():
    with pytest.raises(InvalidValue, match=r"answers 1 channels, the data have 3 classes; one channel tells two.*=3"):
        FeedbackModule(unet(classes=1, feedback=False), classes=3)
    module = FeedbackModule(nn.Conv2d(3, 1, 1), classes=3)
    with pytest.raises(InvalidValue, match="build it with classes=3"):
        module.loss_of((torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4).long()))


# --- several labels


@pytest.mark.parametrize("loss", ["cross_entropy", "dice"])
def test_several_labels_are_learnt_and_scored(loss):
    image, mask = bright(channels=3)
    mask[:, 1, :2] = 255
    data = pairs(image, mask)
    torch.manual_seed(0)
    model = nn.Conv2d(3, 3, 1)
    module = FeedbackModule(model, classes=3, ignore_index=255, loss=loss, task=MULTILABEL, **LEARNS)
    fit(module, PairsModule(data, data, batch_size=6), steps=60, **QUICK)
    score = evaluate(model, data, classes=3, ignore_index=255, task=MULTILABEL).last
    assert score.score > 0.8
    assert kept(module, "val_miou") == pytest.approx(score.score, abs=1e-6)
    assert module.scored.per_class[0].tolist() == pytest.approx(score.per_class, abs=1e-6)


def test_several_labels_are_seen_by_the_first_target():
    image, mask = bright(channels=3)
    module = FeedbackModule(nn.Conv2d(3, 3, 1), classes=3)
    expected = F.binary_cross_entropy_with_logits(module.model(image), mask.float())
    torch.testing.assert_close(module.loss_of((image, mask)), expected)
    assert module.task == MULTILABEL


def test_one_class_of_several_labels_is_one_question():
    image, mask = bright()
    data = pairs(image, mask)

    class Named(list):
        classes, ignore_index, task = ("bright",), None, MULTILABEL

    facts = facts_of(Named(data))
    assert facts.task == MULTILABEL
    module = FeedbackModule(nn.Conv2d(3, 1, 1), classes=len(facts.classes), task=facts.task)
    expected = F.binary_cross_entropy_with_logits(module.model(image), mask.float())
    torch.testing.assert_close(module.loss_of((image, mask)), expected)
    assert module.scores.tables.shape == (1, 4)


# --- batches and targets


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's, of any dictionary
@pytest.mark.parametrize("key", ["mask", "target", "label"])
def test_dictionaries_train_as_pairs_do(key):
    image, mask = bright()
    runs = []
    for items in (pairs(image, mask[:, 0]), [{"image": x, key: y} for x, y in pairs(image, mask[:, 0])]):
        torch.manual_seed(0)
        module = FeedbackModule(nn.Conv2d(3, 2, 1), classes=2)
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
        trainer = lightning.Trainer(max_epochs=1, enable_model_summary=False, barebones=False, **quiet)
        loader = DataLoader(items, 3)
        trainer.fit(module, loader, loader)
        assert trainer.validate(module, loader, verbose=False)[0]["val_miou"] >= 0
        predicted = trainer.predict(module, loader)
        runs.append((module.model.weight.clone(), predicted[0]))
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))
    batch = next(iter(PairsModule(items, batch_size=2).train_dataloader()))
    assert torch.equal(batch[1], mask[batch[2], 0])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.float32, torch.bool])
@pytest.mark.parametrize("channel", [False, True])
def test_masks_of_any_type_teach_the_same(dtype, channel):
    image, mask = bright()
    module = FeedbackModule(nn.Conv2d(3, 2, 1), classes=2)
    expected = module.loss_of((image, mask[:, 0]))
    given = mask.to(dtype) if channel else mask[:, 0].to(dtype)
    assert torch.equal(module.loss_of((image, given)), expected)


def test_labels_of_images_may_have_an_axis_of_one():
    module = FeedbackModule(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), classes=3)
    image, label = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 1])
    expected = F.cross_entropy(module.model(image), label)
    assert torch.equal(module.loss_of({"image": image, "label": label[:, None].int()}), expected)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ((torch.zeros(1, 3, 2, 2), torch.full((1, 2, 2), 0.5)), "target of torch.float32 holds 0.5"),
        ((torch.zeros(1, 3, 2, 2), torch.full((1, 2, 2), math.nan)), "holds nan"),
        ({"image": torch.zeros(1, 3, 2, 2), "masks": 0}, "a batch of 'image', 'masks': expected"),
        ({"img": 0, "mask": torch.zeros(1, 2, 2)}, "a batch of 'img', 'mask': expected"),
        ((torch.zeros(1, 3, 2, 2),), "a batch of 1 parts: expected"),
        (torch.zeros(1, 3, 2, 2), "a batch that is a Tensor: expected"),
    ],
)
def test_what_cannot_be_meant_is_refused(batch, words):
    with pytest.raises(InvalidInput, match=words):
        FeedbackModule(nn.Conv2d(3, 2, 1), classes=2).loss_of(batch)


LOGITS = torch.zeros(1, 3, 8, 6)


class Fixed(nn.Module):
    def forward(self, image):
        return LOGITS + 0 * image.mean()


@pytest.mark.parametrize("loss", ["cross_entropy", "dice", "jaccard", "tversky", "lovasz", "focal"])
def test_masks_of_another_size_or_of_labels_that_there_are_not_are_refused_by_every_loss(loss):
    module = FeedbackModule(Fixed(), classes=3, loss=loss)
    image, mask = torch.zeros(1, 3, 8, 6), torch.ones(1, 8, 6).long()
    with pytest.raises(InvalidValue, match=r"answers \(1, 3, 8, 6\) where the targets are \(1, 6, 8\)"):
        module.loss_of((image, mask.mT))
    for label in (3, -1, 255):
        mask[0, 2, 2] = label
        with pytest.raises(InvalidInput, match=f"target holds {label}: expected labels 0 to 2; .* ignore_index"):
            module.loss_of((image, mask))
    assert FeedbackModule(Fixed(), classes=3, loss=loss, ignore_index=255).loss_of((image, mask)).isfinite()


@pytest.mark.parametrize("loss", ["BCEWithLogitsLoss", nn.BCEWithLogitsLoss(), "focal", "cross_entropy"])
def test_binary_masks_of_0_and_255_are_refused_with_what_to_write(loss):
    module = FeedbackModule(nn.Conv2d(3, 1, 1), classes=2, loss=loss)
    with pytest.raises(InvalidInput, match=r"target holds 255: expected labels 0 to 1; .*values=\{255: 1\}"):
        module.loss_of((torch.zeros(1, 3, 2, 2), torch.tensor([[[0, 255], [255, 0]]])))


def test_labels_that_a_loss_of_ones_own_knows_are_its_own_affair():
    class Own(nn.Module):
        def forward(self, logits, target):
            return F.cross_entropy(logits, target, ignore_index=9)

    batch = torch.zeros(1, 3, 8, 6), torch.full((1, 8, 6), 9).index_fill(1, torch.tensor([0]), 1)
    loss = FeedbackModule(Fixed(), classes=3, loss=Own()).loss_of(batch)
    assert math.isclose(loss.item(), math.log(3), abs_tol=1e-6)


# --- void alone


@pytest.mark.parametrize("feedback", [False, True])
def test_a_batch_of_void_alone_does_not_end_a_run(feedback):
    image, mask = bright(count=4, side=32)
    mask[::2] = 255
    module = FeedbackModule(unet(2, feedback), classes=2, ignore_index=255)
    fit(module, PairsModule(pairs(image, mask[:, 0]), batch_size=1), steps=4, **QUICK)
    assert module.trainer.global_step == 4
    assert all(weight.isfinite().all() for weight in module.model.parameters())


def test_any_other_nan_still_ends_it_with_its_names():
    image, mask = bright(count=2)
    image[0] = math.nan
    mask[:] = 255
    module = FeedbackModule(nn.Conv2d(3, 2, 1), classes=2, ignore_index=255)
    with pytest.raises(NotFinite, match=r"not finite in step . .*: item 0\.$"):
        fit(module, PairsModule(pairs(image, mask[:, 0]), batch_size=1), steps=2, **QUICK)


# --- weights of classes


def test_balanced_weights_are_counted_once_and_kept(tmp_path):
    image, mask = bright()
    mask[:, :, 2:] = 0
    mask[:, :, 0] = 255
    data = PairsModule(pairs(image, mask[:, 0].byte()), batch_size=6)
    module = FeedbackModule(nn.Conv2d(3, 2, 1), classes=2, ignore_index=255, class_weights="balanced")
    fit(module, data, steps=1, out=tmp_path, **QUICK)
    counts = count_classes(pairs(image, mask[:, 0]), 2, 255)
    weights = torch.tensor(class_balanced_weights(counts, samples="log", normalise=True))
    assert weights[1] > weights[0]
    torch.testing.assert_close(module.loss.weight, weights)
    expected = F.cross_entropy(module.model(image), mask[:, 0], weights, ignore_index=255)
    torch.testing.assert_close(module.loss_of((image, mask[:, 0])), expected)
    again = FeedbackModule(nn.Conv2d(3, 2, 1), classes=2, ignore_index=255, class_weights="balanced")
    load_weights(again, tmp_path / "last.ckpt")
    again.setup("test")
    assert torch.equal(again.loss.weight, module.loss.weight), "without the training data"


def test_balanced_weights_of_several_labels_are_those_of_yes():
    image, mask = bright(channels=3)
    mask[:, 2, 1:] = 0
    module = FeedbackModule(nn.Conv2d(3, 3, 1), classes=3, class_weights="balanced", task=MULTILABEL)
    fit(module, PairsModule(pairs(image, mask), batch_size=6), steps=1, **QUICK)
    weights = torch.tensor(class_balanced_weights((mask == 1).sum((0, 2, 3)), samples="log", normalise=True))
    torch.testing.assert_close(module.loss.weight, weights)
    each = F.binary_cross_entropy_with_logits(module.model(image), mask.float(), reduction="none")
    torch.testing.assert_close(module.loss_of((image, mask)), (each * weights[:, None, None]).mean())


def test_a_list_of_class_weights_is_the_losss_own():
    image, mask = bright()
    module = FeedbackModule(nn.Conv2d(3, 2, 1), classes=2, class_weights=[1, 5])
    expected = F.cross_entropy(module.model(image), mask[:, 0], torch.tensor([1.0, 5.0]))
    torch.testing.assert_close(module.loss_of((image, mask[:, 0])), expected)
    assert "class_weights" not in module.state_dict()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"class_weights": "balancd"}, InvalidValue, "class_weights='balancd': expected 'balanced', a list, or None"),
        ({"class_weights": [1, 2, 3]}, InvalidValue, "3 numbers, the data have 2 classes"),
        ({"class_weights": 5}, InvalidType, "class_weights=5"),
        ({"class_weights": "balanced", "loss": "lovasz"}, InvalidValue, "weighs no classes; those that do are"),
        ({"class_weights": [1, 2], "loss": nn.CrossEntropyLoss()}, InvalidValue, "has its weights already"),
        ({"task": MULTILABEL, "loss": "evidential"}, InvalidValue, "classes that exclude each other"),
    ],
)
def test_what_weighs_nothing_is_refused_at_birth(arguments, error, words):
    with pytest.raises(error, match=words):
        FeedbackModule(nn.Conv2d(3, 2, 1), classes=2, **arguments)


# --- predictions as files


@pytest.mark.parametrize("labels", [[0, 1, 255], [255, 256, 300], [0, 65535]])
def test_a_label_map_reads_back_as_it_was(labels, tmp_path):
    given = torch.tensor([labels])
    assert np.array(label_picture(given)).tolist() == given.tolist()
    label_picture(given).save(tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as picture:
        assert np.array(picture).tolist() == given.tolist()
        assert picture.mode == ("P" if max(labels) < 256 else "I;16")


def test_maps_of_a_run_are_of_one_kind():
    assert label_picture(torch.zeros(1, 1), classes=256).mode == "P"
    assert label_picture(torch.zeros(1, 1), classes=257).mode == "I;16"
    with pytest.raises(InvalidInput, match="labels from -1 to 65536: a label map as PNG holds 0 to 65535"):
        label_picture(torch.tensor([[-1, 65536]]))


def test_one_channel_is_written_by_its_sign(tmp_path):
    logits = torch.tensor([[[[[-2.0, 3.0]]]], [[[[2.0, -3.0]]]]])  # (T, B, 1, H, W)
    writer = PredictionWriter(tmp_path, [(0, 0)], ("bg", "fg"), looks=True, uncertainty=True)
    writer.write(logits, [0])
    maps = {path.name: np.array(Image.open(path)).tolist() for path in tmp_path.iterdir()}
    p = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-3))
    doubt = [round(-255 * (q * math.log2(q) + (1 - q) * math.log2(1 - q))) for q in p]
    assert maps == {
        "item_0.png": [[1, 0]],
        "item_0.look_1.png": [[0, 1]],
        "item_0.look_2.png": [[1, 0]],
        "item_0.uncertainty.png": [doubt],
    }


def test_several_labels_are_a_map_a_class(tmp_path):
    logits = torch.tensor([[[[[2.0, 3.0]], [[-2.0, 3.0]]]]])  # (1, 1, 2, 1, 2)
    PredictionWriter(tmp_path, [(0, 0)], ("lung", "v1.5 heart"), task=MULTILABEL).write(logits, [0])
    maps = {path.name: np.array(Image.open(path)).tolist() for path in tmp_path.iterdir()}
    assert maps == {"item_0.lung.png": [[1, 1]], "item_0.v1_5_heart.png": [[0, 1]]}


def test_labels_of_one_channel_are_told_by_its_sign(tmp_path):
    writer = LabelWriter(tmp_path, [(0, 0)], ("cat", "dog"), looks=True)
    writer.write(torch.tensor([[[2.0]], [[-1.0]]]), [0])
    writer.on_predict_end(type("Trainer", (), {"world_size": 1, "is_global_zero": True}), None)
    with (tmp_path / "labels.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["label"], row["look_1"], row["look_2"]) == ("cat", "dog", "cat")
    assert float(row["probability"]) == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-4)


# --- from the command line, and on the way out


def folder(root, count=4, side=32):
    image, mask = bright(count, side)
    for split in ("train", "val", "test"):
        for where, what in (split, image.movedim(1, -1)), (f"{split}annot", mask[:, 0] / 255):
            (root / where).mkdir(parents=True)
            for i, one in enumerate((255 * what).round().byte().numpy()):
                Image.fromarray(one).save(root / where / f"{i}.png")


def test_one_channel_runs_from_the_command_line(tmp_path):
    from smp_feedback.cli.main import main
    from smp_feedback.data import MaskFolder
    from smp_feedback.training.same_settings import CONFIG

    folder(tmp_path / "data")
    settings = {
        "model": {
            "encoder": "tu-test_resnet.r160_in1k",
            "encoder_weights": None,
            "feedback": {"steps": 2},
            "arguments": {"classes": 1, "encoder_depth": 3, "decoder_channels": [16, 8, 8]},
            "class_weights": "balanced",
        },
        "data": {
            "name": "folder",
            "root": str(tmp_path / "data"),
            "batch_size": 2,
            "options": {"classes": ["background", "bright"], "ignore_index": 255},
        },
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False},
    }
    (tmp_path / "run.yaml").write_text(json.dumps(settings))  # JSON is YAML
    run, test, maps = (str(tmp_path / name) for name in ("run", "test", "maps"))
    assert main(["fit", "--config", str(tmp_path / "run.yaml"), "--out", run]) == 0
    assert (tmp_path / "run" / CONFIG).is_file()
    assert main(["test", "--run", run, "--out", test]) == 0
    assert main(["predict", "--run", run, "--out", maps]) == 0
    weights = torch.load(tmp_path / "run/best.ckpt", weights_only=True)["state_dict"]
    assert weights["class_weights"].mean() == pytest.approx(1)
    assert torch.equal(weights["loss.weight"], weights["class_weights"])
    data = MaskFolder(tmp_path / "data", "test", classes=("background", "bright"), ignore_index=255)
    read = [torch.from_numpy(np.array(Image.open(tmp_path / f"maps/{i}.png"))).long() for i in range(4)]
    said = [F.one_hot(one, 2).movedim(-1, 0).float() for one in read]
    score = evaluate(nn.Identity(), [(one, mask) for one, (_, mask) in zip(said, data, strict=True)], classes=2).last
    found = json.loads((tmp_path / "test/scores.json").read_text())
    assert found["looks"][-1] == pytest.approx(score.score, abs=1e-6), "what is written is what was scored"


def test_a_file_says_how_its_answers_are_read():
    from smp_feedback.config.data import DataConfig
    from smp_feedback.exporting.serving import Served

    assert Served(unet(3, False)).facts()["reading"] == "argmax"
    for channels, reading in ((1, "sign"), (2, "argmax")):  # nothing but its answer tells its channels
        assert Served(nn.Conv2d(3, channels, 1)).facts((1, 3, 4, 4))["reading"] == reading
    assert Served(unet(1, smpf.Recurrent(steps=2))).facts()["reading"] == "sign"
    model = unet(3, False)
    model.data_config = DataConfig(task=MULTILABEL)
    assert Served(model).facts()["reading"] == MULTILABEL


@pytest.mark.parametrize("kind", ["sigmoid", "softmax2d"])
def test_chances_are_not_taken_for_logits(kind):
    model = smp.Unet("tu-test_resnet.r160_in1k", classes=1, activation=kind, **TINY)
    image, mask = bright(1, side=8)
    for asked in (
        lambda: FeedbackModule(model, classes=2),
        lambda: FeedbackModule(smpf.wrap(model), classes=2),
        lambda: evaluate(model, pairs(image, mask[:, 0]), classes=2),
    ):
        with pytest.raises(InvalidValue, match=r"reads logits, and the head's activation S\w+\(.*activation=None"):
            asked()
    FeedbackModule(smp.Unet("tu-test_resnet.r160_in1k", activation="identity", **TINY), classes=2)
