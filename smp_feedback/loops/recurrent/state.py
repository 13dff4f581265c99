"""What the recurrent loop is made of: all that is new in a model, and one look of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from smp_feedback.config.recurrent import Recurrent
from smp_feedback.dynamics import Dynamics, Rule
from smp_feedback.errors import InvalidValue
from smp_feedback.loops.recurrent.step import at_least_single
from smp_feedback.ops.dirichlet import START, check_classes
from smp_feedback.ops.maps import Mixture, Size, laid_out_like
from smp_feedback.ops.normalise import most_groups, normaliser
from smp_feedback.ops.precision import check_registered
from smp_feedback.projections import Projection
from smp_feedback.registry.public import catalogue
from smp_feedback.surgery.extension import evaluating
from smp_feedback.surgery.insertion_point import InsertionPoint
from smp_feedback.surgery.probe import Probe
from smp_feedback.surgery.step_batchnorm import StepStatistics
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
        self.in_channels, self.classes = seen.image.shape[1], seen.logits.shape[1]
        self.dirichlet = config.output == "dirichlet"
        if self.dirichlet:
            check_classes(self.classes)
        self.start = START if self.dirichlet else 0.0
        settled = with_norms(config, seen, own_readout)
        self.projection: Projection = catalogue().projections.make(config.fed_back, settled, self.classes)
        k = self.projection.readout
        if own_readout not in (0, k):
            raise InvalidValue(f"The base makes {own_readout} channels to be fed back, and the loop feeds back {k}.")
        self.state_channels = seen.output.shape[1] - own_readout
        self.readout = Mixture(self.state_channels, k) if k and not own_readout else None  # N_in removes a bias
        channels = self.state_channels + k
        self.normalise = normaliser(cast(Any, settled.norm_error), channels, "norm_error")
        self.dynamics: Dynamics = catalogue().dynamics.make(config.dynamics, channels, settled)
        self.projection.brought = catalogue().projections.brought(config.fed_back)
        self.dynamics.brought = catalogue().dynamics.brought(config.dynamics)
        with catalogue().projections.noting(config.fed_back):
            check_registered(self.projection, f"projection={config.fed_back!r}")
        with catalogue().dynamics.noting(config.dynamics):
            check_registered(self.dynamics, f"dynamics={config.dynamics!r}")
            rule = self.dynamics.rule(1)
            if self.dynamics.brought and torch.get_default_device().type == "cpu":  # on meta nothing is computed
                _check_first(self.dynamics, rule)

    def steps(self) -> int:
        """T of a call that names none."""
        if self.config.steps == "auto":
            return self.dynamics.auto_steps(self.config.tolerance or AUTO_TOLERANCE)
        return self.config.steps

    def statistics_rows(self) -> int:
        """Steps with BatchNorm statistics of their own, besides the first."""
        return self.steps() - 1 if self.config.statistics == "per_step" else 0

    def later_rows(self) -> int:
        """How many later looks differ by their statistics; 0 where all share one, or no norm keeps any."""
        return max((cast(StepStatistics, statistics).count for statistics in self.statistics), default=0)

    def rows(self, t: int) -> list[Buffers]:
        """The running statistics of step t, by BatchNorm; run again, a step updates copies that nobody keeps."""
        rows = [cast(StepStatistics, statistics).row(t) for statistics in self.statistics]
        if not is_recomputing():
            return rows
        return [{name: None if x is None else x.clone() for name, x in row.items()} for row in rows]

    def __getstate__(self) -> dict[str, Any]:
        """All but a compiled look, which belongs to this process."""
        return {**super().__getstate__(), "look": look_once}  # type: ignore[no-untyped-call]

    def with_readout(self, output: Tensor, image: Tensor) -> Tensor:
        """(B, S, h, w) -> (B, S + K, h, w), laid out as *image*.

        Decoders that end in a linear layer (Segformer's) give channels-last maps whatever they were given, and each of
        the state's operations after them would turn them round and back on a CPU.
        """
        laid = laid_out_like(output, image)
        if self.readout is None:
            return laid
        # a copy is for the state alone: kept for the readout's backward pass, it would be a map more in each look
        return torch.cat([laid, self.readout(output) if laid is output else self.readout.product(output)], 1)

    def state_size(self, image: Tensor) -> Size:
        """Height and width of the state that *image* leads to, to rounding; of tokens, how many, and 1."""
        h, w = (max(1, math.ceil(s / stride)) for s, stride in zip(image.shape[-2:], self.stride, strict=True))
        return (h, w) if self.placeless is None else (self.placeless + h * w, 1)

    def first_state(self, image: Tensor) -> Tensor | None:
        """h_0: None for where the loop starts, or N(start, init_std^2)."""
        if not self.config.init_std:
            return None
        shape = (image.shape[0], self.dynamics.width, *self.state_size(image))
        random = at_least_single(torch.randn(shape, dtype=image.dtype, device=image.device))
        return self.start + self.config.init_std * random


def look_once(
    model: Any, image: Tensor, feedback: Tensor, once: Once, statistics: list[Buffers]
) -> tuple[Tensor, Tensor | None]:
    """One look of *model*: what moves the state (B, S + K, h, w), with the readout, and the encoder's features."""
    ours = model.recurrent
    once = once._replace(image=image)
    with in_step(StepContext(ours.entry.carry(model, feedback), ours.readers, statistics, once)):
        output, features = model.cut.body(model, image)
    return ours.with_readout(output, image), features


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
    if not config.normalises_feedback:
        feedback = "none"
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


def _check_first(dynamics: Dynamics, rule: Rule) -> None:
    """The first state that a *rule* of somebody else's *dynamics* makes, of a correction of rms 1, is a finite one.

    Raises:
        InvalidValue: If it is NaN or infinite, or no map like the one before.
    """
    drawn = torch.randn(1, dynamics.channels, 8, 8, generator=torch.Generator().manual_seed(0))
    with evaluating(dynamics):
        state = rule(drawn.new_zeros(1, dynamics.width, 8, 8), drawn, 0)
    if not state.isfinite().all():
        raise InvalidValue(
            f"dynamics={dynamics.config.dynamics!r} ({type(dynamics).__name__}{dynamics.brought}): the first state "
            "that its rule gives is NaN or infinite. smp_feedback.testing.check_dynamics finds such faults."
        )
