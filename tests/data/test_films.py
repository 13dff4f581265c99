"""Films: which frames belong together, clips of them, and shapes that move."""

import pickle
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, DataLoader, Subset
from torchvision.transforms import v2

from smp_feedback.data import Clips, Corrupted, MovingShapes, Objects, Shapes, Triplets, item_name
from smp_feedback.data.films.clips import windows
from smp_feedback.data.films.moving import bounced
from smp_feedback.data.seeding import SPLITS
from smp_feedback.data.wrapped import films_of
from smp_feedback.errors import DataWarning, InvalidInput, InvalidType, InvalidValue
from smp_feedback.evaluation.films.order import films_in


class Frames(list):
    """Items of a list, in films of so many frames."""

    def __init__(self, items, *lengths):
        super().__init__(items)
        ends = np.cumsum(lengths).tolist()
        self.films = tuple(range(end - length, end) for end, length in zip(ends, lengths, strict=True))


def numbered(*lengths, side=4):
    """Frame k is full of k / 100."""
    items = [(torch.full((3, side, side), k / 100), torch.full((side, side), k)) for k in range(sum(lengths))]
    return Frames(items, *lengths)


# --- clips


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
def test_windows_are_all_runs_of_one_film_that_fit(lengths, length, stride, every):
    films = numbered(*lengths).films
    wanted = []
    for film in films:  # by the definition: start at every stride-th frame, and end within the film
        for start in list(film)[::stride]:
            frames = tuple(start + every * k for k in range(length))
            wanted += [frames] if frames[-1] in film else []
    assert windows(films, length, stride, every) == wanted


def test_a_clip_has_its_frames_in_order_and_a_batch_its_clips():
    clips = Clips(numbered(6, 5), length=3, stride=2, every=2)
    assert clips.frames == [(0, 2, 4), (6, 8, 10)]
    frames, masks = next(iter(DataLoader(clips, batch_size=2)))
    assert (frames.shape, masks.shape) == ((2, 3, 3, 4, 4), (2, 3, 4, 4))
    assert masks[:, :, 0, 0].tolist() == [[0, 2, 4], [6, 8, 10]]
    assert torch.allclose(frames[:, :, 0, 0, 0] * 100, masks[:, :, 0, 0].float())


def test_short_films_are_left_out_and_said_and_refused_where_all_are():
    with pytest.warns(DataWarning, match=r"2 of 3 films are shorter, and left out \(item 4 begins one of 2\)"):
        clips = Clips(numbered(4, 2, 1), length=3)
    assert clips.frames == [(0, 1, 2), (1, 2, 3)]
    with pytest.raises(InvalidValue, match="a clip spans 7 frames, and the longest film has 4: expected a length of"):
        Clips(numbered(4, 2), length=4, every=2)


@pytest.mark.parametrize("wrong", [{"length": 0}, {"stride": 0}, {"every": -1}])
def test_a_clip_has_frames_and_they_go_on(wrong):
    with pytest.raises(InvalidValue, match="expected an int >= 1"):
        Clips(numbered(4), **wrong)


def test_a_dataset_without_films_has_no_clips():
    with pytest.raises(InvalidType, match=r"Shapes without films.*open_dataset\('moving'\)"):
        Clips(Shapes(4))


def test_frames_of_several_sizes_are_named():
    clips = Clips(Frames([numbered(1, side=4)[0], numbered(1, side=6)[0]], 2), length=2)
    with pytest.raises(InvalidInput, match="item 1 is 3 x 6 x 6 and item 0, of the same film, 3 x 4 x 4"):
        clips[0]


class OfPython:
    """Draws from Python's and NumPy's generators, and from torch's."""

    def __call__(self, image, mask):
        return torch.full_like(image, (random.random() + np.random.random() + float(torch.rand(()))) / 3), mask


@pytest.mark.parametrize("transform", [v2.RandomHorizontalFlip(), "crop_flip", "colour", OfPython()])
def test_augmentation_is_drawn_once_a_clip(transform):
    still = MovingShapes(count=6, frames=6, size=24, speed=0, spin=0, transform=transform)
    clips = Clips(still, length=6)
    seen = set()
    for seed in range(6):
        torch.manual_seed(seed)
        frames, masks = clips[0]
        assert (frames == frames[0]).all()
        assert (masks == masks[0]).all()
        seen.add(frames[0].numpy().tobytes())
    assert len(seen) > 1  # and anew for each clip
    torch.manual_seed(0)
    alone = {still[i][0].numpy().tobytes() for i in (0, 0, 0, 0, 0, 0)}
    assert len(alone) > 1  # and for each frame outside of one


def test_noise_is_fresh_for_each_frame_of_a_clip():
    still = MovingShapes(count=4, frames=4, size=24, speed=0, spin=0, transform="flip")
    for noisy in (
        Corrupted(still, "gaussian_noise", 2),
        Corrupted(still, "gaussian_noise", 2, fresh=True),
        MovingShapes(count=4, frames=4, size=24, speed=0, spin=0, noise=0.5),
    ):
        frames, masks = Clips(noisy, length=4)[0]
        assert len({frame.numpy().tobytes() for frame in frames}) == 4
        assert (masks == masks[0]).all()


def test_a_clip_without_anything_random_moves_no_generator():
    before = torch.get_rng_state()
    Clips(MovingShapes(count=8, size=24), length=4)[1]
    assert torch.equal(torch.get_rng_state(), before)


def test_clips_of_triplets_have_three_parts():
    distorted, clean, masks = Clips(Triplets(MovingShapes(count=4, size=24), "motion_blur"), length=4)[0]
    assert distorted.shape == clean.shape == (4, 3, 24, 24)
    assert masks.shape == (4, 24, 24)


def test_clips_say_their_names_classes_and_files():
    data = MovingShapes(count=8, size=24)
    clips = Clips(data, length=2)
    assert clips.name(0) == "moving[0] of seed 0 to moving[1] of seed 0"
    assert item_name(clips, 1) == clips.name(1)
    assert (clips.classes, clips.ignore_index) == (data.classes, None)
    assert clips.samples == [[]] * len(clips)
    assert torch.equal(pickle.loads(pickle.dumps(clips))[3][0], clips[3][0])


# --- films through wrappers


def test_wrappers_have_the_films_of_what_they_wrap():
    data = MovingShapes("test", frames=3, count=6, size=24)
    assert Corrupted(data, "jpeg", 1).films == films_of(data) == (range(3), range(3, 6))
    assert films_of(Subset(data, [5, 0, 1])) == ((1, 2), (0,))
    assert films_of(Subset(Corrupted(data, "jpeg", 1), [4])) == ((0,),)
    assert films_of(ConcatDataset([data, data])) == ((0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11))
    assert films_of(Clips(data, length=2)) is None  # whose items are no frames
    assert films_of(ConcatDataset([data, Shapes(2)])) is None
    assert not hasattr(Corrupted(Shapes(2), "jpeg", 1), "films")
    assert torch.equal(Corrupted(Subset(data, [4, 1]), "jpeg", 1).hidden(1), data.hidden(1))


# --- moving shapes


@pytest.mark.parametrize("split", SPLITS)
def test_a_frame_is_a_function_of_split_seed_film_and_place(split):
    short = MovingShapes(split, frames=4, count=8, size=24, scene=3, seed=2)
    long = MovingShapes(split, frames=9, count=18, size=24, scene=3, seed=2)
    for film, place in ((1, 3), (0, 2), (1, 0)):
        image, mask = short[4 * film + place]
        assert torch.equal(image, long[9 * film + place][0])
        assert torch.equal(mask, long[9 * film + place][1])


def test_what_occluders_hide_is_labelled_and_hidden_says_where():
    how = {"frames": 6, "count": 60, "size": 48}
    bare, before = MovingShapes("test", occluders=0, **how), MovingShapes("test", **how)
    cut_out = MovingShapes("test", behind=False, **how)
    assert not any(bare.hidden(i).any() for i in range(60))
    assert sum(int(before.hidden(i).any()) for i in range(60)) > 10
    for i in range(0, 60, 7):
        hidden, mask, visible = before.hidden(i), before[i][1], cut_out[i][1]
        assert (mask[hidden] > 0).all()
        assert (visible[hidden] == 0).all()
        assert torch.equal(mask[~hidden], visible[~hidden])


def test_objects_come_and_go_behind_occluders():
    data = MovingShapes("test", frames=128, count=1280, size=32)
    gone = sum(
        any(int(data.hidden(i).sum()) > 0 for i in film[::8]) and any(not data.hidden(i).any() for i in film[::8])
        for film in data.films
    )
    assert gone >= 5


def test_shapes_go_straight_and_bounce():
    place, velocity, side = np.array([7.0, 1.0]), np.array([0.7, -0.4]), np.array([10.0, 3.0])
    at, way = place.copy(), velocity.copy()
    for time in range(1, 60):  # step by step, turning round at the border
        at = at + way
        for axis in range(2):
            if not 0 <= at[axis] <= side[axis]:
                at[axis] = -at[axis] if at[axis] < 0 else 2 * side[axis] - at[axis]
                way[axis] *= -1
        assert bounced(place + velocity * time, side) == pytest.approx(at)


def test_a_film_cuts_where_it_says():
    data = MovingShapes("test", frames=7, count=14, size=32, scene=3, speed=0.0, spin=0.0)
    assert data.cuts == (3, 6, 10, 13)
    changed = [i for film in data.films for i in film[1:] if not torch.equal(data[i][0], data[i - 1][0])]
    assert tuple(changed) == data.cuts
    assert MovingShapes("test").cuts == ()


def test_speed_and_spin_are_those_asked_for():
    for wrong in ({"speed": -0.1}, {"spin": float("nan")}, {"occluders": -1}, {"scene": 0}, {"frames": 0}):
        with pytest.raises(InvalidValue, match=next(iter(wrong))):
            MovingShapes(**wrong)
    slow, fast = (MovingShapes("test", frames=2, count=80, size=48, speed=v, spin=0, occluders=0) for v in (0.01, 0.1))
    moved = [sum(int((d[i + 1][1] != d[i][1]).sum()) for i in range(0, 80, 2)) for d in (slow, fast)]
    assert 0 < 4 * moved[0] < moved[1]


def test_what_is_hidden_in_an_augmented_frame_is_not_guessed():
    with pytest.raises(InvalidInput, match=r"moving\[0\] of seed 0: what is hidden is known"):
        MovingShapes(transform="flip").hidden(0)


def test_where_masks_label_nothing_behind_occluders_nothing_hidden_is_scored():
    data = MovingShapes("test", behind=False, frames=2, count=4, size=16)
    with pytest.raises(InvalidInput, match=r"moving\[1\] of test: with behind=False the mask has no label"):
        data.hidden(1)
    assert films_in(data).hidden is None
    assert films_in(MovingShapes("test", frames=2, count=4, size=16)).hidden is not None


class Some(list):
    """Ten frames, of which some are films'."""

    def __init__(self, *films):
        super().__init__((torch.zeros(3, 4, 4), torch.zeros(4, 4, dtype=torch.long)) for _ in range(10))
        self.films = films


def test_frames_in_no_film_are_counted_in_a_warning_and_places_that_are_none_refused():
    with pytest.warns(DataWarning, match=r"^4 of 10 frames of Some are in no film, and left out; .* item 3\.$"):
        assert Clips(Some(range(3), (4, 6, 7)), length=2).frames == [(0, 1), (1, 2), (4, 6), (6, 7)]
    Clips(Some(range(10)), length=2)
    for films, said in (((range(3), (7, 10)), "film 1 has frame 10"), (((-1, 0),), "film 0 has frame -1")):
        for asked in (Clips, films_in):
            with pytest.raises(InvalidInput, match=f"films of Some: {said}, and there are 10 items"):
                asked(Some(*films))


def test_wind_moves_pixels_from_frame_to_frame_and_no_label():
    how = {"frames": 4, "count": 4, "size": 32, "speed": 0, "spin": 0}
    calm, windy = MovingShapes("test", **how), MovingShapes("test", wind=5.0, air="severe", **how)
    assert all(torch.equal(calm[i][1], windy[i][1]) for i in range(4))
    images = {windy[i][0].numpy().tobytes() for i in range(4)}
    assert len(images) == 4
    assert torch.equal(windy[2][0], windy[2][0])


def test_who_says_films_and_gives_none_has_none():
    frames = numbered(2, side=8)
    frames[:] = [(image, torch.ones(8, 8, dtype=torch.long)) for image, _ in frames]
    assert films_of(Clips(frames, 1)) is None, "as many clips as frames, and no frames"
    assert films_of(Objects(frames)) is None


def test_each_class_has_its_colour_on_black_behind_grey():
    data = MovingShapes("test", coloured=True, frames=4, count=80, size=48)
    colours = torch.tensor([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)], dtype=torch.float32)
    for k, (image, mask) in enumerate(data):
        bars = (image == 0.5).all(dim=0)
        shown = torch.where(bars, 0.5, colours[mask].movedim(-1, 0))
        assert torch.equal(image, shown)
        assert not (data.hidden(k) & ~bars).any()
    colourful = MovingShapes("test", frames=4, count=8, size=48)
    assert torch.equal(data[3][1], colourful[3][1])  # the same scene
