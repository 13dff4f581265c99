"""The recurrent loop: projection -> body -> dynamics, T times, then the head.

*Deep Feedback Models* (arXiv 2509.15905) and *Deep Recurrence for Dynamical Segmentation Models*
(arXiv 2507.10143): ``u_t = projection(h_t)``, ``e_t = N(f([x, u_t]))``, ``h_{t+1} = dynamics(h_t, e_t, t)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from smp_feedback.builder import Cut, check_reads_logits, cut_of
from smp_feedback.config import LoopConfig, Recurrent, check_steps
from smp_feedback.dynamics import Dynamics, Rule
from smp_feedback.errors import SurgeryError
from smp_feedback.look import Look, looking
from smp_feedback.loops.base import FeedbackModel, Turn, Turned, check_image, unroll
from smp_feedback.loops.settling import Settling
from smp_feedback.normalise import Normalise, normaliser
from smp_feedback.plugins import catalogue
from smp_feedback.probe import Probe, in_channels_of, probe, prove
from smp_feedback.projections import Projection, View, resize
from smp_feedback.surgery import add_readers, add_statistics, evaluating, extend, named_stem

AUTO_TOLERANCE = 0.01


@dataclass
class Recurrence:
    """One turn as a function of the state alone; knows no model, so the mathematics is testable without one.

    Attributes:
        body: ``(u, t) -> (y, features)``: the base model without its head, and the readout.
        project: ``h -> u``; called with None before there is a state.
        normalise: ``y -> e``.
        rule: ``(h, e, t) -> h'``.
        from_output: Whether the first state is y itself.
    """

    body: Callable[[Tensor, int], tuple[Tensor, Tensor | None]]
    project: Callable[[Tensor | None], Tensor]
    normalise: Normalise
    rule: Rule
    from_output: bool = False
    settled: bool = False

    def __call__(self, state: Tensor | None, t: int) -> Turned:
        """h_t -> h_{t+1}."""
        output, features = self.body(self.project(state), t)
        output = at_least_single(output)
        if t == 0 and self.from_output:
            return Turned(output, features)
        with torch.autocast(output.device.type, enabled=False):
            error = self.normalise(output)
            nothing = error.new_zeros(()).expand_as(error)  # h_0 = 0, without memory of its own
            before = nothing if state is None else resize(state, (error.shape[-2], error.shape[-1]))
            return Turned(self.rule(before, error, t), features)


def at_least_single(x: Tensor) -> Tensor:
    """The state accumulates in float32 or better, whatever autocast made of the body's output."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


class RecurrentFeedback(nn.Module):
    """All that is new in a recurrent model: what reads the feedback, what is read out, how the state moves.

    Args:
        config: The loop's config.
        seen: What a dry run showed of the base.
    """

    readers: nn.ModuleList
    statistics: nn.ModuleList
    reads_once: bool  # whether what the image's convolutions answer may be kept for later looks

    def __init__(self, config: Recurrent, seen: Probe) -> None:
        super().__init__()
        self.config, self.stride = config, seen.stride
        self.in_channels, self.state_channels, classes = (x.shape[1] for x in (seen.image, seen.output, seen.logits))
        self.projection: Projection = catalogue().projections[config.projection](config, classes)
        k = self.projection.readout
        self.readout = nn.Conv2d(self.state_channels, k, 1, bias=False) if k else None  # N_in removes a bias
        channels = self.state_channels + k
        self.normalise = normaliser(config.norm_error, channels, "norm_error")
        self.dynamics: Dynamics = catalogue().dynamics[config.dynamics](channels, config)

    def steps(self) -> int:
        """T of a call that names none."""
        if self.config.steps == "auto":
            return self.dynamics.auto_steps(self.config.tolerance or AUTO_TOLERANCE)
        return self.config.steps

    def statistics_rows(self) -> int:
        """Steps with BatchNorm statistics of their own, besides the first."""
        return self.steps() - 1 if self.config.statistics == "per_step" else 0

    def with_readout(self, output: Tensor) -> Tensor:
        """(B, S, h, w) -> (B, S + K, h, w)."""
        return output if self.readout is None else torch.cat([output, self.readout(output)], 1)

    def first_state(self, image: Tensor) -> Tensor | None:
        """h_0: None for zero, or N(0, init_std^2)."""
        if not self.config.init_std:
            return None
        h, w = (max(1, round(s / self.stride)) for s in image.shape[-2:])
        shape = (len(image), self.dynamics.channels, h, w)
        return at_least_single(torch.randn(shape, dtype=image.dtype, device=image.device)) * self.config.init_std


class RecurrentModel(FeedbackModel):
    """A base model in the recurrent loop."""

    config_class = Recurrent
    feedback: RecurrentFeedback

    @classmethod
    def close(cls, base: nn.Module, config: LoopConfig, in_channels: int | None = None) -> RecurrentModel:
        """Close *base* into the loop, in place: probe it, let it read the feedback, prove nothing changed."""
        assert isinstance(config, Recurrent)
        cut = cut_of(base)
        if catalogue().projections[config.projection].reads_logits:
            check_reads_logits(base, config.projection)
        with evaluating(base):
            seen = probe(base, cut, [in_channels] if in_channels else in_channels_of(base))
            convs = _readers(base, seen, config.stem)
            like = next(base.parameters())
            feedback = RecurrentFeedback(config, seen).to(like.device, like.dtype)
            feedback.readers = add_readers(convs, feedback.projection.channels, reads_image=config.stem is None)
            feedback.statistics = add_statistics(base, rows=feedback.statistics_rows())
            feedback.reads_once = prove(base, cut, seen, feedback.readers, feedback.statistics, config.stem)
        for weight in feedback.readers.parameters() if config.feedback_init else ():
            nn.init.normal_(weight, std=config.feedback_init)
        model = extend(base, cls)
        model.feedback = feedback.train(base.training)
        return model

    @property
    def cut(self) -> Cut:
        """Where the base is opened."""
        return cut_of(self)

    def _turns(self, image: Tensor, steps: int | None) -> Iterator[tuple[int, Turned]]:
        feedback = self.feedback
        check_image(image, feedback.in_channels)
        if not torch.compiler.is_compiling():
            self.cut.check(self, image)
        count = feedback.steps() if steps is None else check_steps(steps)
        tolerance, flow = feedback.config.tolerance, feedback.config.flow
        turn: Turn
        if tolerance is None or self.training:
            turn = self._recurrence(image, count)
        else:
            turn = Settling(lambda rows: self._recurrence(rows, count), image, tolerance)
            flow = flow._replace(recompute=False)  # run again, it would decide again which images are left
        return unroll(turn, feedback.first_state(image), steps=count, flow=flow)

    def _recurrence(self, image: Tensor, steps: int) -> Recurrence:
        feedback, cut = self.feedback, self.cut
        context = cut.prefix(self, image)
        seen: dict[int, Tensor] | None = {} if feedback.reads_once and not torch.is_grad_enabled() else None

        def body(u: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
            with looking(Look(t, u, feedback.readers, feedback.statistics, seen)):
                output, features = cut.body(self, context)
            return feedback.with_readout(output), features

        dynamics = feedback.dynamics
        # a loss on each detached step frees that step's graph: what is shared by steps must be made anew
        rule: Rule = (
            (lambda h, e, t: dynamics.begin(steps)(h, e, t)) if feedback.config.detach else dynamics.begin(steps)
        )
        return Recurrence(
            body, lambda h: self._project(h, image), feedback.normalise, rule, dynamics.starts_from_output
        )

    def _project(self, state: Tensor | None, image: Tensor) -> Tensor:
        projection, s = self.feedback.projection, self.feedback.state_channels
        if state is None:
            return image.new_full((len(image), projection.channels, *image.shape[-2:]), projection.before())
        view = View(state[:, s:], lambda: self._logits(state), (image.shape[-2], image.shape[-1]))
        return projection(view).to(image.dtype)

    def _logits(self, state: Tensor) -> Tensor:
        dtype = cast(Tensor, self.feedback.readers[0].weight).dtype
        return self.cut.head(self, state[:, : self.feedback.state_channels].to(dtype))

    def _answer(self, turned: Turned) -> tuple[Tensor, Tensor | None]:
        labels = None if turned.features is None else self.cut.labels(self, turned.features)
        return self._logits(turned.state), labels


def _readers(base: nn.Module, seen: Probe, stem: str | None) -> list[nn.Conv2d]:
    """The convolutions that shall read the feedback."""
    if stem is not None:
        return [named_stem(base, stem)]
    if not seen.readers:
        convs = [name for name, module in base.named_modules() if isinstance(module, nn.Conv2d)]
        raise SurgeryError(
            f"No convolution of this {type(base).__name__} reads the image itself (a space-to-depth stem, or a "
            "linear patch embedding?). Name the first convolution: feedback=Recurrent(stem='...'). "
            f"There is: {', '.join(convs[:5])}, ..."
        )
    return list(seen.readers.values())
