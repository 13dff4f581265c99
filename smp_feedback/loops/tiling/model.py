"""A model that looks at large images in overlapping windows: a module like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NoReturn, cast

import torch
from torch import Tensor, nn

from smp_feedback.checks import check_choice, check_number, check_whole
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.loops.call import Looks
from smp_feedback.loops.recurrent.model import RecurrentModel
from smp_feedback.loops.steps import Step
from smp_feedback.loops.tiling import fitting
from smp_feedback.loops.tiling.asking import Feed, Progress, WindowAsking, counted
from smp_feedback.loops.tiling.grid import WindowGrid, laid
from smp_feedback.loops.tiling.mosaic import strips
from smp_feedback.loops.tiling.stitched import Stitched, state_stride
from smp_feedback.models.normalisation import given_config
from smp_feedback.ops.maps import Size, masks_of, size_of
from smp_feedback.surgery.extension import InParts, looping_in

ReadLast = Callable[[Tensor, slice, slice], Tensor]
"""What is kept of the last look's logits (b, classes, h, W), told which images of a batch and which rows they are."""
Stitching = Literal["logits", "state"]


class TiledModel(InParts):
    """A model in windows; see :func:`smp_feedback.tiled`, which makes it.

    Holds no state between calls, and answers without gradient: it is not trained.
    """

    def __init__(
        self,
        model: nn.Module,
        window: int | Sequence[int],
        overlap: float,
        *,
        stitch: Stitching = "logits",
        batch_size: int = 1,
        progress: Progress | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Module) or isinstance(model, InParts):
            said = "is in windows already" if isinstance(model, nn.Module) else "is no module"
            raise InvalidType(f"model is a {type(model).__name__}, which {said}: expected a model for segmentation.")
        self.window, self.overlap, self.progress = fitting.sides(window), overlap, progress
        check_number("overlap", overlap, least=0)
        if overlap >= 1:
            raise InvalidValue(f"overlap={overlap}: expected a share of the window, >= 0 and below 1.")
        check_choice("stitch", stitch, ("logits", "state"))
        self.stitch, self.batch_size = stitch, check_whole("batch_size", batch_size)
        self.stride = state_stride(looping_in(model)) if stitch == "state" else (1, 1)
        fitting.check_fits(model, self.window, self.stride)
        self.model = model
        self.training = model.training

    @property
    def opened(self) -> nn.Module:
        """The model that is asked look by look: of a compiled one, that inside."""
        return looping_in(self.model)

    def forward(self, x: Tensor, steps: Looks | None = None, *, feed: Feed | None = None) -> Tensor:
        """The last look's logits (B, classes, H, W), on the image's device, in single precision or better.

        Image labels of a model with ``aux_params`` are left out: a window's are not the image's.

        Args:
            x: Image (B, C, H, W) of any size, on any device: its windows are brought to the model's.
            steps: As the model itself takes it; with :func:`smp_feedback.until_settled` each window stops by itself, or
                with ``stitch="state"`` each image.
            feed: What each window goes through before the model sees it, such as ``model.data_config.normalise``, so
                that no second image is kept; None shows it as it is.

        Raises:
            InvalidInput: If *x* is no batch of images, or the model answers a window with something else than a map.
            InvalidValue: In training mode, for an image that wants a gradient, or *steps* of a model that looks once.
            Besides: what the model itself raises.
        """
        if self.stitch == "state":
            for step in self.iterate(x, steps, feed=feed):  # noqa: B007
                pass
            return step.logits
        told = self._told(steps)
        return self.stitched(x, lambda image: masks_of(self.model(image, **told)), feed=feed)

    @torch.inference_mode()
    def predict(self, x: Tensor, steps: Looks | None = None) -> Tensor:
        """As smp: switch to evaluation, and :meth:`forward` in inference mode."""
        return cast(Tensor, self.eval()(x, steps=steps))

    def every_look(self, x: Tensor, steps: Looks | None = None, *, feed: Feed | None = None) -> Iterator[Tensor]:
        """The logits of each look (B, classes, H, W), T of them.

        With ``stitch="logits"`` all of them are there before the first is given; with ``state`` one at a time.

        Raises:
            InvalidValue: For a rule in place of a number, with which each window has looks of its own.
            Besides: as :meth:`forward`.
        """
        if self.stitch == "state":
            return (step.logits for step in self.iterate(x, steps, feed=feed))
        if not isinstance(self.opened, FeedbackModel):
            return iter((self(x, feed=feed),))
        answer, count = self._all_looks(steps)
        return iter(self.stitched(x, answer, feed=feed).chunk(count, 1))

    def read_looks(
        self,
        x: Tensor,
        read: Callable[[Tensor], Tensor],
        steps: Looks | None = None,
        *,
        feed: Feed | None = None,
        last: ReadLast | None = None,
    ) -> tuple[list[Tensor], Tensor]:
        """What *read* makes of each look but the last, and the last's logits (B, classes, H, W): no other are kept.

        With ``stitch="logits"`` windows are put together from above to below, and *read* sees what is done: bit for bit
        the numbers of :meth:`every_look` of each image alone, in the memory of one row of windows.

        Args:
            x: As in :meth:`forward`.
            read: Of logits (1, classes, h, W), some rows of an image, what is kept of them: maps of these rows.
            steps: As in :meth:`every_look`.
            feed: As in :meth:`forward`.
            last: Of the last look's logits what is kept in their place, told which images they are of, and where.

        Raises: As :meth:`every_look`.
        """
        if self.stitch == "state" or not isinstance(self.opened, FeedbackModel):
            return _read_one_by_one(self.every_look(x, steps, feed=feed), read, last)
        self._check(x)
        grid, (answer, count), asking = self.grid(size_of(x)), self._all_looks(steps), self._asking
        calls = len(x) * -(-grid.windows // self.batch_size)
        kept, height, width = list[Tensor](), *size_of(x)
        with torch.no_grad(), asking.begun(calls) as advance:
            told = counted(asking.answered(x, answer, grid, feed), advance)
            for image in range(len(x)):
                for top, part in strips(grid, told, image=image, at_once=self.batch_size, **asking.where(x)):
                    *before, end = part[..., : max(0, height - top), :width].chunk(count, 1)
                    rows = slice(top, top + end.shape[-2])
                    made = [*map(read, before), end if last is None else last(end, slice(image, image + 1), rows)]
                    kept = kept or [one.new_empty(len(x), *one.shape[1:-2], height, width) for one in made]
                    for whole, one in zip(kept, made, strict=True):
                        whole[image, ..., top : top + one.shape[-2], :] = one[0]
        return kept[:-1], kept[-1]

    def _all_looks(self, steps: Looks | None) -> tuple[Callable[[Tensor], Tensor], int]:
        """What answers a window with the logits of all looks, one behind another, and how many they are."""
        model, told = cast(FeedbackModel, self.opened), self._told(steps)
        if not isinstance(steps, int | None):
            raise InvalidValue(
                f"steps={steps}: each window stops by itself, so there is no look that all have; give a number, or "
                "stitch='state', with which whole images stop."
            )
        count = max(1, model._told(steps).steps)

        def answer(image: Tensor) -> Tensor:
            seen = [step.logits for step in model.iterate(image, **told)]
            return torch.cat([*seen, *seen[-1:] * (count - len(seen))], 1)  # what came to rest stays

        return answer, count

    def trajectory(self, x: Tensor, steps: Looks | None = None, *, feed: Feed | None = None) -> Tensor:
        """The logits of every look (T, B, classes, H, W), the last of which is what ``forward`` returns."""
        return torch.stack([*self.every_look(x, steps, feed=feed)])

    def iterate(self, x: Tensor, steps: Looks | None = None, *, feed: Feed | None = None) -> Iterator[Step]:
        """Look at whole images once per ``next()``, as :meth:`FeedbackModel.iterate`; with ``stitch="state"``.

        Raises:
            InvalidValue: With ``stitch="logits"``.
            Besides: as :meth:`forward`.
        """
        if self.stitch != "state":
            raise InvalidValue(
                "iterate: with stitch='logits' each window looks to the end before the next one begins; trajectory has "
                "every look, and stitch='state' looks at whole images."
            )
        model = cast(RecurrentModel, self.opened)
        model._check_opened("iterate")
        told = model._told(steps)
        self._check(x)
        grid, asking, task = self.grid(size_of(x)), self._asking, given_config(self).config.task
        how: Any = {"window": asking.shown(x, grid, feed), "stitch": asking.stitch(x), "task": task}
        return Stitched(model, told, grid, self.stride, **how).looks(x, asking.dtype)

    def stitched(self, x: Tensor, answer: Callable[[Tensor], Tensor], *, feed: Feed | None = None) -> Tensor:
        """What *answer* makes of each window as one map (B, C', H, W), for questions of your own.

        Args:
            x: As in :meth:`forward`.
            answer: Of images (b, C, h, w) on the model's device a map of their size (b, C', h, w); called image by
                image, row by row, without gradient.
            feed: As in :meth:`forward`.

        Raises: As :meth:`forward`.
        """
        self._check(x)
        grid, asking = self.grid(size_of(x)), self._asking
        with torch.no_grad():
            made = asking.stitch(x)(grid, asking.answered(x, answer, grid, feed), len(x))
        return made[..., : x.shape[-2], : x.shape[-1]]

    def grid(self, image: Size) -> WindowGrid:
        """The windows in which an image of (H, W) pixels is seen.

        >>> import smp_feedback as smpf
        >>> smpf.tiled(smpf.create("PlainConv", feedback=False), window=512).grid((4000, 6000)).windows
        176
        """
        each = fitting.common_multiple(fitting.divisor(self.model), self.stride)
        whole = fitting.is_built_for(self.model, self.window)
        return laid(image, self.window, self.overlap, each, aligned=self.stitch == "state", whole=whole)

    def _told(self, steps: Looks | None) -> dict[str, Any]:
        if steps is None:
            return {}
        if not isinstance(self.opened, FeedbackModel):
            raise InvalidValue(f"steps={steps}: a plain {type(self.opened).__name__} looks once; leave it out.")
        return {"steps": steps}

    def _check(self, x: object) -> None:
        fitting.check_shown(x)
        if self.training or self.model.training:
            raise InvalidValue(
                "windows in training mode: BatchNorm would take a window's statistics for the image's, and what is "
                "blended carries no gradient; call eval() before, or train the model inside, on crops."
            )

    @property
    def _asking(self) -> WindowAsking:
        weights = [*self.model.parameters()]
        dtype = torch.float64 if any(weight.dtype == torch.float64 for weight in weights) else torch.float32
        return WindowAsking(weights[0].device if weights else None, dtype, self.batch_size, self.progress)

    def save_pretrained(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: a model is saved without its windows.

        Raises:
            InvalidType: Always, naming what is saved instead.
        """
        raise InvalidType("windows are a way to ask a model, not part of it: save the one inside, tiled.model.")

    push_to_hub = save_pretrained


def _read_one_by_one(
    looks: Iterator[Tensor], read: Callable[[Tensor], Tensor], last: ReadLast | None
) -> tuple[list[Tensor], Tensor]:
    kept, end = list[Tensor](), next(looks)
    for following in looks:
        kept.append(read(end))
        end = following
    return kept, end if last is None else last(end, slice(None), slice(None))
