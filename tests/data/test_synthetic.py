"""The synthetic tasks: what arXiv 2507.10143 says of them, and that an item is a function of split, seed and index."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import smp_feedback as smpf
from smp_feedback.data import Circles, OnePolygon, Polygons, PolygonsAndCircles, add_noise, open_dataset
from smp_feedback.data.seeding import SPLITS, choose, noise_generator
from smp_feedback.data.synthetic import polygons
from smp_feedback.data.synthetic.rasterise import fill_ellipse
from smp_feedback.errors import InvalidType, InvalidValue, UnknownKeyword, UnknownName

FIGURES = ["polygons", "circles", "shapes", "one_polygon", "coloured_shapes"]
DRAWN = [*FIGURES, "assemblies", "mazes", "connected", "curves", "vessels"]
CELLS = {"mazes"}  # whose size counts those, two pixels each and one more


def of_side(name, pixels):
    """The size that gives about so many pixels."""
    return pixels // 2 if name in CELLS else pixels


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# --- every synthetic dataset


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("split", SPLITS)
def test_an_item_depends_on_split_seed_and_index_only(name, split):
    few = open_dataset(name, split, seed=5, count=4, size=of_side(name, 32), noise=0.5)
    many = open_dataset(name, split, seed=5, count=50, size=of_side(name, 32), noise=0.5)
    state = torch.get_rng_state()
    assert all(same(few[i], many[i]) for i in (3, 0, 2))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", DRAWN)
def test_training_images_depend_on_the_seed_and_those_to_score_on_do_not(name):
    train, val, test = ([open_dataset(name, split, seed=s, count=3, size=32) for s in (0, 3)] for split in SPLITS)
    assert not same(train[0][0], train[1][0])
    for fixed in (val, test):
        assert all(same(a, b) for a, b in zip(*fixed, strict=True))


@pytest.mark.parametrize("name", DRAWN)
def test_splits_share_no_item_and_no_noise(name):
    for noise in (0.0, 1.0):
        how = {"seed": 0, "count": 30, "size": of_side(name, 64 if name in FIGURES else 16), "noise": noise}
        opened = [open_dataset(name, split, **how) for split in SPLITS]
        images = [image.numpy().tobytes() for data in opened for image, _ in data]
        assert len(set(images)) == 90
    assert len({noise_generator(0, i, split).initial_seed() for i in range(9) for split in SPLITS}) == 27


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_draw_what_one_process_draws():
    data = Polygons(count=6, size=32, noise=0.3, seed=5)
    alone, shared = (list(DataLoader(data, batch_size=2, num_workers=n)) for n in (0, 2))
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))


@pytest.mark.parametrize("name", DRAWN)
def test_items_are_as_promised(name):
    data = open_dataset(name, size=(of_side(name, 40), of_side(name, 56)), count=30)
    size = (41, 57) if name in CELLS else (40, 56)
    assert data.classes[0] == "background"
    assert data.ignore_index is None
    assert data.name(-1) == f"{name}[29] of seed 0"
    assert open_dataset(name, "val", seed=4).name(3) == f"{name}[3] of val"
    for image, mask in data:
        assert (image.dtype, image.shape) == (torch.float32, (3, *size))
        assert (mask.dtype, mask.shape) == (torch.int64, size)
        assert 0 <= image.min() <= image.max() <= 1
        assert 0 <= mask.min() <= mask.max() < len(data.classes)
    assert len(open_dataset(name)) == 1000
    assert open_dataset(name)[0][0].shape == ((3, 19, 19) if name in CELLS else (3, 64, 64))


@pytest.mark.parametrize("name", DRAWN)
def test_noise_is_added_noise_and_rescaled_upon_the_same_scene(name):
    clean, noisy = (open_dataset(name, "test", size=32, count=2, noise=noise) for noise in (0.0, 2.0))
    assert torch.equal(noisy[1][0], add_noise(clean[1][0], 2.0, noise_generator(0, 1, "test")))
    assert torch.equal(noisy[1][1], clean[1][1])


def test_augmentation_comes_before_the_noise():
    def mirrored(image, mask):
        return image.flip(-1), mask.flip(-1)

    plain, turned = Polygons(count=1, size=32), Polygons(count=1, size=32, noise=0.5, transform=mirrored)
    assert torch.equal(turned[0][1], plain[0][1].flip(-1))
    assert torch.equal(turned[0][0], add_noise(plain[0][0].flip(-1), 0.5, noise_generator(0, 0)))


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize(
    ("error", "match", "options"),
    [
        (UnknownKeyword, "takes no 'sizes'. Did you mean 'size'", {"sizes": 3}),
        (InvalidValue, "root='here': .* is drawn, not read", {"root": "here"}),
        (InvalidValue, "count=0: expected an int >= 1", {"count": 0}),
        (InvalidValue, "split='tset': Did you mean 'test'", {"split": "tset"}),
        (InvalidValue, "size=1: expected an int >= ", {"size": 1}),
        (InvalidType, r"size=\(40,\): expected an int or a pair .* (pixels|cells)\.", {"size": (40,)}),
        (InvalidType, "noise='a'", {"noise": "a"}),
        (UnknownName, "No augmentation is called 'flp'. Did you mean 'flip'", {"transform": "flp"}),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_drawn(name, error, match, options):
    with pytest.raises(error, match=match):
        open_dataset(name, **options)


@pytest.mark.parametrize("name", DRAWN)
def test_the_smallest_size_is_drawn_and_a_smaller_one_refused(name):
    least = 2 if name in CELLS else 16
    assert len(open_dataset(name, size=least, count=3)[2]) == 2
    with pytest.raises(InvalidValue, match=f"size={least - 1}: expected an int >= {least}"):
        open_dataset(name, size=(least, least - 1))


@pytest.mark.parametrize(
    ("make", "error", "options"),
    [
        (Polygons, InvalidValue, {"kinds": 0}),
        (Polygons, InvalidType, {"irregular": "5 px"}),
        (Polygons, InvalidValue, {"irregular": -1}),
        (PolygonsAndCircles, InvalidValue, {"circle_share": 1.5}),
        (PolygonsAndCircles, InvalidValue, {"circle_share": -0.5}),
    ],
)
def test_own_options_are_checked(make, error, options):
    with pytest.raises(error, match=next(iter(options))):
        make(**options)


def test_an_unknown_dataset_is_named_with_what_was_probably_meant():
    with pytest.raises(UnknownName, match=r"No dataset is called 'polygon'. Did you mean 'polygons'"):
        open_dataset("polygon")
    assert set(DRAWN) < set(smpf.list_datasets())


def test_a_stranger_may_bring_a_dataset(restored):
    @smpf.register_dataset("mine")
    def mine(split, *, root=None, colour="red"):
        return [split, root, colour]

    assert open_dataset("mine", "val", colour="blue") == ["val", None, "blue"]
    with pytest.raises(UnknownKeyword, match=r"mine takes no 'color'. Did you mean 'colour'"):
        open_dataset("mine", color="blue")


# --- which items are used


def test_chosen_items_are_nested_distinct_and_chosen_by_seed_in_training_only():
    picks = [choose(50, n, 1, "train") for n in (1, 2, 8, 50)]
    for small, large in pairwise(picks):
        assert large[: len(small)] == small
    assert sorted(picks[-1]) == list(range(50))
    assert choose(50, 8, 2, "train") != picks[2]
    assert choose(50, 8, 2, "test") == choose(50, 8, 1, "test")
    assert choose(3, None, 1, "train") == [0, 1, 2]
    with pytest.raises(InvalidValue, match="count=4: expected at most the 3 items that 'val' has"):
        choose(3, 4, 0, "val")


# --- what the paper says


def drawn_radii(monkeypatch, data, count):
    """(corners, centre, radii of the corners) of each polygon that *data* draws."""
    seen = []
    monkeypatch.setattr(
        polygons, "fill_polygon", lambda corners, size: seen.append(corners) or np.zeros(size, dtype=bool)
    )
    monkeypatch.setattr(polygons, "around", lambda centre, reach, turn: (centre, np.asarray(reach), turn), raising=True)
    for i in range(count):
        data[i]
    return seen


def test_polygons_are_as_the_paper_says(monkeypatch):
    size, count = (64, 96), 2000
    seen = drawn_radii(monkeypatch, Polygons(count=count, size=size, kinds=5), count)
    kinds = np.bincount([len(reach) for _, reach, _ in seen], minlength=8)
    assert kinds[:3].sum() == 0
    assert (abs(kinds[3:] - count / 5) < 4 * np.sqrt(count * 0.2 * 0.8)).all()
    means = np.array([reach.mean() for _, reach, _ in seen])
    assert means.mean() == pytest.approx((6.4 + 16) / 2, abs=0.3)  # uniform in side/10 to side/4
    assert means.std() == pytest.approx((16 - 6.4) / np.sqrt(12), abs=0.15)
    spread = np.concatenate([(r - r.mean()) * np.sqrt(len(r) / (len(r) - 1)) for _, r, _ in seen])
    assert spread.std() == pytest.approx(64 * 5 / 512, rel=0.04)  # 5 pixels at 512
    centres = np.array([centre for centre, _, _ in seen])
    for axis, side in enumerate(size):
        assert centres[:, axis].mean() == pytest.approx(side / 2, abs=4 * side / np.sqrt(12 * count))
        assert centres[:, axis].std() == pytest.approx(side / np.sqrt(12), rel=0.05)
        assert 0 <= centres[:, axis].min() <= centres[:, axis].max() <= side
    assert {turn for _, _, turn in seen} == {0.0}


def test_the_class_is_the_number_of_corners_and_the_polygon_is_white_on_black(monkeypatch):
    data, kinds = Polygons(count=60, size=64, kinds=3), []
    fill = polygons.fill_polygon
    monkeypatch.setattr(polygons, "fill_polygon", lambda c, size: kinds.append(len(c)) or fill(c, size))
    for image, mask in data:
        assert torch.equal(image, (mask > 0).float().expand(3, -1, -1))
        assert set(mask.unique().tolist()) <= {0, kinds[-1] - 2}
    assert set(kinds) == {3, 4, 5}
    assert data.classes == ("background", "triangle", "quadrilateral", "pentagon")


def test_corners_stand_at_equal_angles_the_first_to_the_right():
    corners = polygons.around(np.array([5.0, -3.0]), np.array([2.0, 3.0, 4.0, 5.0]), 0.0)
    assert corners == pytest.approx(np.array([[5, -1], [8, -3], [5, -7], [0, -3]]))


def test_circles_are_as_the_paper_says(monkeypatch):
    seen, count = [], 2000
    monkeypatch.setattr(polygons, "fill_circle", lambda c, r, size: seen.append((*c, r)) or np.zeros(size, dtype=bool))
    for _ in Circles(count=count, size=(100, 200)):
        pass
    y, x, radius = np.array(seen).T
    assert 2 <= radius.min() < 2.2
    assert 24.8 < radius.max() <= 25
    assert radius.mean() == pytest.approx(13.5, abs=0.6)
    assert (y.max() <= 100, x.max() > 198, y.min() < 2, x.min() < 2) == (True,) * 4


def test_a_circle_is_a_white_disc_of_its_own_class():
    for image, mask in Circles(count=20, size=64):
        assert torch.equal(image, mask.float().expand(3, -1, -1))


def test_four_of_five_of_the_published_shapes_are_circles_and_the_share_can_be_set():
    def counts(**options):
        data = PolygonsAndCircles(count=800, size=64, **options)
        return np.bincount([int(mask.max()) for _, mask in data], minlength=len(data.classes))

    published, even = counts(), counts(circle_share=1 / 4)
    assert published[1] / published[1:].sum() == pytest.approx(0.8, abs=0.05)
    assert (abs(even[1:] - 200) < 55).all()
    assert PolygonsAndCircles().classes == ("background", "circle", "triangle", "quadrilateral", "pentagon")
    assert set(counts(circle_share=0)[1:2]) == {0}


def test_one_polygon_labels_visible_triangles_only(monkeypatch):
    order = []
    regular, ellipse = polygons._regular, polygons._ellipse
    keep = lambda kind, pixels: order[-1].append((kind, pixels)) or pixels  # noqa: E731
    monkeypatch.setattr(polygons, "_regular", lambda n, size, rng: keep(n, regular(n, size, rng)))
    monkeypatch.setattr(polygons, "_ellipse", lambda size, rng: keep(0, ellipse(size, rng)))
    data, shown = OnePolygon(count=300, size=64), set()
    for i in range(300):
        order.append([])
        image, mask = data[i]
        owner = torch.zeros(64, 64, dtype=torch.long)
        for k, (_, pixels) in enumerate(order[-1], 1):
            owner[torch.from_numpy(pixels)] = k
        kinds = torch.tensor([-1, *(kind for kind, _ in order[-1])])
        assert torch.equal(mask, (kinds[owner] == 3).long())
        colours = {tuple(image[:, owner == k][:, 0].tolist()): k for k in owner.unique().tolist()}
        assert len(colours) == owner.unique().numel()  # each figure has a colour of its own
        assert image[:, owner == 0].sum() == 0
        shown.add(tuple(kind for kind, _ in order[-1]))
    assert shown == {(4,) * s + (3,) * t + (0,) * c for s in range(3) for t in (1, 2) for c in (1, 2)}


def test_a_triangle_of_one_polygon_has_the_published_size():
    rng = np.random.default_rng(0)
    areas = np.array([polygons._regular(3, (512, 512), rng).sum() for _ in range(60)])
    largest = 3 * np.sqrt(3) / 4 * (512 / 4) ** 2
    assert areas.max() <= 1.01 * largest  # side/4, unless cut off by the border
    assert areas.max() > 0.6 * largest


def test_an_ellipse_has_its_area():
    pixels = fill_ellipse(np.array([32.0, 40.0]), (10.0, 25.0), (64, 80))
    assert pixels.sum() == pytest.approx(np.pi * 250, rel=0.02)
    assert np.flatnonzero(pixels.any(1)).tolist() == list(range(22, 42))
    assert np.flatnonzero(pixels.any(0)).tolist() == list(range(15, 65))
