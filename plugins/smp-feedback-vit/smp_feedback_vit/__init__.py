"""Vision Transformers that look again: timm's ViTs as segmenters and classifiers for ``smp_feedback``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smp_feedback_vit.classifier import ViTClassifier as ViTClassifier
    from smp_feedback_vit.segmenter import ViTSegmenter as ViTSegmenter

__version__ = "0.1.0"
__all__ = ["ViTClassifier", "ViTSegmenter"]

_HOMES = {"ViTSegmenter": "segmenter", "ViTClassifier": "classifier"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
