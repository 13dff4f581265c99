"""The tab of an image without a browser: what the page is sent, look by look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("gradio")
pytest.importorskip("lightning")
pytest.importorskip("matplotlib")

import gradio as gr

import smp_feedback as smpf
from smp_feedback.app import image_tab
from smp_feedback.app.image_tab import OVER, ImageTab
from smp_feedback.app.served import ServedModel, served
from smp_feedback.app.uploads import Limits
from smp_feedback.errors import InvalidInput

FILE, STATE, SLIDER, ANSWER, SAID = 0, 1, 3, 5, 9


@pytest.fixture
def tab(tmp_path):
    torch.manual_seed(0)
    model = smpf.create("PlainConv", classes=3, width=8, feedback=smpf.Recurrent(steps=2))
    tab = ImageTab.__new__(ImageTab)  # without its parts: gradio's leave sockets and loops open, which here are errors
    tab.found, tab.limits, tab.folder, tab.several = served(model.eval()), Limits(), tmp_path, True
    return tab


@pytest.fixture
def upload(tmp_path):
    path = tmp_path / "street.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    return path


def is_skipped(sent):
    return isinstance(sent, dict) and sent == gr.skip()


def test_looks_are_shown_as_they_come_and_those_beyond_wait_on_the_slider(tab, upload, monkeypatch):
    monkeypatch.setattr(image_tab, "EVERY", 0)
    sent = []
    for one in tab.look(str(upload), OVER):
        assert not upload.exists(), "it was read, and is deleted before the first look is shown"
        sent.append(one)
    assert [len(one[STATE].looks) for one in sent] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [one[SLIDER].maximum for one in sent] == [2, 2, 3, 4, 5, 6, 7, 8]
    assert [is_skipped(one[ANSWER]) for one in sent] == [False, False, *6 * [True]]
    assert [is_skipped(one[FILE]) for one in sent] == [False, *7 * [True]]
    assert "street: Look 2 of 2 (up to 6 more to come); " in sent[1][SAID]
    looked = sent[-1][STATE]
    assert "street: Look 5 of 8; " in tab.finish(looked, 5, OVER)[-1]


def test_there_is_no_slider_where_the_loop_rests_after_its_first_look(tab, upload, monkeypatch):
    every = ServedModel.every_look
    monkeypatch.setattr(ServedModel, "every_look", lambda self, shown: iter([next(every(self, shown))]))
    assert [one[SLIDER].visible for one in tab.look(str(upload), OVER)] == [True, False]


def test_few_are_sent_where_the_model_is_fast(tab, upload, monkeypatch):
    monkeypatch.setattr(image_tab, "EVERY", 3600)
    assert [len(one[STATE].looks) for one in tab.look(str(upload), OVER)] == [1, 2, 8]


def test_what_is_refused_stays_on_the_page(tab, upload):
    upload.write_text("no image")
    (sent,) = tab.look(str(upload), OVER)
    assert sent[STATE] is None
    assert "expected an image file" in sent[SAID]
    assert all(map(is_skipped, tab.finish(None, 1, OVER)))
    assert not Path(upload).exists()


def test_an_error_at_a_later_look_is_said_in_place_of_what_was_shown(tab, upload, monkeypatch):
    every = ServedModel.every_look

    def fails(self, shown):
        yield next(every(self, shown))
        raise InvalidInput("the second look fails")

    monkeypatch.setattr(ServedModel, "every_look", fails)
    first, last = tab.look(str(upload), OVER)
    assert len(first[STATE].looks) == 1
    assert last[STATE] is None
    assert "the second look fails" in last[SAID]
