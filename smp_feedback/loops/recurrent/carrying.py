"""A state that is carried on from call to call: of which look, by which dynamics, to an image of which size."""

from __future__ import annotations

from torch import Tensor

from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.loops.recurrent.state import RecurrentFeedback
from smp_feedback.loops.recurrent.step import at_least_single
from smp_feedback.loops.steps import Step
from smp_feedback.ops.maps import resize, size_of
from smp_feedback.registry.public import catalogue


def check_carries(recurrent: RecurrentFeedback, before: object, image: Tensor) -> None:
    """A call with *image* can go on from the look *before*.

    Raises:
        InvalidType: If that is no look.
        InvalidValue: If the dynamics answer a look by its place in the call, with those that do not.
        InvalidInput: If it is of another batch size, or of a model whose state has other channels, or its state is no
            map and the image of another size.
    """
    if not isinstance(before, Step):
        raise InvalidType(
            f"before={before!r:.80} ({type(before).__name__}): expected a Step that iterate gave, or None."
        )
    if not recurrent.dynamics.carries:
        known = catalogue().dynamics
        those = " or ".join(repr(name) for name in known if known[name].carries)
        raise InvalidValue(
            f"before=: dynamics={recurrent.config.dynamics!r} weighs each look by its place in the call, so no other "
            f"call can go on from it; take dynamics={those}."
        )
    made, expected = tuple(before.state.shape[:2]), (len(image), recurrent.dynamics.channels)
    if made != expected:
        raise InvalidInput(
            f"before: its state is of {made[0]} images and {made[1]} channels; expected {expected[0]} and "
            f"{expected[1]}, those of this batch and this model. After a cut begin anew, with before=None."
        )
    if recurrent.placeless is not None and before.size != size_of(image):
        raise InvalidInput(
            f"before: its image was {before.size[0]} x {before.size[1]} px and this one is {image.shape[-2]} x "
            f"{image.shape[-1]}: a state of tokens is no map that could be resized; expected one size."
        )


def carried_state(recurrent: RecurrentFeedback, before: Step, image: Tensor) -> Tensor:
    """The state of *before* as *image* finds it: in its precision, and resized where it leads to another size."""
    state = before.state.to(at_least_single(image).dtype)
    return state if before.size == size_of(image) else resize(state, recurrent.state_size(image))
