"""A person who clicks on an image in the page: where the clicks are, what the model makes of them, and the mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from smp_feedback.app.looks import Labels, on_page, resized
from smp_feedback.app.served import ServedModel
from smp_feedback.data.clicks.session import Clicks
from smp_feedback.errors import InvalidValue
from smp_feedback.ops.maps import Size, resize, size_of
from smp_feedback.plotting.legend import as_picture, covered
from smp_feedback.plotting.overlay import RGB
from smp_feedback.training.label_pictures import label_picture
from smp_feedback.training.own_maps import save_map

OBJECT, INSIDE, OUTSIDE = (0, 114, 178), (0, 158, 115), (213, 94, 0)
"""Colours of the object, and of clicks in it and out of it."""
DOT = 5  # px of radius


@dataclass(frozen=True)
class Clicking:
    """An image that is being clicked on.

    Attributes:
        name: Of its file, without the ending.
        picture: The image at its own size.
        small: The same, as large as it is on the page.
        session: The clicks so far, on the image as the model is shown it.
    """

    name: str
    picture: RGB
    small: RGB
    session: Clicks

    @property
    def size(self) -> Size:
        """Height and width of the image."""
        return self.picture.shape[0], self.picture.shape[1]

    @property
    def shown(self) -> Size:
        """Height and width of what the model is shown."""
        return size_of(self.session.image)

    def labels(self) -> Labels:
        """1 where the object is, 0 elsewhere, at the image's own size: the chances, resized, above a half."""
        chance = resize(self.session.chance[None, None].float(), self.size)[0, 0]
        return (chance > 0.5).to(torch.uint8).cpu().numpy()


def begin(found: ServedModel, path: Path) -> Clicking:
    """The image at *path*, on which nobody has clicked yet.

    Raises:
        InvalidInput: If it cannot be read, or the model cannot take it.
    """
    files = found.files(path)
    picture = as_picture(files.whole(0))
    size = picture.shape[0], picture.shape[1]
    session = Clicks(found.model, files[0][0], how=found.config.clicks)
    return Clicking(path.stem, picture, resized(picture, size), session)


def click(found: ServedModel, one: Clicking, x: int, y: int, *, inside: bool) -> Clicking:
    """A click at column *x*, row *y* of the picture on the page: on the object, or, if not *inside*, beside it."""
    height, width = on_page(one.size)
    rows, columns = one.shown
    row = min(max(0, (2 * y + 1) * rows // (2 * height)), rows - 1)
    column = min(max(0, (2 * x + 1) * columns // (2 * width)), columns - 1)
    with found.working():
        one.session.click(row, column, inside)
    return one


def undo(one: Clicking) -> Clicking:
    """Without the last click; as it is where there was none."""
    if len(one.session):
        one.session.undo()
    return one


def reset(one: Clicking) -> Clicking:
    """Without any click."""
    while len(one.session):
        one.session.undo()
    return one


def drawn_clicks(one: Clicking) -> RGB:
    """The object over the image, and a dot for each click, as they are on the page."""
    labels = Image.fromarray(one.labels()).resize(one.small.shape[1::-1], Image.Resampling.NEAREST)
    page = Image.fromarray(covered(one.small.copy(), [(OBJECT, np.asarray(labels) > 0)]))
    pen, (rows, columns) = ImageDraw.Draw(page), one.shown
    for row, column, inside in one.session.clicks:
        y, x = (row + 0.5) * page.height / rows, (column + 0.5) * page.width / columns
        box = (x - DOT, y - DOT, x + DOT, y + DOT)
        pen.ellipse(box, fill=INSIDE if inside else OUTSIDE, outline="white", width=2)
    return np.asarray(page)


def clicks_in_words(one: Clicking) -> str:
    """How many clicks there are, and how large the object is."""
    count = len(one.session)
    if not count:
        return "Click on the object."
    share = 100 * float(one.labels().mean())
    return f"{count} click{'s' * (count != 1)}; the object has {share:.1f} % of the image."


def export_object(one: Clicking, folder: Path) -> Path:
    """Write the mask, 1 for the object, at the image's own size, as PNG.

    Raises:
        InvalidValue: If there was no click.
    """
    if not len(one.session):
        raise InvalidValue("There is no mask yet: click on the object first.")
    picture = label_picture(one.labels(), 2)
    return save_map(picture, folder / f"{one.name}.png")
