"""Rules by which the state answers a correction."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from smp_feedback.config.recurrent import Recurrent
from smp_feedback.dynamics import Dynamics
from smp_feedback.errors import FeedbackError
from smp_feedback.factory import create
from smp_feedback.registry.public import catalogue
from smp_feedback.testing.architectures import SMALL
from smp_feedback.testing.looks import check_looks
from smp_feedback.testing.loops import check_loop
from smp_feedback.testing.memory import check_unchanged, contents

CHANNELS = 6
STEPS = 4
TINY = 1e-9  # what float64 makes of a difference that is zero
FAR = 64  # steps after which a bound that does not hold has shown it


def check_dynamics(name: str, **settings: Any) -> None:
    """The dynamics *name* is a pure function of state, correction and step, as large as it says, and learns.

    Weights are drawn at random: what is promised holds for any. Where ``tail`` is defined, the state stays within the
    sum of ``size(t, steps)``, ``tail(t)`` covers all later sizes, and ``steps="auto"`` stops where the rest is small.
    A small U-Net with it keeps the promises of every model, saved and loaded too; where the state is carried on, those
    of :func:`check_looks`.

    Args:
        name: A registered name.
        **settings: Fields of :class:`smp_feedback.Recurrent` to try it with: ``tau=2.0``, ``learn_rates=True``.

    >>> check_dynamics("leaky", tau=3.0)
    """
    told = {"dynamics": name, "steps": STEPS, **settings}
    config = Recurrent(**told)
    made = catalogue().dynamics[name]
    assert isinstance(made, type), f"{made!r} is no class"
    assert issubclass(made, Dynamics), f"{made.__name__} is no subclass of smp_feedback.dynamics.Dynamics"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        check_pure(trained(config))
        check_shapes(trained(config))
        check_horizon(trained(config))
        check_carried(trained(config))
        check_gradients(trained(config))
        if has_tail(made(CHANNELS, config)):
            check_bound(trained(config))
            check_tail(trained(config))
        check_loop(config.loop, **told)
        if made.carries:
            check_looks(create(**SMALL, feedback=config), torch.rand(2, 3, 64, 64))


def trained(config: Recurrent) -> Dynamics:
    """The dynamics of *config* for six channels, in float64, with weights drawn at random."""
    dynamics: Dynamics = catalogue().dynamics[config.dynamics](CHANNELS, config).double()
    for parameter in dynamics.parameters():
        nn.init.normal_(parameter)
    return dynamics


def corrections(steps: int, seed: int = 0) -> Tensor:
    """(steps, 2, 6, 3, 4), float64, each of rms 1."""
    drawn = torch.randn(steps, 2, CHANNELS, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn / rms(drawn)[..., None, None, None]


def rms(x: Tensor) -> Tensor:
    """Over channels and space."""
    return x.square().mean((-3, -2, -1)).sqrt()


def run(dynamics: Dynamics, drives: Tensor, steps: int | None = None) -> list[Tensor]:
    """The states of a loop of *steps* steps whose corrections are *drives*; None is as many as there are."""
    rule = dynamics.begin(len(drives) if steps is None else steps)
    state, states = torch.zeros_like(drives[0]), []
    for t, drive in enumerate(drives):
        state = drive if t == 0 and dynamics.starts_from_output else rule(state, drive, t)
        states.append(state)
    return states


@torch.no_grad()
def check_pure(dynamics: Dynamics) -> None:
    """Same in, same out, in any order; what is given is left as it was; nothing is remembered."""
    drives, (state, *_) = corrections(STEPS), corrections(1, seed=1)
    given, before, rule = (state.clone(), drives.clone()), contents(dynamics), dynamics.begin(STEPS)
    forth = [rule(state, drive, t) for t, drive in enumerate(drives)]
    back = [rule(state, drives[t], t) for t in reversed(range(STEPS))][::-1]
    again = [dynamics.begin(STEPS)(state, drive, t) for t, drive in enumerate(drives)]
    assert torch.equal(state, given[0]), "the rule wrote into the state that it was given"
    assert torch.equal(drives, given[1]), "the rule wrote into the correction that it was given"
    for t in range(STEPS):
        assert torch.equal(forth[t], back[t]), f"step {t} depends on the steps taken before it"
        assert torch.equal(forth[t], again[t]), f"step {t} is another in a second loop"
    check_unchanged(before, contents(dynamics))


@torch.no_grad()
def check_shapes(dynamics: Dynamics) -> None:
    """Any batch and size, a state of 1 x 1 too; dtype as given; a first state without memory of its own; row by row."""
    for dtype in (torch.float64, torch.float32):
        rule = dynamics.to(dtype).begin(STEPS)
        for shape in ((1, CHANNELS, 1, 1), (3, CHANNELS, 5, 2)):
            drive = torch.randn(shape, dtype=dtype)
            state = rule(torch.zeros((), dtype=dtype).expand_as(drive), drive, 0)
            assert state.shape == drive.shape, f"a correction {shape} makes a state {tuple(state.shape)}"
            assert state.dtype == dtype, f"a correction of {dtype} makes a state of {state.dtype}"
            assert state.isfinite().all(), "a state is not finite"
            for i, row in enumerate(drive[:, None]):
                alone = rule(torch.zeros_like(row), row, 0)[0]
                torch.testing.assert_close(alone, state[i], msg="an image's state depends on the batch it is in")


@torch.no_grad()
def check_horizon(dynamics: Dynamics) -> None:
    """Unless ``knows_the_end``, a longer loop begins as a shorter one."""
    drives = corrections(STEPS + 3)
    long, short = run(dynamics, drives), run(dynamics, drives[:STEPS])
    same = all(torch.equal(a, b) for a, b in zip(long, short, strict=False))
    assert same or dynamics.knows_the_end, "a longer loop begins otherwise than a shorter: set knows_the_end = True"


@torch.no_grad()
def check_carried(dynamics: Dynamics) -> None:
    """If it ``carries``: a state and a correction have one answer, whatever the step and however many there are."""
    state, drive = corrections(2)
    answers = [dynamics.begin(steps)(state, drive, t) for steps in (STEPS, FAR) for t in (0, 1, STEPS - 1)]
    same = all(torch.equal(answer, answers[0]) for answer in answers)
    assert same or not dynamics.carries, "it answers otherwise at another step: leave carries = False"


def check_gradients(dynamics: Dynamics) -> None:
    """Gradients with respect to state and correction are those of finite differences; every weight has one."""
    state, drive = (x[:1, :, :1, :2].clone().requires_grad_() for x in corrections(2)[:, 0][:, None])
    for t in (0, 1):
        rule = dynamics.begin(STEPS)
        torch.autograd.gradcheck(lambda h, e, t=t, rule=rule: rule(h, e, t), (state, drive))
    drives = corrections(STEPS).requires_grad_()
    run(dynamics, drives)[-1].square().sum().backward()  # type: ignore[no-untyped-call]
    assert drives.grad is not None, "no gradient reaches the corrections"
    assert drives.grad.isfinite().all(), "the gradient that reaches the corrections is not finite"
    for name, parameter in dynamics.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.any())
        assert reached or not parameter.requires_grad, f"no gradient reaches {name}"


def has_tail(dynamics: Dynamics) -> bool:
    """Whether it says how large the state can become: the corrections are bounded, and ``tail`` is defined."""
    if dynamics.config.norm_error == "none" or dynamics.config.basis == "free":
        return False
    try:
        return math.isfinite(dynamics.tail(0))
    except FeedbackError:
        return False


@torch.no_grad()
def check_bound(dynamics: Dynamics) -> None:
    """``rms(h_T) <= sum of size(t, T)`` for corrections of rms 1, whether they differ or agree."""
    for steps in (1, STEPS, FAR):
        changing = corrections(steps)
        for drives in (changing, changing[:1].expand_as(changing)):
            bound = sum(dynamics.size(t, steps) for t in range(steps)) + (1.0 if dynamics.starts_from_output else 0.0)
            found = float(rms(run(dynamics, drives)[-1]).max())
            assert found <= bound * (1 + 1e-6), f"after {steps} steps rms(h) = {found:.4g}, size() allows {bound:.4g}"


@torch.no_grad()
def check_tail(dynamics: Dynamics) -> None:
    """``tail`` never grows, covers every later ``size``, and all that a constant correction changes from there on."""
    tails, sizes = [dynamics.tail(t) for t in range(FAR)], [dynamics.size(t, FAR) for t in range(FAR)]
    states = run(dynamics, corrections(1).expand(FAR, -1, -1, -1, -1))
    for t in range(1, FAR):
        assert 0 <= tails[t] <= tails[t - 1], f"tail({t - 1}) = {tails[t - 1]:.4g}, tail({t}) = {tails[t]:.4g}"
        assert sum(sizes[t:]) <= tails[t] * (1 + 1e-6) + TINY, f"tail({t}) is less than the sizes from there on"
        moved = float(rms(states[-1] - states[t - 1]).max())
        assert moved <= tails[t] * (1 + 1e-6) + TINY, f"tail({t}) = {tails[t]:.4g}, but the state moves by {moved:.4g}"
    count = dynamics.auto_steps(max(0.01, 2 * tails[-1]))
    assert count <= FAR, f"steps='auto' takes {count}"
    assert dynamics.tail(count) < max(0.01, 2 * tails[-1]), f"steps='auto' takes {count} steps, too few"
