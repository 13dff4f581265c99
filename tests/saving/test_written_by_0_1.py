"""Directories that version 0.1.0 saved, before its modules moved: one of each loop, and one of a plugin's model.

``expected.safetensors`` holds an image and the logits of every look, as that version computed them.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import smp_feedback as smpf

SAVED = Path(__file__).parent / "written_by_0_1"
NAMES = ("recurrent", "score", "restoration", "plugin")
NEW = {"cut": None, "carry": None, "rate": "learnt", "options": None}  # settings of a loop that 0.1 did not have


@pytest.mark.parametrize("name", NAMES)
def test_what_0_1_saved_answers_as_it_did(name):
    model, expected = smpf.from_pretrained(SAVED / name), load_file(SAVED / name / "expected.safetensors")
    torch.testing.assert_close(model.trajectory(expected["image"]), expected["trajectory"], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_what_0_1_saved_is_saved_again_in_the_same_words(name, tmp_path):
    smpf.from_pretrained(SAVED / name).save_pretrained(tmp_path)
    before, now = (json.loads((folder / "config.json").read_text()) for folder in (SAVED / name, tmp_path))
    assert [*before] == [key for key in now if key != "_model_class"], "for smp, which looks for its own class there"
    assert all(now["feedback"].pop(key, usual) == usual for key, usual in NEW.items())
    assert [*before["feedback"]] == [*now["feedback"]]
    told = ("architecture", "arguments", "feedback", "plugins")
    assert {key: before[key] for key in told} == {key: now[key] for key in told}
    weights, again = (load_file(folder / "model.safetensors") for folder in (SAVED / name, tmp_path))
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[key], again[key]) for key in weights)


@pytest.mark.parametrize("name", NAMES)
def test_the_looks_that_0_1_kept_differ(name):
    """Else a loop that had come to a stop would pass for one that goes on."""
    path = load_file(SAVED / name / "expected.safetensors")["trajectory"]
    assert (path[0] - path[-1]).abs().max() > 1e-4
