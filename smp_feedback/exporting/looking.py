"""One look as a graph: (image, state) -> (logits, state), where a state of zeros is the first look.

What is other at a first look is decided in the graph, image by image, with ``where`` and ``index_select``: no device is
waited for, and streams of a batch begin when they like.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from smp_feedback.config.base import GradientFlow
from smp_feedback.errors import InvalidInput, InvalidValue
from smp_feedback.exporting.formats import Session
from smp_feedback.exporting.serving import DRAWN, REPLACE, Served, Shape
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.loops.outer import OuterModel
from smp_feedback.loops.recurrent.model import RecurrentModel
from smp_feedback.loops.steps import Step
from smp_feedback.ops.maps import size_of
from smp_feedback.surgery.extension import Extension, extend
from smp_feedback.surgery.probe import noise
from smp_feedback.surgery.step_batchnorm import StatisticsPerStep, StepStatistics, adopt
from smp_feedback.surgery.step_context import Buffers, current_step

STATE, NEXT_STATE = "state", "next_state"
FRAMES = 3  # of which a file is compared: a first, one that goes on from it, one at which a stream begins anew
CLOSED = "The state of this model is {}, so no size of it follows from the image's that a graph could leave open."


class ServedLook(Served):
    """One image and a state in, logits and the next state out.

    The state is the model's own (B, S + K, h, w) and, as one channel more, how many looks it has had, up to as many as
    BatchNorm tells apart: where that is 0, all else that is in it counts for nothing.

    Args:
        model: In the recurrent loop, of dynamics that carry; left as it is.
    """

    model: RecurrentModel

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        ours = self.model.recurrent
        adopt(self.model, ours.statistics)
        self.rows = ours.later_rows()
        for rows in _listed(ours.statistics) if self.rows else ():
            extend(rows.norm[0], MovedBetweenRows)

    def looks(self, model: nn.Module, steps: int | None, outputs: str) -> int:
        """One, of a model that goes on from it."""
        check_looks_on(model)
        return 1

    def forward(self, image: Tensor, state: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """(B, C, H, W) and (B, S + K + 1, h, w) -> logits, labels with ``aux_params``, and the next state."""
        model, ours = self.model, self.model.recurrent
        had = state[:, -1, 0, 0]
        first = (had == 0)[:, None, None, None]
        once = ours.entry.once(model, image)
        grid = ours.entry.grid(image, once)
        statistics = [moves(rows, had) for rows in _listed(ours.statistics)]

        def project(h: Tensor | None) -> Tensor:
            return torch.where(first, model._project(None, image, grid), model._project(h, image, grid))

        look = replace(
            model._recurrence(image, once, 1, GradientFlow()),
            body=lambda u, _: ours.look(model, image, u, once, statistics),
            project=project,
        )
        turned = look(torch.where(first, ours.start, state[:, :-1]), 1)
        logits, labels = model._answer(turned, size_of(image))
        count = (had + 1).clamp_max(max(1, self.rows))[:, None, None, None].expand_as(state[:, -1:])
        kept = torch.cat([turned.state, count.to(turned.state.dtype)], 1)
        return (logits, kept) if labels is None else (logits, labels, kept)

    def names(self) -> tuple[str, ...]:
        """The outputs' names; the state's is not the input's, as each name in an ONNX file is one thing's."""
        return (*super().names(), NEXT_STATE)

    def given(self, shape: Shape) -> dict[str, Tensor]:
        """An image, and the state before its first look."""
        return {**super().given(shape), STATE: self.zeros(shape)}

    @torch.no_grad()
    def zeros(self, shape: Shape) -> Tensor:
        """The state before the first look at an image of *shape*."""
        state = self.model.look(noise(self, shape), None).state
        return state.new_zeros(len(state), state.shape[1] + 1, *state.shape[2:])

    @property
    def strides(self) -> dict[str, tuple[int, int]]:
        """Those of the image, and of the state that follows from it."""
        down, right = self.model.recurrent.stride
        return {**super().strides, STATE: (self.stride // max(1, int(down)), self.stride // max(1, int(right)))}

    def closed(self) -> InvalidInput | None:
        """Why a state's size would not follow from the image's."""
        ours = self.model.recurrent
        if ours.placeless is not None:
            return InvalidInput(CLOSED.format("one of tokens"))
        if any(side < 1 or self.stride % side for side in ours.stride):
            down, right = ours.stride
            return InvalidInput(CLOSED.format(f"one place for {down:.3g} x {right:.3g} px"))
        return None

    @torch.no_grad()
    def trials(self, run: Session, shape: Shape) -> Iterator[tuple[Sequence[Tensor], Sequence[Tensor]]]:
        """Some frames, the file going on from its own states; at the last the first stream of several begins anew."""
        state, step = self.zeros(shape), None
        for place, frame in enumerate(noise(self, (FRAMES, *shape))):
            if place == FRAMES - 1 and len(frame) > 1 and step is not None:
                anew = torch.arange(len(frame)) == 0
                state, step = state.masked_fill(anew[:, None, None, None], 0), step.reset(anew)
            *got, state = run(frame, state)
            step = self.model.look(frame, step)
            yield [*got, state[:, :-1]], self._answers(step)

    def _answers(self, step: Step) -> list[Tensor]:
        return [step.logits, *(() if step.labels is None else (step.labels,)), step.state]

    def facts(self, shape: Shape | None = None) -> dict[str, str]:
        """Besides, what the state is."""
        zeros = self.zeros(shape or self.readable())
        about: dict[str, Any] = {
            "channels": zeros.shape[1],
            "shape": list(zeros.shape),
            "of_image": list(shape or ()),
            "stride": [round(side) for side in self.model.recurrent.stride],
            "dtype": str(zeros.dtype).removeprefix("torch."),
            "first": "zeros: before the first frame, after a cut, or of one stream of the batch",
            "next": f"hand {NEXT_STATE} in with the next frame; its last channel counts looks",
        }
        return {**super().facts(shape), STATE: json.dumps(about)}


class MovedBetweenRows(Extension):
    """A BatchNorm with the statistics of its last row that is handed what makes them another row's."""

    def forward(self, x: Tensor) -> Any:
        """``norm(x)`` by the statistics of the row that each image is at."""
        step, norm = current_step(), cast(StatisticsPerStep, self)
        row: Buffers = step.statistics[norm.norm] if step is not None and step.statistics else {}
        if "scale" in row:  # by no other look than that of `ServedLook`
            x = torch.addcmul(cast(Tensor, row["shift"]), x, cast(Tensor, row["scale"]))
        return super().forward(x)


def moves(statistics: StepStatistics, had: Tensor) -> Buffers:
    """The last row of *statistics*, with what moves an image that has *had* (B,) looks to it from its own row.

    With mean m and deviation s of its row, and M and S of the last, ``(x - m) S / s + M`` is to the last row what x is
    to its own; of the last row itself that is x, to the bit.
    """
    last = statistics.row(statistics.count)
    if not statistics.count:
        return last
    norm: Any = statistics.norm[0]
    row = had.long().clamp_max(statistics.count)
    mean, var = (
        torch.cat([norm._buffers[name][None], statistics._buffers[name]])  # type: ignore[list-item]
        for name in ("running_mean", "running_var")
    )
    deviation = (var + norm.eps).sqrt()
    scale = deviation[-1] / deviation.index_select(0, row)
    shift = mean[-1] - mean.index_select(0, row) * scale
    return {**last, "scale": scale[..., None, None], "shift": shift[..., None, None]}


def check_looks_on(model: nn.Module) -> None:
    """One look of *model* can go on from another, in a graph.

    Raises:
        InvalidValue: If it does not loop, or begins anew with every image, or draws its first state.
        SurgeryError: If the model itself has a hook.
    """
    if not isinstance(model, FeedbackModel):
        raise InvalidValue(
            f"look=True: a plain {type(model).__name__} keeps no state from one image to the next; leave it out, and "
            "show the file frame by frame."
        )
    model.check_carries("look=True:")
    if not isinstance(model, RecurrentModel) or isinstance(model, OuterModel):
        raise InvalidValue(
            f"look=True: of loops that carry a state, feedback='recurrent' alone is a graph of two inputs, and this is "
            f"feedback={model.loop_config.loop!r}."
        )
    if model.recurrent.config.init_std:
        raise InvalidValue(DRAWN.format(model.recurrent.config.init_std) + REPLACE.format("init_std=0.0"))
    model._check_opened("export(look=True)")


def _listed(statistics: nn.ModuleList) -> list[StepStatistics]:
    return [cast(StepStatistics, rows) for rows in statistics]
