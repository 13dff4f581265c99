"""Any network that makes an image of an image, as a restorer."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from smp_feedback.config.restoration import LEARNT, MEAN, Restoration
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.registry.public import catalogue
from smp_feedback.restorers.base import Restored, Restorer
from smp_feedback.restorers.unet import RestorationUnet, Transfer


class Painting(Restorer):
    """An image-to-image network that knows nothing of feedback: it is shown the image with the feedback painted in.

    Args:
        network: ``(B, C, H, W) -> (B, C, H, W)``.
        in_channels: C.
        feedback_channels: Channels of the feedback: C times the classes.
        weight: Of the feedback, beside the image; ``learnt`` is a parameter that begins at 0.

    Attributes:
        brought: Who brought the network, as an error says it behind its name; nothing of ours.
    """

    brought = ""

    def __init__(self, network: nn.Module, in_channels: int, feedback_channels: int, *, weight: float | str) -> None:
        super().__init__()
        self.network = network
        self.weight = nn.Parameter(torch.zeros(())) if isinstance(weight, str) else weight
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
                f"The restorer {type(self.network).__name__}{self.brought} gives {got} of an image "
                f"{tuple(image.shape)}: expected an image of the same shape."
            )
        return Restored(made)


def build_restorer(config: Restoration, in_channels: int, classes: int) -> Restorer:
    """The restorer that *config* names; a network that is none is taken as one from image to image.

    Args:
        config: The loop's config.
        in_channels: Channels C of the image.
        classes: Channels of the logits.

    Raises:
        InvalidType: If its builder gives no module.
        InvalidValue: If it shall be shown the mean of what it has restored, or learn the weight of the feedback, and is
            a network that cannot.
    """
    made = catalogue().restorers.make(config.restorer, config, in_channels, classes)
    if config.carry == MEAN and not getattr(made, "shown_mean", False):
        raise InvalidValue(
            f"carry='mean' with restorer={config.restorer!r}, which is not shown the mean of what it has restored; "
            "take restorer='unet', or carry='feedback'."
        )
    if isinstance(made, Restorer) and LEARNT in [value for value in vars(made).values() if isinstance(value, str)]:
        raise InvalidValue(
            f"weight='learnt' with restorer={config.restorer!r}, which takes a number; give one, such as 1e-3, or take "
            "restorer='unet'."
        )
    if isinstance(made, Restorer):
        return made
    if not isinstance(made, nn.Module):
        whose = f"restorer={config.restorer!r}{catalogue().restorers.brought(config.restorer)}"
        raise InvalidType(f"{whose} gives a {type(made).__name__}: expected a torch.nn.Module.")
    painting = Painting(made, in_channels, in_channels * classes, weight=config.weight)
    painting.brought = catalogue().restorers.brought(config.restorer)
    return painting


def unet(config: Restoration, in_channels: int, classes: int) -> RestorationUnet:
    """The published one, of the config's size."""
    size: dict[str, Any] = {"depth": config.depth, "filters": config.filters, "reach": config.reach}
    mean = config.carry == MEAN
    carried = {"shown_mean": mean, "keeps": mean and config.rate == LEARNT}
    return RestorationUnet(in_channels, in_channels * classes, **size, weight=config.weight, **carried)
