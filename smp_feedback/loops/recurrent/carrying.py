"""A state that is carried on from call to call: of which look, by which dynamics, to an image of which size."""

from __future__ import annotations

from torch import Tensor, nn

from smp_feedback.config.recurrent import carrying
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.loops.recurrent.state import RecurrentFeedback
from smp_feedback.loops.recurrent.step import at_least_single
from smp_feedback.loops.steps import Step
from smp_feedback.ops.maps import size_of


def check_carries(recurrent: RecurrentFeedback, asked: str) -> None:
    """The state goes on from call to call, as what was *asked* needs.

    Raises:
        InvalidValue: If the dynamics answer a look by its place in the call, with those that do not.
    """
    if not recurrent.dynamics.carries:
        raise InvalidValue(
            f"{asked} dynamics={recurrent.config.dynamics!r} weighs each look by its place in the call, so no other "
            f"call can go on from it; take dynamics={' or '.join(map(repr, carrying()))}."
        )


def check_fits(before: object, image: Tensor, channels: int) -> Step:
    """*before* is a look that a call with *image* can go on from, by its streams and the *channels* of its state.

    Raises:
        InvalidType: If it is no look.
        InvalidInput: If it is of another batch size, or of a model whose state has other channels.
    """
    if not isinstance(before, Step):
        raise InvalidType(
            f"before={before!r:.80} ({type(before).__name__}): expected a Step that look or iterate gave, or None."
        )
    made, expected = tuple(before.state.shape[:2]), (image.shape[0], channels)
    if made != expected:
        raise InvalidInput(
            f"before: its state is of {made[0]} images and {made[1]} channels; expected {expected[0]} and "
            f"{expected[1]}, those of this batch and this model. After a cut begin anew, with before=None."
        )
    return before


def check_before(recurrent: RecurrentFeedback, before: object, image: Tensor) -> Step:
    """*before* is a look that a call with *image* can go on from.

    Raises:
        InvalidType: If it is no look.
        InvalidInput: If it is of another batch size, or of a model whose state has other channels, or its state is no
            map and the image of another size.
    """
    found = check_fits(before, image, recurrent.dynamics.width)
    if recurrent.placeless is not None and found.size != size_of(image):
        raise InvalidInput(
            f"before: its image was {found.size[0]} x {found.size[1]} px and this one is {image.shape[-2]} x "
            f"{image.shape[-1]}: a state of tokens is no map that could be resized; expected one size."
        )
    return found


def check_channels(channels: int, state: Tensor) -> None:
    """A saved *state* is one of this model's.

    Raises:
        InvalidInput: If it has other channels.
    """
    if state.shape[1] != channels:
        raise InvalidInput(
            f"A state of {state.shape[1]} channels: this model's has {channels}; expected a look that this model, or "
            "a copy, saved."
        )


def check_labels(model: nn.Module, features: Tensor | None) -> None:
    """The *features* of a saved look are what *model* makes labels of, if it makes any.

    Raises:
        InvalidInput: If it has none for a head, or some for none; what has no place for such a head is not known.
    """
    head = getattr(model, "classification_head", features)
    if (head is None) != (features is None):
        said = "no features, which this model's labels" if features is None else "features, of which no labels"
        raise InvalidInput(f"A saved look with {said} are made of; expected a look that this model, or a copy, saved.")


def found_by(recurrent: RecurrentFeedback, before: Step, image: Tensor) -> Step:
    """*before* as *image* finds it: in its precision, and resized where it leads to another size."""
    carried = before.to(at_least_single(image).dtype)
    return carried if before.size == size_of(image) else carried.resized(size_of(image), recurrent.state_size(image))
