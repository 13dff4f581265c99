"""FCN-8s and FC-DenseNet 56, 67 and 103, at their published layer tables, as base models for ``smp_feedback``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smp_feedback_fcn.densenet import FCDenseNet as FCDenseNet
    from smp_feedback_fcn.fcn8 import FCN8s as FCN8s

__version__ = "0.1.0"
__all__ = ["FCDenseNet", "FCN8s"]

_HOMES = {"FCN8s": "fcn8", "FCDenseNet": "densenet"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
