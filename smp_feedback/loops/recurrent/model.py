"""The recurrent loop: projection -> body -> dynamics, T times, then the head.

*Deep Feedback Models* (arXiv 2509.15905) and *Deep Recurrence for Dynamical Segmentation Models*
(arXiv 2507.10143): ``u_t = projection(h_t)``, ``e_t = N(f([x, u_t]))``, ``h_{t+1} = dynamics(h_t, e_t, t)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from smp_feedback.config.base import GradientFlow, LoopConfig
from smp_feedback.config.recurrent import Recurrent
from smp_feedback.config.stopping import UntilSettled
from smp_feedback.dynamics import Rule
from smp_feedback.errors import InvalidValue
from smp_feedback.loops.base import FeedbackModel, check_image
from smp_feedback.loops.beginnings import Beginnings
from smp_feedback.loops.call import Told
from smp_feedback.loops.recurrent.carrying import check_before, check_carries, check_channels, check_labels, found_by
from smp_feedback.loops.recurrent.early_stop import AnswersAlike, ComesToRest, Settling, StoppingRule
from smp_feedback.loops.recurrent.opening import open_base
from smp_feedback.loops.recurrent.state import RecurrentFeedback, look_once
from smp_feedback.loops.recurrent.step import Recurrence
from smp_feedback.loops.recurrent.streams import Abreast, Apart, rows_of
from smp_feedback.loops.steps import Step
from smp_feedback.loops.unroll import Share, Turn, Turned, unroll
from smp_feedback.models.normalisation import given_config
from smp_feedback.ops.dirichlet import log_concentration
from smp_feedback.ops.maps import Size, as_map, filled, laid_out_as, size_of
from smp_feedback.ops.reading import labels_of
from smp_feedback.projections import View, checked_feedback
from smp_feedback.surgery.cuts import Cut
from smp_feedback.surgery.extension import extend
from smp_feedback.surgery.step_batchnorm import adopt
from smp_feedback.surgery.step_context import Once


class RecurrentModel(FeedbackModel):
    """A base model in the recurrent loop."""

    config_class = Recurrent
    feedback: RecurrentFeedback

    @classmethod
    def close(cls, base: nn.Module, config: LoopConfig, in_channels: int | None = None) -> RecurrentModel:
        """Close *base* into the loop, in place: probe it, let it read the feedback, prove nothing changed."""
        assert isinstance(config, Recurrent)
        feedback = open_base(base, config, in_channels)
        model = extend(base, cls)
        model.feedback = feedback.train(base.training)
        return model

    def compile_step(self, **options: Any) -> RecurrentModel:
        """Compile one look, once for every step and any number of them; returns the model.

        In training twice, for what the first look is fed carries no gradient, and with ``recompute`` once more.
        Where ``torch.compile(model)`` unrolls a graph T times as long for each T, this one is a single look long;
        the loop around it, what is fed back and the state's update (a few small kernels) stay eager. It is
        left out of copies and pickles.

        Args:
            **options: As ``torch.compile`` takes them; ``mode="reduce-overhead"`` for CUDA graphs.

        >>> import smp_feedback as smpf
        >>> model = smpf.create("Unet", "resnet18", None).eval().compile_step(backend="eager")
        >>> with torch.no_grad():
        ...     model(torch.rand(1, 3, 32, 32), steps=3).shape
        torch.Size([1, 1, 32, 32])
        """
        self.recurrent.look = torch.compile(look_once, **options)
        return self

    @property
    def recurrent(self) -> RecurrentFeedback:
        """This loop's part of ``feedback``, which may be that of a loop around this one."""
        return cast(RecurrentFeedback, getattr(self.feedback, "inner", None) or self.feedback)

    @property
    def cut(self) -> Cut:
        """Where the base is opened."""
        return self.recurrent.cut

    def _turns(self, image: Tensor, told: Told, share: Share | None = None) -> Iterator[tuple[int, Turned]]:
        check_image(image, self.recurrent.in_channels)
        if not torch.compiler.is_compiling():
            adopt(self, self.recurrent.statistics)
            self.cut.check(self, image)
        count, through = told.steps, told.flow
        once = self._once(image, through)
        if through.detach and share is not None:  # no convolution's answer is kept then
            image, once = once.shared(image, share)
        began = None if told.before is None else told.before.beginnings
        rules = self._rules(told, size_of(image))
        turn: Turn
        if rules:
            turn = self._settling(image, once, told, began, rules)
            through = through._replace(recompute=False)  # run again, it would decide again which images are left
        else:
            turn = self._turn(image, once, told, began)
        first = self.recurrent.first_state(image) if told.before is None else told.before.state
        return unroll(turn, first, steps=count, flow=through, start=told.start)

    def check_carries(self, asked: str) -> None:
        """As ever; a loop whose dynamics carry their state has one."""
        check_carries(self.recurrent, asked)

    def _found(self, before: Step, image: Tensor, asked: str) -> Step:
        check_image(image, self.recurrent.in_channels)
        check_carries(self.recurrent, asked)
        return found_by(self.recurrent, check_before(self.recurrent, before, image), image)

    def _check_state(self, step: Step) -> None:
        check_channels(self.recurrent.dynamics.width, step.state)
        check_labels(self, step.features)

    def _check_stops(self, steps: UntilSettled) -> None:
        if self.recurrent.dynamics.knows_the_end:
            raise InvalidValue(
                f"steps={steps}: dynamics={self.recurrent.config.dynamics!r} weighs each look by how many there will "
                f"be, so an image cannot stop by itself; give a number, such as steps={self._count(None)}."
            )

    def _rules(self, told: Told, size: Size) -> list[StoppingRule]:
        """When an image of this call is done."""
        rules: list[StoppingRule] = []
        tolerance = self.recurrent.config.tolerance
        stops = told.steps > 1 and not self.recurrent.training  # a loop around this one may train without it
        if tolerance is not None and stops:
            rules.append(ComesToRest(tolerance))
        if told.settled is not None:
            task = given_config(self).config.task
            rules.append(
                AnswersAlike(lambda state: labels_of(self._answer(Turned(state), size)[0], task), told.settled)
            )
        return rules

    def _settling(
        self, image: Tensor, once: Once, told: Told, began: Beginnings | None, rules: list[StoppingRule]
    ) -> Settling:
        def make(places: Tensor) -> Turn:
            if len(places) == len(image):
                return self._turn(image, once, told, began)
            return self._turn(*rows_of(image, once, places), told, None if began is None else began.among(places))

        return Settling(make, torch.arange(len(image), device=image.device), rules)

    def _turn(self, image: Tensor, once: Once, told: Told, began: Beginnings | None) -> Turn:
        """One turn of all streams, whether they began together or not."""
        if began is None:
            return self._recurrence(image, once, told.steps, told.flow)
        apart = max(self.recurrent.later_rows(), self.recurrent.dynamics.starts_from_output)
        if not apart:
            drawn = self.recurrent.first_state(image)
            return Abreast(self._recurrence(image, once, told.steps, told.flow), began, drawn)

        def make(places: Tensor | None, age: int) -> tuple[Turn, Tensor | None]:
            part, kept = rows_of(image, once, places)
            first = None if age else self.recurrent.first_state(part)
            return self._recurrence(part, kept, told.steps, told.flow), first

        return Apart(make, began, apart)

    def _once(self, image: Tensor, flow: GradientFlow) -> Once:
        entry = self.recurrent.entry
        if torch.is_grad_enabled():
            # one convolution is run again rather than kept where each step's memory shall be its own
            entry = entry.forgetful() if flow.detach else entry
            entry = entry.stopping_there() if flow.recompute else entry
        return entry.once(self, image)

    def _recurrence(self, image: Tensor, once: Once, steps: int, flow: GradientFlow) -> Recurrence:
        feedback, dynamics = self.recurrent, self.recurrent.dynamics
        grid = feedback.entry.grid(image, once)

        def body(u: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
            return feedback.look(self, image, u, once, feedback.rows(t))

        # a loss on each detached step frees that step's graph: what is shared by steps must be made anew
        rule: Rule = (lambda h, e, t: dynamics.rule(steps)(h, e, t)) if flow.detach else dynamics.rule(steps)
        return Recurrence(
            body,
            lambda h: self._project(h, image, grid),
            feedback.normalise,
            rule,
            dynamics.starts_from_output,
            feedback.start,
            dynamics.width,
        )

    def _project(self, state: Tensor | None, image: Tensor, grid: tuple[int, int]) -> Tensor:
        projection, s = self.recurrent.projection, self.recurrent.state_channels
        if state is None:
            return laid_out_as(filled(image, projection.before(), projection.channels, grid), image)
        size = size_of(image)
        readout = state[:, s : s + projection.readout]
        if self.cut.spread is not None and projection.readout:
            readout = self.cut.spread(self, readout, size)
        view = View(readout, lambda: as_map(self._logits(state, size)), grid)
        shape = (state.shape[0], projection.channels, *grid)
        fed = checked_feedback(projection(view), shape, self.recurrent.config.fed_back, projection)
        return laid_out_as(fed.to(image.dtype), image)

    def _logits(self, state: Tensor, size: Size) -> Tensor:
        dtype = cast(Tensor, self.recurrent.readers[0].weight).dtype
        read = state[:, : self.recurrent.state_channels]
        if self.recurrent.dirichlet:
            return log_concentration(read).to(dtype)
        return self.cut.head(self, read.to(dtype), size)

    def _answer(self, turned: Turned, size: Size) -> tuple[Tensor, Tensor | None]:
        labels = None if turned.features is None else self.cut.labels(self, turned.features)
        return self._logits(turned.state, size), labels
