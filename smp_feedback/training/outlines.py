"""Answers as outlines: GeoJSON, a file an image, or COCO's instances, one file for all."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smp_feedback.data.images.georeference import Georeference

Region = tuple[int, NDArray[np.bool_]]
"""A label, and where it is (H, W)."""


def write_geojson(
    path: Path, regions: Iterable[Region], classes: Sequence[str], place: Georeference | None, min_area: int = 1
) -> int:
    """Write one feature for each connected patch of each of *regions*; returns how many there are.

    Corners are corners of pixels: of the map where the image lies somewhere, else of the image, (0, 0) its upper left
    one, x to the right and y down. Patches are connected through their sides. A feature's properties are ``class``,
    ``label``, ``area_px`` and, where a pixel has a size in metres, ``area_m2``.

    Args:
        path: Where to.
        regions: The labels to outline.
        classes: Their names.
        place: Where the image lies.
        min_area: Pixels of a patch, at least.
    """
    count = 0
    with path.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection",\n')
        if place is not None and (name := place.urn) is not None:
            crs = {"type": "name", "properties": {"name": name}}
            file.write(f'"crs": {json.dumps(crs)},\n')
        file.write('"features": [')
        for label, pixels in regions:
            for feature in _features(pixels, place, min_area):
                feature["properties"] = {"class": classes[label], "label": label, **feature["properties"]}
                file.write(f"{',' if count else ''}\n{json.dumps(feature)}")
                count += 1
        file.write("\n]}\n")
    return count


def _features(pixels: NDArray[np.bool_], place: Georeference | None, min_area: int) -> Iterator[dict[str, Any]]:
    from rasterio.features import shapes
    from shapely.affinity import affine_transform
    from shapely.geometry import mapping, shape
    from shapely.geometry.polygon import orient

    square = None if place is None else place.square_metres
    for found, _ in shapes(pixels.astype(np.uint8), mask=pixels, connectivity=4):
        patch = shape(found)
        area = round(patch.area)
        if area < min_area:
            continue
        if place is not None:
            t = place.transform
            patch = affine_transform(patch, (t.a, t.b, t.d, t.e, t.c, t.f))
        metres = {} if square is None else {"area_m2": round(area * square, 6)}
        geometry = json.loads(json.dumps(mapping(orient(patch))))
        yield {"type": "Feature", "properties": {"area_px": area, **metres}, "geometry": geometry}


class CocoOutlines:
    """COCO's instances of image after image; categories have the classes' labels + 1 for ids, or of *background* none.

    Args:
        classes: Names of labels 0, 1, ...
        background: The label that is no category; None makes one of each.
        min_area: Pixels of a connected patch, at least.
    """

    def __init__(self, classes: Sequence[str], background: int | None = None, min_area: int = 1) -> None:
        self.min_area, self.count = min_area, 0
        shown = [label for label in range(len(classes)) if label != background]
        self.ids = {label: k for k, label in enumerate(shown, start=1)}
        self.categories = [{"id": k, "name": classes[label]} for label, k in self.ids.items()]
        self.images: dict[str, dict[str, Any]] = {}
        self.of_image: dict[str, list[dict[str, Any]]] = {}

    def add(self, name: str, size: tuple[int, int], regions: Iterable[Region]) -> None:
        """Note the patches of an image's *regions*; of one that comes again, those of before are forgotten."""
        entry = self.images.get(name, {"id": len(self.images) + 1, "file_name": name})
        self.images[name] = {**entry, "height": size[0], "width": size[1]}
        found = [one for label, pixels in regions for one in self._patches(label, pixels)]
        self.of_image[name] = [{"image_id": entry["id"], **one} for one in found]

    def _patches(self, label: int, pixels: NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
        from pycocotools import mask
        from skimage.measure import label as numbered
        from skimage.measure import regionprops

        for patch in regionprops(numbered(pixels, connectivity=1)):
            if patch.area < self.min_area:
                continue
            alone = np.zeros(pixels.shape, np.uint8, order="F")
            alone[patch.slice] = patch.image
            with warnings.catch_warnings():  # its arrays are of an older protocol than NumPy's
                warnings.simplefilter("ignore", DeprecationWarning)
                code = mask.encode(alone)
            top, left, bottom, right = patch.bbox
            yield {
                "category_id": self.ids[label],
                "segmentation": {"size": [*map(int, code["size"])], "counts": code["counts"].decode("ascii")},
                "bbox": [left, top, right - left, bottom - top],
                "area": int(patch.area),
                "iscrowd": 0,
            }

    def write(self, path: Path) -> None:
        """All of them, as COCO has them; a segmentation is a compressed run-length code, which keeps holes."""
        every = (one for name in self.images for one in self.of_image[name])
        annotations = [{"id": k, **one} for k, one in enumerate(every, start=1)]
        told = {"images": [*self.images.values()], "categories": self.categories, "annotations": annotations}
        path.write_text(json.dumps(told), encoding="utf-8")
