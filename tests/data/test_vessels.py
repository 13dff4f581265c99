"""Vessels: the topology that they are drawn with is what scikit-image finds in the masks, and gaps are not in those."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from smp_feedback.data import Vessels, open_dataset
from smp_feedback.data.synthetic.strokes import euler_number, stroke
from smp_feedback.errors import InvalidType, InvalidValue

measure = pytest.importorskip("skimage.measure")
CALM = {"grain": 0.0, "distractors": 0.0}


def found(mask):
    """(components, holes) by scikit-image: vessels touch by sides or corners, ground by sides."""
    framed = np.pad(np.asarray(mask), 1)
    pieces = measure.label(framed, connectivity=2).max()
    holes = measure.label(framed == 0, connectivity=1).max() - 1  # all but the ground around
    assert pieces - holes == measure.euler_number(framed, connectivity=2)
    return pieces, holes


@pytest.mark.parametrize(("size", "count"), [(64, 120), ((48, 96), 50), (16, 30)])
def test_the_topology_is_as_drawn(size, count):
    data = Vessels("test", size=size, count=count, **CALM)
    drawn = [data.betti(i) for i in range(count)]
    assert [found(data[i][1]) for i in range(count)] == drawn
    if size == 64:
        assert {pieces for pieces, _ in drawn} == {1, 2, 3}
        assert {0, 1, 2} <= {holes for _, holes in drawn}


def test_no_loop_and_no_second_tree_where_none_is_asked_for():
    data = Vessels(size=64, count=20, trees=1, loops=0.0, **CALM)
    assert {found(mask) for _, mask in data} == {(1, 0)}


@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_the_euler_number_is_components_less_holes(mask):
    pieces, holes = found(mask)
    assert euler_number(mask) == pieces - holes
    assert (euler_number(np.stack([mask, mask])) == pieces - holes).all()


@given(st.lists(st.tuples(st.floats(-3, 12), st.floats(-3, 12), st.floats(0.5, 3)), min_size=1, max_size=5))
def test_a_stroke_covers_what_is_near_its_path(points):
    path, radii = np.array([point[:2] for point in points]), np.full(len(points), points[0][2])
    drawn = stroke(path, radii, (9, 7), reach=1.0)
    centres = np.stack(np.meshgrid(np.arange(9) + 0.5, np.arange(7) + 0.5, indexing="ij"), axis=-1)
    near = np.linalg.norm(centres[:, :, None] - path, axis=-1).min(axis=-1)
    depth = np.full((9, 7), -1.0)
    depth[drawn.window] = drawn.depth
    assert (depth[near <= radii[0] - 1e-4] >= 0).all()
    assert (depth[near > radii[0] + 1e-4] < 0).all()


def test_gaps_are_in_the_image_and_not_in_the_mask():
    whole, broken = (Vessels(size=64, count=10, fade=fade, **CALM) for fade in (0.0, 1.0))
    faint = []
    for (clear, mask), (faded, same) in zip(whole, broken, strict=True):
        assert torch.equal(mask, same)
        assert (faded >= clear).all()
        away = torch.nn.functional.max_pool2d(mask[None].float(), 5, 1, 2)[0] == 0
        assert torch.equal(clear[0][away], faded[0][away])
        faint.append(((faded - clear)[0][mask == 1] > 0.08).float().mean())
    assert 0.1 < np.mean(faint) < 0.6


def test_no_threshold_tells_vessels_from_their_ground():
    data = Vessels("test", size=64, count=20)
    overlaps = []
    for image, mask in data:
        dark, light = image[0][mask == 1], image[0][mask == 0]
        overlaps.append((light < dark.quantile(0.9)).float().mean())
    assert np.mean(overlaps) > 0.25


def test_distractors_change_the_image_and_no_label():
    calm, busy = (Vessels("test", size=64, count=8, distractors=n, grain=0.0) for n in (0.0, 30.0))
    assert all(torch.equal(one[1], other[1]) for one, other in zip(calm, busy, strict=True))
    assert all((one[0] != other[0]).any() for one, other in zip(calm, busy, strict=True))


@pytest.mark.parametrize("wrong", [{"trees": 0}, {"loops": 1.5}, {"fade": -0.1}, {"grain": -1.0}, {"distractors": -1}])
def test_an_option_out_of_its_range_is_named(wrong):
    with pytest.raises(InvalidValue, match=f"{next(iter(wrong))}="):
        open_dataset("vessels", **wrong)


def test_an_option_that_is_no_number_is_named():
    with pytest.raises(InvalidType, match="fade='much'"):
        open_dataset("vessels", fade="much")


def test_the_figure_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks import vessels_figure

    vessels_figure.main([str(tmp_path / "vessels.png")])
    assert (tmp_path / "vessels.png").stat().st_size > 10_000
