"""One frozen value for each loop, validated at birth; this is what all of them do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

from smp_feedback.errors import InvalidValue, UnknownKeyword, nearest

C = TypeVar("C", bound="LoopConfig")


class GradientFlow(NamedTuple):
    """How gradients flow through time: one value, honoured by every loop.

    Attributes:
        steps: The last steps that carry gradient; None is all of them.
        detach: Each step on its own: no gradient crosses from one step to the one before.
        recompute: Keep only the states and run each step again in the backward pass.
    """

    steps: int | None = None
    detach: bool = False
    recompute: bool = False


class LoopConfig:
    """What every loop's config does: to a dict and back, with unknown keys refused."""

    loop: ClassVar[str]

    @property
    def state_channels_fed_back(self) -> int:
        """How many channels of a state are fed back: those of the base's own loop, if it has one."""
        own: LoopConfig | None = getattr(self, "base", None)
        return 0 if own is None else own.state_channels_fed_back

    @property
    def is_data_dependent(self) -> bool:
        """Whether the images decide how many steps are run, so that they are no fixed graph."""
        return getattr(self, "tolerance", None) is not None

    @property
    def flow(self) -> GradientFlow:
        """How gradients flow through time, as one value, of a loop that has a say in it."""
        said = (getattr(self, name, False) for name in ("detach", "recompute"))
        return GradientFlow(getattr(self, "grad_steps", None), *said)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the loop's name and every field; the base's own loop as a dict, too."""
        return {"loop": self.loop} | {f.name: _plain(getattr(self, f.name)) for f in fields(cast(Any, self))}

    @classmethod
    def from_dict(cls: type[C], values: Mapping[str, Any]) -> C:
        """The inverse of :meth:`to_dict`; a key that is no field is an error."""
        loop = values.get("loop", cls.loop)
        if str(loop).lower() != cls.loop.lower():
            raise InvalidValue(f"loop={loop!r}: {cls.__name__} is the config of the loop {cls.loop!r}.")
        types = {f.name: str(f.type) for f in fields(cast(Any, cls))}
        known = list(types)
        given = {
            k: math.inf if v == "inf" and "float" in types.get(k, "") else v for k, v in values.items() if k != "loop"
        }
        for key in given:
            if key not in known:
                raise UnknownKeyword(f"{cls.__name__} has no field {key!r}. {nearest(key, known, most=len(known))}")
        return cls(**given)


def _plain(value: Any) -> Any:
    if isinstance(value, LoopConfig):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return "inf" if value == math.inf else value
