"""A feedback model and its twins: the same base, the same weights to begin with, everything shared but the loop."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from smp_feedback.config.base import LoopConfig
from smp_feedback.errors import FeedbackError
from smp_feedback.experiments.comparison.compute import depth_for, steps_of
from smp_feedback.experiments.comparison.settings import ComparisonSettings
from smp_feedback.experiments.comparison.stacked import Stacked
from smp_feedback.experiments.cost import multiply_adds
from smp_feedback.experiments.runs import built
from smp_feedback.models.plain_conv import PlainConv
from smp_feedback.ops.dirichlet import check_classes, log_concentration
from smp_feedback.registry.public import catalogue
from smp_feedback.training.init_weights import begin


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
    base (what is normalised, what is read out) but the loop; ``equal-compute`` the base, trained for as many
    forward passes as the feedback model. ``equal-inference`` has the multiply-adds of the loop's looks in layers of
    their own, see :func:`deeper`, and ``equal-inference-3x`` is the same, trained three times as long. Where the loop's
    output is a Dirichlet distribution, every model's is.

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


def deeper(settings: ComparisonSettings, classes: int, channels: int = 3) -> nn.Module:
    """A feed-forward model of the multiply-adds of ``inference_looks`` looks, none of whose weights are used twice.

    Of ``PlainConv`` a residual one of the same width, as deep as it takes to have as many; of any other base as many
    copies as there are looks, each of which is shown what the one before made of the image.
    """
    if catalogue().architectures[settings.arch] is not PlainConv:
        first = make(settings, classes, None, channels)
        rest = [make(settings, classes, None, channels + classes) for _ in range(settings.twin_looks - 1)]
        return Stacked([first, *rest])
    image = torch.zeros(1, channels, 8, 8)  # every layer is as large as the image: the depth is the same for any
    with torch.random.fork_rng(devices=[]):
        looks = dataclasses.replace(cast(Any, settings.config), steps=settings.twin_looks)
        loop = multiply_adds(make(settings, classes, looks, channels), image)
        one, two = (multiply_adds(_residual(settings, classes, channels, depth), image) for depth in (1, 2))
    return _residual(settings, classes, channels, depth_for(loop, one, two))


def _residual(settings: ComparisonSettings, classes: int, channels: int, depth: int) -> nn.Module:
    options = {**settings.arch_options, "depth": depth, "residual": True}
    return make(dataclasses.replace(settings, arch_options=options), classes, None, channels)


def _as_dirichlet(base: nn.Module, args: Any, answer: Any) -> Any:
    if isinstance(answer, Tensor):
        return log_concentration(answer)
    masks, labels = answer
    return log_concentration(masks), labels


def make(settings: ComparisonSettings, classes: int, config: LoopConfig | None, channels: int = 3) -> nn.Module:
    """The architecture of the comparison, closed into *config*'s loop, or as it is."""
    model = built(settings, classes, config, channels)
    if settings.init is not None:
        _begin(model, settings)
    return model


def _begin(model: nn.Module, settings: ComparisonSettings) -> None:
    """The weights that every model of the comparison begins with."""
    try:
        begin(model, str(settings.init))
    except FeedbackError as error:
        norm = f" (base_norm={settings.base_norm!r} takes BatchNorm out: those weights may want base_norm=None.)"
        error.args = (f"init: {error}{norm if settings.base_norm else ''}",)
        raise


def once(config: LoopConfig) -> LoopConfig:
    """*config* with a single look."""
    single: LoopConfig = dataclasses.replace(cast(Any, config), steps=1)
    return single
