import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from smp_feedback.data import CAMVID_CLASSES, MaskFolder, Shapes, add_noise
from smp_feedback.data.augment import resize
from smp_feedback.data.files import natural_key
from smp_feedback.data.synthetic import shapes
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue

CAMVID = Path(__file__).parents[2].parent / "shared" / "data" / "camvid"
PIXEL = np.sqrt(0.5)  # no point of a pixel is farther from its centre


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# Shapes


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_an_item_depends_on_seed_and_index_only(noise):
    forwards = list(Shapes(8, 32, noise=noise, seed=5))
    again = Shapes(100, 32, noise=noise, seed=5)
    assert all(same(again[i], forwards[i]) for i in reversed(range(8)))
    assert len(forwards) == 8


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_draw_what_one_process_draws():
    data = Shapes(6, 32, noise=0.3, seed=5)
    alone, shared = (list(DataLoader(data, batch_size=2, num_workers=n)) for n in (0, 2))
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))
    assert same((alone[2][0][1], alone[2][1][1]), data[5])


def test_global_random_numbers_are_neither_used_nor_moved():
    before, old = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = Shapes(2, 32, noise=0.5)[1]
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == old).all()
    torch.manual_seed(99)
    assert same(Shapes(2, 32, noise=0.5)[1], first)


def test_other_seeds_and_indices_show_other_scenes():
    items = [Shapes(4, 32, seed=seed)[i][0] for seed in range(4) for i in range(4)]
    assert len({item.numpy().tobytes() for item in items}) == 16


@pytest.mark.parametrize("index", range(20))
def test_a_plain_colour_belongs_to_one_shape_and_one_class(index):
    image, mask = Shapes(20, 48, max_shapes=4)[index]
    colours, owner = image.flatten(1).unique(dim=1, return_inverse=True)
    assert 2 <= colours.shape[1] <= 5
    for k in range(colours.shape[1]):
        assert mask.flatten()[owner == k].unique().numel() == 1
    assert owner[mask.flatten() == 0].unique().numel() == 1  # one ground
    assert torch.cdist(colours.T, colours.T, p=torch.inf).fill_diagonal_(1).min() > 0.2 - 1e-6


def test_types_sizes_and_range():
    image, mask = Shapes(3, (40, 56))[0]
    assert (image.dtype, image.shape) == (torch.float32, (3, 40, 56))
    assert (mask.dtype, mask.shape) == (torch.int64, (40, 56))
    assert image.min() >= 0 <= mask.min()
    assert image.max() <= 1
    assert Shapes(3, 40)[0][0].shape == (3, 40, 40)
    assert (Shapes.classes, Shapes.ignore_index) == (("background", "polygon", "circle"), None)


def test_colour_does_not_tell_the_class():
    means = {0: [], 1: [], 2: []}
    for image, mask in Shapes(400, 16, max_shapes=2):
        for kind in mask.unique().tolist():
            means[kind].append(image[:, mask == kind].mean(1))
    for colours in map(torch.stack, means.values()):
        error = 4 * colours.std(0) / len(colours) ** 0.5
        assert ((colours.mean(0) - 0.5).abs() < error).all()
        assert (colours.std(0) > 0.25).all()


def test_one_to_max_shapes_are_drawn_and_both_kinds_equally_often(monkeypatch):
    drawn = []
    fill = lambda kind, size, rng: drawn[-1].append(kind) or np.zeros(size, bool)  # noqa: E731
    monkeypatch.setattr(shapes, "_random_shape", fill)
    data = Shapes(600, 16, max_shapes=3)
    for i in range(600):
        drawn.append([])
        data[i]
    counts = np.bincount([len(kinds) for kinds in drawn], minlength=4)
    assert counts[0] == 0
    assert (abs(counts[1:] - 200) < 50).all()  # 4 standard deviations
    assert abs(np.mean([kind == "circle" for kinds in drawn for kind in kinds]) - 0.5) < 0.06


def test_later_shapes_are_painted_over_earlier_ones(monkeypatch):
    rows = np.arange(16)[:, None] * np.ones(16)
    bands, left = [(rows >= 4) & (rows < 12), rows < 8], []
    monkeypatch.setattr(shapes, "_random_shape", lambda *_: left.pop())
    monkeypatch.setattr(shapes, "random_colours", lambda n, rng: np.arange(n)[:, None] * np.ones(3) / 4)
    for index in range(20):
        left[:] = bands
        image, _ = Shapes(20, 16, max_shapes=2)[index]
        if not left:  # both were drawn
            assert (image[0, :, 0] * 4).tolist() == [1] * 4 + [2] * 8 + [0] * 4
            return
    pytest.fail("no image of two shapes")


@given(st.integers(0, 2**32), st.integers(1, 70))
def test_colours_keep_their_distance(seed, count):
    colours = torch.from_numpy(shapes.random_colours(count, np.random.default_rng(seed)))
    m = max(3, int(np.ceil(np.cbrt(count) - 1e-9)))
    assert colours.min() >= 0
    assert colours.max() <= 1
    if count > 1:
        assert torch.pdist(colours, p=torch.inf).min() >= 0.6 / m - 1e-9


@given(st.floats(1, 25), st.tuples(st.floats(26, 38), st.floats(26, 38)).map(np.array))
def test_a_circle_has_area_pi_r_squared_around_its_centre(radius, centre):
    pixels = shapes.fill_circle(centre, radius, (64, 65))
    assert np.pi * max(radius - PIXEL, 0) ** 2 <= pixels.sum() <= np.pi * (radius + PIXEL) ** 2
    assert abs(np.argwhere(pixels).mean(0) + 0.5 - centre).max() < 0.5


def test_a_circle_has_area_pi_r_squared_on_average():
    # Over all positions of its centre within a pixel, the expected number of pixels is the area exactly.
    centres = 32 + (np.stack(np.meshgrid(np.arange(16), np.arange(16)), -1).reshape(-1, 2) + 0.5) / 16
    for radius in (3.0, 7.3, 20.0):
        area = np.mean([shapes.fill_circle(c, radius, (64, 64)).sum() for c in centres])
        assert area == pytest.approx(np.pi * radius**2, rel=2e-3)


def shoelace(corners):
    y, x = corners.T
    return abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2


def polygon_error(seed):
    """Pixels beyond the area, per pixel of perimeter."""
    corners = shapes.random_polygon(np.array([128.0, 130.0]), 100.0, np.random.default_rng(seed))
    pixels = shapes.fill_polygon(corners, (256, 260)).sum()
    perimeter = np.linalg.norm(corners - np.roll(corners, 1, 0), axis=1).sum()
    return (pixels - shoelace(corners)) / perimeter


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32))
def test_a_polygon_has_its_shoelace_area(seed):
    assert abs(polygon_error(seed)) < 0.5  # an edge along the grid may miss half a pixel all its way


def test_a_polygon_has_its_shoelace_area_on_average():
    assert abs(np.mean([polygon_error(seed) for seed in range(200)])) < 0.01


def points(low, high):
    return st.tuples(st.floats(low, high), st.floats(low, high))


@settings(deadline=None)
@given(st.lists(points(-5, 25), min_size=3, max_size=3).map(np.array))
def test_a_triangle_is_where_three_half_planes_meet(corners):
    centres = np.stack(np.meshgrid(np.arange(20) + 0.5, np.arange(21) + 0.5, indexing="ij"), -1)
    edges = np.roll(corners, -1, 0) - corners
    to = centres[:, :, None] - corners
    side = edges[:, 0] * to[..., 1] - edges[:, 1] * to[..., 0]
    inside = (side > 0).all(-1) | (side < 0).all(-1)
    clear = (abs(side) > 1e-6).all(-1)  # on an edge, rounding may decide
    assert (shapes.fill_polygon(corners, (20, 21)) == inside)[clear].all()


def test_a_notch_is_left_out():
    arrow = np.array([[0.2, 0], [3.2, 6], [0.2, 12], [6.2, 6]])  # a chevron: not convex
    rows = ["".join(".#"[int(p)] for p in row) for row in shapes.fill_polygon(arrow, (6, 12))]
    assert rows == [
        "#..........#",
        ".##......##.",
        "..###..###..",
        "...######...",
        "....####....",
        ".....##.....",
    ]


@given(st.lists(st.integers(1, 14), min_size=2, max_size=2), st.booleans())
def test_neighbours_share_no_pixel_and_leave_none_out(cut, on_centres):
    # Cutting along pixel centres is the hard case: each pixel on the cut must go to exactly one side.
    y, x = np.array(cut) + 0.5 * on_centres
    box = lambda top, left, low, right: np.array([[top, left], [top, right], [low, right], [low, left]])  # noqa: E731
    parts = [box(0, 0, y, x), box(0, x, y, 16), box(y, 0, 16, x), box(y, x, 16, 16)]
    assert (sum(shapes.fill_polygon(part, (16, 16)).astype(int) for part in parts) == 1).all()


def test_polygons_have_three_to_eight_corners_of_jittered_radius():
    rng = np.random.default_rng(0)
    drawn = [shapes.random_polygon(np.array([5.0, -3.0]), 10.0, rng) for _ in range(300)]
    assert {len(corners) for corners in drawn} == set(range(3, 9))
    away = [corners - [5.0, -3.0] for corners in drawn]
    reach = np.concatenate([np.hypot(*corners.T) for corners in away])
    assert 7.5 <= reach.min() < 7.7 < 12.3 < reach.max() <= 12.5
    assert min(np.hypot(*corners.T).std() for corners in away) > 1e-6  # each corner has its own
    for corners in away:  # regular: equal angles between one corner and the next
        turn = np.diff(np.unwrap(np.arctan2(*corners.T)))
        assert turn == pytest.approx(2 * np.pi / len(corners))


@pytest.mark.parametrize("size", [(16, 64), (64, 16)])
def test_shapes_lie_on_the_canvas(size):
    rng = np.random.default_rng(0)
    for _ in range(100):
        assert shapes._random_shape("circle", size, rng).sum() > np.pi * (2 - PIXEL) ** 2
        assert shapes._random_shape("polygon", size, rng).any()


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (InvalidValue, r"count=0: expected an int >= 1", {"count": 0}),
        (InvalidType, r"count=1.5: expected an int >= 1, not float", {"count": 1.5}),
        (InvalidType, r"count=True", {"count": True}),
        (InvalidValue, r"size=15: expected an int >= 16", {"size": 15}),
        (InvalidValue, r"size=8: expected an int >= 16", {"size": (64, 8)}),
        (InvalidType, r"size='64'", {"size": "64"}),
        (InvalidType, r"size=\(1, 2, 3\): expected an int or a pair \(H, W\)", {"size": (1, 2, 3)}),
        (InvalidValue, r"noise=-0.1: expected a finite standard deviation >= 0", {"noise": -0.1}),
        (InvalidValue, r"noise=nan", {"noise": float("nan")}),
        (InvalidValue, r"noise=inf", {"noise": float("inf")}),
        (InvalidType, r"noise='a lot': expected a number >= 0, not str", {"noise": "a lot"}),
        (InvalidType, r"noise=True", {"noise": True}),
        (InvalidValue, r"seed=-1: expected an int >= 0", {"seed": -1}),
        (InvalidType, r"seed=None", {"seed": None}),
        (InvalidValue, r"max_shapes=0: expected an int >= 1", {"max_shapes": 0}),
    ],
)
def test_bad_arguments_are_named_with_value_and_range(error, match, arguments):
    with pytest.raises(error, match=match):
        Shapes(**{"count": 4} | arguments)


def test_numpy_numbers_are_numbers():
    data = Shapes(np.int64(4), np.int32(16), noise=np.float32(0.5), seed=np.int64(3))
    assert same(data[np.int64(2)], Shapes(4, 16, noise=0.5, seed=3)[2])


def test_indices_count_from_either_end_and_end():
    data = Shapes(3, 16)
    assert same(data[-1], data[2])
    for bad in (3, -4):
        with pytest.raises(IndexError, match=rf"index {bad}: expected -3 to 2, the dataset has 3 items"):
            data[bad]


# Noise


def halves(count=1, size=64):
    """Images whose left half is 0.25 and right half 0.75."""
    image = torch.full((count, 3, size, size), 0.25)
    image[..., size // 2 :] = 0.75
    return image


@pytest.mark.parametrize("sigma", [0.05, 0.5, 2.0])
def test_the_noise_has_standard_deviation_sigma_before_scaling(sigma):
    # Contrast over noise survives any scaling, so it tells the sigma from before.
    noisy = add_noise(halves(4), sigma, seeded())
    for image in noisy:
        left, right = image[..., :32], image[..., 32:]
        contrast = (right.mean() - left.mean()) / torch.cat([left - left.mean(), right - right.mean()]).std()
        assert contrast.item() == pytest.approx(0.5 / sigma, rel=0.04, abs=0.04)


def test_the_noise_is_gaussian():
    noisy = add_noise(torch.zeros(1, 64, 64, dtype=torch.float64), 1.0, seeded()).flatten()
    z = (noisy - noisy.mean()) / noisy.std()
    assert z.pow(3).mean().item() == pytest.approx(0, abs=0.15)
    assert z.pow(4).mean().item() == pytest.approx(3, abs=0.3)
    assert (z.abs() < 1).double().mean().item() == pytest.approx(0.683, abs=0.03)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_image_is_stretched_to_0_and_1_on_its_own(dtype):
    images = torch.stack([torch.full((3, 16, 16), 0.5), 0.1 * torch.rand(3, 16, 16, generator=seeded())])
    noisy = add_noise(images.to(dtype)[None], 0.2, seeded())
    assert noisy.dtype == dtype
    assert noisy.shape == (1, 2, 3, 16, 16)
    assert (noisy.amin((2, 3, 4)) == 0).all()
    assert (noisy.amax((2, 3, 4)) == 1).all()


def test_channels_are_stretched_together():
    image = torch.tensor([0.0, 0.5, 1.0])[:, None, None].expand(3, 32, 32)
    red, green, blue = add_noise(image, 0.01, seeded())
    assert red.max() < 0.1 < 0.4 < green.min() < green.max() < 0.6 < 0.9 < blue.min()


def test_noise_is_pure_and_repeats_with_its_generator():
    image = halves()
    first = add_noise(image, 0.3, seeded(7))
    assert torch.equal(first, add_noise(image, 0.3, seeded(7)))
    assert not torch.equal(first, add_noise(image, 0.3, seeded(8)))
    assert torch.equal(image, halves())


def test_no_noise_changes_nothing_and_draws_nothing():
    image, generator = 0.5 * halves(), seeded()
    assert torch.equal(add_noise(image, 0, generator), image)
    assert torch.equal(generator.get_state(), seeded().get_state())


def test_a_constant_image_does_not_divide_by_zero():
    noisy = add_noise(torch.full((3, 8, 8), 0.5), 1e-30, seeded())  # too little to move 0.5
    assert torch.equal(noisy, torch.zeros(3, 8, 8))


def test_images_that_are_none_are_refused():
    with pytest.raises(InvalidType, match=r"floating-point tensor in \[0, 1\], not torch.uint8"):
        add_noise(torch.zeros(3, 4, 4, dtype=torch.uint8), 0.1, seeded())
    with pytest.raises(InvalidType, match="not ndarray"):
        add_noise(np.zeros((3, 4, 4)), 0.1, seeded())
    for shape in [(4, 4), (3, 0, 4)]:
        with pytest.raises(InvalidValue, match=r"expected \(\.\.\., C, H, W\)"):
            add_noise(torch.zeros(shape), 0.1, seeded())
    with pytest.raises(InvalidValue, match="sigma=-1"):
        add_noise(torch.zeros(3, 4, 4), -1, seeded())


# Folders


def write(root, name, image, mask, split="train"):
    for folder, file, array in [(split, name, image), (f"{split}annot", f"{Path(name).stem}.png", mask)]:
        (root / folder).mkdir(parents=True, exist_ok=True)
        if array is not None:
            Image.fromarray(array).save(root / folder / file)


def picture(height=6, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def labels(height=6, width=8, seed=0, most=11):
    return np.random.default_rng(seed).integers(0, most + 1, (height, width), np.uint8)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "street.png", picture(), labels())
    return tmp_path


def test_files_arrive_as_they_are(folder):
    image, mask = MaskFolder(folder)[0]
    assert (image.dtype, mask.dtype) == (torch.float32, torch.int64)
    assert type(image) is type(mask) is torch.Tensor
    assert torch.equal(image, torch.from_numpy(picture()).permute(2, 0, 1) / 255)
    assert torch.equal(mask, torch.from_numpy(labels()).long())
    data = MaskFolder(str(folder))
    assert (len(data), data.classes, data.ignore_index) == (1, CAMVID_CLASSES, 11)
    assert len(CAMVID_CLASSES) == 11


def test_names_are_sorted_as_people_count(tmp_path):
    names = ["b1.png", "a10.jpg", "A3.png", "a02_9.png", "a9.JPG", "a2_10.jpeg", "a2_9.png", "a.png"]
    for name in names:
        write(tmp_path, name, picture(), labels())
    (tmp_path / "train" / "._a.png").write_text("left behind by a file manager")
    (tmp_path / "train" / "notes.txt").write_text("no image")
    samples = MaskFolder(tmp_path).samples
    in_order = ["a.png", "a02_9.png", "a2_9.png", "a2_10.jpeg", "A3.png", "a9.JPG", "a10.jpg", "b1.png"]
    assert [image.name for image, _ in samples] == in_order
    assert samples[6] == (tmp_path / "train" / "a10.jpg", tmp_path / "trainannot" / "a10.png")
    assert sum(1 for _ in MaskFolder(tmp_path)) == 8


def test_names_that_count_alike_have_an_order_too():
    assert natural_key(Path("f2.png"))[0] == natural_key(Path("f02.png"))[0]
    assert natural_key(Path("f2.png")) > natural_key(Path("f02.png"))


def test_splits_are_told_apart(folder):
    write(folder, "other.png", picture(seed=1), labels(seed=1), split="val")
    assert MaskFolder(folder, "val").samples[0][0].name == "other.png"
    assert torch.equal(MaskFolder(folder, "val")[0][1], torch.from_numpy(labels(seed=1)).long())


def test_grey_images_become_rgb_and_palettes_keep_their_indices(tmp_path):
    write(tmp_path, "a.png", picture()[..., 0], None)
    palette = Image.fromarray(labels()).convert("P")
    palette.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    palette.putdata(labels().flatten().tolist())
    palette.save(tmp_path / "trainannot" / "a.png")
    image, mask = MaskFolder(tmp_path)[0]
    assert torch.equal(image, torch.from_numpy(picture()[..., 0]).expand(3, -1, -1) / 255)
    assert torch.equal(mask, torch.from_numpy(labels()).long())


def test_sixteen_bit_labels_are_read(tmp_path):
    write(tmp_path, "a.png", picture(), labels().astype(np.uint16) * 300)
    data = MaskFolder(tmp_path, classes=[str(k) for k in range(3301)], ignore_index=None)
    assert torch.equal(data[0][1], torch.from_numpy(labels()).long() * 300)


def test_image_and_mask_are_resized_together(tmp_path):
    blocks = np.kron(labels(6, 8, most=9), np.ones((15, 15), np.uint8))  # 90 x 120
    write(tmp_path, "a.png", np.repeat(blocks[..., None] * 20, 3, 2), blocks)
    image, mask = MaskFolder(tmp_path, size=(24, 32))[0]
    assert image.shape == (3, 24, 32)
    assert mask.shape == (24, 32)
    agree = (image * 255 / 20 - mask).abs() < 0.1
    inner = torch.zeros(24, 32, dtype=bool)
    inner[1::4, 1::4] = inner[2::4, 2::4] = inner[1::4, 2::4] = inner[2::4, 1::4] = True  # off the block edges
    assert agree[:, inner].all()
    assert image.min() >= 0
    assert image.max() <= 1


def test_images_are_antialiased(tmp_path):
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::4] = 255
    write(tmp_path, "a.png", stripes, labels(32, 32))
    image, mask = MaskFolder(tmp_path, size=8)[0]
    assert (image[..., 1:-1] - 0.25).abs().max() < 0.01  # without, every new pixel falls between the stripes
    assert set(mask.unique().tolist()) <= set(range(12))


def test_resizing_has_no_preferred_side():
    image, mask = torch.from_numpy(picture(36, 48)).permute(2, 0, 1), torch.from_numpy(labels(36, 48)).long()
    both = lambda image, mask: (resize(image, (12, 16)), resize(mask, (12, 16), labels=True))  # noqa: E731
    small, turned = both(image, mask), both(image.flip(-1, -2), mask.flip(-1, -2))
    assert torch.equal(turned[1].flip(-1, -2), small[1])
    assert (turned[0].flip(-1, -2).int() - small[0].int()).abs().max() <= 1
    assert torch.equal(small[1], mask[1::3, 1::3])


def test_an_augmentation_moves_both(folder):
    seen = []
    flip = v2.Compose([lambda *pair: seen.append(pair) or pair, v2.RandomHorizontalFlip(p=1)])
    plain, flipped = MaskFolder(folder, size=(3, 4))[0], MaskFolder(folder, size=(3, 4), transform=flip)[0]
    assert [type(part) for part in seen[0]] == [tv_tensors.Image, tv_tensors.Mask]
    assert seen[0][0].dtype == torch.float32
    assert same(flipped, [part.flip(-1) for part in plain])
    assert [type(part) for part in flipped] == [torch.Tensor, torch.Tensor]


def test_batches_of_a_folder(tmp_path):
    for k in range(3):
        write(tmp_path, f"{k}.png", picture(6 + k, 8, seed=k), labels(6 + k, 8, seed=k))
    ((image, mask),) = DataLoader(MaskFolder(tmp_path, size=(4, 4)), batch_size=3)
    assert (image.shape, mask.shape) == ((3, 3, 4, 4), (3, 4, 4))


def test_missing_folders_are_named_with_what_there_is(folder):
    with pytest.raises(InvalidValue, match=r"valid: expected a folder; .* has the splits \['train'\]"):
        MaskFolder(folder, "valid")
    with pytest.raises(InvalidValue, match=r"nowhere.train: expected a folder; .*nowhere does not exist"):
        MaskFolder(folder / "nowhere")
    (folder / "val").mkdir()
    with pytest.raises(InvalidValue, match="valannot: expected a folder"):
        MaskFolder(folder, "val")
    (folder / "valannot").mkdir()
    with pytest.raises(InvalidValue, match=r"val: expected images \(\.jpg, .*\.png, .*\), found none"):
        MaskFolder(folder, "val")


def test_images_without_mask_are_named(folder):
    for k in range(4):
        write(folder, f"lost{k}.png", picture(), None)
    with pytest.raises(InvalidValue, match=r"trainannot: .* missing 4: lost0.png, lost1.png, lost2.png, \.\.\."):
        MaskFolder(folder)


def test_two_images_of_one_stem_are_refused(folder):
    write(folder, "street.jpg", picture(), labels())
    with pytest.raises(InvalidValue, match="one image per mask, several are called 1: street"):
        MaskFolder(folder)


@pytest.mark.parametrize("where", ["train", "trainannot"])
@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n\x00\x00"])
def test_unreadable_files_are_named(folder, where, content):
    (folder / where / "street.png").write_bytes(content)
    with pytest.raises(InvalidInput, match=rf"{where}.street.png: expected an image file, but it cannot be read"):
        MaskFolder(folder)[0]


@pytest.mark.parametrize("where", ["train", "trainannot"])
def test_truncated_files_are_named(tmp_path, where):
    write(tmp_path, "big.png", picture(64, 64), labels(64, 64))
    path = tmp_path / where / "big.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InvalidInput, match=rf"{where}.big.png: expected an image file"):
        MaskFolder(tmp_path)[0]


def test_files_that_claim_to_be_huge_are_named(folder):
    path = folder / "train" / "street.png"
    data = path.read_bytes()
    header = b"IHDR" + struct.pack(">II", 10**5, 10**5) + data[24:29]
    path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    with pytest.raises(InvalidInput, match=r"train.street.png: its head announces 100000 x 100000 pixels"):
        MaskFolder(folder)[0]


def test_a_file_that_vanished_is_named(folder):
    data = MaskFolder(folder)
    (folder / "trainannot" / "street.png").unlink()
    with pytest.raises(InvalidInput, match=r"street\.png"):
        data[0]


def test_a_mask_of_another_size_is_named(folder):
    write(folder, "street.png", picture(8, 6), labels(6, 8))
    told = r"trainannot.street.png has 6 x 8 pixels, .*street.png has 8 x 6; .* Was it drawn on the image as stored"
    with pytest.raises(InvalidInput, match=told):
        MaskFolder(folder, size=4)[0]


def test_a_mask_of_colours_is_named(folder):
    write(folder, "street.png", picture(), picture())
    with pytest.raises(InvalidInput, match=r"trainannot.street.png: expected one channel of labels, found 48 colours"):
        MaskFolder(folder)[0]


def test_unknown_labels_are_named_with_their_file(folder):
    mask = labels()
    mask[0, :3] = [255, 12, 255]
    write(folder, "street.png", picture(), mask)
    unknown = r"trainannot.street.png has labels \[12, 255\]; expected 0 to 10 \(the classes\) or 11 \(ignored\)"
    with pytest.raises(InvalidInput, match=unknown):
        MaskFolder(folder)[0]
    with pytest.raises(
        InvalidInput, match=r"has labels \[11, 12, 255\]; expected 0 to 10 \(the classes\)\. Write values="
    ):
        MaskFolder(folder, ignore_index=None)[0]
    signed = mask.astype(np.int32)
    signed[mask == 255] = -1
    Image.fromarray(signed).save(folder / "trainannot" / "street.png", format="TIFF")
    with pytest.raises(InvalidInput, match=r"has labels \[-1, 12\]"):
        MaskFolder(folder)[0]


def test_the_ignored_label_may_lie_anywhere(folder):
    mask = labels()
    mask[0, :3] = [255, 12, 255]
    write(folder, "street.png", picture(), mask)
    with pytest.raises(InvalidInput, match=r"has labels \[12\]"):
        MaskFolder(folder, classes=[*CAMVID_CLASSES, "void"], ignore_index=255)[0]
    data = MaskFolder(folder, classes=[*CAMVID_CLASSES, "void", "more"], ignore_index=255)
    assert torch.equal(data[0][1], torch.from_numpy(mask).long())


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (InvalidType, "classes='road': expected the names", {"classes": "road"}),
        (InvalidType, r"classes=\(\): expected the names", {"classes": ()}),
        (InvalidType, "classes=", {"classes": [0, 1]}),
        (InvalidType, "classes=11", {"classes": 11}),
        (InvalidType, r"ignore_index=11.0: expected a label \(an int\) or None", {"ignore_index": 11.0}),
        (InvalidType, "ignore_index=True", {"ignore_index": True}),
        (InvalidValue, "size=0: expected an int >= 1", {"size": (4, 0)}),
        (InvalidType, "size=4.5", {"size": 4.5}),
    ],
)
def test_bad_folder_arguments_are_named(folder, error, match, arguments):
    with pytest.raises(error, match=match):
        MaskFolder(folder, **arguments)


@pytest.mark.skipif(not CAMVID.is_dir(), reason=f"CamVid is not at {CAMVID}; tiny folders cover the same code")
def test_camvid_is_what_its_authors_say():
    counts = {split: len(MaskFolder(CAMVID, split)) for split in ("train", "val", "test")}
    assert counts == {"train": 367, "val": 101, "test": 233}
    data = MaskFolder(CAMVID, size=(96, 128))
    assert MaskFolder(CAMVID)[0][0].shape == (3, 360, 480)
    items = [data[i] for i in range(0, 367, 30)]
    masks = torch.stack([mask for _, mask in items])
    assert set(masks.unique().tolist()) <= set(range(12))
    sky, road = (masks == CAMVID_CLASSES.index(name) for name in ("sky", "road"))
    rows = torch.arange(96.0)[:, None].expand_as(masks[0])
    assert all(rows[s].mean() < 48 < rows[r].mean() for s, r in zip(sky, road, strict=True))  # right side up
    light = torch.stack([image.mean(0) for image, _ in items])
    assert light[sky].mean() > light[road].mean() + 0.1
