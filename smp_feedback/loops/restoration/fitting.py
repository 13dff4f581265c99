"""Whether a base and a restorer fit one another."""

from __future__ import annotations

from torch import Tensor, nn

from smp_feedback.errors import InvalidInput, InvalidType, SurgeryError
from smp_feedback.ops.maps import size_of
from smp_feedback.restorers.base import Restored
from smp_feedback.surgery.probe import Probe


def check_size(base: nn.Module, seen: Probe) -> None:
    """*base* answers with maps of its image's size, as a dry run has *seen*.

    Raises:
        SurgeryError: If it does not.
    """
    if size_of(seen.logits) != size_of(seen.image):
        raise SurgeryError(
            f"feedback='restoration' multiplies logits and image: {type(base).__name__} gives "
            f"{tuple(seen.logits.shape)} of an image {tuple(seen.image.shape)}; expected logits of the image's size."
        )


def check_restored(restored: object, image: Tensor) -> None:
    """*restored* is a restoration of *image*.

    Raises:
        InvalidType, InvalidInput: If it is none, or one of another shape.
    """
    if not isinstance(restored, Restored):
        raise InvalidType(f"The restorer gives a {type(restored).__name__}: expected a Restored(image, displacement).")
    if restored.image.shape != image.shape:
        raise InvalidInput(
            f"The restorer gives an image {tuple(restored.image.shape)} of one {tuple(image.shape)}: expected the same "
            "shape."
        )
