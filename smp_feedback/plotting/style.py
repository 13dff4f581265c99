"""How figures look: for a screen, or for one column of a paper; told apart in any colour vision, and without colour.

No display is needed, and nobody's matplotlib settings are changed: figures are made and drawn under `styled`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from smp_feedback.checks import check_choice

# Okabe and Ito's colours, told apart with any colour vision, then lighter and darker relatives
PALETTE = (
    *("#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"),
    *("#999999", "#7F4F00", "#B7E0F5", "#00503A"),
)
GREY = "#999999"  # what is there for orientation
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (3, 1.2, 1, 1.2)), (0, (1, 1)), (0, (8, 2)), (0, (6, 1, 1, 1, 1, 1)))
MARKERS = "os^Dv<>"
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")

COMMON: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text stays text
    "svg.hashsalt": "smp_feedback",  # the same figure, the same file
}


def _sizes(width: float, font: float, line: float, dpi: int) -> dict[str, Any]:
    small = font - 1
    return {
        "figure.figsize": (width, 0.7 * width),
        "font.size": font,
        "axes.labelsize": font,
        "axes.titlesize": font,
        "axes.linewidth": 0.5 * line,
        "xtick.labelsize": small,
        "ytick.labelsize": small,
        "legend.fontsize": small,
        "lines.linewidth": line,
        "lines.markersize": 3 * line,
        "savefig.dpi": dpi,
    }


STYLES = {
    "screen": {**COMMON, **_sizes(width=6.4, font=10, line=1.6, dpi=110)},
    "paper": {**COMMON, **_sizes(width=3.4, font=7.5, line=1.0, dpi=300)},  # one column, in inches
}


def styled(style: str = "screen") -> AbstractContextManager[None]:
    """Context: figures made and drawn inside have this style, ``screen`` or ``paper``.

    >>> with styled("paper"):
    ...     float(new_figure().get_figwidth())
    3.4
    """
    check_choice("style", style, tuple(STYLES))
    settings: Any = STYLES[style]
    return mpl.rc_context(settings)


def new_figure(aspect: float = 0.7) -> Figure:
    """An empty figure as wide as the style's column, and *aspect* times as high."""
    width = float(mpl.rcParams["figure.figsize"][0])
    return Figure(figsize=(width, aspect * width))


def columns(count: int, letters: float = 15) -> int:
    """How many things as wide as *letters* stand side by side in a figure; as even as *count* allows.

    >>> with styled("screen"):
    ...     columns(10), columns(4), columns(5, letters=30)
    (4, 4, 2)
    """
    width = float(mpl.rcParams["figure.figsize"][0]) * 72 / (0.68 * float(mpl.rcParams["font.size"]))
    rows = -(-count // max(1, min(count, int(width / letters))))
    return -(-count // rows)


def line(i: int) -> dict[str, Any]:
    """Colour, dashes and marker of the i-th line of a figure."""
    return {
        "color": LINES[i % len(LINES)],
        "linestyle": DASHES[i % len(DASHES)],
        "marker": MARKERS[i % len(MARKERS)],
    }


def bar(i: int) -> dict[str, Any]:
    """Colour and hatching of the i-th group of bars."""
    return {"color": LINES[i % len(LINES)], "hatch": HATCHES[i % len(HATCHES)], "edgecolor": "white", "linewidth": 0}
