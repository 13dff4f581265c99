"""Images of one batch have one size: what is said where they have several."""

from __future__ import annotations

from smp_feedback.data.files import by

Sized = tuple[tuple[int, ...], str]  # (H, W), and an item of that size
NO_BATCH = "images of several sizes make no batch"
IN_TRAINING = "set data.size, data.crop (up to the smallest side) or data.batch_size 1"
IN_ORDER = "set data.size or data.batch_size 1 (data.crop cuts training images alone)"


def several_sizes(first: Sized, other: Sized, advice: str = IN_TRAINING) -> str:
    """That these two items make no batch, and what to do about it.

    >>> several_sizes(((4, 6), "a.png"), ((8, 6), "b.png"))[:77]
    'images of several sizes make no batch, such as 4 x 6 (a.png) and 8 x 6 (b.png'
    """
    (size, item), (another, second) = first, other
    return f"{NO_BATCH}, such as {by(size)} ({item}) and {by(another)} ({second}): {advice}."
