"""Small tables for a notebook, as HTML that shows whatever it is given as it is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

CELL = "padding:0.15em 0.8em 0.15em 0;text-align:{};border:0;vertical-align:top"
EMPTY = "&#8211;"  # where there is no value


def table_html(rows: Iterable[Sequence[object]], head: Sequence[str] = (), title: str = "") -> str:
    """A table of *rows*, below a *head* and a *title* where there are some; numbers stand at the right.

    Args:
        rows: Values as they are shown, by ``str``; floating-point numbers in four digits, None as a dash. Nothing in
            them is taken for HTML.
        head: A name for each column.
        title: Above the table, in bold.

    >>> "<b>" in table_html([["a", "<b>"]]), "&lt;b&gt;" in table_html([["a", "<b>"]])
    (False, True)
    """
    lines = [_row("th", head)] if head else []
    lines += [_row("td", row) for row in rows]
    above = f"<div><strong>{escape(title)}</strong></div>" if title else ""
    return f'<div>{above}<table style="border-collapse:collapse">{"".join(lines)}</table></div>'


def _row(tag: str, values: Sequence[object]) -> str:
    cells = []
    for place, value in enumerate(values):
        right = isinstance(value, int | float) or (tag == "th" and place > 0)
        style = CELL.format("right" if right else "left")
        cells.append(f'<{tag} style="{style}">{_shown(value)}</{tag}>')
    return f"<tr>{''.join(cells)}</tr>"


def _shown(value: object) -> str:
    if value is None:
        return EMPTY
    if isinstance(value, float):
        return EMPTY if value != value else f"{value:.4g}"  # NaN alone is not itself
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else escape(str(value))
