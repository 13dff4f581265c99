"""The iterative focal loss of the BMVC 2020 paper on hot weather: each look minds more what is still wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from smp_feedback.checks import check_number, check_whole
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.losses.pixels import PixelLoss, Pixels

GAMMAS = (0.0, 0.1, 0.2)


class IterativeFocal(PixelLoss):
    """``alpha_t * -sum(w (1 - p)^gamma_t log p) / sum(w)`` over an image's pixels, mean over the batch, for look t.

    p is the probability of the right class and w its class's weight, here 1. The focal factor ``(1 - p)^gamma_t``
    weighs a pixel and carries no gradient, as published: the gradient is that of cross-entropy, weighed anew by what
    the look got wrong. gamma_t grows from look to look. An image of which nothing counts has the loss 0.

    Called as ``loss(logits, target)`` it judges look 0; ``loss(logits, target, step=t)`` judges look t, and
    :meth:`of_steps` all of them.

    Args:
        ignore_index: Label that does not count; None counts all.
        gammas: gamma_t, each >= 0; 0 is cross-entropy. The last stands for every look after it.
        step_weights: alpha_t, each >= 0, the last for every look after it; None is 1 for all, as published.

    Raises:
        InvalidType, InvalidValue: For no numbers, or numbers out of range.

    Source:
        *Spatial Feedback Learning to Improve Semantic Segmentation in Hot Weather* (BMVC 2020).

    >>> loss = IterativeFocal(gammas=(0.0, 1.0))
    >>> logits, target = torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long)
    >>> loss(logits, target), loss(logits, target, step=1)  # log(2), and half of it
    (tensor(0.6931), tensor(0.3466))
    >>> loss.of_steps([logits, logits], target)
    tensor(1.0397)
    """

    reads_steps = True  # training calls it with step=t

    def __init__(
        self,
        ignore_index: int | None = None,
        *,
        gammas: Sequence[float] = GAMMAS,
        step_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(ignore_index)
        self.gammas = _numbers("gammas", gammas)
        self.step_weights = (1.0,) if step_weights is None else checked_weights("step_weights", step_weights)

    def of(self, pixels: Pixels, step: int = 0) -> Tensor:
        """Mean over the images of what look *step* is judged by, times its weight.

        Raises:
            InvalidType, InvalidValue: If *step* is no whole number >= 0.
        """
        check_whole("step", step, least=0)
        log_p = (pixels.logits.log_softmax(1) * pixels.one_hot).sum(1)
        missed = (-log_p.detach().expm1()).clamp_min(0)
        weight = self.weights_of(pixels)
        lost = -(weight * missed.pow(_at(self.gammas, step)) * log_p).sum(1)
        total = weight.sum(1)
        return _at(self.step_weights, step) * (lost / total.where(total > 0, 1)).mean()

    def weights_of(self, pixels: Pixels) -> Tensor:
        """w (B, N) of each pixel, 0 where it does not count."""
        return pixels.counted

    def of_steps(self, logits: Sequence[Tensor], target: Tensor) -> Tensor:
        """The sum over the looks, of which each may be detached from the others.

        Args:
            logits: Those of look 0, 1, ...; one tensor (T, B, C, ...) will do.
            target: Class indices, the same for all.

        Raises:
            InvalidInput: If there is no look.
        """
        if not len(logits):
            raise InvalidInput("logits: expected those of one look or more, found none.")
        return torch.stack([self(each, target, step=t) for t, each in enumerate(logits)]).sum()


class ClassBalancedIterativeFocal(IterativeFocal):
    """:class:`IterativeFocal` in which w is the weight of the right class, so that rare classes are not drowned.

    A common factor of the weights changes nothing. :func:`smp_feedback.losses.balance.class_balanced_weights` makes
    them of the counts that :func:`smp_feedback.data.count_classes` takes from a dataset.

    Args:
        ignore_index: Label that does not count; None counts all.
        class_weights: One number >= 0 for each class, 0 for one that does not count. None weighs all alike, which is
            ``iterative_focal``: what is rare is known of a dataset, not of a batch.
        gammas, step_weights: Those of :class:`IterativeFocal`.

    Raises:
        InvalidType, InvalidValue: For no numbers, or numbers out of range; for weights that are all 0.
        InvalidInput: When called, if there are more or fewer weights than classes.

    >>> loss = ClassBalancedIterativeFocal(class_weights=[1, 3])
    >>> logits = torch.tensor([[[0.0, 0.0], [0.0, math.log(3)]]])
    >>> loss(logits, torch.tensor([[0, 1]]))  # (log(2) + 3 log(4/3)) / 4
    tensor(0.3890)
    """

    def __init__(
        self,
        ignore_index: int | None = None,
        *,
        class_weights: Sequence[float] | None = None,
        gammas: Sequence[float] = GAMMAS,
        step_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(ignore_index, gammas=gammas, step_weights=step_weights)
        self.class_weights = None if class_weights is None else checked_weights("class_weights", class_weights)

    def weights_of(self, pixels: Pixels) -> Tensor:
        """The right class's weight (B, N), 0 where a pixel does not count."""
        if self.class_weights is None:
            return pixels.counted
        classes = pixels.logits.shape[1]
        if len(self.class_weights) != classes:
            raise InvalidInput(
                f"class_weights has {len(self.class_weights)} numbers and the logits have {classes} classes: expected "
                "one number for each class, 0 for one that does not count."
            )
        return (pixels.one_hot * pixels.logits.new_tensor(self.class_weights)[:, None]).sum(1)


def _at(schedule: tuple[float, ...], step: int) -> float:
    """The last one stays."""
    return schedule[min(step, len(schedule) - 1)]


def _numbers(name: str, values: Sequence[float]) -> tuple[float, ...]:
    values = values.tolist() if isinstance(values, (Tensor, np.ndarray)) else values
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise InvalidType(f"{name}={values!r} ({type(values).__name__}): expected a list of numbers >= 0.")
    if not values:
        raise InvalidValue(f"{name}={values!r}: expected at least one number >= 0.")
    for value in values:
        check_number(name, value, least=0)
    return tuple(float(value) for value in values)


def checked_weights(name: str, values: Sequence[float]) -> tuple[float, ...]:
    """*values* as numbers >= 0 of which one is more; *name* is what an error calls them."""
    numbers = _numbers(name, values)
    if not math.fsum(numbers):
        raise InvalidValue(f"{name}={values!r}: expected at least one number > 0.")
    return numbers
