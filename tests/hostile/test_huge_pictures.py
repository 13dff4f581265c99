"""Pictures whose heads announce more than is there, or than is wanted: refused before a pixel is decoded."""

from __future__ import annotations

import base64
import io
import json
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageFile

from smp_feedback.data.formats.labelme import LabelMe, outlined
from smp_feedback.data.images.limits import BYTES, LIFTED, MOST, check_size, most_pixels
from smp_feedback.data.images.reader import ImageReader, head_of
from smp_feedback.data.masks.files import read_mask
from smp_feedback.errors import FeedbackError, InvalidInput, InvalidValue

SIDE = 60_000


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(path):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b""))


def patched(path, format, old, new):
    """A picture of 257 x 258 pixels whose size, as *format* writes it, is another."""
    file = io.BytesIO()
    Image.new("RGB", (258, 257)).save(file, format=format)
    content = file.getvalue()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def jpeg(path):
    patched(path, "JPEG", struct.pack(">HH", 257, 258), struct.pack(">HH", SIDE, SIDE))


def bmp(path):
    patched(path, "BMP", struct.pack("<ii", 258, 257), struct.pack("<ii", SIDE, SIDE))


def gif(path):
    Image.new("P", (258, 257)).save(path, format="GIF")
    path.write_bytes(path.read_bytes().replace(struct.pack("<HH", 258, 257), struct.pack("<HH", SIDE, SIDE)))


def ppm(path):
    path.write_bytes(f"P6\n{SIDE} {SIDE}\n255\n".encode() + bytes(99))


def tiff(path, **how):
    tifffile.imwrite(path, np.zeros((8, 9), np.uint8), **how)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            file.pages[0].tags[tag].overwrite(SIDE)


def big_tiff(path):
    tiff(path, bigtiff=True)


def deflated_tiff(path):
    tiff(path, compression="zlib")


HEADS = [png, jpeg, bmp, gif, ppm, tiff, big_tiff, deflated_tiff]


@pytest.fixture
def undecoded(monkeypatch):
    """Whoever decodes a pixel fails."""

    def decoded(*_, **__):
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", decoded)


@pytest.mark.parametrize("forged", HEADS)
@pytest.mark.parametrize("read", [ImageReader().read, head_of, ImageReader().channels_of, read_mask])
def test_a_gigapixel_head_is_refused_by_its_size(forged, read, tmp_path, undecoded):
    path = tmp_path / "a.picture"
    forged(path)
    with pytest.raises(InvalidInput, match=rf"a\.picture.*{SIDE} x {SIDE} pixels.*{LIFTED} to {SIDE**2}"):
        read(path)


def test_without_tifffile_too(tmp_path, undecoded, monkeypatch):
    from smp_feedback.data.images import tiff as reader

    monkeypatch.setattr(reader, "find_spec", lambda name: None)
    tiff(tmp_path / "a.tif")
    with pytest.raises(InvalidInput, match=LIFTED):
        ImageReader().read(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "gif", "webp"])
def test_the_limit_is_what_the_environment_says(suffix, tmp_path, monkeypatch):
    path = tmp_path / f"a.{suffix}"
    Image.new("L", (12, 11)).save(path)
    monkeypatch.setenv(LIFTED, "131")
    with pytest.raises(InvalidInput, match=f"{LIFTED} to 132"):
        ImageReader().read(path)
    monkeypatch.setenv(LIFTED, "132")
    assert ImageReader().read(path).shape == (3, 11, 12)


@pytest.mark.parametrize("said", ["", "many", "0", "-3", "1.5"])
def test_a_limit_that_is_none_is_refused(said, monkeypatch):
    monkeypatch.setenv(LIFTED, said)
    with pytest.raises(InvalidValue, match=LIFTED):
        most_pixels()


def test_what_cameras_and_satellites_make_is_read():
    for size, nbytes in (((8736, 11648), 0), ((10_980, 10_980), 10_980**2 * 13 * 2), ((16_383, 16_383), 0)):
        check_size("a.tif", size, nbytes)
    with pytest.raises(InvalidInput):
        check_size("a.tif", (1, MOST + 1))
    with pytest.raises(InvalidInput, match=f"{LIFTED} to {2 * MOST}"):
        check_size("a.tif", (10, 10), 2 * BYTES * MOST)


def test_pillows_own_limit_is_neither_needed_nor_changed(tmp_path, monkeypatch):
    Image.new("L", (12, 11)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # an error beyond 20
    assert ImageReader().read(tmp_path / "a.png").shape == (3, 11, 12)
    assert read_mask(tmp_path / "a.png").values.shape == (11, 12)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("kind", ["png", "tiff", "text"])
def test_what_inflates_beyond_its_head_is_not_inflated(kind, tmp_path):
    """60 MB of zeros in 300 kB: neither read nor asked for."""
    path, bomb = tmp_path / "a.picture", zlib.compress(bytes(60_000_000), 1)
    if kind == "tiff":
        tifffile.imwrite(path, np.zeros((8, 9), np.uint8), compression="zlib")
        with tifffile.TiffFile(path, mode="r+b") as file:
            page = file.pages[0]
            page.tags["StripByteCounts"].overwrite(len(bomb))
            page.tags["StripOffsets"].overwrite(path.stat().st_size)
        path.write_bytes(path.read_bytes() + bomb)
    else:
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 8, 8, 0, 0, 0, 0))
        text = chunk(b"zTXt", b"a\0\0" + bomb) if kind == "text" else b""
        pixels = chunk(b"IDAT", bomb if kind == "png" else zlib.compress(bytes(80)))
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + text + pixels + chunk(b"IEND", b""))
    tracemalloc.start()
    try:
        image = ImageReader().read(path)
    except FeedbackError as error:
        image = str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
    assert "a.picture" in image if isinstance(image, str) else image.shape == (3, 8, 9)


def test_outlines_on_a_gigapixel_are_refused(tmp_path):
    mask = io.BytesIO()
    png(tmp_path / "mask.png")
    mask.write((tmp_path / "mask.png").read_bytes())
    shape = {"shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": base64.b64encode(mask.getvalue()).decode()}
    with pytest.raises(InvalidInput, match=LIFTED):
        outlined(shape, (4, 4))
    for size in ((4, 4), (SIDE, SIDE)):
        Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
        told = {"imageHeight": size[0], "imageWidth": size[1], "shapes": []}
        (tmp_path / "a.json").write_text(json.dumps(told))
        data = LabelMe.labels
        source = type("Source", (), {"classes": ["a"], "ignore_index": None})()
        if size == (4, 4):
            assert data(source, tmp_path / "a.json").shape == size
        else:
            with pytest.raises(InvalidInput, match=LIFTED):
                data(source, tmp_path / "a.json")


def test_a_film_of_gigapixels_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("av")
    from smp_feedback.data import VideoFrames, write_video

    path = write_video(tmp_path / "a.mp4", [torch.zeros(3, 16, 18)] * 2, 5)
    monkeypatch.setenv(LIFTED, "100")
    with pytest.raises(InvalidInput, match=rf"a\.mp4.*{LIFTED} to 288"):
        VideoFrames(path)
