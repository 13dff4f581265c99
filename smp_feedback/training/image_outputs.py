"""All that is written of one image after another: class maps, probabilities, overlays, outlines, a table of areas."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from smp_feedback.config.data import MaskValues
from smp_feedback.data.images.georeference import Georeference, georeference, write_map
from smp_feedback.data.masks.writing import as_stored, colours_of, mask_picture
from smp_feedback.ops.maps import Size
from smp_feedback.ops.reading import MULTILABEL, SEGMENTATION
from smp_feedback.saving.files import replace_file
from smp_feedback.training.answer_maps import AnswerMap, answer_map
from smp_feedback.training.label_pictures import label_picture, palette
from smp_feedback.training.outlines import CocoOutlines, write_geojson
from smp_feedback.training.output_kinds import OutputKinds, background_of
from smp_feedback.training.output_names import OutputNames, file_names, stem_of
from smp_feedback.training.own_maps import check_free, save_map
from smp_feedback.training.prediction_summary import NAMES, PredictionSummary, write_rows
from smp_feedback.training.probability_files import KINDS, write_probabilities

COCO = "annotations.json"


class ImageOutputs:
    """Writes what is asked for of each image, each file whole or not at all; one image's maps are held at a time.

    ``NAME.png`` is the class map; of a GeoTIFF also ``NAME.tif``, which lies where the image lies (with rasterio
    installed). Where a pixel may have several labels there is a ``NAME.CLASS.png`` for each class, of 0 and 1.

    Args:
        folder: Where files go.
        classes: The classes' names; None numbers them.
        task: ``segmentation`` or ``multilabel``.
        mask_values: What the masks held that were trained on, for maps that are ``masks``; their colours are those of
            maps and overlays, too.
        kinds: What is written.
        root: The folder of the images, from which COCO's file names lead on; None takes their bare names.

    Attributes:
        summary: The rows of ``summary.csv``.
        names: What names are taken.
        given: What the files of each image are called.
        annotated: What COCO's outlines call each image.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str] | None = None,
        *,
        task: str = SEGMENTATION,
        mask_values: MaskValues | None = None,
        kinds: OutputKinds | None = None,
        root: Path | None = None,
    ) -> None:
        self.folder, self.task, self.values, self.root = folder, task, mask_values, root
        self.kinds = kinds or OutputKinds()
        self.kinds.check_masks(mask_values, classes or (), layers=task == MULTILABEL)
        self.classes = () if classes is None else tuple(classes)
        self.colours = None if task == MULTILABEL else colours_of(mask_values)
        self.names = OutputNames(f".{ending}" for ending in self._endings() if task == MULTILABEL)
        self.given: dict[str, str] = {}
        self.summary: PredictionSummary | None = None
        self.coco: CocoOutlines | None = None
        self.annotated: dict[str, str] = {}

    def names_for(self, images: Sequence[str]) -> list[str]:
        """What the files of *images* are called; of one that comes again as before."""
        new = [image for image in images if image not in self.given]
        self.given |= dict(zip(new, self.names.add(new), strict=True))
        return [self.given[image] for image in images]

    def check_free(self, names: Sequence[str]) -> None:
        """Nothing but answers of before is written over by the files of images that are called *names*.

        Raises:
            InvalidValue: For what would be lost.
        """
        endings = [f".{ending}" for ending in self._endings()] if self.task == MULTILABEL else [""]
        check_free(self.folder, (f"{name}{ending}" for name in names for ending in endings))

    @property
    def renamed(self) -> dict[str, str]:
        """Images that could not keep their names, with those they got."""
        return {image: name for image, name in self.given.items() if name != stem_of(image)}

    def write(
        self,
        image: str,
        name: str,
        logits: Tensor,
        size: Size,
        *,
        looks: int | None = None,
        picture: Callable[[], Tensor] | None = None,
    ) -> None:
        """Write all files of one image.

        Args:
            image: Its path, or what else it is called.
            name: What its files are called.
            logits: Of every look, or of the last alone (T, C, h, w).
            size: (H, W) that files have.
            looks: How many it took.
            picture: Gives the image (C, H, W) of that size, for an overlay.
        """
        self._begin(logits.shape[1])
        place = georeference(image, *size)
        maps = [self._write_maps(f"{name}{ending}", part, size, place) for ending, part in self._parts(logits)]
        pixels = maps[0].pixels if self.task != MULTILABEL else np.array([one.pixels[1] for one in maps])
        if self.kinds.probabilities is not None:
            self._write_probabilities(name, logits[-1], size, place)
        if self.kinds.overlays and picture is not None:
            self._write_overlay(name, picture(), maps, pixels)
        self._outline(image, name, size, maps, pixels, place)
        doubt = float(np.mean([one.uncertainty for one in maps]))
        square = None if place is None else place.square_metres
        assert self.summary is not None
        self.summary.add(image, name, size, pixels, doubt, looks, square)

    def finish(self, summary: str | None = None) -> list[Path]:
        """Write the tables of all images so far, *summary* under another name; where they are."""
        if self.summary is None:
            return []
        tables = [self.summary.write(self.folder, *([] if summary is None else [summary]))]
        if self.renamed:
            rows = [{"image": image, "name": name} for image, name in self.renamed.items()]
            names = replace_file(self.folder / NAMES, lambda draft: write_rows(draft, ("image", "name"), rows))
            tables.append(names)
        if self.coco is not None:
            tables.append(replace_file(self.folder / COCO, self.coco.write))
        return tables

    def _begin(self, channels: int) -> None:
        if self.summary is not None:
            return
        count = channels if self.task == MULTILABEL else max(2, channels)
        if len(self.classes) == 1 and count == 2:  # one channel tells what is named from what is not
            self.classes = ("background", *self.classes)
        self.classes = self.classes or tuple(map(str, range(count)))
        self.summary = PredictionSummary(self.classes)
        if self.kinds.polygons == "coco":
            self.coco = CocoOutlines(self.classes, self._background(), self.kinds.min_area)

    def take_up(self, table: Path) -> set[str]:
        """Go on from the table of a run before, whose images are done and whose names are taken; which they are."""
        self._begin(len(self.classes))
        assert self.summary is not None
        self.summary.take_up(table)
        for row in self.summary.rows.values():
            self.names.keep(row["name"])
            self.given[row["image"]] = row["name"]
        return set(self.summary.rows)

    def _endings(self) -> list[str]:
        return file_names([name.replace(".", "_") for name in self.classes])

    def _parts(self, logits: Tensor) -> Iterator[tuple[str, Tensor]]:
        """What has a map of its own: of several labels each class, which is then a model of one channel."""
        if self.task != MULTILABEL:
            yield "", logits
            return
        for k, ending in enumerate(self._endings()):
            yield f".{ending}", logits[:, k : k + 1]

    def _write_maps(self, stem: str, logits: Tensor, size: Size, place: Georeference | None) -> AnswerMap:
        classes = logits.shape[1]
        found = answer_map(logits[-1], size, doubt=self.kinds.uncertainty)
        self._save(f"{stem}.png", self._map(found.labels, classes))
        if place is not None:
            self._place(f"{stem}.tif", found.labels, place)
        for t in range(len(logits) if self.kinds.looks else 0):
            self._save(f"{stem}.look_{t + 1}.png", self._map(answer_map(logits[t], size).labels, classes))
        if found.doubt is not None:
            self._save(f"{stem}.uncertainty.png", Image.fromarray(found.doubt))
        return found

    def _map(self, labels: NDArray[Any], classes: int) -> Image.Image:
        if self.kinds.maps == "masks" and self.values is not None:
            return mask_picture(labels, self.values)
        return label_picture(labels, classes, self.colours)

    def _place(self, name: str, labels: NDArray[Any], place: Georeference) -> None:
        """Values as masks hold them; colours as those of the labels."""
        if self.kinds.maps == "masks" and self.values is not None and self.colours is None:
            stored = as_stored(labels, self.values)
            replace_file(self.folder / name, lambda draft: write_map(draft, stored, place))
            return
        colours = palette(self.colours)
        replace_file(self.folder / name, lambda draft: write_map(draft, labels, place, colours))

    def _save(self, name: str, picture: Image.Image) -> None:
        save_map(picture, self.folder / name)

    def _write_probabilities(self, name: str, logits: Tensor, size: Size, place: Georeference | None) -> None:
        kind = self.kinds.probabilities
        assert kind is not None
        path = self.folder / f"{name}{KINDS[kind]}"
        told: dict[str, Any] = {"task": self.task, "place": place, "names": self.classes}
        replace_file(path, lambda draft: write_probabilities(draft, logits, size, kind, **told))

    def _write_overlay(self, name: str, image: Tensor, maps: Sequence[AnswerMap], pixels: NDArray[np.int64]) -> None:
        from smp_feedback.plotting.legend import as_picture, covered, with_legend

        colours = palette(self.colours)[self.task == MULTILABEL :]  # the first is black, and no class is the background
        shown = [label for label in np.flatnonzero(pixels).tolist() if label != self._background()]
        painted = covered(as_picture(image), ((colours[k % 255], area) for k, area in self._regions(maps, shown)))
        page = with_legend(painted, [(self.classes[k], colours[k % 255]) for k in shown])
        draw: dict[str, Any] = {"format": "jpeg", "quality": 92, "subsampling": 0}
        replace_file(self.folder / f"{name}.overlay.jpg", lambda draft: page.save(draft, **draw))

    def _outline(
        self,
        image: str,
        name: str,
        size: Size,
        maps: Sequence[AnswerMap],
        pixels: NDArray[np.int64],
        place: Georeference | None,
    ) -> None:
        if self.kinds.polygons is None:
            return
        shown = [label for label in np.flatnonzero(pixels).tolist() if label != self._background()]
        layers = self._layers(maps, shown)
        if self.coco is not None:
            path = Path(image)
            below = self.root is not None and path.is_relative_to(self.root)
            self.annotated[image] = path.relative_to(cast(Path, self.root)).as_posix() if below else path.name
            self.coco.add(self.annotated[image], size, layers)
            return
        told: dict[str, Any] = {"classes": self.classes, "place": place, "min_area": self.kinds.min_area}
        replace_file(self.folder / f"{name}.geojson", lambda draft: write_geojson(draft, layers, **told))

    def _background(self) -> int | None:
        return None if self.task == MULTILABEL else background_of(self.classes)

    def _regions(self, maps: Sequence[AnswerMap], labels: Sequence[int]) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """Where each of *labels* is, one after another."""
        for label in labels:
            yield label, maps[label].labels > 0 if self.task == MULTILABEL else maps[0].labels == label

    def _layers(self, maps: Sequence[AnswerMap], labels: Sequence[int]) -> Iterator[NDArray[np.uint16]]:
        """Each of *labels* + 1 where it is, 0 where none of them is: one map, or one a class where they overlap."""
        if self.task == MULTILABEL:
            yield from ((maps[label].labels > 0).astype(np.uint16) * np.uint16(label + 1) for label in labels)
            return
        table = np.zeros(1 << 16, np.uint16)
        table[[*labels]] = np.array(labels, np.uint16) + 1
        yield table[maps[0].labels]
