"""What `predict` writes of each image, as it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smp_feedback.checks import check_choice, check_whole
from smp_feedback.config.data import MaskValues
from smp_feedback.data.formats.drawn import NO_CLASS
from smp_feedback.data.masks.writing import check_writable
from smp_feedback.errors import InvalidValue, require
from smp_feedback.training.probability_files import check_kind

MAPS = ("labels", "masks")
PROBABILITIES = ("npy", "tiff")
POLYGONS = ("geojson", "coco")


@dataclass(frozen=True, kw_only=True)
class OutputKinds:
    """What is written of each image beside its class map.

    Attributes:
        maps: ``labels`` writes the classes' numbers with a palette, ``masks`` what the masks held that were trained
            on, values or colours.
        looks: Also the map of every look.
        uncertainty: Also the entropy of the last look, a grey value a pixel.
        probabilities: ``npy`` or ``tiff``, float32 (classes, H, W); None writes none.
        overlays: Also the answer over the image, with a legend.
        polygons: ``geojson`` (a file an image) or ``coco`` (one file); None writes none.
        min_area: Pixels that an outline has at least.

    Raises:
        InvalidType, InvalidValue: At birth, for what cannot be.
        MissingExtra: If what writes it is not installed.
    """

    maps: str = "labels"
    looks: bool = False
    uncertainty: bool = False
    probabilities: str | None = None
    overlays: bool = False
    polygons: str | None = None
    min_area: int = 1

    def __post_init__(self) -> None:
        check_choice("maps", self.maps, MAPS)
        check_whole("min_area", self.min_area)
        if self.min_area != 1 and self.polygons is None:
            raise InvalidValue(f"min_area={self.min_area} is of outlines: give --polygons geojson or coco, too.")
        if self.probabilities is not None:
            check_choice("probabilities", self.probabilities, PROBABILITIES)
            check_kind(self.probabilities)
        if self.polygons is not None:
            check_choice("polygons", self.polygons, POLYGONS)
            for library in ("rasterio", "shapely") if self.polygons == "geojson" else ("skimage", "pycocotools"):
                require(library, extra="polygons")
        if self.overlays:
            require("matplotlib", extra="plot")

    def check_masks(self, values: MaskValues | None, classes: Sequence[str], *, layers: bool = False) -> None:
        """Masks with *values* can hold *classes*, if such are asked for; *layers* are one file a class.

        Raises:
            InvalidValue: If they cannot.
        """
        if self.maps == "masks" and values is not None:
            check_writable(values, ("absent", "present") if layers else classes)


def background_of(classes: Sequence[str]) -> int | None:
    """The label of the class that is none: the first, if it is called background; it is neither painted nor outlined.

    >>> background_of(("Background", "cell")), background_of(("sky", "road"))
    (0, None)
    """
    return 0 if classes and classes[0].lower() in (*NO_CLASS, "bg") else None
