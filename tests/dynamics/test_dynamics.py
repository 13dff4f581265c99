"""How the state answers: closed forms, the bound, the scalar shortcut, and what steps="auto" promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import reference as ref
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import smp_feedback as smpf
from smp_feedback.config.base import GradientFlow
from smp_feedback.dynamics import Decay, Fractional, Leaky, decay, fractional_weight
from smp_feedback.loops.recurrent.step import Recurrence
from smp_feedback.loops.steps import relative_change
from smp_feedback.loops.unroll import unroll
from smp_feedback.ops.normalise import normaliser
from smp_feedback.registry.public import catalogue

CHANNELS = 6
EVERY_RULE = list(catalogue().dynamics)
BUILT_IN = [name for name in EVERY_RULE if catalogue().dynamics.origin(name) == "smp_feedback"]


def rms(x):
    return x.double().square().mean((1, 2, 3)).sqrt()


def made(name, **settings_):
    return catalogue().dynamics[name](CHANNELS, smpf.Recurrent(dynamics=name, **settings_))


def run(rule, drives, steps, h0=None, norm="layer"):
    """The states of a loop whose body answers *drives* in turn, whatever is fed back."""
    turn = Recurrence(lambda u, t: (drives[t % len(drives)], None), lambda h: None, normaliser(norm, CHANNELS), rule)
    return [t.state for _, t in unroll(turn, h0, steps=steps, flow=GradientFlow())]


@pytest.mark.parametrize("exponent", [1.0, 1.5])
def test_rates_of_their_own_fade_each_channel_in_the_identitys_basis(exponent):
    x, rates = torch.randn(2, 3, 4, 5, dtype=torch.double), torch.tensor([0.0, 0.5, -2.0]).double()
    eye = torch.eye(3, dtype=torch.double).numpy()
    for t in (0, 1, 4):
        expected = ref.decay(x.numpy(), t, 1.5, rates.numpy(), eye, eye, exponent)
        found = decay(x, t, 1.5, rates, exponent=exponent)
        torch.testing.assert_close(found, torch.from_numpy(expected))


@given(
    name=st.sampled_from(["decay", "fractional", "leaky"]),
    steps=st.integers(1, 1000),
    tau=st.floats(1, 50),
    norm=st.sampled_from(["layer", "instance", 3]),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 2**16),
    learned=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_no_weights_and_no_number_of_steps_blow_the_state_up(name, steps, tau, norm, scale, seed, learned):
    torch.manual_seed(seed)
    options = {"learn_rates": True, "basis": "orthogonal"} if learned and name != "leaky" else {}
    dynamics = made(name, tau=tau, norm_error=norm, **options)
    for parameter in dynamics.parameters():  # arbitrary weights: the basis stays orthogonal by construction
        torch.nn.init.normal_(parameter, std=2)
    drives = [scale * torch.randn(2, CHANNELS, 4, 4) for _ in range(3)]
    with torch.no_grad():
        *_, state = run(dynamics.begin(steps), drives, steps, norm=norm)
    bound = sum(dynamics.size(t, steps) for t in range(steps))
    assert (rms(state) <= bound * (1 + 1e-4)).all()


@given(
    name=st.sampled_from(BUILT_IN),
    steps=st.integers(1, 200),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=40, deadline=None)
def test_normalised_at_each_pixel_no_state_is_blown_up_at_any_pixel(name, steps, scale, seed):
    """The bound of the state's rms, of each pixel on its own, above an output that it may begin with."""
    torch.manual_seed(seed)
    dynamics = made(name, norm_error="pixel")
    for parameter in dynamics.parameters():
        torch.nn.init.normal_(parameter, std=2)
    drives = [scale * torch.randn(2, CHANNELS, 4, 4, dtype=torch.float64) for _ in range(3)]
    with torch.no_grad():
        rule, state = dynamics.double().begin(steps), torch.zeros_like(drives[0])
        for t in range(steps):
            first = t == 0 and dynamics.starts_from_output
            state = drives[0] if first else rule(state, normaliser("pixel", CHANNELS)(drives[t % 3]), t)
    if name == "gated":  # a mix of corrections, of which none has a channel above sqrt(C)
        assert (state.abs() <= CHANNELS**0.5 + 1e-9).all()
        return
    begun = drives[0].square().mean(1).sqrt() if dynamics.starts_from_output else 0
    bound = sum(dynamics.size(t, steps) for t in range(steps)) + begun
    assert (state.square().mean(1).sqrt() <= bound * (1 + 1e-9)).all()


@pytest.mark.parametrize("name", ["decay", "fractional"])
def test_the_bound_is_the_one_of_the_design(name):
    dynamics = made(name, tau=2.0, learn_rates=True, rate_exponent=1.5)
    with torch.no_grad():
        dynamics.rates.copy_(torch.linspace(0.5, 2, CHANNELS))
    weights = [fractional_weight(t, 7, 1.5) if name == "fractional" else 1.0 for t in range(7)]
    ours = sum(dynamics.size(t, 7) for t in range(7))
    assert ours == pytest.approx(ref.bound(7, 2.0, 0.5**1.5, weights))


def test_the_bound_is_reached_by_a_drive_that_does_not_change():
    drive = torch.randn(1, CHANNELS, 4, 4, dtype=torch.float64)
    dynamics = made("decay", tau=3.0)
    *_, state = run(dynamics.begin(20), [drive], 20)
    bound = sum(dynamics.size(t, 20) for t in range(20))
    assert float(rms(state)) == pytest.approx(bound, rel=1e-4)


@given(tau=st.floats(1, 100), steps=st.integers(1, 60), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_leaky_meets_its_closed_form(tau, steps, seed):
    torch.manual_seed(seed)
    h0, drive = torch.randn(2, 1, CHANNELS, 3, 3, dtype=torch.float64)
    states = run(made("leaky", tau=tau).begin(steps), [drive], steps, h0=h0, norm="none")
    theirs = ref.leaky_closed_form(drive.numpy(), h0.numpy(), tau, steps)
    torch.testing.assert_close(states[-1], torch.from_numpy(theirs), rtol=1e-10, atol=1e-12)


def test_leaky_rests_at_its_fixed_point():
    drive = torch.randn(1, CHANNELS, 3, 3)
    (state,) = run(made("leaky", tau=3.0).begin(1), [drive], 1, h0=drive.clone(), norm="none")
    assert relative_change(drive, state) == 0


def gate_of(seed=0, std=1.0):
    """A gate with weights drawn at random, and those as arrays."""
    torch.manual_seed(seed)
    dynamics = made("gated").double()
    for parameter in dynamics.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return dynamics, dynamics.gate.weight.detach().numpy()[..., 0, 0], dynamics.gate.bias.detach().numpy()


def test_a_gate_is_our_own_derivation():
    dynamics, weight, bias = gate_of()
    drives = torch.randn(4, 2, CHANNELS, 3, 4, dtype=torch.float64)
    states = run(dynamics.begin(4), list(drives), 4, norm="none")
    h = np.zeros(drives.shape[1:])
    for drive, state in zip(drives, states, strict=True):
        h = ref.gated(h, drive.numpy(), weight, bias)
        torch.testing.assert_close(state.detach(), torch.from_numpy(h))


@given(steps=st.integers(1, 30), std=st.floats(0, 20), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_a_gate_mixes_what_it_was_told_and_no_value_exceeds_the_largest(steps, std, scale, seed):
    dynamics, *_ = gate_of(seed, std)
    drives = scale * torch.randn(steps, 2, CHANNELS, 3, 3, dtype=torch.float64)
    *_, state = run(dynamics.begin(steps), list(drives), steps, norm="none")
    with_h0 = torch.cat([drives, torch.zeros_like(drives[:1])])
    assert (state <= with_h0.amax(0) + 1e-9 * scale).all()
    assert (state >= with_h0.amin(0) - 1e-9 * scale).all()


def test_an_open_gate_forgets_and_a_shut_one_keeps():
    dynamics, *_ = gate_of()
    h, e = torch.randn(2, 1, CHANNELS, 3, 3, dtype=torch.float64)
    for bias, expected in ((60.0, e), (-60.0, h)):
        torch.nn.init.zeros_(dynamics.gate.weight)
        torch.nn.init.constant_(dynamics.gate.bias, bias)
        torch.testing.assert_close(dynamics.begin(1)(h, e, 0).detach(), expected)


def test_a_new_gate_takes_most_of_a_correction():
    torch.testing.assert_close(made("gated").gate.bias.detach(), torch.ones(CHANNELS))


def test_a_gate_reads_state_and_correction_at_its_own_pixel_alone():
    dynamics, *_ = gate_of()
    h, e = torch.randn(2, 1, CHANNELS, 3, 3, dtype=torch.float64)
    before = dynamics.begin(1)(h, e, 0).detach()
    other = h.clone()
    other[..., 1, 2] += 1
    moved = (dynamics.begin(1)(other, e, 0).detach() - before).abs().amax((0, 1)) > 0
    assert moved.nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_gate_in_half_precision_moves_a_state_in_single(dtype):
    dynamics = made("gated").to(dtype)
    h, e = torch.randn(2, 1, CHANNELS, 3, 3)
    found = dynamics.begin(1)(h, e, 0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, dynamics.float().begin(1)(h, e, 0))


@pytest.mark.parametrize("name", EVERY_RULE)
def test_a_rule_that_carries_answers_alike_at_every_step(name):
    dynamics = made(name)
    for parameter in dynamics.parameters():
        torch.nn.init.normal_(parameter)
    h, e = torch.randn(2, 1, CHANNELS, 2, 2)
    answers = [dynamics.begin(steps)(h, e, t) for steps in (3, 7) for t in (0, 1, 2)]
    alike = all(torch.equal(one, answers[0]) for one in answers)
    assert alike or not dynamics.carries
    assert name not in BUILT_IN or alike == dynamics.carries


@pytest.mark.parametrize(("order", "steps"), [(1.5, 1), (1.5, 10), (0.5, 4), (1.0, 3)])
def test_fractional_weights_are_those_of_the_paper(order, steps):
    for t in range(steps):
        assert fractional_weight(t, steps, order) == pytest.approx(ref.fractional_weight(t, steps, order))


def test_an_integral_of_order_one_weighs_every_step_the_same():
    drives = [torch.randn(1, CHANNELS, 3, 3) for _ in range(4)]
    plain, fractional = made("decay", tau=2.0), made("fractional", tau=2.0, order=1.0)
    torch.testing.assert_close(run(plain.begin(4), drives, 4)[-1], run(fractional.begin(4), drives, 4)[-1])


def test_decay_adds_exponentially_less():
    h, e = torch.randn(2, 1, CHANNELS, 3, 3)
    for t in range(5):
        torch.testing.assert_close(made("decay", tau=2.0).begin(5)(h, e, t), h + math.exp(-t / 2) * e)


@pytest.mark.parametrize("rule", [Decay, Fractional])
def test_equal_rates_in_an_orthogonal_basis_cost_no_matrix(rule):
    config = smpf.Recurrent(basis="orthogonal", dynamics=rule.__name__.lower())
    assert not list(rule(CHANNELS, config).parameters())
    q = torch.linalg.qr(torch.randn(CHANNELS, CHANNELS, dtype=torch.float64)).Q
    x = torch.randn(2, CHANNELS, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(decay(x, 3, 1.5, torch.ones(CHANNELS).double(), q), decay(x, 3, 1.5))


def test_the_learned_basis_is_orthogonal_after_any_optimiser_step():
    dynamics = made("decay", learn_rates=True, basis="orthogonal", tau=2.0)
    optimizer = torch.optim.Adam(dynamics.parameters(), lr=0.1)
    for _ in range(3):
        h, e = torch.randn(2, 2, CHANNELS, 3, 3)
        (dynamics.begin(4)(h, e, 2) * torch.randn_like(h)).sum().backward()
        optimizer.step()
        q = dynamics.basis.weight
        torch.testing.assert_close(q.mT @ q, torch.eye(CHANNELS), atol=1e-5, rtol=0)
    assert not torch.allclose(q, torch.eye(CHANNELS), atol=1e-2), "the basis did not learn"


def test_learned_rates_and_basis_are_the_operator_of_the_paper():
    dynamics = made("decay", learn_rates=True, basis="orthogonal", tau=2.0, rate_exponent=1.3).double()
    for parameter in dynamics.parameters():
        torch.nn.init.normal_(parameter)
    e = torch.randn(2, CHANNELS, 3, 3, dtype=torch.float64)
    q = dynamics.basis.weight.detach().numpy()
    theirs = ref.decay(e.numpy(), 3, 2.0, dynamics.rates.detach().numpy(), q, q.T, 1.3)
    torch.testing.assert_close(dynamics.begin(5)(torch.zeros_like(e), e, 3).detach(), torch.from_numpy(theirs))


def test_residual_moves_by_gamma_only():
    dynamics = made("residual", tau=2.0)
    h, e = torch.randn(2, 1, CHANNELS, 3, 3)
    assert torch.equal(dynamics.begin(4)(h, e, 2), h)
    with torch.no_grad():
        dynamics.gamma.copy_(torch.arange(CHANNELS))
    expected = h + torch.arange(CHANNELS)[:, None, None] * math.exp(-1) * e
    torch.testing.assert_close(dynamics.begin(4)(h, e, 2).detach(), expected)


@pytest.mark.parametrize("name", EVERY_RULE)
def test_every_rule_is_pure_and_differentiable(name):
    dynamics = made(name).double()
    for parameter in dynamics.parameters():
        torch.nn.init.normal_(parameter)
    h, e = (torch.randn(1, CHANNELS, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    rule, before = dynamics.begin(3), (h.detach().clone(), e.detach().clone())
    assert torch.equal(rule(h, e, 1), rule(h, e, 1))
    assert torch.equal(h.detach(), before[0])
    assert torch.equal(e.detach(), before[1])
    assert torch.autograd.gradcheck(lambda a, b: rule(a, b, 1), (h, e))


@pytest.mark.parametrize("name", ["decay", "fractional", "leaky"])
@pytest.mark.parametrize("tolerance", [0.5, 0.01, 1e-4])
def test_auto_takes_the_fewest_steps_after_which_the_rest_is_negligible(name, tolerance):
    dynamics = made(name, tau=3.0)
    steps = dynamics.auto_steps(tolerance)
    rest = [sum(dynamics.size(t, 10_000) for t in range(start, 2000)) for start in (steps, steps - 1)]
    assert rest[0] < tolerance
    assert steps == 1 or rest[1] >= tolerance * 0.999


def test_auto_of_an_untrained_residual_leaves_steps_to_learn_from():
    residual, plain = (made(name, tau=3.0) for name in ("residual", "decay"))
    assert residual.auto_steps(0.01) == plain.auto_steps(0.01) > 1


def test_auto_that_never_ends_says_so():
    dynamics = made("decay", learn_rates=True)
    with torch.no_grad():
        dynamics.rates.zero_()
    with pytest.raises(smpf.FeedbackError, match="no T <= 10000"):
        dynamics.auto_steps(0.01)


def test_leaky_has_no_parameters_and_the_bound_of_its_fixed_point():
    dynamics = Leaky(CHANNELS, smpf.Recurrent(dynamics="leaky", tau=4.0))
    assert not list(dynamics.parameters())
    assert sum(dynamics.size(t, 9) for t in range(9)) == pytest.approx(1 - 0.75**9)
