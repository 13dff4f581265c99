"""The recurrent loop over a whole image whose body runs window by window: each look's state is stitched anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from smp_feedback.errors import InvalidInput, InvalidValue
from smp_feedback.loops.base import check_image
from smp_feedback.loops.call import Told
from smp_feedback.loops.recurrent.early_stop import AnswersAlike, ComesToRest, Settling, StoppingRule
from smp_feedback.loops.recurrent.model import RecurrentModel
from smp_feedback.loops.steps import Step
from smp_feedback.loops.tiling.grid import WindowGrid
from smp_feedback.loops.tiling.mosaic import Places, WindowPlace, windows_of
from smp_feedback.loops.unroll import Turn, Turned, unroll
from smp_feedback.ops.maps import Size, size_of
from smp_feedback.ops.reading import labels_of
from smp_feedback.surgery.step_batchnorm import adopt

Stitch = Callable[[WindowGrid, Callable[[Places], Tensor], int], Tensor]
"""Makes one map, on a grid, of what is answered of windows at places of it; of so many images."""


def state_stride(model: object) -> Size:
    """Image pixels to one place of the state of *model*, whose state can be stitched.

    Raises:
        InvalidValue: If it has no state that is a map of the image.
    """
    asked = "stitch='state'"
    if not isinstance(model, RecurrentModel) or hasattr(model.feedback, "inner"):
        raise InvalidValue(
            f"{asked} stitches the state of a recurrent loop between its looks, and this {type(model).__name__} has "
            "none: leave stitch='logits'."
        )
    recurrent = model.recurrent
    stride = tuple(round(side) for side in recurrent.stride)
    if recurrent.placeless is not None or any(abs(a - b) > 1e-6 for a, b in zip(stride, recurrent.stride, strict=True)):
        raise InvalidValue(
            f"{asked}: the state of this {type(model).__name__} is no map that lies on its images' "
            "pixels, so windows of it cannot be put together: leave stitch='logits'."
        )
    return stride[0], stride[1]


class Stitched:
    """The loop of *model* over whole images, of which *window* gives those at places, as the model is shown them.

    Args:
        model: Its loop turns.
        told: What the call is told.
        grid: The windows, in pixels.
        stride: Pixels to one place of the state.
        window: The images at places.
        stitch: Makes one map of windows.
        task: How its answers are read.
    """

    def __init__(
        self,
        model: RecurrentModel,
        told: Told,
        grid: WindowGrid,
        stride: Size,
        window: Callable[[Places], Tensor],
        stitch: Stitch,
        task: str,
    ) -> None:
        self.model, self.told, self.window, self.stitch, self.task = model, told, window, stitch, task
        self.grid, self.stride, self.over = grid, stride, grid.over(stride)

    def looks(self, images: Tensor, dtype: torch.dtype) -> Iterator[Step]:
        """The looks at *images* (B, C, H, W), lazily; their states are as large as the grid, and of *dtype*."""
        adopt(self.model, self.model.recurrent.statistics)
        like = torch.zeros((), dtype=dtype, device=images.device).expand(len(images), 1, *self.grid.size)
        first = self.model.recurrent.first_state(like)
        turns = unroll(self._turn(like), first, steps=self.told.steps, flow=self.told.flow)
        before = None
        while (found := _next(turns)) is not None:
            yield Step(found[0], size_of(images), found[1], before, self._answer)
            before = found[1].state

    def _turn(self, images: Tensor) -> Turn:
        """One turn of all images; they stop one by one where the call has a rule for that."""
        rules = self._rules()
        if not rules:
            return _Turn(self, list(range(len(images))))
        places = torch.arange(len(images), device=images.device)
        return Settling(lambda chosen: _Turn(self, chosen.tolist()), places, rules)

    def look(self, state: Tensor | None, places: Places, chosen: list[int], t: int) -> Tensor:
        """One look at the windows at *places* of the images that are *chosen*, each from its own part of the state."""
        model = self.model
        image = self.window([self._in_image(place, chosen) for place in places])
        check_image(image, model.recurrent.in_channels)
        model.cut.check(model, image)
        part = None if state is None else windows_of(state, places, self.over.window).to(image.device)
        once = model._once(image, self.told.flow)
        made = model._recurrence(image, once, self.told.steps, self.told.flow)(part, t).state
        if size_of(made) != self.over.window:
            raise InvalidInput(
                f"A window of {size_of(image)} px leads to a state {size_of(made)}: expected {self.over.window}; leave "
                "stitch='logits'."
            )
        return made

    def logits(self, state: Tensor) -> Tensor:
        """What the head makes of *state* (B, S + K, h, w), window by window: (B, classes, H, W) of the padded image."""

        def answer(places: Places) -> Tensor:
            coarse = [
                WindowPlace(image, *(at // by for at, by in zip(place, self.stride, strict=True)))
                for image, *place in places
            ]
            part = windows_of(state, coarse, self.over.window).to(next(self.model.parameters()).device)
            return self.model._logits(part, self.grid.window)

        return self.stitch(self.grid, answer, len(state))

    def _answer(self, turned: Turned, size: Size) -> tuple[Tensor, None]:
        with torch.no_grad():
            return self.logits(turned.state)[..., : size[0], : size[1]], None

    def _in_image(self, place: WindowPlace, chosen: list[int]) -> WindowPlace:
        top, left = (at * by for at, by in zip(place[1:], self.stride, strict=True))
        return WindowPlace(chosen[place.image], top, left)

    def _rules(self) -> list[StoppingRule]:
        rules: list[StoppingRule] = []
        tolerance = self.model.recurrent.config.tolerance
        if tolerance is not None and self.told.steps > 1:
            rules.append(ComesToRest(tolerance))
        if self.told.settled is not None:
            rules.append(AnswersAlike(lambda state: labels_of(self.logits(state), self.task), self.told.settled))
        return rules


class _Turn:
    """One look at whole images."""

    settled = False

    def __init__(self, loop: Stitched, chosen: list[int]) -> None:
        self.loop, self.chosen = loop, chosen

    def __call__(self, state: Tensor | None, t: int) -> Turned:
        """h_t -> h_{t+1}."""
        loop = self.loop
        return Turned(loop.stitch(loop.over, lambda places: loop.look(state, places, self.chosen, t), len(self.chosen)))


@torch.no_grad()
def _next(turns: Iterator[tuple[int, Turned]]) -> tuple[int, Turned] | None:
    return next(turns, None)
