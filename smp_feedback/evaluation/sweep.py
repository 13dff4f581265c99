"""mIoU as torchmetrics defines it, over noise levels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassJaccardIndex

from smp_feedback.data import Noisy

Pairs = Dataset[tuple[Tensor, Tensor]]


def miou(
    model: nn.Module, data: Pairs, *, classes: int, ignore_index: int | None = None, batch_size: int = 16
) -> float:
    """Mean intersection over union of *model* on *data*, from one confusion matrix over all pixels.

    Args:
        model: Maps images (B, C, H, W) to logits (B, classes, H, W); left in its mode.
        data: Pairs of image and target.
        classes: Number of classes; those in neither prediction nor target do not count.
        ignore_index: Label that is not scored.
        batch_size: Images at a time.

    Returns:
        In [0, 1].

    >>> data = [(torch.zeros(2, 2, 2), torch.tensor([[0, 0], [1, 1]]))]
    >>> round(miou(nn.Identity(), data, classes=2), 4)  # predicts class 0 everywhere: IoU 1/2 and 0
    0.25
    """
    metric = MulticlassJaccardIndex(classes, ignore_index=ignore_index, validate_args=False)
    training = model.training
    model.eval()
    with torch.inference_mode():
        for image, target in DataLoader(data, batch_size):
            metric.update(model(image).argmax(1), target)
    model.train(training)
    return float(metric.compute())


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
