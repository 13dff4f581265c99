"""What a restoration network is to the loop: what is computed once, and one restoration under feedback."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from smp_feedback.errors import InvalidInput


class Restored(NamedTuple):
    """What a restoration gives.

    Attributes:
        image: The restored image (B, C, H, W).
        displacement: Where its pixels were read, in pixels (B, 2, H, W): rows, columns; None of a network that paints.
        keep: How much of the mean of the images before shall stay, in (-1, 1) (B, 1, H, W); None of a network that
            does not say.
    """

    image: Tensor
    displacement: Tensor | None = None
    keep: Tensor | None = None


class Restorer(nn.Module):
    """A restoration network that hears what the segmentation has concluded."""

    shown_mean: bool = False
    """Whether it is shown the mean of the images restored before: its :meth:`begin` takes that as a second argument."""

    def begin(self, image: Tensor) -> tuple[Tensor, ...]:
        """What no feedback reaches, computed once per image: nothing, or tensors (B, ...)."""
        return ()

    def restore(self, image: Tensor, begun: tuple[Tensor, ...], feedback: Tensor | None) -> Restored:
        """One restoration.

        Args:
            image: The distorted image (B, C, H, W): every restoration begins there.
            begun: As :meth:`begin` gave it.
            feedback: Change of class scores times restored channels, :func:`class_feedback` (B, C * classes, H, W);
                None in the first restoration.
        """
        raise NotImplementedError

    def forward(self, image: Tensor, feedback: Tensor | None = None) -> Restored:
        """Both at once."""
        return self.restore(image, self.begin(image), feedback)


def class_feedback(change: Tensor, image: Tensor, *, absolute: bool = False) -> Tensor:
    """The change of the class scores times each channel of the restored image (B, C * classes, H, W).

    Channels run over the classes first: those of the image's first channel come first.

    Args:
        change: ``p_{t-1} - p_{t-2}`` (B, classes, H, W).
        image: ``z_{t-1}`` (B, C, H, W).
        absolute: The size of the change (as in the paper's figure) instead of the change itself (as in its code).

    Raises:
        InvalidInput: If the two are not maps of as many images and of one size.

    >>> import torch
    >>> change, image = (torch.tensor(x).reshape(1, 2, 1, 1) for x in ([1.0, -2.0], [3.0, 5.0]))
    >>> class_feedback(change, image).flatten()
    tensor([  3.,  -6.,   5., -10.])
    """
    shapes = change.shape, image.shape
    if change.ndim != 4 or image.ndim != 4 or any(shapes[0][i] != shapes[1][i] for i in (0, 2, 3)):
        raise InvalidInput(
            f"change of shape {tuple(change.shape)} and image of shape {tuple(image.shape)}: expected "
            "(B, classes, H, W) and (B, C, H, W)."
        )
    moved = change.abs() if absolute else change
    return (image[:, :, None] * moved[:, None]).flatten(1, 2)
