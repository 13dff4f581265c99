"""Pictures of a comparison at several sizes: which image, which answers, under which words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")
import smp_feedback as smpf
from smp_feedback.data import Corrupted, Mazes
from smp_feedback.experiments.comparison import pictures, size_pictures
from smp_feedback.experiments.comparison.settings import ComparisonSettings, Condition
from smp_feedback.experiments.comparison.size_pictures import ShownSizes
from smp_feedback.experiments.comparison.size_pictures import size_pictures as drawn
from smp_feedback.experiments.runs import TEST_SEED

TOLD = {"data": "mazes", "size": 2, "arch": "PlainConv", "feedback": "anytime", "train": ["clean"], "train_count": [10]}
TOLD |= {"augment": "none", "training": {"steps": [2, 4]}, "test_images": 10}


class Says(nn.Module):
    """A model that says of every pixel that it is of one class."""

    def __init__(self, label):
        super().__init__()
        self.label, self.asked = nn.Parameter(torch.tensor(float(label))), []
        self.data_config = smpf.DataConfig()

    def forward(self, image, steps=None):
        self.asked.append((tuple(image.shape), steps))
        return torch.stack([0.5 - self.label.expand(image[:, 0].shape), self.label.expand(image[:, 0].shape) - 0.5], 1)


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """Twins that say nothing, or everything; a loop that does; and what was animated."""
    moved = []

    def animate(model, image, path, **how):
        moved.append((model, image, how))
        path.write_bytes(b"GIF")
        return path

    monkeypatch.setattr(size_pictures, "animate", animate)
    models = {"equal-inference": Says(0), "plain": Says(1), "feedback": Says(1)}
    settings = ComparisonSettings(**TOLD, sizes=[3, 2], looks=[4, 8, 16])
    (tmp_path / "models").mkdir()
    return ShownSizes(settings, Condition(), models, tmp_path / "models"), moved


def solves(monkeypatch, number):
    """The loop's last answer is right for the test image of that number alone."""
    seen = []

    def answers_by_look(model, image, looks):
        truth = Mazes("test", size=3)[len(seen)][1]
        seen.append(looks)
        return [torch.zeros_like(truth), truth if len(seen) - 1 == number else 1 - truth]

    monkeypatch.setattr(size_pictures, "answers_by_look", answers_by_look)
    return seen


def test_there_is_an_animation_of_the_largest_size_and_a_picture_of_each(shown, monkeypatch):
    solves(monkeypatch, 0)
    made = drawn(shown[0])
    assert [path.name for path in made.values()] == ["solving-clean.gif", "size-2-clean.png", "size-3-clean.png"]
    assert all(path.is_file() for path in made.values())
    assert [words.partition(",")[0].partition(":")[0] for words in made] == ["Size 3", "Size 2", "Size 3"]
    assert all(words.endswith(".") for words in made)


@pytest.mark.parametrize("number", [0, 2, None])
def test_the_animation_is_of_the_first_image_that_the_loop_solves_and_says_so(number, shown, monkeypatch):
    asked = solves(monkeypatch, number)
    words = next(iter(drawn(shown[0])))
    ((model, image, how),) = shown[1]
    expected, truth = Mazes("test", size=3)[number or 0]
    assert model is shown[0].models["feedback"]
    assert torch.equal(image, expected)
    assert torch.equal(how["truth"], truth)
    assert how["looks"] == 16
    assert set(asked) == {16}
    assert len(asked) == (8 if number is None else number + 1), "it looks no further, and not for ever"
    assert ("which it does not solve" in words) == (number is None)
    assert "the answer of equal-inference." in words, "the twin that comes closest"
    assert torch.equal(how["beside"]["equal-inference"], torch.zeros_like(truth))


def test_every_model_is_asked_for_the_same_first_image_and_the_loop_after_few_and_many_looks(shown, monkeypatch):
    solves(monkeypatch, 0)
    titles = []
    titled = size_pictures.titled
    monkeypatch.setattr(
        size_pictures, "titled", lambda *a, **how: titles.append(titled(*a, **how)[0]) or titled(*a, **how)
    )
    drawn(shown[0])
    assert titles == 2 * ["truth", "equal-inference", "plain", "feedback, 4 looks", "feedback, 16 looks"]
    assert shown[0].models["feedback"].asked == [((1, 3, n, n), t) for n in (5, 7) for t in (4, 16)]
    assert shown[0].models["plain"].asked == [((1, 3, n, n), None) for n in (5, 7)]


def test_a_picture_shows_the_image_and_the_truth_in_blue(shown, monkeypatch):
    solves(monkeypatch, 0)
    *_, path = drawn(shown[0]).values()
    with Image.open(path) as file:
        page = np.asarray(file.convert("RGB"))
    image, truth = Mazes("test", size=3)[0]
    times = size_pictures.SIDE // 7
    panels = [page[25 : 25 + 7 * times, left : left + 7 * times] for left in (8, 8 + 7 * times + 8)]
    first, second = (panel[times // 2 :: times, times // 2 :: times] for panel in panels)
    assert (first == image.mul(255).permute(1, 2, 0).numpy()).all()
    assert ((first != second).any(2) == truth.bool().numpy()).all()


def test_without_a_loop_nothing_moves_and_of_twins_alone_there_are_pictures(shown):
    twins = {name: model for name, model in shown[0].models.items() if name != "feedback"}
    assert [path.suffix for path in drawn(shown[0]._replace(models=twins)).values()] == [".png", ".png"]
    assert not shown[1]


def test_images_are_those_that_were_scored_under_the_condition_and_it_is_named(shown):
    noisy = shown[0]._replace(condition=Condition("gaussian_noise", 3))
    (image, _), (again, _) = (
        noisy.images(2, 1)[0],
        Corrupted(Mazes("test", size=2), "gaussian_noise", 3, seed=TEST_SEED)[0],
    )
    assert torch.equal(image, again)
    twins = {"plain": noisy.models["plain"]}
    made = drawn(noisy._replace(models=twins))
    assert [path.name for path in made.values()] == ["size-2-gaussian_noise3.png", "size-3-gaussian_noise3.png"]
    assert all(" under gaussian_noise:3:" in words for words in made)


@pytest.mark.parametrize(("looks", "kept"), [(None, [4]), ([3], [3]), ([1, 5, 9], [5, 9]), ([16, 64, 160], [16, 160])])
def test_the_loop_is_shown_after_about_the_looks_of_its_training_and_the_most(looks, kept, tmp_path):
    settings = ComparisonSettings(**TOLD, sizes=[2], looks=looks)
    assert ShownSizes(settings, Condition(), {}, tmp_path).looks == kept


def test_sizes_come_smallest_first_whatever_they_are(tmp_path):
    settings = ComparisonSettings(**TOLD, sizes=[5, [2, 8], 3])
    assert ShownSizes(settings, Condition(), {}, tmp_path).sizes == [3, (2, 8), 5]


def test_a_comparison_at_several_sizes_has_these_pictures_and_no_others(tmp_path, monkeypatch, shown):
    solves(monkeypatch, 0)
    monkeypatch.setattr(pictures, "restored", lambda settings, key, folder: shown[0].models.get(key.model))
    made = pictures.draw_pictures(shown[0].settings, tmp_path)
    assert [path.name for path in made.values()] == ["solving-clean.gif", "size-2-clean.png", "size-3-clean.png"]
    monkeypatch.setattr(pictures, "restored", lambda settings, key, folder: None)
    assert pictures.draw_pictures(shown[0].settings, tmp_path) == {}, "no weights were kept"
