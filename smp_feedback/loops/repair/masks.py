"""Masks of any origin, as the probabilities that are mended."""

from __future__ import annotations

import torch
from torch import Tensor

from smp_feedback.errors import InvalidInput, InvalidType
from smp_feedback.ops.maps import size_of

ROUNDING = 0.02
"""By how much the probabilities of a pixel may fail to add up to 1, in half precision."""


def as_chances(mask: object, image: Tensor, classes: int) -> Tensor:
    """*mask* as probabilities (B, classes, H, W), like *image* (B, C, H, W) in size, device and precision.

    Args:
        mask: Labels (B, H, W), whole numbers or truth values, or probabilities (B, classes, H, W).
        image: The image.
        classes: Channels of the answer: one stands for background and foreground.

    Raises:
        InvalidType: If it is no tensor.
        InvalidInput: If it has another shape, or holds no labels or no probabilities of these classes; asks the device.

    >>> as_chances(torch.tensor([[[0, 1]]]), torch.zeros(1, 3, 1, 2), 1)
    tensor([[[[0., 1.]]]])
    >>> as_chances(torch.tensor([[[0, 2]]]), torch.zeros(1, 3, 1, 2), 3).argmax(1)
    tensor([[[0, 2]]])
    """
    if not isinstance(mask, Tensor):
        raise InvalidType(f"mask is a {type(mask).__name__}: expected a tensor, labels or probabilities.")
    batch, size = len(image), size_of(image)
    if mask.is_floating_point():
        if mask.shape != (batch, classes, *size):
            raise InvalidInput(_unlike(mask, image, classes))
        if not bool(((mask >= 0) & (mask <= 1)).all()):
            raise InvalidInput("mask: values outside [0, 1]; expected probabilities, such as logits.softmax(1).")
        if classes > 1 and bool(((total := mask.float().sum(1)) - 1).abs().amax() > ROUNDING):
            raise InvalidInput(
                f"mask: probabilities of a pixel that add up to {total.amin():.3g} to {total.amax():.3g}; expected 1, "
                "as of logits.softmax(1): of classes that exclude each other."
            )
        return mask.to(image)
    if mask.shape != (batch, *size):
        raise InvalidInput(_unlike(mask, image, classes))
    labels, known = mask.to(image.device).long(), max(2, classes)
    if not bool(((labels >= 0) & (labels < known)).all()):
        raise InvalidInput(f"mask: labels {labels.amin()} to {labels.amax()}; expected 0 to {known - 1}.")
    if classes == 1:
        return labels[:, None].to(image.dtype)
    return torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).to(image.dtype)


def _unlike(mask: Tensor, image: Tensor, classes: int) -> str:
    batch, (h, w) = len(image), size_of(image)
    return (
        f"mask of shape {tuple(mask.shape)} and {mask.dtype}, images of shape {tuple(image.shape)}: expected labels "
        f"({batch}, {h}, {w}), whole numbers, or probabilities ({batch}, {classes}, {h}, {w})."
    )
