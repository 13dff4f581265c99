"""What a comparison's models are made of: the base, closed into a loop or not, and a deeper one without."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import torch
from torch import nn

from smp_feedback.config.base import LoopConfig
from smp_feedback.errors import FeedbackError
from smp_feedback.experiments.comparison.compute import depth_for
from smp_feedback.experiments.comparison.settings import ComparisonSettings
from smp_feedback.experiments.comparison.stacked import Stacked
from smp_feedback.experiments.cost import multiply_adds
from smp_feedback.experiments.look_cost import LookCost, counts_passes, look_cost
from smp_feedback.experiments.runs import built, facts
from smp_feedback.models.plain_conv import PlainConv
from smp_feedback.registry.public import catalogue
from smp_feedback.training.init_weights import begin


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


def cost_of(settings: ComparisonSettings) -> LookCost:
    """What the loop costs on an image of the settings' data."""
    return look_cost(settings, settings.config, lambda: facts(settings))


def counts_looks(settings: ComparisonSettings) -> bool:
    """Whether a look of the loop counts as a forward pass, see :func:`.look_cost.counts_passes`."""
    return counts_passes(settings, settings.config, lambda: facts(settings))


def deeper(settings: ComparisonSettings, classes: int, channels: int = 3) -> nn.Module:
    """A feed-forward model of the multiply-adds of ``inference_looks`` looks, none of whose weights are used twice.

    Of ``PlainConv`` a residual one of the same width, as deep as it takes to have as many; of any other base copies,
    see :func:`copies_of`, each of which is shown what the one before made of the image.
    """
    if catalogue().architectures[settings.arch] is not PlainConv:
        first = make(settings, classes, None, channels)
        rest = [make(settings, classes, None, channels + classes) for _ in range(copies_of(settings) - 1)]
        return Stacked([first, *rest])
    image = torch.zeros(1, channels, 8, 8)  # every layer is as large as the image: the depth is the same for any
    with torch.random.fork_rng(devices=[]):
        looks = dataclasses.replace(cast(Any, settings.config), steps=settings.twin_looks)
        loop = multiply_adds(make(settings, classes, looks, channels), image)
        one, two = (multiply_adds(_residual(settings, classes, channels, depth), image) for depth in (1, 2))
    return _residual(settings, classes, channels, depth_for(loop, one, two))


def copies_of(settings: ComparisonSettings) -> int:
    """How many copies of the base one behind the other have the multiply-adds of ``inference_looks`` looks.

    One a look where a look counts as a forward pass, see :func:`.look_cost.counts_passes`; elsewhere the fewest that
    have as many as the loop's call.
    """
    if counts_looks(settings):
        return settings.twin_looks
    cost, about = cost_of(settings), facts(settings)
    channels, classes = about.image[0], len(about.classes)
    image = torch.zeros(1, channels + classes, *about.image[1:])
    bare = dataclasses.replace(settings, encoder_weights=None, init=None)
    with torch.random.fork_rng(devices=[]):
        further = multiply_adds(make(bare, classes, None, channels + classes), image)
    return depth_for(cost.call(settings.twin_looks), cost.plain, cost.plain + further)


def _residual(settings: ComparisonSettings, classes: int, channels: int, depth: int) -> nn.Module:
    options = {**settings.arch_options, "depth": depth, "residual": True}
    return make(dataclasses.replace(settings, arch_options=options), classes, None, channels)
