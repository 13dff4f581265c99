"""Which models work, and which do not and why: docs/works.md, generated.

python -m benchmarks.works [--only timm encoders vit smp torchvision] [--places decoder] [--jobs 2] [--again]

Asks every architecture of smp, torchvision's, and the smallest model of each of timm's families, all with random
weights: nothing is downloaded. What is known already is kept in --cache and not asked twice. What nothing is known of
stays on the page as it is there: a table, or a column of one.
"""

from __future__ import annotations

import argparse
from collections import deque
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import timm
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.working.apart import apart
from benchmarks.working.cases import OF_TIMM, TABLES, Case, cases_of, has_segmenter
from benchmarks.working.checks import check
from benchmarks.working.page import page
from benchmarks.working.store import Store, reason, versions


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=TABLES, default=list(TABLES), help="tables to fill")
    parser.add_argument("--places", nargs="*", help="columns to fill, such as decoder; all if none are named")
    parser.add_argument("--families", nargs="*", help="rows to fill; all if none are named")
    parser.add_argument("--jobs", type=int, default=2, help="models at once, each in a process with one thread")
    parser.add_argument("--again", action="store_true", help="ask those again that did not work")
    parser.add_argument("--seconds", type=float, default=120, help="of work that a model may take")
    parser.add_argument("--memory", type=float, default=8, help="gigabytes that a model may take")
    parser.add_argument("--cache", type=Path, default=Path("runs/works.json"), help="what is known already")
    parser.add_argument("--out", type=Path, default=Path("docs/works.md"), help="the page")
    return parser


def fill(table: str, store: Store, args: argparse.Namespace, progress: Progress) -> None:
    """Ask all that *table* has not been asked."""
    wanted = [case for case in cases_of(table, store.smallest) if not args.families or case.family in args.families]
    wanted = [case for case in wanted if not args.places or case.place in args.places]
    pending = store.pending(sorted(wanted, key=store.parameters), again=args.again)
    task = progress.add_task(table, total=len(wanted), completed=len(wanted) - len(pending))
    with ThreadPoolExecutor(args.jobs) as pool:
        running = {pool.submit(apart, check, case, seconds=args.seconds, memory=args.memory): case for case in pending}
        for done in as_completed(running):
            store.add(running[done], done.result())
            progress.console.print(line(running[done], done.result()), highlight=False, markup=False)
            progress.advance(task)


def line(case: Case, facts: dict[str, Any]) -> str:
    """A case and whether it works, for the console."""
    return f"{case.table} {case.name} {facts.get('place', case.place)}: {reason(facts)[:200] or 'works'}"


def main() -> None:
    args, console = options().parse_args(), Console(stderr=True)
    store = Store(args.cache)
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console) as progress:
        if OF_TIMM & set(args.only):
            families = store.families()
            deque(progress.track(families, total=len(timm.list_modules()), description="smallest of each"), maxlen=0)
        for table in (name for name in TABLES if name in args.only):
            fill(table, store, args, progress)
            write(args.out, store)
    write(args.out, store)  # with --only and no table, the page alone
    console.print(f"wrote {args.out}")


def write(out: Path, store: Store) -> None:
    """The page; of what nothing is known of, what it says already."""
    before = out.read_text() if out.is_file() else ""
    out.write_text(page(store.results, store.smallest, versions(), segmenter=has_segmenter(), before=before))


if __name__ == "__main__":
    main()
