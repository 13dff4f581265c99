"""What answers films in a comparison, by name: what each is trained on, and how it reads a film. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

CARRIED, PLAIN = "carried", "plain"


class Rival(NamedTuple):
    """One model of a comparison on films.

    Attributes:
        says: What a reader is told.
        trained: The run whose weights it has: its own name, or another's.
        loops: Whether it is a loop, and not the base alone.
        stack: Frames that it is shown at a time, as channels of one image.
        looks: Looks at each frame.
        averages: Whether its answers are averaged over frames.
    """

    says: str
    trained: str
    loops: bool = False
    stack: int = 1
    looks: int = 1
    averages: bool = False


RIVALS = {
    CARRIED: Rival("one look a frame, the state carried on", CARRIED, loops=True),
    PLAIN: Rival("the base alone, frame by frame", PLAIN),
    "averaged": Rival(
        "the answers of plain, exponentially averaged; the rate is tuned on validation films", PLAIN, averages=True
    ),
    "stacked-4": Rival("the base, shown the last 4 frames as channels of one image", "stacked-4", stack=4),
    "stacked-8": Rival("the base, shown the last 8 frames as channels of one image", "stacked-8", stack=8),
    "looks-4": Rival("four looks a frame, beginning anew with each", "looks-4", loops=True, looks=4),
}


def trained(models: Sequence[str]) -> list[str]:
    """The runs that *models* take, each once, in order.

    >>> trained(["carried", "averaged", "plain"])
    ['carried', 'plain']
    """
    return list(dict.fromkeys(RIVALS[name].trained for name in models))
