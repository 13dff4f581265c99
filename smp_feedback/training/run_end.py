"""What is said when a run ends: which weights were best, and which commands come next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smp_feedback.training.checkpoints import BEST, read_checkpoint
from smp_feedback.training.monitors import in_words, title_of
from smp_feedback.training.run_folder import MODEL

NEXT: dict[str, tuple[str, ...]] = {
    "fit": (
        "{scores} --run {run}",
        "predict --run {run} --images PHOTOS",
        "export {run}/{model} model.onnx",
    ),
    "score": ("score tune --run {run}", "score evaluate --run {run}"),
    "repair": (
        "repair evaluate --run {run}",
        "predict --run {run}/{model} --images PHOTOS",
        "export {run}/{model} model.onnx",
    ),
    "restore": ("restore evaluate --run {run}",),
    "clicks": ("clicks evaluate --run {run}",),
}
"""By verb, what is usually done with what it trained."""


def best_told(folder: Path, monitor: str) -> list[str]:
    """One line: the epoch of the weights that are kept, and their score; none of a run that was never scored."""
    path = folder / BEST
    if not path.is_file():
        return []
    kept = read_checkpoint(path)
    states = (state for state in kept["callbacks"].values() if isinstance(state, dict))
    score = next((state.get("best_model_score") for state in states if state.get("monitor") == monitor), None)
    return [best_line(kept, monitor, score)]


def best_line(kept: dict[str, Any], monitor: str, score: Any) -> str:
    """That line, of a checkpoint.

    >>> best_line({"epoch": 11}, "val_miou", 0.63)
    'best: epoch 12, mIoU 63.0 on the validation images'
    """
    said = "" if score is None else f", {title_of(monitor)} {in_words(monitor, float(score))} on the validation images"
    return f"best: epoch {kept['epoch'] + 1}{said}"


def next_commands(verb: str, folder: Path, tested: bool = True) -> list[str]:
    """The commands that come next, to be copied; where nothing is kept to be *tested* on, on what is validated.

    >>> next_commands("restore", Path("runs/a"))
    ['next: smp-feedback restore evaluate --run runs/a']
    >>> next_commands("fit", Path("runs/a"), tested=False)[0]
    'next: smp-feedback validate --run runs/a'
    """
    saved = (folder / MODEL).is_dir()
    lines = [line for line in NEXT.get(verb, ()) if saved or "{model}" not in line]
    names = {"run": folder, "model": MODEL, "scores": "test" if tested else "validate"}
    said = [f"smp-feedback {line.format(**names)}" for line in lines]
    return [f"{'next:' if i == 0 else '     '} {line}" for i, line in enumerate(said)]
