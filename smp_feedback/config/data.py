"""What a model expects of its images, and what its answers mean: saved with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What a model was trained on.

    Attributes:
        mean: What is taken off each channel of an image in [0, 1]; None leaves images as they are.
        std: What is then divided by.
        size: (H, W) of the images it was trained on, in pixels; None where they differ.
        bands: Of each file, those that are read, counted from 1; None is all.
        channels: Channels of an image.
        scale: How a file's values become [0, 1]: a (low, high) of each band, or ``percentile``; None is by its dtype.
        classes: Names of labels 0, 1, ...
        ignore_index: The label that counts for nothing; None if there is none.
        task: ``segmentation``, ``multilabel`` or ``classification``.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None
    bands: tuple[int, ...] | None = None
    channels: int = 3
    scale: tuple[tuple[float, float], ...] | str | None = None
    classes: tuple[str, ...] = ()
    ignore_index: int | None = None
    task: str = "segmentation"
