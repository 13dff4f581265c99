"""A SLURM queue as a standard executor, through submitit (extra ``cluster``)."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from smp_feedback.errors import FeedbackError, InvalidValue

V = TypeVar("V")
TRIES = 3  # of a run whose process is killed


@contextmanager
def slurm_queue(folder: Path, threads: int) -> Iterator[Executor]:
    """A SLURM queue; partition, memory and time are for sbatch's own variables to say (``SBATCH_PARTITION``, ...)."""
    from submitit import AutoExecutor

    try:
        queue = AutoExecutor(folder, cluster="slurm")
    except RuntimeError as error:
        raise InvalidValue(f"executor='slurm': {error}") from error
    queue.update_parameters(name="smp-feedback", cpus_per_task=threads, timeout_min=24 * 60)
    with SubmititExecutor(queue) as executor:
        yield executor
    shutil.rmtree(folder, ignore_errors=True)  # where all went well: what failed is told in there


class SubmititExecutor(futures.ThreadPoolExecutor):
    """submitit as a standard executor: a thread waits for each run, and queues it again if it is killed.

    Args:
        queue: One of submitit's executors.
    """

    def __init__(self, queue: Any) -> None:
        super().__init__(max_workers=1000)
        self._queue, self._jobs, self._one, self._over = queue, list[Any](), threading.Lock(), False

    def submit(self, work: Callable[..., V], /, *args: Any, **kwargs: Any) -> Future[V]:
        """Queue it."""
        return super().submit(self._made, work, *args, **kwargs)

    def _made(self, *work: Any) -> Any:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        for _ in range(TRIES):
            with self._one:
                if self._over:
                    break
                self._jobs.append(job := self._queue.submit(said, *work))
            try:
                made, error = job.result()
            except FailedJobError:
                raise
            except UncompletedJobError:
                continue
            if error is not None:
                raise error
            return made
        raise futures.BrokenExecutor

    def __exit__(self, *error: Any) -> None:
        """Wait for all of it; where something went wrong, what is still queued is taken back."""
        with self._one:
            self._over = True
            for job in self._jobs if error[0] else ():
                if not job.done():
                    job.cancel(check=False)
        super().__exit__(*error)


def said(work: Callable[..., V], *args: Any) -> tuple[V | None, FeedbackError | None]:
    """What *work* makes, or what it says is wrong: submitit keeps no exception as it was."""
    try:
        return work(*args), None
    except FeedbackError as error:
        return None, error
