"""ERFNet, a fast network of factorised convolutions, as a base model for ``smp_feedback``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smp_feedback_erfnet.erfnet import ERFNet as ERFNet
    from smp_feedback_erfnet.weights import encoder_weights_of as encoder_weights_of

__version__ = "0.1.0"
__all__ = ["ERFNet", "encoder_weights_of"]

_HOMES = {"ERFNet": "erfnet", "encoder_weights_of": "weights"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
