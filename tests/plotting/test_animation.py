"""A moving picture of an answer: each frame held to the colours worked out by hand, and what is written, whole."""

from __future__ import annotations

import copy
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import smp_feedback as smpf

pytest.importorskip("matplotlib")
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.ops.reading import labels_of
from smp_feedback.plotting import animate, animation
from smp_feedback.plotting.animation import answers_by_look, settled_at, shown_looks
from smp_feedback.plotting.overlay import COVER, MARGIN, TOP, enlarged, laid_over, side_by_side

BLUE, VERMILION = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)
SIZE = (6, 9)


@pytest.fixture(scope="module")
def loop():
    torch.manual_seed(0)
    base = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
    return smpf.create("Unet", "tu-test_resnet.r160_in1k", None, classes=2, feedback=smpf.Recurrent(steps=2), **base)


@pytest.fixture
def says(loop, monkeypatch):
    """A loop that is shown whatever is asked for, and gives the answers that it is told."""

    def told(answers):
        def iterate(self, image, steps=None):
            assert image.shape == (1, 3, *SIZE)
            for t, labels in enumerate(answers[:steps]):
                logits = torch.stack([-labels.float(), labels.float()])[None]
                yield SimpleNamespace(index=t, logits=logits, labels=None)

        monkeypatch.setattr(type(loop), "iterate", iterate)
        return loop

    return told


def ways(*lengths):
    """Answers whose first so many pixels are of class 1."""
    return [(torch.arange(SIZE[0] * SIZE[1]).view(SIZE) < n).long() for n in lengths]


def frames(path):
    """Every frame in RGB, and how long it is shown in milliseconds."""
    shown = []
    with Image.open(path) as file:
        assert file.info.get("loop") == 0, "for ever"
        for i in range(file.n_frames):
            file.seek(i)
            shown.append((np.asarray(file.convert("RGB")).astype(int), file.info["duration"]))
    return shown


def by_hand(image, answer, truth):
    """What the picture of an answer has to be, pixel by pixel, in double precision."""
    seen = 255 * np.asarray(image, dtype=float).transpose(1, 2, 0)
    for place in np.ndindex(*SIZE):
        if answer[place]:
            colour = np.array(VERMILION if truth is not None and truth[place] == 0 else BLUE)
            seen[place] = (1 - COVER) * seen[place] + COVER * colour
    return seen


def shown_at(frame, times, left=MARGIN):
    """One value for each pixel of the picture in a frame, if all of its square has it."""
    height, width = SIZE
    part = frame[TOP : TOP + times * height, left : left + times * width]
    squares = part.reshape(height, times, width, times, 3)
    assert (squares == squares[:, :1, :, :1]).all(), "a square has one colour"
    return squares[:, 0, :, 0]


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_every_frame_is_the_image_with_the_answer_of_its_look_over_it(suffix, says, tmp_path):
    image = torch.rand(3, *SIZE).mul(4).round().div(4)
    truth = ways(20)[0]
    truth[0, 0], truth[0, 1] = 0, 255  # there, an answer of 1 is wrong, and nothing is
    answers = ways(4, 9, 21)
    path = animate(says(answers), image, tmp_path / f"a.{suffix}", looks=3, truth=truth, side=60)
    found = frames(path)
    assert len(found) == 4
    for (frame, _), answer in zip(found, [torch.zeros(SIZE), *answers], strict=True):
        assert abs(shown_at(frame, 6) - by_hand(image, answer, truth)).max() <= 1
    assert [time for _, time in found] == [800, 80, 80, 3000]


def test_a_film_shows_each_frame_as_long_as_the_others_do(says, tmp_path):
    pytest.importorskip("av")
    from smp_feedback.data.films.video import VideoFrames

    image, answers = torch.ones(3, *SIZE), ways(9, 54)
    path = animate(says(answers), image, tmp_path / "a.mp4", looks=2, side=100)
    film = VideoFrames(path)
    shown = [frame.mul(255).permute(1, 2, 0).numpy() for frame in film]
    assert [float(film.fps), len(shown)] == [12.5, 10 + 1 + 38], "milliseconds: 800, 80, 3000"
    assert all(side % 2 == 0 for frame in shown for side in frame.shape[:2]), "what every player shows"
    for frame, answer in zip([shown[0], shown[10], shown[-1]], [torch.zeros(SIZE), *answers], strict=True):
        middle = frame[TOP + 5 : TOP + 66 : 11, MARGIN + 5 : MARGIN + 99 : 11]
        assert abs(middle - by_hand(image, answer, None)).mean() < 12, "colour is kept at half resolution"


@pytest.mark.parametrize("batch", [False, True])
def test_a_model_animates_what_it_is_called_with(batch, loop, tmp_path):
    image, mean = torch.rand(3, 32, 32).mul(4).round().div(4), (0.5, 0.25, 0.5)
    loop = copy.deepcopy(loop)
    loop.data_config = smpf.DataConfig(mean=mean, std=(0.5, 0.25, 0.25))
    given = loop.data_config.normalise(image)
    first = animate(loop, image, tmp_path / "a.webp", looks=loop.feedback.steps())
    second = loop.animate(given[None] if batch else given, tmp_path / "b.webp")
    assert first.read_bytes() == second.read_bytes()
    with pytest.raises(InvalidInput, match=r"write image\[0\]"):
        loop.animate(torch.rand(2, 3, 32, 32), tmp_path / "c.webp")


def test_a_loop_around_a_base_is_animated_from_the_base_on(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(animation, "side_by_side", lambda panels: titles.append(panels[0][0]) or side_by_side(panels))
    model = smpf.create("PlainConv", classes=2, feedback=smpf.Repair(steps=2, width=8), width=8)
    model.animate(torch.rand(3, 16, 16), tmp_path / "a.gif", smpf.until_settled(2, at_most=4))
    assert titles == ["image", "base", "look 1"]


def test_a_classifier_is_not_animated_and_it_is_said_what_draws_it(tmp_path):
    model = smpf.create("timm/test_resnet", classes=9, feedback=smpf.Recurrent(steps=1))
    with pytest.raises(InvalidInput, match=r"one answer for the whole image.*model.show"):
        model.animate(torch.rand(3, 64, 64), tmp_path / "a.gif")


def test_an_animation_ends_when_nothing_changes_any_more(says, tmp_path):
    answers = ways(3, 5, 5, 9, *[12] * 36)
    found = frames(animate(says(answers), torch.rand(3, *SIZE), tmp_path / "a.gif", looks=40))
    assert len(found) == 6
    assert found[-1][1] == 3000
    assert len(answers_by_look(says(answers), torch.rand(3, *SIZE), 40)) == 5
    never = ways(*[3, 4] * 10)
    assert len(answers_by_look(says(never), torch.rand(3, *SIZE), 20)) == 20


@given(st.lists(st.integers(0, 2), min_size=1, max_size=12))
def test_it_settles_at_the_first_look_from_which_all_are_equal(answers):
    first = next(t for t in range(1, len(answers) + 1) if len(set(answers[t - 1 :])) == 1)
    assert settled_at([torch.tensor([answer]) for answer in answers]) == first


@given(st.integers(1, 3000), st.none() | st.integers(1, 50))
@settings(max_examples=60)
def test_first_and_last_look_are_shown_and_no_more_than_a_file_bears(looks, every):
    shown = shown_looks(looks, every)
    assert shown == sorted(set(shown))
    assert (shown[0], shown[-1]) == (1, looks)
    assert len(shown) < 80 or every is not None
    gaps = {after - before for before, after in pairwise(shown[:-1])}
    assert len(gaps) <= 1
    assert every is None or gaps <= {every}


def test_the_answers_are_those_of_the_model_look_by_look(loop):
    image = torch.rand(3, 32, 32)
    loop.train()
    said = answers_by_look(loop, image, 4)
    assert loop.training, "modes are left as they were"
    loop.eval()
    with torch.no_grad():
        expected = labels_of(loop.trajectory(smpf.DataConfig().normalise(image[None]), 4)[:, 0])
    loop.train()
    assert all(torch.equal(a, b) for a, b in zip(said, expected, strict=False))
    assert torch.equal(said[-1], expected[-1])


def test_other_answers_stand_still_beside_it(says, tmp_path):
    image, truth = torch.rand(3, *SIZE), ways(8)[0]
    path = animate(
        says(ways(1, 8)), image, tmp_path / "a.webp", looks=2, truth=truth, beside={"twin": ways(30)[0], "truth": truth}
    )
    for frame, _ in frames(path):
        left = MARGIN + 9 * 40 + MARGIN
        assert abs(shown_at(frame, 40, left) - by_hand(image, ways(30)[0], truth)).max() <= 1
        assert abs(shown_at(frame, 40, left + 9 * 40 + MARGIN) - by_hand(image, truth, truth)).max() <= 1


def test_a_frame_says_its_look_and_whether_it_is_solved(says, tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(
        animation, "side_by_side", lambda panels: titles.append([t for t, _ in panels]) or side_by_side(panels)
    )
    truth = ways(8)[0]
    told = {"looks": 3, "truth": truth, "beside": {"twin": ways(8)[0], "other": ways(7)[0], "truth": truth}}
    animate(says(ways(1, 8, 9)), torch.rand(3, *SIZE), tmp_path / "a.gif", **told)
    assert [names[0] for names in titles] == ["image", "look 1", "look 2, solved", "look 3"]
    assert titles[0][1:] == ["twin, solved", "other", "truth"]
    titles.clear()
    animate(says(ways(1, 8, 9)), torch.rand(3, *SIZE), tmp_path / "a.gif", looks=3)
    assert [names[0] for names in titles] == ["image", "look 1", "look 2", "look 3"]


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_the_same_answers_give_the_same_bytes(suffix, says, tmp_path):
    image = torch.rand(3, *SIZE)
    first, second = (animate(says(ways(1, 5, 9)), image, tmp_path / f"{i}.{suffix}", looks=3) for i in range(2))
    assert first.read_bytes() == second.read_bytes()


def test_a_photograph_of_more_colours_than_a_gif_has_stays_close(says, tmp_path):
    height, width = SIZE
    image = torch.stack([torch.linspace(0, 1, height * width).view(SIZE), torch.rand(SIZE), torch.rand(SIZE)])
    answers = ways(*range(0, 54, 3))
    found = frames(animate(says(answers), image, tmp_path / "a.gif", looks=18, side=9))
    shown = zip(found[1:], answers, strict=True)
    assert max(abs(shown_at(f, 1) - by_hand(image, a, None)).mean() for (f, _), a in shown) < 8


def test_a_crash_leaves_the_older_file_whole(says, tmp_path, monkeypatch):
    path = animate(says(ways(1, 5)), torch.rand(3, *SIZE), tmp_path / "deep" / "a.gif", looks=2)
    before = path.read_bytes()
    monkeypatch.setattr(Image.Image, "save", lambda self, draft, **how: draft.write_bytes(b"half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        animate(says(ways(1, 5)), torch.rand(3, *SIZE), path, looks=2)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"path": "a.avi"}, InvalidValue, "the suffix of path='avi'"),
        ({"path": "a"}, InvalidValue, "the suffix of path=''"),
        ({"looks": 0}, InvalidValue, "steps=0"),
        ({"every": 0}, InvalidValue, "every=0"),
        ({"side": 0.5}, InvalidType, "side=0.5"),
        (
            {"image": torch.rand(1, 3, 32, 32)},
            InvalidInput,
            r"image of shape \(1, 3, 32, 32\): expected one \(C, H, W\)",
        ),
        (
            {"truth": torch.zeros(8, 8).long()},
            InvalidInput,
            r"truth of shape \(8, 8\): expected the image's \(32, 32\)",
        ),
        ({"beside": {"a": torch.zeros(8, 8).long()}}, InvalidInput, r"answer of shape \(8, 8\)"),
        ({"model": nn.Conv2d(3, 2, 1)}, InvalidType, "Conv2d looks once: expected a looping model"),
    ],
)
def test_what_cannot_be_shown_is_refused_and_nothing_written(change, error, words, loop, tmp_path):
    told = {"model": loop, "image": torch.rand(3, 32, 32), "path": "a.gif", "looks": 2, **change}
    model, image, path = (told.pop(name) for name in ("model", "image", "path"))
    with pytest.raises(error, match=words):
        animate(model, image, tmp_path / path, **told)
    assert not list(tmp_path.iterdir())


def test_classes_have_colours_that_repeat_and_are_never_that_of_what_is_wrong():
    labels = torch.arange(30)[None]
    painted = laid_over(torch.zeros(1, 1, 30), labels)[0]
    assert len({tuple(colour) for colour in painted[1:].tolist()}) == 10
    assert not (painted == np.round(COVER * np.array(VERMILION))).all(1).any()
    assert painted[0].tolist() == [0, 0, 0], "the background is the image"


def test_pictures_are_enlarged_by_whole_numbers_and_have_room_for_their_titles():
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert (enlarged(picture, 15)[::3, ::3] == picture).all()
    assert enlarged(picture, 3).shape == picture.shape
    wide = side_by_side([("a title that is far longer than its picture is wide", picture)])
    narrow = side_by_side([("a", picture)])
    assert wide.shape[1] > narrow.shape[1] > 4
    assert (wide[:TOP, -MARGIN:] == 255).all(), "no letter is cut"


@pytest.mark.parametrize("told", [{"truth": np.zeros(SIZE)}, {"beside": {"twin": np.zeros(SIZE)}}])
def test_labels_that_are_no_tensor_are_refused(told, says, tmp_path):
    with pytest.raises(InvalidType, match=r"is a ndarray: expected a tensor \(H, W\), a label a pixel"):
        animate(says(ways(1)), torch.rand(3, *SIZE), tmp_path / "a.gif", looks=1, **told)
