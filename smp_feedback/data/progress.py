"""One way to show how far a walk over items has come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def progress_bar(
    what: str, total: int | None, *, wanted: bool = True, console: Console | None = None
) -> Iterator[Callable[[], None]]:
    """A bar of *total* items, which says *what*; yields what moves it by one.

    Args:
        what: What is done with each item.
        total: How many there are; None where nobody knows.
        wanted: Whether to show it; it is shown where rich is installed.
        console: Where; None is rich's own, on stdout.

    >>> with progress_bar("counting", 3, wanted=False) as advance:
    ...     for _ in range(3):
    ...         advance()
    """
    if not wanted or find_spec("rich") is None:
        yield lambda: None
        return
    from rich.progress import Progress

    with Progress(console=console) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
