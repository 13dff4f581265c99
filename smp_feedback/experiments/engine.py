"""One engine for every experiment: an experiment says what its runs are, the engine makes, keeps and reports them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from smp_feedback.checks import check_whole
from smp_feedback.errors import InvalidValue
from smp_feedback.experiments.base_settings import ExperimentSettings
from smp_feedback.experiments.cost import hardware
from smp_feedback.experiments.parallel import check_executor, executor_of, in_turn, run_all, share
from smp_feedback.experiments.store import Trained, alone, claim, keep, kept, run_path
from smp_feedback.experiments.table import Table
from smp_feedback.saving.run_parts import keep_parts
from smp_feedback.training.checkpoints import check_room
from smp_feedback.training.trainer import check_accelerator

S = TypeVar("S", bound=ExperimentSettings)
K = TypeVar("K", bound=Hashable)
Results = Mapping[str, Any]
ROOM = 100_000_000  # bytes: reports, pictures and the weights of a few small models


@dataclass(frozen=True, kw_only=True)
class Experiment(Generic[S, K]):
    """An experiment, declared; called with its settings and a folder, it is made.

    Attributes:
        results: The file they are in.
        keys: Every run, in the order in which they are made; as text, the name of its files.
        passes: How much of the work a run is, beside the others.
        plan: What is about to be done, in a sentence.
        check: Opens what is to be read and builds what is to be trained, before hours are spent.
        run: Trains and scores one: a pure function of the settings, the key and ``accelerator``, which can be pickled.
        gather: What the results say of the data, beside the runs.
        report: Writes the report of its results into the folder, which holds its models, too; returns its files.
        tables: What of its results a console shows, one small table; the report has all.
        summary: What it says of them: the answer, and what is missing.
        differs: Why a run that is kept is not what training it now would give; empty if it is.
    """

    results: str
    keys: Callable[[S], Iterable[K]]
    passes: Callable[[S, K], int]
    plan: Callable[[S], str]
    check: Callable[[S], object]
    run: Callable[..., Trained]
    gather: Callable[[S], dict[str, Any]]
    report: Callable[[S, Results, Path], list[Path]]
    tables: Callable[[Results], Iterable[Table]]
    summary: Callable[[Results], Iterable[str]]
    differs: Callable[[S, K, Results], str] = lambda settings, key, kept: ""

    def __call__(
        self,
        settings: S,
        out: str | Path,
        *,
        jobs: int = 1,
        accelerator: str = "auto",
        command: str = "",
        executor: str | Executor = "local",
        begin: Callable[[], None] = lambda: None,
        advance: Callable[[K, Results | None], None] = lambda key, found: None,
    ) -> list[Path]:
        """Train and score every model of *settings*, and write the report.

        A run that is finished is kept in ``out/runs``, and its weights in ``out/models``; when an experiment with the
        same settings, or more seeds, is started again, only what is missing is trained.

        Args:
            settings: What is trained and scored.
            out: The folder for everything written.
            jobs: Processes that train at the same time, each with its share of the cores; the models are the same for
                one number of threads.
            accelerator: Lightning's.
            command: How this was asked for, for the report.
            executor: Who makes the runs: ``local``, ``dask://HOST:PORT``, ``slurm``, or any standard executor. Weights
                and numbers come back and are written here; the data must be where they are here for those who train,
                and *out* as well for ``slurm``, which is told its work by files.
            begin: Called once it is known that all of it can be done.
            advance: Called with each key, and its run once it is there or None as it begins (progress bars).

        Returns:
            The files written.

        Raises:
            InvalidValue: If *out* holds other settings, more seeds or a run that would be trained otherwise now, or
                somebody is at work there; if *accelerator* or *executor* is not there.
            FeedbackError: If the data, a model or the folder cannot be had; before any training.
        """
        check_whole("jobs", jobs)
        check_executor(executor)
        if executor == "local":  # elsewhere it is for those who make the runs to have it
            check_accelerator(accelerator)
        folder, what = Path(out), f"{'an' if settings.kind[0] in 'aeiou' else 'a'} {settings.kind}"
        self.check(settings)
        check_room(folder, ROOM)
        with executor_of(executor, jobs, folder) as (pool, at_once), alone(folder, what):
            claim(folder, settings.to_dict(), what)
            keep_parts(folder, settings.to_dict())
            begin()
            work = partial(in_turn, partial(self.run, settings, accelerator=accelerator), share(jobs))
            found = {key: kept(folder, key) for key in self.keys(settings)}
            self._check_alike(settings, found, folder)
            for key, there in found.items():
                if there is not None:
                    advance(key, there)
            missing = [key for key, there in found.items() if there is None]
            for key, made in run_all(work, missing, pool, at_once, lambda key: advance(key, None)):
                keep(folder, key, made)
                advance(key, made.found)
                found[key] = made.found
            about = {"command": command, "settings": settings.to_dict(), "hardware": hardware()}
            told = {"kind": settings.kind, "version": 1, **about, **self.gather(settings)}
            return self.report(settings, {**told, "runs": [*found.values()]}, folder)

    def _check_alike(self, settings: S, found: Mapping[K, Results | None], folder: Path) -> None:
        """Every run that is there is what it would be if it were made now.

        Raises:
            InvalidValue: Naming the first that is not, and why.
        """
        for key, there in found.items():
            if there is not None and (why := self.differs(settings, key, there)):
                raise InvalidValue(
                    f"{run_path(folder, key)} is of another version: {why}. Remove it to have it trained again, or "
                    "give another --out; results of the two do not belong in one report."
                )
