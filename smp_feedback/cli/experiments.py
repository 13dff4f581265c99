"""A comparison with a progress bar, its tables printed, and every file named."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from smp_feedback.checks import check_whole
from smp_feedback.experiments.comparison.conclusion import summary
from smp_feedback.experiments.comparison.experiment import compare
from smp_feedback.experiments.comparison.runs import Key, keys, steps_of
from smp_feedback.experiments.comparison.schema import read_results
from smp_feedback.experiments.comparison.settings import Settings
from smp_feedback.experiments.comparison.tables import console_tables


def compare_aloud(settings: Settings, out: str, *, jobs: int, accelerator: str) -> None:
    """Compare, and print what came of it."""
    check_whole("jobs", jobs)
    console = Console()
    every = list(keys(settings))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with ExitStack() as stack:
        progress = Progress(*columns, console=console)
        task = progress.add_task("training", total=sum(_passes(settings, key) for key in every))

        def begin() -> None:
            console.print(_plan(settings, every), soft_wrap=True)
            stack.enter_context(progress)

        def advance(key: Key, found: Mapping[str, Any] | None) -> None:
            progress.update(task, description=str(key), advance=0 if found is None else _passes(settings, key))

        told: Any = {"command": "smp-feedback " + shlex.join(sys.argv[1:]), "begin": begin, "advance": advance}
        try:
            written = compare(settings, out, jobs=jobs, accelerator=accelerator, **told)
        except (KeyboardInterrupt, SystemExit):  # Lightning makes one the other
            console.print(f"Interrupted. Finished runs are kept in {out}: the same command goes on.", soft_wrap=True)
            raise SystemExit(130) from None
    results = read_results(Path(out) / "results.json")
    for table in console_tables(results):
        console.print(table)
    for said in summary(results):
        console.print(said)
    for path in written:
        console.print(f"wrote {path}", soft_wrap=True)


def _passes(settings: Settings, key: Key) -> int:
    """Forward passes of the base in training a run: what its time goes with."""
    return steps_of(settings, key) * (settings.looks if key.model == "feedback" else 1)


def _plan(settings: Settings, every: list[Key]) -> str:
    return (
        f"{len(every)} models of {settings.arch} on {settings.data}: {', '.join(settings.models)}; "
        f"{settings.train_steps} steps of {settings.batch_size} images each (T = {settings.looks}), "
        f"{settings.seeds} seed{'s' * (settings.seeds > 1)}, trained under {', '.join(settings.train)}, on "
        f"{', '.join('all' if not n else str(n) for n in settings.images)} images."
    )
