"""Data as people have them, from files to written maps: each set trains, validates, goes on and predicts."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

pytest.importorskip("lightning")
import smp_feedback as smpf
from smp_feedback.cli.main import main
from smp_feedback.config.data import DataConfig
from smp_feedback.data import open_dataset
from smp_feedback.evaluation import evaluate
from smp_feedback.ops.reading import labels_of

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
SIDE = 32
MODEL = {
    "encoder": "tu-test_resnet.r160_in1k",
    "encoder_weights": None,
    "feedback": {"steps": 2},
    "arguments": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
}


def scene(seed):
    """What is seen (SIDE, SIDE), uint8, and where its bright square is."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((SIDE, SIDE), np.uint8)
    y, x = rng.integers(0, SIDE // 2, 2)
    truth[y : y + SIDE // 2, x : x + SIDE // 2] = 1
    return (rng.integers(0, 80, (SIDE, SIDE)) + 120 * truth).astype(np.uint8), truth


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="minisblack", planarconfig="contig")
    else:
        Image.fromarray(array).save(path)


def scenes():
    for number, split in enumerate(("train", "val", "test")):
        for k in range(4 if split == "train" else 2):
            yield split, f"f{k}", *scene(10 * number + k)


def camvid(root):
    """Photographs as CamVid has them, fed as smp feeds an ImageNet encoder."""
    for split, name, seen, truth in scenes():
        save(root / split / f"{name}.png", np.stack([seen] * 3, -1))
        save(root / f"{split}annot" / f"{name}.png", np.where(truth, 8, 0).astype(np.uint8))
    return {"name": "camvid", **IMAGENET}


def colours(root):
    """Masks in colours, and a table of them."""
    table = np.array([[0, 0, 0], [200, 40, 10]], np.uint8)
    for split, name, seen, truth in scenes():
        save(root / split / f"{name}.png", np.stack([seen] * 3, -1))
        save(root / f"{split}annot" / f"{name}.png", table[truth])
    (root / "colours.csv").write_text("name,r,g,b\nground,0,0,0\nsquare,200,40,10\n")
    options = {"images": "{split}", "masks": "{split}annot", "classes": ["ground", "square"]}
    return {"name": "folder", "colours": str(root / "colours.csv"), "options": options}


def five_bands(root):
    """Scenes of five bands of 16 bits, one folder for all, masks of 0 and 255."""
    for split, name, seen, truth in scenes():
        bands = np.stack([seen.astype(np.uint16) * k for k in range(1, 6)], -1)
        save(root / "scenes" / f"{split}_{name}.tif", bands)
        save(root / "truth" / f"{split}_{name}.png", truth * 255)
    options = {"images": "scenes", "masks": "truth", "classes": ["ground", "square"]}
    own = {"values": {255: 1}, "val_share": 0.25, "test_share": 0.25, "scale": "percentile"}
    return {"name": "folder", **own, "options": options}


def multilabel(root):
    """A mask a class; the classes overlap."""
    for split, name, seen, truth in scenes():
        save(root / split / f"{name}.png", np.stack([seen] * 3, -1))
        save(root / "masks" / split / "square" / f"{name}.png", truth * 255)
        save(root / "masks" / split / "bright" / f"{name}.png", (seen > 100).astype(np.uint8) * 255)
    masks = "masks/{split}/{class}/{stem}.png"
    return {"name": "folder", "options": {"images": "{split}", "masks": masks, "classes": ["square", "bright"]}}


SETS = {one.__name__: one for one in (camvid, colours, five_bands, multilabel)}


@pytest.fixture(scope="module", params=SETS)
def fitted(request, tmp_path_factory):
    """A set, its settings, and the folder of a run."""
    root = tmp_path_factory.mktemp(request.param)
    data = SETS[request.param](root) | {"root": str(root), "batch_size": 2}
    settings = {"model": MODEL, "data": data, "trainer": {"max_epochs": 2, "accelerator": "cpu"}}
    settings["trainer"]["enable_progress_bar"] = False
    config = root / "run.yaml"
    config.write_text(json.dumps(settings))
    run = root / "run"
    assert main(["fit", "--config", str(config), "--out", str(run)]) == 0
    return root, data, run


def opened(data, split):
    own = {k: v for k, v in data.items() if k not in ("name", "mean", "std", "batch_size", "options")}
    return open_dataset(data["name"], split, **own, **data.get("options", {}))


def test_what_was_learnt_from_is_saved_with_the_model(fitted):
    _, data, run = fitted
    model = smpf.from_pretrained(run / "model")
    config, pairs = model.data_config, opened(data, "train")
    assert config == DataConfig.from_dict(json.loads((run / "data.json").read_text()))
    assert config.classes == tuple(pairs.classes)
    assert config.channels == len(pairs[0][0])
    assert config.mean == (tuple(data["mean"]) if "mean" in data else None)


def test_two_ways_to_score_agree(fitted, tmp_path):
    _, data, run = fitted
    assert main(["validate", "--run", str(run), "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "scores.json").read_text())
    model, pairs = smpf.from_pretrained(run / "model"), opened(data, "val")
    how = {"classes": len(pairs.classes), "ignore_index": pairs.ignore_index, "task": model.data_config.task}
    scores = evaluate(model, pairs, **how, looks=[1, 2])
    assert found["looks"] == pytest.approx([score.score for score in scores], abs=1e-6)


def test_a_run_goes_on(fitted, tmp_path):
    _, _, run = fitted
    again = tmp_path / "run"
    shutil.copytree(run, again)
    assert main(["fit", "--resume", str(again)]) == 0
    old, new = (torch.load(one / "last.ckpt", weights_only=True)["state_dict"] for one in (run, again))
    assert all(torch.equal(value, new[key]) for key, value in old.items())


def test_what_is_predicted_is_what_the_saved_model_says_of_its_file(fitted, tmp_path):
    _, data, run = fitted
    pairs = opened(data, "test")
    images = tmp_path / "photos"
    images.mkdir()
    for path, _ in pairs.samples:
        shutil.copy(path, images)
    assert main(["predict", "--run", str(run), "--images", str(images), "--out", str(tmp_path / "maps")]) == 0
    model = smpf.from_pretrained(run / "model")
    config = model.data_config
    for k, (path, _) in enumerate(pairs.samples):
        logits = model(config.normalise(pairs[k][0][None])).detach()
        wanted = labels_of(logits, config.task)[0]
        if config.task == "multilabel":
            for c, name in enumerate(config.classes):
                read = np.array(Image.open(tmp_path / "maps" / f"{path.stem}.{name}.png"))
                assert np.array_equal(read > 0, wanted[c].numpy() > 0)
        else:
            read = np.array(Image.open(tmp_path / "maps" / f"{path.stem}.png"))
            assert np.array_equal(read, wanted.numpy())
