"""``smp-feedback plot``: every figure of every saved result, as files."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from smp_feedback.checks import check_choice
from smp_feedback.errors import FeedbackError, InvalidValue
from smp_feedback.evaluation.results import KINDS, Result, load_result
from smp_feedback.plotting.style import STYLES, styled
from smp_feedback.saving.files import replace_file

FORMATS = ("png", "svg", "pdf")
# no dates in files: the same figure, the same bytes
UNDATED: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def plot(
    files: Iterable[str | Path], out: str | Path | None = None, *, format: str = "png", style: str = "screen"
) -> Iterator[Path]:
    """Draw every figure of saved results.

    Args:
        files: Results, as `save_result` wrote them; all are read before the first figure is drawn.
        out: Folder for the figures; None is beside each result.
        format: ``png``, ``svg`` or ``pdf``.
        style: ``screen``, or ``paper`` for one column of 3.4 inches.

    Yields:
        Each file written: ``<result>-<figure>.<format>``, or ``<result>.<format>`` where both have one name.

    Raises:
        InvalidValue, UnknownName, OSError: If a file holds no result, or an argument is none of its choices.
    """
    check_choice("format", format, FORMATS)
    check_choice("style", style, tuple(STYLES))
    results = [(Path(file), load_result(file)) for file in files]
    stems = [file.stem if out else str(file.with_suffix("")) for file, _ in results]
    if twice := {stem for stem in stems if stems.count(stem) > 1}:
        raise InvalidValue(f"{', '.join(sorted(twice))}: several results of that name would overwrite each other.")
    return _draw_all(results, None if out is None else Path(out), format, style)


def draw(result: Result) -> dict[str, Figure]:
    """The figures of *result* by name, in the style that holds where this is called (`styled`)."""
    module, _, function = KINDS[result["kind"]].partition(":")
    figures: dict[str, Figure] = getattr(import_module(module), function)(result)
    return figures


def save_figure(figure: Figure, path: Path) -> Path:
    """Write *figure* in the format of *path*'s suffix, whole or not at all; returns *path*."""
    format = path.suffix.removeprefix(".").lower()
    check_choice("format", format, FORMATS)
    path.parent.mkdir(parents=True, exist_ok=True)
    return replace_file(path, lambda draft: figure.savefig(draft, format=format, metadata=UNDATED[format]))


def for_page(figure: Figure, name: str) -> dict[str, bytes]:
    """*figure* as SVG and PNG, by suffix; *name* is to be the only one of its kind on the page."""
    svg, png = io.BytesIO(), io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(svg, format="svg", metadata=UNDATED["svg"])
    figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    return {".svg": svg.getvalue(), ".png": png.getvalue()}


def _draw_all(results: list[tuple[Path, Result]], out: Path | None, format: str, style: str) -> Iterator[Path]:
    for file, result in results:
        with styled(style):
            try:
                figures = draw(result)
            except FeedbackError as error:
                if str(file) not in str(error):
                    error.args = (f"{file}: {error}",)
                raise
            except (LookupError, TypeError, ValueError, ArithmeticError) as error:
                raise InvalidValue(
                    f"{file} is no whole {result['kind']} result: {error!r} is missing or wrong."
                ) from error
            for name, figure in figures.items():
                stem = file.stem if name == file.stem else f"{file.stem}-{name}"
                yield save_figure(figure, (out or file.parent) / f"{stem}.{format}")
