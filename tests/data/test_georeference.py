"""Maps of GeoTIFFs lie where their images lie; GDAL, through rasterio, says where that is."""

import sys

import numpy as np
import pytest
import tifffile
import torch

from smp_feedback.data.images import georeference as module
from smp_feedback.data.images.georeference import georeference, write_map
from smp_feedback.training.prediction_writers import PredictionWriter

rasterio = pytest.importorskip("rasterio")
CORNER = rasterio.Affine(10, 0, 100, 0, -10, 200)


def scene(path, bands=12, height=6, width=8):
    """10 m pixels, north up, its corner at (100, 200)."""
    place = {"crs": "EPSG:32633", "transform": CORNER}
    told = {"driver": "GTiff", "height": height, "width": width, "count": bands, "dtype": "uint16"}
    with rasterio.open(path, "w", **told, **place) as file:
        file.write(np.random.default_rng(0).integers(0, 9, (bands, height, width), np.uint16))
    return path


@pytest.mark.parametrize(("size", "pixel"), [((6, 8), (10, 10)), ((3, 2), (40, 20))])
def test_a_map_covers_what_its_image_covers(tmp_path, size, pixel):
    labels = np.arange(size[0] * size[1]).reshape(size)
    write_map(
        tmp_path / "map.tif", labels, georeference(scene(tmp_path / "x.tif"), *size), [(k, 0, 0) for k in range(256)]
    )
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.crs == rasterio.CRS.from_epsg(32633)
        assert file.res == pixel
        assert tuple(file.bounds) == (100, 140, 180, 200)  # left, bottom, right, top
        np.testing.assert_array_equal(file.read(1), labels)
        assert file.colormap(1)[7] == (7, 0, 0, 255)


def test_more_than_256_labels_are_written_as_16_bits(tmp_path):
    write_map(tmp_path / "map.tif", np.array([[0, 300]]), georeference(scene(tmp_path / "x.tif"), 1, 2), [(0, 0, 0)])
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.read(1).tolist() == [[0, 300]]


def test_what_is_no_geotiff_has_no_place(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((6, 8), np.uint8), metadata=None)
    (tmp_path / "torn.tif").write_bytes(b"II*\0")
    for name in ("x.tif", "torn.tif", "missing.tif", "x.png", "polygons[3] of seed 0"):
        assert georeference(tmp_path / name, 6, 8) is None


def test_it_is_said_when_the_place_is_lost(tmp_path, monkeypatch):
    scene(tmp_path / "x.tif")
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "rasterio" else sys.modules[name])
    with pytest.warns(UserWarning, match=r'pip install "smp_feedback\[geo\]"'):
        assert georeference(tmp_path / "x.tif", 6, 8) is None
    monkeypatch.undo()
    tifffile.imwrite(
        tmp_path / "turned.tif",
        np.zeros((6, 8), np.uint8),
        metadata=None,
        extratags=[(274, 3, 1, 6, True), (33550, 12, 3, (1.0, 1.0, 0.0), True)],
    )
    with pytest.warns(UserWarning, match=r"turned\.tif is turned by its tags"):
        assert georeference(tmp_path / "turned.tif", 8, 6) is None


def test_predict_writes_a_georeferenced_map_beside_the_picture(tmp_path):
    class Files:
        def __len__(self):
            return 1

        def name(self, index):
            return str(tmp_path / "scene.tif")

    scene(tmp_path / "scene.tif")
    (tmp_path / "out").mkdir()
    logits = torch.randn(2, 1, 3, 6, 8)
    PredictionWriter(tmp_path / "out", Files()).write(logits, [0])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["scene.png", "scene.tif"]
    with rasterio.open(tmp_path / "out" / "scene.tif") as file:
        np.testing.assert_array_equal(file.read(1), logits[-1, 0].argmax(0).numpy())
        assert file.transform == CORNER
