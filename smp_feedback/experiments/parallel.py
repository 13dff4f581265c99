"""Several runs at a time: processes that train, and end with the one that asked for them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.connection import Connection
from typing import TypeVar

import torch

K = TypeVar("K")
V = TypeVar("V")


def run_all(
    work: Callable[[K], V], keys: Sequence[K], jobs: int, begun: Callable[[K], None] = lambda key: None
) -> Iterator[tuple[K, V]]:
    """What *work* makes of each of *keys*, as each is there.

    Args:
        work: Picklable, where *jobs* > 1.
        keys: What is to be done, in this order.
        jobs: How many at the same time, in processes of their own with each its share of the cores; 1 is done here.
        begun: Told which one begins, where they are done here.
    """
    if jobs == 1:
        for key in keys:
            begun(key)
            yield key, work(key)
        return
    threads = max(1, torch.get_num_threads() // jobs)
    context = multiprocessing.get_context("spawn")
    alive, ours = context.Pipe(duplex=False)
    with ours, ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(threads, alive)) as pool:
        waiting = {pool.submit(work, key): key for key in keys}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BaseException:
            ours.close()
            raise


def _begin(threads: int, alive: Connection) -> None:
    """Begin a process that trains; it ends when the other end of *alive* does, however that comes about."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for this one
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()


def _end_with(alive: Connection) -> None:
    try:
        alive.recv_bytes()
    except EOFError:
        os._exit(1)  # in the middle of a run, of which nothing is kept
