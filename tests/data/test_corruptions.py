"""Every registered corruption keeps the promises; each built-in one meets its closed form."""

import io
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset, TensorDataset

import smp_feedback as smpf
from smp_feedback.data import Corrupted, Shapes, add_noise, item_name
from smp_feedback.data.corruption import corruptions as C
from smp_feedback.data.dataset_factory import CORRUPTIONS, FILMED
from smp_feedback.data.turbulence import CN2
from smp_feedback.errors import InvalidType, InvalidValue, UnknownName
from smp_feedback.registry.public import catalogue

OURS = sorted(name for name in catalogue().corruptions if catalogue().corruptions.origin(name) == "smp_feedback")
"""Of a plugin's corruption no more is asked than ``check_corruption`` does."""
EVERY = pytest.mark.parametrize("name", OURS)
SEVERITIES = (1, 2, 3, 4, 5)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def natural(height=64, width=96, seed=0):
    """Clouds: noise at every scale, the coarser the stronger, as in photographs."""
    shape = (1, 3, height, width)
    octaves = []
    for k in range(5):
        coarse = torch.rand(1, 3, 2 + 2**k, 2 + 2**k, generator=seeded(seed + k))
        octaves.append(torch.nn.functional.interpolate(coarse, shape[2:], mode="bicubic") / 2**k)
    image = sum(octaves)[0]
    return (image - image.min()) / (image.max() - image.min())


def corrupt(name, image, severity, seed=0):
    return catalogue().corruptions[name](image, severity, seeded(seed))


def flat(value, size=128):
    return torch.full((3, size, size), value)


# --- every one


def test_all_that_were_promised_are_there():
    assert set(CORRUPTIONS) <= set(OURS) <= set(smpf.list_corruptions())
    noises = ["gaussian_noise", "impulse_noise", "rescaled_noise", "shot_noise"]
    assert [name for name in smpf.list_corruptions("*noise") if name in OURS] == noises


@EVERY
@pytest.mark.parametrize("shape", [(64, 96), (16, 16), (16, 40), (33, 17)])
def test_the_result_is_an_image_like_the_one_given(name, shape):
    image = natural(*shape)
    given = image.clone()
    for severity in SEVERITIES:
        result = corrupt(name, image, severity)
        assert (result.shape, result.dtype, type(result)) == (image.shape, image.dtype, torch.Tensor)
        assert 0 <= result.min() <= result.max() <= 1
        assert not torch.equal(result, image)
    assert torch.equal(image, given)


@EVERY
def test_damage_grows_with_severity(name):
    for seed in range(3):
        image = natural(seed=10 * seed)
        damage = [float((corrupt(name, image, s, seed) - image).square().mean()) for s in SEVERITIES]
        assert all(small < large for small, large in zip([0.0, *damage], damage, strict=False)), damage


@EVERY
def test_the_same_generator_state_gives_the_same_result_whatever_the_global_one_is(name):
    image, results = natural(), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        before, old = torch.get_rng_state(), np.random.get_state()[1].copy()
        results.append(corrupt(name, image, 3, seed=7))
        assert torch.equal(torch.get_rng_state(), before)
        assert (np.random.get_state()[1] == old).all()
    assert torch.equal(*results)


@EVERY
@pytest.mark.parametrize(
    ("severity", "error"),
    [(0, InvalidValue), (6, InvalidValue), (-1, InvalidValue), (2.0, InvalidType), (True, InvalidType)],
)
def test_a_severity_that_does_not_exist_is_refused(name, severity, error):
    with pytest.raises(error, match=f"severity={severity!r}: expected"):
        corrupt(name, natural(16, 16), severity)


@EVERY
def test_what_is_no_image_is_refused(name):
    part = catalogue().corruptions[name]
    with pytest.raises(InvalidType, match=r"floating-point tensor in \[0, 1\], not torch.uint8"):
        part(torch.zeros(3, 8, 8, dtype=torch.uint8), 1, seeded())
    with pytest.raises(InvalidValue, match=r"\(2, 3, 8, 8\): expected one image"):
        part(torch.zeros(2, 3, 8, 8), 1, seeded())
    with pytest.raises(InvalidType, match="generator=None"):
        part(torch.zeros(3, 8, 8), 1, None)


@EVERY
def test_corruptions_travel_to_workers(name):
    part = pickle.loads(pickle.dumps(catalogue().corruptions[name]))
    assert torch.equal(part(natural(16, 16), 2, seeded()), corrupt(name, natural(16, 16), 2))


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - {"jpeg"}))
def test_any_number_of_channels_and_other_precisions(name):
    image = natural().repeat(2, 1, 1)[:5].double()
    result = corrupt(name, image, 2)
    assert (result.shape, result.dtype) == (image.shape, torch.float64)


# --- closed forms


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_noise_has_its_standard_deviation(severity):
    sigma = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    noise = corrupt("gaussian_noise", flat(0.5), severity) - 0.5
    inside = noise.abs() < 0.5  # not clipped
    share = math.erf(0.5 / sigma / math.sqrt(2))
    assert inside.float().mean().item() == pytest.approx(share, abs=0.01)
    for quantile in (0.5, 0.75):  # of |noise| below the clip
        z = sigma * math.sqrt(2) * torch.erfinv(torch.tensor(quantile)).item()
        if z < 0.5:
            assert (noise.abs() < z).float().mean().item() == pytest.approx(quantile, abs=0.01)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_shot_noise_counts_photons(severity):
    photons = (60, 25, 12, 5, 3)[severity - 1]
    for light in (0.1, 0.3):
        result = corrupt("shot_noise", flat(light), severity).double()
        counts = result * photons
        assert (counts - counts.round()).abs().max() < 1e-4
        if light == 0.1:  # clipping at 1 touches nothing worth mentioning
            assert result.mean().item() == pytest.approx(light, rel=0.02)
            assert result.var().item() == pytest.approx(light / photons, rel=0.05)
    assert corrupt("shot_noise", flat(0.0), severity).sum() == 0


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulse_noise_hits_its_share_half_dark_half_light(severity):
    share = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    result = corrupt("impulse_noise", flat(0.5), severity)
    error = 4 * math.sqrt(share / 2 / result.numel())
    assert (result == 0).float().mean().item() == pytest.approx(share / 2, abs=error)
    assert (result == 1).float().mean().item() == pytest.approx(share / 2, abs=error)
    assert set(result.unique().tolist()) == {0.0, 0.5, 1.0}


def moments(kernel):
    """Sum, centre and second central moments (yy, xx, xy) of an image that was one bright pixel."""
    kernel = kernel.double()
    y, x = torch.meshgrid(*(torch.arange(n).double() for n in kernel.shape), indexing="ij")
    total = kernel.sum()
    cy, cx = (kernel * y).sum() / total, (kernel * x).sum() / total
    y, x = y - cy, x - cx
    second = [float((kernel * a * b).sum() / total) for a, b in ((y, y), (x, x), (x, y))]
    return float(total), (float(cy), float(cx)), second


def dot(size):
    image = torch.zeros(3, size, size)
    image[:, size // 2, size // 2] = 1
    return image


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize(("size", "scale"), [(225, 225 / 224), (113, 113 / 224), (45, 0.4)])
def test_gaussian_blur_spreads_a_dot_by_sigma_which_follows_the_image(severity, size, scale):
    sigma = (1, 2, 3, 4, 6)[severity - 1] * scale
    total, centre, (yy, xx, xy) = moments(corrupt("gaussian_blur", dot(size), severity)[0])
    assert total == pytest.approx(1, abs=1e-4)
    assert centre == pytest.approx((size // 2,) * 2, abs=1e-4)
    taps = np.arange(-math.ceil(3 * sigma), math.ceil(3 * sigma) + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    expected = (weights * taps**2).sum() / weights.sum()
    assert (yy, xx) == pytest.approx((expected, expected), rel=1e-3)
    assert xy == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_motion_blur_spreads_a_dot_along_a_line_of_random_direction(severity):
    length, angles = (6, 10, 16, 24, 30)[severity - 1], []
    for seed in range(12):
        total, centre, (yy, xx, xy) = moments(corrupt("motion_blur", dot(225), severity, seed)[0])
        assert total == pytest.approx(1, abs=1e-4)
        assert centre == pytest.approx((112, 112), abs=1e-3)
        low, high = np.linalg.eigvalsh([[yy, xy], [xy, xx]])
        assert low < 0.3  # the line is thin: sharing among four neighbours adds at most 1/4 a direction
        assert high == pytest.approx((length * 225 / 224) ** 2 / 12, abs=0.3)  # the variance of an even line
        angles.append(0.5 * math.atan2(2 * xy, xx - yy))
    assert np.std(np.cos(2 * np.array(angles))) > 0.4


def test_a_line_of_a_kernel_points_where_it_is_told():
    kernel = C.line(8.0, math.pi / 6)
    _, centre, (yy, xx, xy) = moments(kernel)
    assert kernel.shape == (9, 9)
    assert float(kernel.sum()) == pytest.approx(1)
    assert centre == pytest.approx((4, 4), abs=1e-6)
    assert 0.5 * math.atan2(2 * xy, xx - yy) == pytest.approx(math.pi / 6, abs=0.02)


@pytest.mark.parametrize("name", ["gaussian_blur", "motion_blur"])
def test_blur_leaves_an_even_image_even(name):
    for severity in SEVERITIES:
        assert corrupt(name, flat(0.3, 20), severity) == pytest.approx(0.3, abs=1e-5)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_is_what_a_jpeg_of_that_quality_is(severity):
    image = natural()
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=(25, 18, 15, 10, 7)[severity - 1])
    expected = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255
    assert torch.equal(corrupt("jpeg", image, severity), expected)


def test_jpeg_takes_one_or_three_channels():
    assert corrupt("jpeg", natural()[:1], 3).shape == (1, 64, 96)
    with pytest.raises(InvalidValue, match="jpeg: image of 2 channels, expected 1 or 3"):
        corrupt("jpeg", natural()[:2], 3)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_adds_and_contrast_shrinks_the_distance_to_the_mean(severity):
    image = natural().double()
    added = (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]
    assert torch.allclose(corrupt("brightness", image, severity), (image + added).clamp(max=1))
    left = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
    result = corrupt("contrast", image, severity)
    assert torch.allclose(result.mean((1, 2)), image.mean((1, 2)))
    assert torch.allclose(result.std((1, 2)), left * image.std((1, 2)))


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("size", [(16, 16), (64, 96), (200, 50)])
def test_occlusion_hides_its_share_in_grey_and_leaves_the_rest(severity, size):
    image = natural(*size) * 0.4  # nothing is as light as grey
    for seed in range(3):
        result = corrupt("occlusion", image, severity, seed)
        hidden = (result == 0.5).all(0)
        share = (0.10, 0.20, 0.30, 0.45, 0.60)[severity - 1]
        assert share - 0.011 <= hidden.float().mean().item() <= share + 0.02  # a patch is whole pixels
        assert torch.equal(result[:, ~hidden], image[:, ~hidden])


def test_occlusion_is_spread_over_the_image():
    hidden = torch.stack([C.patches((32, 48), 0.3, seeded(k)) for k in range(300)]).float().mean(0)
    assert (hidden[4:-4, 4:-4] - 0.33).abs().max() < 0.13
    assert hidden.mean() == pytest.approx(0.295, abs=0.01)


def test_rescaled_noise_is_the_papers():
    for severity, sigma in zip(SEVERITIES, (0.25, 0.5, 1, 2, 4), strict=True):
        expected = add_noise(natural(), sigma, seeded(3))
        assert torch.equal(corrupt("rescaled_noise", natural(), severity, 3), expected)


# --- a dataset under a corruption


@EVERY
def test_what_happens_to_an_item_depends_on_seed_and_index_only(name):
    clean = Shapes(4, size=32)
    forwards = list(Corrupted(clean, name, 2, seed=1))
    again = Corrupted(Shapes(40, size=32), name, 2, seed=1)
    for i in (3, 0, -37):
        assert torch.equal(again[i][0], forwards[i % 40][0])
        assert torch.equal(again[i][1], clean[i % 40][1])


def test_items_and_seeds_meet_different_corruptions_but_severities_the_same():
    plain = TensorDataset(flat(0.5, 16).repeat(3, 1, 1, 1), torch.zeros(3, dtype=torch.long))
    images = [image for seed in (0, 1) for image, _ in Corrupted(plain, "gaussian_noise", 1, seed=seed)]
    assert len({image.numpy().tobytes() for image in images}) == 6
    one, two = (Corrupted(plain, "gaussian_noise", s)[0][0] - 0.5 for s in (1, 2))
    assert torch.allclose(one / 0.08, two / 0.12, atol=1e-4)


def test_severity_0_and_clean_leave_images_alone():
    clean = Shapes(2, size=32)
    for data in (Corrupted(clean, "jpeg", 0), Corrupted(clean, "clean", 3), Corrupted(clean, "clean", 0)):
        assert all(torch.equal(a[0], b[0]) for a, b in zip(data, clean, strict=True))


def test_a_corrupted_dataset_says_what_the_clean_one_says():
    clean = Shapes(5, size=32)
    data = Corrupted(Subset(clean, [4, 2]), "jpeg", 1)
    assert (len(data), data.classes, data.ignore_index) == (2, Shapes.classes, None)
    assert data.name(-1) == clean.name(2) == "coloured_shapes[2] of seed 0"
    assert Corrupted(data, "occlusion", 1).name(0) == clean.name(4)
    assert item_name(Subset(data, [1]), 0) == clean.name(2)
    assert Corrupted(TensorDataset(flat(0.0)), "jpeg", 1).classes is None
    assert item_name([], 3) == "item 3"
    with pytest.raises(IndexError, match="2 items"):
        data[2]


def test_corruption_and_noise_of_an_item_share_no_random_numbers():
    from smp_feedback.data.seeding import SPLITS, corruption_generator, noise_generator

    seeds = [noise_generator(s, i, split).initial_seed() for s in (0, 1) for i in range(5) for split in SPLITS]
    seeds += [corruption_generator(s, i).initial_seed() for s in (0, 1) for i in range(5)]
    assert len(set(seeds)) == (10 + 5 + 5) + 10  # val and test have one stream for both seeds


def test_a_fresh_corruption_differs_at_each_access_and_repeats_with_the_global_seed():
    data = Corrupted(Shapes(2, size=32), "gaussian_noise", 3, fresh=True)
    torch.manual_seed(4)
    first, second = data[0][0], data[0][0]
    assert not torch.equal(first, second)
    torch.manual_seed(4)
    assert torch.equal(data[0][0], first)
    state = torch.get_rng_state()
    after = data[1][0]
    torch.set_rng_state(state)
    assert torch.equal(data[1][0], after)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_draw_fresh_corruptions_of_their_own_repeatably():
    plain = TensorDataset(flat(0.5, 16).repeat(4, 1, 1, 1), torch.zeros(4, dtype=torch.long))
    epochs = []
    for _ in range(2):
        torch.manual_seed(0)
        loader = DataLoader(Corrupted(plain, "gaussian_noise", 3, fresh=True), batch_size=1, num_workers=2)
        epochs.append([image for _ in range(2) for image, _ in loader])
    assert len({image.numpy().tobytes() for image in epochs[0]}) == 8
    assert all(torch.equal(a, b) for a, b in zip(*epochs, strict=True))


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (UnknownName, "No corruption is called 'gauss_noise'. Did you mean 'gaussian_noise'", ("gauss_noise", 0)),
        (InvalidValue, "severity=6: expected 0 to 5", ("jpeg", 6)),
        (InvalidValue, "severity=-1", ("jpeg", -1)),
        (InvalidType, "severity='hard'", ("jpeg", "hard")),
        (InvalidValue, "seed=-1", ("jpeg", 1, -1)),
    ],
)
def test_bad_arguments_are_named(error, match, arguments):
    with pytest.raises(error, match=match):
        Corrupted(Shapes(1), *arguments)


def test_a_stream_is_no_dataset():
    with pytest.raises(InvalidType, match="map-style dataset, with a length"):
        Corrupted(iter(()), "jpeg", 1)


def test_a_strangers_corruption_is_used_by_name(restored):
    @smpf.register_corruption("negative")
    def negative(image, severity, generator):
        return 1 - image

    clean = Shapes(1, size=16)
    assert torch.equal(Corrupted(clean, "Negative", 1)[0][0], 1 - clean[0][0])


# --- the picture


class Still(list):
    """One image, as a film of four frames."""

    films = (range(4),)

    def __init__(self, image):
        super().__init__([(image, torch.zeros(image.shape[1:], dtype=torch.long))] * 4)


def test_the_picture_shows_every_corruption(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks import corruption_gallery

    path = corruption_gallery.gallery(natural(24, 24), tmp_path / "all.png", ["brightness", "occlusion"])
    with Image.open(path) as picture:
        assert picture.width > picture.height
        still = picture.height
    path = corruption_gallery.gallery(natural(24, 24), tmp_path / "film.png", ["brightness", "rain"])
    with Image.open(path) as picture:
        assert picture.height > 1.5 * still, "a row a frame of what goes on from frame to frame"
    image, film = natural(48, 48), Still(natural(48, 48))
    for name in FILMED:
        frames = [corruption_gallery.corrupted(image, name, 4, time) for time in corruption_gallery.STRIP]
        for time, frame in enumerate(frames):
            assert torch.equal(frame, Corrupted(film, name, 4)[time][0]), "the frame of a film"
        assert not torch.equal(frames[0], frames[1])
    corruption_gallery.main([str(tmp_path / "one.png"), "--data", "polygons", "--size", "16"])
    assert 0 < (tmp_path / "one.png").stat().st_size < 300_000


def test_the_page_shows_the_severities_that_are_used():
    page = (Path(__file__).parents[2] / "docs" / "synthetic.md").read_text()
    rows = {row[0].strip("` "): row[1:6] for row in (line.split("|")[1:] for line in page.splitlines()) if len(row) > 6}
    tables = (C.GAUSSIAN_SIGMA, C.PHOTONS, C.IMPULSES, C.BLUR_SIGMA, C.MOTION, C.JPEG_QUALITY, C.BRIGHTER, C.CONTRAST)
    for name, table in zip(CORRUPTIONS, (*tables, C.OCCLUDED, C.RESCALED_SIGMA, CN2), strict=True):
        assert [float(cell) for cell in rows[name]] == list(table), name


def test_the_picture_in_the_documents_is_small():
    assert (Path(__file__).parents[2] / "docs" / "corruptions.png").stat().st_size < 300_000
