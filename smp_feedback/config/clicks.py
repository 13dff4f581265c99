"""How a model hears of clicks: saved with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from smp_feedback.checks import check_bool, check_fields, check_number, check_whole


@dataclass(frozen=True, kw_only=True)
class ClickConfig:
    """What a model that listens to clicks is shown beside the image, and what goes on from click to click.

    Args:
        radius: Of the disc around each click, in pixels; below 1 a share of the image's shorter side. 5 as in RITM
            (arXiv 2102.06583).
        mask: Whether the answer before is one more channel, as in RITM; it is also how a mask of another model, or of
            the last frame, gets in.
        carry: Whether the state goes on from click to click, for dynamics that carry it.
        looks: Looks at the image for each click, >= 1.

    Raises:
        InvalidType, InvalidValue: At birth, naming the field.

    >>> ClickConfig(mask=True).channels, ClickConfig.from_dict(ClickConfig(radius=3).to_dict())
    (3, ClickConfig(radius=3, mask=False, carry=True, looks=1))
    """

    radius: float = 5
    mask: bool = False
    carry: bool = True
    looks: int = 1

    def __post_init__(self) -> None:
        check_number("radius", self.radius, above=0)
        check_bool("mask", self.mask)
        check_bool("carry", self.carry)
        check_whole("looks", self.looks)

    @property
    def channels(self) -> int:
        """Channels beside those of the image."""
        return 2 + self.mask

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: every field."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClickConfig:
        """The inverse of :meth:`to_dict`.

        Raises:
            InvalidType: If *values* is no mapping.
            UnknownKeyword: For a key that is no field.
        """
        check_fields(cls, values)
        return cls(**values)
