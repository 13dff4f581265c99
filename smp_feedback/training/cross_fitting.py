"""Predictions of models that did not learn from what they predict: what a model says of images that are new to it.

A model is more often right about its training images than about others. What learns to mend its mistakes must see
those that it will meet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Subset

from smp_feedback.checks import check_whole
from smp_feedback.data.wrapped import films_of
from smp_feedback.errors import InvalidInput, InvalidValue
from smp_feedback.loops.recurrent.step import at_least_single
from smp_feedback.ops.maps import masks_of
from smp_feedback.projections import class_probabilities
from smp_feedback.training.datamodule import PairsModule
from smp_feedback.training.trainer import fit


class CrossFitted:
    """Several models, and which of them answers for each training image: one that did not learn from it.

    Args:
        bases: Models of one shape of answer; evaluating, without gradient, on the device of the images.
        folds: For each training image the number of its model.

    Raises:
        InvalidValue: If there is no model, or an image names one that there is not.

    >>> bases = [nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)]
    >>> CrossFitted(bases, [0, 1, 0]).chances(torch.rand(2, 3, 4, 4), torch.tensor([2, 1])).shape
    torch.Size([2, 2, 4, 4])
    """

    def __init__(self, bases: Sequence[nn.Module], folds: Sequence[int]) -> None:
        if not bases:
            raise InvalidValue("bases=[]: expected at least one model.")
        if wrong := [k for k in folds if not 0 <= k < len(bases)]:
            raise InvalidValue(f"folds: an image is of model {wrong[0]}; expected 0 to {len(bases) - 1}.")
        self.bases, self.folds = [base.eval().requires_grad_(False) for base in bases], [*folds]

    @torch.no_grad()
    def chances(self, image: Tensor, places: Tensor) -> Tensor:
        """Probabilities (B, classes, H, W) of each image by its own model, of one class the foreground's.

        Args:
            image: (B, C, H, W), as the models take it.
            places: Places in the training images (B,).

        Raises:
            InvalidInput: If a place is none that somebody answers for.
        """
        listed = [int(place) for place in places.tolist()]
        if wrong := [place for place in listed if place >= len(self.folds)]:
            raise InvalidInput(f"image {wrong[0]}: expected one of the {len(self.folds)} that were cross-fitted.")
        of = torch.tensor([self.folds[place] for place in listed], device=image.device)
        made: Tensor | None = None
        for k in sorted({self.folds[place] for place in listed}):
            rows = (of == k).nonzero().flatten()
            answer: Any = self.bases[k].to(image.device)(image[rows])
            said = class_probabilities(at_least_single(masks_of(answer)))
            made = said.new_zeros(len(image), *said.shape[1:]) if made is None else made
            made[rows] = said
        assert made is not None
        return made.to(image.dtype)


def folds_of(dataset: Any, folds: int) -> list[int]:
    """The fold of each item: in turn, and of films all frames in one.

    Raises:
        InvalidValue: For fewer than two folds, or fewer items or films than folds.

    >>> folds_of(["a", "b", "c", "d", "e"], 2)
    [0, 1, 0, 1, 0]
    """
    check_whole("folds", folds, least=2)
    films = films_of(dataset)
    groups = [(i,) for i in range(len(dataset))] if films is None else films
    if len(groups) < folds:
        raise InvalidValue(f"folds={folds}: expected at most the {len(groups)} images, or films, that there are.")
    found = [0] * len(dataset)
    for k, group in enumerate(groups):
        for item in group:
            found[item] = k % folds
    return found


def cross_fit(
    train: Any, make: Callable[[], Any], *, folds: int = 3, steps: int, batch_size: int = 8, seed: int = 0, **how: Any
) -> CrossFitted:
    """Train a model for each fold of *train* on all the others.

    Args:
        train: Map-style pairs of image and mask.
        make: Gives a new module to train, such as :class:`FeedbackModule`, that has a ``model``.
        folds: How many; more leave each model more to learn from, and cost as many trainings.
        steps: Optimiser steps of each.
        batch_size: Images a step.
        seed: As of :func:`smp_feedback.training.fit`, for each the same.
        **how: What else :func:`smp_feedback.training.fit` takes.

    >>> from smp_feedback.data import Shapes
    >>> from smp_feedback.training import FeedbackModule
    >>> make = lambda: FeedbackModule(nn.Conv2d(3, 3, 1), classes=3)
    >>> found = cross_fit(Shapes(4, 32), make, folds=2, steps=1, batch_size=2, progress=False, accelerator="cpu")
    >>> len(found.bases), found.folds
    (2, [0, 1, 0, 1])
    """
    parts = folds_of(train, folds)
    bases = []
    for k in range(folds):
        others = Subset(train, [i for i, part in enumerate(parts) if part != k])
        module = fit(make(), PairsModule(others, batch_size=batch_size), steps=steps, seed=seed, **how)
        bases.append(cast(nn.Module, module.model))
    return CrossFitted(bases, parts)
