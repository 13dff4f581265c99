"""Timing and counting, once for every benchmark: interleaved runs, medians with spread, bytes kept for backward."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

REPEATS = 15


def hardware() -> str:
    """What a figure was measured on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
    return f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def interleaved(runs: dict[str, Callable[[], object]], repeats: int = REPEATS) -> dict[str, list[float]]:
    """Seconds of each run, taken in turns so that a busy moment hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 2):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= 2:  # the first two warm up
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def ratio(numerator: list[float], denominator: list[float]) -> tuple[float, float, float]:
    """Median of the turn-by-turn ratios, and their quartiles."""
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return middle, low, high


class Allocations(TorchDispatchMode):
    """Sees every tensor that any operation makes, autograd's and checkpointing's own included."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Run the operation, and remember the storages of its results without keeping them."""
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in given:  # a view or an in-place result is nothing new
                    self.seen[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        return result

    def held(self) -> int:
        """Bytes of all that is still alive."""
        return sum(size for reference, size in self.seen.values() if not reference.expired())


def bytes_held(run: Callable[[], object]) -> int:
    """Bytes made by *run* and still held when it has returned: what backward will need, and the answer."""
    with Allocations() as allocations:
        result = run()
    held = allocations.held()
    del result
    return held


def show(title: str, columns: list[str], rows: list[list[str]], results: object, out: Path) -> None:
    """Print the table, write the figures as JSON, say where."""
    console, table = Console(), Table(title=f"{title}\n{hardware()}")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"hardware": hardware(), "results": results}, indent=2))
    console.print(f"wrote {out}")
