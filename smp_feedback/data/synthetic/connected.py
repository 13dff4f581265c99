"""Blobs: which of them is the marked one, and how far does it reach?"""

from __future__ import annotations

import numpy as np

from smp_feedback.data.synthetic.base import Scene, Synthetic
from smp_feedback.data.synthetic.grids import distances, framed, pixels_at
from smp_feedback.data.synthetic.rasterise import Floats

MARK = (1.0, 0.0, 0.0)  # red
SMOOTH = 1.0  # pixels, the standard deviation of the Gaussian that makes blobs of noise
LEVEL = -0.1  # standard deviations; above it lie 54 %, just enough for blobs to join across any image


class Connected(Synthetic):
    """White blobs on black, one pixel of one of them red; the class of every pixel connected to that is 1.

    Connected is what a walk over blobs leads to, from each pixel to one of its four neighbours. Blobs are where a
    smooth Gaussian field lies above a level near the percolation threshold: at 16 to 128 pixels a side the marked blob
    holds, in the mean, half to two thirds of all that is white, and the way from the mark to its farthest pixel is, in
    the median, 1.1 to 1.8 sides long. The rule is local, its reach is not: train on small images, test on large ones.

    The mark is a random white pixel, so that a blob is marked the more often the larger it is.

    Args:
        split, root, size, seed, count, noise, transform: See `Synthetic`.

    >>> image, mask = Connected("test", size=32)[0]
    >>> image.shape, mask.unique(), bool((image[0] >= mask).all())
    (torch.Size([3, 32, 32]), tensor([0, 1]), True)
    """

    kind = "connected"
    classes = ("background", "connected")

    def scene(self, rng: np.random.Generator) -> Scene:
        """Blobs, and the one that is marked."""
        field = smooth_field(self.size, SMOOTH, rng)
        blobs = field >= min(LEVEL, field.max())  # there is one, whatever was drawn
        white = np.flatnonzero(blobs)
        y, x = divmod(int(white[rng.integers(len(white))]), self.size[1])
        row = self.size[1] + 2
        reached = distances(framed(blobs), row, (y + 1) * row + x + 1)
        image = np.repeat(blobs[None], 3, axis=0).astype(np.float32)
        image[:, y, x] = MARK
        return image, pixels_at(reached, self.size).astype(np.int64)


def smooth_field(size: tuple[int, int], sigma: float, rng: np.random.Generator) -> Floats:
    """White noise under a Gaussian of *sigma* pixels: (H, W), of mean 0 and variance 1 at every pixel.

    The noise reaches beyond the border, so that the field is the same there as in the middle.
    """
    reach = int(np.ceil(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= np.linalg.norm(weights)  # the variance of a weighted sum is the sum of squares
    height, width = size
    field = rng.standard_normal((height + 2 * reach, width + 2 * reach))
    field = sum(weight * field[i : i + height] for i, weight in enumerate(weights))
    return np.asarray(sum(weight * field[:, i : i + width] for i, weight in enumerate(weights)))
