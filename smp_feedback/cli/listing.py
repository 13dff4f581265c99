"""``smp-feedback list | plugins``: what there is, and who brought it, as rows for programs, as tables for people."""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from smp_feedback.errors import DataWarning, InvalidValue, PluginWarning, UnknownName
from smp_feedback.registry.plugins import KINDS

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser
    from rich.table import Table

    from smp_feedback.registry.catalogue import Catalogue
    from smp_feedback.registry.entry import Entry
    from smp_feedback.registry.plugins import Plugin

LISTED = ("architectures", "encoders", *(kind for kind in KINDS.values() if kind not in ("architectures", "encoders")))


def listed(kind: str, pattern: str = "*") -> Sequence[dict[str, Any]]:
    """Every name of *kind* that matches *pattern*, with who brought it.

    Args:
        kind: ``architectures``, ``encoders``, ``losses``, ... (:data:`LISTED`).
        pattern: Shell wildcards, case-insensitive. With a slash (``timm/resnet*``) it reaches into families, which
            otherwise are one row each.

    Returns:
        ``{"name", "aliases", "brought_by"}``, of a family also ``"members"``, how many there are.

    Raises:
        UnknownName: If there is no such kind.

    >>> listed("losses", "dic*")
    [{'name': 'dice', 'aliases': [], 'brought_by': 'smp_feedback'}, ...]
    """
    if kind not in LISTED:
        raise UnknownName("kind of part", kind, LISTED)
    if kind == "encoders":
        return _encoders(pattern)
    return [_row(entry) for entry in _opened().registries()[kind].entries(pattern)]


def list(parser: ArgumentParser) -> Callable[[Any], None]:
    """List what there is, by name, and who brought it: architectures, encoders, losses, ..."""
    parser.add_argument("kind", metavar="KIND", nargs="?", help=", ".join(LISTED))
    parser.add_argument(
        "pattern", metavar="PATTERN", nargs="?", default="*", help="as in 'timm/resnet*'; without it, all"
    )
    parser.add_argument("--json", action="store_true", help="for programs")

    def run(args: Any) -> None:
        if args.kind is None:
            raise InvalidValue(f"list needs to know what: smp-feedback list KIND, where KIND is {' or '.join(LISTED)}.")
        rows = listed(args.kind, args.pattern)
        if args.json:
            _print_json(rows)
        elif not rows:
            print(f"No {args.kind} match {args.pattern!r}.")
        else:
            _print_table(_table_of(rows, args.kind))

    return run


def plugins(parser: ArgumentParser) -> Callable[[Any], None]:
    """Show the installed plugins: what each brings, and which are left out and why."""
    parser.add_argument("--json", action="store_true", help="for programs; with tracebacks")
    parser.add_argument("--traceback", action="store_true", help="show where a broken plugin failed")

    def run(args: Any) -> None:
        found = _opened().plugins
        if args.json:
            _print_json([plugin.to_dict() for plugin in found])
        elif not found:
            print("No plugins are installed: a package with an entry point in the group smp_feedback is one.")
        else:
            _print_table(_table_of_plugins(found))
            for plugin in found if args.traceback else ():
                if plugin.traceback is not None:
                    print(f"\n{plugin.name} of {plugin.origin}:\n{plugin.traceback}")

    return run


@contextlib.contextmanager
def warnings_on_a_line() -> Iterator[None]:
    """A plugin or a file that is left out is one line on stderr, said once, whatever else the verb does."""
    said: set[str] = set()
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, (PluginWarning, DataWarning)):
                if str(message) not in said:
                    said.add(str(message))
                    print(f"smp-feedback: {message}", file=sys.stderr)
            else:
                usual(message, category, *where, **more)

        warnings.simplefilter("always", PluginWarning)
        warnings.simplefilter("always", DataWarning)
        warnings.showwarning = show
        yield


def _opened() -> Catalogue:
    """The catalogue with its plugins; what they print while they are imported does not mix with ours."""
    from smp_feedback.registry.public import catalogue

    with contextlib.redirect_stdout(sys.stderr):
        catalogue().load()
    return catalogue()


def _row(entry: Entry) -> dict[str, Any]:
    row = {"name": entry.name, "aliases": [*entry.aliases], "brought_by": entry.origin}
    return row | ({"members": len(entry.listed())} if entry.is_family else {})


def _encoders(pattern: str) -> Sequence[dict[str, Any]]:
    from smp_feedback.models.builder import list_encoders

    who = {
        True: f"timm {version('timm')}",
        False: f"segmentation_models_pytorch {version('segmentation_models_pytorch')}",
    }
    brought = {entry.name: entry for entry in _opened().encoders.entries()}
    rows = [{"name": n, "aliases": [], "brought_by": who[n.startswith("tu-")]} for n in list_encoders(pattern)]
    return [_row(brought[row["name"]]) if row["name"] in brought else row for row in rows]


def _table_of(rows: Iterable[Mapping[str, Any]], kind: str) -> Table:
    from rich.table import Table

    table = Table(kind, "also called", "brought by")
    for row in rows:
        members = f"  ({row['members']:,} models)" if "members" in row else ""
        table.add_row(row["name"] + members, ", ".join(row["aliases"]), row["brought_by"])
    return table


def _table_of_plugins(plugins: Iterable[Plugin]) -> Table:
    from rich.table import Table

    table = Table("plugin", "distribution", "version", "state", "brings", "error")
    for one in plugins:
        brings = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in one.brought.items())
        table.add_row(one.name, one.distribution or "", one.version or "", one.state, brings, one.error or "")
    return table


def _print_table(table: Table) -> None:
    """As wide as the terminal; into a pipe as wide as its names, so that none is broken."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 200, markup=False, highlight=False).print(table)


def _print_json(rows: object) -> None:
    print(json.dumps(rows, indent=2))
