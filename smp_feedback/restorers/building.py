"""From the config to a restoration network."""

from __future__ import annotations

from torch import nn

from smp_feedback.errors import InvalidType
from smp_feedback.plugins import catalogue
from smp_feedback.restoration_config import Restoration
from smp_feedback.restorers.base import Restorer
from smp_feedback.restorers.painting import Painting
from smp_feedback.restorers.unet import RestorationUnet


def build_restorer(config: Restoration, in_channels: int, classes: int) -> Restorer:
    """The restorer that *config* names; a network that is none is taken as one from image to image.

    Args:
        config: The loop's config.
        in_channels: Channels C of the image.
        classes: Channels of the logits.

    Raises:
        InvalidType: If its builder gives no module.
    """
    made = catalogue().restorers.make(config.restorer, config, in_channels, classes)
    if isinstance(made, Restorer):
        return made
    if not isinstance(made, nn.Module):
        raise InvalidType(f"restorer={config.restorer!r} gives a {type(made).__name__}: expected a torch.nn.Module.")
    return Painting(made, in_channels, in_channels * classes, weight=config.weight)


def unet(config: Restoration, in_channels: int, classes: int) -> RestorationUnet:
    """The published one, of the config's size."""
    size = {"depth": config.depth, "filters": config.filters}
    return RestorationUnet(in_channels, in_channels * classes, **size, reach=config.reach, weight=config.weight)
