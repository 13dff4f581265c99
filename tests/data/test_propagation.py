"""Mazes, connected blobs, broken curves: what is asked for is what an independent search finds in the image alone."""

import itertools

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smp_feedback.data import Connected, Curves, Mazes, open_dataset
from smp_feedback.data.synthetic.connected import smooth_field
from smp_feedback.data.synthetic.curves import draw_curves, ellipse
from smp_feedback.errors import InvalidType, InvalidValue

RED, GREEN = (1, 0, 0), (0, 1, 0)
some = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**31)


def where(image, colour):
    """The pixels of exactly that colour."""
    return np.all(image.numpy() == np.reshape(colour, (3, 1, 1)), axis=0)


def walk(free, start):
    """Steps from the pixels of *start* over *free* ones to each pixel, by growing the whole image; -1 out of reach."""
    steps, reached, cross = np.full(free.shape, -1), start.copy(), np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
    for distance in itertools.count():
        new = reached & (steps < 0)
        if not new.any():
            return steps
        steps[new] = distance
        reached = (cv2.dilate(reached.astype(np.uint8), cross) > 0) & free


# --- mazes


@some
@given(seeds, st.tuples(st.integers(2, 12), st.integers(2, 12)))
def test_a_maze_without_loops_has_one_way_and_that_is_the_target(seed, cells):
    image, mask = Mazes(size=cells, seed=seed, count=1)[0]
    rows, columns = cells
    free, start, goal = image.numpy().any(0), where(image, RED), where(image, GREEN)
    assert image.shape == (3, 2 * rows + 1, 2 * columns + 1)
    assert (start.sum(), goal.sum()) == (1, 1)
    assert free[1::2, 1::2].all()
    assert start[1::2, 1::2].sum() == goal[1::2, 1::2].sum() == 1  # both are cells
    assert not free[::2, ::2].any()
    assert not np.concatenate([free[0], free[-1], free[:, 0], free[:, -1]]).any()
    assert set(np.unique(image.numpy()[:, free & ~start & ~goal])) <= {1.0}
    assert free.sum() == 2 * rows * columns - 1  # a tree: an opening fewer than cells
    there, back = walk(free, start), walk(free, goal)
    assert (there[free] >= 0).all()  # in which every cell is reached, so that it has one way
    assert np.array_equal(mask.numpy() > 0, (there >= 0) & (there + back == there[goal]))
    inside = np.pad(mask.numpy(), 1)
    ways = inside[:-2, 1:-1] + inside[2:, 1:-1] + inside[1:-1, :-2] + inside[1:-1, 2:]
    assert np.array_equal(np.sort(ways[mask.numpy() > 0])[:3], [1, 1, 2])  # a line with the two ends that are marked
    assert ways[start] == ways[goal] == 1


@some
@given(seeds, st.tuples(st.integers(2, 10), st.integers(2, 10)), st.floats(0, 1, exclude_max=True))
def test_with_loops_the_target_is_every_pixel_on_a_shortest_way(seed, cells, loops):
    image, mask = Mazes(size=cells, seed=seed, count=1, loops=loops)[0]
    rows, columns = cells
    free, start, goal = image.numpy().any(0), where(image, RED), where(image, GREEN)
    left = rows * (columns - 1) + columns * (rows - 1) - (rows * columns - 1)  # walls that the search leaves
    assert free.sum() == 2 * rows * columns - 1 + round(loops * left)
    assert not free[::2, ::2].any()
    assert not np.concatenate([free[0], free[-1], free[:, 0], free[:, -1]]).any()
    there, back = walk(free, start), walk(free, goal)
    assert np.array_equal(mask.numpy() > 0, (there >= 0) & (there + back == there[goal]))


def test_a_maze_branches_as_depth_first_search_does_and_every_cell_may_be_start():
    images = [image for image, _ in Mazes(size=9, count=400)]
    free = np.stack([image.numpy().any(0) for image in images])
    degree = free[:, :-2, 1:-1] + 0 + free[:, 2:, 1:-1] + free[:, 1:-1, :-2] + free[:, 1:-1, 2:]
    ends = (degree[:, ::2, ::2] == 1).mean()
    assert 0.08 < ends < 0.14  # one cell in ten is a dead end; of a uniform random tree it would be three
    starts = np.stack([where(image, RED)[1::2, 1::2] for image in images]).sum(0)
    assert starts.sum() == 400
    assert ((starts - 400 / 81) ** 2).sum() / (400 / 81) < 130  # chi squared of 80 degrees: beyond it lie 0.04 %
    assert abs(free[:, 1:-1:2, 2:-1:2].mean() - free[:, 2:-1:2, 1:-1:2].mean()) < 0.02  # neither direction is preferred


def test_the_way_grows_faster_than_the_maze():
    length = {n: np.median([int(mask.sum()) for _, mask in Mazes("test", size=n, count=60)]) for n in (5, 10, 20)}
    assert length[10] > 2 * length[5]
    assert length[20] > 2 * length[10]


# --- connected


@some
@given(seeds, st.tuples(st.integers(16, 48), st.integers(16, 48)))
def test_the_target_is_the_component_of_the_mark(seed, size):
    image, mask = Connected(size=size, seed=seed, count=1)[0]
    white, mark = image[0].numpy() > 0, where(image, RED)
    _, component = cv2.connectedComponents(white.astype(np.uint8), connectivity=4)
    assert mark.sum() == 1
    assert np.array_equal(mask.numpy() > 0, component == component[mark])
    assert set(np.unique(image.numpy()[:, ~mark])) <= {0.0, 1.0}


def test_half_of_what_is_white_is_connected_and_the_way_there_grows_with_the_image():
    reach, share = {}, {}
    for side in (16, 32, 64):
        found = list(Connected("test", size=side, count=100))
        reach[side] = np.median([walk(m.numpy() > 0, where(x, RED)).max() for x, m in found])
        share[side] = np.mean([float(m.sum() / x[0].sum()) for x, m in found])
    assert all(0.4 < part < 0.75 for part in share.values())
    assert all(far > side for side, far in reach.items())
    assert reach[64] > 3 * reach[16]


def test_the_field_of_blobs_has_mean_0_and_variance_1_at_the_border_too():
    rng = np.random.default_rng(0)
    fields = np.stack([smooth_field((6, 8), 1.0, rng) for _ in range(6000)])
    assert abs(fields.mean(0)).max() < 5 / np.sqrt(6000)
    assert abs(fields.var(0) - 1).max() < 5 * np.sqrt(2 / 6000)
    beside = (fields[:, :, 1:] * fields[:, :, :-1]).mean()
    assert beside == pytest.approx(np.exp(-1 / 4), abs=0.02)  # of white noise under a Gaussian: exp(-d^2 / 4 sigma^2)


# --- curves


def together(drawn, start, gap):
    """Pixels of *drawn* that are reached from *start* with at most *gap* others between one and the next."""
    around = np.ones((2 * gap + 3, 2 * gap + 3), np.uint8)
    while True:
        more = (cv2.dilate(start.astype(np.uint8), around) > 0) & drawn
        if np.array_equal(more, start):
            return start
        start = more


@some
@given(seeds, st.tuples(st.integers(16, 48), st.integers(16, 48)), st.integers(0, 4))
def test_of_each_image_one_curve_is_the_answer(seed, size, gap):
    image, mask = Curves(size=size, seed=seed, count=1, gap=gap)[0]
    mark, drawn = where(image, RED), image[0].numpy() > 0.5
    assert mark.sum() == 1
    assert np.array_equal(mask.numpy() > 0, together(drawn, mark, gap))
    grey = image.numpy()[:, ~mark]
    assert (grey == grey[0]).all()
    assert not ((grey > 0.4) & (grey < 0.6)).any()


@some
@given(seeds, st.tuples(st.integers(16, 64), st.integers(16, 64)), st.integers(1, 6))
def test_curves_are_chains_of_pixels_that_keep_apart(seed, size, apart):
    curves = draw_curves(size, apart, np.random.default_rng(seed))
    owner = np.zeros(size, int)
    for k, curve in enumerate(curves, 1):
        steps = abs(np.diff(curve, axis=0)).max(1, initial=0)
        assert (steps == 1).all()
        assert len(set(curve)) == len(curve)  # it does not meet itself
        owner[tuple(np.transpose(curve))] = k
    assert [int((owner == k).sum()) for k in range(1, len(curves) + 1)] == [len(curve) for curve in curves]
    around = np.ones((2 * apart + 1, 2 * apart + 1), np.uint8)
    for k in range(1, len(curves) + 1):
        near = cv2.dilate((owner == k).astype(np.uint8), around) > 0
        assert not ((owner > 0) & (owner != k) & near).any()


@some
@given(seeds, st.integers(20, 64))
def test_a_closed_curve_ends_where_it_begins_and_nearly_every_image_has_one(seed, side):
    firsts = [draw_curves((side, side), 5, np.random.default_rng([seed, k]))[0] for k in range(20)]
    closed = [curve for curve in firsts if len(curve) > 12 and abs(np.subtract(curve[0], curve[-1])).max() == 1]
    assert len(closed) >= 12
    for curve in closed:
        assert all(6 <= extent <= 18 for extent in np.ptp(curve, axis=0) + 1)
    assert ellipse((side, side), np.array([0.0, 0.5, 0, 0, 0])) == []  # half of it would lie outside


def test_gaps_are_as_wide_as_allowed_and_the_marked_curve_has_a_rival():
    for gap in (0, 1, 2, 3):
        data = Curves("test", size=40, count=20, gap=gap)
        pieces = [int(cv2.connectedComponents(mask.numpy().astype(np.uint8))[0]) - 1 for _, mask in data]
        narrower = [together(mask.numpy() > 0, where(image, RED), gap - 1).sum() < mask.sum() for image, mask in data]
        assert np.mean(pieces) == 1 if gap == 0 else np.mean(pieces) > 3
        assert not gap or np.mean(narrower) > 0.25  # a closed curve is reached from both sides
    others = [
        int(((image[0] > 0.5) & (mask == 0)).sum()) / int(mask.sum()) for image, mask in Curves(size=40, count=60)
    ]
    assert np.median(others) > 1


def test_a_curve_grows_with_the_image_and_its_surroundings_do_not():
    length, density = {}, {}
    for side in (20, 40, 80):
        found = list(Curves("test", size=side, count=60))
        length[side] = np.median([int(mask.sum()) for _, mask in found]) / side
        density[side] = np.mean([float((image[0] > 0.5).float().mean()) for image, _ in found])
    assert all(0.8 < sides < 2 for sides in length.values())
    assert max(density.values()) < 1.5 * min(density.values())  # the closed curve is one, whatever the size


# --- all three


@pytest.mark.parametrize(
    ("make", "error", "options"),
    [
        (Mazes, InvalidValue, {"loops": 1.0}),
        (Mazes, InvalidValue, {"loops": -0.1}),
        (Mazes, InvalidType, {"loops": "few"}),
        (Curves, InvalidValue, {"gap": -1}),
        (Curves, InvalidType, {"gap": 1.5}),
    ],
)
def test_their_own_options_are_checked(make, error, options):
    with pytest.raises(error, match=next(iter(options))):
        make(**options)


@pytest.mark.parametrize("name", ["mazes", "connected", "curves"])
def test_a_mirrored_task_is_the_task_of_the_mirrored_image(name):
    def mirrored(image, mask):
        return image.flip(-1), mask.flip(-1)

    plain, turned = (open_dataset(name, size=16, count=2, transform=how)[1] for how in (None, mirrored))
    assert all(torch.equal(a.flip(-1), b) for a, b in zip(plain, turned, strict=True))


def test_the_tasks_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from PIL import Image

    from benchmarks import tasks_figure

    tasks_figure.main([str(tmp_path / "tasks.png")])
    pixels = np.asarray(Image.open(tmp_path / "tasks.png").convert("RGB"))
    assert (pixels == (255, 0, 0)).all(-1).sum() > 100  # the marks are as red as in the images


def test_a_wide_maze_is_the_narrow_one_each_pixel_a_square():
    narrow, wide = (Mazes("test", size=(3, 4), scale=scale)[2] for scale in (1, 3))
    for small, large in zip(narrow, wide, strict=True):
        assert large.shape[-2:] == (21, 27)
        for y, x in itertools.product(range(3), repeat=2):
            assert torch.equal(large[..., y::3, x::3], small)
    with pytest.raises(InvalidValue, match="scale=0"):
        Mazes(scale=0)
