"""How a model is asked: with which numbers of looks, on which device, and what of its answers the task is about."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from smp_feedback.config.stopping import UntilSettled
from smp_feedback.data.feeding import Feed
from smp_feedback.errors import InvalidType
from smp_feedback.evaluation.in_windows import Asked, WholeImages
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.loops.call import Looks, check_number_of_looks
from smp_feedback.loops.steps import Step
from smp_feedback.ops.reading import CLASSIFICATION
from smp_feedback.surgery.extension import asked_in, looping_in


def looks_of(model: nn.Module, looks: Sequence[Looks] | None) -> tuple[Looks, ...]:
    """The numbers of looks to score, fewest first, and rules of stopping behind the numbers that they may reach.

    >>> looks_of(nn.Identity(), [1, 4])
    (1,)
    """
    model = looping_in(asked_in(model))
    if looks is not None:
        if isinstance(looks, str) or not isinstance(looks, Collection) or not len(looks):
            raise InvalidType(f"looks={looks!r}: expected numbers of looks, such as [1, 2, 4], or None.")
        looks = sorted({t if isinstance(t, UntilSettled) else check_number_of_looks(t) for t in looks}, key=_most)
    if not isinstance(model, FeedbackModel):
        return (1,)
    for rule in looks or ():
        if isinstance(rule, UntilSettled):
            model._check_stops(rule)
    return (int(cast(Any, model.feedback).steps()),) if looks is None else tuple(looks)


def _most(looks: Looks) -> tuple[int, int]:
    return (looks.at_most, looks.looks) if isinstance(looks, UntilSettled) else (looks, 0)


def answers(model: Asked, image: Tensor, looks: Sequence[Looks], task: str) -> Iterator[tuple[Looks, Tensor, Tensor]]:
    """The logits after each of *looks* looks, and how many each image had (B,).

    A loop that came to rest before answers as it did last.
    """
    numbers = sorted(t for t in looks if not isinstance(t, UntilSettled))
    if not isinstance(model, FeedbackModel | WholeImages):
        yield 1, _chosen(model(image), task), _all_had(1, image)
        return
    if getattr(getattr(model.feedback, "dynamics", None), "knows_the_end", False):
        yield from ((t, _chosen(model(image, steps=t), task), _all_had(t, image)) for t in numbers)
        return
    for step in model.iterate(image, steps=numbers[-1]) if numbers else ():
        if step.index + 1 == numbers[0]:
            yield numbers.pop(0), _answer(step, task), step.looks
    for t in numbers:
        yield t, _answer(step, task), step.looks
    for rule in looks:
        if isinstance(rule, UntilSettled):
            for step in model.iterate(image, rule):  # noqa: B007
                pass
            yield rule, _answer(step, task), step.looks


def _all_had(looks: int, image: Tensor) -> Tensor:
    return torch.full((len(image),), looks, device=image.device)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's weights are."""
    weight = next(model.parameters(), None)
    return torch.device("cpu") if weight is None else weight.device


def as_shown(model: nn.Module, feed: Feed, image: Tensor) -> Tensor:
    """Images (B, C, H, W) as *model* is shown them: on its device, normalised, in its precision."""
    shown = feed(image.to(device_of(model), non_blocking=True))
    of = {weight.dtype for weight in model.parameters() if weight.is_floating_point()}
    if len(of) == 1 and shown.is_floating_point():  # a model in half precision takes images of it
        shown = shown.to(of.pop())
    return shown


def _chosen(answer: Tensor | tuple[Tensor, Tensor], task: str) -> Tensor:
    return answer[task == CLASSIFICATION] if isinstance(answer, tuple) else answer


def _answer(step: Step, task: str) -> Tensor:
    return step.labels if task == CLASSIFICATION and step.labels is not None else step.logits
