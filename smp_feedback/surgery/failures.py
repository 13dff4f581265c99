"""What went wrong in a dry run, in words: whose line it was, and whether the image's size can be to blame."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

from smp_feedback.errors import one_line

LIBRARIES = {"torch", "torchvision", "timm", "segmentation_models_pytorch", "smp_feedback", *sys.stdlib_module_names}
BUGS = (AttributeError, NameError, TypeError, KeyError, ImportError, NotImplementedError)
"""What no size of an image is the cause of."""


class CodeLine(NamedTuple):
    """A line of a file, and the function in it."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}, in {self.function}"


def place_of(error: BaseException) -> CodeLine | None:
    """The deepest line of somebody's own code that *error* came through; of a library where there is no other.

    >>> try:
    ...     [].missing
    ... except AttributeError as error:
    ...     place_of(error).line
    2
    """
    own = deepest = None
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        deepest = CodeLine(code.co_filename, trace.tb_lineno, code.co_name)
        if str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0] not in LIBRARIES:
            own = deepest
        trace = trace.tb_next
    return own or deepest


def in_words(error: BaseException) -> str:
    """*error* in one line, and where it was raised."""
    place = place_of(error)
    return f"{one_line(error)} ({place})" if place else one_line(error)


def all_refused(who: str, refused: Sequence[Exception], tried: str, channels: Sequence[int]) -> str:
    """That *who* failed in every dry run; *tried* are the sizes, in words."""
    first, count = refused[0], " or ".join(map(str, channels))  # the likeliest number of channels comes first
    if isinstance(first, BUGS):
        return f"{who} fails in every dry run, whatever it is shown: {in_words(first)}."
    if len({(type(error), place_of(error)) for error in refused}) == 1:
        return (
            f"{who} fails at the same line in every dry run (images of {channels[0]} channels): {in_words(first)}. "
            f"Tried were {tried} px; if it takes no such size, let it say its own as img_size."
        )
    return f"{who} answered no dry run at {tried} px with {count} channels. Its first words: {in_words(first)}"
