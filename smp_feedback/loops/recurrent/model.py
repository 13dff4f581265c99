"""The recurrent loop: projection -> body -> dynamics, T times, then the head.

*Deep Feedback Models* (arXiv 2509.15905) and *Deep Recurrence for Dynamical Segmentation Models*
(arXiv 2507.10143): ``u_t = projection(h_t)``, ``e_t = N(f([x, u_t]))``, ``h_{t+1} = dynamics(h_t, e_t, t)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from smp_feedback.checks import check_steps
from smp_feedback.config.base import GradientFlow, LoopConfig
from smp_feedback.config.recurrent import Recurrent
from smp_feedback.dynamics import Dynamics, Rule
from smp_feedback.errors import InvalidValue
from smp_feedback.loops.base import FeedbackModel, check_image
from smp_feedback.loops.recurrent.early_stop import Settling
from smp_feedback.loops.recurrent.step import Recurrence, at_least_single
from smp_feedback.loops.unroll import Share, Turn, Turned, unroll
from smp_feedback.models.builder import check_reads_logits
from smp_feedback.ops.dirichlet import START, check_classes, log_concentration
from smp_feedback.ops.maps import Mixture, as_map, laid_out_as
from smp_feedback.ops.normalise import most_groups, normaliser
from smp_feedback.projections import Projection, View
from smp_feedback.registry.public import catalogue
from smp_feedback.surgery.cuts import Cut, Size, cut_of
from smp_feedback.surgery.extension import evaluating, extend
from smp_feedback.surgery.insertion import InsertionPoint, enter
from smp_feedback.surgery.probe import Probe, in_channels_of, noise, probe, prove
from smp_feedback.surgery.step_batchnorm import StepStatistics, add_statistics, adopt, tracking_norms
from smp_feedback.surgery.step_context import Buffers, Once, StepContext, in_step, is_recomputing

AUTO_TOLERANCE = 0.01


class RecurrentFeedback(nn.Module):
    """All that is new in a recurrent model: what reads the feedback, what is read out, how the state moves.

    Args:
        config: The loop's config.
        seen: What a dry run showed of the base.
        own_readout: How many channels to be fed back the base makes itself.
    """

    entry: InsertionPoint  # where the feedback enters
    readers: nn.ModuleList
    statistics: nn.ModuleList

    def __init__(self, config: Recurrent, seen: Probe, own_readout: int = 0) -> None:
        super().__init__()
        self.config, self.cut, self.look = config, seen.cut, look_once
        self.stride, self.placeless = seen.stride, seen.placeless
        self.in_channels, classes = seen.image.shape[1], seen.logits.shape[1]
        self.dirichlet = config.output == "dirichlet"
        if self.dirichlet:
            check_classes(classes)
        self.start = START if self.dirichlet else 0.0
        settled = with_norms(config, seen, own_readout)
        self.projection: Projection = catalogue().projections.make(config.fed_back, settled, classes)
        k = self.projection.readout
        if own_readout not in (0, k):
            raise InvalidValue(f"The base makes {own_readout} channels to be fed back, and the loop feeds back {k}.")
        self.state_channels = seen.output.shape[1] - own_readout
        self.readout = Mixture(self.state_channels, k) if k and not own_readout else None  # N_in removes a bias
        channels = self.state_channels + k
        self.normalise = normaliser(cast(Any, settled.norm_error), channels, "norm_error")
        self.dynamics: Dynamics = catalogue().dynamics.make(config.dynamics, channels, settled)

    def steps(self) -> int:
        """T of a call that names none."""
        if self.config.steps == "auto":
            return self.dynamics.auto_steps(self.config.tolerance or AUTO_TOLERANCE)
        return self.config.steps

    def statistics_rows(self) -> int:
        """Steps with BatchNorm statistics of their own, besides the first."""
        return self.steps() - 1 if self.config.statistics == "per_step" else 0

    def rows(self, t: int) -> list[Buffers]:
        """The running statistics of step t, by BatchNorm; run again, a step updates copies that nobody keeps."""
        rows = [cast(StepStatistics, statistics).row(t) for statistics in self.statistics]
        if not is_recomputing():
            return rows
        return [{name: None if x is None else x.clone() for name, x in row.items()} for row in rows]

    def __getstate__(self) -> dict[str, Any]:
        """All but a compiled look, which belongs to this process."""
        return {**super().__getstate__(), "look": look_once}  # type: ignore[no-untyped-call]

    def with_readout(self, output: Tensor) -> Tensor:
        """(B, S, h, w) -> (B, S + K, h, w)."""
        return output if self.readout is None else torch.cat([output, self.readout(output)], 1)

    def first_state(self, image: Tensor) -> Tensor | None:
        """h_0: None for where the loop starts, or N(start, init_std^2)."""
        if not self.config.init_std:
            return None
        h, w = (max(1, math.ceil(s / stride)) for s, stride in zip(image.shape[-2:], self.stride, strict=True))
        if self.placeless is not None:
            h, w = self.placeless + h * w, 1
        shape = (image.shape[0], self.dynamics.channels, h, w)
        random = at_least_single(torch.randn(shape, dtype=image.dtype, device=image.device))
        return self.start + self.config.init_std * random


class RecurrentModel(FeedbackModel):
    """A base model in the recurrent loop."""

    config_class = Recurrent
    feedback: RecurrentFeedback

    @classmethod
    def close(cls, base: nn.Module, config: LoopConfig, in_channels: int | None = None) -> RecurrentModel:
        """Close *base* into the loop, in place: probe it, let it read the feedback, prove nothing changed."""
        assert isinstance(config, Recurrent)
        if config.output == "dirichlet":
            check_reads_logits(base, "output='dirichlet'")
        if catalogue().projections[config.fed_back].reads_logits:
            check_reads_logits(base, f"projection={config.fed_back!r}")
        cut_of(base)  # what cannot be cut need not be asked anything
        with evaluating(base):
            channels = [in_channels] if in_channels else in_channels_of(base)
            seen = probe(base, channels, dirichlet=config.output == "dirichlet")
            like = next(base.parameters())
            feedback = RecurrentFeedback(config, seen, seen.cut.readout(base)).to(like.device, like.dtype)
            feedback.entry, feedback.readers = enter(base, config, seen, feedback.projection.channels)
            early = feedback.entry.before(base)
            norms = {name: norm for name, norm in tracking_norms(base).items() if norm not in early}
            feedback.statistics = add_statistics(norms, rows=feedback.statistics_rows())
            feedback.entry = _proven(base, seen, feedback)
        for weight in feedback.readers.parameters() if config.feedback_init else ():
            nn.init.normal_(weight, std=config.feedback_init)
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

    def _turns(
        self, image: Tensor, steps: int | None, flow: GradientFlow | None = None, share: Share | None = None
    ) -> Iterator[tuple[int, Turned]]:
        self._check_input(image)
        count = self.recurrent.steps() if steps is None else check_steps(steps)
        through = self.recurrent.config.flow if flow is None else flow
        once = self._once(image, through)
        if through.detach and share is not None:  # no convolution's answer is kept then
            image, *stages = share([image, *once.stages])
            once = once._replace(stages=tuple(stages))
        tolerance = self.recurrent.config.tolerance
        turn: Turn
        if tolerance is None or self.recurrent.training:  # a loop around this one may train without it
            turn = self._recurrence(image, once, count, through)
        else:
            turn = Settling(lambda x, seen: self._recurrence(x, seen, count, through), image, once, tolerance)
            through = through._replace(recompute=False)  # run again, it would decide again which images are left
        return unroll(turn, self.recurrent.first_state(image), steps=count, flow=through)

    def _check_input(self, image: Tensor) -> None:
        check_image(image, self.recurrent.in_channels)
        if not torch.compiler.is_compiling():
            adopt(self, self.recurrent.statistics)
            self.cut.check(self, image)

    def _once(self, image: Tensor, flow: GradientFlow) -> Once:
        entry = self.recurrent.entry
        # one convolution is run again rather than kept where each step's memory shall be its own
        return (entry.forgetful() if flow.detach and torch.is_grad_enabled() else entry).once(self, image)

    def _recurrence(self, image: Tensor, once: Once, steps: int, flow: GradientFlow) -> Recurrence:
        feedback, dynamics = self.recurrent, self.recurrent.dynamics
        grid = feedback.entry.grid(image, once)

        def body(u: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
            return feedback.look(self, image, u, once, feedback.rows(t))

        # a loss on each detached step frees that step's graph: what is shared by steps must be made anew
        rule: Rule = (lambda h, e, t: dynamics.begin(steps)(h, e, t)) if flow.detach else dynamics.begin(steps)
        return Recurrence(
            body,
            lambda h: self._project(h, image, grid),
            feedback.normalise,
            rule,
            dynamics.starts_from_output,
            feedback.start,
        )

    def _project(self, state: Tensor | None, image: Tensor, grid: tuple[int, int]) -> Tensor:
        projection, s = self.recurrent.projection, self.recurrent.state_channels
        if state is None:
            first = image.new_full((image.shape[0], projection.channels, *grid), projection.before())
            return laid_out_as(first, image)
        size = (image.shape[-2], image.shape[-1])
        readout = state[:, s:]
        if self.cut.spread is not None and projection.readout:
            readout = self.cut.spread(self, readout, size)
        view = View(readout, lambda: as_map(self._logits(state, size)), grid)
        return laid_out_as(projection(view).to(image.dtype), image)

    def _logits(self, state: Tensor, size: Size) -> Tensor:
        dtype = cast(Tensor, self.recurrent.readers[0].weight).dtype
        read = state[:, : self.recurrent.state_channels]
        if self.recurrent.dirichlet:
            return log_concentration(read).to(dtype)
        return self.cut.head(self, read.to(dtype), size)

    def _answer(self, turned: Turned, size: Size) -> tuple[Tensor, Tensor | None]:
        labels = None if turned.features is None else self.cut.labels(self, turned.features)
        return self._logits(turned.state, size), labels


def with_norms(config: Recurrent, seen: Probe, own_readout: int) -> Recurrent:
    """*config* with its normalisations settled: what suits segmentation would leave a classifier nothing to read.

    Raises:
        InvalidValue: If each channel were normalised over the space over which a classifier averages.
    """
    error: str | int = "instance"
    feedback: str | int = "instance"
    if seen.classifies:
        made = 0 if own_readout else config.state_channels_fed_back
        error, feedback = most_groups(seen.output.shape[1] + made), "layer"
    if seen.classifies and config.norm_error == "instance" and seen.cut.spread is None:
        raise InvalidValue(
            "norm_error='instance': a classifier averages each channel over space, and so normalised that is zero; "
            f"give a number of groups, such as {error}, or leave it None."
        )
    return replace(
        config,
        norm_error=error if config.norm_error is None else config.norm_error,
        norm_feedback=feedback if config.norm_feedback is None else config.norm_feedback,
    )


def look_once(
    model: RecurrentModel, image: Tensor, feedback: Tensor, once: Once, statistics: list[Buffers]
) -> tuple[Tensor, Tensor | None]:
    """One look of *model*: what moves the state (B, S + K, h, w), with the readout, and the encoder's features."""
    ours = model.recurrent
    with in_step(StepContext(ours.entry.carry(model, feedback), ours.readers, statistics, once)):
        output, features = model.cut.body(model, image)
    return ours.with_readout(output), features


def _proven(base: nn.Module, seen: Probe, feedback: RecurrentFeedback) -> InsertionPoint:
    """The place where the feedback enters, proven: nothing has changed, and what is kept is exact."""
    entry, stem = feedback.entry, feedback.config.stem
    once = entry.once(base, seen.image)
    u = noise(base, (1, feedback.projection.channels, *entry.grid(seen.image, once)))
    step = StepContext(entry.carry(base, u), feedback.readers)
    if not prove(base, seen, step, stem):
        entry, once = entry.forgetful(), once._replace(heard=())
    for _ in range(2 if once.stages else 1):  # the first look must leave what is kept as it was
        prove(base, seen, step._replace(once=once), stem)
    return entry
