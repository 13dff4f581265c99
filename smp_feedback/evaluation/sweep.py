"""mIoU over noise levels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn
from torch.utils.data import Dataset

from smp_feedback.data import Noisy
from smp_feedback.evaluation.onepass import miou

Pairs = Dataset[tuple[Tensor, Tensor]]


def noise_sweep(
    models: Mapping[str, nn.Module],
    data: Pairs,
    sigmas: Sequence[float],
    *,
    classes: int,
    ignore_index: int | None = None,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """mIoU of every model at every noise level, all on the same noisy images.

    Args:
        models: By the name the table shall show.
        data: Clean pairs of image and target.
        sigmas: Standard deviations of the noise, in units of the image's range [0, 1].
        classes: Number of classes.
        ignore_index: Label that is not scored.
        seed: Seeds the noise, image by image.
        advance: Called after each evaluation (progress bars).

    Returns:
        By model, one mIoU per sigma.
    """
    table: dict[str, list[float]] = {name: [] for name in models}
    for sigma in sigmas:
        noisy = Noisy(data, sigma, seed=seed)
        for name, model in models.items():
            table[name].append(miou(model, noisy, classes=classes, ignore_index=ignore_index))
            advance()
    return table
