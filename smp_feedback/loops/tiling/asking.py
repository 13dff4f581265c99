"""Windows on their way: cut out of an image, shown to a model, and put together again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from smp_feedback.loops.tiling.fitting import check_map
from smp_feedback.loops.tiling.grid import WindowGrid
from smp_feedback.loops.tiling.mosaic import Places, mosaic, windows_of
from smp_feedback.loops.tiling.stitched import Stitch

Feed = Callable[[Tensor], Tensor]
"""What a window of an image goes through before the model sees it, such as its normalisation."""
Advance = Callable[[], None]
Progress = Callable[[str, int], AbstractContextManager[Advance]]
"""What shows how far it is: told what is done and how many times, it gives what each moves on."""
Answer = Callable[[Places], Tensor]
"""What a model says of the windows at some places."""


@dataclass(frozen=True)
class WindowAsking:
    """How windows are shown to a model.

    Attributes:
        device: The model's; None where it has no weights, which is the image's.
        dtype: In which windows are added up.
        at_once: Windows in a call.
        progress: What shows how far it is.
    """

    device: torch.device | None
    dtype: torch.dtype
    at_once: int
    progress: Progress | None

    def where(self, x: Tensor) -> dict[str, Any]:
        """Where, and in what numbers, windows of *x* are added up."""
        return {"device": x.device, "asked": self.device or x.device, "dtype": self.dtype}

    def shown(self, x: Tensor, grid: WindowGrid, feed: Feed | None) -> Answer:
        """The windows of *x* themselves, on the model's device."""

        def shown(places: Places) -> Tensor:
            windows = windows_of(x, places, grid.window).to(self.device or x.device)
            return windows if feed is None else feed(windows)

        return shown

    def answered(self, x: Tensor, answer: Callable[[Tensor], Tensor], grid: WindowGrid, feed: Feed | None) -> Answer:
        """What *answer* makes of the windows of *x*: maps of their size, or an error."""
        shown = self.shown(x, grid, feed)
        return lambda places: check_map(answer(shown(places)), grid.window)

    def begun(self, calls: int) -> AbstractContextManager[Advance]:
        """Context: *calls* of the model are to be made; it gives what says that one was."""
        return nullcontext(lambda: None) if self.progress is None else self.progress("windows", calls)

    def stitch(self, x: Tensor) -> Stitch:
        """What puts the windows of *x* together."""

        def stitch(grid: WindowGrid, answer: Answer, images: int) -> Tensor:
            with self.begun(-(-grid.windows * images // self.at_once)) as advance:
                told = counted(answer, advance)
                return mosaic(grid, told, images=images, at_once=self.at_once, **self.where(x))

        return stitch


def counted(answer: Answer, advance: Advance) -> Answer:
    """*answer*, and *advance* after each."""

    def told(places: Places) -> Tensor:
        made = answer(places)
        advance()
        return made

    return told
