"""Verbs that are killed: what each is told, on tiny data with a tiny model, and how it goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SIZE = 32
BASE = ["--model.arch", "PlainConv", "--model.arguments", '{"width": 4}', "--model.feedback", '{"steps": 2}']
DATA = ["--data.name", "polygons", "--data.size", str(SIZE), "--data.batch_size", "2", "--data.images", "4"]
QUIET = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
TINY = [
    *("--data.size=32", "--data.batch_size=2", "--data.train_count=[2]", "--arch=PlainConv", "--train_steps=3"),
    *("--models=[feedback, plain]", "--seeds=2", "--corruptions=[occlusion]", "--severities=[3]", "--test_images=2"),
    *('--arch_options={"width": 4}', '--feedback={"steps": 2}', "--accelerator=cpu"),
]


class Work(NamedTuple):
    """A verb: what it is told, what of its folder it goes on with, and what was there before.

    Attributes:
        words: The command, of its folder and the one of the things that all share.
        again: The command after a kill.
        before: Fills its folder, by another command.
    """

    words: Callable[[Path, Path], list[str]]
    again: Callable[[Path, Path], list[str]]
    before: Callable[[Path, Path], list[str]] | None = None


def fit_words(out: Path, shared: Path) -> list[str]:
    often = ["--save_every", "1", "--trainer.max_epochs", "3", "--out", str(out / "run")]
    return ["fit", *BASE, "--model.ema", "0.9", *DATA, *QUIET, *often]


def fit_again(out: Path, shared: Path) -> list[str]:
    begun = (out / "run" / "config.yaml").is_file()
    return ["fit", "--resume", str(out / "run")] if begun else fit_words(out, shared)


def compare_words(out: Path, shared: Path) -> list[str]:
    return ["compare", *TINY, "--out", str(out)]


def predict_words(out: Path, shared: Path, *more: str) -> list[str]:
    said = ["--images", str(shared / "images"), "--out", str(out), "--probabilities", "npy", *more]
    return ["predict", "--run", str(shared / "run" / "model"), *said, *QUIET]


def export_words(out: Path, shared: Path, steps: int = 2) -> list[str]:
    how = ["--steps", str(steps), "--static", "--size", "16", "16"]
    return ["export", str(shared / "run" / "model"), str(out / "model.onnx"), *how]


WORKS = {
    "fit": Work(fit_words, fit_again),
    "compare": Work(compare_words, compare_words),
    "predict": Work(predict_words, predict_words, lambda out, shared: predict_words(out, shared, "--steps", "1")),
    "export": Work(export_words, export_words, lambda out, shared: export_words(out, shared, steps=1)),
}
