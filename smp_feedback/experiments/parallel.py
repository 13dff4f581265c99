"""Where runs are made: in this process or several, on a dask cluster, in a SLURM queue; all are standard executors.

How many threads a run computes on decides its last bits, so it does not depend on who makes it: it is the number that
torch has in the process that asked (``OMP_NUM_THREADS``, or the cores) over its ``jobs``.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import torch

from smp_feedback.errors import FeedbackError, InvalidValue, require
from smp_feedback.experiments.slurm import slurm_queue

K = TypeVar("K")
V = TypeVar("V")
DASK = "dask://"
_turn = threading.Lock()


def run_all(
    work: Callable[[K], V],
    keys: Sequence[K],
    executor: Executor,
    at_once: int | None = None,
    begun: Callable[[K], None] = lambda key: None,
) -> Iterator[tuple[K, V]]:
    """What *work* makes of each of *keys*, as each is there.

    Args:
        work: Picklable, unless *executor* works in this process.
        keys: What is to be done, in this order.
        executor: Who does it.
        at_once: How many are handed out at the same time; None is all.
        begun: Told which one is handed out.

    Raises:
        FeedbackError: If a run was lost with the process that made it.
    """
    left, waiting = iter(keys), dict[Future[V], K]()
    while True:
        for key in islice(left, None if at_once is None else at_once - len(waiting)):
            begun(key)
            with _told_if_lost(key):
                waiting[executor.submit(work, key)] = key
        if not waiting:
            return
        for done in futures.wait(waiting, return_when=futures.FIRST_COMPLETED).done:
            key = waiting.pop(done)
            with _told_if_lost(key):
                made = done.result()
            yield key, made


@contextmanager
def _told_if_lost(key: object) -> Iterator[None]:
    dask = sys.modules.get("distributed")
    lost = (futures.CancelledError, futures.BrokenExecutor, *([dask.KilledWorker] if dask else []))
    try:
        yield
    except lost as error:
        raise FeedbackError(f"{key}: the process that made this run is gone; start again to go on.") from error


def share(jobs: int) -> int:
    """How many threads a run computes on."""
    return max(1, torch.get_num_threads() // jobs)


def in_turn(work: Callable[[K], V], threads: int, key: K) -> V:
    """``work(key)`` on *threads* threads. A process makes one run at a time: its random numbers are the process's."""
    with _turn:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return work(key)
        finally:
            torch.set_num_threads(before)


def check_executor(executor: str | Executor) -> None:
    """See that there is such an executor, and what it needs; whether a cluster answers is not asked yet.

    Raises:
        InvalidValue, MissingExtra: If there is none, or what it needs is not installed.
    """
    if executor == "slurm":
        require("submitit", extra="cluster")
    elif isinstance(executor, str) and re.fullmatch(rf"{DASK}\S+:\d+", executor):
        require("distributed", extra="cluster")
    elif executor != "local" and not isinstance(executor, Executor):
        raise InvalidValue(f"executor={executor!r}: expected local, {DASK}HOST:PORT or slurm.")


@contextmanager
def executor_of(executor: str | Executor, jobs: int, folder: Path) -> Iterator[tuple[Executor, int | None]]:
    """The executor that is named, while it is needed, and how many runs it is handed at the same time.

    Args:
        executor: As :func:`check_executor` lets it pass; one itself stays its giver's.
        jobs: How many processes ``local`` has; a cluster is handed all runs at once.
        folder: Where ``slurm`` leaves its scripts and logs while it is at work; all its machines must see it.

    Raises:
        InvalidValue: If nobody answers there.
    """
    if isinstance(executor, Executor):
        yield executor, None
    elif executor == "local":
        with Here() if jobs == 1 else _processes(jobs) as pool:
            yield pool, jobs
    elif executor == "slurm":
        with slurm_queue(folder / "slurm", share(jobs)) as queue:
            yield queue, None
    else:
        with _dask(executor.removeprefix(DASK)) as cluster:
            yield cluster, None


class Here(Executor):
    """This process: what it is handed is made before it answers."""

    def submit(self, work: Callable[..., V], /, *args: Any, **kwargs: Any) -> Future[V]:
        """What *work* makes, made."""
        made: Future[V] = Future()
        made.set_result(work(*args, **kwargs))
        return made


@contextmanager
def _processes(jobs: int) -> Iterator[Executor]:
    """Processes that end with this one."""
    context = multiprocessing.get_context("spawn")
    alive, ours = context.Pipe(duplex=False)
    with ours, futures.ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(alive,)) as pool:
        try:
            yield pool
        except BaseException:
            ours.close()
            raise


def _begin(alive: Connection) -> None:
    """Begin a process that trains; it ends when the other end of *alive* does, however that comes about."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for this one
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()


def _end_with(alive: Connection) -> None:
    try:
        alive.recv_bytes()
    except EOFError:
        os._exit(1)  # in the middle of a run, of which nothing is kept


@contextmanager
def _dask(address: str) -> Iterator[Executor]:
    """A dask cluster, which makes a run again if its worker is killed."""
    from distributed import Client

    try:
        client = Client(f"tcp://{address}")
    except OSError as error:
        raise InvalidValue(f"executor='{DASK}{address}': no scheduler answers there.") from error
    with client:
        yield client.get_executor()
