"""An ablation's rows differ by one part and nothing else; its runs depend on their key, are kept and taken up again."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")
from torch.optim import Adam

from smp_feedback.config.data import DataConfig
from smp_feedback.data.seeding import corruption_generator
from smp_feedback.data.triplets import labelled
from smp_feedback.data.turbulence.simulator import of_air
from smp_feedback.errors import FeedbackError, InvalidType, InvalidValue, UnknownKeyword, UnknownName
from smp_feedback.experiments.ablation.experiment import ablate, check
from smp_feedback.experiments.ablation.pictures import pictures
from smp_feedback.experiments.ablation.results import parse
from smp_feedback.experiments.ablation.rows import ROWS, TRAINED
from smp_feedback.experiments.ablation.runs import (
    AblationKey,
    compute,
    facts,
    keys,
    restored,
    run,
    scores,
    test_triplets,
    trained,
    training_data,
)
from smp_feedback.experiments.ablation.settings import AblationSettings
from smp_feedback.experiments.ablation.variants import UNHEARD, make_model, make_module
from smp_feedback.experiments.runs import TEST_SEED, held_out
from smp_feedback.experiments.store import keep
from smp_feedback.losses.iterative import ClassBalancedIterativeFocal, IterativeFocal
from smp_feedback.plotting.pictures import colours
from smp_feedback.plotting.plot import plot
from smp_feedback.training.module import FeedbackModule
from smp_feedback.training.restoration import RestorationModule

test_triplets.__test__ = False  # it is no test, whatever its name
TINY = {
    "size": 32,
    "train_count": 8,
    "encoder": "tu-test_resnet.r160_in1k",
    "arch_options": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
    "restoration": {"steps": 2, "depth": 2, "filters": 4},
    "train_steps": 3,
    "batch_size": 2,
    "seeds": 1,
    "test_images": 3,
}
AIR = {"cn2": 1e-12, "path": 500.0}
WITH_R = [row for row in ROWS if ROWS[row].restored]


def tiny(**changes):
    return AblationSettings(**{**TINY, **changes})


def built(row, settings=None, seed=0):
    """A row's model and module."""
    settings = settings or tiny()
    model = make_model(row, settings, facts(settings), seed)
    return model, make_module(row, settings, facts(settings), model, training_data(settings, AblationKey(row, seed)))


@pytest.mark.parametrize(
    ("row", "steps", "weight", "gammas", "loss"),
    [
        ("restoration", 1, 0.0, (0.0,), IterativeFocal),
        ("feedback", 2, 1e-3, (0.0,), IterativeFocal),
        ("unheard", 2, UNHEARD, (0.0,), IterativeFocal),
        ("iterative-focal", 2, 1e-3, (0.0, 0.1), IterativeFocal),
        ("class-balanced", 2, 1e-3, (0.0, 0.1), ClassBalancedIterativeFocal),
    ],
)
def test_a_row_behind_r_is_trained_as_it_says(row, steps, weight, gammas, loss):
    model, module = built(row, tiny(lr=1e-3, lr_restorer=3e-3, weight_decay=0.1, decay=0.9, halve_every=7))
    config = model.feedback.config
    assert (config.steps, config.weight, config.depth) == (steps, weight, 2)
    assert isinstance(module, RestorationModule)
    assert not module.end_to_end, "cut as published"
    assert type(module.loss.loss) is loss
    assert module.loss.loss.gammas == gammas
    assert module.loss.waits == ROWS[row].balanced, "classes are counted as training begins"
    assert (module.lr, module.lr_restorer, module.weight_decay) == (1e-3, 3e-3, 0.1)
    assert (module.decay, module.halve_every) == (0.9, 7)


@pytest.mark.parametrize("row", ["clean", "distorted"])
def test_a_plain_row_is_m_alone_under_cross_entropy(row):
    model, module = built(row)
    assert isinstance(module, FeedbackModule)
    assert not hasattr(model, "restorer")
    logits, target = torch.randn(2, 6, 8, 8), torch.randint(6, (2, 8, 8))
    torch.testing.assert_close(module.loss(logits, target), torch.nn.functional.cross_entropy(logits, target))


def test_the_balanced_control_weighs_classes_as_the_last_row_does():
    settings, key = tiny(train_count=4), AblationKey("class-balanced", 0)
    _, control = built("plain-balanced", settings)
    _, module = built(key.row, settings)
    assert not hasattr(control.model, "restorer")
    assert type(control.loss) is ClassBalancedIterativeFocal
    assert control.loss.gammas == (0.0,)
    weights = module.loss.balance(labelled(training_data(settings, key).train))
    assert list(control.loss.class_weights) == weights
    assert len(set(weights)) > 1


def test_rows_begin_from_the_same_weights_of_m():
    plain = built("clean")[0].state_dict()
    for row in ROWS:
        own = built(row)[0].state_dict()
        assert all(torch.equal(own[name], value) for name, value in plain.items()), row
        assert {name.partition(".")[0] for name in own.keys() - plain.keys()} <= {"feedback"}, row
    heads = [built("clean", seed=seed)[0].segmentation_head[0].weight for seed in (0, 1)]
    assert not torch.equal(*heads)


def test_r_begins_from_the_same_weights_wherever_it_hears():
    first = built("feedback")[0].restorer.state_dict()
    for row in ("iterative-focal", "class-balanced", "unheard"):
        own = built(row)[0].restorer.state_dict()
        assert all(torch.equal(own[name], value) for name, value in first.items()), row


def batches(row, seed=0, epochs=2):
    data = training_data(tiny(severity=5), AblationKey(row, seed))
    loader = data.train_dataloader()
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        yield from loader


def test_every_row_of_a_seed_sees_the_same_images_mirrored_and_distorted_alike():
    for (clean, *of_clean), (distorted, *of_plain), (first, second, *of_r) in zip(
        batches("clean"), batches("distorted"), batches("restoration"), strict=True
    ):
        assert torch.equal(first, distorted)
        assert torch.equal(second, clean)
        assert not torch.equal(first, second)
        for one, other, third in zip(of_clean, of_plain, of_r, strict=True):
            assert torch.equal(one, other)
            assert torch.equal(one, third)
    firsts = {row: torch.cat([batch[0] for batch in batches(row)]) for row in WITH_R}
    assert all(torch.equal(firsts["restoration"], images) for images in firsts.values())


def test_seeds_and_epochs_bring_other_distortions_and_tests_the_same():
    def seen(seed):
        return {image.numpy().tobytes() for batch in batches("distorted", seed) for image in batch[0]}

    assert len(seen(0)) == 2 * TINY["train_count"], "an image is distorted anew in each epoch"
    assert not seen(0) & seen(1)
    shown, again = (test_triplets(tiny(seeds=2, train_steps=9)) for _ in range(2))
    assert torch.equal(shown[1][0], again[1][0])


def apart(one, other):
    """How far two sets of M's weights are from one another: a single one may take another turn by rounding."""
    both = [(value, other[name]) for name, value in one.items() if value.is_floating_point()]
    return float(torch.stack([(a - b).norm() for a, b in both]).norm())


def test_where_r_learns_nothing_a_row_trains_m_as_the_plain_row_does():
    """The same optimiser, schedule, loss and batches: what is left of a difference is the loop."""
    settings = tiny(train_steps=9, decay=0.5, weight_decay=0.1, lr_restorer=1e-30, severity=5)
    alone = trained(settings, AblationKey("distorted", 0), "cpu")[0].state_dict()
    behind = trained(settings, AblationKey("restoration", 0), "cpu")[0].state_dict()
    start = built("distorted", settings)[0].state_dict()
    other = trained(settings, AblationKey("clean", 0), "cpu")[0].state_dict()
    moved = apart(alone, start)
    assert apart(alone, behind) < 0.02 * moved, "images are warped by nothing, to rounding"
    assert apart(alone, other) > 0.1 * moved


@pytest.mark.parametrize("row", ["unheard", "feedback"])
def test_feedback_changes_what_is_restored_where_it_is_heard_and_only_there(row):
    model = built(row)[0].eval()
    with torch.no_grad():
        model.restorer.last.weight.normal_()
        image = torch.rand(1, 3, 32, 32)
        first = model.restore(image).image
        told = model.restore(image, model.feed_back(torch.randn(1, 6, 32, 32), first)).image
    assert torch.equal(first, told) == (row == "unheard")


@pytest.mark.parametrize("row", ["distorted", "restoration", "feedback"])
def test_the_updates_and_passes_it_tells_of_are_those_it_made(row, monkeypatch):
    made, settings = Counter(), tiny(train_steps=3)
    make = make_model

    def counting(*args):
        model = make(*args)
        model.segmentation_head.register_forward_hook(lambda *_: made.update({("passes", "M"): 1}))
        if ROWS[row].restored:
            model.restorer.last.register_forward_hook(lambda *_: made.update({("passes", "R"): 1}))
        return model

    def stepping(self, *args, step=Adam.step, **kwargs):
        of_r = self.param_groups[0]["params"][0].shape[0] == 4 and ROWS[row].restored  # R's first has 4 filters
        made.update({("updates", "R" if of_r else "M"): 1})
        return step(self, *args, **kwargs)

    monkeypatch.setattr("smp_feedback.experiments.ablation.runs.make_model", counting)
    monkeypatch.setattr(Adam, "step", stepping)
    model, _ = trained(settings, AblationKey(row, 0), "cpu")
    told = compute(model, settings)
    for what in ("updates", "passes"):
        assert {network: made[what, network] for network in "MR"} == told[what], what
    every = sum(p.numel() for p in model.parameters())
    assert sum(told["parameters"].values()) == every


def by_hand(model, triplets, classes):
    """mIoU, IoU by class, L1 and PSNR of the last pass, in float64."""
    table, near = np.zeros((classes, classes)), []
    for i in range(len(triplets)):
        distorted, clean, target = triplets[i]
        with torch.no_grad():
            logits = model(distorted[None])[0].numpy()
            seen = distorted if not hasattr(model, "restorer") else [*model.iterate(distorted[None])][-1].restored[0]
        np.add.at(table, (target.numpy().ravel(), logits.argmax(0).ravel()), 1)
        wrong = np.asarray(seen, np.float64) - np.asarray(clean, np.float64)
        near.append((np.abs(wrong).mean(), -10 * np.log10(np.square(wrong).mean())))
    union = table.sum(0) + table.sum(1) - table.diagonal()
    per_class = [table[k, k] / union[k] if union[k] else None for k in range(classes)]
    return np.mean([iou for iou in per_class if iou is not None]), per_class, *np.mean(near, 0)


@pytest.mark.parametrize("row", ["distorted", "restoration", "feedback"])
def test_scores_are_those_of_the_last_pass_by_numpy(row):
    settings = tiny(severity=5)
    model = built(row)[0].eval()
    with torch.no_grad():
        model.segmentation_head[0].weight.normal_()
        if ROWS[row].restored:
            model.restorer.last.weight.normal_(std=0.1)
    found = scores(model, test_triplets(settings), facts(settings), "distorted")
    assert [one["pass"] for one in found] == [0, 1, 2][: 3 if row == "feedback" else 1]
    miou, per_class, l1, psnr = by_hand(model, test_triplets(settings), 6)
    assert found[-1]["score"] == pytest.approx(miou)
    assert found[-1]["per_class"] == pytest.approx(per_class)
    assert found[-1]["l1"] == pytest.approx(l1, rel=1e-4)
    assert found[-1]["psnr"] == pytest.approx(psnr, rel=1e-4)


def test_clean_images_are_at_no_distance_from_themselves():
    model = built("clean")[0].eval()
    [found] = scores(model, test_triplets(tiny()), facts(tiny()), "clean")
    assert (found["l1"], found["psnr"]) == (0.0, None)


def test_a_run_depends_on_its_key_alone_and_can_be_read_as_json(tmp_path):
    key = AblationKey("class-balanced", 0)
    first, second = (run(tiny(), key, "cpu") for _ in range(2))
    assert first.found["scores"] == second.found["scores"]
    assert first.weights == second.weights
    assert json.loads(json.dumps(first.found)) == first.found
    for folder in ("runs", "models"):
        (tmp_path / folder).mkdir()
    keep(tmp_path, key, first)
    model = restored(tiny(), key, tmp_path)
    assert scores(model, test_triplets(tiny()), facts(tiny()), "distorted") == first.found["scores"]
    assert restored(tiny(), AblationKey("class-balanced", 1), tmp_path) is None


def test_every_seed_is_whole_before_the_next_begins():
    assert [(key.row, key.seed) for key in keys(tiny(seeds=2, rows=["feedback", "clean"]))] == [
        ("clean", 0), ("feedback", 0), ("clean", 1), ("feedback", 1)
    ]  # fmt: skip
    assert len(list(keys(tiny(seeds=3)))) == 3 * len(TRAINED)


def test_an_ablation_is_kept_taken_up_again_and_drawn(tmp_path):
    settings = tiny(rows=["clean", "distorted", "feedback"], seeds=1)
    written = ablate(settings, tmp_path, accelerator="cpu", command="as asked")
    assert [path.name for path in written] == ["ablation.md", "ablation.json", "ablation-rows.png", "pictures.png"]
    assert all(path.stat().st_size for path in written)
    results = json.loads((tmp_path / "ablation.json").read_text())
    assert [(one.row, one.seed) for one in parse(results).runs] == [("clean", 0), ("distorted", 0), ("feedback", 0)]
    page = (tmp_path / "ablation.md").read_text()
    assert all(words in page for words in ("**Undecided: ", "### IoU (%) by class", "as asked", "- severity: 3"))

    (tmp_path / "runs" / "feedback-s0.json").unlink()
    begun = []
    ablate(settings, tmp_path, accelerator="cpu", advance=lambda key, there: there is None and begun.append(str(key)))
    assert begun == ["feedback-s0"]
    again = json.loads((tmp_path / "ablation.json").read_text())
    assert [one["scores"] for one in again["runs"]] == [one["scores"] for one in results["runs"]]
    with pytest.raises(InvalidValue, match="holds an ablation with other settings"):
        ablate(tiny(lr=0.1), tmp_path, accelerator="cpu")
    assert [path.name for path in plot([tmp_path / "ablation.json"], tmp_path / "drawn")] == ["ablation-rows.png"]


@pytest.mark.parametrize("config", [DataConfig(), DataConfig(mean=(0.4,) * 3, std=(0.2,) * 3)])
def test_pictures_show_the_distorted_image_what_was_made_of_it_and_the_truth(config):
    models = {row: built(row)[0].eval() for row in ("distorted", "feedback")}
    for model in models.values():
        model.data_config = config
    with torch.no_grad():
        models["feedback"].restorer.last.weight.normal_(std=0.1)
    distorted, clean, mask = test_triplets(tiny(severity=5))[0]
    with torch.no_grad():
        image = config.normalise(distorted[None])
        said = {row: model(image)[0].argmax(0) for row, model in models.items()}
        restored = config.undo([*models["feedback"].iterate(image)][-1].restored)[0]
    shown = dict(pictures(models, distorted, clean, mask, 6))
    assert list(shown) == [
        "distorted image", "restored:\nfeedback", "clean image", "distorted", "feedback", "truth"
    ]  # fmt: skip
    images = {"distorted image": distorted, "restored:\nfeedback": restored, "clean image": clean}
    for title, image in images.items():
        np.testing.assert_allclose(shown[title], image.permute(1, 2, 0).clamp(0, 1).numpy(), atol=1e-6)
    for title, labels in {**said, "truth": mask}.items():
        assert np.array_equal(shown[title], colours(labels, 6))
    assert not np.array_equal(said["distorted"], said["feedback"])


@pytest.mark.parametrize("row", ["distorted", "restoration"])
def test_air_by_its_parameters_takes_the_place_of_a_corruption(row):
    settings = tiny(turbulence=AIR, severity=1)
    distorted, clean, _ = test_triplets(settings)[0]
    assert torch.equal(distorted, of_air(AIR)(clean, 1, corruption_generator(TEST_SEED, 0)))
    learnt = training_data(settings, AblationKey(row, 0)).train[0][0]
    assert not torch.equal(learnt, training_data(tiny(), AblationKey("clean", 0)).train[0][0])
    assert settings.said == "turbulence of cn2 1e-12, path 500"
    assert AblationSettings(**settings.to_dict()) == settings


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"data": "polygns"}, UnknownName, "'polygons'"),
        ({"corruption": "turbulense"}, UnknownName, "'turbulence'"),
        ({"severity": 0}, InvalidValue, "severity=0"),
        ({"severity": 6}, InvalidValue, "severity=6: expected 1 to 5"),
        ({"severity": float("nan")}, InvalidType, "severity=nan"),
        ({"turbulence": {"cn2": float("nan")}}, InvalidValue, "cn2=nan"),
        ({"turbulence": {"cn": 1e-13}}, UnknownKeyword, "Did you mean 'cn2'"),
        ({"rows": ["restored"]}, InvalidValue, "rows='restored'"),
        ({"rows": []}, InvalidType, "at least one"),
        ({"rows": ["clean", "clean"]}, InvalidValue, "each once"),
        ({"restoration": {"steps": 0}}, InvalidValue, "steps=0"),
        ({"restoration": {"weight": 0.0, "steps": 1}}, InvalidValue, "weight=0"),
        ({"restoration": {"stepz": 2}}, UnknownKeyword, "'steps'"),
        ({"restoration": {"restorer": "unett"}}, UnknownName, "'unet'"),
        ({"gammas": [0.0, 0.1, 0.2]}, InvalidValue, "at most steps=2"),
        ({"gammas": [-0.1]}, InvalidValue, "gammas=-0.1"),
        ({"lr": float("nan")}, InvalidValue, "lr=nan"),
        ({"lr_restorer": 0}, InvalidValue, "lr_restorer=0"),
        ({"decay": 0.0}, InvalidValue, "decay=0.0"),
        ({"weight_decay": -1.0}, InvalidValue, "weight_decay=-1.0"),
        ({"train_steps": 0}, InvalidValue, "train_steps=0"),
        ({"halve_every": 0}, InvalidValue, "halve_every=0"),
        ({"train_count": -1}, InvalidValue, "train_count=-1"),
        ({"seeds": 1.5}, InvalidType, "seeds=1.5"),
        ({"augment": "flop"}, UnknownName, "'flip'"),
        ({"data_options": {"size": 5}}, InvalidValue, "size belongs to the ablation"),
    ],
)
def test_nonsense_is_refused_at_birth(changes, error, words):
    with pytest.raises(error, match=words):
        tiny(**changes)


def test_gammas_grow_as_published_with_the_steps_there_are():
    assert tiny(restoration={"depth": 2}).gammas == [0.0, 0.1, 0.2]
    assert tiny(restoration={"depth": 2, "steps": 4}).gammas == [0.0, 0.1, 0.2, 0.3]
    assert tiny(gammas=[0.5]).gammas == [0.5]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arch": "Unett"}, "'Unet'"),
        ({"encoder": "resnet81"}, "resnet18"),
        ({"data": "camvid", "root": "/no"}, "/no"),
        ({"train_count": 1}, "batch_size=2: expected at most the 1"),
        ({"size": 33, "arch": "Linknet", "arch_options": {}}, "33"),
    ],
)
def test_what_cannot_be_built_or_read_is_known_before_training(changes, words, tmp_path):
    with pytest.raises(FeedbackError, match=words):
        ablate(tiny(**changes), tmp_path, accelerator="cpu")
    assert not list(tmp_path.glob("runs/*"))


def test_labels_of_whole_images_are_refused(mnist):
    settings = tiny(data="torchvision/MNIST", root=str(mnist), arch="timm/resnet18", encoder=None, arch_options={})
    with pytest.raises(InvalidValue, match="data=torchvision/MNIST has one label an image"):
        check(settings)


def test_fewer_test_images_than_asked_for_are_all_scored():
    assert len(held_out(tiny(test_images=2))) == 2
    assert len(held_out(tiny(data_options={}, test_images=0))) == 500
