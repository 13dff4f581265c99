"""Images as people have them: read whole, upright, in [0, 1], or refused by file and cause."""

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from smp_feedback.data import MaskFolder, StoredTriplets, open_dataset
from smp_feedback.data.images import tiff
from smp_feedback.data.images.raster import PixelLayout, whole
from smp_feedback.data.images.reader import ImageReader, as_unit, head_of
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (6, 8), np.uint8)
RGB = RANDOM.integers(0, 256, (6, 8, 3), np.uint8)
BANDS = RANDOM.integers(0, 1 << 16, (6, 8, 5), np.uint16)


def tif(path, array, **told):
    tifffile.imwrite(path, array, **{"metadata": None, "photometric": "minisblack", "planarconfig": "contig", **told})
    return path


def plain(array):
    """(H, W, C) as (C, H, W), float32 in [0, 1]."""
    return torch.from_numpy(np.moveaxis(array, 2, 0).astype(np.float32) / np.iinfo(array.dtype).max)


# --- which bands, and as how many channels


def test_bands_are_counted_from_one_and_come_in_order(tmp_path):
    path = tif(tmp_path / "x.tif", BANDS)
    torch.testing.assert_close(ImageReader().read(path), plain(BANDS))
    torch.testing.assert_close(ImageReader(bands=[4, 3, 1]).read(path), plain(BANDS[..., [3, 2, 0]]))
    torch.testing.assert_close(ImageReader(bands=[2]).read(path), plain(BANDS[..., [1]]))
    torch.testing.assert_close(ImageReader(bands=[2], channels=3).read(path), plain(BANDS[..., [1, 1, 1]]))
    assert [ImageReader(bands=bands).channels_of(path) for bands in (None, [4, 3, 1], [2])] == [5, 3, 1]
    for reader, match in (
        (ImageReader(bands=[6]), r"x\.tif: bands=\[6\]: expected those there are, 1 to 5"),
        (ImageReader(channels=3), r"x\.tif: channels=3: found 5 of uint16; bands=\[...\] chooses among 1 to 5"),
    ):
        for read in (reader.read, reader.channels_of):
            with pytest.raises(InvalidInput, match=match):
                read(path)


def test_grey_is_three_equal_channels_unless_one_is_asked_for(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "x.png")
    assert torch.equal(ImageReader().read(tmp_path / "x.png"), torch.from_numpy(GREY).expand(3, 6, 8))
    assert torch.equal(ImageReader(channels=1).read(tmp_path / "x.png"), torch.from_numpy(GREY)[None])
    assert torch.equal(ImageReader(bands=[1]).read(tmp_path / "x.png"), torch.from_numpy(GREY)[None])
    with pytest.raises(InvalidInput, match="channels=4: found 1 of uint8"):
        ImageReader(channels=4).read(tmp_path / "x.png")


def test_alpha_may_be_a_channel_and_is_left_out_where_it_is_opaque(tmp_path):
    pixels = np.dstack([RGB, np.full_like(GREY, 255)])
    Image.fromarray(pixels).save(tmp_path / "x.png")
    three, four = plain(RGB), plain(pixels)
    torch.testing.assert_close(as_unit(ImageReader().read(tmp_path / "x.png")), three)
    torch.testing.assert_close(as_unit(ImageReader(channels=4).read(tmp_path / "x.png")), four)
    Image.fromarray(RGB).save(tmp_path / "key.png", transparency=tuple(RGB[0, 0].tolist()))
    with pytest.raises(InvalidInput, match=r"1 of 48 pixels are not opaque .* bands=\[1, 2, 3\] reads the others"):
        ImageReader().read(tmp_path / "key.png")
    torch.testing.assert_close(as_unit(ImageReader(bands=[1, 2, 3]).read(tmp_path / "key.png")), three)


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_a_tiffs_tags_say_which_band_is_alpha(tmp_path, kind):
    pixels = np.dstack([RGB, GREY, np.full_like(GREY, 255)])
    told = {"photometric": "rgb", "extrasamples": ["unspecified", kind]}
    torch.testing.assert_close(
        as_unit(ImageReader().read(tif(tmp_path / "x.tif", pixels, **told))), plain(pixels[..., :4])
    )
    told["extrasamples"] = [kind, "unspecified"]
    with pytest.raises(InvalidInput, match=r"band 4 is alpha, by its tags\); bands=\[1, 2, 3, 5\] reads the others"):
        ImageReader().read(tif(tmp_path / "x.tif", pixels, **told))


@pytest.mark.parametrize(
    ("told", "error", "match"),
    [
        ({"bands": []}, InvalidType, r"bands=\[\]: expected the numbers of bands, counted from 1"),
        ({"bands": "123"}, InvalidType, "bands='123'"),
        ({"bands": [0, 1]}, InvalidValue, "bands=0: expected a whole number >= 1, as bands are counted"),
        ({"channels": 0}, InvalidValue, "channels=0"),
        ({"scale": "percent"}, InvalidValue, r"scale='percent': expected \[low, high\]"),
        ({"scale": "percentile:98,2"}, InvalidValue, "0 <= low < high <= 100"),
        ({"scale": [1, 1]}, InvalidValue, "expected low < high"),
        ({"scale": [0, float("inf")]}, InvalidValue, "expected low < high, both finite"),
        ({"scale": [0, 1, 2]}, InvalidType, "one such pair a band"),
        ({"scale": 255}, InvalidType, "scale=255"),
    ],
)
def test_what_is_no_choice_is_refused_before_any_file_is_read(told, error, match):
    with pytest.raises(error, match=match):
        ImageReader(**told)


# --- what becomes [0, 1]


def test_a_scale_is_a_window_and_cuts_off_what_lies_outside(tmp_path):
    ct = np.array([[-2000, -1000, 0], [200, 400, 3000]], np.int16)
    path = tif(tmp_path / "ct.tif", ct)
    expected = torch.tensor([[0, 0, 1000 / 1400], [1200 / 1400, 1, 1]])
    torch.testing.assert_close(ImageReader(scale=[-1000, 400], channels=1).read(path)[0], expected)
    with pytest.raises(InvalidInput, match=r"ct\.tif: its values are int16 from -2000 to 3000, which have no natural"):
        ImageReader().read(path)


def test_every_band_may_have_its_own_scale(tmp_path):
    path = tif(tmp_path / "x.tif", np.dstack([GREY.astype(np.float32), 100 + GREY.astype(np.float32)]))
    image = ImageReader(scale=[[0, 255], [100, 355]]).read(path)
    torch.testing.assert_close(image, torch.from_numpy(GREY / np.float32(255)).expand(2, 6, 8))
    with pytest.raises(InvalidInput, match="scale has 3 pairs, 2 bands are read"):
        ImageReader(scale=[[0, 1]] * 3).read(path)


def test_percentiles_are_each_bands_own_and_a_constant_band_is_black(tmp_path):
    heights = np.dstack([np.arange(101.0), 7 + 2 * np.arange(101.0), np.full(101, 5.0)]).astype(np.float32)
    path = tif(tmp_path / "x.tif", heights)
    ramp = torch.arange(101.0)
    for scale, low, high in (("percentile", 2, 98), ("percentile:10,50", 10, 50)):
        band = ((ramp - low) / (high - low)).clamp(0, 1)
        torch.testing.assert_close(ImageReader(scale=scale).read(path)[:, 0], torch.stack([band, band, 0 * band]))


def test_floating_point_in_0_to_1_is_taken_as_it_is(tmp_path):
    values = RANDOM.random((6, 8, 2), np.float32)
    assert torch.equal(ImageReader().read(tif(tmp_path / "x.tif", values)), torch.from_numpy(values).permute(2, 0, 1))


def test_missing_values_are_black_where_a_scale_is_told_and_else_refused(tmp_path):
    array = np.array([[1.0, np.nan, 3.0, -9999.0]], np.float32)
    nodata = [(42113, 2, 0, "-9999", True)]
    path = tif(tmp_path / "dem.tif", np.nan_to_num(array, nan=2.0), extratags=nodata)
    torch.testing.assert_close(ImageReader(scale=[0, 4]).read(path)[0, 0], torch.tensor([0.25, 0.5, 0.75, 0]))
    torch.testing.assert_close(ImageReader(scale="percentile:0,100").read(path)[0, 0], torch.tensor([0, 0.5, 1, 0]))
    with pytest.raises(InvalidInput, match=r"dem\.tif: 1 of 4 pixels have no data, .* with a scale"):
        ImageReader().read(path)
    for scale in (None, [0, 4]):
        with pytest.raises(InvalidInput, match=r"dem\.tif: 1 of 4 pixels are NaN or infinite"):
            ImageReader(scale=scale).read(tif(tmp_path / "dem.tif", array, extratags=nodata))


def test_missing_bytes_that_are_0_are_read_as_they_are(tmp_path):
    pixels = np.array([[0, 9]], np.uint8)
    path = tif(tmp_path / "x.tif", pixels, extratags=[(42113, 2, 0, "0", True)])
    assert ImageReader(channels=1).read(path).tolist() == [[[0, 9]]]
    path = tif(tmp_path / "x.tif", pixels, extratags=[(42113, 2, 0, "black", True)])
    with pytest.raises(InvalidInput, match=r"x\.tif: its tag GDAL_NODATA is 'black'; expected a number"):
        ImageReader().read(path)


# --- what the tags say


def test_white_may_be_0_and_colours_a_palette(tmp_path):
    inverted = ImageReader(channels=1).read(tif(tmp_path / "x.tif", GREY, photometric="miniswhite"))
    assert torch.equal(inverted[0], torch.from_numpy(255 - GREY))
    table = RANDOM.integers(0, 256, (3, 256)).astype(np.uint16)
    for times in (257, 256, 1):  # as writers fill 16 bits with 8
        told = {"photometric": "palette", "colormap": table * np.uint16(times)}
        bytes_of_it = ImageReader().read(tif(tmp_path / "x.tif", GREY, **told))
        assert torch.equal(bytes_of_it, torch.from_numpy(table.astype(np.uint8)[:, GREY]))
    deep = RANDOM.integers(0, 1 << 16, (3, 256)).astype(np.uint16)
    image = ImageReader().read(tif(tmp_path / "x.tif", GREY, photometric="palette", colormap=deep))
    torch.testing.assert_close(image, torch.from_numpy(deep[:, GREY] / np.float32(65535)))


@pytest.mark.parametrize("bits", [2, 4, 10, 12, 14])
def test_a_pixel_of_few_bits_is_white_at_their_end(tmp_path, bits):
    array = RANDOM.integers(0, 2**bits, (6, 8)).astype(np.uint8 if bits < 8 else np.uint16)
    image = ImageReader(channels=1).read(tif(tmp_path / "x.tif", array, bitspersample=bits))
    torch.testing.assert_close(image[0], torch.from_numpy(array / np.float32(2**bits - 1)))


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_ink_is_light(tmp_path, suffix):
    """CMYK: (1 - C)(1 - K), and so on."""
    ink = np.full((16, 16, 4), (200, 100, 0, 50), np.uint8)
    Image.fromarray(ink, "CMYK").save(tmp_path / f"x.{suffix}", quality=100)
    light = torch.tensor([55 * 205, 155 * 205, 255 * 205]) / 255
    image = ImageReader().read(tmp_path / f"x.{suffix}")
    torch.testing.assert_close(image.float(), light[:, None, None].expand(3, 16, 16), atol=2, rtol=0)


@pytest.mark.parametrize("told", [{}, {"imagej": True}, {"ome": True}, {"metadata": {}}, {"volumetric": True}])
def test_a_stack_is_refused_and_overviews_are_none(tmp_path, told):
    tif(tmp_path / "x.tif", RANDOM.integers(0, 256, (5, 16, 16), np.uint8), planarconfig=None, **told)
    for read in (ImageReader().read, ImageReader().channels_of, head_of):
        with pytest.raises(InvalidInput, match=r"x\.tif: expected one image, found a stack of 5 pages; pages are no"):
            read(tmp_path / "x.tif")


def test_strips_that_are_not_there_are_not_made_up(tmp_path):
    """Counts of bytes of 0 are what is left of a writer that was stopped; a decoder fills in 0."""
    path = tif(tmp_path / "x.tif", GREY, rowsperstrip=2, compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as file:
        counts = file.pages[0].tags["StripByteCounts"]
        counts.overwrite((counts.value[0], 0, counts.value[2]))
    assert tifffile.imread(path)[2:4].max() == 0
    with pytest.raises(InvalidInput, match=r"x\.tif: 1 of its 3 strips or tiles are empty or cut off"):
        ImageReader().read(path)
    path = tif(tmp_path / "x.tif", GREY)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["StripByteCounts"].overwrite(40)
    with pytest.raises(InvalidInput, match=r"x\.tif: its strips hold 40 bytes, its tags announce 48"):
        ImageReader().read(path)


@pytest.mark.parametrize("below", [False, True])
def test_smaller_copies_in_a_file_are_no_pages(tmp_path, below):
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        file.write(RGB, photometric="rgb", metadata=None, subifds=1 if below else None)
        file.write(RGB[::2, ::2], photometric="rgb", metadata=None, subfiletype=1)
    assert torch.equal(ImageReader().read(tmp_path / "x.tif"), torch.from_numpy(RGB).permute(2, 0, 1))


@pytest.mark.parametrize(
    ("array", "told", "cause"),
    [
        (RGB, {"photometric": "cielab"}, "CIELAB"),
        (RGB, {"photometric": "ycbcr"}, "YCBCR"),
        (GREY.astype(np.float32), {"photometric": "miniswhite"}, "MINISWHITE"),
        (GREY.astype(np.complex64), {}, "values of 64 bits in format 6"),
    ],
)
def test_what_has_no_bands_is_refused_by_its_tags(tmp_path, array, told, cause):
    tif(tmp_path / "x.tif", array, **told)
    with pytest.raises(InvalidInput, match=rf"x\.tif: a TIFF of .*{cause}.* cannot be read whole"):
        ImageReader().read(tmp_path / "x.tif")


def test_a_decoder_that_gives_less_than_the_tags_say_is_caught(tmp_path):
    for values in (RGB[:5], RGB[..., :2], RGB.astype(np.uint16)):
        with pytest.raises(InvalidInput, match="its tags say 6 x 8 pixels of 3 bands of uint8, its decoder gives"):
            whole(tmp_path, values, (6, 8), PixelLayout(bands=3))


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_an_animation_is_refused_but_a_phones_previews_are_not(tmp_path, suffix):
    frames = {"save_all": True, "append_images": [Image.fromarray(255 - RGB)]}
    Image.fromarray(RGB).save(tmp_path / f"x.{suffix}", **frames)
    with pytest.raises(InvalidInput, match=rf"x\.{suffix}: expected one picture, found 2 frames"):
        ImageReader().read(tmp_path / f"x.{suffix}")
    Image.fromarray(RGB).save(tmp_path / "x.jpg", "MPO", quality=100, **frames)
    Image.fromarray(RGB).save(tmp_path / "alone.jpg", quality=100)
    assert torch.equal(ImageReader().read(tmp_path / "x.jpg"), ImageReader().read(tmp_path / "alone.jpg"))


def test_what_is_no_image_is_refused_by_name_and_cause(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.tif").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "phone.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (tmp_path / "deep.pgm").write_bytes(b"P5\n# a comment\n8 6\n65535\n" + bytes(96))
    for name, cause in (
        ("text.png", "cannot identify image file"),
        ("empty.tif", "it is empty"),
        ("folder.png", "it is a folder"),
        ("missing.png", "it does not exist"),
        ("phone.jpg", "it is HEIC, AVIF or a film"),
        ("deep.pgm", "read up to 8 bits"),
    ):
        for read in (ImageReader().read, ImageReader().channels_of):
            with pytest.raises(InvalidInput, match=rf"{name}: .*{cause}"):
                read(tmp_path / name)


def test_a_file_is_read_by_what_it_is_whatever_it_is_called(tmp_path):
    tif(tmp_path / "x.png", RGB, photometric="rgb")
    Image.fromarray(RGB).save(tmp_path / "x.tif", "PNG")
    for name in ("x.png", "x.tif"):
        assert torch.equal(ImageReader().read(tmp_path / name), torch.from_numpy(RGB).permute(2, 0, 1))


# --- without tifffile


@pytest.fixture
def without_tifffile(monkeypatch):
    monkeypatch.setattr(tiff, "find_spec", lambda name: None)


def test_plain_tiffs_are_read_without_tifffile(tmp_path, without_tifffile):
    for array, told in ((GREY, {}), (RGB, {"photometric": "rgb"})):
        image = ImageReader().read(tif(tmp_path / "x.tif", array, **told))
        assert torch.equal(image, torch.from_numpy(np.atleast_3d(array)).permute(2, 0, 1).expand(3, 6, 8))
        assert head_of(tmp_path / "x.tif").size == (6, 8)


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (BANDS[..., :3], {"photometric": "rgb"}),
        (BANDS[..., 0], {}),
        (GREY, {"photometric": "miniswhite"}),
        (GREY, {"extratags": [(274, 3, 1, 6, True)]}),
        (GREY, {"extratags": [(42113, 2, 0, "3", True)]}),
        (GREY.view(np.int8), {}),
        (np.stack([GREY] * 2), {"planarconfig": None}),
        (np.dstack([RGB, GREY]), {"photometric": "rgb", "extrasamples": ["unspecified"]}),
        (BANDS, {}),
    ],
)
def test_all_else_names_the_extra(tmp_path, without_tifffile, array, told):
    tif(tmp_path / "x.tif", array, **told)
    for read in (ImageReader().read, ImageReader().channels_of, head_of):
        with pytest.raises(InvalidInput, match=r'x\.tif: .*pip install "smp_feedback\[tiff\]"'):
            read(tmp_path / "x.tif")


# --- datasets that read by it


def test_a_folder_reads_as_it_is_told(tmp_path):
    for folder in ("train", "trainannot"):
        (tmp_path / folder).mkdir()
    tif(tmp_path / "train/x.tif", BANDS.astype(np.int32) - 500)
    Image.fromarray(GREY % 2).save(tmp_path / "trainannot/x.png")
    told = {"classes": ["a", "b"], "bands": [5, 1], "scale": [-500, 65035]}
    for data in (MaskFolder(tmp_path, **told), open_dataset("folder", root=tmp_path, **told)):
        torch.testing.assert_close(data[0][0], plain(BANDS[..., [4, 0]]))


def test_distorted_images_are_read_as_the_clean_ones_are(tmp_path):
    for folder in ("train", "trainannot", "hazy"):
        (tmp_path / folder).mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    for folder in ("train", "hazy"):
        Image.fromarray(GREY).save(tmp_path / folder / "x.png", exif=exif)
    Image.fromarray(GREY.T % 2).save(tmp_path / "trainannot/x.png")
    clean = MaskFolder(tmp_path, classes=["a", "b"], channels=1, size=(4, 3))
    distorted, image, _ = StoredTriplets(clean, tmp_path / "hazy")[0]
    assert distorted.shape == (1, 4, 3)
    torch.testing.assert_close(distorted, image)
    three = StoredTriplets(clean, tmp_path / "hazy", images=ImageReader())
    with pytest.raises(InvalidInput, match="has 3 channels"):
        three[0]
