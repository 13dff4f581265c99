"""``--window``: a trained model looks at large images in overlapping windows, and a bar says how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from smp_feedback.cli.film_scores import has_films
from smp_feedback.data.folder import MaskFolder
from smp_feedback.errors import InvalidValue
from smp_feedback.loops.tiling import asking, fitting
from smp_feedback.loops.tiling.front import tiled
from smp_feedback.ops.reading import CLASSIFICATION
from smp_feedback.training.facts import Facts
from smp_feedback.training.looks_module import LooksModule

OVERLAP, STITCH = 0.25, "logits"


def add_arguments(parser: ArgumentParser) -> None:
    """What large images are told."""
    window = "look in overlapping windows of so many pixels, a side or [H, W]: memory for one window"
    parser.add_argument("--window", type=int | list[int] | None, metavar="N", help=window)
    overlap = "share of a window that the next one covers, too"
    parser.add_argument("--overlap", type=float, default=OVERLAP, metavar="SHARE", help=overlap)
    stitch = "logits: loops turn in each window; state: over the whole image, stitched between looks"
    parser.add_argument("--stitch", default=STITCH, metavar="WHAT", help=stitch)


def windowed(
    model: nn.Module,
    window: int | Sequence[int] | None,
    overlap: float = OVERLAP,
    stitch: str = STITCH,
    progress: asking.Progress | None = None,
) -> nn.Module:
    """*model* in windows, see :func:`smp_feedback.tiled`; itself where none are asked for.

    Raises:
        InvalidValue: If it is told how windows lie, and no window.
    """
    if window is not None:
        return tiled(model, window, overlap, stitch=stitch, progress=progress)  # type: ignore[arg-type]
    for name, told, usual in (("overlap", overlap, OVERLAP), ("stitch", stitch, STITCH)):
        if told != usual:
            raise InvalidValue(f"--{name} {told} is for windows: give --window N, too.")
    return model


def put_on(module: LooksModule, args: Any, settings: dict[str, Any], data: Any) -> list[Callback]:
    """Let *module* look at *data* in windows, if *args* ask for them; returns the bar that replaces Lightning's.

    Raises:
        InvalidValue: For what windows cannot be asked for, before any work.
    """
    bars = WindowBars(wanted=settings.get("enable_progress_bar") is not False)
    module.model = windowed(module.model, args.window, args.overlap, args.stitch, bars.windows)
    if args.window is None:
        return []
    if has_films(data):
        fitting.check_whole_frames(module.model)
    if module.every_look and args.stitch == STITCH and not isinstance(module.asked, int | None):
        raise InvalidValue(
            "--looks with --settled and --window: each window stops by itself, so there is no look that all have; "
            "leave one out, or give --stitch state."
        )
    settings["enable_progress_bar"] = False
    if isinstance(data, MaskFolder):  # each window becomes [0, 1] on its own
        data.as_bytes = True
    return [bars]


def seen_in_windows(facts: Facts, window: int | Sequence[int] | None) -> Facts:
    """*facts* of images of which a model is shown windows.

    Raises:
        InvalidValue: If it answers no maps.
    """
    if window is None:
        return facts
    check_maps(facts.task)
    return replace(facts, image=(facts.image[0], *fitting.sides(window)), crop=None, sized_by="window")


def check_maps(task: str) -> None:
    """What is put together from windows are maps.

    Raises:
        InvalidValue: If a model of *task* gives an image one answer.
    """
    if task == CLASSIFICATION:
        raise InvalidValue("--window: the model classifies, and an image gets one answer; leave it out.")


class WindowBars(Callback):
    """Two bars: of images, and of the windows of the one at hand, with the time left; none where none is *wanted*."""

    def __init__(self, *, wanted: bool = True) -> None:
        self.wanted = wanted
        self.bars: Progress | None = None

    @contextmanager
    def windows(self, what: str, calls: int) -> Iterator[Callable[[], None]]:
        """A bar of so many *calls* beneath the one of images; gives what moves it."""
        bars = self.bars
        if bars is None:
            yield lambda: None
            return
        task = bars.add_task(what, total=calls)
        try:
            yield lambda: bars.advance(task)
        finally:
            bars.remove_task(task)

    def _begin(self, trainer: Any, batches: list[int | float] | int | float) -> None:
        if not self.wanted or not trainer.is_global_zero:
            return
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self.bars = Progress(*columns, console=Console(stderr=True))
        self.bars.start()
        self.images = self.bars.add_task("images", total=sum(batches) if isinstance(batches, list) else batches)

    def _move(self, *_: Any, **__: Any) -> None:
        if self.bars is not None:
            self.bars.advance(self.images)

    def _end(self, *_: Any, **__: Any) -> None:
        if self.bars is not None:
            self.bars.stop()
        self.bars = None

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Show them."""
        self._begin(trainer, trainer.num_predict_batches)

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Show them."""
        self._begin(trainer, trainer.num_test_batches)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Show them."""
        self._begin(trainer, trainer.num_val_batches)

    on_predict_batch_end = on_test_batch_end = on_validation_batch_end = _move
    on_predict_end = on_test_end = on_validation_end = on_exception = _end
