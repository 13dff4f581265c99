"""A strip of looks: each picture held to what it has to be, pixel by pixel, for every loop."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import smp_feedback as smpf
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue, MissingExtra
from smp_feedback.loops.above import ABOVE, above
from smp_feedback.registry.public import catalogue

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure

from smp_feedback.plotting.answered_looks import few_of
from smp_feedback.plotting.overlay import CLASSES, laid_over
from smp_feedback.plotting.painting import GONE, MOST, meanings
from smp_feedback.plotting.strip import show

NORMALISED = smpf.DataConfig(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SMALL = {
    "recurrent": {"steps": 3},
    "repair": {"steps": 2, "width": 8},
    "restoration": {"steps": 2, "depth": 2, "filters": 4},
    "score": {"steps": 2, "filters": 4, "additional_pools": 1},
}
SIZE = (6, 9)


def small(loop="recurrent", classes=3, **settings):
    config = {"loop": loop, **SMALL.get(loop, {}), **settings}
    return smpf.create("PlainConv", classes=classes, feedback=config, width=8)


def stirred(model):
    """*model* with weights that make its looks differ."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    return model


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def drawn(figure, title, place=0):
    """The picture under the *place*-th panel of that title, as bytes."""
    found = [axes for axes in figure.axes if axes.get_title() == title][place]
    return np.asarray(found.images[0].get_array())


def below(figure):
    """The pictures of what changed."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if "changed" in axes.get_title()]


def legend(figure):
    (one,) = figure.legends
    return {t.get_text(): h.get_facecolor() for t, h in zip(one.get_texts(), one.legend_handles, strict=True)}


@pytest.fixture
def says(monkeypatch):
    """A loop that gives the answers (H, W) that it is told, whatever it is shown."""

    def told(answers, **config):
        model = small()
        model.data_config = smpf.DataConfig(**config)

        def iterate(self, image, steps=None):
            for t, labels in enumerate(answers[: steps or len(answers)]):
                logits = nn.functional.one_hot(labels, 3).movedim(-1, 0)[None].float()
                yield SimpleNamespace(index=t, logits=logits, labels=None)

        monkeypatch.setattr(type(model), "iterate", iterate)
        return model

    return told


@pytest.mark.parametrize("loop", list(catalogue().loops))
def test_every_loop_shows_its_looks_and_is_left_as_it_was(loop):
    import matplotlib.pyplot as plt

    model = stirred(small(loop)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn_before = torch.random.get_rng_state()
    figure = model.show(torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert isinstance(figure, Figure)
    assert not plt.get_fignums(), "nobody's pyplot has it"
    assert titles(figure)[0] == "image"
    assert any(f"look {model._count(None)}" in title for title in titles(figure))
    assert figure.legends
    assert figure._repr_png_()[1:4] == b"PNG"
    assert torch.equal(torch.random.get_rng_state(), drawn_before)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("shape", [(3, *SIZE), (1, 3, *SIZE)])
def test_the_picture_of_the_image_is_the_image_before_it_was_normalised(shape):
    model = small()
    model.data_config = NORMALISED
    image = torch.rand(3, *SIZE)
    figure = model.show(NORMALISED.normalise(image).reshape(shape))
    found = drawn(figure, "image")
    assert abs(found - image.permute(1, 2, 0).numpy()).max() < 1e-6
    assert figure.get_suptitle() == ""


def test_the_model_is_shown_the_image_as_it_is_given():
    model, image = stirred(small()).eval(), NORMALISED.normalise(torch.rand(1, 3, *SIZE))
    model.data_config = NORMALISED
    with torch.no_grad():
        expected = model.trajectory(image)[-1].argmax(1)[0]
    assert (drawn(model.show(image), "look 3") == laid_over(NORMALISED.undo(image)[0], expected)).all()


def test_below_each_answer_stands_what_it_changed_and_how_many_per_cent(says):
    first, second = torch.zeros(SIZE).long(), torch.zeros(SIZE).long()
    first[0, :3], second[0, :2], second[5, 8] = 1, 1, 2  # one pixel became background, one became class 2
    figure = says([first, second, second]).show(torch.ones(3, *SIZE))
    assert titles(figure) == ["image", "look 1", "look 2", "look 3", f"{100 * 2 / 54:.1f} % changed", "0 % changed"]
    expected = np.full((*SIZE, 3), 255)
    expected[0, 2], expected[5, 8] = (0, 0, 0), [int(CLASSES[1][i : i + 2], 16) for i in (1, 3, 5)]
    assert (below(figure)[0] == expected).all()
    assert (below(figure)[1] == 255).all()


def test_a_share_that_is_not_nothing_is_never_told_as_nothing(says):
    first = torch.zeros(60, 60).long()
    second = first.clone()
    second[3, 3] = 1
    assert titles(says([first, second]).show(torch.ones(3, 60, 60)))[-1] == "< 0.1 % changed"


def test_the_legend_names_the_classes_that_are_there_in_their_colours(says):
    first, second = torch.zeros(SIZE).long(), torch.full(SIZE, 2)
    image = torch.ones(3, *SIZE)
    figure = says([second, first], classes=("sky", "tree", "road")).show(image)
    assert list(legend(figure)) == ["sky (background)", "road", "became sky"]
    from matplotlib.colors import to_rgba

    assert legend(figure)["road"] == to_rgba(CLASSES[1])
    assert legend(figure)["became sky"] == to_rgba(GONE)
    assert list(legend(says([second]).show(image, names=["a", "b", "<c>"]))) == ["<c>"]
    assert list(legend(says([second]).show(image))) == ["class 2"]


def test_names_with_dollars_are_shown_as_they_are_written(says):
    names = ["$x$", r"$\frac{1}{$", "<b>$"]
    figure = says([torch.arange(3).repeat(6, 3)]).show(torch.ones(3, *SIZE), names=names)
    assert [*legend(figure)] == ["$x$ (background)", *names[1:]]
    assert not any(text.get_parse_math() for text in figure.legends[0].get_texts())
    assert figure._repr_png_()


def test_classes_beyond_those_of_sixteen_bits_are_drawn():
    model = smpf.create("PlainConv", classes=2**15 + 8, width=2, depth=1, feedback=smpf.Recurrent(steps=1))
    with torch.no_grad():
        model.head.bias[-1] = 1e6
    assert [*legend(model.show(torch.rand(3, *SIZE)))] == [f"class {2**15 + 7}"]


def test_a_legend_of_many_classes_ends(says):
    many = torch.arange(40)[None]
    entries = meanings([many], [f"c{k}" for k in range(40)])
    assert len(entries) == MOST + 2
    assert entries[-1] == (f"and {39 - MOST} more", None)


@pytest.mark.parametrize(("channels", "words"), [(1, ""), (2, "1 of 2"), (3, ""), (4, "1, 2, 3 of 4"), (12, "of 12")])
def test_images_of_any_channels_are_drawn_and_it_is_said_which(channels, words):
    model = smpf.create("PlainConv", in_channels=channels, classes=2, feedback="anytime", width=8)
    image = torch.rand(channels, *SIZE)
    figure = model.show(image, 2)
    found, many = drawn(figure, "image"), 3 if channels >= 3 else 1
    assert abs(found.reshape(*SIZE, many) - image[:many].permute(1, 2, 0).numpy()).max() < 1e-6
    assert words in figure.get_suptitle()
    assert bool(figure.get_suptitle()) == bool(words)


def test_what_lies_outside_is_stretched_and_said():
    image = 4 * torch.rand(3, *SIZE) - 1
    figure = small().show(image)
    assert "stretched to [0, 1]" in figure.get_suptitle()
    assert f"values {float(image.min()):.3g} to {float(image.max()):.3g}" in figure.get_suptitle()
    expected = ((image - image.min()) / (image.max() - image.min())).permute(1, 2, 0).numpy()
    assert abs(drawn(figure, "image") - expected).max() < 1e-5
    image[0, 0, 0] = torch.nan
    assert "NaN or infinite values are black" in small().show(image).get_suptitle()


def test_channels_of_clicks_are_not_drawn():
    model = smpf.create("PlainConv", in_channels=5, classes=1, feedback="anytime", width=8)
    model.data_config = smpf.DataConfig(mean=(0.5,) * 3, std=(0.5,) * 3, clicks=smpf.ClickConfig())
    image = torch.rand(3, *SIZE)
    shown = torch.cat([model.data_config.normalise(image), torch.zeros(2, *SIZE)])
    figure = model.show(shown, 2)
    assert abs(drawn(figure, "image") - image.permute(1, 2, 0).numpy()).max() < 1e-6
    assert figure.get_suptitle() == ""


def test_all_of_few_looks_are_drawn_and_more_of_the_early_ones_of_many(says):
    assert few_of(6, 2) == [1, 2, 3, 4, 5, 6]
    for looks in (7, 40, 640):
        for settled in (1, 3, looks):
            chosen = few_of(looks, settled)
            assert len(chosen) <= 6
            assert chosen[-1] == looks
            assert chosen[0] == 1
            assert settled in chosen
    moving = [torch.zeros(SIZE).long().index_fill_(0, torch.tensor([min(t, 3)]), 1) for t in range(30)]
    figure = says(moving).show(torch.ones(3, *SIZE))
    assert [title for title in titles(figure) if "look" in title] == [f"look {n}" for n in (1, 2, 3, 4, 30)]
    assert figure.get_suptitle() == "the same from look 4 to 30"


def test_looks_that_are_named_are_drawn_and_others_are_not():
    model = stirred(small())
    image = torch.rand(3, *SIZE)
    assert titles(model.show(image, looks=[5, 1]))[:3] == ["image", "look 1", "look 5"]
    resting = small("recurrent", tolerance=1e9)
    assert titles(resting.show(image, 6, looks=[1, 6]))[2] == "look 6", "one that rests goes on answering as it did"


@pytest.mark.parametrize("loop", ["score", "repair"])
def test_a_loop_around_a_base_begins_with_the_answer_of_the_base(loop):
    model, image = stirred(small(loop)), torch.rand(3, 32, 32)
    with torch.no_grad():
        expected = model.eval()(image[None], steps=0).argmax(1)[0]
    figure = model.show(image)
    assert titles(figure)[:4] == ["image", "base", "look 1", "look 2"]
    assert (drawn(figure, "base") == laid_over(image, expected)).all()
    assert titles(model.show(image, 0)) == ["image", "base"]
    assert titles(model.show(image, looks=[0, 2]))[:3] == ["image", "base", "look 2"]


@pytest.mark.parametrize("settings", [{}, {"carry": "mean"}])
def test_above_each_answer_stands_the_image_that_was_segmented(settings):
    model, image = stirred(small("restoration", **settings)).eval(), torch.rand(3, 32, 32)
    model.data_config = NORMALISED
    given = NORMALISED.normalise(image)
    with torch.no_grad():
        *_, last = model.passes(given[None])
    figure = model.show(given)
    assert titles(figure)[:4] == ["image", *(f"restored, {name}" for name in ("no feedback", "look 1", "look 2"))]
    shown = NORMALISED.undo(last.restored if last.mean is None else last.mean)[0]
    low, high = float(shown.min()), float(shown.max())
    shown = (shown - low) / (high - low) if low < -1 / 512 or high > 1 + 1 / 512 else shown
    assert abs(drawn(figure, "restored, look 2") - shown.permute(1, 2, 0).clamp(0, 1).numpy()).max() < 1e-4
    assert (drawn(figure, "answer, look 2") == laid_over(NORMALISED.undo(given), last.logits.argmax(1)[0])).all()
    alone = small("restoration", weight=0.0, steps=1).show(image)
    assert titles(alone) == ["image", "restored, look 1", "answer, look 1"]


def test_a_classifier_shows_its_chances_look_by_look():
    model = stirred(smpf.create("timm/test_resnet", classes=9, feedback=smpf.Recurrent(steps=2))).eval()
    image = torch.rand(3, 64, 64)
    with torch.no_grad():
        chances = model.trajectory(image[None]).softmax(-1)[:, 0]
    figure = model.show(image, names=[f"$n{k}$" for k in range(9)])
    best = chances[-1].argsort(descending=True)[:5].tolist()
    for look, axes in enumerate(figure.axes[1:]):
        found = [bar.get_width() for bar in axes.patches]
        assert np.allclose(found, [100 * float(chances[look, k]) for k in best], atol=1e-3)
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == [f"$n{k}$" for k in best]
    assert not any(label.get_parse_math() for label in figure.axes[1].get_yticklabels()), "a name is no formula"


def test_several_labels_a_pixel_are_laid_over_one_another():
    model = stirred(small())
    model.data_config = smpf.DataConfig(task="multilabel", classes=("a", "b", "c"))
    image = torch.rand(3, 32, 32)
    figure = model.show(image, names=["x", "y", "z"])
    with torch.no_grad():
        said = model.eval().trajectory(image[None])[:, 0] > 0
    changed = (said[1] != said[2]).any(0)
    grey = below(figure)[1]
    assert ((grey == 0).all(-1) == changed.numpy()).all()
    assert set(legend(figure)) <= {"x", "y", "z", "changed"}


def test_a_model_that_another_carries_is_shown():
    assert titles(show(AveragedModel(small()), torch.rand(3, *SIZE)))[1] == "look 1"


@pytest.mark.parametrize(
    ("told", "error", "words"),
    [
        ({"image": torch.rand(4, 3, *SIZE)}, InvalidInput, r"shape \(4, 3, 6, 9\): .* write image\[0\]"),
        ({"image": torch.rand(*SIZE)}, InvalidInput, r"expected one image, \(C, H, W\) or \(1, C, H, W\)"),
        ({"image": torch.rand(4, *SIZE)}, InvalidInput, "has 4 channels: expected 3"),
        ({"image": torch.zeros(3, *SIZE).byte()}, InvalidInput, "for bytes, image.float"),
        ({"image": np.zeros((6, 9, 3))}, InvalidType, "image is a ndarray: expected a tensor"),
        ({"steps": 0}, InvalidValue, "steps=0"),
        ({"looks": [0]}, InvalidValue, "looks=0: expected a whole number >= 1"),
        ({"looks": []}, InvalidType, r"looks=\[\]: expected numbers of looks"),
        ({"looks": "all"}, InvalidType, "looks='all'"),
        ({"looks": [1, 9], "steps": 4}, InvalidValue, r"looks=\[1, 9\]: this call looks 4 times; give steps=9"),
        ({"names": ["a", "b"]}, InvalidValue, "expected 3 names, one for each class, got 2"),
        ({"names": "abc"}, InvalidType, "names='abc': expected a list of names"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_what_to_write(told, error, words):
    told = {"image": torch.rand(3, *SIZE), **told}
    with pytest.raises(error, match=words):
        small().show(told.pop("image"), **told)


def test_a_model_that_looks_once_is_refused():
    with pytest.raises(InvalidType, match="Conv2d looks once"):
        show(nn.Conv2d(3, 2, 1), torch.rand(3, *SIZE))


def test_without_matplotlib_it_is_said_which_extra_brings_it(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("smp_feedback.plotting")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("smp_feedback.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"smp_feedback\[plot\]"):
        small().show(torch.rand(3, *SIZE))


@pytest.mark.parametrize("name", ABOVE)
def test_what_is_named_above_is_there(name):
    assert callable(above(name))
