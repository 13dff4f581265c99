"""How the state answers a correction: ``h' = f(h, e, t)``, as pure functions and small modules.

States and corrections are (B, S + K, h, w). A correction is normalised, so the size of every later one is
known beforehand: ``rms(h_T) <= sum_t size(t) * rms(e)`` for any weights and any T.
"""

from __future__ import annotations

from smp_feedback.dynamics.base import Dynamics, Rule
from smp_feedback.dynamics.decaying import Decay, decay, faded
from smp_feedback.dynamics.fractional import Fractional, fractional_weight
from smp_feedback.dynamics.gating import Gated, gated
from smp_feedback.dynamics.leaking import Leaky, leaky
from smp_feedback.dynamics.residual import Residual
from smp_feedback.hookspecs import Register, hookimpl

__all__ = [
    "Decay",
    "Dynamics",
    "Fractional",
    "Gated",
    "Leaky",
    "Residual",
    "Rule",
    "decay",
    "faded",
    "fractional_weight",
    "gated",
    "leaky",
]


@hookimpl
def register_dynamics(register: Register) -> None:
    """The rules of the papers, and ours."""
    register("decay", Decay)
    register("fractional", Fractional)
    register("leaky", Leaky)
    register("gated", Gated)
    register("residual", Residual)
