"""The search for step size and number of updates: held to the models themselves, to planted ones, to golden arrays."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import smp_feedback as smpf
from smp_feedback.data import Shapes
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.evaluation import load_result, miou, save_result
from smp_feedback.evaluation.tuning import MOST, STEP_SIZES, Tuning, tune
from smp_feedback.loops.score.state import Begun

TINY = smpf.Score(filters=8, additional_pools=1, features=("stage:2",), steps=2)
BASE = {"encoder": "tu-test_resnet", "encoder_weights": None, "decoder_channels": (16, 16, 8, 8, 8)}
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden arrays are not part of the project")


def refined(feedback=TINY, classes=3, autoencoder=None):
    model = smpf.create("Unet", classes=classes, feedback=feedback, **BASE).eval()
    if autoencoder is not None:
        model.feedback.autoencoder = autoencoder
    return model


class Planted(nn.Module):
    """An autoencoder whose answer is a function of the image, whatever the prediction: ``says`` of its labels."""

    def __init__(self, says):
        super().__init__()
        self.weight, self.says, self.passes = nn.Parameter(torch.zeros(())), says, 0

    def condition(self, features, size):
        return features

    def forward(self, y, conditions):
        self.passes += 1
        (image,) = conditions
        return 50 * F.one_hot(self.says(image), y.shape[1]).movedim(-1, 1).float()


def truth(image):
    """Of `coloured`."""
    return image.argmax(1)


def coloured(count=3):
    """Every pixel has the colour of its class, so that an image tells the truth."""
    torch.manual_seed(7)
    masks = [torch.randint(3, (32, 32)) for _ in range(count)]
    return [(F.one_hot(mask, 3).movedim(-1, 0).float(), mask) for mask in masks]


SEES = smpf.Score(filters=8, additional_pools=2, features=("input",))


# --- the curve


@pytest.mark.parametrize("classes", [1, 3])
def test_the_curve_is_that_of_the_model_itself_step_by_step(classes):
    k = max(2, classes)
    stub = Stub(0.5 * torch.randn(k, 3 + k, 3, 3), torch.randn(k))
    model = refined(smpf.Score(features=("input",), tolerance=0.3), classes, stub)
    data = [(image, mask.clamp(max=k - 1)) for image, mask in (Shapes(5, 32)[i] for i in range(5))]
    found = tune(model, data, classes=k, step_sizes=(0.5, 0.05), most=6, batch_size=2)
    assert found.step_sizes == (0.05, 0.5)
    for step, row in zip(found.step_sizes, found.miou, strict=True):
        for n, seen in enumerate(row):

            class Answers(nn.Module):
                def forward(self, image, step=step, n=n):
                    return model.choose(step=step, steps=max(1, n))(image, steps=n)

            assert seen == pytest.approx(miou(Answers(), data, classes=k), abs=1e-9), (step, n)
    assert len({round(seen, 6) for row in found.miou for seen in row}) > 4, "nothing moved"


def test_void_is_not_scored():
    model, data = refined(), [Shapes(1, 32)[0]]
    (image, mask), void = data[0], data[0][1].clone()
    void[:16] = 255
    half = tune(model, [(image, void)], classes=3, ignore_index=255, most=3, step_sizes=(0.5,))
    begun = model.begin(image[None])
    with torch.no_grad():
        labels = [begun.logits, *(step.logits for step in model.refine(begun, step=0.5, steps=3))]
    for seen, logits in zip(half.miou[0], labels, strict=True):
        said, target = logits.argmax(1)[0, 16:], mask[16:]
        here = [k for k in range(3) if ((said == k) | (target == k)).any()]
        ious = [float(((said == k) & (target == k)).sum() / ((said == k) | (target == k)).sum()) for k in here]
        assert seen == pytest.approx(np.mean(ious))


def test_one_pass_of_the_base_a_batch_and_one_of_the_autoencoder_an_update():
    autoencoder = Planted(truth)
    model, seen = refined(smpf.Score(features=("input",), tolerance=None), autoencoder=autoencoder), []
    model.encoder.register_forward_hook(lambda *_: seen.append(1))
    batches = []
    tune(model, coloured(5), classes=3, batch_size=2, advance=lambda: batches.append(1))
    assert (len(seen), len(batches)) == (3, 3)
    assert autoencoder.passes == 3 * len(STEP_SIZES) * MOST


class Asked(TorchDispatchMode):
    """Counts how often a number is read from a tensor, which waits for a GPU."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.__name__.partition(".")[0] in ("_local_scalar_dense", "is_nonzero", "item", "nonzero")
        return function(*args, **(kwargs or {}))


def test_the_device_is_asked_once_a_batch_however_many_updates():
    model, counts = refined(smpf.Score(features=("input",), tolerance=None), autoencoder=Planted(truth)), []
    with Asked() as asked:
        tune(model, coloured(3), classes=3, most=4, batch_size=1, advance=lambda: counts.append(asked.count))
    assert [after - before for before, after in pairwise(counts)] == [1, 1], "whether its images are finite"


def test_a_model_is_left_as_it_was():
    model = refined().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}, model.loop_config
    tune(model, coloured(1), classes=3, most=1)
    assert model.feedback.autoencoder.training
    assert model.loop_config == before[1]
    assert all(torch.equal(value, before[0][key]) for key, value in model.state_dict().items())


# --- the choice


def test_an_autoencoder_that_knows_the_truth_is_followed_until_all_is_right():
    model, data = refined(SEES, autoencoder=Planted(truth)), coloured()
    found = tune(model, data, classes=3)
    assert found.best == 1.0
    assert (found.step, found.steps) == (0.5, 1), "soonest, then smallest"
    assert found.base < 0.5
    assert all(row[-1] == 1.0 for size, row in zip(found.step_sizes, found.miou, strict=True) if size >= 0.05)
    assert str(found).startswith("1 update of step size 0.5: mIoU 100.0 %")
    assert miou(model.choose(step=found.step, steps=found.steps), data, classes=3) == 1.0


def test_zero_updates_are_chosen_where_the_autoencoder_is_wrong_and_said_plainly():
    model, data = refined(SEES, autoencoder=Planted(lambda image: (truth(image) + 1) % 3)), coloured()
    model.begin = lambda image: Begun(9 * image, None, (9 * image).softmax(1), (image,))  # the base is always right
    found = tune(model, data, classes=3)
    assert (found.steps, found.base, found.best) == (0, 1.0, 1.0)
    assert str(found).startswith("Zero updates: nothing that was tried has a higher mIoU than the base's 100.0 %")
    model.choose(step=found.step, steps=found.steps)
    assert model.loop_config.steps == 0


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        (((0.5, 0.4), (0.5, 0.5)), (0.1, 0)),
        (((0.5, 0.6, 0.7), (0.5, 0.7, 0.6)), (0.2, 1)),
        (((0.5, 0.7, 0.7), (0.5, 0.7, 0.7)), (0.1, 1)),
        (((0.5, 0.6, 0.7), (0.5, 0.6, 0.8)), (0.2, 2)),
    ],
)
def test_the_best_wins_of_equals_the_fewest_updates_then_the_smallest_step(rows, chosen):
    found = Tuning((0.1, 0.2), rows)
    assert (found.step, found.steps) == chosen


# --- the published curve


class Stub(nn.Module):
    """The golden arrays' autoencoder: one convolution of [h, y]; the softmax is the loop's."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def condition(self, features, size):
        return features

    def forward(self, y, conditions):
        return F.conv2d(torch.cat([*conditions, y], 1), self.weight, self.bias, padding=1)


@needs_golden
def test_the_published_curve_with_the_published_bookkeeping():
    """There an image that has stopped leaves the later columns, which are NaN once all have; ours goes on counting."""
    a = {key: torch.from_numpy(value) for key, value in np.load(GOLDEN / "i_iterative_inference.npz").items()}
    about = json.loads((GOLDEN / "index.json").read_text())["i_iterative_inference"]["meta"]
    model = refined(smpf.Score(tolerance=about["eps_stop"]), classes=4, autoencoder=Stub(a["W"], a["b"]))
    model.begin = lambda image: Begun(a["y0"].log(), None, a["y0"], (a["h"],))
    data = [(torch.zeros(3, 6, 7), label) for label in a["label"]]
    ours = tune(model, data, classes=4, step_sizes=about["steps"], most=about["max_iter"])
    for i, step in enumerate(about["steps"]):
        with torch.no_grad():
            path = list(model.refine(model.begin(None), step=step, steps=about["max_iter"]))
        for n, one in enumerate(path):
            here = one.norm >= about["eps_stop"]  # the update that stops an image is not counted either
            seen = jaccard(one.state.argmax(1)[here], a["label"][here]) if here.any() else math.nan
            assert seen == pytest.approx(float(a["valid_curve"][i, n]), abs=2e-4, nan_ok=True)
            if here.all():
                assert ours.miou[i][n + 1] == pytest.approx(seen, abs=1e-6)
    wins = np.unravel_index(np.argmax(a["valid_curve"].numpy()), a["valid_curve"].shape)
    assert np.isnan(a["valid_curve"].numpy()[wins]), "the published choice is a NaN"
    assert not any(math.isnan(seen) for row in ours.miou for seen in row)
    assert ours.best == max(map(max, ours.miou))


def jaccard(labels, targets):
    ious = [((labels == k) & (targets == k)).sum() / ((labels == k) | (targets == k)).sum() for k in range(4)]
    return float(torch.stack(ious).mean())


# --- what is refused, and what is kept


@pytest.mark.parametrize(
    ("told", "error", "words"),
    [
        ({"classes": 11}, InvalidValue, "classes=11: this model's base tells 3 classes"),
        ({"step_sizes": ()}, InvalidType, r"step_sizes=\(\)"),
        ({"step_sizes": (0.1, 0)}, InvalidValue, "step_sizes=0"),
        ({"step_sizes": 0.1}, InvalidType, "step_sizes=0.1"),
        ({"most": 0}, InvalidValue, "most=0"),
        ({"data": []}, InvalidValue, "data is empty"),
        ({"model": nn.Conv2d(3, 3, 1)}, InvalidType, "a Conv2d: expected one with a score loop"),
    ],
)
def test_bad_arguments_are_refused_before_any_work(told, error, words, monkeypatch):
    monkeypatch.setattr(Shapes, "__getitem__", lambda *_: pytest.fail("touched"))
    arguments = {"model": refined(), "data": Shapes(2, 32), "classes": 3, **told}
    with pytest.raises(error, match=words):
        tune(arguments.pop("model"), arguments.pop("data"), **arguments)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ((torch.rand(3, 32, 32), torch.full((32, 32), 255)), "every label is ignored"),
        ((torch.rand(3, 32, 32), torch.full((32, 32), 7)), "1024 labels are neither a class nor ignored"),
        ((torch.full((3, 32, 32), torch.nan), torch.zeros(32, 32).long()), r"item 2: NaN or infinite"),
    ],
)
def test_bad_data_is_refused_by_name(pair, words):
    fine = pair if "every" in words else (torch.rand(3, 32, 32), torch.zeros(32, 32).long())
    with pytest.raises(InvalidInput, match=words):
        tune(refined(), [fine, fine, pair], classes=3, ignore_index=255, most=1, step_sizes=(1.0,), batch_size=2)


def test_the_curves_are_kept_and_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from smp_feedback.plotting.plot import draw, plot
    from smp_feedback.plotting.style import styled

    found = Tuning((0.1, 0.5), ((0.4, 0.5, 0.6), (0.4, 0.7, 0.5)))
    path = save_result(found.result(), tmp_path / "tuning.json")
    kept = load_result(path)
    assert kept["chosen"] == {"step": 0.5, "steps": 1, "score": 0.7}
    assert kept["score"] == [[0.4, 0.5, 0.6], [0.4, 0.7, 0.5]]
    with styled():
        (axis,) = draw(kept)["tuning"].axes
    first, second, base, chosen = axis.lines
    assert list(first.get_ydata()) == [0.4, 0.5, 0.6]
    assert list(second.get_ydata()) == [0.4, 0.7, 0.5]
    assert set(base.get_ydata()) == {0.4}
    assert (list(chosen.get_xdata()), list(chosen.get_ydata())) == ([1], [0.7])
    assert list(plot([path])) == [tmp_path / "tuning.png"]
