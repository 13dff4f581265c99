"""Ways back up: what undoes a 2 x 2 max pooling, and the linear convolution that comes with it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from smp_feedback.ops.maps import Size, size_of


def repeat(u: Tensor, size: Size) -> Tensor:
    """Each value of *u* (B, C, h, w) in its 2 x 2 window; zeros at the bottom and right, up to *size*, have none.

    >>> import torch
    >>> repeat(torch.tensor([[[[5.0]]]]), (2, 3))
    tensor([[[[5., 5., 0.],
              [5., 5., 0.]]]])
    """
    up = F.interpolate(u, scale_factor=2, mode="nearest")
    return F.pad(up, (0, size[1] - up.shape[-1], 0, size[0] - up.shape[-2]))


def put_back(u: Tensor, read: Tensor, pooled: Tensor) -> Tensor:
    """Each value of *u* where the pooling of *read* found its maximum, and zeros elsewhere.

    Where several pixels of a window share the maximum (after a ReLU often 0), each of them gets the value. This is
    what the published code does on a CPU: the gradient of the pooling is its mask, and there ties all get 1.

    Args:
        u: (B, C, h, w), to be unpooled.
        read: (B, C, H, W), what the pooling read, h = floor(H / 2); a last odd row or column was in no window.
        pooled: (B, C, h, w), what it gave.

    Returns:
        (B, C, H, W).

    >>> import torch
    >>> read = torch.tensor([[[[1.0, 3.0], [3.0, 2.0]]]])
    >>> put_back(torch.tensor([[[[5.0]]]]), read, F.max_pool2d(read, 2))
    tensor([[[[0., 5.],
              [5., 0.]]]])
    """
    size = size_of(read)
    return repeat(u, size).where(read == repeat(pooled, size), 0)


class Tracked(nn.Conv2d):
    """Values go back where the maxima were (:func:`put_back`), then a 3 x 3 convolution.

    Args:
        channels: Channels that come from below.
        width: Of the answer.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width, 3, padding=1)

    def forward(self, u: Tensor, read: Tensor, pooled: Tensor) -> Tensor:  # type: ignore[override]
        """Args as in :func:`put_back`; gives (B, width, H, W)."""
        return super().forward(put_back(u, read, pooled))


class Nearest(Tracked):
    """As :class:`Tracked`, with each value in its whole window."""

    def forward(self, u: Tensor, read: Tensor, pooled: Tensor) -> Tensor:  # type: ignore[override]
        """Args as in :func:`put_back`, of which *read* tells the size alone."""
        return nn.Conv2d.forward(self, repeat(u, size_of(read)))


class Transposed(nn.ConvTranspose2d):
    """A transposed 4 x 4 convolution of stride 2, which takes the place of unpooling and convolution.

    It is cropped so that each value lies in the middle of what it gives, and that begins where *read* does.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width, 4, stride=2)

    def forward(self, u: Tensor, read: Tensor, pooled: Tensor) -> Tensor:  # type: ignore[override]
        """Args as in :func:`put_back`, of which *read* tells the size alone."""
        return super().forward(u)[..., 1 : 1 + read.shape[-2], 1 : 1 + read.shape[-1]]


UNPOOLINGS: dict[str, type[nn.Module]] = {"tracked": Tracked, "transposed": Transposed, "nearest": Nearest}
