"""How often predict looks: a number of its own, or until each image's answer stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import smp_feedback as smpf
from smp_feedback.cli.main import main
from smp_feedback.ops.reading import labels_of

RULE = smpf.until_settled(2, at_most=7)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A saved model, some images, and these as the model is shown them."""
    folder = tmp_path_factory.mktemp("kept")
    torch.manual_seed(0)
    loop = smpf.Recurrent(steps=2, dynamics="leaky", tau=4.0, feedback_init=1.0)
    slim = {"encoder_weights": None, "encoder_depth": 3, "decoder_channels": (16, 8, 8)}
    model = smpf.create("Unet", "tu-test_resnet.r160_in1k", classes=3, feedback=loop, **slim).eval()
    model.save_pretrained(folder / "model")
    (folder / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    for i, one in enumerate(pixels):
        Image.fromarray(one).save(folder / "images" / f"{i}.png")
    return model, folder, torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255


def predicted(folder, out, *words):
    told = ["--run", str(folder / "model"), "--images", str(folder / "images"), "--out", str(out), *words]
    return main(["predict", *told, "--data.size", "32", "--trainer.accelerator", "cpu"])


def labels_in(path):
    return torch.from_numpy(np.array(Image.open(path)).astype(np.int64))


@pytest.mark.parametrize(
    ("words", "steps"), [([], None), (["--steps", "5"], 5), (["--steps", "7", "--settled", "2"], RULE)]
)
def test_maps_are_those_of_as_many_looks(words, steps, kept, tmp_path):
    model, folder, images = kept
    assert predicted(folder, tmp_path / "maps", *words) == 0
    with torch.no_grad():
        expected = labels_of(model(images, steps=steps))
    assert sorted(path.name for path in (tmp_path / "maps").glob("*.png")) == ["0.png", "1.png", "2.png"]
    for i, labels in enumerate(expected):
        assert torch.equal(labels_in(tmp_path / "maps" / f"{i}.png"), labels)


def test_every_look_is_written_as_far_as_it_goes(kept, tmp_path):
    model, folder, images = kept
    assert predicted(folder, tmp_path / "maps", "--steps", "7", "--settled", "2", "--looks", "true") == 0
    with torch.no_grad():
        path = model.trajectory(images, RULE)
    assert len(list((tmp_path / "maps").glob("0.look_*.png"))) == len(path)
    assert torch.equal(labels_in(tmp_path / "maps" / "1.look_2.png"), labels_of(path[1])[1])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--steps", "0"], "steps=0: expected a whole number >= 1"),
        (["--settled", "1"], "--settled 1: expected how many equal answers"),
        (["--steps", "2", "--settled", "3"], "at_most=2: expected at least looks=3"),
    ],
)
def test_what_cannot_be_is_refused_before_a_file_is_made(words, says, kept, tmp_path, capsys):
    assert predicted(kept[1], tmp_path / "maps", *words) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.png"))
