"""How long one call looks, where it is no number: until each image's answer stays as it is."""

from __future__ import annotations

from dataclasses import dataclass

from smp_feedback.checks import check_whole
from smp_feedback.errors import InvalidValue


@dataclass(frozen=True, slots=True)
class UntilSettled:
    """In place of a number of looks: each image of a batch stops by itself; see :func:`until_settled`.

    Args:
        looks: Looks in succession whose answers are equal, >= 2.
        at_most: Looks after which an image stops in any case, >= *looks*.

    Raises:
        InvalidType, InvalidValue: Naming field, value and range.
    """

    looks: int
    at_most: int

    def __post_init__(self) -> None:
        check_whole("looks", self.looks, "; an answer alone equals nothing", least=2)
        if check_whole("at_most", self.at_most) < self.looks:
            raise InvalidValue(
                f"at_most={self.at_most}: expected at least looks={self.looks}, before which no image can stop."
            )

    def __repr__(self) -> str:
        return f"until_settled({self.looks}, at_most={self.at_most})"


def until_settled(looks: int = 3, at_most: int = 640) -> UntilSettled:
    """As ``steps`` of a call: look until an image's answer has been the same for *looks* looks in succession.

    The answer is each pixel's label (of a classifier the image's): the largest channel, or the sign of a single one. A
    model whose ``data_config`` says ``multilabel`` answers by the sign of every channel. Each image stops by itself,
    with the answer that it has alone after as many looks, and what has stopped is left out of the work. A state may
    turn in circles too small to see, so this ends where a ``tolerance`` on the state's change would not.

    Goes with the recurrent loop, in evaluation mode. :meth:`~smp_feedback.FeedbackModel.iterate` says in ``Step.looks``
    how many looks each image took. It costs the head and one wait for the device at each look. Where gradients are
    recorded all looks carry them, as nothing tells beforehand which are the last.

    Args:
        looks: Equal answers in succession, >= 2. Three cost next to nothing on mazes (``docs/anytime.md``); a slow loop
            wants more, for it may pause before it goes on.
        at_most: Looks after which an image stops in any case; 640 is twenty times the ``anytime`` loop's own.

    >>> until_settled(3, at_most=160)
    until_settled(3, at_most=160)
    >>> until_settled(1)
    Traceback (most recent call last):
    smp_feedback.errors.InvalidValue: looks=1: expected a whole number >= 2; an answer alone equals nothing.
    """
    return UntilSettled(looks, at_most)
