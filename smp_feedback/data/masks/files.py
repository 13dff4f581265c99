"""What a file of labels holds, exactly as stored; what has blurred, hidden or left out labels is refused by name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from smp_feedback.data.images.limits import opened_picture
from smp_feedback.data.images.pictures import orientation
from smp_feedback.data.images.plain_tiff import check_strips
from smp_feedback.data.images.tiff import HEADS
from smp_feedback.data.images.unreadable import naming_file
from smp_feedback.data.masks.stored import BLUR, INVERTED, Array, Stored, alpha_of
from smp_feedback.data.masks.tiff import read_tiff
from smp_feedback.errors import InvalidInput

BLURRED = ("JPEG", "MPO", "AVIF")  # Pillow's formats that lose values
ONE_CHANNEL = ("1", "L", "P", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow's modes
MORE_CHANNELS = {"LA": 1, "RGB": 3, "RGBA": 3}  # how many of them are no alpha


def read_mask(path: Path) -> Stored:
    """The one picture that *path* holds, upright.

    Raises:
        InvalidInput: Naming the file, if it cannot be read, has several pages, or is of a kind that loses values.
    """
    with naming_file(path):
        with path.open("rb") as file:
            head = file.read(64)
        if head.startswith(HEADS) and find_spec("tifffile") is not None:
            return read_tiff(path)
        return _read_picture(path, head)


def _read_picture(path: Path, head: bytes) -> Stored:
    # of a path, Pillow would map a TIFF and not turn it
    with path.open("rb") as file, opened_picture(file, path) as picture:
        _refuse_loss(path, picture)
        if (frames := getattr(picture, "n_frames", 1)) > 1:
            raise InvalidInput(f"{path} has {frames} pages or frames; expected one: save each as a file of its own.")
        if picture.format == "TIFF":
            check_strips(path, picture)
        bits = _bits(picture, head)
        picture.load()
        if bits == 16 and picture.mode in MORE_CHANNELS:
            raise InvalidInput(f"{path}: colours of 16 bits a channel are read as 8; save it with 8 bits a channel.")
        turn = 1 if picture.format == "TIFF" else orientation(picture)  # Pillow turned a TIFF
        return _stored(path, picture, bits).turned(turn)


def _refuse_loss(path: Path, picture: Image.Image) -> None:
    lossy = picture.format == "WEBP" and _is_lossy_webp(path.read_bytes())
    lossy |= picture.format == "TIFF" and picture.info.get("compression") in ("jpeg", "tiff_jpeg")
    if lossy or picture.format in BLURRED:
        raise InvalidInput(f"{path} is a {'lossy ' if lossy else ''}{picture.format}: {BLUR}")
    if picture.format == "TIFF" and picture.getexif().get(262) == 0:
        raise InvalidInput(f"{path}: {INVERTED}")


def _is_lossy_webp(content: bytes) -> bool:
    """Whether one of the chunks of a RIFF container is of VP8's lossy kind."""
    at = 12
    while at + 8 <= len(content):
        if content[at : at + 4] == b"VP8 ":
            return True
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return False


def _bits(picture: Image.Image, head: bytes) -> int:
    """Bits a sample, of PNG and TIFF; 8 elsewhere."""
    if picture.format == "PNG":
        return head[24]
    bits = picture.getexif().get(258, 8) if picture.format == "TIFF" else 8
    return int(bits[0] if isinstance(bits, tuple) else bits)


def _stored(path: Path, picture: Image.Image, bits: int) -> Stored:
    if picture.mode == "PA":
        picture = picture.convert("RGBA")
    values = np.array(picture)
    if picture.mode in MORE_CHANNELS:
        channels = MORE_CHANNELS[picture.mode]
        alpha = alpha_of(values[..., channels]) if values.shape[2] > channels else _keyed(picture, values)
        return Stored(values[..., 0] if channels == 1 else values[..., :channels], alpha=alpha)
    if picture.mode not in ONE_CHANNEL:
        raise InvalidInput(f"{path}: expected labels or colours, found mode {picture.mode!r}; save it as RGB.")
    if picture.mode == "P":
        return _with_palette(picture, values)
    if picture.mode == "L" and bits in (2, 4):  # Pillow spreads them over 0 to 255
        values = values // (255 // (2**bits - 1))
    values = values.astype(np.uint8) if values.dtype == np.bool_ else values
    return Stored(values, alpha=_keyed(picture, values))


def _with_palette(picture: Image.Image, indices: Array) -> Stored:
    palette = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
    alpha, clear = np.full(256, 255, np.uint8), picture.info.get("transparency")
    if isinstance(clear, bytes):
        alpha[: len(clear)] = np.frombuffer(clear, np.uint8)
    elif clear is not None:
        alpha[clear] = 0
    return Stored(indices, palette, alpha_of(alpha[indices]))


def _keyed(picture: Image.Image, values: Array) -> Array | None:
    """Alpha where a PNG says that one value or colour is transparent."""
    key = picture.info.get("transparency")
    if key is None or isinstance(key, bytes):
        return None
    same = values == (bool(key) if picture.mode == "1" else np.array(key))
    return alpha_of(np.where(same.all(-1) if same.ndim == 3 else same, 0, 255).astype(np.uint8))
