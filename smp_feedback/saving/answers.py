"""What is saved answers as it did: the base that its arguments build, with its weights, held against the one there.

Hooks, forwards replaced on an object, classes of the same name and attributes changed later show in no weight, and
would not come back from disk.
"""

from __future__ import annotations

import warnings
from typing import Any, cast

import torch
from torch import Tensor, nn

from smp_feedback.errors import FeedbackError
from smp_feedback.saving.described import fresh_base
from smp_feedback.surgery.cuts import answering_logits, cut_of
from smp_feedback.surgery.extension import evaluating, plain_class
from smp_feedback.surgery.hooks import hook_of, replaced_forward
from smp_feedback.surgery.probe import noise, rectangles, sizes
from smp_feedback.surgery.proof import same


def check_answers(model: Any, origin: dict[str, Any]) -> None:
    """The base of *model* answers a small image as the base that comes back will; one look of both, nothing drawn.

    Where the base cannot be built or asked here (a builder's own needs, another device), nothing is said.

    Args:
        model: A looping model; it shares its weights with the base that is built, for as long as this takes.
        origin: How its base is built, as :func:`smp_feedback.saving.described.described` gives it.

    Raises:
        FeedbackError: If it does not.
    """
    if any(
        hasattr(parameter, "placements") for parameter in model.parameters()
    ):  # sharded: a look is for all processes
        return
    with torch.random.fork_rng(devices=[]), evaluating(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if (asked := _ask(model)) is None:
            return
        image, ours = asked
        cause = None if _called_as_it_is(model, image) else "by a hook, or a forward, of the object itself"
        if cause is None and (again := _again(model, origin)) is not None:
            cause = _cause(model, again, image, ours)
    if cause is not None:
        raise FeedbackError(
            f"This {plain_class(model).__name__} answers otherwise than the one that its arguments and weights build "
            f"({cause}), and would not come back from disk as it is: keep its state_dict() beside the code that "
            "changes it, or register an architecture that builds it."
        )


def _called_as_it_is(model: nn.Module, image: Tensor) -> bool:
    """Whether ``model(image)`` is what its class computes; asked only where something on the object says otherwise."""
    if not replaced_forward(model) and hook_of(model) is None:
        return True
    torch.manual_seed(0)
    called = _tensors(model(image))
    torch.manual_seed(0)
    return all(map(same, called, _tensors(cast(Any, type(model)).forward(model, image))))


def _ask(model: Any) -> tuple[Tensor, list[Tensor]] | None:
    """The first small image that the base takes, and its answer outside of any loop."""
    count, base = model.feedback.in_channels, plain_class(model)
    for size in [*rectangles(model), *((side, side) for side in sizes(model)[:3])]:
        try:
            image = noise(model, (1, count, *size))
            return image, _tensors(cut_of(model).answer(base.forward(model, image), (image.shape[-2], image.shape[-1])))
        except Exception:  # as many ways as there are models
            continue
    return None


def _again(model: Any, origin: dict[str, Any]) -> nn.Module | None:
    """The base that *origin* builds, evaluating, of the very tensors of *model*."""
    again = fresh_base(origin)
    if again is None:
        return None
    again.load_state_dict(model.feedforward_state_dict(), strict=False, assign=True)
    there = dict(model.named_buffers())
    for name, buffer in list(again.named_buffers()):
        if name in there and buffer.is_meta:  # that no state dict holds
            part, _, key = name.rpartition(".")
            again.get_submodule(part)._buffers[key] = there[name]
    return answering_logits(again).eval()


def _cause(model: nn.Module, again: nn.Module, image: Tensor, ours: list[Tensor]) -> str | None:
    """Why *again* answers otherwise than *ours*, in words; None if it answers the same, or cannot be asked here."""
    try:
        theirs = _tensors(again(image))
    except Exception:  # what it lacks here is not ours to say
        return None
    alike = len(ours) == len(theirs) and all(map(same, ours, theirs))
    return None if alike else _culprit(model, again)


def _tensors(answer: Any) -> list[Tensor]:
    """Logits, and labels if there are some."""
    return [one for one in (answer if isinstance(answer, tuple) else (answer,)) if isinstance(one, Tensor)]


def _culprit(model: nn.Module, again: nn.Module) -> str:
    """In words, the first part that shows why; most attributes show nothing."""
    made = dict(again.named_modules())
    for name, part in model.named_modules():
        if not name or name not in made:
            continue
        if replaced_forward(part):
            return f"the forward of {name} was replaced on the object"
        if (hook := hook_of(part)) is not None:
            return f"{name} has a {hook}"
        if plain_class(part) is not plain_class(made[name]):
            return f"{name} is a {plain_class(part).__module__}.{plain_class(part).__qualname__}"
    return "an attribute or a method of one of its parts was changed"
