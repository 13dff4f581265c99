"""What is saved of a look."""

from __future__ import annotations

from collections.abc import Mapping

import torch
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
    state = saved["state"]
    streams = state.shape[:1]
    shapes = {"looks": streams, "index": (), "size": (2,), "before": state.shape, "began": streams}
    if state.ndim != 4 or any(saved[name].shape != shape for name, shape in shapes.items() if name in saved):
        found = ", ".join(f"{name} {tuple(x.shape)}" for name, x in saved.items())
        raise InvalidInput(
            f"A saved look of {found}: expected a state (B, C, h, w), as before, looks (B,), as began, index () and "
            "size (2,)."
        )
    _check_numbers(saved)


def _check_numbers(saved: Mapping[str, Tensor]) -> None:
    """What is counted is counted in whole numbers, from where counting begins; a state is in others."""
    for name, least in (("looks", 0), ("index", 0), ("size", 1), ("began", 0)):
        if name in saved and (saved[name].dtype != torch.int64 or bool((saved[name] < least).any())):
            raise InvalidInput(f"A saved look whose {name} is {saved[name].tolist()}: expected int64, {least} or more.")
    if not saved["state"].is_floating_point():
        raise InvalidInput(f"A saved look whose state is {saved['state'].dtype}: expected floating point.")
