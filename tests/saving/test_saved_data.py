"""What a model expects of its images is saved with it, and what nobody said is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch

import smp_feedback as smpf
from smp_feedback import DataConfig
from smp_feedback.errors import FeedbackError
from smp_feedback.models.normalisation import given_config

TINY = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
ENCODER = "tu-test_resnet.r160_in1k"
CONFIG = DataConfig(
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    size=(8, 16),
    bands=(3, 2, 1),
    scale="percentile",
    classes=("sky", "car"),
    ignore_index=255,
)
OLD = Path(__file__).with_name("written_by_0_1")


def made(config=CONFIG, **told):
    model = smpf.create("Unet", ENCODER, None, **{"classes": 2, **TINY, **told})
    model.data_config = config
    return model


def test_it_comes_back_as_it_was(tmp_path):
    again = smpf.from_pretrained(made().save_pretrained(tmp_path))
    assert given_config(again) == (CONFIG, False)
    image = torch.rand(3, 8, 16)
    torch.testing.assert_close(again.preprocess(image), CONFIG.normalise(image))
    assert smpf.from_pretrained(again.save_pretrained(tmp_path / "twice")).data_config == CONFIG


def test_what_nobody_said_is_not_written(tmp_path):
    saved = made(DataConfig()).save_pretrained(tmp_path)
    assert "data" not in json.loads((saved / "config.json").read_text())
    assert given_config(smpf.from_pretrained(saved)) == (DataConfig(), False)


@pytest.mark.parametrize("folder", sorted(path for path in OLD.iterdir() if path.is_dir()), ids=lambda path: path.name)
def test_a_model_of_0_1_goes_on_seeing_images_as_they_are(folder):
    config, assumed = given_config(smpf.from_pretrained(folder))
    assert (config.mean, config.std, assumed) == (None, None, False)


def test_what_was_assumed_is_said_once_it_is_saved(tmp_path):
    wrapped = smpf.wrap(smp.Unet(ENCODER, encoder_weights=None, **TINY))
    again = smpf.from_pretrained(wrapped.save_pretrained(tmp_path))
    assert given_config(again) == (DataConfig(mean=(0.5,) * 3, std=(0.5,) * 3), False)


def test_other_channels_are_normalised_by_the_rule_of_their_weights(tmp_path):
    saved = made().save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="weight"):
        model = smpf.from_pretrained(saved, in_channels=4, strict=False)
    assert model.data_config.mean == (*CONFIG.mean, CONFIG.mean[0])


@pytest.mark.parametrize(("data", "words"), [({"gamma": 2}, "'data.gamma'"), ([], "'data'")])
def test_what_a_later_version_says_of_the_data_is_refused_by_name(tmp_path, data, words):
    saved = made().save_pretrained(tmp_path)
    path = saved / "config.json"
    config = json.loads(path.read_text())
    config["data"] = {**config["data"], **data} if data else data
    path.write_text(json.dumps(config))
    with pytest.raises(FeedbackError, match=words):
        smpf.from_pretrained(saved)


def test_the_card_says_how_images_are_made_ready(tmp_path):
    made().save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "Images in [0, 1], less mean [0.485, 0.456, 0.406], over std [0.229, 0.224, 0.225]" in card
    assert '"percentile"' in card
    made(DataConfig()).save_pretrained(tmp_path)
    assert "Images as they are, in [0, 1]: `model.preprocess(image)`" in (tmp_path / "README.md").read_text()
