"""Datasets of (image, target), by name: drawn on the fly or read from files; and what may happen to their images.

Every item is an image, float32 (3, H, W) in [0, 1], and a mask, int64 (H, W), or a label, an int64 scalar; every
dataset says what its labels mean in ``classes``, which label to leave out of losses and scores in ``ignore_index``,
and what an item is called in ``name(index)``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smp_feedback.data.checking import check_dataset
    from smp_feedback.data.cityscapes import Cityscapes
    from smp_feedback.data.classification import Classification
    from smp_feedback.data.corrupted import Corrupted
    from smp_feedback.data.counting import count_classes
    from smp_feedback.data.figures import Circles, OnePolygon, Polygons, PolygonsAndCircles
    from smp_feedback.data.folder import CAMVID_CLASSES, MaskFolder
    from smp_feedback.data.items import Sample, item_name
    from smp_feedback.data.noise import add_noise
    from smp_feedback.data.opening import open_dataset
    from smp_feedback.data.shapes import Shapes
    from smp_feedback.data.stored import StoredTriplets
    from smp_feedback.data.synthetic import Synthetic
    from smp_feedback.data.triplets import Triplets

_HOMES = {
    "CAMVID_CLASSES": "folder",
    "Circles": "figures",
    "Cityscapes": "cityscapes",
    "Classification": "classification",
    "Corrupted": "corrupted",
    "MaskFolder": "folder",
    "OnePolygon": "figures",
    "Polygons": "figures",
    "PolygonsAndCircles": "figures",
    "Sample": "items",
    "Shapes": "shapes",
    "StoredTriplets": "stored",
    "Synthetic": "synthetic",
    "Triplets": "triplets",
    "add_noise": "noise",
    "check_dataset": "checking",
    "count_classes": "counting",
    "item_name": "items",
    "open_dataset": "opening",
}

__all__ = [
    "CAMVID_CLASSES",
    "Circles",
    "Cityscapes",
    "Classification",
    "Corrupted",
    "MaskFolder",
    "OnePolygon",
    "Polygons",
    "PolygonsAndCircles",
    "Sample",
    "Shapes",
    "StoredTriplets",
    "Synthetic",
    "Triplets",
    "add_noise",
    "check_dataset",
    "count_classes",
    "item_name",
    "open_dataset",
]


def __getattr__(name: str) -> Any:
    """Imported when first used: the registry names datasets without torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
