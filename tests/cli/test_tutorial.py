"""docs/tutorial.md: its commands, as they stand, lead from photographs and colour masks to overlays."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")
from smp_feedback.cli.main import main
from smp_feedback.data.masks.reader import MaskReader

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
TEXT = PAGE.read_text().replace("\\\n", "")
COMMANDS = re.findall(r"```sh\nsmp-feedback (.*?)\n```", TEXT, re.DOTALL)
COLOURS = {"background": "#000000", "leaf": "#00a000", "fruit": "#c00000"}
TINY = (  # what makes it a matter of seconds
    "--model.encoder tu-test_resnet.r160_in1k --model.encoder_weights null --model.feedback.steps 2 --data.size 32 "
    "--model.arguments '{encoder_depth: 3, decoder_channels: [16, 8, 8]}' --trainer.max_epochs 1 "
)
QUICK = "--trainer.accelerator cpu --trainer.enable_progress_bar false"


def paint(root):
    """Six painted photographs of two sizes, and two new ones."""
    palette = np.array([[0, 0, 0], [0, 160, 0], [192, 0, 0]], np.uint8)
    for folder in ("images", "masks", "new"):
        (root / folder).mkdir()
    for k in range(8):
        rng = np.random.default_rng(k)
        size = (40, 56) if k % 2 else (48, 36)
        labels = np.zeros(size, np.int64)
        labels[5:20, 4:18], labels[25:35, 10:30] = 1, 2
        photo = Image.fromarray((palette[labels] // 2 + rng.integers(0, 60, (*size, 3))).astype(np.uint8))
        if k < 6:
            photo.save(root / "images" / f"{k:03}.jpg")
            Image.fromarray(palette[labels]).save(root / "masks" / f"{k:03}.png")
        else:
            photo.save(root / "new" / f"IMG_{k}.jpg")


def test_there_are_five_commands():
    assert [words.split()[0] for words in COMMANDS] == ["check", "fit", "validate", "predict", "predict"]


def test_the_tutorial_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    paint(tmp_path)
    monkeypatch.chdir(tmp_path)
    for line in COMMANDS:
        more = {"check": "", "fit": TINY + QUICK}.get(line.split()[0], QUICK)
        assert main(shlex.split(f"{line} {more}")) == 0, capsys.readouterr()
    reader = MaskReader(classes=[*COLOURS], colours=COLOURS)
    for k in (6, 7):
        with Image.open(f"new/IMG_{k}.jpg") as photo, Image.open(f"answers/IMG_{k}.overlay.jpg") as overlay:
            assert overlay.height > photo.height
            assert reader.read(Path(f"answers/IMG_{k}.png")).shape == photo.size[::-1]
    assert Path("answers/summary.csv").is_file()
    assert Path("outlines/annotations.json").is_file()
    assert not Path("answers/failed.csv").exists()
