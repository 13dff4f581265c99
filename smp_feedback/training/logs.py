"""The log of a run as one table, ``csv/version_0/metrics.csv``, however often the run is killed and taken up again."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from smp_feedback.saving.files import replace_file


class OneCSV(CSVLogger):
    """Lightning's CSV log, but one file a run: a row is on disk as soon as it is logged, and a resume goes on with it.

    Lightning's own begins ``version_1`` where a run goes on, and loses the rows that a kill finds in memory.

    Args:
        folder: That of the run.
        resume: Whether the file goes on; else an older one is removed.
    """

    def __init__(self, folder: Path, *, resume: bool) -> None:
        super().__init__(folder, name="csv", version=0, flush_logs_every_n_steps=1)
        self.resume = resume

    @property
    def experiment(self) -> Any:
        """What writes, in the one process that does."""
        if self._experiment is None and not rank_zero_only.rank:  # type: ignore[attr-defined]
            Path(self.root_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = _Rows(self.log_dir, resume=self.resume)
        return super().experiment

    @rank_zero_only
    def go_on_from(self, step: int) -> None:
        """Leave out the rows from *step* on, which will be written again."""
        self.experiment.keep_before(step)


class GoesOn(Callback):
    """Tells a *log* where a resumed run goes on, once the first batch says so."""

    def __init__(self, log: OneCSV) -> None:
        self.table: OneCSV | None = log  # Lightning gives every callback a ``log`` of its own

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Before anything is logged."""
        if self.table is not None:
            self.table.go_on_from(trainer.fit_loop.epoch_loop._batches_that_stepped)
            self.table = None


class _Rows(ExperimentWriter):
    """The file itself, whose columns may grow: then it is written anew, whole."""

    def __init__(self, log_dir: str, *, resume: bool) -> None:
        self.resume = resume
        super().__init__(log_dir)
        self.metrics_keys = self._read()[0]

    def keep_before(self, step: int) -> None:
        keys, rows = self._read()
        if keys:
            self._replace(keys, [row for row in rows if int(row["step"]) < step])

    def _check_log_dir_exists(self) -> None:
        if not self.resume:
            Path(self.metrics_file_path).unlink(missing_ok=True)

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        self._replace(fieldnames, self._read()[1])

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        """Columns and rows; what a kill left half-written at the end is left out."""
        path = Path(self.metrics_file_path)
        if not path.is_file():
            return [], []
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            rows = [row for row in reader if None not in row.values() and (row.get("step") or "").isdigit()]
            return list(reader.fieldnames or ()), rows

    def _replace(self, keys: list[str], rows: list[dict[str, str]]) -> None:
        def write(draft: Path) -> None:
            with draft.open("w", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=keys)
                writer.writeheader()
                writer.writerows(rows)

        replace_file(Path(self.metrics_file_path), write)
