"""What a model expects of its images: checked at birth, there and back, and its normalisation undone."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smp_feedback import DataConfig
from smp_feedback.config.data import repeated
from smp_feedback.errors import FeedbackError, InvalidInput, InvalidType, InvalidValue, UnknownKeyword

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
WHOLE = {
    **IMAGENET,
    "size": (48, 64),
    "bands": (4, 3, 2),
    "channels": 3,
    "scale": ((0, 10_000),) * 3,
    "classes": ("sky", "car"),
    "ignore_index": 255,
    "task": "multilabel",
}


def test_a_config_is_the_same_after_json():
    config = DataConfig(**WHOLE)
    again = DataConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert hash(again) == hash(config)
    assert config.to_dict().keys() == WHOLE.keys()


def test_lists_are_as_good_as_tuples_and_one_range_is_that_of_every_band():
    assert DataConfig(mean=[0, 0, 0], std=[1, 1, 1]) == DataConfig(mean=(0.0,) * 3, std=(1.0,) * 3)
    assert DataConfig(scale=[0, 10]).scale == ((0.0, 10.0),)
    assert DataConfig(scale="percentile:1,99").scale == "percentile:1,99"


@pytest.mark.parametrize(
    ("told", "error", "words"),
    [
        ({"mean": (0.5,)}, InvalidValue, "mean=[0.5]: expected one number a channel, 3 of them."),
        ({"mean": (0.5,) * 3}, InvalidValue, "expected both, or neither"),
        ({"mean": (0,) * 3, "std": (1, 0, 1)}, InvalidValue, "std=0"),
        (
            {"mean": (123.675, 116.28, 103.53), "std": (0.2,) * 3},
            InvalidValue,
            "mean=[123.675, 116.28, 103.53]: expected",
        ),
        ({"mean": (-0.1, 0, 0), "std": (0.2,) * 3}, InvalidValue, "mean=[-0.1, 0.0, 0.0]: expected numbers in [0, 1]"),
        ({"mean": (0.5,) * 3, "std": (58.4, 57.1, 57.4)}, InvalidValue, "divide by 255"),
        ({"mean": (0, float("nan"), 0), "std": (1,) * 3}, InvalidValue, "mean=nan: expected a finite number."),
        ({"mean": "imagenet", "std": (1,) * 3}, InvalidType, "mean='imagenet'"),
        ({"size": (8,)}, InvalidType, "expected a pair"),
        ({"size": (8, 0)}, InvalidValue, "size=0"),
        ({"bands": (0, 1)}, InvalidValue, "bands=0"),
        ({"channels": 0}, InvalidValue, "channels=0"),
        ({"scale": "minmax"}, InvalidValue, "scale='minmax'"),
        ({"scale": (3, 3)}, InvalidValue, "low < high"),
        ({"scale": ((1, 2, 3),)}, InvalidType, "one such pair a band"),
        ({"classes": "sky"}, InvalidType, "classes='sky'"),
        ({"ignore_index": True}, InvalidType, "ignore_index=True"),
        ({"task": "segment"}, InvalidValue, "Did you mean 'segmentation'"),
    ],
)
def test_what_is_no_config_is_refused_at_birth(told, error, words):
    with pytest.raises(error) as caught:
        DataConfig(**told)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_key_is_refused_with_what_was_meant():
    with pytest.raises(UnknownKeyword, match="Did you mean 'mean'"):
        DataConfig.from_dict({"means": None})
    with pytest.raises(FeedbackError, match="expected the fields"):
        DataConfig.from_dict([])


def test_the_golden_values_of_imagenet():
    """By hand: (128 / 255 - 0.485) / 0.229 and so on."""
    grey = torch.full((2, 3, 4, 5), 128 / 255, dtype=torch.float64)
    seen = DataConfig(**IMAGENET).normalise(grey)
    expected = torch.tensor([0.07406456, 0.20518207, 0.42649237], dtype=torch.float64)
    torch.testing.assert_close(seen[1, :, 3, 4], expected, rtol=0, atol=1e-7)
    assert seen.amin((0, 2, 3)).equal(seen.amax((0, 2, 3)))


def test_no_mean_leaves_the_very_tensor():
    image = torch.rand(3, 4, 4)
    assert DataConfig().normalise(image) is image
    assert DataConfig().undo(image) is image


@given(
    st.integers(1, 6).flatmap(
        lambda n: st.tuples(
            st.lists(st.floats(0, 1), min_size=n, max_size=n),
            st.lists(st.floats(0.01, 1), min_size=n, max_size=n),
            st.lists(st.floats(0, 1), min_size=n, max_size=n),
        )
    )
)
def test_undo_undoes(drawn):
    mean, std, values = drawn
    config = DataConfig(mean=mean, std=std, channels=len(mean))
    image = torch.tensor(values, dtype=torch.float64)[:, None, None].expand(-1, 2, 3)
    torch.testing.assert_close(config.undo(config.normalise(image)), image, rtol=1e-12, atol=1e-12)


def test_other_channels_are_refused_in_one_line():
    with pytest.raises(InvalidInput, match=r"shape \(1, 5, 2, 2\): expected 3 channels"):
        DataConfig(**IMAGENET).normalise(torch.zeros(1, 5, 2, 2))


def test_channels_are_repeated_as_smp_repeats_weights():
    assert repeated((1, 2, 3), 7) == (1, 2, 3, 1, 2, 3, 1)
    assert repeated((1, 2, 3), 2) == (1, 2)
    assert repeated((1, 2, 6), 1) == (3,)
    config = DataConfig(**IMAGENET, classes=("a",)).with_channels(4)
    assert config.mean == (0.485, 0.456, 0.406, 0.485)
    assert config.classes == ("a",)
