"""Files of every kind against readers of another make: read as they read them, or refused by name."""

import contextlib
import os
import struct
import zlib

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from smp_feedback.data.images.reader import ImageReader, head_of
from smp_feedback.errors import InvalidInput

EXAMPLES = int(os.environ.get("SMP_FEEDBACK_FUZZ", "40"))  # of each; thousands where a reader changes
MANY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 40,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SIZES = st.tuples(st.integers(1, 20), st.integers(1, 20))
SEEDS = st.integers(0, 2**31)
ORIENTATIONS = st.integers(1, 8)


def turned(array, orientation):
    """The sentences of the EXIF standard, on rows and columns: where row 0 and column 0 of what is stored are seen."""
    moves = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: np.rot90(np.fliplr(a), 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(np.fliplr(a), -1),
        8: lambda a: np.rot90(a, 1),
    }
    return moves[orientation](array)


def chw(array):
    """(H, W) or (H, W, C) as (C, H, W), grey three times."""
    array = array[..., None] if array.ndim == 2 else array
    return np.ascontiguousarray(np.moveaxis(np.repeat(array, 3, 2) if array.shape[2] == 1 else array, 2, 0))


def same(tensor, array, exact=True):
    """*tensor* is *array* (C, H, W): bytes as bytes, other whole numbers as parts of their largest."""
    got = tensor.numpy()
    if array.dtype == np.uint16:
        array = (array / 65535).astype(np.float32)
    assert got.dtype == (np.uint8 if array.dtype == np.uint8 else np.float32)
    assert got.shape == array.shape
    np.testing.assert_allclose(got, array, rtol=0, atol=0 if exact and array.dtype == np.uint8 else 1e-6)


def numbers(shape, dtype, seed):
    """All that a dtype holds; floating point within what float32 tells apart."""
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return random.uniform(-1e4, 1e4, shape).astype(dtype)
    ends = np.iinfo(dtype)
    return random.integers(ends.min, ends.max, shape, dtype, endpoint=True)


# --- pictures: JPEG, PNG, WebP, BMP, GIF, PGM


def opaque(pixels, mode):
    if mode in ("LA", "RGBA"):
        pixels[..., -1] = 255
    return pixels


def as_picture(pixels, mode):
    bands = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    if mode == "1":
        return Image.fromarray(bands > 127)
    if mode == "P":
        return Image.fromarray(bands).quantize(7) if bands.ndim == 2 else Image.fromarray(bands).quantize(16)
    if mode == "CMYK":
        return Image.fromarray(pixels, "CMYK")
    return Image.fromarray(bands)


BANDS = {"1": 1, "L": 1, "LA": 2, "P": 3, "RGB": 3, "RGBA": 4, "CMYK": 4}
KINDS = [
    *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
    *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
    *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    *(("BMP", mode) for mode in ("1", "L", "P", "RGB")),
    *(("GIF", "L"), ("GIF", "P"), ("PPM", "1"), ("PPM", "L"), ("PPM", "RGB")),
]


def as_opencv_reads(path, orientation):
    """BGR to RGB; grey and colours as stored, turned by nobody."""
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if found.ndim == 3:
        found = found[..., [2, 1, 0, 3][: found.shape[2]]] if found.shape[2] >= 3 else found
    return turned(found, orientation)


@MANY
@given(kind=st.sampled_from(KINDS), size=SIZES, orientation=ORIENTATIONS, seed=SEEDS, translucent=st.booleans())
def test_a_picture_is_what_opencv_and_pillow_read(tmp_path, kind, size, orientation, seed, translucent):
    form, mode = kind
    pixels = numbers((*size, BANDS[mode]), np.uint8, seed)
    picture = as_picture(pixels if translucent else opaque(pixels, mode), mode)
    path = tmp_path / f"x.{form.lower()}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = form in ("PNG", "JPEG", "WEBP")
    picture.save(
        path, form, **({"exif": exif} if turns else {}), **({"lossless": True, "exact": True} if form == "WEBP" else {})
    )
    with Image.open(path) as file:
        seen = np.array(ImageOps.exif_transpose(file).convert("RGBA" if mode in ("LA", "RGBA") else "RGB"))
    if seen.shape[2] == 4 and (seen[..., 3] < 255).any():
        with pytest.raises(InvalidInput, match=rf"x\.{form.lower()}: .* not opaque .* bands="):
            ImageReader().read(path)
        mine = ImageReader(bands=range(1, 1 + BANDS[mode])).read(path)
        same(
            mine, chw(turned(pixels, orientation)) if mode == "RGBA" else np.moveaxis(turned(pixels, orientation), 2, 0)
        )
        return
    mine = ImageReader().read(path)
    same(mine, chw(seen[..., :3]))
    assert tuple(mine.shape[1:]) == head_of(path).size
    assert ImageReader().channels_of(path) == len(mine)
    if form in ("PNG", "JPEG", "BMP") and mode != "CMYK" and mode != "LA":
        theirs = as_opencv_reads(path, orientation if turns else 1)
        theirs = theirs[..., :3] if theirs.ndim == 3 else theirs
        atol = 3 if form == "JPEG" else 0  # another inverse transform
        np.testing.assert_allclose(mine.numpy().astype(int), chw(theirs).astype(int), rtol=0, atol=atol)
    if mode in ("L", "1") and form != "GIF":  # which has nothing but palettes
        assert len(ImageReader(channels=1).read(path)) == 1


@MANY
@given(samples=st.sampled_from([1, 3, 4]), size=SIZES, orientation=ORIENTATIONS, seed=SEEDS, clear=st.booleans())
def test_a_png_of_16_bits_keeps_them_all(tmp_path, samples, size, orientation, seed, clear):
    pixels = numbers((*size, samples), np.uint16, seed)
    if samples == 4 and not clear:
        pixels[..., 3] = 65535
    path = tmp_path / "x.png"
    path.write_bytes(with_exif(imagecodecs.png_encode(pixels if samples > 1 else pixels[..., 0]), orientation))
    theirs = cv2.imread(str(path), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    np.testing.assert_array_equal(theirs, (pixels[..., [2, 1, 0, 3][:samples]] if samples > 1 else pixels[..., 0]))
    if samples == 4 and (pixels[..., 3] < 65535).any():
        with pytest.raises(InvalidInput, match=r"x\.png: .* not opaque"):
            ImageReader().read(path)
        return
    same(ImageReader().read(path), chw(turned(pixels[..., :3], orientation)))


def with_exif(png, orientation):
    """*png* with the orientation in a chunk of EXIF, before its pixels."""
    exif = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    return png[:33] + chunk + png[33:]


# --- TIFF

COMPRESSIONS = [None, "zlib", "lzw", "packbits", "zstd", "lzma"]
DTYPES = ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"]


@st.composite
def tiffs(draw):
    """What `tifffile.imwrite` is told, and the array (H, W, bands)."""
    size, bands = draw(SIZES), draw(st.sampled_from([1, 2, 3, 4, 5, 12]))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    array = numbers((*size, bands), dtype, draw(SEEDS))
    told = {"metadata": None, "photometric": "minisblack", "planarconfig": "contig" if bands > 1 else None}
    if bands >= 3 and dtype.kind == "u" and draw(st.booleans()):
        told["photometric"] = "rgb"
    planar = bands > 1 and draw(st.booleans())
    if planar:
        told["planarconfig"] = "separate"
    told["compression"] = draw(st.sampled_from(COMPRESSIONS))
    if told["compression"] in ("zlib", "lzw", "zstd") and dtype.itemsize * 8 in (8, 16, 32) and dtype != "f2":
        told["predictor"] = draw(st.sampled_from([None, 3 if dtype.kind == "f" else 2]))
    told["tile"] = draw(st.sampled_from([None, (16, 16), (32, 16)]))
    if told["tile"] is None:
        told["rowsperstrip"] = draw(st.sampled_from([None, 1, 3]))
    told["byteorder"], told["bigtiff"] = draw(st.sampled_from("<>")), draw(st.booleans())
    extra = max(0, bands - (3 if told["photometric"] == "rgb" else 1))
    alpha = extra and draw(st.sampled_from([False, False, True]))
    if extra:
        told["extrasamples"] = ["unassalpha" if alpha and k == 0 else "unspecified" for k in range(extra)]
    orientation = draw(ORIENTATIONS)
    told["extratags"] = [(274, 3, 1, orientation, True)]
    return told, array, planar, orientation, bands - extra if alpha else None


@MANY
@given(case=tiffs(), scaled=st.booleans())
def test_a_tiff_is_what_was_written(tmp_path, case, scaled):
    told, array, planar, orientation, alpha = case
    path, dtype = tmp_path / "x.tif", array.dtype
    tifffile.imwrite(
        path, np.moveaxis(array, 2, 0) if planar else array if array.shape[2] > 1 else array[..., 0], **told
    )
    theirs = tifffile.imread(path)
    np.testing.assert_array_equal(np.moveaxis(theirs, 0, 2) if planar else theirs.reshape(array.shape), array)
    seen = turned(array, orientation)
    bands = range(1, 1 + array.shape[2]) if alpha is not None else None
    if alpha is not None and dtype in ("u1", "u2") and (array[..., alpha] < np.iinfo(dtype).max).any():
        with pytest.raises(InvalidInput, match=rf"x\.tif: .*band {alpha + 1} is alpha"):
            ImageReader().read(path)
    low, high = (0, np.iinfo(dtype).max) if dtype.kind == "u" else (-5000, 5000)
    unit = np.clip((seen.astype(np.float64) - low) / (high - low), 0, 1).astype(np.float32)
    expected = np.ascontiguousarray(np.moveaxis(unit, 2, 0)) if bands else chw(unit)
    if scaled:
        mine = ImageReader(bands=bands, scale=[low, high]).read(path)
        np.testing.assert_allclose(mine.numpy(), expected, rtol=0, atol=1e-6)
    elif dtype in ("u1", "u2"):
        mine = ImageReader(bands=bands).read(path)
        np.testing.assert_allclose(mine.numpy() / (255 if dtype == "u1" else 1), expected, rtol=0, atol=1e-6)
        assert mine.dtype == (torch.uint8 if dtype == "u1" else torch.float32)
    else:
        with pytest.raises(InvalidInput, match=rf"x\.tif: its values are {dtype.name} from .* scale"):
            ImageReader(bands=bands).read(path)
        return
    assert head_of(path).size == mine.shape[1:]
    assert head_of(path).layout.bands == array.shape[2]
    assert ImageReader(bands=bands).channels_of(path) == len(mine)


@MANY
@given(data=st.data())
def test_a_file_that_is_cut_off_is_refused_or_whole(tmp_path, data):
    """Wherever a file ends, nothing is made up for what is missing."""
    form = data.draw(
        st.sampled_from(["png", "jpg", "webp", "bmp", "tif", "tif lzw", "tif tiles", "png16", "gif", "ppm"])
    )
    array = numbers((18, 21, 3), np.uint16 if form == "png16" else np.uint8, data.draw(SEEDS))
    path = tmp_path / f"x.{form.split()[0].removesuffix('16')}"
    if form.startswith("tif"):
        how = {"lzw": {"compression": "lzw", "rowsperstrip": 4}, "tiles": {"tile": (16, 16)}}.get(form[4:], {})
        tifffile.imwrite(path, array, photometric="rgb", metadata=None, **how)
    elif form == "png16":
        path.write_bytes(imagecodecs.png_encode(array))
    else:
        Image.fromarray(array).save(path, **({"lossless": True} if form == "webp" else {}))
    before, content = ImageReader().read(path), path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with contextlib.suppress(Refused):
        assert torch.equal(before, read(path))


class Refused(Exception):
    """A file is named."""


def read(path):
    try:
        return ImageReader().read(path)
    except InvalidInput as error:
        raise (Refused if str(error).startswith(str(path)) else AssertionError)(str(error)) from None


# --- GeoTIFF, as GDAL writes and reads it


@st.composite
def geotiffs(draw):
    """What rasterio is told, the array (bands, H, W), and what is hidden, by a value or by an internal mask."""
    size, bands = draw(SIZES), draw(st.sampled_from([1, 3, 4, 7]))
    dtype = np.dtype(draw(st.sampled_from(["u1", "u2", "i2", "u4", "f4"])))
    array = numbers((bands, *size), dtype, draw(SEEDS))
    told = {"driver": "GTiff", "count": bands, "height": size[0], "width": size[1], "dtype": dtype.name}
    told |= {"compress": draw(st.sampled_from(["none", "lzw", "deflate", "packbits", "zstd"]))}
    told |= {"interleave": draw(st.sampled_from(["pixel", "band"])), "alpha": "no"}
    told |= draw(st.sampled_from([{}, {"tiled": True, "blockxsize": 16, "blockysize": 16}, {"blockysize": 1}]))
    told |= {"bigtiff": draw(st.sampled_from(["yes", "no"])), "endianness": draw(st.sampled_from(["little", "big"]))}
    if bands == 1 and dtype == "u1":
        told |= draw(st.sampled_from([{}, {"nbits": 1}, {"nbits": 2}, {"nbits": 4}]))
        array >>= np.uint8(8 - told.get("nbits", 8))
    if told["compress"] in ("lzw", "deflate", "zstd") and "nbits" not in told:
        told["predictor"] = draw(st.sampled_from([1, 3 if dtype.kind == "f" else 2]))
    hidden = draw(st.sampled_from(["nowhere", "value", "mask"]))
    return told, array, hidden, draw(st.booleans())


@MANY
@given(case=geotiffs())
def test_a_geotiff_is_what_gdal_reads(tmp_path, case):
    rasterio = pytest.importorskip("rasterio")
    told, array, hidden, overviews = case
    path, mask = tmp_path / "x.tif", np.full(array.shape[1:], 255, np.uint8)
    mask[0, 0] = 0
    if hidden == "value":
        told = {**told, "nodata": float(array[0, 0, 0])}
    place = rasterio.Affine(10, 0, 100, 0, -10, 200)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(path, "w", **told, crs="EPSG:32633", transform=place) as file:
            file.write(array)
            if hidden == "mask":
                file.write_mask(mask)
        if overviews:
            with rasterio.open(path, "r+") as file:
                file.build_overviews([2])
    with rasterio.open(path) as file:
        theirs, there = file.read(), file.read_masks() > 0
    np.testing.assert_array_equal(theirs, array)
    dtype, bits = array.dtype, told.get("nbits", array.dtype.itemsize * 8)
    low, high = (0, 2**bits - 1) if dtype.kind == "u" else (-5000, 5000)
    unit = np.where(there, np.clip((theirs.astype(np.float64) - low) / (high - low), 0, 1), 0)
    unit = np.repeat(unit, 3, 0) if len(unit) == 1 else unit
    # one bit is black and white: 0 and 255
    top = 255 if bits == 1 else high
    np.testing.assert_allclose(ImageReader(scale=[low, top]).read(path).numpy(), unit, rtol=0, atol=1e-6)
    natural = dtype in ("u1", "u2")
    if natural and (theirs[~there] == 0).all():
        mine = ImageReader().read(path)
        np.testing.assert_allclose(mine.numpy() / (255 if mine.dtype == torch.uint8 else 1), unit, rtol=0, atol=1e-6)
    else:
        with pytest.raises(InvalidInput, match=r"x\.tif: (its values are|\d+ of \d+ pixels have no data)"):
            ImageReader().read(path)
