"""What a run may watch: every metric, by one name, with one value in training, ``evaluate`` and ``validate``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

pytest.importorskip("lightning")
from smp_feedback.config.data import DataConfig
from smp_feedback.errors import UnknownName
from smp_feedback.evaluation import evaluate
from smp_feedback.evaluation.connectivity_names import NEITHER
from smp_feedback.evaluation.named_metrics import METRICS
from smp_feedback.ops.reading import CLASSIFICATION, MULTILABEL, SEGMENTATION, TASKS
from smp_feedback.training import FeedbackModule, PairsModule, fit
from smp_feedback.training.checkpoints import KeepsBest, StopsEarly
from smp_feedback.training.image_scores import ImageScores
from smp_feedback.training.monitors import direction, in_words, monitor_of
from smp_feedback.training.quiet import quiet
from smp_feedback.training.trainer import build_trainer

VOID, NAMES = 255, ("sky", "car", "tree")
EVERY = [(name, task) for name, metric in METRICS.items() if metric.best != NEITHER for task in metric.tasks]


@pytest.fixture(scope="module")
def trained():
    """By task: a module that has validated once as it trained, maps with all that is measured, and its data."""
    found = {}
    for task in TASKS:
        torch.manual_seed(3)
        shape = {SEGMENTATION: (8, 6), MULTILABEL: (3, 8, 6), CLASSIFICATION: ()}[task]
        images, targets = torch.rand(5, 3, 8, 6), torch.randint(0, 2, (5, *shape))
        if shape:
            targets[..., :2] = VOID
        model = nn.Conv2d(3, 3, 3, padding=1)
        if task == CLASSIFICATION:
            model = nn.Sequential(nn.Conv2d(3, 3, (8, 6)), nn.Flatten())
        model.data_config = DataConfig(classes=NAMES, task=task, ignore_index=VOID)
        data = list(zip(images, targets, strict=True))
        module = FeedbackModule(model, classes=3, task=task, ignore_index=VOID, lr=1e-9)
        measured = dict.fromkeys(("distances", "topology"), task != CLASSIFICATION)
        scores = ImageScores(task, 3, VOID, len(data), **measured)
        told = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False}
        with quiet():
            trainer = build_trainer(told, None, [scores])
            trainer.fit(module, PairsModule(data, data, batch_size=2))
        found[task] = module.eval(), data, dict(trainer.callback_metrics), scores
    return found


@pytest.mark.parametrize(("name", "task"), EVERY)
def test_training_and_evaluate_agree(name, task, trained):
    module, data, logged, scores = trained[task]
    metric, how = METRICS[name], {"images": True, **dict.fromkeys(("distances", "topology"), task != CLASSIFICATION)}
    score = evaluate(module.model, data, classes=3, task=task, ignore_index=VOID, **how).last
    assert float(logged[f"val_{name}"]) == pytest.approx(score.metrics[name], abs=1e-6, rel=1e-6)
    assert torch.equal(scores.images.counts, score.images.counts)
    if metric.of_class is not None:
        found = [float(logged[f"val_{metric.of_class}/{one}"]) for one in NAMES]
        each = [float("nan") if value is None else value for value in score.class_metrics[name]]
        assert found == pytest.approx(each, abs=1e-6, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("task", TASKS)
def test_what_may_be_watched_is_what_is_logged(task, trained):
    logged = {name for name in trained[task][2] if name.startswith("val_")}
    for name in logged:
        monitor = monitor_of(name, task, NAMES, 1)
        assert monitor.name == name
        assert monitor.mode == direction(name) == monitor_of(name.removeprefix("val_"), task, NAMES, 1).mode
    with pytest.raises(UnknownName) as error:
        monitor_of("val_nothing", task, NAMES, 1)
    assert {*error.value.known} == logged


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("val_dicee", "Did you mean 'val_dice'"),
        ("f1", "Did you mean 'val_dice'?"),
        ("val_precision/cra", "'val_precision/car'"),
        ("val_f1/car", "Did you mean 'val_dice/car'?"),
        ("val_miou/look_9", "'val_miou/look_2'"),
    ],
)
def test_a_wrong_name_leads_to_the_right_one(asked, says):
    with pytest.raises(UnknownName, match="No score to monitor is called") as error:
        monitor_of(asked, SEGMENTATION, NAMES, 2)
    assert says in str(error.value)


def test_films_have_no_distances_and_no_looks():
    for name in ("val_hd95", "val_miou/look_1"):
        monitor_of(name, SEGMENTATION, NAMES, 2)
        with pytest.raises(UnknownName):
            monitor_of(name, SEGMENTATION, NAMES, 2, films=True)


@pytest.mark.parametrize(("name", "best"), [("val_loss", 1), ("val_hd95", 1), ("val_dice", 0), ("val_miou", 0)])
def test_the_best_is_the_least_where_less_is_better(name, best, tmp_path):
    kept, early = KeepsBest(tmp_path, name), StopsEarly(name, 1)
    values = [0.9, 0.3]
    assert kept.mode == early.mode == direction(name)
    early.best_score = torch.tensor(values[0])
    stops = early._evaluate_stopping_criteria(torch.tensor(values[1]))[0]
    assert stops is (best == 0)


def test_a_class_that_never_comes_up_does_not_end_a_run_with_an_error():
    early = StopsEarly("val_dice/car", 2)
    stops = [early._evaluate_stopping_criteria(torch.tensor(float("nan")))[0] for _ in range(2)]
    assert stops == [False, True]
    assert in_words("val_dice/car", float("nan")) == "-"


def test_a_module_whose_classes_have_no_names_logs_their_numbers():
    data = [(torch.rand(3, 4, 4), torch.randint(0, 2, (4, 4))) for _ in range(2)]
    module = FeedbackModule(nn.Conv2d(3, 2, 1), classes=2)
    fit(module, PairsModule(data, data, batch_size=2), steps=1, progress=False, accelerator="cpu")
    assert {"val_dice/0", "val_dice/1"} <= module.trainer.callback_metrics.keys()


def test_images_of_several_processes_are_put_together():
    logits, target = torch.randn(5, 3, 4, 4), torch.randint(0, 3, (5, 4, 4))
    alone, *shares = (ImageScores(SEGMENTATION, 3, VOID, 5, distances=True, topology=True) for _ in range(3))
    for scores, places in ((alone, [0, 1, 2, 3, 4]), (shares[0], [0, 2, 4]), (shares[1], [1, 3])):
        scores._count({"logits": logits[places], "target": target[places]}, torch.tensor(places))
    assert torch.equal(sum(one.counts for one in shares), alone.counts)
    assert {"hd95", "cldice"} < alone.measured.keys()
    for name, whole in alone.measured.items():
        assert torch.equal(sum(one.measured[name].nan_to_num(-1) for one in shares), whole.nan_to_num(-1)), name
