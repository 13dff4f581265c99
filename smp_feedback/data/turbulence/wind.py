"""Hot air in a wind, before the frames of a film."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from smp_feedback.checks import check_number
from smp_feedback.data.turbulence.fields import frame_field
from smp_feedback.data.turbulence.medium import Turbulence
from smp_feedback.data.turbulence.simulator import distort, preset
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
