"""The comparison: twins that share everything but the loop, runs that depend on their key alone, a report."""

from __future__ import annotations

import json
import multiprocessing
import threading

import pytest
import torch
from filelock import FileLock
from PIL import Image
from torch import nn

pytest.importorskip("lightning")
import smp_feedback as smpf
from smp_feedback.data import Corrupted
from smp_feedback.errors import FeedbackError, InvalidType, InvalidValue, UnknownName
from smp_feedback.evaluation import evaluate
from smp_feedback.experiments.comparison.experiment import compare
from smp_feedback.experiments.comparison.runs import (
    ComparisonKey,
    keys,
    passes_of,
    run,
    scores,
    training_data,
    untrained,
)
from smp_feedback.experiments.comparison.settings import ComparisonSettings, Condition
from smp_feedback.experiments.comparison.variants import make_twin
from smp_feedback.experiments.cost import kept_for_backward
from smp_feedback.experiments.parallel import _end_with
from smp_feedback.experiments.runs import TEST_SEED, held_out
from smp_feedback.experiments.store import kept, run_path
from smp_feedback.ops.dirichlet import log_concentration

TINY = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
CLEAN = Condition()
MODELS = ("feedback", "plain", "one-step", "equal-compute")  # the usual ones


def tiny(**changes):
    small = {
        "size": 32,
        "arch_options": TINY,
        "feedback": {"steps": 2},
        "train_count": [2],
        "train_steps": 2,
        "seeds": 1,
    }
    small |= {"augment": "none", "corruptions": ["occlusion"], "severities": [3], "test_images": 4, "batch_size": 2}
    return ComparisonSettings(**{**small, **changes})


def twin(name, settings=None, seed=0):
    return make_twin(name, settings or tiny(), 3, seed)


def test_twins_begin_from_the_same_weights():
    base = twin("plain").model.state_dict()
    for name in MODELS:
        own = twin(name).model.state_dict()
        assert all(torch.equal(own[key], value) for key, value in base.items()), name
    assert not torch.equal(base["encoder.conv1.weight"], twin("plain", seed=1).model.encoder.conv1.weight)


def test_the_one_step_twin_has_all_but_the_loop():
    feedback, one = twin("feedback").model, twin("one-step").model
    theirs, ours = dict(feedback.named_parameters()), dict(one.named_parameters())
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(one.eval()(image), feedback.eval()(image, steps=1))


def test_no_twin_has_another_normalisation():
    for name in MODELS:
        kinds = {type(m).__name__ for m in twin(name).model.modules() if "Norm" in type(m).__name__}
        assert (
            kinds == {"GroupNorm"}
            or kinds == set()
            or "GroupForBatch" in {type(m).__name__ for m in twin(name).model.modules()}
        ), name
        assert not [m for m in twin(name).model.modules() if isinstance(m, nn.BatchNorm2d)]


def test_equal_compute_means_as_many_forward_passes():
    settings = tiny(train_steps=5, feedback={"steps": 3})
    made = {name: twin(name, settings) for name in MODELS}
    passes = {name: t.train_steps * t.looks for name, t in made.items()}
    assert passes == {"feedback": 15, "plain": 5, "one-step": 5, "equal-compute": 15}
    assert {name: passes_of(settings, ComparisonKey(name, CLEAN, 2, 0)) for name in MODELS} == passes


def test_twins_see_the_same_images_in_training():
    settings = tiny(train=["rescaled_noise:2"])
    condition = settings.conditions[0]
    data = {name: training_data(settings, ComparisonKey(name, condition, 2, 0))[0] for name in MODELS}
    for i in range(4):
        assert all(torch.equal(data["feedback"][i][0], own[i][0]) for own in data.values())


def test_few_images_are_a_part_of_more_and_each_time_corrupted_anew():
    settings = tiny(train_count=[2, 4], train=["rescaled_noise:2"])

    def masks(n, condition):
        data, count = training_data(settings, ComparisonKey("plain", condition, n, 3))
        assert count == n
        return {data[i][1].numpy().tobytes() for i in range(len(data))}

    assert masks(2, CLEAN) < masks(4, CLEAN)
    data, _ = training_data(settings, ComparisonKey("plain", settings.conditions[0], 2, 3))
    images = [data[i][0].numpy().tobytes() for i in range(len(data))]
    assert len(set(images)) == len(images) >= 4


def test_a_run_depends_on_its_key_alone_and_can_be_read_as_json():
    settings = tiny(train=["occlusion:2"])
    key = next(keys(settings))
    made, again = (run(settings, key, accelerator="cpu") for _ in range(2))
    assert made.weights == again.weights
    first, second = made.found, again.found
    assert first["scores"] == second["scores"]
    assert json.loads(json.dumps(first)) == first
    assert {(s["corruption"], s["severity"]) for s in first["scores"]} == {
        ("clean", 0), ("occlusion", 3), ("occlusion", 2)
    }  # fmt: skip
    assert sorted(s["looks"] for s in first["scores"] if s["severity"] == 2) == [1, 2, 3, 4]


def test_every_seed_is_whole_before_the_next_begins():
    order = [key.seed for key in keys(tiny(seeds=3, train_count=[1, 2], train=["clean", "occlusion:1"]))]
    assert order == sorted(order)
    assert len(order) == 3 * 2 * 2 * 4


def test_what_is_kept_for_backward_is_counted_once():
    image = torch.zeros(2, 3, 8, 8)
    conv, relu = nn.Conv2d(3, 4, 1), nn.ReLU()
    once = 4 * 2 * 8 * 8
    assert kept_for_backward(nn.Sequential(conv, relu), image) == (3 + 4) * once
    assert kept_for_backward(nn.Sequential(conv, relu, nn.Conv2d(4, 2, 1)), image) == (3 + 4) * once


def test_counting_memory_leaves_statistics_alone():
    norm = nn.BatchNorm2d(3)
    kept_for_backward(norm, torch.rand(2, 3, 4, 4))
    assert torch.equal(norm.running_mean, torch.zeros(3))
    assert norm.num_batches_tracked == 0


def test_a_comparison_is_reported_kept_and_taken_up_again(tmp_path, monkeypatch):
    settings = tiny()
    seen = []
    written = compare(settings, tmp_path, accelerator="cpu", advance=lambda key, there: seen.append((key, there)))
    assert {"report.html", "report.md", "results.json"} <= {path.name for path in written}
    assert all(path.is_file() for path in written)
    results = json.loads((tmp_path / "results.json").read_text())
    assert [r["model"] for r in results["runs"]] == list(MODELS)
    assert sum(there is None for _, there in seen) == 4
    (tmp_path / "runs" / "plain-rescaled_noise4-n2-s0.json").unlink()
    monkeypatch.setattr("smp_feedback.experiments.comparison.experiment.draw_pictures", lambda *_: {})
    begun = []
    compare(settings, tmp_path, accelerator="cpu", advance=lambda key, there: there is None and begun.append(key.model))
    assert begun == ["plain"]
    again = json.loads((tmp_path / "results.json").read_text())
    assert [r["scores"] for r in again["runs"]] == [r["scores"] for r in results["runs"]]
    with pytest.raises(InvalidValue, match="other settings"):
        compare(tiny(lr=0.1), tmp_path, accelerator="cpu")


def test_more_seeds_are_trained_beside_those_that_are_there_and_fewer_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("smp_feedback.experiments.comparison.experiment.draw_pictures", lambda *_: {})

    def trained(seeds, **changes):
        begun = []
        how = {"accelerator": "cpu", "advance": lambda key, there: there is None and begun.append(key)}
        compare(tiny(models=["plain"], train_steps=1, seeds=seeds, **changes), tmp_path, **how)
        return [key.seed for key in begun]

    def runs():
        return json.loads((tmp_path / "results.json").read_text())["runs"]

    assert trained(1) == [0]
    [first] = runs()
    assert trained(3) == [1, 2]
    assert [run["seed"] for run in runs()] == [0, 1, 2]
    assert runs()[0] == first
    assert json.loads((tmp_path / "settings.json").read_text())["seeds"] == 3
    assert trained(3) == []
    with pytest.raises(InvalidValue, match=r"other settings: .* there seeds=3, here 2$"):
        trained(2)
    with pytest.raises(InvalidValue, match=r"other settings: .* there test_images=4, here 3$"):
        trained(4, test_images=3)
    assert len(runs()) == 3


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"data": "polygns"}, UnknownName, "'polygons'"),
        ({"train": ["occlusion"]}, InvalidValue, "severity from 1 to 5"),
        ({"train": ["oclusion:2"]}, UnknownName, "'occlusion'"),
        ({"corruptions": ["fog"]}, UnknownName, "fog"),
        ({"corruptions": ["oclusion:2"]}, UnknownName, "Did you mean 'occlusion'"),
        ({"corruptions": ["Occlusion:2"]}, InvalidValue, r"expected its name, 'occlusion', and severities=\[2\]"),
        ({"severities": [6]}, InvalidValue, "occlusion:6"),
        ({"models": ["twin"]}, InvalidValue, "models='twin'"),
        ({"models": []}, InvalidType, "at least one"),
        ({"train_count": [2, 2]}, InvalidValue, "each once"),
        ({"train_count": [-1]}, InvalidValue, "train_count=-1"),
        ({"feedback": False}, InvalidValue, "nothing to compare"),
        ({"feedback": {"steps": "auto"}}, InvalidValue, "give one"),
        ({"feedback": {"stepz": 3}}, FeedbackError, "steps"),
        ({"loss": "dise"}, UnknownName, "'dice'"),
        ({"seeds": 0}, InvalidValue, "seeds=0"),
        ({"data_options": {"count": 5}}, InvalidValue, "count belongs to the comparison"),
        ({"lr": 0}, InvalidValue, "lr=0"),
        ({"supervise": "first"}, InvalidValue, "supervise='first'"),
    ],
)
def test_nonsense_is_refused_at_birth(changes, error, words):
    with pytest.raises(error, match=words):
        tiny(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"arch": "Unett"}, "'Unet'"), ({"encoder": "resnet81"}, "resnet18"), ({"data": "camvid", "root": "/no"}, "/no")],
)
def test_what_cannot_be_built_or_read_is_known_before_training(changes, words, tmp_path):
    with pytest.raises(FeedbackError, match=words):
        compare(tiny(**changes), tmp_path, accelerator="cpu")
    assert not list(tmp_path.glob("runs/*"))


def test_a_classifier_of_timm_is_compared_as_well():
    settings = tiny(arch="timm/resnet18", arch_options={}, feedback={"steps": 2, "channels": 8, "norm_error": 8})
    model = twin("feedback", settings).model
    assert isinstance(model, smpf.FeedbackModel)
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 3)


@pytest.fixture
def four(tmp_path):
    """A folder of four images to train on and two to test on, as settings."""
    for split, count in (("train", 4), ("test", 2)):
        for i in range(count):
            image, mask = Image.new("RGB", (32, 32), (0, 0, split == "test")), Image.new("L", (32, 32))
            for folder, picture in (split, image), (f"{split}annot", mask):
                (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
                picture.save(tmp_path / "data" / folder / f"{i}.png")
    options = {"classes": ["a", "b"]}
    return {"data": "folder", "root": str(tmp_path / "data"), "data_options": options, "train": ["clean"]}


def test_fewer_held_out_images_than_asked_for_are_all_scored(four):
    assert len(held_out(tiny(**four, test_images=100))) == 2
    assert len(held_out(tiny(**four, test_images=1))) == 1
    assert len(held_out(tiny(**four, test_images=0))) == 2


def test_all_images_and_their_number_are_one_condition(four, tmp_path):
    with pytest.raises(InvalidValue, match=r"train_count=\[4, 0\]: 0 is all of them, 4"):
        compare(tiny(**four, train_count=[4, 0]), tmp_path / "out", accelerator="cpu")
    with pytest.raises(InvalidValue, match=r"train_count=5: expected at most the 4 items that .* 0 is all of them"):
        compare(tiny(**four, train_count=[5]), tmp_path / "out", accelerator="cpu")


def test_grey_images_with_several_labels_a_pixel_are_compared_and_the_path_read_as_they_are(four, tmp_path):
    for split, count in (("train", 4), ("test", 2)):
        for i in range(count):
            for label in ("a", "b"):
                path = tmp_path / "data" / f"{split}masks" / label / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (32, 32), int(label == "a")).save(path)
    patterns = {"images": "{split}/{stem}.png", "masks": "{split}masks/{class}/{stem}.png", "bands": [1], "channels": 1}
    four["data_options"] |= patterns
    settings = tiny(**four, models=["feedback"])
    made = run(settings, ComparisonKey("feedback", CLEAN, 2, 0), accelerator="cpu")
    assert made.found["scores"][0]["per_class"][1] in (0.0, None), "nowhere is a b"
    model = untrained(settings, ComparisonKey("feedback", CLEAN, 2, 0)).model
    assert (model.feedback.in_channels, model.feedback.classes) == (1, 2)


def test_no_run_is_trained_under_the_corruption_of_a_test_image():
    settings = tiny(train=["rescaled_noise:2"])
    test = Corrupted(held_out(settings), "rescaled_noise", 2, seed=TEST_SEED)
    for seed in range(3):
        data, _ = training_data(settings, ComparisonKey("plain", settings.conditions[0], 2, seed))
        for i in range(4):
            draws = [torch.randn(8, generator=own._generator(i)) for own in (data, test)]
            assert not torch.equal(*draws)


def test_memory_is_measured_on_a_whole_batch_where_fewer_images_are_held_out():
    settings = tiny(arch="DeepLabV3Plus", arch_options={}, base_norm=None, test_images=1, models=["plain"])
    made = run(settings, ComparisonKey("plain", CLEAN, 2, 0), accelerator="cpu")
    assert made.found["kept_mb"] > 0


def test_every_model_answers_with_a_dirichlet_distribution_where_the_loop_does():
    settings = tiny(feedback={"steps": 2, "output": "dirichlet"}, loss="evidential")
    image = torch.rand(2, 3, 32, 32)
    for name in MODELS:
        model = twin(name, settings).model.eval()
        assert (model(image) > 0).all(), name  # log(1 + softplus(.))
    plain, logits = twin("plain", settings).model.eval()(image), twin("plain").model.eval()(image)
    torch.testing.assert_close(plain, log_concentration(logits))
    assert twin("plain", settings).model.state_dict().keys() == twin("plain").model.state_dict().keys()


def test_the_score_of_a_loop_is_that_of_its_own_number_of_looks():
    settings = tiny(feedback={"steps": 3, "dynamics": "fractional"})
    test = held_out(settings)
    made = make_twin("feedback", settings, len(test.dataset.classes), 0)
    with torch.no_grad():
        made.model.segmentation_head[0].weight.mul_(30)
    key = ComparisonKey("feedback", settings.conditions[0], 2, 0)
    own = next(s for s in scores(settings, key, made, test) if s["severity"] == 4 and s["looks"] == 3)
    shown = Corrupted(test, "rescaled_noise", 4, seed=TEST_SEED)
    assert own["ece"] == evaluate(made.model, shown, classes=len(test.dataset.classes), looks=[3]).last.ece


def test_one_comparison_at_a_time_writes_into_a_folder(tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(InvalidValue, match="a comparison is running there"):
        compare(tiny(), tmp_path, accelerator="cpu")
    assert not (tmp_path / "runs").exists()


def test_a_process_that_trains_ends_with_the_one_that_asked(monkeypatch):
    ended = []
    monkeypatch.setattr("smp_feedback.experiments.parallel.os._exit", ended.append)
    alive, ours = multiprocessing.Pipe(duplex=False)
    watch = threading.Thread(target=_end_with, args=(alive,))
    watch.start()
    assert watch.is_alive()
    assert not ended
    ours.close()  # as when the process that holds it is killed
    watch.join(30)
    assert ended == [1]


def test_a_run_that_diverges_is_named(tmp_path):
    with pytest.raises(FeedbackError, match="plain-rescaled_noise4-n2-s0: The loss is not finite"):
        run(tiny(lr=1e30, train_steps=6), ComparisonKey("plain", tiny().conditions[0], 2, 0), accelerator="cpu")


def test_a_run_that_is_not_whole_is_trained_again(tmp_path):
    (tmp_path / "runs").mkdir()
    for text in ('{"a":', "3", ""):
        run_path(tmp_path, ComparisonKey("plain", CLEAN, 2, 0)).write_text(text)
        assert kept(tmp_path, ComparisonKey("plain", CLEAN, 2, 0)) is None
