"""Hot air in a wind, before the frames of a film."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from smp_feedback.checks import check_number
from smp_feedback.data.items import Corruption
from smp_feedback.data.turbulence.fields import frame_field
from smp_feedback.data.turbulence.medium import Turbulence
from smp_feedback.data.turbulence.simulator import air_of, distort, preset
from smp_feedback.errors import InvalidType


class Wind:
    """Each frame of a film as it is seen through the same air, which a wind carries past.

    Args:
        air: Air and camera, or the name of one of `turbulence.PRESETS`.
        speed: Of the wind towards larger columns, in m/s, >= 0; in a calm, the air stands still.
        frame_rate: Frames a second, > 0.

    Raises:
        UnknownName, InvalidType, InvalidValue: For what is none of these.

    >>> wind = Wind("mild", 2.0)
    >>> wind.seen(torch.rand(3, 32, 32), torch.Generator().manual_seed(0), time=5).shape
    torch.Size([3, 32, 32])
    """

    def __init__(self, air: Turbulence | str, speed: float, frame_rate: float = 25.0) -> None:
        self.air = preset(air) if isinstance(air, str) else air
        if not isinstance(self.air, Turbulence):
            raise InvalidType(f"air={air!r}: expected a Turbulence, or the name of a preset.")
        check_number("wind", speed, least=0, unit=" m/s")
        check_number("frame_rate", frame_rate, above=0, unit=" a second")
        self.speed, self.frame_rate = speed, frame_rate

    def seen(self, image: Tensor, generator: torch.Generator, time: int) -> Tensor:
        """Frame *time*, *image* (C, H, W), of a film whose air is drawn from *generator*: the same for each frame."""
        size = image.shape[-2:]
        how: Any = {"wind": self.speed, "frame_rate": self.frame_rate, "generator": generator}
        single = torch.float64 if image.dtype == torch.float64 else torch.float32
        field = frame_field(self.air, (size[0], size[1]), time, device=image.device, dtype=single, **how)
        return distort(image, field)


def of_wind(values: Mapping[str, float], speed: float, frame_rate: float = 25.0) -> Corruption:
    """Air and camera in a wind, as a corruption that goes on from frame to frame of a film, whatever the severity.

    Args:
        values: What `Turbulence` takes, by name.
        speed: See `Wind`.
        frame_rate: Likewise.

    Raises:
        UnknownKeyword, InvalidType, InvalidValue: As `of_air` and `Wind`.

    >>> seen = of_wind({"cn2": 1e-12, "path": 500.0}, speed=2.0)
    >>> seen(torch.rand(3, 32, 32), 1, torch.Generator().manual_seed(0), time=3).shape
    torch.Size([3, 32, 32])
    """
    return functools.partial(_seen, Wind(air_of(values), speed, frame_rate))


def _seen(wind: Wind, image: Tensor, severity: int, generator: torch.Generator, *, time: int = 0) -> Tensor:
    return wind.seen(image, generator, time)
