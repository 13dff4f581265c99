"""COCO's instances as label maps: polygons and run-length codes, of which the smaller lie on top."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smp_feedback.data.augment import Augmentation
from smp_feedback.data.files import Root, Size, by, needed, some
from smp_feedback.data.folders.finding import warn_left_out
from smp_feedback.data.formats.coco_files import CocoFile, file_name, find_annotations, find_images, unlisted
from smp_feedback.data.formats.drawn import NO_CLASS, Drawing, DrawnMasks, with_background
from smp_feedback.data.masks.labels import Labels
from smp_feedback.errors import InvalidInput, InvalidValue, require


class Coco(DrawnMasks):
    """Images with the JSON of their instances, as COCO (Lin et al. 2014) and many labelling tools write it.

    An instance gets the label of its category: those of the JSON in the order of their ids, from 1, or those that
    *classes* names, in that order; the others, and what is no instance, are background (0). Where instances overlap,
    the smaller lies on top, and of equals the later. Crowds (``iscrowd``) are ignored, unless an instance lies on
    them. Images without annotations are background. Polygons are filled by pycocotools (extra ``coco``).

    Args:
        split: ``train``, ``val``, ``test``, or whatever else is there.
        root: The folder of images and annotations.
        size, seed, count, transform, bands, channels, scale: See `MaskFolder`.
        annotations: The JSON below *root*, such as ``labels/{split}.json``; None looks where COCO, Roboflow, CVAT and
            others put it (``annotations/instances_{split}.json``, ``{split}/_annotations.coco.json``, ...).
        images: The folder of images below *root*; None looks in ``{split}``, ``images/{split}``, ``images`` and so on.
        classes: Categories that count, in order; None is all.
        ignore_index: The label of crowds.

    Attributes:
        left_out: Images of the split's folder that its JSON does not know; said once in a warning.

    Raises:
        InvalidValue: If a file is missing, with what is there, or one of *classes* is no category.
        InvalidInput: If the JSON contradicts itself, or an image has another size than it says.
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
        annotations: str | None = None,
        images: str | None = None,
        classes: Sequence[str] | None = None,
        ignore_index: int | None = 255,
        bands: Sequence[int] | None = None,
        channels: int | None = None,
        scale: Any = None,
    ) -> None:
        require("pycocotools", "coco")
        top = needed("coco", root, "images and annotations").expanduser()
        coco = CocoFile(find_annotations(top, split, annotations))
        named, self.labels = _labels(coco, classes)
        names = with_background(named, ignore_index)
        drawings, self.left_out = _drawings(coco, top, split, images)
        options = {"size": size, "transform": transform, "count": count, "seed": seed}
        reading = {"bands": bands, "channels": channels, "scale": scale}
        super().__init__(drawings, split, classes=names, ignore_index=ignore_index, **options, **reading)  # type: ignore[arg-type]

    def draw(self, drawing: Drawing, size: tuple[int, int]) -> Labels:
        """Crowds first, then instances, larger ones first."""
        entry, annotations = drawing.outlines
        said = entry.get("height", size[0]), entry.get("width", size[1])
        if said != size:
            raise InvalidInput(f"{drawing.image} has {by(size)} pixels; {drawing.file} says {by(said)}.")
        counted = [one for one in annotations if one["category_id"] in self.labels]
        layers = [
            (one, filled(one["segmentation"], size, f"{drawing.file}: annotation {one.get('id')}")) for one in counted
        ]
        mask = np.zeros(size, np.int64)
        for one, pixels in sorted(layers, key=lambda layer: (not layer[0].get("iscrowd"), -int(layer[1].sum()))):
            mask[pixels] = self._label(one, drawing.file)
        return mask

    def _label(self, annotation: Mapping[str, Any], path: Path) -> int:
        if not annotation.get("iscrowd"):
            return self.labels[annotation["category_id"]]
        if self.ignore_index is None:
            raise InvalidInput(
                f"{path}: annotation {annotation.get('id')} is a crowd; ignore_index=255 ignores crowds."
            )
        return self.ignore_index


def filled(outline: Any, size: tuple[int, int], name: str) -> NDArray[np.bool_]:
    """The pixels of polygons or of a run-length code, (H, W) = *size*.

    Raises:
        InvalidInput: After the annotation's *name*, if it is of another size, or no such code.

    >>> filled([[1, 1, 3, 1, 3, 2, 1, 2]], (3, 4), "a").astype(int)
    array([[0, 0, 0, 0],
           [0, 1, 1, 0],
           [0, 0, 0, 0]])
    """
    from pycocotools import mask as rle

    if isinstance(outline, Mapping) and list(outline["size"]) != list(size):
        raise InvalidInput(f"{name} has a run-length code of {by(outline['size'])} pixels; its image has {by(size)}.")
    try:
        if isinstance(outline, Mapping) and isinstance(outline["counts"], str):
            code = outline
        else:
            codes = rle.frPyObjects(outline, *size)
            code = rle.merge(codes) if isinstance(codes, list) else codes
        with warnings.catch_warnings():  # its arrays are of an older protocol than NumPy's
            warnings.simplefilter("ignore", DeprecationWarning)
            return np.asarray(rle.decode(code)).astype(bool)
    except Exception as error:  # pycocotools raises whatever it stumbles over
        raise InvalidInput(f"{name} cannot be drawn ({error}).") from error


def _labels(coco: CocoFile, classes: Sequence[str] | None) -> tuple[tuple[str, ...], dict[Any, int]]:
    """The classes after the background, and the label of each category; a category called background is that."""
    known = [name for name in coco.categories.values() if name.lower() not in NO_CLASS]
    if not known:
        raise InvalidInput(f"{coco.path}: expected categories, found none.")
    if classes is not None:
        checked = with_background(classes, None)
        known = list(checked[1:])
    names, labels = coco.labels(known)
    return names, labels


def _drawings(coco: CocoFile, root: Path, split: str, images: str | None) -> tuple[list[Drawing], tuple[Path, ...]]:
    """Each image with its annotations, and the images of its folder that nobody knows."""
    if not coco.images:
        raise InvalidValue(f"{coco.path}: expected images, found none.")
    names = [file_name(entry) for entry in coco.images]
    folder, own = find_images(root, split, images, names[0])
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise InvalidValue(
            f"{folder}: expected the images of {coco.path}, missing {len(missing)} of {len(names)}: {some(missing)}."
        )
    left = unlisted(folder, set(names), coco.path) if own else []
    warn_left_out(folder, left, len(names))
    pairs = zip(names, coco.images, strict=True)
    drawings = [Drawing(folder / name, coco.path, (entry, coco.annotations[entry["id"]])) for name, entry in pairs]
    return drawings, tuple(path for _, path in left)
