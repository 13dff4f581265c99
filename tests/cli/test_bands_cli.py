"""A set of 5-band GeoTIFFs: trained on, validated, taken up again and predicted, where each scene lies."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning")
pytest.importorskip("rasterio")
import rasterio

from smp_feedback import from_pretrained
from smp_feedback.cli.main import main

CORNER = rasterio.Affine(10, 0, 100, 0, -10, 200)


def scenes(root):
    random = np.random.default_rng(0)
    told = {"driver": "GTiff", "count": 5, "height": 16, "width": 24, "dtype": "uint16"}
    for split in ("train", "val", "test"):
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True)
        for k in range(2):
            with rasterio.open(root / split / f"{k}.tif", "w", **told, crs="EPSG:32633", transform=CORNER) as file:
                file.write(random.integers(0, 1 << 16, (5, 16, 24), np.uint16))
            Image.fromarray(random.integers(0, 2, (16, 24), np.uint8)).save(root / f"{split}annot" / f"{k}.png")


def test_five_bands_train_validate_resume_and_predict(tmp_path):
    scenes(tmp_path / "data")
    told = {
        "model": {
            "encoder": "tu-test_resnet.r160_in1k",
            "encoder_weights": None,
            "feedback": {"steps": 2},
            "arguments": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
        },
        "data": {"name": "folder", "root": str(tmp_path / "data"), "batch_size": 2, "options": {"classes": ["a", "b"]}},
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False},
    }
    (tmp_path / "run.yaml").write_text(json.dumps(told))
    out = str(tmp_path / "out")
    assert main(["fit", "--config", str(tmp_path / "run.yaml"), "--out", out]) == 0
    assert main(["fit", "--resume", out]) == 0
    assert main(["validate", "--run", out, "--out", str(tmp_path / "scored")]) == 0
    assert from_pretrained(tmp_path / "out" / "model")(torch.zeros(1, 5, 16, 24)).shape == (1, 2, 16, 24)
    maps = tmp_path / "maps"
    assert main(["predict", "--run", out, "--images", str(tmp_path / "data" / "val"), "--out", str(maps)]) == 0
    for k in range(2):
        with rasterio.open(maps / f"{k}.tif") as file, Image.open(maps / f"{k}.png") as picture:
            assert (file.crs, file.transform) == (rasterio.CRS.from_epsg(32633), CORNER)
            np.testing.assert_array_equal(file.read(1), np.array(picture))
