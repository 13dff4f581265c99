"""Answers as outlines: GeoJSON, a file an image, or COCO's instances, one file for all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smp_feedback.data.images.georeference import Georeference

Layer = NDArray[Any]
"""What is to be outlined (H, W): 0 where nothing is, and elsewhere a label + 1."""


def write_geojson(
    path: Path, layers: Iterable[Layer], classes: Sequence[str], place: Georeference | None, min_area: int = 1
) -> int:
    """Write one feature for each connected patch of each of *layers*; returns how many there are.

    Corners are corners of pixels: of the map where the image lies somewhere, else of the image, (0, 0) its upper left
    one, x to the right and y down. Patches are connected through their sides. A feature's properties are ``class``,
    ``label``, ``area_px`` and, where a pixel has a size in metres, ``area_m2``.

    Args:
        path: Where to.
        layers: The labels to outline, several where they overlap.
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
        for layer in layers:
            for label, area, outline in _patches(layer, place, min_area):
                told = json.dumps({"class": classes[label], "label": label, **area})
                file.write(f'{"," * (count > 0)}\n{{"type": "Feature", "properties": {told}, "geometry": {outline}}}')
                count += 1
        file.write("\n]}\n")
    return count


def _patches(layer: Layer, place: Georeference | None, min_area: int) -> Iterator[tuple[int, dict[str, float], str]]:
    """The label and the area of each connected patch, and its outline as GeoJSON, exteriors against the clock."""
    import shapely
    from rasterio.features import shapes
    from shapely.affinity import affine_transform
    from shapely.geometry.polygon import orient

    square = None if place is None else place.square_metres
    for found, value in shapes(layer, mask=layer > 0, connectivity=4):
        patch = shapely.from_geojson(json.dumps(found))
        area = round(patch.area)
        if area < min_area:
            continue
        if place is not None:
            t = place.transform
            patch = affine_transform(patch, (t.a, t.b, t.d, t.e, t.c, t.f))
        metres = {} if square is None else {"area_m2": round(area * square, 6)}
        yield int(value) - 1, {"area_px": area, **metres}, shapely.to_geojson(orient(patch))


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

    def add(self, name: str, size: tuple[int, int], layers: Iterable[Layer]) -> None:
        """Note the patches of an image's *layers*; of one that comes again, those of before are forgotten."""
        entry = self.images.get(name, {"id": len(self.images) + 1, "file_name": name})
        self.images[name] = {**entry, "height": size[0], "width": size[1]}
        found = [one for layer in layers for one in self._patches(layer)]
        self.of_image[name] = [{"image_id": entry["id"], **one} for one in found]

    def _patches(self, layer: Layer) -> Iterator[dict[str, Any]]:
        from skimage import measure

        found: Any = measure
        for patch in found.regionprops(found.label(layer, connectivity=1)):
            if patch.area < self.min_area:
                continue
            top, left, bottom, right = patch.bbox
            yield {
                "category_id": self.ids[int(layer[tuple(patch.coords[0])]) - 1],
                "segmentation": run_lengths(patch.image, (top, left), layer.shape),
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


def run_lengths(patch: NDArray[np.bool_], corner: tuple[int, int], size: Sequence[int]) -> dict[str, Any]:
    """COCO's compressed run-length code of a *patch* whose upper left corner lies at *corner* of an image of *size*.

    >>> run_lengths(np.array([[True]]), (1, 2), (3, 4))
    {'size': [3, 4], 'counts': '714'}
    """
    from pycocotools import mask

    height, width = size
    rows, columns = np.nonzero(patch)
    place = np.sort((columns + corner[1]) * height + rows + corner[0])  # down each column, as COCO counts
    apart = np.diff(place) > 1
    first, last = place[np.r_[True, apart]], place[np.r_[apart, True]] + 1
    edges = np.stack([first, last], 1).ravel()
    counts = np.diff(np.r_[0, edges, height * width]).tolist()
    code = mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": code["counts"].decode("ascii")}
