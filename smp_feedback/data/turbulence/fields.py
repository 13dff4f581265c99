"""Random displacement fields of turbulent air: noise through the filter of `waves`, single or as a film."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from smp_feedback.checks import check_number
from smp_feedback.data.items import checked_int, height_width
from smp_feedback.data.turbulence.medium import Array, Turbulence
from smp_feedback.data.turbulence.waves import Waves, crossing, frequencies, waves
from smp_feedback.errors import InvalidType

Noise = tuple[Tensor, Tensor, Tensor]  # complex normal: for the grid, the slow waves, and what is finer


def displacement_field(
    turbulence: Turbulence,
    size: int | Sequence[int],
    *,
    batch: int = 1,
    generator: torch.Generator,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Independent fields, each the displacement at one instant.

    Args:
        turbulence: Air and camera.
        size: Side of the image, or (H, W), in pixels.
        batch: How many, B. They are what as many calls with the same generator would be.
        generator: Where the noise is drawn from; it may live on another device.
        device: Where the fields are made; None is the generator's.
        dtype: ``torch.float32`` or ``torch.float64``; the noise is the same.

    Returns:
        (B, 2, H, W), in pixels: channel 0 rows, channel 1 columns.

    Raises:
        InvalidType, InvalidValue: For other arguments.

    >>> air = Turbulence(cn2=1e-13)
    >>> fields = displacement_field(air, 16, batch=500, generator=torch.Generator().manual_seed(0))
    >>> fields.shape, round(air.variance, 2), round(fields.square().mean().item(), 2)
    (torch.Size([500, 2, 16, 16]), 2.09, 2.04)
    """
    count = checked_int("batch", batch, least=1)
    made, like = _prepared(turbulence, size, generator, device, dtype)
    return torch.stack([_field(made, _noise(made, generator, like)) for _ in range(count)])


def sequence(
    turbulence: Turbulence,
    size: int | Sequence[int],
    frames: int,
    *,
    wind: float,
    frame_rate: float,
    generator: torch.Generator,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A film: eddies are frozen, and an even wind carries them across the path (Taylor's hypothesis).

    A wave of the image is fed from many depths, and the nearer the eddy, the faster it crosses the view. Each wave is
    given one depth, drawn from the distribution of its variance over depth, so that all covariances in space and time
    are the model's. In wind, what is finer than pixels is drawn anew. The first frame is what `displacement_field`
    draws. Of *frames* T, with *wind* (m/s, >= 0) towards larger columns and *frame_rate* frames a second, all else as
    there, it is (T, 2, H, W), in pixels: channel 0 rows, channel 1 columns.

    Raises:
        InvalidType, InvalidValue: For other arguments.

    >>> film = sequence(Turbulence(), 32, 4, wind=2.0, frame_rate=50.0, generator=torch.Generator().manual_seed(0))
    >>> film.shape, [round(step.square().mean().sqrt().item(), 1) for step in film - film[0]]
    (torch.Size([4, 2, 32, 32]), [0.0, 0.6, 1.0, 1.4])
    """
    count = checked_int("frames", frames, least=1)
    check_number("wind", wind, least=0, unit=" m/s")
    check_number("frame_rate", frame_rate, above=0, unit=" a second")
    made, like = _prepared(turbulence, size, generator, device, dtype)
    grid, slow, fine = _noise(made, generator, like)
    of_grid, of_slow = (_turn(turbulence, f, wind / frame_rate, generator) for f in frequencies(height_width(size, 1)))
    film = [_field(made, (grid, slow, fine))]
    for _ in range(count - 1):
        grid, slow = grid * of_grid.to(grid), slow * of_slow.to(slow)
        fine = _normal(fine.shape, generator, like) if wind else fine
        film.append(_field(made, (grid, slow, fine)))
    return torch.stack(film)


def frame_field(
    turbulence: Turbulence,
    size: int | Sequence[int],
    time: int,
    *,
    wind: float,
    frame_rate: float,
    generator: torch.Generator,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Frame *time*, >= 0, of a film as `sequence` draws them, without those before it: (2, H, W), in pixels.

    A film is the same state of *generator* for each of its frames. Frame 0 is what `displacement_field` draws, and in
    no wind so are all; what is finer than pixels is, in a wind, each frame's own.

    Raises:
        InvalidType, InvalidValue: For other arguments.

    >>> air, draw = Turbulence(), lambda: torch.Generator().manual_seed(0)
    >>> first = frame_field(air, 16, 0, wind=2.0, frame_rate=50.0, generator=draw())
    >>> torch.equal(first, displacement_field(air, 16, generator=draw())[0])
    True
    """
    checked_int("time", time, least=0)
    check_number("wind", wind, least=0, unit=" m/s")
    check_number("frame_rate", frame_rate, above=0, unit=" a second")
    made, like = _prepared(turbulence, size, generator, device, dtype)
    grid, slow, fine = _noise(made, generator, like)
    if not (wind and time):
        return _field(made, (grid, slow, fine))
    blown = time * wind / frame_rate
    turns = [_turn(turbulence, f, blown, generator).to(grid) for f in frequencies(height_width(size, 1))]
    first = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    own = torch.Generator(generator.device).manual_seed(first + time)
    return _field(made, (grid * turns[0], slow * turns[1], _normal(fine.shape, own, like)))


def _prepared(
    turbulence: Turbulence,
    size: int | Sequence[int],
    generator: torch.Generator,
    device: torch.device | str | None,
    dtype: torch.dtype,
) -> tuple[Waves, Tensor]:
    """The waves, and an empty tensor like the fields that are wanted."""
    if not isinstance(turbulence, Turbulence):
        raise InvalidType(f"turbulence={turbulence!r}: expected a smp_feedback.data.turbulence.Turbulence.")
    if not isinstance(generator, torch.Generator):
        raise InvalidType(f"generator={generator!r}: expected a torch.Generator.")
    if dtype not in (torch.float32, torch.float64):
        raise InvalidType(f"dtype={dtype!r}: expected torch.float32 or torch.float64.")
    like = torch.empty(0, dtype=dtype, device=generator.device if device is None else device)
    return waves(turbulence, height_width(size, least=1), dtype, like.device), like


def _field(made: Waves, noise: Noise) -> Tensor:
    """(2, H, W): the gradient of one scalar field, as far as the grid can tell."""
    grid, slow, fine = noise
    aliases = torch.stack([made.fine[0] * fine[0], made.fine[1] * fine[0] + made.fine[2] * fine[1]])
    spectrum = 1j * made.grid * grid + aliases
    own = spectrum[..., [0, -1]]  # both halves of the plane share these columns: a real field has them mirrored
    spectrum[..., [0, -1]] = (own + own.flip(-2).roll(1, -2).conj()) / 2**0.5
    height, width = len(made.rows), made.columns.shape[1]
    fast = torch.fft.irfft2(spectrum, s=made.period, norm="forward")[:, :height, :width]
    wave = ((1j * made.slow * slow)[:, None] * made.rows) @ made.columns
    field: Tensor = fast + wave.real
    return field


def _noise(made: Waves, generator: torch.Generator, like: Tensor) -> Noise:
    shape = made.grid.shape[1:]
    drawn = [_normal(of, generator, like) for of in (shape, made.slow.shape[1:], (2, *shape))]
    return drawn[0], drawn[1], drawn[2]


def _normal(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    parts = torch.randn(*shape, 2, generator=generator, dtype=torch.float32, device=generator.device)
    return torch.view_as_complex(parts.to(like))


def _turn(turbulence: Turbulence, frequency: Array, step: float, generator: torch.Generator) -> Tensor:
    """What a wind that goes *step* metres a frame does to each wave from one frame to the next; complex."""
    chosen = torch.rand(frequency.shape[1:], generator=generator, dtype=torch.float64, device=generator.device)
    phase = torch.from_numpy(step * crossing(turbulence, frequency, chosen.cpu().numpy()))
    return torch.polar(torch.ones_like(phase), -phase)
