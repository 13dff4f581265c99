"""Rules by which the state answers a correction."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError

from smp_feedback.config.recurrent import Recurrent
from smp_feedback.dynamics import Dynamics, Rule
from smp_feedback.errors import FeedbackError
from smp_feedback.ops.precision import check_registered
from smp_feedback.registry.public import catalogue
from smp_feedback.testing.bases import broken
from smp_feedback.testing.loops import check_loop
from smp_feedback.testing.memory import check_unchanged, contents

CHANNELS = 6
STEPS = 4
TINY = 1e-9  # what float64 makes of a difference that is zero
FAR = 64  # steps after which a bound that does not hold has shown it


def check_dynamics(name: str, **settings: Any) -> None:
    """The dynamics *name* is a pure function of state, correction and step, as large as it says, and learns.

    A state of several maps is held to all of this, each map. Weights are drawn at random: what is promised holds for
    any. Where ``tail`` is defined, the state stays within the sum of ``size(t, steps)``, ``tail(t)`` covers all later
    sizes, and ``steps="auto"`` stops where the rest is small. A small U-Net with it keeps the promises of every model
    (:func:`check_loop`).

    Args:
        name: A registered name.
        **settings: Fields of :class:`smp_feedback.Recurrent` to try it with: ``tau=2.0``, ``learn_rates=True``.

    >>> check_dynamics("leaky", tau=3.0)
    """
    said = {"dynamics": name, "steps": STEPS, **settings}
    config = Recurrent(**said)
    made = catalogue().dynamics[name]
    assert isinstance(made, type), f"{made!r} is no class"
    assert issubclass(made, Dynamics), f"{made.__name__} is no subclass of smp_feedback.dynamics.Dynamics"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        check_weights(trained(config))
        check_numbers(trained(config))
        check_pure(trained(config))
        check_shapes(trained(config))
        check_finite(trained(config))
        check_horizon(trained(config))
        check_carried(trained(config))
        check_gradients(trained(config))
        if has_tail(made(CHANNELS, config)):
            check_bound(trained(config))
            check_tail(trained(config))
        check_loop(config.loop, **said)


def trained(config: Recurrent) -> Dynamics:
    """The dynamics of *config* for six channels, in float64, with weights drawn at random."""
    dynamics: Dynamics = catalogue().dynamics[config.dynamics](CHANNELS, config).double()
    assert dynamics.channels == CHANNELS, f"made for {CHANNELS} channels it says channels = {dynamics.channels}"
    for parameter in dynamics.parameters():
        nn.init.normal_(parameter)
    return dynamics


def corrections(steps: int, seed: int = 0) -> Tensor:
    """(steps, 2, 6, 3, 4), float64, each of rms 1."""
    drawn = torch.randn(steps, 2, CHANNELS, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn / rms(drawn)[..., None, None, None]


def states(dynamics: Dynamics, count: int, seed: int = 0) -> Tensor:
    """(count, 2, width, 3, 4), float64: states of all its maps, each of rms 1."""
    drawn = [corrections(count, seed + place) for place in range(-(-dynamics.width // CHANNELS))]
    return torch.cat(drawn, 2)[:, :, : dynamics.width]


def told(dynamics: Dynamics, steps: int) -> Rule:
    """The rule of *dynamics*, of all maps of its state as one tensor; what it gives wrongly breaks a promise."""
    with broken():
        rule = dynamics.rule(steps)

    def turned(state: Tensor, drive: Tensor, t: int) -> Tensor:
        with broken():
            return rule(state, drive, t)

    return turned


def rms(x: Tensor) -> Tensor:
    """Over space and the channels that the head reads."""
    x = x[..., :CHANNELS, :, :]
    return x.square().mean((-3, -2, -1)).sqrt()


def run(dynamics: Dynamics, drives: Tensor, steps: int | None = None) -> list[Tensor]:
    """The states of a loop of *steps* steps whose corrections are *drives*; None is as many as there are."""
    rule = told(dynamics, len(drives) if steps is None else steps)
    more = drives.new_zeros(len(drives[0]), dynamics.width - CHANNELS, *drives.shape[-2:])
    state, passed = torch.cat([torch.zeros_like(drives[0]), more], 1), []
    for t, drive in enumerate(drives):
        state = torch.cat([drive, more], 1) if t == 0 and dynamics.starts_from_output else rule(state, drive, t)
        passed.append(state)
    return passed


@torch.no_grad()
def check_pure(dynamics: Dynamics) -> None:
    """Same in, same out, in any order; what is given is left as it was; nothing is remembered."""
    drives, (state, *_) = corrections(STEPS), states(dynamics, 1, seed=1)
    given, before, rule = (state.clone(), drives.clone()), contents(dynamics), told(dynamics, STEPS)
    forth = [rule(state, drive, t) for t, drive in enumerate(drives)]
    back = [rule(state, drives[t], t) for t in reversed(range(STEPS))][::-1]
    again = [told(dynamics, STEPS)(state, drive, t) for t, drive in enumerate(drives)]
    assert torch.equal(state, given[0]), "the rule wrote into the state that it was given"
    assert torch.equal(drives, given[1]), "the rule wrote into the correction that it was given"
    for t in range(STEPS):
        assert torch.equal(forth[t], back[t]), f"step {t} depends on the steps taken before it"
        assert torch.equal(forth[t], again[t]), f"step {t} is another in a second loop"
    check_unchanged(before, contents(dynamics))


def check_weights(dynamics: Dynamics) -> None:
    """Every weight is one that torch knows of: trained, moved and saved."""
    with broken():
        check_registered(dynamics, f"dynamics={dynamics.config.dynamics!r}")


@torch.no_grad()
def check_numbers(dynamics: Dynamics) -> None:
    """The first state is finite: comparisons of NaN with NaN would say something else of it."""
    state = run(dynamics, corrections(1), STEPS)[0]
    assert state.isfinite().all(), "the first state is NaN or infinite"


@torch.no_grad()
def check_finite(dynamics: Dynamics) -> None:
    """A state is finite after many steps, where nothing is corrected, and where one is repeated."""
    changing = corrections(FAR)
    for drives, of in ((changing, "changing"), (0 * changing, "zero"), (changing[:1].expand_as(changing), "constant")):
        for t, state in enumerate(run(dynamics, drives)):
            assert state.isfinite().all(), f"by step {t} of {FAR} of {of} corrections the state is NaN or infinite"


@torch.no_grad()
def check_shapes(dynamics: Dynamics) -> None:
    """Any batch and size, a state of 1 x 1 too; dtype as given; a first state without memory of its own; row by row."""
    for dtype in (torch.float64, torch.float32):
        rule = told(dynamics.to(dtype), STEPS)
        for shape in ((1, CHANNELS, 1, 1), (3, CHANNELS, 5, 2)):
            drive = torch.randn(shape, dtype=dtype)
            zeros = torch.zeros((), dtype=dtype).expand(len(drive), dynamics.width, *shape[2:])
            state = rule(zeros, drive, 0)
            assert state.isfinite().all(), "a state is not finite"
            for i, row in enumerate(drive[:, None]):
                alone = rule(zeros[:1], row, 0)[0]
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
    state, drive = states(dynamics, 1)[0], corrections(1, seed=9)[0]
    answers = [told(dynamics, steps)(state, drive, t) for steps in (STEPS, FAR) for t in (0, 1, STEPS - 1)]
    same = all(torch.equal(answer, answers[0]) for answer in answers)
    assert same or not dynamics.carries, "it answers otherwise at another step: leave carries = False"


def check_gradients(dynamics: Dynamics) -> None:
    """Gradients with respect to state and correction are those of finite differences; every weight has one."""
    given = (states(dynamics, 1)[0], corrections(1, seed=9)[0])
    state, drive = (x[:1, :, :1, :2].clone().requires_grad_() for x in given)
    for t in (0, 1):
        rule = told(dynamics, STEPS)
        try:
            torch.autograd.gradcheck(lambda h, e, t=t, rule=rule: rule(h, e, t), (state, drive))
        except GradcheckError as error:
            raise AssertionError(f"at step {t} its gradient is not that of finite differences: {error}") from error
    drives = corrections(STEPS).requires_grad_()
    run(dynamics, drives)[-1].square().sum().backward()  # type: ignore[no-untyped-call]
    assert drives.grad is not None, "no gradient reaches the corrections"
    assert drives.grad.isfinite().all(), "the gradient that reaches the corrections is not finite"
    for name, parameter in dynamics.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.any())
        assert parameter.grad is None or parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"
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
    passed = run(dynamics, corrections(1).expand(FAR, -1, -1, -1, -1))
    for t in range(1, FAR):
        assert 0 <= tails[t] <= tails[t - 1], f"tail({t - 1}) = {tails[t - 1]:.4g}, tail({t}) = {tails[t]:.4g}"
        assert sum(sizes[t:]) <= tails[t] * (1 + 1e-6) + TINY, f"tail({t}) is less than the sizes from there on"
        moved = float(rms(passed[-1] - passed[t - 1]).max())
        assert moved <= tails[t] * (1 + 1e-6) + TINY, f"tail({t}) = {tails[t]:.4g}, but the state moves by {moved:.4g}"
    count = dynamics.auto_steps(max(0.01, 2 * tails[-1]))
    assert count <= FAR, f"steps='auto' takes {count}"
    assert dynamics.tail(count) < max(0.01, 2 * tails[-1]), f"steps='auto' takes {count} steps, too few"
