"""How far a run is, on one line of the terminal; in a file, one line an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, Timer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from torch import Tensor

from smp_feedback.training.monitors import in_words, title_of

BAR = 8
"""Columns that the bar has at least."""
PAUSE = 0.5
"""Seconds between two looks at the loss, each of which waits for the device."""
SCORES = ("val_miou", "val_accuracy", "val_iou", "val_loss")
"""What is shown of a run that keeps no best weights, the first that there is."""


class OneLine(ProgressBar):
    """A run's epoch, loss, score, best score and time left.

    The loss is the mean over the epoch so far; scores are those of the last validation. Nothing is cut off: what a
    narrow terminal has no room for is left out, the least important first.

    Args:
        lines: How many lines to write at most where the output is no terminal; None is one an epoch.
        console: Where; None is stderr.
    """

    def __init__(self, lines: int | None = None, console: Console | None = None) -> None:
        super().__init__()
        self.lines, self.console = lines, Console(stderr=True) if console is None else console
        self.enabled, self.task = True, TaskID(0)
        self.bar: Progress | None = None
        self.loss: Tensor | None = None
        self.batches, self.told, self.shown = 0, 0, 0.0
        self.begun, self.before = time.monotonic(), 0.0

    def disable(self) -> None:
        """Show nothing: one process speaks."""
        self.enabled = False

    def enable(self) -> None:
        """Show it again."""
        self.enabled = True

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """The time begins; a resumed run has some of it behind it."""
        self.begun, self.before = time.monotonic(), share_done(trainer)
        self._open()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """The mean loss begins anew."""
        self.loss, self.batches = None, 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Show the batch, its loss now and then."""
        parts = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1  # Lightning divides it
        loss = torch.as_tensor(outputs["loss"]).detach() * parts
        self.loss = loss if self.loss is None else self.loss + loss
        self.batches += 1
        if self.bar is not None and time.monotonic() - self.shown > PAUSE:
            self._show(_epoch(trainer), batch_idx + 1, trainer.num_training_batches, self._said(trainer))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Show the epoch with its score; in a file, a line."""
        if not self.enabled:
            return
        if self.bar is not None:
            done = trainer.num_training_batches
            self._show(_epoch(trainer), done, done, self._said(trainer))
            return
        due = trainer.current_epoch + 1 if self.lines is None else int(self.lines * share_done(trainer) + 1e-9)
        if due > self.told:
            self.told = due
            self._print(f"{_epoch(trainer)}  {fitting(self._said(trainer, when=True), math.inf)}")

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave the line as it is."""
        self._close()

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Of a verb that scores, open a bar of its own."""
        if trainer.state.fn != "fit":
            self._alone()

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Open a bar."""
        self._alone()

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Open a bar."""
        self._alone()

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Show how far validation is."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._walk(f"{_epoch(trainer)} val", batch_idx, trainer.num_val_batches, self._said(trainer))
        elif trainer.state.fn != "fit":
            self._walk("validating", batch_idx, trainer.num_val_batches)

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Show how far it is."""
        self._walk("testing", batch_idx, trainer.num_test_batches)

    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Show how far it is."""
        self._walk("predicting", batch_idx, trainer.num_predict_batches)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Give the terminal back."""
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Give the terminal back."""
        self._close()

    def print(self, *args: Any, **kwargs: Any) -> None:
        """A line of Lightning's, above the bar."""
        self._print(" ".join(map(str, args)))

    def _open(self) -> None:
        if self.enabled and self.console.is_terminal and self.bar is None:
            said = TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.fields[said]}")
            self.bar = Progress(*said, console=self.console, expand=True)
            self.task = self.bar.add_task("", total=None, said="")
            self.bar.start()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _alone(self) -> None:
        self.begun = time.monotonic()
        self._open()

    def _walk(self, what: str, index: int, totals: Sequence[float], said: Sequence[str] | None = None) -> None:
        if self.bar is None or time.monotonic() - self.shown < PAUSE:
            return
        total = sum(totals)
        if said is None:
            left = (time.monotonic() - self.begun) * (total / (index + 1) - 1)
            said = [] if math.isinf(total) else [f"{duration(left)} left"]
        self._show(what, index + 1, total, said)

    def _show(self, what: str, done: int, total: float, said: Sequence[str]) -> None:
        assert self.bar is not None
        self.shown = time.monotonic()
        room = self.console.width - len(what) - BAR - 2
        of = None if math.isinf(total) else total
        self.bar.update(self.task, description=what, completed=done, total=of, said=fitting(said, room))

    def _print(self, line: str) -> None:
        self.console.print(line, soft_wrap=True, markup=False, highlight=False)

    def _said(self, trainer: Any, *, when: bool = False) -> list[str]:
        """Loss, score, best score and time left, those that there are; *when* also says the best one's epoch."""
        loss = [] if self.loss is None else [f"loss {float(self.loss) / self.batches:.3g}"]
        kept = next((one for one in trainer.checkpoint_callbacks if getattr(one, "monitor", None)), None)
        monitor = kept.monitor if kept is not None else next((n for n in SCORES if n in trainer.callback_metrics), "")
        scored = trainer.callback_metrics.get(monitor)
        score = [] if scored is None else [f"{title_of(monitor)} {in_words(monitor, float(scored))}"]
        left = time_left(trainer, time.monotonic() - self.begun, self.before)
        rest = [] if left is None else [f"{duration(left)} left"]
        return [*loss, *score, *_best(kept, when=when), *rest]


def fitting(said: Sequence[str], room: float) -> str:
    """As many of *said* as have *room*, those in the middle left out first: the best score, then the score.

    >>> fitting(["loss 0.4", "mIoU 61.2", "best 63.0", "4 min left"], 80)
    'loss 0.4  mIoU 61.2  best 63.0  4 min left'
    >>> fitting(["loss 0.4", "mIoU 61.2", "best 63.0", "4 min left"], 30)
    'loss 0.4  4 min left'
    """
    kept = list(said)
    while kept and len("  ".join(kept)) > room:
        kept.pop(-2 if len(kept) > 1 else 0)
    return "  ".join(kept)


def share_done(trainer: Any) -> float:
    """How much of its run *trainer* has done, in [0, 1]; 0 where nobody knows how long it is."""
    parts = [0.0]
    batches = trainer.num_training_batches
    if trainer.max_steps > 0:
        parts.append(trainer.global_step / trainer.max_steps)
    if trainer.max_epochs and trainer.max_epochs > 0 and 0 < batches < math.inf:
        parts.append((trainer.fit_loop.total_batch_idx + 1) / (trainer.max_epochs * batches))
    return min(1.0, max(parts))


def time_left(trainer: Any, elapsed: float, before: float) -> float | None:
    """Seconds until the run ends, at the speed so far; None before anybody knows.

    Args:
        trainer: Of the run.
        elapsed: Seconds since it was begun, or taken up again.
        before: What share of it was done then.
    """
    done = share_done(trainer)
    left = elapsed * (1 - done) / (done - before) if done > before else math.inf
    timers = [one.time_remaining() for one in trainer.callbacks if isinstance(one, Timer)]
    left = min([left, *(seconds for seconds in timers if seconds is not None)])
    return left if math.isfinite(left) else None


def duration(seconds: float) -> str:
    """A time in words.

    >>> duration(9.6), duration(250), duration(7500), duration(200_000.0)
    ('10 s', '4 min', '2 h 05 min', '2 d 7 h')
    """
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _epoch(trainer: Any) -> str:
    """Counted from 1."""
    of = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
    return f"epoch {trainer.current_epoch + 1}{of}"


def _best(kept: ModelCheckpoint | None, *, when: bool) -> list[str]:
    if kept is None or kept.best_model_score is None or kept.monitor is None:
        return []
    epoch = getattr(kept, "best_epoch", None)
    of = f" (epoch {epoch + 1})" if when and epoch is not None else ""
    return [f"best {in_words(kept.monitor, float(kept.best_model_score))}{of}"]
