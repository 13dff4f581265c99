"""What may be uploaded to the app, and what is told it on the command line."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")

from smp_feedback.app.uploads import RESIZED, WHOLE, Limits, limits_of, size_in_bytes, why_not
from smp_feedback.cli.app import model_folder
from smp_feedback.cli.main import main
from smp_feedback.errors import InvalidInput, InvalidValue


def test_a_file_over_the_limit_is_refused_with_both_numbers(tmp_path):
    (tmp_path / "a.png").write_bytes(bytes(2048))
    Limits(nbytes=2048).check_file(tmp_path / "a.png")
    with pytest.raises(InvalidInput, match=r"has 2 KB, more than the 1 KB that are taken"):
        Limits(nbytes=1024).check_file(tmp_path / "a.png")


@pytest.mark.parametrize("side", [3000, 30_000])
def test_a_bomb_is_refused_by_its_head(side, tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    Image.new("1", (10, 10)).save(path)
    head = bytearray(path.read_bytes())
    head[16:24] = side.to_bytes(4, "big") * 2
    head[29:33] = zlib.crc32(head[12:29]).to_bytes(4, "big")
    path.write_bytes(head)
    Image.init()  # some of its formats draw a picture when they are imported
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(
        InvalidInput, match=rf"{side} x {side} pixels.*more than the 4.2 million that are taken \(--size"
    ):
        limits_of(20 << 20, None, resizes=False).check_image(path)


def test_images_that_are_not_resized_are_to_be_smaller():
    assert limits_of(1, None, resizes=True).pixels == RESIZED > WHOLE == limits_of(1, None, resizes=False).pixels
    assert limits_of(1, 12, resizes=False).pixels == 12


@pytest.mark.parametrize("text", ["", "-1", "0", "20 apples", "MB"])
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(InvalidValue, match="expected a size such as 20MB"):
        size_in_bytes(text)


def test_the_page_learns_neither_where_a_file_lay_nor_a_traceback():
    path = Path("/secret/place/a.png")
    assert why_not(InvalidInput(f"{path}: it is empty."), path) == "a.png: it is empty."
    assert why_not(ZeroDivisionError("x"), path) == "This went wrong: ZeroDivisionError: x"
    assert "--size N" in why_not(RuntimeError("can't allocate memory"), path)


def test_the_model_is_a_saved_one_or_that_of_a_run(tmp_path):
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    (run / "config.yaml").touch()
    (run / "model" / "config.json").touch()
    assert model_folder(None, str(run)) == model_folder(str(run), None) == run / "model"
    assert model_folder(str(run / "model"), None) == run / "model"
    assert model_folder("owner/name", None) == "owner/name"
    for told, says in (((None, None), "Which model"), (("a", "b"), "Which model"), ((None, "a"), "folder of a run")):
        with pytest.raises(InvalidValue, match=says):
            model_folder(*told)


def test_a_run_that_has_not_ended_says_what_to_do(tmp_path):
    (tmp_path / "config.yaml").touch()
    with pytest.raises(InvalidValue, match=r"when it ends: smp-feedback fit --resume"):
        model_folder(None, str(tmp_path))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--port", "0"], "--port 0: expected 1 to 65535"),
        (["--max-size", "much"], "expected a size such as 20MB"),
        (["--max_pixels", "0"], "max_pixels=0: expected a whole number >= 1"),
        ([], "Which model?"),
    ],
)
def test_what_cannot_be_is_refused_before_a_model_is_loaded(words, says, capsys):
    pytest.importorskip("gradio")
    assert main(["app", *words]) == 2
    assert says in capsys.readouterr().err
