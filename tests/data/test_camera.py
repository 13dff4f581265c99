"""Films from stills: a window of each that moves, stays inside, and is resampled as PIL resamples."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from smp_feedback.data import Clips, MovingShapes, Polygons, Shapes, SyntheticCamera
from smp_feedback.data.films.camera import Window, nearest, resampled
from smp_feedback.data.items import files_of
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.evaluation.films.order import films_in

SHARE = st.floats(0, 1)


@settings(max_examples=40)
@given(st.integers(2, 12), st.integers(2, 12), st.lists(SHARE, min_size=4, max_size=4), st.integers(1, 9))
def test_a_window_is_resampled_as_pil_resamples_a_box(height, width, shares, count):
    image = torch.rand(1, height, width, generator=torch.Generator().manual_seed(height * width))
    sides = (1 + shares[0] * (height - 1), 1 + shares[1] * (width - 1))
    corner = (shares[2] * (height - sides[0]), shares[3] * (width - sides[1]))
    box = (corner[1], corner[0], min(corner[1] + sides[1], width), min(corner[0] + sides[0], height))
    bilinear = Image.Resampling.BILINEAR
    wanted = np.asarray(Image.fromarray(image[0].numpy()).resize((count, count), bilinear, box=box))
    assert resampled(image, Window(corner, sides), (count, count))[0].numpy() == pytest.approx(wanted, abs=0.02)


def test_the_whole_still_is_itself_and_half_of_it_a_mean():
    image, mask = torch.rand(3, 6, 8), torch.randint(9, (6, 8))
    whole = Window((0.0, 0.0), (6.0, 8.0))
    assert torch.allclose(resampled(image, whole, (6, 8)), image)
    assert torch.equal(nearest(mask, whole, (6, 8)), mask)
    assert torch.equal(nearest(mask, Window((2.0, 3.0), (3.0, 4.0)), (3, 4)), mask[2:5, 3:7])
    assert nearest(torch.tensor(3), whole, (6, 8)) == 3


@pytest.mark.parametrize("fast", [0.0, 0.05, 3.0])
def test_the_camera_never_leaves_the_still(fast):
    camera = SyntheticCamera(Shapes(20, 32), frames=50, pan=fast, zoom=fast, shake=fast, least=0.4)
    for still in range(20):
        for time in range(0, 50, 7):
            (y, x), (height, width) = camera.window(still, time, (30, 40))
            assert -1e-9 <= y <= y + height <= 30 + 1e-9
            assert -1e-9 <= x <= x + width <= 40 + 1e-9
            assert 0.4 - 1e-9 <= height / 30 <= 1 + 1e-9
            assert height / 30 == pytest.approx(width / 40)


def test_it_pans_and_zooms_no_faster_than_told():
    camera = SyntheticCamera(Shapes(20, 32), frames=30, pan=0.02, zoom=0.01, shake=0)
    for still in range(20):
        path = [camera.window(still, time, (100, 100)) for time in range(30)]
        corners, sides = (np.array([getattr(window, name) for window in path]) for name in ("corner", "sides"))
        assert np.abs(np.diff(sides, axis=0)).max() <= 1.0 + 1e-9  # 0.01 of 100
        centres = corners + sides / 2
        assert 0 < np.abs(np.diff(centres, axis=0)).max() <= 1.2 + 0.5 + 1e-9  # 0.02 of 60, and half of what it grows


def test_image_and_mask_are_of_one_window():
    data = Polygons("test", count=3, size=64)  # white on black: the image is the mask
    for image, mask in SyntheticCamera(data, frames=5, shake=0.02):
        sure = (image[0] < 0.02) | (image[0] > 0.98)
        assert torch.equal(image[0][sure] > 0.5, mask[sure] > 0)
        assert sure.float().mean() > 0.8


def test_a_camera_that_stands_still_shows_one_frame_and_another_moves():
    def frames(**how):
        return Clips(SyntheticCamera(Shapes(2, 32), frames=4, size=24, **how), length=4)[1][0]

    still = frames(pan=0, zoom=0, shake=0)
    assert torch.equal(still, still[:1].expand_as(still))
    for moving in (frames(zoom=0, shake=0), frames(pan=0, shake=0), frames(pan=0, zoom=0)):
        assert all(not torch.equal(moving[k], moving[k + 1]) for k in range(3))


def test_the_way_is_the_seeds_and_with_fresh_each_clips_own():
    stills = Shapes(2, 32)
    first, other = (SyntheticCamera(stills, 4, seed=s) for s in (0, 1))
    assert torch.equal(first[6][0], SyntheticCamera(stills, 4)[6][0])
    assert not torch.equal(first[6][0], other[6][0])
    fresh = Clips(SyntheticCamera(stills, 4, fresh=True), length=4)
    torch.manual_seed(0)
    one, two = fresh[0][0], fresh[0][0]
    assert not torch.equal(one, two)
    torch.manual_seed(0)
    assert torch.equal(fresh[0][0], one)


def test_a_still_is_read_once_a_clip():
    class Counted(Shapes):
        read = 0

        def __getitem__(self, index):
            self.read += 1
            return super().__getitem__(index)

    stills = Counted(2, 32)
    _ = Clips(SyntheticCamera(stills, 4), length=4)[0]
    assert stills.read == 1


def test_a_frame_has_its_stills_files():
    class Files(list):
        samples = (("a.png", 0), ("b.png", 1))

    image = (torch.zeros(3, 8, 8), torch.zeros(8, 8, dtype=torch.int64))
    camera = SyntheticCamera(Files([image, image]), frames=3)
    assert [files_of(camera, i)[0].name for i in range(6)] == ["a.png"] * 3 + ["b.png"] * 3


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"frames": 0}, InvalidValue),
        ({"least": 1.0}, InvalidValue),
        ({"pan": -1}, InvalidValue),
        ({"zoom": "fast"}, InvalidType),
    ],
)
def test_what_no_camera_does_is_refused(wrong, error):
    with pytest.raises(error, match=next(iter(wrong))):
        SyntheticCamera(Shapes(2, 32), **wrong)


def test_what_is_hidden_moves_with_the_frame_and_a_still_has_no_cut():
    shapes = MovingShapes("val", frames=2, scene=1, count=4, size=32, occluders=2)
    films = SyntheticCamera(shapes, frames=3, size=24, pan=0.1)
    found = films_in(films)
    assert found.cuts == ((), (), (), ()), "those of the shapes' films are no cuts of a still's"
    for index in range(len(films)):
        still = index // 3
        window = films.window(still, index % 3, (32, 32))
        assert torch.equal(found.hidden(index), nearest(shapes.hidden(still).long(), window, (24, 24)).bool())
    assert films_in(SyntheticCamera(Shapes(2, 32))).hidden is None
