"""Masks as tools write them: values, colours, palettes, alpha, depths and containers become labels, or are refused."""

import json
import pickle
import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from smp_feedback.data import open_dataset
from smp_feedback.data.images.reader import ImageReader
from smp_feedback.data.masks.reader import MaskReader, read_stored
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue

LABELS = np.random.default_rng(0).integers(0, 3, (6, 8)).astype(np.uint8)
LABELS[0, :3] = 0, 1, 2
CLASSES = ("ground", "leaf", "stone")
RGB = {"ground": (10, 20, 30), "leaf": (0, 255, 0), "stone": (200, 100, 50)}
COLOURED = np.array(list(RGB.values()), np.uint8)[LABELS]


def png(path, bits, kind, rows, *chunks):
    """A PNG of any depth by the specification's own layout: *rows* are packed already."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, len(rows), bits, kind, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    extra = b"".join(chunk(*one) for one in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + extra + data + chunk(b"IEND", b""))
    return path


def packed(row, bits):
    return bytes(int("".join(f"{v:0{bits}b}" for v in row)[k : k + 8], 2) for k in range(0, 8 * bits, 8))


def read(path, classes=CLASSES, **options):
    mask = MaskReader(classes=classes, **options).read(path)
    assert mask.dtype == torch.int64
    return mask.numpy()


def saved(path, array, **options):
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(path, **options)
    return path


def palette(array, colours):
    picture = Image.fromarray(array).convert("P")
    picture.putdata(array.flatten().tolist())
    picture.putpalette(np.array(colours, np.uint8).flatten().tolist())
    return picture


# --- values


@pytest.mark.parametrize(
    ("stored", "options"),
    [
        (LABELS, {}),
        (LABELS * 100, {"values": {0: 0, 100: 1, 200: 2}}),
        (LABELS * 100, {"values": {"100": "leaf", 200.0: "2"}}),
        (LABELS + 1, {"offset": -1}),
        (LABELS + 1, {"offset": -1, "ignore_index": 255}),
        (2 - LABELS, {"values": {0: "stone", 2: "ground"}}),
    ],
)
def test_values_become_labels(tmp_path, stored, options):
    np.testing.assert_array_equal(read(saved(tmp_path / "m.png", stored), **options), LABELS)


def test_what_is_ignored_stays_ignored_as_it_is_stored(tmp_path):
    stored = LABELS + 1
    stored[5] = 255
    wanted = LABELS.astype(int)
    wanted[5] = 255
    path = saved(tmp_path / "m.png", stored)
    np.testing.assert_array_equal(read(path, offset=-1, ignore_index=255), wanted)
    stored[5] = 0
    path = saved(tmp_path / "m.png", stored)
    for options in ({"values": {0: "ignore"}, "ignore_index": 255}, {"values": {0: None}, "ignore_index": 255}):
        np.testing.assert_array_equal(read(path, offset=-1, **options), wanted)
    wanted[5] = -1
    np.testing.assert_array_equal(read(path, offset=-1, ignore_index=-1), wanted)
    with pytest.raises(InvalidInput, match=r"m.png has values \[0\]; expected \[1, 2, 3, 255, 256\]"):
        read(path, offset=-1, ignore_index=255)


def test_values_speak_before_the_ignored_label(tmp_path):
    path = saved(tmp_path / "m.png", (LABELS > 0).astype(np.uint8) * 255)
    assert (
        read(path, ("ground", "leaf"), values={255: 1}, ignore_index=255).tolist() == (LABELS > 0).astype(int).tolist()
    )


def test_a_class_that_other_values_become_is_no_longer_its_own_number(tmp_path):
    path = saved(tmp_path / "m.png", LABELS)  # 0 is unlabelled, and would become class 0
    with pytest.raises(
        InvalidInput, match=r"m.png has values \[0\]; expected \[1, 2\] .*values={0: 'leaf'}, or 'ignore'"
    ):
        read(path, ("leaf", "stone"), values={1: 0, 2: 1})


@pytest.mark.parametrize(
    ("stored", "classes", "hint"),
    [
        ((LABELS > 0) * 255, 2, r"labels \[255\]; expected 0 to 1 \(the classes\).*values={255: 1}"),
        (LABELS + 1, 3, r"labels \[3\].*offset=-1"),
        (LABELS * 0 + 3, 3, "offset=-1"),
        (np.where(LABELS > 1, 255, LABELS), 2, "ignore_index=255"),
        (np.where(LABELS > 1, 3, LABELS), 3, r"A class more .* values={0: 'ignore'}, offset=-1 and ignore_index=255"),
        (np.array([0, 127, 255])[LABELS], 3, "values={0: 0, 127: 1, 255: 2}"),
        (np.arange(48).reshape(6, 8) * 5, 3, r"labels \[5, 10, .*, \.\.\.\].*values={5: label}"),
    ],
)
def test_a_refusal_says_what_would_map_it(tmp_path, stored, classes, hint):
    path = saved(tmp_path / "m.png", stored.astype(np.uint8))
    with pytest.raises(InvalidInput, match=rf"m\.png has {hint}" if hint.startswith("labels") else hint):
        read(path, CLASSES[:classes])


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"values": {255: "tree"}}, InvalidValue, "values, 255: 'tree' is no class. There is: ground, leaf, stone"),
        ({"values": {255: "leave"}}, InvalidValue, "Did you mean 'leaf'"),
        ({"values": {255: 3}}, InvalidValue, "values, 255: 3 is no class. Labels are 0 to 2"),
        ({"values": {255: "ignore"}}, InvalidValue, "'ignore' needs an ignored label, such as ignore_index=255"),
        ({"values": {"x": 1}}, InvalidValue, "expected whole numbers to the left"),
        ({"values": {"1": 1, 1: 2}}, InvalidValue, "1 is there twice"),
        ({"values": [0, 1]}, InvalidType, r"values=\[0, 1\]: expected {stored value: label}"),
        ({"offset": 0.5}, InvalidType, "offset=0.5: expected a whole number"),
        ({"offset": -1, "ignore_index": 0}, InvalidValue, "ignore_index=0 is class 'ground' with offset=-1"),
        (
            {"offset": -1, "ignore_index": 3},
            InvalidValue,
            "ignore_index=3 is class 'stone' with offset=-1; write .*=255",
        ),
        ({"offset": -1, "colours": RGB}, InvalidValue, "give one of them"),
        ({"colours": {}}, InvalidValue, "expected at least one colour"),
        ({"colours": 3}, InvalidType, "colours=3: expected a table"),
        ({"colours": {"leaf": [0, 0, 256]}}, InvalidValue, r"colours, 'leaf': expected a colour, .* not \[0, 0, 256\]"),
        ({"colours": {"leaf": None}}, InvalidValue, "not None .YAML and --data.options take what begins with #"),
        ({"colours": {"leaf": "#00ff"}}, InvalidValue, "expected a colour"),
        ({"colours": {"leaf": "#0000ff", "stone": [0, 0, 255]}}, InvalidValue, "'stone' has the colour #0000ff"),
        ({"colours": {"lef": "#0000ff"}}, InvalidValue, "'lef' is no class. Did you mean 'leaf'"),
    ],
)
def test_what_means_nothing_is_refused_before_any_file_is_read(options, error, match):
    with pytest.raises(error, match=match):
        MaskReader(classes=CLASSES, **options)


# --- kinds of files


@pytest.mark.parametrize(
    "make",
    [
        lambda p: saved(p / "m.png", Image.fromarray(LABELS).convert("RGB")),
        lambda p: saved(p / "m.png", Image.fromarray(LABELS).convert("LA")),
        lambda p: saved(p / "m.png", np.dstack([LABELS] * 3 + [LABELS * 0 + 255])),
        lambda p: saved(p / "m.png", LABELS.astype(np.uint16)),
        lambda p: saved(p / "m.bmp", LABELS),
        lambda p: saved(p / "m.bmp", Image.fromarray(LABELS).convert("RGB")),
        lambda p: saved(p / "m.webp", LABELS, lossless=True),
        lambda p: saved(p / "m.gif", palette(LABELS, [(9, 9, 9), (1, 2, 3), (0, 0, 0)])),
        lambda p: saved(p / "m.png", palette(LABELS, [(9, 9, 9), (1, 2, 3), (0, 0, 0)])),
        lambda p: png(p / "m.png", 2, 0, [packed(row, 2) for row in LABELS]),
        lambda p: png(p / "m.png", 4, 0, [packed(row, 4) for row in LABELS]),
    ],
    ids=["rgb", "la", "rgba", "16", "bmp", "bmp-rgb", "webp", "gif", "palette", "2-bit", "4-bit"],
)
def test_pictures_of_every_kind_hold_the_same_labels(tmp_path, make):
    np.testing.assert_array_equal(read(make(tmp_path)), LABELS)


KINDS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"bigtiff": True, "compression": "zlib"}, {"byteorder": ">"}], ids=str)
def test_tiffs_of_every_kind_hold_the_same_labels(tmp_path, kind, options):
    tifffile.imwrite(tmp_path / "m.tif", LABELS.astype(kind), **options)
    np.testing.assert_array_equal(read(tmp_path / "m.tif"), LABELS)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_tiffs_with_equal_channels_or_opaque_alpha_hold_the_same_labels(tmp_path, planar):
    array = np.dstack([LABELS] * 3 + [LABELS * 0 + 255])
    array = array if planar == "contig" else np.moveaxis(array, 2, 0)
    options = {"photometric": "rgb", "planarconfig": planar}
    tifffile.imwrite(tmp_path / "m.tif", array, **options, extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read(tmp_path / "m.tif"), LABELS)
    array[..., 3] = 128
    tifffile.imwrite(tmp_path / "m.tif", array, **options, extrasamples=["unspecified"])
    with pytest.raises(InvalidInput, match="has 4 bands; expected one of labels"):
        read(tmp_path / "m.tif")


@pytest.mark.parametrize("without", [False, True])
def test_pillow_reads_the_tiffs_where_tifffile_is_missing(tmp_path, monkeypatch, without):
    if without:
        monkeypatch.setattr("smp_feedback.data.masks.files.find_spec", lambda name: None)
    for kind in ("uint8", "uint16", "int32", "float32"):
        for orientation in SEEN:
            tags = [(274, "H", 1, orientation, True)]
            tifffile.imwrite(tmp_path / "m.tif", LABELS.astype(kind), extratags=tags)
            np.testing.assert_array_equal(read(tmp_path / "m.tif"), SEEN[orientation](LABELS))


def test_overviews_of_a_tiff_do_not_count_but_pages_do(tmp_path):
    with tifffile.TiffWriter(tmp_path / "m.tif") as file:
        file.write(LABELS, subifds=0)
        file.write(LABELS[::2, ::2], subfiletype=1)
    np.testing.assert_array_equal(read(tmp_path / "m.tif"), LABELS)
    for options in ({}, {"imagej": True}):
        tifffile.imwrite(tmp_path / "m.tif", np.stack([LABELS] * 4), **options, photometric="minisblack")
        with pytest.raises(InvalidInput, match=r"m.tif: expected one image, found a stack of 4 pages"):
            read(tmp_path / "m.tif")


@pytest.mark.parametrize("without", [False, True])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_whose_strip_is_empty_is_no_mask(tmp_path, monkeypatch, compression, without):
    if without:
        monkeypatch.setattr("smp_feedback.data.masks.files.find_spec", lambda name: None)
        monkeypatch.setattr("smp_feedback.data.images.tiff.find_spec", lambda name: None)
    tifffile.imwrite(tmp_path / "m.tif", LABELS, rowsperstrip=2, compression=compression)
    assert (read(tmp_path / "m.tif") == LABELS).all()
    with tifffile.TiffFile(tmp_path / "m.tif", mode="r+") as file:
        for name in ("StripByteCounts", "StripOffsets"):
            tag = file.pages[0].tags[name]
            tag.overwrite([*tag.value[:2], 0])
    for reader in (read, ImageReader().read):
        with pytest.raises(InvalidInput, match=r"m\.tif: 1 of its 3 strips or tiles are empty or cut off"):
            reader(tmp_path / "m.tif")


def test_pixels_that_a_page_masks_out_have_no_label(tmp_path):
    for shown in (LABELS >= 0, LABELS > 0):
        with tifffile.TiffWriter(tmp_path / "m.tif") as file:
            file.write(LABELS)
            file.write(shown, subfiletype=4, photometric="mask")
        if shown.all():
            np.testing.assert_array_equal(read(tmp_path / "m.tif"), LABELS)
        else:
            with pytest.raises(InvalidInput, match=rf"m\.tif: {(LABELS == 0).sum()} pixels are masked out by a page"):
                read(tmp_path / "m.tif")


def test_black_and_white_of_one_bit_is_0_and_1(tmp_path):
    bits = LABELS == 1
    for name in ("m.png", "m.bmp", "m.tif"):
        assert (read(saved(tmp_path / name, Image.fromarray(bits))) == bits).all()
    tifffile.imwrite(tmp_path / "m.tif", bits, photometric="minisblack")
    assert (read(tmp_path / "m.tif") == bits).all()


EXIF = {k: Image.Exif() for k in range(1, 9)}
for _number, _exif in EXIF.items():
    _exif[274] = _number
SEEN = {  # by EXIF's own words: where row 0 and column 0 of what is stored lie
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", SEEN)
@pytest.mark.parametrize("name", ["m.png", "m.webp", "m.tif"])
def test_masks_turn_as_their_tags_say(tmp_path, name, orientation):
    options = {"lossless": True} if name == "m.webp" else {}
    path = saved(tmp_path / name, LABELS, exif=EXIF[orientation], **options)
    np.testing.assert_array_equal(read(path), SEEN[orientation](LABELS))
    path = saved(tmp_path / name, COLOURED, exif=EXIF[orientation], **options)
    np.testing.assert_array_equal(read(path, colours=RGB), SEEN[orientation](LABELS))


def half(array):
    changed = array.astype(np.float32)
    changed[1, 1] = 0.5
    return changed


@pytest.mark.parametrize(
    ("name", "write", "match"),
    [
        ("m.jpg", lambda p: saved(p, LABELS), "m.jpg is a JPEG: JPEG and lossy WebP blur labels"),
        ("m.png", lambda p: saved(p, LABELS, format="JPEG"), "m.png is a JPEG"),
        ("m.webp", lambda p: saved(p, LABELS, lossless=False), "m.webp is a lossy WEBP"),
        ("m.webp", lambda p: saved(p, LABELS, lossless=False, exif=EXIF[6]), "m.webp is a lossy WEBP"),
        ("m.tif", lambda p: tifffile.imwrite(p, LABELS, compression="jpeg"), "m.tif is a JPEG inside a TIFF"),
        ("m.tif", lambda p: tifffile.imwrite(p, LABELS, photometric="miniswhite"), "m.tif: .* stored inverted"),
        (
            "m.tif",
            lambda p: tifffile.imwrite(p, half(LABELS)),
            "m.tif: .* whole numbers, found 0.5 in 1 pixels",
        ),
        ("m.tif", lambda p: tifffile.imwrite(p, half(LABELS) * np.nan), "m.tif: expected .*, found nan in 48 pixels"),
        ("m.tif", lambda p: tifffile.imwrite(p, LABELS.astype(complex)), "found complex128"),
        (
            "m.tif",
            lambda p: tifffile.imwrite(
                p, np.dstack([LABELS, LABELS + 1]), photometric="minisblack", planarconfig="contig"
            ),
            "2 bands",
        ),
        ("m.tif", lambda p: saved(p, Image.fromarray(COLOURED).convert("CMYK")), "found SEPARATED; save it as RGB"),
        ("m.png", lambda p: saved(p, COLOURED), r"found 3 colours \(\[0, 255, 0\], .*colours={class: \[r, g, b\]}"),
        ("m.png", lambda p: saved(p, np.dstack([LABELS] * 3 + [LABELS * 100])), r"m.png: \d+ pixels are transparent"),
        ("m.png", lambda p: saved(p, LABELS, transparency=0), r"m.png: \d+ pixels are transparent"),
        ("m.png", lambda p: png(p, 16, 2, [bytes(48)] * 6), "m.png: colours of 16 bits a channel"),
        (
            "m.gif",
            lambda p: saved(p, Image.fromarray(LABELS), save_all=True, append_images=[Image.fromarray(LABELS[::-1])]),
            "2 pages or frames",
        ),
        ("m.png", lambda p: p.write_bytes(b"no"), "m.png: expected an image file, but it cannot be read"),
        ("m.tif", lambda p: p.write_bytes(b"II*\0no"), "m.tif: expected an image file, but it cannot be read"),
    ],
)
def test_what_has_lost_or_hidden_labels_is_refused_by_name(tmp_path, name, write, match):
    write(tmp_path / name)
    with pytest.raises(InvalidInput, match=match):
        read(tmp_path / name)


def test_stored_values_are_those_of_the_file(tmp_path):
    np.testing.assert_array_equal(read_stored(saved(tmp_path / "m.png", LABELS + 40)).numpy(), LABELS + 40)


# --- colours


@pytest.mark.parametrize("name", ["m.png", "m.bmp", "m.tif", "m.webp"])
def test_colours_become_labels(tmp_path, name):
    path = saved(tmp_path / name, COLOURED, **({"lossless": True} if name == "m.webp" else {}))
    for table in (RGB, {0: "#0a141e", "1": "#00FF00", "stone": [200, "100", 50]}):
        np.testing.assert_array_equal(read(path, colours=table), LABELS)


def test_colours_of_palettes_greys_and_bits_count(tmp_path):
    path = saved(tmp_path / "m.png", palette(2 - LABELS, [*RGB.values()][::-1]))
    np.testing.assert_array_equal(read(path, colours=RGB), LABELS)
    tifffile.imwrite(
        tmp_path / "m.tif",
        2 - LABELS,
        photometric="palette",
        colormap=np.array([[*RGB.values()][::-1][k] if k < 3 else (0, 0, 0) for k in range(256)], np.uint16).T * 257,
    )
    np.testing.assert_array_equal(read(tmp_path / "m.tif", colours=RGB), LABELS)
    path = saved(tmp_path / "g.png", LABELS * 90)
    np.testing.assert_array_equal(read(path, colours={k: [90 * k] * 3 for k in range(3)}), LABELS)
    tifffile.imwrite(tmp_path / "m.tif", LABELS.astype(np.uint16) * 300)
    with pytest.raises(InvalidInput, match="expected colours of 8 bits a channel, found uint16"):
        read(tmp_path / "m.tif", colours=RGB)


def test_a_colour_may_be_ignored_and_a_label_may_have_several(tmp_path):
    array = COLOURED.copy()
    array[0], array[1] = (1, 1, 1), (2, 2, 2)
    wanted = LABELS.astype(int)
    wanted[:2] = [[255], [1]]
    table = {**RGB, "ignore": [1, 1, 1], "leaf": [[0, 255, 0], "#020202"]}
    np.testing.assert_array_equal(read(saved(tmp_path / "m.png", array), colours=table, ignore_index=255), wanted)


def test_transparent_is_a_colour_where_the_table_says_so(tmp_path):
    alpha = np.where(LABELS == 2, 0, 255).astype(np.uint8)
    path = saved(tmp_path / "m.png", np.dstack([COLOURED, alpha]))
    table = {"ground": RGB["ground"], "leaf": RGB["leaf"], "stone": "transparent"}
    np.testing.assert_array_equal(read(path, colours=table), LABELS)
    with pytest.raises(InvalidInput, match=rf"m.png has colours .*: transparent in {(LABELS == 2).sum()} pixels"):
        read(path, colours=RGB)
    alpha[0, 0] = 77
    with pytest.raises(InvalidInput, match="1 pixels are half transparent"):
        read(saved(tmp_path / "m.png", np.dstack([COLOURED, alpha])), colours=table)


def test_an_unknown_colour_is_named_with_its_pixels_and_the_nearest(tmp_path):
    array = COLOURED.copy()
    array[0, :3], array[5, 5] = (0, 250, 2), (255, 0, 255)
    match = r"m.png has .*: #00fa02 \(0, 250, 2\) in 3 pixels \(nearest: #00ff00 \(0, 255, 0\), leaf\), #ff00ff .* in 1"
    with pytest.raises(InvalidInput, match=match):
        read(saved(tmp_path / "m.png", array), colours=RGB)


ROWS = [(name, *map(str, colour)) for name, colour in RGB.items()]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "name,r,g,b\n" + "\n".join(map(",".join, ROWS))),
        ("t.csv", "\n".join(map(",".join, ROWS)) + "\n\n"),
        ("t.csv", "\ufeffclass;red;green;blue\r\n" + "\r\n".join(map(";".join, ROWS))),
        ("t.csv", "class\tcolour\nground\t#0a141e\nleaf\t#00ff00\nstone\t#c86432"),
        ("t.json", json.dumps(RGB)),
        ("t.json", json.dumps([{"name": k, "color": "#" + bytes(v).hex()} for k, v in RGB.items()])),
        ("labelmap.txt", "# label:color_rgb:parts:actions\n" + "\n".join(f"{n}:{r},{g},{b}::" for n, r, g, b in ROWS)),
        ("label_colors.txt", "\n".join(f"{r} {g} {b}\t\t{n}" for n, r, g, b in ROWS)),
    ],
)
def test_a_table_may_be_a_file(tmp_path, monkeypatch, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    path = saved(tmp_path / "m.png", COLOURED)
    monkeypatch.setenv("HOME", str(tmp_path))
    for table in (tmp_path / name, f"~/{name}"):
        np.testing.assert_array_equal(read(path, colours=table), LABELS)


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("t.csv", "ground,0,0,0\nleaf,0,0", r"t\.csv, line 2: expected name,r,g,b .*, not 'leaf,0,0'"),
        ("t.csv", "ground,0,0,0\nleaf,0,0,x", r"t\.csv, line 2: expected name,r,g,b"),
        ("t.csv", "name,r,g,b\nleaf,0,0,300", r"t\.csv, line 2: expected a colour"),
        ("t.csv", "name,r,g,b\n\ntree,0,0,3", r"t\.csv, line 3: 'tree' is no class"),
        ("t.json", '{"leaf": \n [0, 0}', r"t\.json, line 2: no JSON"),
        ("t.json", '{"leaf": "x"}', r"t\.json, 'leaf': expected a colour"),
        ("t.json", "3", r"t\.json: expected"),
        ("t.json", '[{"name": "leaf"}]', r"t\.json, entry 1: expected"),
        ("labelmap.txt", "leaf:0,255::", r"labelmap\.txt, line 1: expected"),
        ("none.csv", None, r"none\.csv': No such file"),
    ],
)
def test_a_file_that_is_no_table_is_named_with_its_line(tmp_path, name, text, match):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InvalidValue, match=match):
        MaskReader(classes=CLASSES, colours=tmp_path / name)


# --- through the front door


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"classes": ["a", "b", "a"]}, InvalidValue, "'a' is there twice"),
        ({"classes": 3}, InvalidType, "classes=3: expected the names"),
        ({"colours": {"leaf": "black"}}, InvalidValue, "not 'black'"),
        ({"colours": "{leaf: "}, InvalidValue, "quote what begins with #"),
        ({"colours": "[[0, 0, 0], [1, 1, 1]]"}, InvalidValue, r"expected a table \{class: colour\}"),
        ({"values": {"a": 1}}, InvalidValue, "expected whole numbers to the left"),
        ({"values": {255: 1.5}}, InvalidValue, "values, 255: 1.5 is no class; expected a name, a label"),
        ({"values": {255: True}}, InvalidValue, "values, 255: True is no class; expected a name, a label"),
    ],
)
def test_what_is_no_class_no_value_and_no_colour_is_said(options, error, match):
    with pytest.raises(error, match=match):
        MaskReader(**{"classes": CLASSES, **options})


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--data.values", "{a: 1}"], "expected whole numbers to the left"),
        (["--data.values", "{255: }"], "values='{255: }': expected {stored value: label}"),
        (["--data.values", "{255: 1.5}"], "1.5 is no class"),
        (["--data.values", "{255: true}"], "True is no class"),
        (["--data.values", "255"], "expected {stored value: label}"),
        (["--data.colours", "{ground: #000000, leaf: #c80000}"], "quote what begins with #"),
        (["--data.colours", "[[0,0,0],[200,0,0]]"], "expected a table {class: colour}"),
    ],
)
def test_the_command_line_says_which_words_are_no_table(words, match, tmp_path, capsys):
    pytest.importorskip("lightning")
    from smp_feedback.cli.main import main

    options = ["--data.options", "{classes: [ground, leaf], images: train}"]
    assert main(["fit", "--data.name", "folder", "--data.root", str(tmp_path), *options, *words]) == 2
    assert match in capsys.readouterr().err


def test_a_folder_takes_values_colours_and_an_offset(tmp_path):
    stored = {"values": LABELS * 7, "colours": COLOURED, "offset": LABELS + 1}
    options = {"values": {7: 1, 14: 2}, "colours": RGB, "offset": -1}
    for name, array in stored.items():
        for folder in ("train", "trainannot"):
            (tmp_path / name / folder).mkdir(parents=True)
        saved(tmp_path / name / "train/a.png", COLOURED)
        saved(tmp_path / name / "trainannot/a.bmp", array)
        data = open_dataset("folder", root=tmp_path / name, classes=CLASSES, **{name: options[name]})
        for dataset in (data, pickle.loads(pickle.dumps(data))):
            np.testing.assert_array_equal(dataset[0][1].numpy(), LABELS)


def test_the_command_line_takes_names_and_colours_in_words():
    from jsonargparse import ArgumentParser

    from smp_feedback.training.opening import open_pairs

    parser = ArgumentParser()
    parser.add_function_arguments(open_pairs, "data", skip={"verb", "seed"})
    words = ["--data.colours", "{leaf: '#00ff00', stone: [1, 2, 3], ignore: ['#000000', [4, 5, 6]]}"]
    told = parser.parse_args(["--data.name", "folder", *words, "--data.values", "{255: leaf, 7: 1}"]).data
    assert dict(told.colours) == {"leaf": "#00ff00", "stone": [1, 2, 3], "ignore": ["#000000", [4, 5, 6]]}
    assert told["values"] == {255: "leaf", 7: 1}
    assert MaskReader(classes=CLASSES, ignore_index=255, colours=told.colours).lookup.keys.size == 4
