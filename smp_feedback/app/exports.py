"""What is downloaded: a label map and an overlay, at the image's own size."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from smp_feedback.app.looks import Labels, Looked
from smp_feedback.app.pictures import legend_of, regions_of
from smp_feedback.plotting.legend import covered, with_legend
from smp_feedback.saving.files import replace_file
from smp_feedback.training.label_pictures import label_picture
from smp_feedback.training.output_names import file_names
from smp_feedback.training.own_maps import save_map, write_picture


def export_mask(looked: Looked, t: int, folder: Path) -> Path:
    """Write the label map of look *t*, from 1: the PNG that ``predict --steps t`` writes, to the bit.

    Where a pixel may have several labels there is one PNG of 0 and 1 a class, in a ZIP.
    """
    labels = looked.labels(looked.looks[t - 1])
    stem = named(looked, t)
    if labels.ndim == 2:
        picture = label_picture(labels, looked.channels, looked.colours)
        return save_map(picture, folder / f"{stem}.png")
    return replace_file(folder / f"{stem}.zip", lambda draft: _zip(draft, stem, looked.classes, labels))


def export_overlay(looked: Looked, t: int, folder: Path) -> Path:
    """Write the answer of look *t* over the image, with its legend, as PNG."""
    labels = looked.labels(looked.looks[t - 1])
    painted = covered(looked.picture.copy(), regions_of(labels, looked.colours, looked.background))
    page = with_legend(painted, legend_of(looked))
    return replace_file(folder / f"{named(looked, t)}.overlay.png", lambda draft: page.save(draft, format="png"))


def named(looked: Looked, t: int) -> str:
    """What the files of look *t* are called."""
    return looked.name if len(looked.looks) == 1 else f"{looked.name}.look_{t}"


def _zip(draft: Path, stem: str, classes: tuple[str, ...], labels: Labels) -> None:
    endings = file_names([name.replace(".", "_") for name in classes])
    with zipfile.ZipFile(draft, "w") as archive:
        for ending, one in zip(endings, labels, strict=True):
            with archive.open(f"{stem}.{ending}.png", "w") as file:
                write_picture(label_picture(np.ascontiguousarray(one), 1), file)
