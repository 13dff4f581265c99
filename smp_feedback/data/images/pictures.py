"""JPEG, PNG, WebP, BMP, GIF and the like, through Pillow, and through imagecodecs where Pillow would drop bits."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from smp_feedback.data.images.limits import opened_picture
from smp_feedback.data.images.raster import Head, PixelLayout, Pixels, Raster, upright, upright_size, whole
from smp_feedback.errors import InvalidInput

FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "WEBP")
LAYOUTS = {  # Pillow's modes, after `_plain`
    "L": PixelLayout(bands=1),
    "LA": PixelLayout(bands=2, alpha=1),
    "RGB": PixelLayout(bands=3),
    "RGBA": PixelLayout(bands=4, alpha=3),
}
DEEP = {mode: replace(plain, kind="uint16", white=65535) for mode, plain in LAYOUTS.items()}
KINDS = {0: "L", 2: "RGB", 4: "LA", 6: "RGBA"}  # PNG's own numbers of what a pixel is
PLAIN = {"1": "L", "P": "RGB", "PA": "RGBA", "CMYK": "RGB"}  # modes that are shown as another
PALETTE = 3
ORIENTATION = 0x0112  # EXIF's tag, and TIFF's
PNM = re.compile(rb"P[2356](?:\s+|#[^\n]*\n)+\d+(?:\s+|#[^\n]*\n)+\d+(?:\s+|#[^\n]*\n)+(\d+)\s")


def head(path: Path) -> Head:
    """What the tags of *path* say."""
    with opened_picture(path, path, FORMATS) as picture:
        turn = orientation(picture)
        return Head(_layout(path, picture), upright_size((picture.height, picture.width), turn), turn)


def decode(path: Path) -> Raster:
    """All of *path*.

    Raises:
        InvalidInput: If it has several frames, or more bits than can be had.
        Exception: Whatever the decoder stumbles over.
    """
    with opened_picture(path, path, FORMATS) as picture:
        layout, size = _layout(path, picture), (picture.height, picture.width)
        values = _sixteen_bits(path, picture) if layout.kind == "uint16" else np.asarray(_plain(picture))
        values = values if values.ndim == 3 else values[..., None]
        return Raster(values=upright(whole(path, values, size, layout), orientation(picture)), layout=layout)


def _layout(path: Path, picture: Any) -> PixelLayout:
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # a phone's first picture is the photo, the others are its previews
        raise InvalidInput(f"{path}: expected one picture, found {frames} frames of an animation; save each as a file.")
    depth, kind = _png_head(path) if picture.format == "PNG" else (8, None)
    if depth != 8 and kind != PALETTE and "transparency" in picture.info:
        raise InvalidInput(
            f"{path}: a PNG of {depth} bits in which one colour stands for transparent cannot be read whole; save it "
            "without transparency."
        )
    if depth == 16 and kind is not None:
        return DEEP[KINDS[kind]]
    if picture.format == "PPM" and _brightest(path) > 255:
        raise InvalidInput(f"{path}: PGM and PPM are read up to 8 bits; save it as 16-bit PNG or TIFF.")
    mode = _target(picture)
    if mode not in LAYOUTS:
        raise InvalidInput(f"{path}: expected grey or colours of 8 or 16 bits, found Pillow's mode {picture.mode!r}.")
    return LAYOUTS[mode]


def _target(picture: Any) -> str:
    mode: str = PLAIN.get(picture.mode, picture.mode)
    return f"{mode}A" if "transparency" in picture.info and mode in ("L", "RGB") else mode


def _plain(picture: Any) -> Any:
    """Palettes by their colours, ink as light, one bit as black and white."""
    return picture if (mode := _target(picture)) == picture.mode else picture.convert(mode)


def orientation(picture: Any) -> int:
    """Of the rows as they are stored, by EXIF."""
    found = picture.getexif().get(ORIENTATION, 1)
    return found if isinstance(found, int) else 1


def _png_head(path: Path) -> tuple[int, int]:
    """Bits of a channel, and PNG's number of what a pixel is."""
    with path.open("rb") as file:
        head = file.read(26)
    return head[24], head[25]


def _brightest(path: Path) -> int:
    """The value of white that a PGM or PPM declares; a PBM is black and white."""
    with path.open("rb") as file:
        found = PNM.match(file.read(4096))
    return int(found[1]) if found else 1


def _sixteen_bits(path: Path, picture: Any) -> Pixels:
    """A PNG of 16 bits: Pillow would drop the low eight of each colour, but not those of grey."""
    if picture.mode.startswith("I"):
        return np.asarray(picture).astype(np.uint16)
    if find_spec("imagecodecs") is None:
        raise InvalidInput(f'{path}: to read 16 bits of a colour, pip install "smp_feedback[tiff]".')
    import imagecodecs

    values: Pixels = imagecodecs.png_decode(path.read_bytes())
    return values
