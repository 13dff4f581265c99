"""What goes on from frame to frame of a film: rain and hot air, and noise, which does not."""

import pytest
import torch

from smp_feedback.data import Clips, Corrupted, MovingShapes
from smp_feedback.data.corruption import weather
from smp_feedback.data.corruption.corruptions import turbulence
from smp_feedback.data.corruption.weather import rain, shimmer
from smp_feedback.data.turbulence import Turbulence, Wind
from smp_feedback.data.turbulence.fields import displacement_field, frame_field, sequence
from smp_feedback.errors import InvalidType, InvalidValue


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def still(**how):
    return MovingShapes("test", frames=4, count=8, size=32, speed=0, spin=0, **how)


# --- rain


def test_rain_covers_what_it_says_and_leaves_the_rest_alone():
    image = torch.rand(3, 128, 128, generator=seeded())
    for severity, share in enumerate(weather.RAIN, start=1):
        for time in (0, 1, 40):
            wet = rain(image, severity, seeded(), time=time)
            hidden = weather.streaks((128, 128), severity, seeded(), time)
            assert torch.equal(wet[:, ~hidden], image[:, ~hidden])
            assert torch.allclose(wet[:, hidden], 0.2 * image[:, hidden] + 0.8 * 0.85)
            once = 1 - torch.exp(torch.tensor(-share))  # of streaks thrown independently
            assert float(hidden.float().mean()) == pytest.approx(float(once), rel=0.25)


def test_every_drop_falls_straight(monkeypatch):
    monkeypatch.setattr(weather, "FALL", (0.25, 0.25))  # all at one speed: the picture is shifted
    monkeypatch.setattr(weather, "SLANT", 0.0)
    frames = [weather.streaks((64, 48), 3, seeded(), time) for time in range(4)]
    assert all(torch.equal(frames[k], frames[0].roll(16 * k, 0)) for k in range(4))


def test_the_rain_of_a_lower_severity_is_part_of_that_of_a_higher_one():
    light, heavy = (weather.streaks((64, 64), severity, seeded(3), 5) for severity in (2, 5))
    assert (heavy | ~light).all()


# --- hot air


def test_the_first_frame_in_a_wind_is_an_image_through_turbulent_air():
    image = torch.rand(3, 40, 48, generator=seeded())
    assert torch.equal(shimmer(image, 3, seeded(1)), turbulence(image, 3, seeded(1)))


def test_a_frame_of_the_film_is_as_far_from_the_first_as_the_sequence_says():
    air, how = Turbulence(cn2=1e-13), {"wind": 2.0, "frame_rate": 50.0}
    apart = {time: [] for time in (1, 3)}
    wanted = {time: [] for time in (1, 3)}
    for seed in range(60):
        film = sequence(air, 16, 4, generator=seeded(seed), **how)
        for time in apart:
            first, later = (frame_field(air, 16, t, generator=seeded(seed), **how) for t in (0, time))
            assert torch.equal(first, film[0])
            apart[time].append(float((later - first).square().mean()))
            wanted[time].append(float((film[time] - film[0]).square().mean()))
    for time in apart:
        assert sum(apart[time]) == pytest.approx(sum(wanted[time]), rel=0.05)


def test_a_calm_leaves_the_air_where_it_is():
    air = Turbulence()
    how = {"wind": 0.0, "frame_rate": 25.0}
    first = displacement_field(air, 16, generator=seeded())[0]
    assert torch.equal(frame_field(air, 16, 9, generator=seeded(), **how), first)
    for wrong in ({"wind": -1.0}, {"frame_rate": 0}):
        with pytest.raises(InvalidValue, match=next(iter(wrong))):
            frame_field(air, 16, 1, generator=seeded(), **how | wrong)
    with pytest.raises(InvalidType, match="air=3"):
        Wind(3, 1.0)


# --- through a dataset


@pytest.mark.parametrize("name", ["rain", "shimmer"])
def test_a_film_has_one_weather_and_another_film_another(name):
    data, part = still(), getattr(weather, name)
    corrupted = Corrupted(data, name, 4, seed=2)
    from smp_feedback.data.seeding import corruption_generator

    for film, frames in enumerate(data.films):
        for time, index in enumerate(frames):
            wanted = part(data[index][0], 4, corruption_generator(2, film), time=time)
            assert torch.equal(corrupted[index][0], wanted)
    assert not torch.equal(corrupted[0][0], corrupted[4][0])


@pytest.mark.parametrize("name", ["rain", "shimmer"])
def test_fresh_weather_is_one_for_a_clip_and_new_for_the_next(name):
    clips = Clips(Corrupted(still(), name, 4, fresh=True), length=4)
    torch.manual_seed(0)
    one, two = clips[0][0], clips[0][0]
    assert not torch.equal(one, two)
    torch.manual_seed(0)
    seed = int(torch.randint(2**63 - 1, ()))
    wanted = [getattr(weather, name)(still()[k][0], 4, seeded(seed), time=k) for k in range(4)]
    assert torch.equal(one, torch.stack(wanted))


def test_images_without_films_have_each_their_own_weather():
    images = [(torch.rand(3, 24, 24), torch.zeros(24, 24, dtype=torch.int64))] * 2
    wet = Corrupted(images, "rain", 3)
    assert not torch.equal(wet[0][0], wet[1][0])
