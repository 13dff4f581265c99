"""What the page shows of a look: its answer, what changed since the look before, and how uncertain it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from smp_feedback.app.looks import Labels, Looked, nearest, resized
from smp_feedback.plotting.legend import Entry, covered
from smp_feedback.plotting.overlay import RGB

CHANGED = (213, 94, 0)  # vermilion, as what is wrong has it elsewhere
FADED = 0.35  # of an image below what changed: it says where, and no more
DOUBT = "viridis"  # of uncertainty: dark is 0, bright is 1


class LookPictures(NamedTuple):
    """What the page shows of a look.

    Attributes:
        answer: Over the image, or alone.
        change: Which labels changed since the look before, over a faded image.
        doubt: Uncertainty.
        base: The answer without feedback, as *answer* is drawn.
        said: The look in words.
    """

    answer: RGB
    change: RGB
    doubt: RGB
    base: RGB
    said: str


def shown_at(looked: Looked, t: int, *, overlay: bool = True) -> LookPictures:
    """What the page shows of look *t*, from 1; one beyond the last is the last. No model is run.

    Args:
        looked: All looks at the image.
        t: Which.
        overlay: Whether answers are drawn over the image, or alone.
    """
    t = max(1, min(t, len(looked.looks)))
    look = looked.looks[t - 1]
    labels = looked.labels(look)
    before = looked.labels(looked.looks[t - 2]) if t > 1 else labels
    base = looked.looks[0] if looked.base is None else looked.base
    return LookPictures(
        drawn(looked, labels, overlay=overlay),
        changed(looked, labels, before),
        doubt_map(look.doubt),
        drawn(looked, looked.labels(base), overlay=overlay),
        in_words(looked, t),
    )


def drawn(looked: Looked, labels: Labels, *, overlay: bool) -> RGB:
    """*labels* of *looked* as they are on the page, over the image or alone."""
    canvas = looked.small.copy() if overlay else np.zeros_like(looked.small)
    regions = regions_of(nearest(labels, looked.size), looked.colours, looked.background)
    if overlay:
        return covered(canvas, regions)
    for colour, pixels in regions:
        canvas[pixels] = colour
    return canvas


def regions_of(
    labels: Labels, colours: Sequence[tuple[int, int, int]], background: int | None
) -> Iterator[tuple[tuple[int, int, int], NDArray[np.bool_]]]:
    """The colour of each class that *labels* have, and where; of several labels a pixel, each class's own map."""
    for k, colour in enumerate(colours):
        pixels = labels == k if labels.ndim == 2 else labels[k] > 0
        if k != background and pixels.any():
            yield colour, pixels


def changed(looked: Looked, labels: Labels, before: Labels) -> RGB:
    """The image, faded, and vermilion where *labels* are not those of *before*; where it is shrunk, any such pixel."""
    moved = labels != before
    marked = resized((moved.any(0) if moved.ndim == 3 else moved).astype(np.uint8) * 255, looked.size) > 0
    grey = looked.small.mean(2, keepdims=True).repeat(3, 2)
    picture: RGB = np.rint(255 - FADED * (255 - grey)).astype(np.uint8)
    picture[marked] = CHANGED
    return picture


def doubt_map(doubt: NDArray[np.uint8]) -> RGB:
    """*doubt*, bytes for [0, 1], in colours.

    >>> doubt_map(np.array([[0, 255]], np.uint8)).tolist()
    [[[68, 1, 84], [253, 231, 36]]]
    """
    table = (mpl.colormaps[DOUBT](np.arange(256), bytes=True)[:, :3]).astype(np.uint8)
    picture: RGB = table[doubt]
    return picture


def in_words(looked: Looked, t: int) -> str:
    """Look *t* in words: what changed, how uncertain it is, and since when nothing changes any more."""
    look, count = looked.looks[t - 1], len(looked.looks)
    said = "One look" if count == 1 and not looked.more else f"Look {t} of {count}{_to_come(looked.more)}"
    parts = [said, f"mean uncertainty {look.uncertainty:.3f}"]
    if look.changed is not None:
        parts.insert(1, f"{_per_cent(look.changed)} of pixels changed since look {t - 1}")
    settled = looked.settled
    if settled is not None and count > 1:
        parts.append(f"the answer stays as it is from look {settled} on")
    return "; ".join(parts) + f". Image of {looked.size[0]} x {looked.size[1]} pixels."


def _to_come(more: int) -> str:
    return f" (up to {more} more to come)" if more else ""


def _per_cent(share: float) -> str:
    """A share of pixels: none is said as none, and few are not said as none.

    >>> _per_cent(0.0), _per_cent(1e-6), _per_cent(0.1234)
    ('0 %', '< 0.01 %', '12.34 %')
    """
    if share == 0:
        return "0 %"
    return "< 0.01 %" if share < 1e-4 else f"{100 * share:.2f} %"


def legend_of(looked: Looked) -> list[Entry]:
    """The classes that are painted after any look, or without feedback, and their colours."""
    looks = looked.looks if looked.base is None else (*looked.looks, looked.base)
    present = {k for look in looks for k in look.classes} - {looked.background}
    return [(looked.classes[k], looked.colours[k]) for k in sorted(present)]


def legend_html(entries: Sequence[Entry]) -> str:
    """*entries* as a line of patches and names; a class without one is called by its number.

    >>> legend_html([("a<b", (1, 2, 3))])
    '<div class="legend"><span><i style="background:rgb(1,2,3)"></i>a&lt;b</span></div>'
    >>> legend_html([("1", (1, 2, 3))])
    '<div class="legend"><span><i style="background:rgb(1,2,3)"></i>class 1</span></div>'
    """
    each = (
        f'<span><i style="background:rgb({red},{green},{blue})"></i>{escape(name)}</span>'
        for name, (red, green, blue) in ((f"class {k}" if k.isdigit() else k, colour) for k, colour in entries)
    )
    return f'<div class="legend">{"".join(each)}</div>'


def scale_html() -> str:
    """What the colours of uncertainty mean, as a line."""
    stops = ", ".join(
        f"rgb({red},{green},{blue})" for red, green, blue in doubt_map(np.linspace(0, 255, 9)[None].astype(np.uint8))[0]
    )
    return f'<div class="scale">0 <i style="background:linear-gradient(to right, {stops})"></i> 1</div>'
