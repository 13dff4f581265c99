"""What is saved of a look."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from smp_feedback.errors import InvalidInput, InvalidType

SAVED = "state", "looks", "index", "size"
"""What every saved look has."""
BESIDE = "before", "features", "began"
"""What it has where there is some: the state before, a classifier's features, and when each stream began."""


def check_saved(saved: object) -> None:
    """*saved* is what :meth:`Step.state_dict` gives.

    Raises:
        InvalidType: If it is no tensors by name.
        InvalidInput: If one is missing, unknown or of another shape.
    """
    if not isinstance(saved, Mapping) or not all(isinstance(x, Tensor) for x in saved.values()):
        raise InvalidType(f"{type(saved).__name__}: expected the tensors by name that step.state_dict() gave.")
    missing, unknown = [name for name in SAVED if name not in saved], sorted(saved.keys() - {*SAVED, *BESIDE})
    if missing or unknown:
        said = f"has no {missing[0]!r}" if missing else f"has {unknown[0]!r}"
        raise InvalidInput(f"A saved look has {', '.join(SAVED)}, and this one {said}; expected step.state_dict().")
    state, looks = saved["state"], saved["looks"]
    if state.ndim != 4 or looks.shape != state.shape[:1] or saved["size"].shape != (2,):
        shapes = ", ".join(f"{name} {tuple(saved[name].shape)}" for name in SAVED)
        raise InvalidInput(f"A saved look of {shapes}: expected (B, C, h, w), (B,), () and (2,).")
