"""A feedback model and its twins: the same base, the same weights to begin with, everything shared but the loop."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from smp_feedback.experiments.comparison.bases import deeper, make, once
from smp_feedback.experiments.comparison.budget import steps_of
from smp_feedback.experiments.comparison.settings import ComparisonSettings
from smp_feedback.ops.dirichlet import check_classes, log_concentration


class Twin(NamedTuple):
    """One model of a comparison, untrained.

    Attributes:
        model: The model.
        train_steps: Optimiser steps it is given.
        looks: Forward passes of the base in one of them.
    """

    model: nn.Module
    train_steps: int
    looks: int


def make_twin(name: str, settings: ComparisonSettings, classes: int, seed: int, *, channels: int = 3) -> Twin:
    """The model called *name*, from the weights that *seed* draws for all of them.

    ``plain`` is the base; ``one-step`` the feedback model with a single look, which has all that it has beyond the
    base (what is normalised, what is read out) but the loop; ``equal-compute`` the base, trained for as many steps as
    the loop's training buys, see :func:`.budget.steps_of`. ``equal-inference`` has the multiply-adds of the loop's
    looks in layers of their own, see :func:`.bases.deeper`, and ``equal-inference-3x`` is the same, trained three times
    as long. Where the loop's output is a Dirichlet distribution, every model's is.

    Args:
        name: One of the models.
        settings: The comparison.
        classes: Number of classes.
        seed: Of the weights.
        channels: Of an image.

    >>> tiny = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
    >>> settings = ComparisonSettings(train_steps=10, feedback={"steps": 3}, arch_options=tiny)
    >>> twin = make_twin("equal-compute", settings, 3, seed=0)
    >>> twin.train_steps, twin.looks
    (30, 1)
    """
    torch.manual_seed(seed)
    steps = steps_of(settings, name)
    if name == "feedback":
        return Twin(make(settings, classes, settings.config, channels), steps, settings.trained_looks)
    if name == "one-step":
        return Twin(make(settings, classes, once(settings.config), channels), steps, 1)
    inference = name.startswith("equal-inference")
    base = deeper(settings, classes, channels) if inference else make(settings, classes, None, channels)
    if getattr(settings.config, "output", "") == "dirichlet":  # the evidential loss means nothing to bare logits
        check_classes(classes)
        base.register_forward_hook(_as_dirichlet)
    return Twin(base, steps, 1)


def _as_dirichlet(base: nn.Module, args: Any, answer: Any) -> Any:
    if isinstance(answer, Tensor):
        return log_concentration(answer)
    masks, labels = answer
    return log_concentration(masks), labels
