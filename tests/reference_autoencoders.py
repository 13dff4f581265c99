"""The autoencoders of the score loop in plain NumPy, float64: what the package is compared with.

Nothing here imports torch or the package. Maps are (B, C, H, W); *weights* are arrays by the names of the package's
parameters, from which the number of poolings, convolutions and channels is read. Features are concatenated before
what reads them is computed, nothing is computed once for several predictions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from reference import Array, conv2d, resize_bilinear

Weights = Mapping[str, Array]


def relu(x: Array) -> Array:
    """The positive part."""
    return np.maximum(x, 0)


def windows(x: Array) -> Array:
    """The whole 2 x 2 windows of x: (B, C, H, W) -> (B, C, H // 2, W // 2, 4)."""
    h, w = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
    return np.stack([x[:, :, a:h:2, b:w:2] for a in (0, 1) for b in (0, 1)], -1)


def max_pool(x: Array) -> Array:
    """Largest of 2 x 2, rounding down."""
    return windows(x).max(-1)


def unpool(u: Array, read: Array, tracked: bool) -> Array:
    """u at every pixel of its window in *read*, or only where the window has its maximum; 0 outside of windows."""
    of_window = np.repeat(u[..., None], 4, -1)
    if tracked:
        of_window *= windows(read) == max_pool(read)[..., None]
    out = np.zeros((*u.shape[:2], *read.shape[2:]))
    for i, (a, b) in enumerate((a, b) for a in (0, 1) for b in (0, 1)):
        out[:, :, a : 2 * u.shape[2] : 2, b : 2 * u.shape[3] : 2] = of_window[..., i]
    return out


def transposed(u: Array, weight: Array, bias: Array, size: Sequence[int]) -> Array:
    """Every pixel (i, j) of u adds its 4 x 4 of *weight* (I, O, 4, 4) at rows 2i - 1 to 2i + 2, columns alike."""
    out = np.zeros((len(u), weight.shape[1], 2 * u.shape[2] + 2, 2 * u.shape[3] + 2))
    for i, j in np.ndindex(*u.shape[2:]):
        out[:, :, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.einsum("bi,ioxy->boxy", u[:, :, i, j], weight)
    return out[:, :, 1 : 1 + size[0], 1 : 1 + size[1]] + bias[:, None, None]


def onto(x: Array, size: Sequence[int]) -> Array:
    """x cropped, or its last row and column repeated, to *size*."""
    return x[:, :, np.minimum(np.arange(size[0]), x.shape[2] - 1)][..., np.minimum(np.arange(size[1]), x.shape[3] - 1)]


def batch_norm(x: Array, w: Weights, at: str) -> Array:
    """With running statistics."""
    scale, shift, mean, var = (
        w[f"{at}.{name}"][:, None, None] for name in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / np.sqrt(var + 1e-5) * scale + shift


def block(x: Array, w: Weights, p: int, padding: int) -> Array:
    """What pooling p + 1 reads: every convolution of its block with its ReLU, then BatchNorm."""
    x = relu(conv2d(x, w[f"down.{p}.conv.weight"], w[f"down.{p}.conv.bias"], padding=padding))
    for i in range(1, 9):
        at = f"down.{p}.rest.{i}"
        if f"{at}.running_mean" in w:
            x = batch_norm(x, w, at)
        elif f"{at}.weight" in w:
            x = relu(conv2d(x, w[f"{at}.weight"], w[f"{at}.bias"], padding=1))
    return x


def standard(
    w: Weights, y: Array, features: Mapping[int, Sequence[Array]], *, unpooling="tracked", skip=True, padding=1
) -> Array:
    """Logits of the standard autoencoder; *features* by level, where they are concatenated before pooling's output."""
    height, width = y.shape[2:]
    pools = sum(name.startswith("down") and name.endswith("conv.weight") for name in w)
    multiple = 2**pools
    x = onto(y, (-(-height // multiple) * multiple, -(-width // multiple) * multiple)) if padding == 1 else y
    pooled, read = [x], []
    for p in range(pools):
        beside: list[Any] = []
        for h in features.get(p, ()):
            wanted = (-(-height // 2**p), -(-width // 2**p))
            whole = all(n // 2**p <= m <= up for n, m, up in zip((height, width), h.shape[2:], wanted, strict=True))
            if padding == 1 and not whole:
                h = resize_bilinear(h, wanted)
            beside.append(onto(h, pooled[-1].shape[2:]))
        read.append(block(np.concatenate([*beside, pooled[-1]], 1), w, p, padding if p == 0 else 1))
        pooled.append(max_pool(read[-1]))
    x = pooled[-1]
    for n, p in enumerate(reversed(range(pools))):
        weight, bias = w[f"up.{n}.weight"], w[f"up.{n}.bias"]
        if unpooling == "transposed":
            x = transposed(x, weight, bias, read[p].shape[2:])
        else:
            x = conv2d(unpool(x, read[p], unpooling == "tracked"), weight, bias, padding=1)
        if skip and p:
            x = x + pooled[p]
    first = padding - 1
    return x[:, :, first : first + height, first : first + width]


def dilated(weight: Array, dilation: int) -> Array:
    """The kernel (O, I, 3, 3) with zeros between its entries."""
    wide = np.zeros((*weight.shape[:2], 2 * dilation + 1, 2 * dilation + 1))
    wide[:, :, ::dilation, ::dilation] = weight
    return wide


def context(w: Weights, y: Array, image: Array) -> Array:
    """Logits of the context module."""
    x = relu(conv2d(np.concatenate([image, y], 1), w["first.weight"], w["first.bias"], padding=1))
    x = np.pad(x, ((0, 0), (0, 0), (32, 32), (32, 32)))
    for i, dilation in enumerate((1, 2, 4, 8, 16, 1)):
        x = relu(conv2d(x, dilated(w[f"dilated.{i}.weight"], dilation), w[f"dilated.{i}.bias"]))
    return conv2d(x, w["last.weight"], w["last.bias"])


def reconstruction_loss(p: Array, y: Array, counted: Array) -> tuple[float, float]:
    """Cross-entropy and squared error of probabilities p against one-hot y (B, C, H, W), over *counted* (B, H, W)."""
    cross = -np.log(np.maximum((p * y).sum(1), 1e-7))
    square = ((p - y) ** 2).mean(1)
    return tuple(float(x[counted].mean()) for x in (cross, square))
