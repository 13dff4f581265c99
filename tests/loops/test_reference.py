"""The reference is right: it agrees with the published arrays, with torch's operators and with theory."""

import json
from math import gamma, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference as ref
import torch
import torch.nn.functional as F

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"
DECAYS = ("expdecay_dfm_default", "expdecay_dfm_general", "expdecay_fbs_default", "expdecay_fbs_general")
NEUMANN = [("base", 1), ("base", 5), ("base", 10), ("tau2", 1), ("tau2", 5), ("tau2", 10)]
NEUMANN += [("nosoftmax", 5), ("noerror", 5), ("bn", 5)]


def golden(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays of a golden case, in float64, and its scalars; skips where the folder is absent."""
    if not GOLDEN.is_dir():
        pytest.skip("needs the golden arrays, which are not part of the project")
    with np.load(GOLDEN / f"{name}.npz") as file:
        arrays = {key: a.astype(np.float64) if a.dtype.kind == "f" else a for key, a in file.items()}
    entry = json.loads((GOLDEN / "index.json").read_text())[name]
    zeros = {key for key, array in entry["arrays"].items() if "MATHEMATICALLY ZERO" in array["meaning"]}
    return arrays, entry["meta"] | {"zeros": zeros}


def assert_close(mine: Any, theirs: Any, tolerance: float = 5e-5) -> None:
    """max|difference| <= tolerance * max|theirs|, shape for shape."""
    mine, theirs = np.asarray(mine), np.asarray(theirs)
    assert mine.shape == theirs.shape
    assert np.abs(mine - theirs).max() <= tolerance * np.abs(theirs).max()


def assert_gradient(loss: Any, case: dict[str, Any], parameter: str, theirs: Any, zero: bool) -> None:
    """Finite differences of *loss* for a few entries of one parameter agree with the stored gradient."""
    entries = ref.pick_entries(theirs, 4)
    mine = ref.numerical_gradient(lambda p: loss(case | {parameter: p}), case[parameter], entries)
    allowed = 1e-5 if zero else 1e-3 * np.abs(theirs).max()
    assert np.abs(mine - [theirs[entry] for entry in entries]).max() < allowed, parameter


def turned(channels: int, seed: int = 0) -> Any:
    """A random orthogonal matrix."""
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((channels, channels)))[0]


# against the published arrays


@pytest.mark.parametrize("name", DECAYS)
def test_decay_and_its_exact_gradients_are_the_published_ones(name):
    case, meta = golden(f"a_{name}")
    free = "Qinv" in case
    prefix = "true_grad" if free else "grad"
    for i, tau in enumerate(case["taus"]):
        for j, t in enumerate(case["Ts"]):
            setting = (t, tau, case["S"], case["Q"], case["Qinv"] if free else case["Q"].T, meta["alpha"])
            assert_close(ref.decay(case["x"], *setting), case["out"][i, j])
            x, rates, q, q_inv = ref.decay_vjp(case["g"], case["x"], *setting)
            mine = {"x": x, "S": rates, "Q": q, "Qinv": q_inv} if free else {"x": x, "Q": q + q_inv.T}
            for key, gradient in mine.items():
                assert_close(gradient, case[f"{prefix}_{key}"][i, j], 1e-3)


def test_published_reorthogonalisation_is_the_qr_factor():
    case, _ = golden("a_expdecay_dfm_default")
    q = np.linalg.qr(case["qr_in"])[0]
    assert_close(q * np.sign((q * case["qr_out"]).sum(0)), case["qr_out"])


@pytest.mark.parametrize("model", ["A", "B"])
def test_dfm_turns_are_the_published_ones(model):
    case, meta = golden(f"b_dfm_seg_{model}_explicit")
    run = ref.dfm_run(case, meta["N"], meta["tau"], case["h"][0])
    assert_close(ref.dfm_front(case), case["x_front"])
    assert_close(run.h, case["h"])
    assert_close(run.u, case["u"])
    assert_close(ref.dfm_logits(case, case["h"][0]), case["logits"][0])
    assert_close(run.logits, case["logits"][1:])


@pytest.mark.parametrize("model", ["A", "B"])
def test_dfm_forward_from_zero_and_its_loss_are_the_published_ones(model):
    case, meta = golden(f"b_dfm_seg_{model}_forward")
    run = ref.dfm_run(case, meta["T"], meta["tau"])
    assert_close(run.h, case["h"])
    assert_close(run.u, case["u"])
    assert_close(run.logits[-1], case["logits"])
    assert ref.dfm_loss(case, meta["T"], meta["tau"]) == pytest.approx(meta["loss"], rel=5e-5)


@pytest.mark.parametrize("model", ["A", "B"])
def test_dfm_gradients_are_the_published_ones(model):
    case, meta = golden(f"b_dfm_seg_{model}_forward")
    case["Q"] = case["Q_train"]

    def loss(c):
        return ref.dfm_loss(c, meta["T"], meta["tau"])

    for parameter in ("w_front", "w_enc", "w_dec", "b_dec", "w_head", "Q", "x"):
        key = "g_bdec" if parameter == "b_dec" else f"g_{parameter.removeprefix('w_')}"
        assert_gradient(loss, case, parameter, case[key], key in meta["zeros"])


@pytest.mark.parametrize("model", ["A", "B"])
def test_single_dfm_turn_from_a_random_state_is_the_published_one(model):
    case, meta = golden(f"b_dfm_seg_{model}_T1")
    run = ref.dfm_run(case, 1, meta["tau"], case["h"][0])
    assert_close(run.h, case["h"])
    assert_close(run.u, case["u"])
    assert_close(run.logits[-1], case["logits"])


@pytest.mark.parametrize(
    ("name", "run"), [("b_dfm_seg_earlystop", ref.dfm_run), ("d_neumann_earlystop", ref.neumann_run)]
)
def test_early_stop_happens_where_it_was_published(name, run):
    case, meta = golden(name)
    mine = run(case, meta["T"], meta["tau"], atol=meta["atol"])
    assert len(mine.u) == meta["steps_executed"]
    assert_close(mine.h, case["h"])
    assert_close([np.abs(h).sum() for h in mine.h], case["abs_sum"])
    assert_close(mine.logits[-1], case["logits"])


@pytest.mark.parametrize(("name", "steps"), NEUMANN)
def test_neumann_turns_are_the_published_ones(name, steps):
    case, meta = golden(f"d_neumann_{name}")
    run = ref.neumann_run(case, steps, meta["tau"], meta["alpha"], meta["soft"])
    assert_close(run.h, case[f"h_T{steps}"])
    assert_close(run.u, case[f"u_T{steps}"])
    assert_close(run.logits, case[f"logits_T{steps}"])


@pytest.mark.parametrize(("name", "steps"), NEUMANN)
def test_neumann_losses_and_gradients_are_the_published_ones(name, steps):
    case, meta = golden(f"d_neumann_{name}")
    options = {"alpha": meta["alpha"], "soft": meta["soft"], "train": "bn_w" in case}
    run = ref.neumann_run(case, steps, meta["tau"], **options)
    assert_close(ref.cross_entropy(run.logits, case["gt"])[-1:], case[f"loss_T{steps}"])
    if "bn_w" in case:
        assert_close(run.logits[-1], case[f"train_logits_T{steps}"])
    prefix = f"truegrad_T{steps}_" if meta["err"] else f"grad_T{steps}_"  # without a decay the two are one
    stored = [key for key in case if key.startswith(prefix)]
    assert len(stored) >= 11

    def loss(c):
        return ref.neumann_loss(c, steps, meta["tau"], **options)

    for key in stored:
        assert_gradient(loss, case, key.removeprefix(prefix), case[key], key in meta["zeros"])


@pytest.mark.parametrize("steps", [1, 5, 10])
def test_entropy_fed_back_by_the_dirichlet_model_is_the_published_one(steps):
    case, _ = golden("e_dirichlet")
    states = case[f"h_T{steps}"][:-1]
    assert_close(np.stack([ref.dirichlet_entropy(h) for h in states]), case[f"u_T{steps}"])


@pytest.mark.parametrize("steps", [1, 5, 10])
def test_dirichlet_turns_losses_and_gradients_are_the_published_ones(steps):
    case, meta = golden("e_dirichlet")
    run = ref.dirichlet_run(case, steps, meta["tau"], meta["alpha"])
    assert_close(run.h, case[f"h_T{steps}"])
    assert_close(run.u, case[f"u_T{steps}"])
    assert_close(np.exp(run.logits), case[f"conc_T{steps}"])
    assert_close(ref.evidential_loss(np.exp(run.logits[-1]), case["gt"]), case[f"loss_T{steps}"].squeeze())
    for name in ("w1", "w_head", "ln_err_w", "Q", "Qinv"):
        theirs = case[f"truegrad_T{steps}_{name}"]
        assert_gradient(lambda c: ref.dirichlet_loss(c, steps, meta["tau"]), case, name, theirs, zero=False)


def test_evidential_loss_and_its_parts_are_the_published_ones():
    case, _ = golden("e_evidential_loss")
    a, y = case["alpha"], case["y"]
    assert_close(ref.evidential_risk(a, y), case["risk"])
    assert_close(ref.dirichlet_divergence((a - 1) * (1 - y) + 1), case["kl_removed"])
    assert_close(ref.dirichlet_divergence(a), case["kl_alpha"])
    assert_close(ref.evidential_loss(a, y), case["loss"].squeeze())


def test_dice_and_focal_losses_are_the_published_ones():
    case, _ = golden("f_dice_focal")
    logits, y = case["logits"], case["y"]
    dice = [ref.generalized_dice(logits, y, kappa) for kappa in (0.0, 0.75)]
    focal = [ref.foreground_focal(logits, y, alpha, focus) for alpha, focus in ((0.25, 2.0), (0.5, 0.0))]
    mine = [*dice, *focal, (dice[1] + focal[0]) / 2]
    theirs = [case[k].item() for k in ("gdl_k0.0", "gdl_k0.75", "focal_a0.25_g2.0", "focal_a0.5_g0.0", "combined")]
    np.testing.assert_allclose(mine, theirs, rtol=5e-5)


# against torch's operators


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(10, 14), (3, 4), (1, 1), (5, 7), (13, 2)])
def test_resize_is_torchs(size, align_corners):
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 5, 7)))
    theirs = F.interpolate(x, size, mode="bilinear", align_corners=align_corners)
    np.testing.assert_allclose(ref.resize_bilinear(x.numpy(), size, align_corners), theirs, atol=1e-12)


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 1), (2, 1), (3, 2)])
def test_conv2d_is_torchs(stride, padding):
    rng = np.random.default_rng(1)
    x, w, b = (rng.standard_normal(shape) for shape in ((2, 3, 7, 9), (4, 3, 3, 2), (4,)))
    theirs = F.conv2d(*map(torch.from_numpy, (x, w, b)), stride=stride, padding=padding)
    np.testing.assert_allclose(ref.conv2d(x, w, b, stride, padding), theirs, atol=1e-12)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 2)])
def test_maxpool_is_torchs_even_where_all_is_negative(size):
    x = -1 - np.random.default_rng(2).random((2, 3, *size))
    np.testing.assert_array_equal(ref.maxpool3s2p1(x), F.max_pool2d(torch.from_numpy(x), 3, 2, 1))


def test_norms_softmax_and_cross_entropy_are_torchs():
    rng = np.random.default_rng(3)
    x, labels = rng.standard_normal((2, 6, 4, 5)), rng.integers(0, 6, (2, 4, 5))
    tensor = torch.from_numpy(x)
    np.testing.assert_allclose(ref.group_norm(x, 3), F.group_norm(tensor, 3), atol=1e-12)
    np.testing.assert_allclose(ref.instance_norm(x), F.instance_norm(tensor), atol=1e-12)
    np.testing.assert_allclose(ref.softmax(x), tensor.softmax(1), atol=1e-12)
    loss = F.cross_entropy(tensor, torch.from_numpy(labels))
    assert ref.cross_entropy(x, ref.one_hot(labels, 6)) == pytest.approx(float(loss), rel=1e-12)


@pytest.mark.parametrize("train", [False, True])
def test_batch_norm_is_torchs(train):
    case = ref.small_case(4, "neumann", bn=True)
    z = np.random.default_rng(4).standard_normal((2, 5, 3, 4))
    inputs = [torch.from_numpy(a.copy()) for a in (z, *(case[f"bn_{name}"] for name in ("rm", "rv", "w", "b")))]
    np.testing.assert_allclose(ref.batch_norm(case, z, train), F.batch_norm(*inputs, training=train), atol=1e-12)


# against theory


def test_digamma_and_the_divergence_are_torchs():
    x = np.linspace(0.1, 60, 200)
    np.testing.assert_allclose(ref.digamma(x), torch.digamma(torch.from_numpy(x)), atol=1e-10)
    a = 1 + 5 * np.random.default_rng(3).random((2, 4, 3, 1))
    drawn, flat = (torch.distributions.Dirichlet(torch.from_numpy(np.moveaxis(z, 1, -1))) for z in (a, np.ones_like(a)))
    theirs = torch.distributions.kl_divergence(drawn, flat)[:, None]
    np.testing.assert_allclose(ref.dirichlet_divergence(a), theirs, atol=1e-10)


def test_constant_resized_is_the_constant():
    for align_corners in (False, True):
        out = ref.resize_bilinear(np.full((1, 2, 3, 5), 2.5), (7, 4), align_corners)
        np.testing.assert_allclose(out, np.full((1, 2, 7, 4), 2.5), rtol=1e-14)


def test_row_resized_by_hand():
    row = np.array([[[[1.0, 3.0, 7.0]]]])
    np.testing.assert_allclose(ref.resize_bilinear(row, (1, 6))[0, 0, 0], [1, 1.5, 2.5, 4, 6, 7])
    np.testing.assert_allclose(ref.resize_bilinear(row, (1, 5), True)[0, 0, 0], [1, 2, 3, 5, 7])


def test_orthogonal_basis_with_equal_rates_decays_like_a_scalar():
    x = np.random.default_rng(4).standard_normal((2, 5, 3, 4))
    q, s = turned(5), np.full(5, -0.8)
    expected = x * np.exp(-3 * 0.8**1.3 / 2)
    np.testing.assert_allclose(ref.decay(x, 3, 2.0, s, q, q.T, 1.3), expected, atol=1e-14)


def test_decay_over_two_spans_is_decay_over_their_sum():
    rng = np.random.default_rng(5)
    x, q, s = rng.standard_normal((2, 4, 3, 3)), rng.standard_normal((4, 4)), rng.standard_normal(4)
    q_inv = np.linalg.inv(q)
    twice = ref.decay(ref.decay(x, 1.5, 0.7, s, q, q_inv), 2.0, 0.7, s, q, q_inv)
    np.testing.assert_allclose(twice, ref.decay(x, 3.5, 0.7, s, q, q_inv), atol=1e-10)
    np.testing.assert_allclose(ref.decay(x, 0, 0.7, s, q, q_inv), x, atol=1e-10)


@pytest.mark.parametrize("exponent", [1.0, 1.3, 2.0])
def test_decay_gradients_are_its_finite_differences(exponent):
    rng = np.random.default_rng(6)
    shapes = {"x": (2, 3, 2, 4), "rates": (3,), "q": (3, 3), "q_inv": (3, 3)}
    p = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    g = rng.standard_normal(shapes["x"])

    def loss(**changed):
        return float((g * ref.decay(t=2, tau=1.7, exponent=exponent, **p | changed)).sum())

    for name, mine in zip(shapes, ref.decay_vjp(g, t=2, tau=1.7, exponent=exponent, **p), strict=True):
        entries = list(np.ndindex(mine.shape))
        theirs = ref.numerical_gradient(lambda a, name=name: loss(**{name: a}), p[name], entries)
        np.testing.assert_allclose(mine.ravel(), theirs, atol=1e-8, err_msg=name)


def test_finite_differences_of_a_quadratic_are_exact_and_leave_it_alone():
    a = np.arange(6.0).reshape(2, 3)
    gradient = ref.numerical_gradient(lambda p: float((p**2).sum()), a, [(0, 1), (1, 2)])
    np.testing.assert_allclose(gradient, [2, 10], rtol=1e-8)
    np.testing.assert_array_equal(a, np.arange(6.0).reshape(2, 3))


def test_picked_entries_are_distinct_and_begin_with_the_largest():
    a = np.array([[1.0, -9.0], [3.0, 2.0]])
    assert ref.pick_entries(a, 1) == [(0, 1)]
    assert sorted(ref.pick_entries(a, 9)) == list(np.ndindex(2, 2))


def test_fractional_weights_fall_from_one_over_gamma_and_are_one_for_order_one():
    weights = [ref.fractional_weight(t, 8, 1.5) for t in range(8)]
    assert weights[0] == pytest.approx(1 / gamma(1.5))
    assert weights[6] == pytest.approx(0.5 / gamma(1.5))
    assert weights == sorted(weights, reverse=True)
    assert [ref.fractional_weight(t, 3, 1.0) for t in range(3)] == [1, 1, 1]


def test_leaky_loop_meets_its_closed_form():
    rng = np.random.default_rng(7)
    y, h0 = rng.standard_normal((2, 1, 3, 4, 4))
    h = h0
    for _ in range(6):
        h = h + (y - h) / 2.5
    np.testing.assert_allclose(ref.leaky_closed_form(y, h0, 2.5, 6), h, atol=1e-14)


def test_bound_is_a_geometric_series_for_unit_weights():
    r = np.exp(-0.5 / 2)
    assert ref.bound(7, 2.0, 0.5, [1] * 7) == pytest.approx((1 - r**7) / (1 - r))
    assert ref.bound(2, 2.0, 0.5, [-1, 2]) == pytest.approx(1 + 2 * r)


@pytest.mark.parametrize("tau", [0.3, 1.0, 4.0])
def test_dfm_state_never_passes_its_bound(tau):
    run = ref.dfm_run(ref.small_case(8), 12, tau)
    for T in range(1, 13):
        assert np.sqrt((run.h[T] ** 2).mean()) <= ref.bound(T, tau, 1.0, [1] * T)


def test_dirichlet_entropy_is_largest_for_equal_classes_and_does_not_overflow():
    assert ref.dirichlet_entropy(np.full((1, 3, 1, 1), 5.0)).item() == pytest.approx(log(3))
    one_sided = np.array([800.0, -800.0, -800.0]).reshape(1, 3, 1, 1)
    assert 0 < ref.dirichlet_entropy(one_sided).item() < 0.05


def test_first_dfm_feedback_from_zero_says_nothing():
    run = ref.dfm_run(ref.small_case(9), 2, 1.0)
    np.testing.assert_array_equal(run.u[0], np.full((2, 2, 4, 6), 0.5))
    assert np.ptp(run.u[1]) > 0.1


def test_dfm_state_does_not_depend_on_the_orthogonal_basis():
    case = ref.small_case(14)
    plain, basis = (ref.dfm_run(case | {"Q": q}, 4, 2.0) for q in (np.eye(6), turned(6)))
    np.testing.assert_allclose(basis.h, plain.h, atol=1e-10)


def test_dfm_logits_run_straight_from_corner_to_corner():
    case = ref.small_case(15)
    h = np.random.default_rng(15).standard_normal((2, 6, 2, 3))
    ends = ref.conv2d(h[:, :4], case["w_head"], case["b_head"])[:, :, :, -1]
    np.testing.assert_allclose(ref.dfm_logits(case, h)[:, :, :, -1], np.linspace(*ends.T, 8).T, atol=1e-12)


def test_neumann_feedback_sums_to_one_only_through_the_softmax():
    case = ref.small_case(16, "neumann")
    soft, free = (ref.neumann_run(case, 3, 2.0, soft=soft).u.sum(2) for soft in (True, False))
    np.testing.assert_allclose(soft, np.ones_like(soft), rtol=1e-12)
    assert np.abs(free - 1).max() > 0.1


def test_neumann_decay_with_an_endless_time_constant_is_no_decay():
    case = ref.small_case(10, "neumann")
    plain = {name: a for name, a in case.items() if name not in ("Q", "Qinv")}
    endless = ref.neumann_run(case | {"Q": np.eye(7), "Qinv": np.eye(7)}, 4, 1e30)
    np.testing.assert_allclose(endless.h, ref.neumann_run(plain, 4, 1.0).h, atol=1e-12)


def test_batch_statistics_change_only_the_last_neumann_turn():
    case = ref.small_case(11, "neumann", bn=True)
    still, trained = (ref.neumann_run(case, 4, 2.0, train=train) for train in (False, True))
    np.testing.assert_array_equal(still.h[:-1], trained.h[:-1])
    assert np.abs(still.h[-1] - trained.h[-1]).max() > 1e-3


def test_lavish_stopping_tolerance_leaves_three_turns_and_a_strict_one_all():
    case = ref.small_case(12)
    assert [len(ref.dfm_run(case, 9, 2.0, atol=atol).u) for atol in (1e9, 1e-12)] == [3, 9]
    assert len(ref.dfm_run(case, 1, 2.0, atol=1e9).u) == 1


@pytest.mark.parametrize("stub", ["dfm", "neumann", "dirichlet"])
def test_small_cases_repeat_by_seed_and_run(stub):
    first, again, other = (ref.small_case(seed, stub, batch=1, size=(8, 4)) for seed in (0, 0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)
    run, loss = (getattr(ref, f"{stub}_{what}") for what in ("run", "loss"))
    assert run(first, 3, 2.0).logits.shape == (3, 1, 3, 8, 4)
    assert 0 < loss(first, 3, 2.0) < 10


def test_loss_over_every_dfm_step_is_the_sum_of_the_lasts():
    case = ref.small_case(13)
    lasts = [ref.dfm_loss(case, steps, 2.0) for steps in (1, 2, 3)]
    assert ref.dfm_loss(case, 3, 2.0, every_step=True) == pytest.approx(sum(lasts))
