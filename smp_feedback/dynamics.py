"""How the state answers a correction: ``h' = f(h, e, t)``, as pure functions and small modules.

States and corrections are (B, S + K, h, w). A correction is normalised, so the size of every later one is
known beforehand: ``rms(h_T) <= sum_t size(t) * rms(e)`` for any weights and any T.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import is_parametrized

from smp_feedback.config.recurrent import Recurrent
from smp_feedback.errors import FeedbackError, InvalidValue
from smp_feedback.hookspecs import Register, hookimpl
from smp_feedback.ops.maps import as_precise_as, laid_out_as

Rule = Callable[[Tensor, Tensor, int], Tensor]
DECAYS = ("tau", "order", "learn_rates", "rate_exponent", "basis")
"""Fields of a config that say how corrections decay."""


def decay(
    x: Tensor,
    t: int,
    tau: float,
    rates: Tensor | None = None,
    basis: Tensor | None = None,
    inverse: Tensor | None = None,
    exponent: float = 1.0,
) -> Tensor:
    """``D_t x`` with ``D_t = Q^T exp(-t |s|^exponent / tau) Q`` (arXiv 2509.15905; *inverse* for Q^T: 2507.10143).

    Args:
        x: (B, C, h, w).
        t: The step, from 0.
        tau: Time constant in steps.
        rates: s (C,); None is all ones.
        basis: Q (C, C); None is the identity.
        inverse: (C, C) in place of Q^T.
        exponent: The power of |s|.

    >>> decay(torch.ones(1, 2, 1, 1), t=2, tau=1.0).flatten()
    tensor([0.1353, 0.1353])
    """
    if rates is None and basis is None:
        return x * math.exp(-t / tau)
    fade = x.new_full((x.shape[1],), math.exp(-t / tau)) if rates is None else faded(t, tau, rates, exponent)
    if basis is None:
        return x * fade[:, None, None]
    back = basis.mT if inverse is None else inverse
    return laid_out_as(torch.einsum("oc,bchw->bohw", (back * fade) @ basis, x), x)


def faded(t: int, tau: float, rates: Tensor, exponent: float = 1.0) -> Tensor:
    """What is left of each channel after *t* steps (C,): ``exp(-t |s|^exponent / tau)``."""
    return torch.exp(rates.abs().pow(exponent) * (-t / tau))


def fractional_weight(t: int, steps: int, order: float) -> float:
    """``((T - t) / T)^(order - 1) / Gamma(order)``: the weight of step t of T (arXiv 2507.10143).

    >>> round(fractional_weight(0, 4, 1.5), 4), round(fractional_weight(3, 4, 1.5), 4)
    (1.1284, 0.5642)
    """
    return math.exp((order - 1) * math.log((steps - t) / steps) - math.lgamma(order))


def leaky(state: Tensor, drive: Tensor, rate: float) -> Tensor:
    """Euler step of ``tau dh/dt = -h + e`` with ``rate = 1 / tau``; fixed point h = e (arXiv 2507.10143).

    >>> leaky(torch.zeros(1), torch.ones(1), 0.25)
    tensor([0.2500])
    """
    return torch.lerp(state, drive, rate)


def gated(state: Tensor, drive: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``h + g (e - h)`` with ``g = sigmoid(weight [h, e] + bias)``, between h and e.

    Args:
        state: h, (B, C, h, w).
        drive: e, (B, C, h, w).
        weight: (C, 2 C, 1, 1), of the channels of *state* and then of *drive*.
        bias: (C,).

    >>> gated(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1), torch.zeros(1, 2, 1, 1), torch.zeros(1)).item()
    0.5
    """
    both = torch.cat([state, drive], 1)
    gate = nn.functional.conv2d(both, weight.to(both.dtype), bias.to(both.dtype)).sigmoid()
    return torch.lerp(state, drive, gate)


class Dynamics(nn.Module):
    """A rule by which the state answers. Subclass, and ``register_dynamics`` it.

    Args:
        channels: Channels of the state, S + K.
        config: The loop's config.
    """

    starts_from_output: ClassVar[bool] = False
    """Whether h_1 is the base model's output itself instead of the answer to the first correction."""
    knows_the_end: ClassVar[bool] = False
    """Whether the rule depends on how many steps there are: a longer loop is then no continuation of a shorter."""
    carries: ClassVar[bool] = False
    """Whether the rule answers alike at every step, so that a state may be carried on from one call to the next."""

    def __init__(self, channels: int, config: Recurrent) -> None:
        super().__init__()
        self.channels, self.config = channels, config

    @classmethod
    def check(cls, config: Recurrent) -> None:
        """Refuse settings under which this rule makes no sense; called when the config is born."""
        if config.steps == "auto" and math.isinf(config.tau):
            raise InvalidValue("steps='auto': without decay (tau=inf) no correction is negligible; give a number.")
        bounded_norm = "layer" if config.output == "dirichlet" else "instance"  # evidence without its level says little
        for field, loose, bounded in (("norm_error", "none", bounded_norm), ("basis", "free", "orthogonal")):
            if config.steps == "auto" and getattr(config, field) == loose:
                raise InvalidValue(
                    f"steps='auto': with {field}={loose!r} no correction has a size known beforehand; give a number, "
                    f"or {field}={bounded!r}."
                )

    def begin(self, steps: int) -> Rule:
        """The rule for a loop of *steps* steps, with all that does not depend on the step done once."""
        raise FeedbackError(f"{type(self).__name__} defines no begin(steps) -> rule(state, correction, t).")

    def size(self, t: int, steps: int) -> float:
        """The most that step *t* of *steps* can add to rms(h), for corrections of rms 1."""
        return self.tail(t) - self.tail(t + 1)

    def tail(self, t: int) -> float:
        """The most that all corrections from step *t* on can add to rms(h)."""
        raise FeedbackError(f"{type(self).__name__} defines no tail(t), which steps='auto' needs.")

    def auto_steps(self, tolerance: float) -> int:
        """The smallest T >= 1 with ``tail(T) < tolerance``."""
        steps = 1
        while self.tail(steps) >= tolerance:
            steps += 1
            if steps > 10_000:
                raise FeedbackError(f"steps='auto': no T <= 10000 makes the rest smaller than {tolerance}.")
        return steps


class Decay(Dynamics):
    """``h + D_t e``: a state to which later corrections add exponentially less (arXiv 2509.15905).

    With all rates equal and an orthogonal basis D_t is the scalar exp(-t / tau), and the basis, which then
    changes nothing, is not even made.
    """

    def __init__(self, channels: int, config: Recurrent) -> None:
        super().__init__(channels, config)
        self.rates = nn.Parameter(torch.ones(channels)) if config.learn_rates else None
        free, turned = config.basis == "free", config.basis == "orthogonal" and config.learn_rates
        self.basis = _square(channels, orthogonal=not free) if free or turned else None
        self.inverse = _square(channels, orthogonal=False) if free else None

    def begin(self, steps: int) -> Rule:
        """h + weight(t) * D_t e."""
        tau, exponent = self.config.tau, self.config.rate_exponent
        if self.rates is None and self.basis is None:
            return lambda h, e, t: torch.add(h, e, alpha=self.weight(t, steps) * math.exp(-t / tau))
        basis, inverse = (None if part is None else _in_full(part) for part in (self.basis, self.inverse))
        return lambda h, e, t: torch.add(
            h, decay(e, t, tau, self.rates, basis, inverse, exponent), alpha=self.weight(t, steps)
        )

    def weight(self, t: int, steps: int) -> float:
        """w_t = 1."""
        return 1.0

    def size(self, t: int, steps: int) -> float:
        """|w_t| exp(-t s_min / tau)."""
        return abs(self.weight(t, steps)) * math.exp(-t * self.slowest() / self.config.tau)

    def tail(self, t: int) -> float:
        """The geometric series from t on."""
        ratio = math.exp(-self.slowest() / self.config.tau)
        return ratio**t / (1 - ratio) if ratio < 1 else math.inf

    def slowest(self) -> float:
        """s_min, the smallest |s|^exponent."""
        return 1.0 if self.rates is None else float(self.rates.detach().abs().min()) ** self.config.rate_exponent


class Fractional(Decay):
    """``h + w_t D_t e`` with the weights of a fractional integral of order ``order`` (arXiv 2507.10143)."""

    knows_the_end = True

    @classmethod
    def check(cls, config: Recurrent) -> None:
        """The weights of an order below 1 grow with T: nothing is known beforehand."""
        super().check(config)
        if config.steps == "auto" and config.order < 1:
            raise InvalidValue(f"order={config.order}: steps='auto' needs an order >= 1.")

    def weight(self, t: int, steps: int) -> float:
        """See :func:`fractional_weight`."""
        return fractional_weight(t, steps, self.config.order)

    def tail(self, t: int) -> float:
        """No weight exceeds 1 / Gamma(order), for any T."""
        return super().tail(t) * math.exp(-math.lgamma(self.config.order))


class Leaky(Dynamics):
    """``h + (e - h) / tau``: gradient descent on |h - e|^2 / 2, with a true fixed point (arXiv 2507.10143)."""

    carries = True

    @classmethod
    def check(cls, config: Recurrent) -> None:
        """A step longer than the time constant overshoots."""
        super().check(config)
        if config.tau < 1 or math.isinf(config.tau):
            raise InvalidValue(f"tau={config.tau}: dynamics='leaky' takes steps of 1 / tau; expected tau >= 1, finite.")
        for field, plain in (("learn_rates", False), ("basis", "identity")):
            if getattr(config, field) != plain:
                raise InvalidValue(
                    f"{field}={getattr(config, field)!r}: dynamics='leaky' does not decay corrections; "
                    f"expected {field}={plain!r}."
                )

    def begin(self, steps: int) -> Rule:
        """See :func:`leaky`."""
        rate = 1 / self.config.tau
        return lambda h, e, t: leaky(h, e, rate)

    def tail(self, t: int) -> float:
        """Distance to a constant drive after t steps."""
        return (1 - 1 / self.config.tau) ** t


class Gated(Dynamics):
    """``h + g (e - h)``, ``g = sigmoid(G [h, e] + b)``: each channel of each pixel decides how much of e it takes.

    Ours, a convolutional GRU's update gate (arXiv 1511.06432) for the corrections of this loop; G is a 1 x 1
    convolution, and b begins at 1: most of a correction is taken until training says otherwise. A convex mix:
    ``|h_c| <= max over steps of |e_c|`` at every pixel, whatever the weights and however many the steps.
    """

    carries = True

    @classmethod
    def check(cls, config: Recurrent) -> None:
        """The gate says what is forgotten: a time constant would have no say, and no end is known beforehand."""
        if config.steps == "auto":
            raise InvalidValue(
                "steps='auto': with dynamics='gated' no correction has a size known beforehand; give a number."
            )
        for field in fields(config):
            if field.name in DECAYS and (value := getattr(config, field.name)) != field.default:
                raise InvalidValue(
                    f"{field.name}={value!r}: dynamics='gated' learns what it forgets; "
                    f"expected {field.name}={field.default!r}."
                )

    def __init__(self, channels: int, config: Recurrent) -> None:
        super().__init__(channels, config)
        self.gate = nn.Conv2d(2 * channels, channels, 1)
        nn.init.ones_(cast(Tensor, self.gate.bias))

    def begin(self, steps: int) -> Rule:
        """See :func:`gated`."""
        return lambda h, e, t: gated(h, e, self.gate.weight, cast(Tensor, self.gate.bias))


class Residual(Decay):
    """``h_1 = y_0``, then ``h + gamma * D_t e`` with gamma (C,) starting at 0.

    Ours: a trained feed-forward model keeps its exact outputs, for every T, until training moves gamma. With one
    step gamma is not used: DistributedDataParallel then needs ``find_unused_parameters=True``.
    """

    starts_from_output = True

    def __init__(self, channels: int, config: Recurrent) -> None:
        super().__init__(channels, config)
        self.gamma = nn.Parameter(torch.zeros(channels))

    def begin(self, steps: int) -> Rule:
        """h + gamma * D_t e."""
        correction, gamma = super().begin(steps), self.gamma[:, None, None]
        return lambda h, e, t: torch.addcmul(h, gamma, correction(torch.zeros_like(e), e, t))

    def size(self, t: int, steps: int) -> float:
        """From step 1 on; what h_1 = y_0 brings is not bounded by any dynamics."""
        return 0.0 if t == 0 else super().size(t, steps) * self.largest()

    def tail(self, t: int) -> float:
        """The decay's, for a gamma of at least 1: an untrained one must have steps to learn from."""
        return super().tail(t) * max(1.0, self.largest())

    def largest(self) -> float:
        """The largest |gamma|."""
        return float(self.gamma.detach().abs().max())


def _in_full(part: nn.Linear) -> Tensor:
    """The matrix, computed in its own precision: under autocast an orthogonal one would not be."""
    if not is_parametrized(part):  # nothing to compute; ``torch.export`` saves no region without an operation
        return part.weight
    with as_precise_as(part.weight):
        return part.weight


def _square(channels: int, *, orthogonal: bool) -> nn.Linear:
    """A learned (C, C) matrix that starts as the identity."""
    linear = nn.Linear(channels, channels, bias=False)
    nn.init.eye_(linear.weight)
    return parametrizations.orthogonal(linear) if orthogonal else linear  # type: ignore[return-value]


@hookimpl
def register_dynamics(register: Register) -> None:
    """The rules of the papers, and ours."""
    register("decay", Decay)
    register("fractional", Fractional)
    register("leaky", Leaky)
    register("gated", Gated)
    register("residual", Residual)
