"""What is written of an image, file by file: read back by our own readers, by GDAL, or by hand."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

pytest.importorskip("lightning")
from smp_feedback.config.data import DataConfig
from smp_feedback.data.masks.multilabel import LayerReader
from smp_feedback.data.masks.reader import MaskReader
from smp_feedback.data.masks.writing import mask_picture, mask_values
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.training.answer_maps import answer_map
from smp_feedback.training.image_outputs import ImageOutputs
from smp_feedback.training.output_kinds import OutputKinds
from smp_feedback.training.output_names import OutputNames, file_names
from smp_feedback.training.prediction_writers import PredictionWriter

CLASSES = ("ground", "leaf", "stone")
READERS = {
    "labels": {},
    "values": {"values": {0: "ground", 255: "leaf", 300: "stone"}},
    "several values of a class": {"values": {7: "leaf", 8: "leaf", 9: "ignore"}},
    "counted from 1": {"offset": -1},
    "colours": {"colours": {"stone": ["#010203", "#040506"], "ground": [9, 9, 9], "leaf": "#ffffff"}},
    "transparent": {"colours": {"ground": "transparent", "leaf": [0, 0, 0], "stone": [1, 0, 0]}},
}


def logits_for(labels, classes=3):
    """Logits (1, C, H, W) whose labels are *labels*."""
    return F.one_hot(torch.as_tensor(labels).long(), classes).movedim(-1, 0)[None].float() * 9


@pytest.mark.parametrize("told", READERS.values(), ids=READERS)
def test_what_was_read_can_be_written_back(told, tmp_path):
    reader = MaskReader(classes=CLASSES, ignore_index=250, **told)
    values, labels = mask_values(reader), torch.tensor([[0, 1, 2], [2, 2, 0]])
    assert DataConfig.from_dict(json.loads(json.dumps(DataConfig(mask_values=values).to_dict()))).mask_values == values
    outputs = ImageOutputs(tmp_path, CLASSES, mask_values=values, kinds=OutputKinds(maps="masks"))
    outputs.write("a.png", "a", logits_for(labels), (2, 3))
    assert torch.equal(reader.read(tmp_path / "a.png"), labels)


def test_one_file_a_class_can_be_written_back(tmp_path):
    reader = LayerReader(classes=("lung", "heart"), values={3: "absent", 200: "present"})
    outputs = ImageOutputs(
        tmp_path, ("lung", "heart"), task="multilabel", mask_values=mask_values(reader), kinds=OutputKinds(maps="masks")
    )
    outputs.write("a.png", "a", torch.tensor([[[[-1.0, 1.0]], [[1.0, 1.0]]]]), (1, 2))
    assert reader.read(tmp_path / "a.{class}.png").tolist() == [[[0, 1]], [[1, 1]]]
    outputs.finish()
    with (tmp_path / "summary.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["lung_px"], row["heart_px"]) == ("1", "2")


def test_what_masks_have_no_value_for_is_refused_before_anything_is_written(tmp_path):
    values = mask_values(MaskReader(classes=CLASSES, colours={"leaf": "#000000"}))
    with pytest.raises(InvalidValue, match="no value or colour for 'ground'"):
        ImageOutputs(tmp_path, CLASSES, mask_values=values, kinds=OutputKinds(maps="masks"))
    for wrong in (-1, 70_000):
        values = mask_values(MaskReader(classes=("a", "b"), values={wrong: "b"}))
        with pytest.raises(InvalidValue, match=f"hold {wrong} for 'b'"):
            ImageOutputs(tmp_path, ("a", "b"), mask_values=values, kinds=OutputKinds(maps="masks"))
    with pytest.raises(InvalidType, match="mask_values"):
        DataConfig(mask_values=(0, "#000000"))


def test_a_mask_of_large_values_has_16_bits():
    assert mask_picture(np.array([[0, 1]]), (0, 300)).mode == "I;16"
    assert mask_picture(np.array([[0, 1]]), (0, 255)).mode == "L"


# --- labels, their areas, and how unsure they are


def test_labels_are_read_off_resized_logits_and_not_resized_themselves():
    logits = torch.tensor([[[3.0, -1.0]], [[0.0, 0.0]]])  # they cross at three quarters of the way
    assert answer_map(logits, (1, 16)).labels[0].tolist() == [0] * 10 + [1] * 6


def test_areas_and_uncertainty_are_counted_over_all_bands(monkeypatch):
    from smp_feedback.ops import row_bands

    logits = torch.randn(4, 7, 5)
    whole = answer_map(logits, (23, 19), doubt=True)
    monkeypatch.setattr(row_bands.row_bands, "__kwdefaults__", {"values": 200})
    parts = answer_map(logits, (23, 19), doubt=True)
    resized = F.interpolate(logits[None], (23, 19), mode="bilinear", align_corners=False)[0].double()
    p = resized.softmax(0)
    entropy = -(p * p.log()).sum(0) / math.log(4)
    for found in (whole, parts):
        assert found.uncertainty == pytest.approx(float(entropy.mean()), abs=1e-6)
        assert found.pixels.tolist() == np.bincount(found.labels.ravel(), minlength=4).tolist()
        np.testing.assert_allclose(found.doubt, entropy * 255, atol=0.51)
        assert (found.labels == resized.argmax(0).numpy()).mean() > 0.99


def test_more_than_256_classes_have_labels_of_16_bits():
    logits = torch.zeros(300, 1, 2)
    logits[299, 0, 1] = 1
    assert answer_map(logits, (1, 2)).labels.tolist() == [[0, 299]]


# --- names

STEMS = st.lists(st.sampled_from(["a", "A", "a_1", "b", "a.overlay", "a.look_1", "a.leaf"]), max_size=9)


@settings(max_examples=40, deadline=None)
@given(STEMS, st.integers(0, 9))
def test_no_two_images_share_a_file_and_who_can_keeps_its_name(stems, cut):
    names = OutputNames([".leaf"])
    images = [f"{k}/{stem}.png" for k, stem in enumerate(stems)]
    made = [*names.add(images[:cut]), *names.add(images[cut:])]
    files = [f"{one}{kind}".casefold() for one in made for kind in ("", ".overlay", ".look_1", ".leaf")]
    assert len({*files}) == len(files)
    if len(stems) == 1:
        assert made == stems


def test_a_name_is_kept_as_it_is_written():
    assert file_names(["x/Münster (2) #1.final.jpg"]) == ["Münster (2) #1.final"]


# --- where images lie on Earth

rasterio = pytest.importorskip("rasterio")
LABELS = np.array([[1, 1, 0, 2], [1, 0, 0, 2], [0, 0, 0, 0]])


def scene(path, crs="EPSG:32633", side=10.0):
    place = rasterio.Affine(side, 0, 100, 0, -side, 200)
    told = {"driver": "GTiff", "height": 3, "width": 4, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", **told, crs=crs, transform=place) as file:
        file.write(np.zeros((3, 3, 4), np.uint8))
    return str(path)


def outputs_for(folder, **kinds):
    (folder / "out").mkdir()
    return ImageOutputs(folder / "out", ("background", "leaf", "stone"), kinds=OutputKinds(**kinds))


def test_outlines_of_a_geotiff_lie_on_the_map_and_burn_back_to_the_labels(tmp_path):
    pytest.importorskip("shapely")
    from rasterio.features import rasterize
    from shapely.geometry import shape

    image, outputs = scene(tmp_path / "x.tif"), outputs_for(tmp_path, polygons="geojson")
    outputs.write(image, "x", logits_for(LABELS), (3, 4))
    told = json.loads((tmp_path / "out" / "x.geojson").read_text())
    assert told["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    areas = {one["properties"]["class"]: one["properties"] for one in told["features"]}
    assert areas["leaf"] == {"class": "leaf", "label": 1, "area_px": 3, "area_m2": 300.0}
    assert all(shape(one["geometry"]).area == one["properties"]["area_m2"] for one in told["features"])
    with rasterio.open(image) as file:
        burnt = rasterize(
            [(one["geometry"], one["properties"]["label"]) for one in told["features"]],
            (3, 4),
            transform=file.transform,
        )
    np.testing.assert_array_equal(burnt, LABELS)


def test_outlines_have_a_least_area_and_pixels_of_a_photograph(tmp_path):
    pytest.importorskip("shapely")
    outputs = outputs_for(tmp_path, polygons="geojson", min_area=3)
    outputs.write("x.png", "x", logits_for(LABELS), (3, 4))
    (one,) = json.loads((tmp_path / "out" / "x.geojson").read_text())["features"]
    assert {*map(tuple, one["geometry"]["coordinates"][0])} == {(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)}
    assert "area_m2" not in one["properties"]


@pytest.mark.parametrize(
    ("crs", "area"), [("EPSG:32633", 100.0), ("EPSG:2263", 100 * 0.3048006096**2), ("EPSG:4326", None)]
)
def test_areas_are_square_metres_where_the_map_has_lengths(crs, area, tmp_path):
    outputs = outputs_for(tmp_path)
    outputs.write(scene(tmp_path / "x.tif", crs), "x", logits_for(LABELS), (3, 4), looks=2)
    outputs.write("plain.png", "plain", logits_for(LABELS), (3, 4))
    outputs.finish()
    with (tmp_path / "out" / "summary.csv").open() as file:
        geo, plain = csv.DictReader(file)
    assert (geo["leaf_px"], geo["stone_px"], geo["looks"], plain["looks"]) == ("3", "2", "2", "")
    if area is None:
        assert "leaf_m2" not in geo
    else:
        assert float(geo["leaf_m2"]) == pytest.approx(3 * area, rel=1e-6)
        assert plain["leaf_m2"] == ""


@pytest.mark.parametrize("geo", [True, False])
def test_probabilities_as_tiff_have_a_band_a_class_and_lie_where_the_image_lies(geo, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    image = scene(tmp_path / "x.tif") if geo else "x.png"
    outputs, logits = outputs_for(tmp_path, probabilities="tiff"), torch.randn(1, 3, 3, 4)
    outputs.write(image, "x", logits, (3, 4))
    path = tmp_path / "out" / "x.probabilities.tif"
    np.testing.assert_allclose(tifffile.imread(path), logits[0].softmax(0), atol=1e-6)
    if geo:
        with rasterio.open(path) as file, rasterio.open(image) as source:
            assert (file.crs, file.transform, file.descriptions) == (
                source.crs,
                source.transform,
                ("background", "leaf", "stone"),
            )


def test_a_map_of_values_lies_where_its_image_lies(tmp_path):
    (tmp_path / "out").mkdir()
    told = {"mask_values": (0, 255, 300), "kinds": OutputKinds(maps="masks")}
    ImageOutputs(tmp_path / "out", CLASSES, **told).write(scene(tmp_path / "x.tif"), "x", logits_for(LABELS), (3, 4))
    with rasterio.open(tmp_path / "out" / "x.tif") as file:
        np.testing.assert_array_equal(file.read(1), np.array([0, 255, 300])[LABELS])


# --- what is held at a time


def test_nothing_is_left_half_written(tmp_path, monkeypatch):
    from smp_feedback.training import image_outputs

    def full(*args, **told):
        raise OSError("No space left on device")

    monkeypatch.setattr(image_outputs, "write_probabilities", full)
    outputs = outputs_for(tmp_path, probabilities="npy")
    with pytest.raises(OSError, match="No space"):
        outputs.write("x.png", "x", logits_for(LABELS), (3, 4))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.png"]


def test_an_image_without_a_file_has_the_size_that_the_model_saw(tmp_path):
    writer = PredictionWriter(tmp_path, [(0, 0)], ("bg", "fg"))
    writer.write(torch.zeros(1, 1, 2, 5, 6), [0])
    from PIL import Image

    with Image.open(tmp_path / "item_0.png") as found:
        assert found.size == (6, 5)
