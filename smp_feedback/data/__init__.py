"""Datasets of (image, mask): shapes drawn on the fly, folders in CamVid's layout, and noise on either.

Every item is an image, float32 (3, H, W) in [0, 1], and a mask, int64 (H, W); every dataset says what its
labels mean in ``classes``, and which label to leave out of losses and scores in ``ignore_index``.
"""

from smp_feedback.data.folder import CAMVID_CLASSES, MaskFolder
from smp_feedback.data.noise import Noisy, Sample, add_noise
from smp_feedback.data.shapes import Shapes

__all__ = ["CAMVID_CLASSES", "MaskFolder", "Noisy", "Sample", "Shapes", "add_noise"]
