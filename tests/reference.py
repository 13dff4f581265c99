"""The published mathematics of the recurrent loop in plain NumPy, float64: what the package is compared with.

Nothing here imports torch or the package. Maps are (B, C, H, W); a *case* is a dict of arrays that holds the
weights, the image and the labels of one of two small stub models:

DFM (2509.15905): ``w_front b_front w_enc b_enc w_dec b_dec w_head b_head Q x y``;
    ``y = IN(conv1x1(tanh(conv3x3(maxpool([front(x), u])))))``, state at a quarter of the image.
Neumann (2507.10143): ``w1 b1 w2 b2 w_head b_head ln_in_w ln_in_b ln_err_w ln_err_b Q Qinv x gt`` and, with
    batch norm, ``bn_w bn_b bn_rm bn_rv``;
    ``y = LN(conv3x3(tanh(BN(conv3x3([x, u])))))``, state at the image's size.
    Without ``Q`` there is no decay, without ``bn_w`` no batch norm.
Dirichlet (2507.10143): ``w1 b1 w2 b2 w_head b_head ln_err_w ln_err_b Q Qinv x gt``;
    ``y = LN(head(conv3x3(tanh(conv3x3([x, u])))))``, one state channel per class, all read and fed back.
Channel counts are read off the weights; a state is [class channels, feedback channels, unused channels].
Arrays must be float64 already (labels integer): float32 weights would be multiplied in float32.
"""

from collections.abc import Callable, Mapping, Sequence
from math import ceil, exp, gamma, inf, lgamma, prod
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[Any]
Case = Mapping[str, Array]

FRONT = {"w_front": (4, 3, 3, 3), "b_front": (4,)}
BODY = {"w_enc": (5, 6, 3, 3), "b_enc": (5,), "w_dec": (6, 5, 1, 1), "b_dec": (6,)}
DFM = FRONT | BODY | {"w_head": (3, 4, 1, 1), "b_head": (3,), "Q": (6, 6)}
NEUMANN_BODY = {"w1": (5, 5, 3, 3), "b1": (5,), "w2": (7, 5, 3, 3), "b2": (7,)}
NEUMANN = NEUMANN_BODY | {"w_head": (3, 4, 3, 3), "b_head": (3,), "Q": (7, 7), "Qinv": (7, 7)}
DIRICHLET_BODY = {"w1": (5, 4, 3, 3), "b1": (5,), "w2": (6, 5, 3, 3), "b2": (6,)}
DIRICHLET = DIRICHLET_BODY | {"w_head": (3, 6, 3, 3), "b_head": (3,), "Q": (3, 3), "Qinv": (3, 3)}
BATCH_NORM = dict.fromkeys(("bn_w", "bn_b", "bn_rm", "bn_rv"), (5,))
MAPS = ("ln_in_w", "ln_in_b", "ln_err_w", "ln_err_b")


class Run(NamedTuple):
    """h (n+1, B, C, ...) from h(0) on; u (n, B, K, ...); logits (n, B, classes, H, W), entry t of h(t+1)."""

    h: Array
    u: Array
    logits: Array


# building blocks


def mix(matrix: Array, x: Array) -> Array:
    """``matrix @ x`` at every pixel: (D, C), (B, C, H, W) -> (B, D, H, W)."""
    return np.einsum("ij,bjhw->bihw", matrix, x)


def softmax(x: Array, axis: int = 1) -> Array:
    """Softmax along *axis*, same shape."""
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def group_norm(x: Array, groups: int, eps: float = 1e-5) -> Array:
    """Zero mean, unit biased variance per sample and group of channels, no affine: (B, C, H, W) -> same."""
    grouped = x.reshape(len(x), groups, -1)
    centred = grouped - grouped.mean(2, keepdims=True)
    return (centred / np.sqrt(grouped.var(2, keepdims=True) + eps)).reshape(x.shape)


def instance_norm(x: Array, eps: float = 1e-5) -> Array:
    """Zero mean, unit biased variance per sample and channel over (H, W): (B, C, H, W) -> same."""
    return group_norm(x, x.shape[1], eps)


def pixel_norm(x: Array, eps: float = 1e-5) -> Array:
    """Each vector of channels divided by its root mean square, nothing subtracted: (B, C, ...) -> same."""
    vectors = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    each = np.stack([v / np.sqrt(v @ v / len(v) + eps) for v in vectors])
    return np.moveaxis(each.reshape(len(x), *x.shape[2:], x.shape[1]), -1, 1)


def layer_norm(x: Array, scale: Array, shift: Array) -> Array:
    """``instance_norm`` followed by the affine maps *scale* and *shift* (H, W): (B, C, H, W) -> same."""
    return instance_norm(x) * scale + shift


def conv2d(x: Array, weight: Array, bias: Array | None = None, stride: int = 1, padding: int = 0) -> Array:
    """Cross-correlation, zero padded: (B, I, H, W), (O, I, kh, kw), (O,) -> (B, O, H', W')."""
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(padded, weight.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    out = np.moveaxis(np.tensordot(windows, weight, axes=((1, 4, 5), (1, 2, 3))), 3, 1)
    return out if bias is None else out + bias[:, None, None]


def maxpool3s2p1(x: Array) -> Array:
    """Largest of 3x3, stride 2, padding 1: (B, C, H, W) -> (B, C, ceil(H/2), ceil(W/2))."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-inf)
    return sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2].max((4, 5))


def interpolation_matrix(old: int, new: int, align_corners: bool) -> Array:
    """Row i holds the weights with which *old* samples make sample i of *new*: (new, old)."""
    i = np.arange(new)
    source = i * (old - 1) / max(new - 1, 1) if align_corners else np.maximum((i + 0.5) * old / new - 0.5, 0)
    low = np.minimum(np.floor(source).astype(int), old - 1)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (i, low), 1 - (source - low))
    np.add.at(matrix, (i, np.minimum(low + 1, old - 1)), source - low)
    return matrix


def resize_bilinear(x: Array, size: tuple[int, int], align_corners: bool = False) -> Array:
    """``F.interpolate(x, size, mode="bilinear")`` without antialiasing: (B, C, H, W) -> (B, C, *size)."""
    rows, columns = (interpolation_matrix(x.shape[2 + i], size[i], align_corners) for i in (0, 1))
    return np.einsum("ph,bchw,qw->bcpq", rows, x, columns, optimize=True)


# the decay and its gradients


def decay(x: Array, t: float, tau: float, rates: Array, q: Array, q_inv: Array, exponent: float = 1.0) -> Array:
    """``q_inv @ (exp(-t |rates|^exponent / tau) * (q @ x))`` per pixel: (B, C, H, W) -> same, rates (C,)."""
    factor = np.exp(-t * np.abs(rates) ** exponent / tau)
    return mix(q_inv, factor[:, None, None] * mix(q, x))


def decay_vjp(
    g: Array, x: Array, t: float, tau: float, rates: Array, q: Array, q_inv: Array, exponent: float = 1.0
) -> tuple[Array, Array, Array, Array]:
    """Gradients of ``(g * decay(x, ...)).sum()`` for x, rates, q and q_inv (q_inv independent of q)."""
    factor = np.exp(-t * np.abs(rates) ** exponent / tau)[:, None, None]
    z, gz = mix(q, x), mix(q_inv.T, g)
    slope = -t / tau * exponent * np.abs(rates) ** (exponent - 1) * np.sign(rates)
    grad_q = np.einsum("bihw,bjhw->ij", factor * gz, x)
    grad_q_inv = np.einsum("bihw,bjhw->ij", g, factor * z)
    return mix(q.T, factor * gz), slope * (gz * factor * z).sum((0, 2, 3)), grad_q, grad_q_inv


# closed forms


def fractional_weight(t: int, T: int, alpha: float) -> float:
    """``(1 - t/T)^(alpha - 1) / Gamma(alpha)``, the weight of step t = 0 ... T-1."""
    return (1 - t / T) ** (alpha - 1) / gamma(alpha)


def leaky_closed_form(y: Array, h0: Array, tau: float, T: int) -> Array:
    """h(T) of ``h += (y - h) / tau`` from h(0) = h0 under a constant drive y, all of one shape."""
    return y + (1 - 1 / tau) ** T * (h0 - y)


def gated(h: Array, e: Array, weight: Array, bias: Array) -> Array:
    """A step of a state h that takes ``1 / (1 + exp(-(weight [h, e] + bias)))`` of e: weight (C, 2 C), bias (C,)."""
    gate = 1 / (1 + np.exp(-(mix(weight, np.concatenate([h, e], 1)) + bias[:, None, None])))
    return (1 - gate) * h + gate * e


def bound(T: int, tau: float, s_min: float, weights: Sequence[float]) -> float:
    """``sum_t |weights[t]| exp(-t s_min / tau)``: rms(h(T)) / rms(e) cannot pass it if Q is orthogonal."""
    return sum(abs(weights[t]) * exp(-t * s_min / tau) for t in range(T))


def dirichlet_entropy(h: Array) -> Array:
    """Entropy in nats of a / sum(a), a = 1 + softplus(h): (B, C, H, W) -> (B, 1, H, W)."""
    a = 1 + np.logaddexp(0, h)
    p = a / a.sum(1, keepdims=True)
    return -(p * np.log(p)).sum(1, keepdims=True)


@np.vectorize
def digamma(x: float) -> float:
    """d log Gamma(x) / dx for x > 0: moved up by 1 / x each, then the asymptotic series."""
    below = 0.0
    while x < 20:
        below, x = below + 1 / x, x + 1
    return float(np.log(x) - 1 / (2 * x) - 1 / (12 * x**2) + 1 / (120 * x**4) - 1 / (252 * x**6) - below)


def evidential_risk(a: Array, y: Array) -> Array:
    """Expected squared distance of a draw from Dir(a) to the one-hot *y*: (B, C, H, W) twice -> (B, 1, H, W)."""
    s = a.sum(1, keepdims=True)
    return ((y - a / s) ** 2 + a * (s - a) / (s**2 * (s + 1))).sum(1, keepdims=True)


def dirichlet_divergence(a: Array) -> Array:
    """KL(Dir(a) || Dir(1)) in nats: (B, C, H, W) -> (B, 1, H, W)."""
    s, log_gamma = a.sum(1, keepdims=True), np.vectorize(lgamma)
    spread = log_gamma(s) - lgamma(a.shape[1]) - log_gamma(a).sum(1, keepdims=True)
    return spread + ((a - 1) * (digamma(a) - digamma(s))).sum(1, keepdims=True)


def evidential_loss(a: Array, y: Array, weight: float = 1.0) -> float:
    """Mean risk and *weight* times the mean divergence of what evidence there is for wrong classes."""
    wrong = (a - 1) * (1 - y) + 1
    return float(evidential_risk(a, y).mean() + weight * dirichlet_divergence(wrong).mean())


def generalized_dice(logits: Array, y: Array, kappa: float) -> float:
    """The published loss, mean over the batch; *y* one-hot."""
    p, axes = softmax(logits), (1, 2, 3)
    dice = (2 * (p * y).sum(axes) + 1e-4) / (p.sum(axes) + y.sum(axes) + 1e-4)
    return float((1 - dice / (1 + kappa * (1 - dice))).mean())


def foreground_focal(logits: Array, y: Array, alpha: float, focus: float) -> float:
    """The published loss, mean over everything; *y* one-hot."""
    p = softmax(logits)
    weight = np.full((logits.shape[1], 1, 1), alpha)
    weight[0] = 1 - alpha
    return float((-weight * (1 - p) ** focus * y * np.log(p)).mean())


def one_hot(labels: Array, classes: int) -> Array:
    """Class indices (B, H, W) -> (B, classes, H, W)."""
    return np.moveaxis(np.eye(classes)[labels], -1, 1)


def cross_entropy(logits: Array, target: Array) -> Array:
    """Mean over batch and pixels of the cross-entropy: (..., B, C, H, W), one-hot (B, C, H, W) -> (...)."""
    shifted = logits - logits.max(-3, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-3, keepdims=True))
    return -(target * log_p).sum(-3).mean((-3, -2, -1))


# the loops


def unroll(
    step: Callable[[Array, int], tuple[Array, Array]], h: Array, steps: int, atol: float = -1
) -> tuple[Array, Array]:
    """States (n+1, ...) and feedbacks (n, ...) of ``h, u = step(h, t)``; n = steps unless *atol* >= 0.

    Then the published rule: once a step changes sum|h| by no more than *atol*, one last step follows.
    """
    states, fed, size, last = [h], [], inf, False
    for t in range(steps):
        h, u = step(h, t)
        states.append(h)
        fed.append(u)
        if last:
            break
        previous, size = size, float(np.abs(h).sum())
        last = abs(size - previous) <= atol
    return np.stack(states), np.stack(fed)


def dfm_front(case: Case) -> Array:
    """What the stub's stem makes of the image: (B, 3, H, W) -> (B, F, H/2, W/2)."""
    return np.maximum(conv2d(case["x"], case["w_front"], case["b_front"], stride=2, padding=1), 0)


def dfm_step(case: Case, front: Array, h: Array, t: int, tau: float) -> tuple[Array, Array]:
    """h(t) -> h(t+1) (B, S+K, H/4, W/4) and the feedback u(t) (B, K, H/2, W/2) it was made from."""
    first, k = case["w_head"].shape[1], case["w_enc"].shape[1] - front.shape[1]
    u = softmax(instance_norm(resize_bilinear(h[:, first : first + k], front.shape[2:])))
    z = maxpool3s2p1(np.concatenate([front, u], 1))
    z = np.tanh(conv2d(z, case["w_enc"], case["b_enc"], padding=1))
    e = instance_norm(conv2d(z, case["w_dec"], case["b_dec"]))
    return h + decay(e, t, tau, np.ones(h.shape[1]), case["Q"], case["Q"].T), u


def dfm_logits(case: Case, h: Array) -> Array:
    """What the head reads off one state: (B, S+K, H/4, W/4) -> (B, classes, H, W)."""
    logits = conv2d(h[:, : case["w_head"].shape[1]], case["w_head"], case["b_head"])
    return resize_bilinear(logits, (4 * h.shape[2], 4 * h.shape[3]), align_corners=True)


def dfm_run(case: Case, steps: int, tau: float, h0: Array | None = None, atol: float = -1) -> Run:
    """*steps* turns of the DFM stub from *h0* (zeros by default); *atol* as in ``unroll``."""
    front = dfm_front(case)
    batch, _, height, width = front.shape
    start = np.zeros((batch, len(case["w_dec"]), ceil(height / 2), ceil(width / 2))) if h0 is None else h0
    h, u = unroll(lambda state, t: dfm_step(case, front, state, t, tau), start, steps, atol)
    return Run(h, u, np.stack([dfm_logits(case, state) for state in h[1:]]))


def dfm_loss(case: Case, steps: int, tau: float, every_step: bool = False) -> float:
    """Cross-entropy of the last logits with ``case["y"]``, or its sum over every step."""
    losses = cross_entropy(dfm_run(case, steps, tau).logits, one_hot(case["y"], len(case["w_head"])))
    return float(losses.sum() if every_step else losses[-1])


def batch_norm(case: Case, z: Array, train: bool) -> Array:
    """Batch norm of the Neumann stub, by *z*'s own statistics if *train*: (B, C, H, W) -> same."""
    mean, var = (z.mean((0, 2, 3)), z.var((0, 2, 3))) if train else (case["bn_rm"], case["bn_rv"])
    scale = case["bn_w"] / np.sqrt(var + 1e-5)
    return z * scale[:, None, None] + (case["bn_b"] - mean * scale)[:, None, None]


def neumann_body(case: Case, z: Array, train: bool) -> Array:
    """F of the Neumann stub: [x, u] (B, 3+K, H, W) -> (B, S+K+R, H, W)."""
    z = conv2d(z, case["w1"], case["b1"], padding=1)
    z = batch_norm(case, z, train) if "bn_w" in case else z
    return conv2d(np.tanh(z), case["w2"], case["b2"], padding=1)


def neumann_step(
    case: Case, h: Array, t: int, tau: float, weight: float, soft: bool = True, train: bool = False
) -> tuple[Array, Array]:
    """h(t) -> h(t) + *weight* times the decayed correction, (B, S+K+R, H, W), and u(t) (B, K, H, W)."""
    first, k = case["w_head"].shape[1], case["w1"].shape[1] - case["x"].shape[1]
    u = layer_norm(h[:, first : first + k], case["ln_in_w"], case["ln_in_b"])
    u = softmax(u) if soft else u
    e = neumann_body(case, np.concatenate([case["x"], u], 1), train)
    e = layer_norm(e, case["ln_err_w"], case["ln_err_b"])
    if "Q" in case:
        e = decay(e, t, tau, np.ones(h.shape[1]), case["Q"], case["Qinv"])
    return h + weight * e, u


def neumann_run(
    case: Case,
    steps: int,
    tau: float,
    alpha: float = 1.5,
    soft: bool = True,
    train: bool = False,
    atol: float = -1,
) -> Run:
    """*steps* turns of the Neumann stub from zero; with *train* the last one uses batch statistics."""

    def step(h: Array, t: int) -> tuple[Array, Array]:
        weight = fractional_weight(t, steps, alpha)
        return neumann_step(case, h, t, tau, weight, soft, train and t == steps - 1)

    x, first = case["x"], case["w_head"].shape[1]
    h, u = unroll(step, np.zeros((len(x), len(case["w2"]), *x.shape[2:])), steps, atol)
    logits = [conv2d(state[:, :first], case["w_head"], case["b_head"], padding=1) for state in h[1:]]
    return Run(h, u, np.stack(logits))


def neumann_loss(case: Case, steps: int, tau: float, **options: Any) -> float:
    """Sum over the steps of their cross-entropy with the one-hot ``case["gt"]``; *options* as in the run."""
    return float(cross_entropy(neumann_run(case, steps, tau, **options).logits, case["gt"]).sum())


def dirichlet_run(case: Case, steps: int, tau: float, alpha: float = 1.5) -> Run:
    """*steps* turns of the Dirichlet stub from one; the logits are log(1 + softplus(h))."""

    def step(h: Array, t: int) -> tuple[Array, Array]:
        u = dirichlet_entropy(h)
        z = neumann_body(case, np.concatenate([case["x"], u], 1), train=False)
        e = conv2d(z, case["w_head"], case["b_head"], padding=1)
        e = layer_norm(e, case["ln_err_w"], case["ln_err_b"])
        e = decay(e, t, tau, np.ones(h.shape[1]), case["Q"], case["Qinv"])
        return h + fractional_weight(t, steps, alpha) * e, u

    x = case["x"]
    h, u = unroll(step, np.ones((len(x), len(case["w_head"]), *x.shape[2:])), steps)
    return Run(h, u, np.log(1 + np.logaddexp(0, h[1:])))


def dirichlet_loss(case: Case, steps: int, tau: float) -> float:
    """Sum over the steps of their evidential loss against the one-hot ``case["gt"]``."""
    return sum(evidential_loss(np.exp(logits), case["gt"]) for logits in dirichlet_run(case, steps, tau).logits)


# gradients by finite differences, and cases to try them on


def numerical_gradient(
    function: Callable[[Array], float], array: Array, entries: Sequence[tuple[int, ...]], step: float = 1e-6
) -> Array:
    """Central differences of *function* at *array*, one per index in *entries*: (len(entries),)."""

    def moved(entry: tuple[int, ...], by: float) -> float:
        copy = np.array(array, dtype=np.float64)
        copy[entry] += by
        return function(copy)

    return np.array([(moved(entry, step) - moved(entry, -step)) / (2 * step) for entry in entries])


def pick_entries(array: Array, count: int = 3, seed: int = 0) -> list[tuple[int, ...]]:
    """Indices of *array*'s largest magnitude and of up to *count* - 1 others, drawn by *seed*."""
    order = np.random.default_rng(seed).permutation(array.size)
    first = int(np.abs(array).argmax())
    chosen = [first, *(int(i) for i in order if i != first)][:count]
    return [tuple(int(j) for j in np.unravel_index(i, array.shape)) for i in chosen]


def draw(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    """A random array for the weight *name*: scales and variances near 1, shifts near 0, filters by fan-in."""
    noise = rng.standard_normal(shape)
    if name in ("ln_in_w", "ln_err_w", "bn_w", "bn_rv"):
        return 1 + 0.1 * noise
    return 0.1 * noise if name.startswith(("b", "ln")) else noise / prod(shape[1:]) ** 0.5


def small_case(
    seed: int, stub: str = "dfm", batch: int = 2, size: tuple[int, int] = (8, 12), bn: bool = False
) -> dict[str, Array]:
    """Weights, image x (batch, 3, *size) and labels of the stub "dfm", "neumann" or "dirichlet", drawn by *seed*.

    4 class and 2 feedback channels, 3 classes; the Neumann state has one unused channel more. A DFM *size* is
    divisible by 4 and its Q orthogonal; Q and Qinv of the others are free, *bn* adds Neumann's batch norm.
    """
    rng = np.random.default_rng(seed)
    maps = dict.fromkeys(MAPS, size)
    shapes = {"dfm": DFM, "neumann": NEUMANN | maps | (BATCH_NORM if bn else {}), "dirichlet": DIRICHLET | maps}[stub]
    case = {name: draw(rng, name, shape) for name, shape in shapes.items()}
    case["x"] = rng.standard_normal((batch, 3, *size))
    labels = rng.integers(0, len(case["w_head"]), (batch, *size))
    if stub == "dfm":
        return case | {"Q": np.linalg.qr(case["Q"])[0], "y": labels}
    return case | {"gt": one_hot(labels, len(case["w_head"]))}
