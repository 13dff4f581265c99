"""What a dataset is told by settings and options, and what of it a model keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from small_folders import OPTIONS, folder, mask

from smp_feedback.config.data import DataConfig
from smp_feedback.errors import InvalidValue

pytest.importorskip("lightning")
from smp_feedback.training.image_files import ImageFiles
from smp_feedback.training.opening import learnt_from, open_pairs


@pytest.fixture
def told(tmp_path):
    """Settings of two tiny splits."""
    folder(tmp_path, train=[mask(0, 1, 2)] * 2, val=[mask(0, 1, 2)])
    return {"name": "folder", "root": str(tmp_path), "batch_size": 1, "options": dict(OPTIONS)}


def kept(told, **more):
    """What a model of no own normalisation keeps of the data that *told* opens, with *more* options."""
    _, facts = open_pairs("fit", 0, **{**told, "options": {**told["options"], **more}})
    return facts.config(DataConfig())


def test_a_model_keeps_what_options_alone_say_of_reading(told):
    assert kept(told).bands is None
    config = kept(told, bands=[3, 1], scale=[0, 128])
    assert (config.bands, config.scale, config.channels) == ((3, 1), ((0.0, 128.0),), 2)


@pytest.mark.parametrize(
    "reading", [{"bands": [2], "channels": 3}, {"bands": [2]}, {"bands": [3, 1], "scale": [0, 128]}]
)
def test_images_without_masks_are_read_as_those_of_training_were(told, reading):
    data, facts = open_pairs("fit", 0, **{**told, "options": {**told["options"], **reading}})
    files = ImageFiles(f"{told['root']}/val", config=facts.config(DataConfig()))
    pixels = torch.from_numpy(np.array(Image.open(f"{told['root']}/val/0.png"), dtype=np.float32)).movedim(-1, 0)
    chosen = pixels[[band - 1 for band in reading["bands"]]] / reading.get("scale", [0, 255])[1]
    wanted = chosen.clamp(0, 1).expand(facts.image[0], -1, -1)
    torch.testing.assert_close(files[0][0], wanted)
    torch.testing.assert_close(data.val[0][0], wanted)


@pytest.mark.parametrize(
    ("settings", "options", "words"),
    [
        ({}, {"transform": "flips"}, "data.augment"),
        ({}, {"split": "train"}, "own splits"),
        ({}, {"seed": 3}, "--seed"),
        ({}, {"count": 1}, "data.train_count"),
        ({}, {"root": "elsewhere"}, "give it once"),
        ({"bands": [1]}, {"bands": [2]}, r"data.options.bands=\[2\] and data.bands=\[1\]"),
        ({"train_count": 9}, {}, "data.train_count=9: expected at most the 2 items"),
        ({"augment": "colour", "bands": [1, 2]}, {}, "data.augment=colour: images have 2 channels"),
    ],
)
def test_what_settings_say_no_option_says_otherwise(told, settings, options, words):
    with pytest.raises(InvalidValue, match=words):
        open_pairs("fit", 0, **{**told, **settings, "options": {**told["options"], **options}})


def test_the_same_said_twice_is_taken(told):
    assert kept({**told, "bands": [2, 1]}, bands=[2, 1]).bands == (2, 1)


def test_the_images_that_a_run_learnt_from_are_found_again(told):
    assert [path.name for path, _ in learnt_from({**told, "train_count": 1}, 0)["train"].samples] in (
        ["0.png"],
        ["1.png"],
    )
    assert learnt_from({**told, "root": None}, 0) == learnt_from({**told, "root": "nowhere"}, 0) == {}


def test_alpha_is_a_channel_of_new_images_where_it_was_one(tmp_path):
    Image.new("RGBA", (8, 6), (10, 20, 30, 255)).save(tmp_path / "0.png")
    assert ImageFiles(tmp_path, config=DataConfig(channels=4))[0][0][:, 0, 0].mul(255).tolist() == [10, 20, 30, 255]
    assert len(ImageFiles(tmp_path, config=DataConfig(channels=3))[0][0]) == 3
