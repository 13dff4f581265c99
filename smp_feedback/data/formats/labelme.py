"""LabelMe's outlines as label maps: polygons, rectangles, circles and small masks, the later on top."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from smp_feedback.data.augment import Augmentation
from smp_feedback.data.files import Root, Size, needed
from smp_feedback.data.folder import MaskFolder
from smp_feedback.data.formats.drawn import NO_CLASS, with_background
from smp_feedback.data.images.limits import check_size, opened_picture
from smp_feedback.data.masks.labels import IGNORE
from smp_feedback.data.synthetic.rasterise import Floats, Pixels, fill_circle, fill_polygon
from smp_feedback.errors import InvalidInput, InvalidValue, nearest

IGNORED_NAMES = (IGNORE, "__ignore__", "_ignore_")
CORNERS = {"polygon": 3, "rectangle": 2, "circle": 2, "mask": 2}  # points that each kind has, at least


class LabelMe(MaskFolder):
    """Images with the JSON of their outlines, as LabelMe (Wada) writes it, of the same stem.

    An outline gets the label of its name; what nobody has outlined is background (0). Of outlines that overlap the
    later lies on top. A pixel is inside where its centre is; pixel (0, 0) has its centre at (0.5, 0.5). Groups and
    flags say nothing here. What is called ``__ignore__`` is ignored.

    Args:
        split: ``train``, ``val``, ``test``, or whatever else is there.
        root: The folder that holds the splits.
        classes: Names of what is outlined, whose labels are 1, 2, ... in this order; ``background`` may be the first.
        ignore_index: What ``__ignore__`` stands for.
        images: The folder of images, see `MaskFolder`.
        annotations: That of the JSON files, or their path with ``{stem}``; None is beside the images.
        size, seed, count, transform, bands, channels, scale: See `MaskFolder`.
        val_share, test_share, split_file, folds, fold, group: Likewise.

    Raises:
        InvalidValue: If a folder or a JSON is missing, or *classes* is not given, with the names that are there.
        InvalidInput: On access, naming the file: if it has another size than its image, an outline without an area
            (a line, a point), or one of another name.
    """

    def __init__(
        self,
        split: str = "train",
        *,
        root: Root = None,
        size: Size = None,
        seed: int = 0,
        count: int | None = None,
        transform: Augmentation = None,
        classes: Sequence[str] | None = None,
        ignore_index: int | None = 255,
        images: str = "{split}",
        annotations: str | None = None,
        bands: Sequence[int] | None = None,
        channels: int | None = None,
        scale: Any = None,
        val_share: float | None = None,
        test_share: float | None = None,
        split_file: str | Path | None = None,
        folds: int | None = None,
        fold: int | None = None,
        group: str | None = None,
    ) -> None:
        top = needed("labelme", root, f"images and their JSON in {images}")
        if classes is None:
            raise InvalidValue(f"labelme: classes=None: expected the names of what is outlined{_there(top)}.")
        names = with_background(classes, ignore_index)
        options: dict[str, Any] = {"size": size, "seed": seed, "count": count, "transform": transform}
        options |= {"bands": bands, "channels": channels, "scale": scale}
        options |= {"val_share": val_share, "test_share": test_share, "split_file": split_file}
        options |= {"folds": folds, "fold": fold, "group": group}
        options |= {"images": images, "masks": _beside(images) if annotations is None else _jsons(annotations)}
        super().__init__(top, split, classes=names, ignore_index=ignore_index, **options)

    def labels(self, path: Path) -> Tensor:
        """The label map that the JSON at *path* outlines, int64 (H, W)."""
        content = _content(path)
        size = content["imageHeight"], content["imageWidth"]
        check_size(path, size)
        mask = np.zeros(size, np.int64)
        for k, shape in enumerate(content["shapes"]):
            try:
                pixels = outlined(shape, size)
            except Exception as error:  # a stranger's numbers may be anything
                told = error if isinstance(error, InvalidInput) else f"cannot be drawn ({error})."
                raise InvalidInput(f"{path}: shapes[{k}] ({shape.get('label')!r}) {told}") from error
            mask[pixels] = self._label(shape.get("label"), path)
        return torch.from_numpy(mask)

    def _label(self, name: Any, path: Path) -> int:
        if name in self.classes:
            return self.classes.index(name)
        if name in NO_CLASS:
            return 0
        if name in IGNORED_NAMES and self.ignore_index is not None:
            return self.ignore_index
        raise InvalidInput(f"{path}: {name!r} is none of classes=. {nearest(str(name), self.classes)}")


def outlined(shape: Mapping[str, Any], size: tuple[int, int]) -> Pixels:
    """The pixels of one of LabelMe's shapes, (H, W) = *size*.

    Raises:
        InvalidInput: If it has no area, or too few points; without the file's name.

    >>> outlined({"points": [[3, 2], [1, 0]], "shape_type": "rectangle"}, (3, 4)).astype(int)
    array([[0, 1, 1, 0],
           [0, 1, 1, 0],
           [0, 0, 0, 0]])
    """
    kind = shape.get("shape_type") or "polygon"
    if kind not in CORNERS:
        raise InvalidInput(f"is a {kind}, which has no area; expected {', '.join(CORNERS)}.")
    points = np.array(shape["points"], float)[:, ::-1]  # (y, x)
    if len(points) < CORNERS[kind] or not np.isfinite(points).all():
        raise InvalidInput(f"has {len(points)} points; a {kind} needs {CORNERS[kind]}, each x and y.")
    if kind == "mask":
        return _pasted(shape["mask"], points, size)
    if kind == "circle":
        radius = math.dist(*points[:2].tolist())
        return fill_circle(points[0], radius, size) if radius else np.zeros(size, bool)
    if kind == "rectangle":
        (top, left), (bottom, right) = points.min(0), points.max(0)
        points = np.array([[top, left], [top, right], [bottom, right], [bottom, left]])
    return fill_polygon(points, size)


def _pasted(encoded: str, points: Floats, size: tuple[int, int]) -> Pixels:
    """A mask of a part of the image, whose first and last pixel are *points*."""
    with opened_picture(io.BytesIO(base64.b64decode(encoded)), Path("its mask")) as picture:
        part = np.array(picture).astype(bool)
    (top, left), (bottom, right) = np.rint(points[:2]).astype(int)
    if part.shape != (bottom - top + 1, right - left + 1):
        raise InvalidInput(f"has a mask of {part.shape}; its points say {(bottom - top + 1, right - left + 1)}.")
    if min(top, left) < 0 or bottom >= size[0] or right >= size[1]:
        raise InvalidInput(f"has a mask that reaches beyond the image's {size}.")
    whole = np.zeros(size, bool)
    whole[top : bottom + 1, left : right + 1] = part
    return whole


def _beside(images: str) -> str:
    """The pattern of the JSON files that lie beside images.

    >>> _beside("{split}"), _beside("{split}/{stem}.jpg")
    ('{split}/{stem}.json', '{split}/{stem}.json')
    """
    return _jsons(images.rpartition(".")[0] + ".json" if "{stem}." in images else images)


def _jsons(annotations: str) -> str:
    return annotations if "{stem}" in annotations else f"{annotations}/{{stem}}.json"


def _content(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}: expected LabelMe's JSON, but it cannot be read ({error}).") from error
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise InvalidInput(f"{path}: expected LabelMe's JSON, with a list of shapes.")
    for side in ("imageHeight", "imageWidth"):
        if isinstance(content.get(side), bool) or not isinstance(content.get(side), int) or content[side] < 1:
            raise InvalidInput(f"{path}: {side}={content.get(side)!r}: expected a whole number of pixels.")
    return cast("Mapping[str, Any]", content)


def _there(root: Path) -> str:
    """The names of all outlines below *root*, for an error."""
    names = set()
    for path in root.rglob("*.json"):
        try:
            names |= {str(shape.get("label")) for shape in _content(path)["shapes"]}
        except InvalidInput:  # another tool's
            continue
    return f"; {root} has {', '.join(sorted(names))}" if names else ""
