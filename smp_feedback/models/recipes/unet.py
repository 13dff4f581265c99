"""The U-Nets of Deep Recurrence for Dynamical Segmentation Models (arXiv 2507.10143), of smp's parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.base import SegmentationHead

from smp_feedback.models.recipes.reading import reading_first


class NeumannUnet(smp.Unet):  # type: ignore[misc]
    """smp's U-Net whose decoder ends in K channels more than its head reads.

    Args:
        encoder_name: As in smp; resnet34 as published.
        encoder_weights: As in smp; None is random, as published.
        in_channels: Channels of the image.
        classes: Channels of the logits.
        feedback_channels: Channels that are fed back, K.
        decoder_channels: Widths of the decoder; the last, 16 as published, is what the head reads.
        activation: As in smp.
        **kwargs: As smp's Unet takes them.

    >>> import torch, smp_feedback as smpf
    >>> model = smpf.create("NeumannUnet", encoder="resnet18", classes=2, feedback={"steps": 3}).eval()
    >>> model.trajectory(torch.rand(1, 3, 32, 32)).shape, model.feedback.dynamics.channels
    (torch.Size([3, 1, 2, 32, 32]), 18)
    """

    def __init__(
        self,
        encoder_name: str = "resnet34",
        encoder_weights: str | None = None,
        in_channels: int = 3,
        classes: int = 1,
        feedback_channels: int = 0,
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
        activation: Any = None,
        **kwargs: Any,
    ) -> None:
        *widths, last = decoder_channels
        super().__init__(
            encoder_name,
            encoder_weights=encoder_weights,
            in_channels=in_channels,
            decoder_channels=(*widths, last + feedback_channels),
            **kwargs,
        )
        self.feedback_channels = feedback_channels
        head = SegmentationHead(last, classes, activation=activation, kernel_size=3)
        self.segmentation_head = reading_first(head, last)


class DirichletUnet(smp.Unet):  # type: ignore[misc]
    """smp's U-Net, as it is; the loop takes its logits for evidence and feeds back their entropy.

    Args:
        encoder_name: As in smp; resnet34 as published.
        encoder_weights: As in smp; None is random, as published.
        in_channels: Channels of the image.
        classes: Channels of the logits, two or more.
        **kwargs: As smp's Unet takes them.
    """

    def __init__(
        self,
        encoder_name: str = "resnet34",
        encoder_weights: str | None = None,
        in_channels: int = 3,
        classes: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            encoder_name, encoder_weights=encoder_weights, in_channels=in_channels, classes=classes, **kwargs
        )
