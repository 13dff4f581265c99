"""An ablation with a progress bar, its tables printed, and every file named."""

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
from smp_feedback.evaluation.results import load_result
from smp_feedback.experiments.ablation.experiment import RESULTS, ablate
from smp_feedback.experiments.ablation.rows import ROWS
from smp_feedback.experiments.ablation.runs import Key, keys
from smp_feedback.experiments.ablation.settings import AblationSettings
from smp_feedback.experiments.ablation.tables import summary, tables


def ablate_aloud(settings: AblationSettings, out: str, *, jobs: int, accelerator: str) -> None:
    """Ablate, and print what came of it."""
    check_whole("jobs", jobs)
    console = Console()
    every = list(keys(settings))
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with ExitStack() as stack:
        progress = Progress(TextColumn("{task.description}"), *columns, console=console)
        task = progress.add_task("training", total=sum(share(settings, key) for key in every))

        def begin() -> None:
            console.print(plan(settings), soft_wrap=True)
            stack.enter_context(progress)

        def advance(key: Key, found: Mapping[str, Any] | None) -> None:
            progress.update(task, description=str(key), advance=0 if found is None else share(settings, key))

        told: Any = {"command": "smp-feedback " + shlex.join(sys.argv[1:]), "begin": begin, "advance": advance}
        try:
            written = ablate(settings, out, jobs=jobs, accelerator=accelerator, **told)
        except (KeyboardInterrupt, SystemExit):  # Lightning makes one the other
            console.print(f"Interrupted. Finished runs are kept in {out}: the same command goes on.", soft_wrap=True)
            raise SystemExit(130) from None
    results = load_result(Path(out) / RESULTS)
    for table in tables(results).values():
        console.print(*table.within(console.width), sep="\n")
    for said in summary(results):
        console.print(said)
    for path in written:
        console.print(f"wrote {path}", soft_wrap=True)


def share(settings: AblationSettings, key: Key) -> int:
    """Passes of M and R in training a run: about what its time goes with."""
    row, steps = ROWS[key.row], settings.config.steps
    passes = 1 if not row.restored else 2 * (steps + 1 if row.fed_back else 1)
    return passes * settings.train_steps


def plan(settings: AblationSettings) -> str:
    """What is about to be done, in a sentence."""
    count = settings.seeds * len(settings.rows)
    return (
        f"{count} models of {settings.arch} on {settings.data} under {settings.said}: "
        f"{', '.join(row for row in ROWS if row in settings.rows)}; {settings.train_steps} batches of "
        f"{settings.batch_size} images each (T = {settings.config.steps}), {settings.seeds} "
        f"seed{'s' * (settings.seeds > 1)}."
    )
