"""A fuzz over mask files: the labels are those of the source array, or one line names the file and the cause."""

import os
import struct
import zlib
from collections import Counter

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from smp_feedback.data.masks.reader import MaskReader
from smp_feedback.errors import InvalidInput

EXAMPLES = int(os.environ.get("SMP_FEEDBACK_FUZZ", "120"))  # thousands where a reader changes
MANY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 120,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# Where the first row and column of a file are seen, by EXIF's definition of tag 274
SEEN = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.swapaxes(np.rot90(a, 2), 0, 1),
    8: np.rot90,
}
BYTE = range(256)
TIFFS = {kind: np.iinfo(kind) for kind in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")}


def exif(orientation):
    made = Image.Exif()
    made[274] = orientation
    return made


def grey_png(path, array, bits, orientation):
    """A PNG of any depth by the specification itself; Pillow writes 1, 8 and 16 bits alone."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = array.shape
    rows = b""
    for row in array:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + bytes(int(text[k : k + 8], 2) for k in range(0, len(text), 8))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    turn = chunk(b"eXIf", exif(orientation).tobytes().removeprefix(b"Exif\0\0"))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + turn + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def pillow(path, array, orientation, **options):
    Image.fromarray(array).save(path, exif=exif(orientation), **options)


def indexed(path, array, orientation, colours):
    picture = Image.new("P", array.shape[::-1])
    picture.putdata(array.flatten().tolist())
    picture.putpalette(np.array(colours, np.uint8).flatten().tolist())
    picture.save(path, exif=exif(orientation))


def tiff(path, array, orientation, **options):
    tifffile.imwrite(path, array, extratags=[(274, "H", 1, orientation, True)], metadata=None, **options)


def opaque(array):
    return np.dstack([array, np.full(array.shape[:2], 255, np.uint8)])


def of_values(stored, orientation, kind, more):
    """What writes whole numbers *stored* as *kind*, and the file's name; None where *kind* cannot hold them."""
    low, high = int(stored.min()), int(stored.max())
    fits = low >= 0 and high <= 255
    byte = stored.astype(np.uint8) if fits else None
    if kind in TIFFS:
        info, options = TIFFS[kind], {"compression": more["compression"], "byteorder": more["byteorder"]}
        if info.min <= low and high <= info.max:
            return "m.tif", lambda p: tiff(p, stored.astype(kind), orientation, **options)
    if kind in ("float32", "float64"):
        return "m.tif", lambda p: tiff(p, stored.astype(kind), orientation)
    if kind == "png16" and low >= 0 and high < 65536:
        return "m.png", lambda p: pillow(p, stored.astype(np.uint16), orientation)
    if kind.startswith("bits") and low >= 0 and high < 2 ** int(kind[4:]):
        return "m.png", lambda p: grey_png(p, stored, int(kind[4:]), orientation)
    if not fits or kind not in BYTES:
        return None
    return BYTES[kind][0], lambda p: BYTES[kind][1](p, byte, orientation)


BYTES = {
    "png": ("m.png", pillow),
    "webp": ("m.webp", lambda p, a, o: pillow(p, np.dstack([a] * 3), o, lossless=True)),
    "bmp": ("m.bmp", lambda p, a, o: Image.fromarray(SEEN[o](a)).save(p)),  # has no tags: saved as it is seen
    "rgb": ("m.png", lambda p, a, o: pillow(p, np.dstack([a] * 3), o)),
    "rgba": ("m.png", lambda p, a, o: pillow(p, opaque(np.dstack([a] * 3)), o)),
    "la": ("m.png", lambda p, a, o: pillow(p, opaque(a), o)),
    "palette": ("m.png", lambda p, a, o: indexed(p, a, o, [(255 - k, k, k // 2) for k in BYTE])),
    "tiff-rgb": ("m.tif", lambda p, a, o: tiff(p, np.dstack([a] * 3), o, photometric="rgb")),
    "tiff-planes": (
        "m.tif",
        lambda p, a, o: tiff(p, np.stack([a] * 3), o, photometric="rgb", planarconfig="separate"),
    ),
    "tiff-palette": (
        "m.tif",
        lambda p, a, o: tiff(p, a, o, photometric="palette", colormap=np.full((3, 256), 7, np.uint16)),
    ),
}
KINDS = (*BYTES, *TIFFS, "float32", "float64", "png16", "bits1", "bits2", "bits4", "bits8", "bits16")

COLOURED = {
    "png": ("m.png", pillow),
    "rgba": ("m.png", lambda p, a, o: pillow(p, opaque(a), o)),
    "webp": ("m.webp", lambda p, a, o: pillow(p, a, o, lossless=True)),
    "bmp": ("m.bmp", lambda p, a, o: Image.fromarray(SEEN[o](a)).save(p)),
    "gif": ("m.gif", lambda p, a, o: Image.fromarray(SEEN[o](a)).quantize(256).save(p)),
    "tiff": ("m.tif", lambda p, a, o: tiff(p, a, o, photometric="rgb")),
    "planes": ("m.tif", lambda p, a, o: tiff(p, np.moveaxis(a, 2, 0), o, photometric="rgb", planarconfig="separate")),
}


@st.composite
def masks(draw):
    """Source labels, their number of classes, the ignored label, and the orientation of the file."""
    count, height, width = draw(st.integers(1, 5)), draw(st.integers(1, 7)), draw(st.integers(1, 9))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = random.integers(0, count, (height, width))
    ignored = draw(st.sampled_from([None, 255, 7, -1]))
    void = random.random((height, width)) < (0.2 if ignored is not None else 0)
    return labels, void, count, ignored, draw(st.sampled_from(list(SEEN))), random


OPTIONS = st.fixed_dictionaries(
    {"compression": st.sampled_from([None, "zlib", "lzw"]), "byteorder": st.sampled_from(["<", ">"])}
)


def stored_values(labels, void, count, ignored, meaning, random):
    """What stands in the file for each label, and the options that say so."""
    own = np.where(void, ignored, labels) if ignored is not None else labels
    if meaning == "plain":
        return own, {}
    if meaning == "offset":
        free = [d for d in (-2, -1, 1) if ignored is None or not (0 <= ignored < count or 0 <= ignored + d < count)]
        if not free:  # refused when the reader is made
            return own, {}
        offset = int(random.choice(free))
        return np.where(void, own, labels - offset), {"offset": offset}
    high = random.choice([2, 4, 16, 256, 65536])
    chosen = random.choice(max(high, count + 1), count + 1, replace=False)
    table = {(str(value) if random.random() < 0.5 else int(value)): label for label, value in enumerate(chosen[:count])}
    if ignored is not None:
        table[int(chosen[count])] = "ignore"
    return np.where(void, chosen[count], chosen[labels]), {"values": table}


def read(path, count, ignored, **options):
    return MaskReader(classes=[f"c{k}" for k in range(count)], ignore_index=ignored, **options).read(path).numpy()


@MANY
@given(masks(), st.sampled_from(KINDS), st.sampled_from(["plain", "values", "offset"]), OPTIONS, st.booleans())
def test_labels_are_those_of_the_source(tmp_path_factory, mask, kind, meaning, more, spoilt):
    labels, void, count, ignored, orientation, random = mask
    stored, options = stored_values(labels, void, count, ignored, meaning, random)
    if spoilt:  # a value that nobody has named
        known = MaskReader(classes=[f"c{k}" for k in range(count)], ignore_index=ignored, **options).lookup.keys
        stored = stored.copy()
        stored.flat[random.integers(stored.size)] = next(v for v in (*random.permutation(256), 256) if v not in known)
    written = of_values(stored, orientation, kind, more)
    if written is None:
        return event("the kind cannot hold it")
    path = tmp_path_factory.getbasetemp() / written[0]
    written[1](path)
    if spoilt:
        event("refused")
        with pytest.raises(InvalidInput) as caught:
            read(path, count, ignored, **options)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        return None
    event(f"equal: {meaning}")
    wanted = SEEN[orientation](np.where(void, -999 if ignored is None else ignored, labels))
    np.testing.assert_array_equal(read(path, count, ignored, **options), wanted)
    return None


@MANY
@given(masks(), st.sampled_from(sorted(COLOURED)), st.booleans(), st.booleans())
def test_colours_are_those_of_the_source(tmp_path_factory, mask, kind, spoilt, in_words):
    labels, void, count, ignored, orientation, random = mask
    codes = random.choice(1 << 24, count + 2, replace=False)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], 1).astype(np.uint8)
    array = colours[np.where(void, count, labels)]
    if spoilt:
        array[random.integers(array.shape[0]), random.integers(array.shape[1])] = colours[count + 1]
    names = [f"c{k}" for k in range(count)] + (["ignore"] if ignored is not None else [])
    table = {
        name: f"#{bytes(colour).hex()}" if in_words else colour.tolist()
        for name, colour in zip(names, colours, strict=False)
    }
    path = tmp_path_factory.getbasetemp() / COLOURED[kind][0]
    COLOURED[kind][1](path, array, orientation)
    if spoilt:
        with pytest.raises(InvalidInput, match=rf"colours= ?: #{bytes(colours[-1]).hex()} .* in 1 pixels") as caught:
            read(path, count, ignored, colours=table)
        assert str(path) in str(caught.value)
        return
    wanted = SEEN[orientation](np.where(void, ignored if ignored is not None else -999, labels))
    np.testing.assert_array_equal(read(path, count, ignored, colours=table), wanted)


ODD = {
    "half": lambda p, a: tifffile.imwrite(p, a + np.float32(0.5)),
    "nan": lambda p, a: tifffile.imwrite(p, a * np.float32(np.nan)),
    "white-is-zero": lambda p, a: tifffile.imwrite(p, a, photometric="miniswhite"),
    "pages": lambda p, a: (tifffile.imwrite(p, a), tifffile.imwrite(p, a, append=True)),
    "jpeg": lambda p, a: Image.fromarray(a).save(p, "JPEG"),
    "lossy": lambda p, a: Image.fromarray(a).save(p, "WEBP", lossless=False),
    "jpeg-tiff": lambda p, a: tifffile.imwrite(p, a, compression="jpeg"),
    "transparent": lambda p, a: Image.fromarray(np.dstack([a, a * 0 + 254])).save(p, "PNG"),
    "key": lambda p, a: Image.fromarray(a).save(p, "PNG", transparency=int(a[0, 0])),
    "colours": lambda p, a: Image.fromarray(np.dstack([a, a, a + 1])).save(p, "PNG"),
    "bands": lambda p, a: tifffile.imwrite(p, np.dstack([a, a + 1]), photometric="minisblack", planarconfig="contig"),
    "complex": lambda p, a: tifffile.imwrite(p, a.astype(np.complex64)),
    "cmyk": lambda p, a: Image.fromarray(np.dstack([a] * 4), "CMYK").save(p, "TIFF"),
    "cut": lambda p, a: (Image.fromarray(a).save(p, "PNG"), p.write_bytes(p.read_bytes()[: 40 + a.size // 8])),
    "empty": lambda p, a: p.write_bytes(b""),
}


@settings(MANY, max_examples=max(60, EXAMPLES // 4))
@given(masks(), st.sampled_from(sorted(ODD)), st.sampled_from(["m.png", "m.tif", "m.webp", "m.bmp"]))
def test_what_holds_no_labels_is_refused_whatever_it_is_called(tmp_path_factory, mask, kind, name):
    labels, _, count, ignored, _, _ = mask
    path = tmp_path_factory.getbasetemp() / name
    ODD[kind](path, labels.astype(np.uint8))
    with pytest.raises(InvalidInput) as caught:
        read(path, count, ignored)
    assert str(path) in str(caught.value)


def test_the_fuzz_writes_most_of_what_it_draws():
    held = Counter(
        of_values(np.array([[0, 1]]), 1, kind, {"compression": None, "byteorder": "<"}) is not None for kind in KINDS
    )
    assert held == {True: len(KINDS)}
