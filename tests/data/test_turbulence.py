"""Turbulence: the fields' statistics are those of a Kolmogorov medium, and images move as the fields say."""

from __future__ import annotations

import functools
import itertools
import math
import pickle
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_turbulence import bilinear, covariances

from smp_feedback.data import Corrupted
from smp_feedback.data.corruption import corruptions
from smp_feedback.data.seeding import corruption_generator
from smp_feedback.data.triplets import Triplets
from smp_feedback.data.turbulence import (
    CN2,
    PRESETS,
    Simulator,
    Turbulence,
    displacement_field,
    distort,
    medium,
    of_air,
    sequence,
    waves,
)
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue, UnknownKeyword, UnknownName
from smp_feedback.ops.warp import warp
from smp_feedback.testing import check_corruption

STRENGTHS = ("mild", "strong", "severe")
AIR = Turbulence()
OTHERS = (
    AIR,
    Turbulence(cn2=1e-12, path=500.0, aperture=0.05, focal_length=0.5, pixel_pitch=10e-6, outer_scale=1.0),
    Turbulence(cn2=1e-14, path=8000.0, aperture=0.4, focal_length=3.0, pixel_pitch=30e-6, outer_scale=100.0),
)
LAGS = np.array([0, 1, 2, 5, 11, 23])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@functools.cache
def reference(air, drift=0.0, lags=tuple(LAGS)):
    return covariances(np.array(lags, float), drift, **asdict(air))


def agrees(samples, expected, sigmas=4.0):
    """The mean of independent *samples* is *expected* within what their own spread allows."""
    error = samples.std(ddof=1) / math.sqrt(len(samples))
    assert abs(samples.mean() - expected) < sigmas * error, (samples.mean(), expected, error)


# --- the model


@pytest.mark.parametrize("air", OTHERS)
def test_the_correlation_is_the_integral_over_depth_and_eddies(air):
    ours, theirs = np.stack(air.correlation(LAGS.astype(float))), reference(air)
    assert np.abs(ours - theirs).max() < 1e-3 * theirs[0, 0]
    assert air.variance == pytest.approx(theirs[0, 0], rel=1e-3)
    assert air.rms == math.sqrt(air.variance)


def test_without_an_outer_scale_the_variance_is_the_textbooks():
    """3/8 of 2.837 C_n^2 L D^(-1/3), whose factor is an integral of J_1 squared that has a closed form."""
    g = math.gamma
    bessels = g(8 / 3) * g(1 / 6) / (2 ** (8 / 3) * g(11 / 6) ** 2 * g(17 / 6))  # int x^(-8/3) J_1^2
    plane = 2 * math.pi**2 * medium.KOLMOGOROV * 4 * 2 ** (1 / 3) * bessels
    assert plane == pytest.approx(2.84, abs=0.005)
    for d, path in ((0.05, 300.0), (0.3, 5000.0)):
        air = Turbulence(cn2=3e-14, path=path, aperture=d, outer_scale=1e12)
        expected = 3 / 8 * plane * 3e-14 * path * d ** (-1 / 3)
        assert air.variance * air.pixel**2 == pytest.approx(expected, rel=2e-3)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 10.0))
def test_variance_follows_its_scaling_laws(by):
    assert replace(AIR, cn2=by * AIR.cn2).variance == pytest.approx(by * AIR.variance)
    assert replace(AIR, path=by * AIR.path).variance == pytest.approx(by * AIR.variance)
    assert replace(AIR, focal_length=by * AIR.focal_length).rms == pytest.approx(by * AIR.rms)
    assert replace(AIR, pixel_pitch=by * AIR.pixel_pitch).rms == pytest.approx(AIR.rms / by)
    grown = replace(AIR, aperture=by * AIR.aperture, outer_scale=by * AIR.outer_scale)
    assert grown.variance == pytest.approx(by ** (-1 / 3) * AIR.variance)
    assert (replace(AIR, outer_scale=by * AIR.outer_scale).variance > AIR.variance) == (by > 1)


def test_fine_pixels_see_the_same_field_finer():
    fine = replace(AIR, pixel_pitch=AIR.pixel_pitch / 2)
    lags = np.array([0.0, 3.0, 10.0])
    for few, many in zip(AIR.correlation(lags), fine.correlation(2 * lags), strict=True):
        assert many == pytest.approx(4 * few, rel=1e-4)


def test_the_blur_is_what_the_displacement_leaves_of_a_long_exposure():
    wave = 2 * math.pi / AIR.wavelength
    fried = (0.423 * 3 / 8 * wave**2 * AIR.cn2 * AIR.path) ** (-3 / 5)
    assert AIR.fried == pytest.approx(fried)
    total = math.hypot(AIR.blur, AIR.rms)
    frequency = fried / (AIR.wavelength * 3.44**0.6) * AIR.pixel  # where Fried's transfer function is 1/e
    assert math.exp(-2 * (math.pi * total * frequency) ** 2) == pytest.approx(math.exp(-1))
    assert Turbulence(aperture=1e-3, outer_scale=1e6).blur == 0  # the moving is more than all


# --- the fields


def constructed(air, size):
    """What the fields' covariance is by construction, without drawing any: (2, 2, H, W), in pixels squared.

    Of a pixel's displacement, row or column, with that of the one (i, j) further.
    """
    made = waves.waves(air, size, torch.float64, torch.device("cpu"))
    built = np.empty((2, 2, *size))
    root = torch.stack([made.fine[:2], torch.stack([torch.zeros_like(made.fine[2]), made.fine[2]])], 1)
    for i, j in itertools.product(range(2), range(2)):
        power = made.grid[i] * made.grid[j] + (root[i] * root[j]).sum(0)
        grid = torch.fft.irfft2((2 * power).to(made.rows), s=made.period, norm="forward")
        from_corner = made.slow[i] * made.slow[j] * (made.rows[0] * made.columns[:, 0]).conj()
        slow = ((from_corner * made.rows) @ made.columns).real
        built[i, j] = (grid[: size[0], : size[1]] + slow).numpy()
    return built


@pytest.mark.parametrize("air", [*OTHERS, PRESETS["severe"], replace(AIR, pixel_pitch=AIR.pixel_pitch / 0.4)])
@pytest.mark.parametrize("size", [(24, 24), (12, 40), (3, 1)])
def test_by_construction_all_pixels_covary_as_the_model_says(air, size):
    built = constructed(air, size)
    y, x = np.indices(size).astype(float)
    apart = np.hypot(y, x)
    parallel, perpendicular = (part.reshape(size) for part in air.correlation(apart.ravel()))
    unit = np.stack([y, x]) / np.maximum(apart, 1e-9)
    expected = unit[:, None] * unit * (parallel - perpendicular) + np.eye(2)[:, :, None, None] * perpendicular
    assert np.abs(built - expected).max() < 1e-3 * air.variance


@pytest.mark.parametrize("widths", [3.0, 33.0, 300.0])
def test_a_lens_that_a_pixel_dwarfs_loses_no_variance(widths):
    air = replace(AIR, pixel_pitch=widths * AIR.aperture / AIR.path * AIR.focal_length)
    built = constructed(air, (12, 16))
    parallel, perpendicular = air.correlation(np.arange(16.0))
    assert np.abs(built[0, 0, :, 0] - parallel[:12]).max() < 3e-3 * air.variance
    assert np.abs(built[0, 0, 0] - perpendicular).max() < 3e-3 * air.variance


@functools.cache
def drawn(name):
    return displacement_field(PRESETS[name], 24, batch=400, generator=seeded(len(name))).double().numpy()


@pytest.mark.parametrize("name", STRENGTHS)
def test_variance_and_correlation_of_the_samples_are_the_models(name):
    fields = drawn(name)
    parallel, perpendicular = reference(PRESETS[name])
    for axis in (0, 1):
        agrees(fields[:, axis].mean((1, 2)), 0.0)
        for n, lag in enumerate(LAGS):
            down = fields[:, axis, lag:] * fields[:, axis, : 24 - lag]
            along = fields[:, axis, :, lag:] * fields[:, axis, :, : 24 - lag]
            agrees(down.mean((1, 2)), (parallel, perpendicular)[axis][n])
            agrees(along.mean((1, 2)), (perpendicular, parallel)[axis][n])


@pytest.mark.parametrize("name", STRENGTHS)
def test_neighbours_differ_and_the_axes_covary_as_the_model_says(name):
    """How far pixels move against one another: free of what the whole image does, and so far sharper."""
    fields = drawn(name)
    parallel, perpendicular = reference(PRESETS[name])
    for n, lag in list(enumerate(LAGS))[1:]:
        step = fields[:, :, lag:] - fields[:, :, : 24 - lag]
        for axis, b in enumerate((parallel, perpendicular)):
            agrees(np.square(step[:, axis]).mean((1, 2)), 2 * (b[0] - b[n]))
    along, across = (b[0] for b in covariances([5 * math.sqrt(2)], **asdict(PRESETS[name])))
    for sign, other in ((1, fields), (-1, fields[:, :, :, ::-1] * np.array([1, -1])[:, None, None])):
        crossed = fields if sign == 1 else other
        product = crossed[:, 0, 5:, 5:] * crossed[:, 1, :-5, :-5]
        agrees(product.mean((1, 2)), (along - across) / 2)


def test_samples_are_normal():
    fields = drawn("strong") / PRESETS["strong"].rms
    corner = fields[:, :, 3, 20].ravel()
    agrees(corner**4, 3.0)
    agrees((np.abs(corner) < 1).astype(float), math.erf(1 / math.sqrt(2)))


def test_the_displacement_is_a_gradient():
    """Of a potential, so it does not turn: but for what lies between pixels."""
    fine = replace(AIR, pixel_pitch=2e-6)
    field = displacement_field(fine, 64, batch=4, generator=seeded(), dtype=torch.float64)
    row, column = field[:, 0], field[:, 1]
    curl = (column[:, 2:, 1:-1] - column[:, :-2, 1:-1]) - (row[:, 1:-1, 2:] - row[:, 1:-1, :-2])
    spread = (row[:, 2:, 1:-1] - row[:, :-2, 1:-1]) + (column[:, 1:-1, 2:] - column[:, 1:-1, :-2])
    assert curl.std() < 0.1 * spread.std()


def test_a_batch_is_one_field_after_another():
    together = displacement_field(AIR, (20, 33), batch=3, generator=seeded(4))
    generator = seeded(4)
    for field in together:
        assert torch.equal(field, displacement_field(AIR, (20, 33), generator=generator)[0])
    assert not torch.equal(together[0], together[1])


def test_the_generator_alone_decides():
    torch.manual_seed(1)
    first, state = displacement_field(AIR, 16, generator=seeded(2)), torch.get_rng_state()
    torch.manual_seed(7)
    assert torch.equal(first, displacement_field(AIR, 16, generator=seeded(2)))
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first, displacement_field(AIR, 16, generator=seeded(3)))


def test_precisions_agree_and_strengths_share_their_pattern():
    single = displacement_field(AIR, (16, 24), generator=seeded())
    double = displacement_field(AIR, (16, 24), generator=seeded(), dtype=torch.float64)
    assert (single.dtype, double.dtype, single.shape) == (torch.float32, torch.float64, (1, 2, 16, 24))
    assert torch.allclose(single.double(), double, atol=1e-5)
    stronger = displacement_field(replace(AIR, cn2=9 * AIR.cn2), (16, 24), generator=seeded(), dtype=torch.float64)
    assert torch.allclose(stronger, 3 * double)


@pytest.mark.parametrize("side", range(1, 200, 7))
def test_lengths_of_a_transform_are_even_and_smooth(side):
    found = waves._even(side)
    smooth = [n for n in range(side, 4 * side + 8) if n % 2 == 0 and 30**20 % n == 0]
    assert found == smooth[0]


# --- the film


def test_a_film_begins_with_the_field_and_is_seeded():
    film = sequence(AIR, (16, 20), 3, wind=3.0, frame_rate=50.0, generator=seeded(5))
    assert film.shape == (3, 2, 16, 20)
    assert torch.equal(film[:1], displacement_field(AIR, (16, 20), generator=seeded(5)))
    assert torch.equal(film, sequence(AIR, (16, 20), 3, wind=3.0, frame_rate=50.0, generator=seeded(5)))


def test_without_wind_nothing_moves():
    film = sequence(AIR, (7, 24), 3, wind=0.0, frame_rate=50.0, generator=seeded())
    assert torch.equal(film, film[:1].expand_as(film))


def test_in_hardly_any_wind_only_what_is_finer_than_pixels_changes():
    film = sequence(AIR, 24, 2, wind=1e-9, frame_rate=50.0, generator=seeded(), dtype=torch.float64)
    fine = waves.waves(AIR, (24, 24), torch.float64, torch.device("cpu")).fine
    share = 2 * fine.square().sum() - fine[:, :, 0].square().sum()
    assert (film[1] - film[0]).square().mean().item() == pytest.approx(2 * share.item(), rel=0.15)
    assert share < 0.002 * AIR.variance


@functools.cache
def films():
    generator = seeded(11)
    many = [sequence(AIR, 16, 3, wind=4.0, frame_rate=40.0, generator=generator) for _ in range(300)]
    return torch.stack(many).double().numpy()


@pytest.mark.parametrize("later", [1, 2])
def test_frames_covary_in_space_and_time_as_eddies_that_the_wind_carries(later):
    """The wind goes towards larger columns: what a pixel shows, one further along shows later."""
    lags = np.array([-10, -4, 0, 4, 10])
    parallel, perpendicular = reference(AIR, later * 4.0 / 40.0, tuple(lags))
    now, then = films()[:, : 3 - later], films()[:, later:]
    for n, lag in enumerate(lags):
        here = now[..., max(0, -lag) : 16 - max(0, lag)]
        there = then[..., max(0, lag) : 16 + min(0, lag)]
        product = (here * there).mean((1, 3, 4))
        agrees(product[:, 1], parallel[n])
        agrees(product[:, 0], perpendicular[n])
        change = np.square(there - here).mean((1, 3, 4))
        agrees(change[:, 1], 2 * (AIR.variance - parallel[n]))
        agrees(change[:, 0], 2 * (AIR.variance - perpendicular[n]))


def test_every_frame_has_the_variance_of_the_first():
    last = films()[:, 2]
    agrees(np.square(last).mean((1, 2, 3)), AIR.variance)


def test_an_eddy_of_a_wave_is_drawn_by_the_variance_that_it_brings():
    """The mean over draws of any function of u is its mean under the integrand of the spectrum."""
    q = np.array([0.02, 0.3])
    chosen = np.broadcast_to(((np.arange(4000) + 0.5) / 4000)[:, None], (4000, 2))
    frequency = np.stack([np.zeros(2), q])[:, None].repeat(4000, 1)
    fast = waves.crossing(AIR, frequency, chosen)
    lengths = q / (AIR.pixel * AIR.path)
    u, share = medium.eddies(AIR.aperture, AIR.outer_scale, lengths)
    for n, wave in enumerate(lengths):
        expected = (share[n] * np.log(u + wave)).sum() / share[n].sum()
        assert np.log(fast[:, n]).mean() == pytest.approx(expected, abs=0.02)
    assert (waves.crossing(AIR, -frequency[:, :5], chosen[:5]) == -fast[:5]).all()
    assert (waves.crossing(AIR, frequency[::-1, :5], chosen[:5]) == 0).all()  # across the wind


@pytest.mark.sweep
def test_a_name_of_the_package_is_imported_when_it_is_first_used():
    """A dataset's or a corruption's name is registered without torch; the package that holds it costs none either."""
    code = (
        "import sys, smp_feedback.data.turbulence as air, smp_feedback.data.synthetic as drawn; "
        "assert 'torch' not in sys.modules; "
        "assert air.Simulator('mild').turbulence == air.PRESETS['mild'] == air.preset('mild') != air.Turbulence(); "
        "assert drawn.Polygons.__base__ is drawn.Synthetic"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


# --- images


@pytest.mark.parametrize("size", [(9, 13), (1, 6), (5, 1)])
def test_pixels_move_as_the_field_says(size):
    image = torch.rand(2, 3, *size, generator=seeded(), dtype=torch.float64)
    field = 4 * torch.randn(2, 2, *size, generator=seeded(1), dtype=torch.float64)
    for x, f, moved in zip(image, field, distort(image, field), strict=True):
        assert moved.numpy() == pytest.approx(bilinear(x.numpy(), f.numpy()), abs=1e-9)
    assert torch.equal(distort(image, field), warp(image, field))
    assert torch.allclose(distort(image[0], field[1]), distort(image, field[1])[0])


def test_no_displacement_leaves_images_as_they_are():
    image = torch.rand(2, 3, 10, 14, generator=seeded())
    assert torch.allclose(distort(image, torch.zeros(2, 10, 14)), image, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.7, 2.0])
def test_blur_damps_waves_as_a_gaussian_does(sigma):
    omega = 2 * math.pi / 16
    wave = torch.cos(omega * torch.arange(64, dtype=torch.float64)).expand(1, 64, 64)
    for image in (wave, wave.mT):
        blurred = distort(image, torch.zeros(2, 64, 64, dtype=torch.float64), blur=sigma)
        inner = slice(16, 48)
        damped = blurred[:, inner, inner] - math.exp(-((sigma * omega) ** 2) / 2) * image[:, inner, inner]
        assert damped.abs().max() < 2e-3


def test_a_simulator_is_field_and_distortion():
    images = torch.rand(2, 3, 20, 28, generator=seeded())
    fields = displacement_field(AIR, (20, 28), batch=2, generator=seeded(3))
    assert torch.equal(Simulator(AIR)(images, seeded(3)), distort(images, fields))
    assert torch.equal(Simulator(AIR, blur=1.5)(images, seeded(3)), distort(images, fields, 1.5))
    assert torch.equal(Simulator(AIR, blur=True)(images, seeded(3)), distort(images, fields, AIR.blur))
    assert torch.equal(Simulator(AIR)(images[0], seeded(3)), distort(images[0], fields[0]))
    assert Simulator(AIR)(images.double(), seeded(3)).dtype == torch.float64
    assert Simulator(AIR)(images.half(), seeded(3)).dtype == torch.float16
    assert eval(repr(Simulator("mild", blur=2.0))).sigma == 2.0


def test_gradient_goes_through_to_the_images():
    image = torch.rand(1, 1, 6, 6, generator=seeded(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: Simulator("strong", blur=1.0)(x, seeded()), image)


# --- presets and corruption


def test_presets_move_pixels_by_half_a_pixel_to_five_where_the_shorter_side_has_360():
    rms = [air.rms * 360 / 224 for air in PRESETS.values()]
    assert rms == pytest.approx([0.5, 1, 2, 3, 5], rel=0.08)
    assert [air.cn2 for air in PRESETS.values()] == list(CN2)
    assert [replace(air, cn2=1.0) for air in PRESETS.values()] == [replace(AIR, cn2=1.0)] * 5


def test_the_corruption_keeps_the_promises_of_one():
    check_corruption("turbulence")


@pytest.mark.parametrize(("side", "scale"), [(224, 1.0), (448, 2.0), (120, 120 / 224), (32, 0.4)])
def test_the_corruption_is_the_preset_for_a_camera_of_that_many_pixels(side, scale):
    image = torch.rand(3, side, side + 8, generator=seeded())
    air = replace(PRESETS["moderate"], pixel_pitch=AIR.pixel_pitch / scale)
    assert air.rms == pytest.approx(scale * PRESETS["moderate"].rms)
    field = displacement_field(air, (side, side + 8), generator=seeded(2))
    assert torch.allclose(corruptions.turbulence(image, 2, seeded(2)), distort(image, field[0]), atol=1e-6)


# --- the page and its picture


def test_the_picture_and_the_table_are_drawn_from_the_presets(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    from benchmarks import turbulence_figure

    turbulence_figure.main([str(tmp_path / "one.png")])
    assert 0 < (tmp_path / "one.png").stat().st_size < 150_000
    shown = capsys.readouterr().out.strip()
    assert shown in (Path(__file__).parents[2] / "docs" / "synthetic.md").read_text(), "another table than the page's"
    assert shown.count("\n") == 1 + len(PRESETS)


def test_sampled_correlations_of_the_picture_are_the_models():
    from benchmarks.turbulence_figure import sampled

    air, lags = PRESETS["severe"], np.array([0.0, 4.0, 12.0])
    for found, model in zip(sampled(air, lags, 3, 100), air.correlation(lags), strict=True):
        assert (np.abs(found[0] - model / air.variance) < 4 * found[1]).all()


# --- errors


@pytest.mark.parametrize("name", list(asdict(AIR)))
@pytest.mark.parametrize("value", [math.nan, 0.0, -1.0, math.inf])
def test_a_parameter_that_is_no_positive_number_is_named(name, value):
    with pytest.raises(InvalidValue, match=rf"{name}={value!r}: expected a number > 0 m"):
        Turbulence(**{name: value})


@pytest.mark.parametrize("value", ["1e-13", None, True])
def test_a_parameter_that_is_no_number_is_named(value):
    with pytest.raises(InvalidType, match="cn2="):
        Turbulence(cn2=value)


@pytest.mark.parametrize(
    ("error", "match", "change"),
    [
        (InvalidType, "turbulence='mild': expected a", {"turbulence": "mild"}),
        (InvalidType, "generator=0: expected a torch.Generator", {"generator": 0}),
        (InvalidType, "dtype=torch.float16: expected torch.float32 or", {"dtype": torch.float16}),
        (InvalidType, r"size='8'", {"size": "8"}),
        (InvalidValue, "size=0: expected an int >= 1", {"size": (8, 0)}),
    ],
)
def test_bad_arguments_of_fields_are_named(error, match, change):
    given = {"turbulence": AIR, "size": 8, "generator": seeded()} | change
    with pytest.raises(error, match=match):
        displacement_field(**given)
    with pytest.raises(error, match=match):
        sequence(**given, frames=2, wind=1.0, frame_rate=25.0)


@pytest.mark.parametrize(
    ("error", "match", "change"),
    [
        (InvalidValue, "frames=0: expected", {"frames": 0}),
        (InvalidValue, "wind=nan: expected a number >= 0 m/s", {"wind": math.nan}),
        (InvalidValue, "wind=-1.0", {"wind": -1.0}),
        (InvalidValue, "frame_rate=0: expected a number > 0 a second", {"frame_rate": 0}),
        (InvalidType, "frame_rate='25'", {"frame_rate": "25"}),
    ],
)
def test_bad_arguments_of_films_are_named(error, match, change):
    with pytest.raises(error, match=match):
        sequence(AIR, 8, **({"frames": 2, "wind": 1.0, "frame_rate": 25.0} | change), generator=seeded())


def test_a_batch_that_is_no_number_of_fields_is_refused():
    with pytest.raises(InvalidValue, match="batch=0: expected an int >= 1"):
        displacement_field(AIR, 8, batch=0, generator=seeded())
    with pytest.raises(InvalidType, match=r"batch=1\.5"):
        displacement_field(AIR, 8, batch=1.5, generator=seeded())


def test_under_autocast_a_blurred_image_is_as_precise_as_it_was():
    images = torch.rand(1, 3, 12, 9, generator=seeded())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = Simulator("strong", blur=True)(images, seeded(1))
    assert torch.equal(seen, Simulator("strong", blur=True)(images, seeded(1)))


def test_bad_images_fields_and_blurs_are_named():
    image, field = torch.rand(3, 8, 8), torch.zeros(2, 8, 8)
    for wrong in (image.byte(), None):
        with pytest.raises(InvalidType, match="image: expected a floating-point tensor"):
            distort(wrong, field)
    for shape in ((8, 8), (1, 1, 3, 8, 8), (0, 3, 8, 8)):
        with pytest.raises(InvalidValue, match="expected"):
            distort(torch.rand(shape), field)
    with pytest.raises(InvalidType, match=r"not torch\.int64"):
        distort(image, field.long())
    with pytest.raises(InvalidType, match="field: expected a floating-point tensor, not NoneType"):
        distort(image, None)
    for bad in (torch.zeros(2, 8, 9), torch.zeros(3, 8, 8), torch.zeros(2, 2, 8, 8), torch.zeros(8, 8)):
        with pytest.raises(InvalidInput, match="displacement of shape"):
            distort(image, bad)
    with pytest.raises(InvalidInput, match="field on meta for images on cpu"):
        distort(image, field.to("meta"))
    for blur, error in ((math.nan, InvalidValue), (-1.0, InvalidValue), ("1", InvalidType)):
        with pytest.raises(error, match="blur="):
            distort(image, field, blur)
        with pytest.raises(error, match="blur="):
            Simulator("mild", blur=blur)


def test_air_by_its_parameters_is_a_corruption_of_any_dataset():
    values = {"cn2": 1e-12, "path": 500.0, "outer_scale": 2.0}
    image, through = torch.rand(3, 24, 32), pickle.loads(pickle.dumps(of_air(values)))
    seen = Simulator(Turbulence(**values))(image, torch.Generator().manual_seed(3))
    for severity in (1, 5):
        assert torch.equal(through(image, severity, torch.Generator().manual_seed(3)), seen)
    data = [(image, torch.zeros(24, 32).long())]
    shown = Corrupted(data, through, 1, seed=2)[0][0]
    assert torch.equal(shown, through(image, 1, corruption_generator(2, 0)))
    assert torch.equal(Triplets(data, through, 1, seed=2)[0][0], shown)


@pytest.mark.parametrize(
    ("values", "error", "said"),
    [
        ({"cn2": float("nan")}, InvalidValue, r"cn2=nan: expected a number > 0 m\^\(-2/3\)"),
        ({"path": "far"}, InvalidType, "path='far'"),
        ({"appertur": 0.1}, UnknownKeyword, "Did you mean 'aperture'"),
        ([1e-13], InvalidType, "expected the parameters of Turbulence by name"),
    ],
)
def test_air_that_cannot_be_is_refused(values, error, said):
    with pytest.raises(error, match=said):
        of_air(values)


def test_a_preset_that_does_not_exist_is_named():
    with pytest.raises(UnknownName, match=r"No preset of turbulence is called 'stron'\. Did you mean 'strong'"):
        Simulator("stron")
    with pytest.raises(InvalidType, match="turbulence=3: expected a Turbulence, or one of mild, moderate"):
        Simulator(3)
