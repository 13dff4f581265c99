"""All runs of a comparison, several at a time, each kept as soon as it is there; then the report."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from smp_feedback.checks import check_whole
from smp_feedback.comparison.pictures import draw_pictures
from smp_feedback.comparison.report import write_report
from smp_feedback.comparison.runs import Key, held_out, keys, opened, run, task_of, training_data
from smp_feedback.comparison.settings import Settings
from smp_feedback.comparison.twins import make_twin
from smp_feedback.errors import InvalidValue
from smp_feedback.hardware import hardware
from smp_feedback.saving.files import replace_file
from smp_feedback.training.reliability import check_room

ROOM = 100_000_000  # bytes: reports, pictures and the weights of a few small models
Advance = Callable[[Key, Mapping[str, Any] | None], None]


def compare(
    settings: Settings,
    out: str | Path,
    *,
    jobs: int = 1,
    accelerator: str = "auto",
    command: str = "",
    begin: Callable[[], None] = lambda: None,
    advance: Advance = lambda key, found: None,
) -> list[Path]:
    """Train and score every model of *settings*, and write the report.

    A run that is finished is kept in ``out/runs``; when a comparison with the same settings is started again, only
    what is missing is trained.

    Args:
        settings: What is compared.
        out: The folder for everything written.
        jobs: Processes that train at the same time, each with its share of the cores; the models are the same for
            one number of threads.
        accelerator: Lightning's.
        command: How this was asked for, for the report.
        begin: Called once it is known that all of it can be done.
        advance: Called with each key, and its run once it is there or None as it begins (progress bars).

    Returns:
        The files written.

    Raises:
        InvalidValue: If *out* holds a comparison with other settings, or one is running there.
        FeedbackError: If the data, the base or the folder cannot be had; before any training.
    """
    check_whole("jobs", jobs)
    folder = Path(out)
    check_room(folder, ROOM)
    check_data(settings)
    with _alone(folder):
        _claim(folder, settings)
        begin()
        return _compare(settings, folder, jobs, accelerator, command, advance)


def _compare(
    settings: Settings, folder: Path, jobs: int, accelerator: str, command: str, advance: Advance
) -> list[Path]:
    found = {key: _kept(folder, key) for key in keys(settings)}
    missing = [key for key, there in found.items() if there is None]
    for key, there in found.items():
        if there is not None:
            advance(key, there)
    for key, there in _run_all(settings, missing, folder, jobs, accelerator, advance):
        replace_file(_path(folder, key), lambda path, there=there: path.write_text(json.dumps(there)))  # type: ignore[misc]
        found[key] = there
    results = gathered(settings, [there for there in found.values() if there is not None], command)
    return write_report(results, folder, draw_pictures(settings, folder))


def check_data(settings: Settings) -> None:
    """Open every split and build every model once, before hours are spent."""
    held_out(settings)[0]
    counts = [training_data(settings, Key("feedback", settings.conditions[0], n, 0))[1] for n in settings.images]
    if len(set(counts)) < len(counts):
        raise InvalidValue(f"images={settings.images}: 0 is all of them, {max(counts)}; expected each number once.")
    about: Any = opened(settings, settings.split)
    for name in settings.models:
        make_twin(name, settings, len(about.classes), 0)


def gathered(settings: Settings, runs: Iterable[Mapping[str, Any]], command: str) -> dict[str, Any]:
    """The results, as ``results.json`` holds them."""
    about: Any = opened(settings, settings.split)
    return {
        "kind": "comparison",
        "version": 1,
        "command": command,
        "settings": settings.to_dict(),
        "hardware": hardware(),
        "classes": list(about.classes),
        "ignore_index": about.ignore_index,
        "task": task_of(about),
        "runs": list(runs),
    }


def _run_all(
    settings: Settings, missing: list[Key], folder: Path, jobs: int, accelerator: str, advance: Advance
) -> Iterator[tuple[Key, dict[str, Any]]]:
    weights = folder / "models"
    weights.mkdir(exist_ok=True)
    if jobs == 1:
        for key in missing:
            advance(key, None)
            there = run(settings, key, weights, accelerator)
            advance(key, there)
            yield key, there
        return
    threads = max(1, torch.get_num_threads() // jobs)
    context = multiprocessing.get_context("spawn")
    alive, ours = context.Pipe(duplex=False)
    with ours, ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(threads, alive)) as pool:
        waiting = {pool.submit(run, settings, key, weights, accelerator): key for key in missing}
        try:
            for done in as_completed(waiting):
                advance(waiting[done], done.result())
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


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let nobody else compare into *folder* meanwhile; the lock of a process that was killed is free."""
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise InvalidValue(f"{folder}: a comparison is running there; wait for it, or give another --out.") from None


def _claim(folder: Path, settings: Settings) -> None:
    """Make *folder* this comparison's own, or see that it is."""
    mark, wanted = folder / "settings.json", json.dumps(settings.to_dict(), indent=2)
    if mark.is_file() and mark.read_text() != wanted and any((folder / "runs").glob("*.json")):
        raise InvalidValue(f"{folder} holds a comparison with other settings: give another --out, or remove it.")
    (folder / "runs").mkdir(exist_ok=True)
    replace_file(mark, lambda path: path.write_text(wanted))


def _path(folder: Path, key: Key) -> Path:
    return folder / "runs" / f"{key}.json"


def _kept(folder: Path, key: Key) -> dict[str, Any] | None:
    """The run of *key*, if it is there and whole."""
    try:
        return dict(json.loads(_path(folder, key).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
