"""Films, a camera and clicks in the app, without a page."""

from __future__ import annotations

import os
import signal
import socket

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")

import smp_feedback as smpf
from smp_feedback.app import serving
from smp_feedback.app.clicking import begin, click, drawn_clicks, export_object, reset, undo
from smp_feedback.app.films import Stream, answer_film, no_films
from smp_feedback.app.served import described, served
from smp_feedback.app.serving import is_loopback
from smp_feedback.app.uploads import Limits
from smp_feedback.errors import InvalidInput, InvalidValue

FRAME = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


@pytest.fixture
def following():
    return served(smpf.create("PlainConv", classes=3, width=8, depth=2, feedback="film"))


@pytest.fixture
def listening():
    loop = {"preset": "anytime", "dynamics": "gated"}
    model = smpf.create("PlainConv", in_channels=5, classes=1, width=8, feedback=loop)
    model.data_config = smpf.DataConfig(size=(12, 16), clicks=smpf.ClickConfig(radius=2))
    return served(model)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "street.png"
    Image.fromarray(FRAME).save(path)
    return path


def test_a_frame_goes_on_from_the_one_before_until_the_stream_begins_anew(following):
    stream, shown = Stream(following), []
    for _ in range(2):
        shown.append(stream.look(FRAME))
    assert stream.frames == 2
    assert not np.array_equal(*shown), "the state has gone on"
    stream.reset()
    assert stream.frames == 0
    assert np.array_equal(stream.look(FRAME), shown[0])


def test_a_frame_of_another_size_ends_a_stream(following):
    stream = Stream(following)
    stream.look(FRAME)
    with pytest.raises(InvalidInput, match="expected a film of one size"):
        stream.look(FRAME[:20])
    with pytest.raises(InvalidInput, match="begin anew"):
        stream.look(FRAME)


@pytest.mark.parametrize("feedback", ["film", {"dynamics": "residual"}])
def test_a_classifier_that_does_not_say_so_is_refused_at_its_first_frame(feedback):
    found = served(smpf.create("timm/test_resnet", classes=3, feedback=feedback), size=32)
    with pytest.raises(InvalidValue, match="The model classifies"):
        Stream(found).look(np.zeros((32, 32, 3), np.uint8))


def test_a_film_comes_back_with_its_answers(following, tmp_path):
    pytest.importorskip("av")
    from smp_feedback.data import VideoFrames, write_video

    path = write_video(tmp_path / "film.mp4", (torch.rand(3, 24, 32) for _ in range(3)), 8)
    told = []
    found = answer_film(following, path, tmp_path / "out.mp4", Limits(), lambda *done: told.append(done))
    assert found.said == "3 frames, one look a frame."
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert len(list(VideoFrames(found.path))) == 3
    with pytest.raises(InvalidInput, match=r"more than the 0\.0 million that are taken"):
        answer_film(following, path, tmp_path / "out.mp4", Limits(pixels=100))


SAID = {"film": None, True: "the dynamics decay", False: "without feedback", "score": "the score loop"}


@pytest.mark.parametrize(("loop", "says"), SAID.items())
def test_who_carries_nothing_says_why_there_are_no_films(loop, says):
    told = smpf.Score(filters=4, additional_pools=1) if loop == "score" else loop
    base = ("Unet", "resnet18", None) if loop == "score" else ("PlainConv",)
    found = no_films(served(smpf.create(*base, classes=2, feedback=told)))
    assert found is None if says is None else says in found


def test_a_click_falls_on_the_pixel_below_it(listening, photo):
    one = begin(listening, photo)
    height, width = one.small.shape[:2]
    click(listening, one, width - 1, 0, inside=True)
    click(listening, one, 0, height - 1, inside=False)
    assert one.session.clicks == [(0, 15, True), (11, 0, False)]
    assert described(listening).endswith("1 look a click")


def test_undo_and_reset_take_clicks_back(listening, photo, tmp_path):
    one = begin(listening, photo)
    bare = drawn_clicks(one)
    with pytest.raises(InvalidValue, match="click on the object first"):
        export_object(one, tmp_path)
    for x in (10, 60, 90):
        click(listening, one, x, 50, inside=True)
    assert len(undo(one).session) == 2
    assert np.array_equal(drawn_clicks(reset(one)), bare)
    assert len(undo(one).session) == 0


def test_the_mask_of_an_object_has_the_size_of_its_image(listening, photo, tmp_path):
    one = click(listening, begin(listening, photo), 40, 40, inside=True)
    with Image.open(export_object(one, tmp_path)) as found:
        mask = np.array(found)
    assert np.array_equal(mask, one.labels())
    assert mask.shape == (24, 32)


def test_what_is_at_work_gives_up_when_the_app_ends(following, listening, photo):
    following.stop()
    with pytest.raises(InvalidValue, match="was stopped"):
        Stream(following).look(FRAME)
    one = begin(listening, photo)
    listening.stop()
    with pytest.raises(InvalidValue, match="was stopped"):
        click(listening, one, 1, 1, inside=True)


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_who_listens_elsewhere_is_warned(host, warned, following, monkeypatch):
    class Page:
        local_url = "http://there/"

        def close(self, verbose):
            lines.append("closed")

    lines, folders = [], []

    def launched(found, limits, folder, *where):
        folders.append(folder)
        assert os.environ["GRADIO_TEMP_DIR"].startswith(str(folder))
        return Page()

    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(serving, "launched", launched)
    monkeypatch.setattr(serving, "require", lambda library, extra: None)

    def tell(line):
        lines.append(line)
        if line.startswith("open "):
            os.kill(os.getpid(), signal.SIGTERM)

    serving.serve(following, Limits(), tell=tell, host=host)
    assert is_loopback(host) is not warned
    assert lines[0].startswith("warning: listens on 0.0.0.0: whoever reaches it") is warned
    assert lines[-3:-1] == ["open http://there/ in a browser; Ctrl-C ends it", "closed"]
    assert lines[-1] == "stopped; what was uploaded is deleted"
    assert not folders[0].exists()


@pytest.mark.parametrize("host", ["203.0.113.7", "a..b"])
def test_a_host_of_another_computer_is_refused_before_anything_is_begun(host, following, monkeypatch):
    monkeypatch.setattr(serving, "require", lambda library, extra: None)
    monkeypatch.setattr(serving, "launched", lambda *_: pytest.fail("gradio would wait for ever"))
    with pytest.raises(InvalidValue, match=f"Nobody can listen on {host}: .* Give another --host or --port, or none"):
        serving.serve(following, Limits(), tell=pytest.fail, host=host)


def test_a_port_that_another_listens_on_is_refused_with_its_number():
    with socket.socket() as other:
        other.bind((serving.HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InvalidValue, match=f"Nobody can listen on {serving.HOST} port {port}: "):
            serving.check_address(serving.HOST, port)
    serving.check_address(serving.HOST, port)
