"""What looking again costs where the feedback enters: what a call runs once, and what each of its looks runs."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from smp_feedback.config.base import LoopConfig
from smp_feedback.experiments.base_settings import ExperimentSettings
from smp_feedback.experiments.cost import multiply_adds
from smp_feedback.experiments.runs import built
from smp_feedback.training.facts import Facts

LITTLE = 100
"""Looks that share less than this part of a forward pass count as one each."""

T = TypeVar("T")

_counted: dict[str, Any] = {}


class LookCost(NamedTuple):
    """Multiply-adds for one image, those of n looks in one call being ``once + n * look``.

    Attributes:
        plain: Of a forward pass of the base without the loop.
        once: Of what a call runs once: what lies before the place where the feedback enters, and the head, which reads
            the last state. Below 0 where a first look, with no state before it, spares more than that.
        look: Of each look.
        answer: Of the head, for each further look that is asked for its answer, too.

    >>> cost = LookCost(plain=100, once=60, look=40, answer=1)
    >>> cost.call(5), cost.shares
    (260, True)
    """

    plain: int
    once: int
    look: int
    answer: int = 0

    def call(self, looks: int) -> int:
        """Of so many *looks* in one call."""
        return self.once + looks * self.look

    @property
    def shares(self) -> bool:
        """Whether looks share more than 1 % of a forward pass."""
        return LITTLE * self.once > self.plain


def look_cost(settings: ExperimentSettings, config: LoopConfig, about: Callable[[], Facts]) -> LookCost:
    """What the base of *settings* costs, as it is and closed into the loop of *config*, on an image of its data.

    Counted in evaluation, of random weights, once in a process: the same on every machine.

    Args:
        settings: The experiment.
        config: The loop.
        about: Says what its data are.

    Raises:
        FeedbackError: If the data or the model cannot be had.
    """
    return counted_once([settings.to_dict(), config.to_dict()], lambda: _count(settings, config, about()))


def counts_passes(settings: ExperimentSettings, config: LoopConfig, about: Callable[[], Facts]) -> bool:
    """Whether a look counts as a forward pass of the base, and not by its multiply-adds.

    So it is where looks share no more than 1 % of a pass; and always where the feedback enters at ``input``: looks
    share the image's part of the first convolution there, and what reads the feedback costs about as much again or
    more. Comparisons at ``input`` so have the steps that they always had, and say in multiply-adds what that came to.

    Raises:
        FeedbackError: As :func:`look_cost`, at any other place.
    """
    return "input" in getattr(config, "places", ()) or not look_cost(settings, config, about).shares


def counted_once(asked: Any, count: Callable[[], T]) -> T:
    """What *count* gives, counted once in a process for the same *asked*, which JSON can say."""
    key = json.dumps(asked, sort_keys=True, default=str)
    if key not in _counted:
        _counted[key] = count()
    found: T = _counted[key]
    return found


class _EveryAnswer(nn.Module):
    """A loop whose answer is asked for after every look."""

    def __init__(self, loop: Any) -> None:
        super().__init__()
        self.loop = loop

    def forward(self, image: Tensor, steps: int) -> list[Any]:
        return [step.logits for step in self.loop.iterate(image, steps=steps)]


def _count(settings: ExperimentSettings, config: LoopConfig, about: Facts) -> LookCost:
    bare, channels = replace(settings, encoder_weights=None), about.image[0]
    image = torch.zeros(1, *about.image)
    with torch.random.fork_rng(devices=[]):  # whoever draws weights draws what it drew without us
        base, loop = (built(bare, len(about.classes), one, channels) for one in (None, config))
        first, second = (multiply_adds(loop, image, functools.partial(loop, steps=looks)) for looks in (1, 2))
        answered = multiply_adds(loop, image, functools.partial(_EveryAnswer(loop), steps=2))
        return LookCost(multiply_adds(base, image), 2 * first - second, second - first, answered - second)
