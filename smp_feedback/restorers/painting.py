"""Any network that makes an image of an image, as a restorer."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from smp_feedback.errors import InvalidInput
from smp_feedback.restorers.base import Restored, Restorer
from smp_feedback.restorers.unet import Transfer


class Painting(Restorer):
    """An image-to-image network that knows nothing of feedback: it is shown the image with the feedback painted in.

    Args:
        network: ``(B, C, H, W) -> (B, C, H, W)``.
        in_channels: C.
        feedback_channels: Channels of the feedback: C times the classes.
        weight: Of the feedback, beside the image.
    """

    def __init__(self, network: nn.Module, in_channels: int, feedback_channels: int, *, weight: float) -> None:
        super().__init__()
        self.network, self.weight = network, weight
        self.transfer = Transfer(feedback_channels, in_channels, stride=1)
        self.transfer.requires_grad_(bool(weight))

    def restore(self, image: Tensor, begun: tuple[Tensor, ...], feedback: Tensor | None) -> Restored:
        """The network's image.

        Raises:
            InvalidInput: If it is of another shape than the one it was given.
        """
        shown = image if feedback is None else image + self.weight * self.transfer(feedback)
        made = cast(Tensor, self.network(shown))
        if not isinstance(made, Tensor) or made.shape != image.shape:
            got = tuple(made.shape) if isinstance(made, Tensor) else f"a {type(made).__name__}"
            raise InvalidInput(
                f"The restorer {type(self.network).__name__} gives {got} of an image {tuple(image.shape)}: expected an "
                "image of the same shape."
            )
        return Restored(made)
