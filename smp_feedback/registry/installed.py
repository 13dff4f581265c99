"""What is installed: each distribution is read by itself, so that a damaged one hides no other's plugins."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib import metadata
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path

from smp_feedback.errors import FeedbackError, PluginWarning, one_line
from smp_feedback.hookspecs import PROJECT
from smp_feedback.registry.plugins import Plugin, in_order, normal_name

POINTS = "entry_points.txt"


def installed_points() -> list[EntryPoint | Plugin]:
    """The entry points of the group ``smp_feedback``, and, as broken plugins, distributions that may have some.

    A distribution whose entry points cannot be read is one, and one that has some of ours, but no name, or metadata
    that cannot be read; all others are their own affair.
    """
    points: list[EntryPoint] = []
    damaged: list[Plugin] = []
    for dist in _distributions():
        try:
            points += _points_of(dist)
        except Exception as error:  # whatever a damaged file makes of its reader
            where = place_of(dist)
            damaged.append(Plugin(where.name, state="broken", error=f"{where} is damaged: {one_line(error)}"))
    return [*damaged, *in_order(points)]


def owners_of(package: str) -> list[str]:
    """The distributions that say that they brought the top-level *package*; those that cannot be read say nothing.

    >>> owners_of("torch")
    ['torch']
    """
    found = []
    for dist in _distributions():
        try:
            if package in _packages(dist):
                found.append(checked_name(dist))
        except Exception:  # reported by those who look for plugins, if it may be one
            continue
    return sorted(set(found))


def place_of(dist: Distribution) -> Path:
    """The folder of *dist*'s metadata, or the one that it is in."""
    return Path(str(getattr(dist, "_path", None) or dist.locate_file("")))


def checked_name(dist: Distribution) -> str:
    """The name of *dist*.

    Raises:
        FeedbackError: If its metadata have none.
        Exception: If they cannot be read.
    """
    name: str | None = dist.metadata["Name"]
    if not name:
        raise FeedbackError("its METADATA says no Name.")
    return name


def _distributions() -> Iterator[Distribution]:
    try:
        yield from metadata.distributions()
    except Exception as error:  # a finder of somebody's
        said = f"The installed packages cannot be listed to their end: {one_line(error)}"
        warnings.warn(said, PluginWarning, stacklevel=3)


def _points_of(dist: Distribution) -> list[EntryPoint]:
    """Those of our group; none where another distribution of the name comes before it on the path."""
    points = [point for point in dist.entry_points if point.group == PROJECT]
    if not points:
        _check_says_points(dist)
        return []
    return [] if _is_shadowed(dist, checked_name(dist)) else points


def _check_says_points(dist: Distribution) -> None:
    """An ``entry_points.txt`` without an entry begins with a section, if it says anything."""
    if dist.entry_points:
        return
    lines = (line.strip() for line in (dist.read_text(POINTS) or "").splitlines())
    first = next((line for line in lines if line and not line.startswith(("#", ";"))), "[")
    if not first.startswith("["):
        raise FeedbackError(f"its {POINTS} begins with {first!r:.40}, expected a section such as [console_scripts].")


def _is_shadowed(dist: Distribution, name: str) -> bool:
    """Whether Python finds another whole distribution under *name* first, as one that is installed twice."""
    try:
        first = metadata.distribution(name)
        return place_of(first) != place_of(dist) and normal_name(checked_name(first)) == normal_name(name)
    except Exception:  # the first is damaged: this one counts
        return False


def _packages(dist: Distribution) -> set[str]:
    said = (dist.read_text("top_level.txt") or "").split()
    files = () if said else dist.files or ()
    return {*said, *(file.parts[0].removesuffix(".py") for file in files if file.suffix == ".py")}
