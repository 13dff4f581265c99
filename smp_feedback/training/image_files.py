"""Images that nobody has labelled, read as those were that a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from smp_feedback.config.data import DataConfig
from smp_feedback.data.augment import resize
from smp_feedback.data.folders.finding import find_images, warn_left_out
from smp_feedback.data.images.reader import ImageReader, as_unit
from smp_feedback.data.items import height_width, in_unit
from smp_feedback.errors import InvalidInput


class ImageFiles(Dataset[tuple[Tensor, Tensor]]):
    """Images without targets (the target is an empty tensor).

    Args:
        path: An image, or a folder of images, those in subfolders included.
        size: Side, or (H, W), to which they are resized; None leaves them.
        config: What the model expects of them; None takes any, read as they usually are.

    Attributes:
        as_bytes: Whether images of 8 bits stay bytes, for who makes them [0, 1] window by window.
        left_out: Files beside them that look like images and are not read; said once in a warning.

    Raises:
        InvalidValue: If there is no image.
        InvalidInput: On access, naming the file: if it cannot be read, or has other channels than *config* says.
    """

    as_bytes = False
    normalised = False  # whoever shows images to a model normalises them

    def __init__(
        self, path: str | Path, size: int | Sequence[int] | None = None, config: DataConfig | None = None
    ) -> None:
        self.size = None if size is None else height_width(size, least=1)
        self.config, self.reader = config, _reader(config)
        self.paths, left_out = find_images(path)
        self.left_out = tuple(file for _, file in left_out)
        warn_left_out(path, left_out, len(self.paths))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.reader.read(self.paths[index])
        if self.config is not None and len(image) != self.config.channels:
            raise InvalidInput(
                f"{self.paths[index]} has {len(image)} channels: expected {self.config.channels}, as the images that "
                "the model was trained on."
            )
        if self.size:
            image = resize(image, self.size)
        image = image if self.as_bytes else as_unit(image)
        return in_unit(image, self.name(index)), torch.empty(0)

    def name(self, index: int) -> str:
        """The file's path."""
        return str(self.paths[index])


def _reader(config: DataConfig | None) -> ImageReader:
    """What reads files as those were that a model of *config* was trained on."""
    if config is None:
        return ImageReader()
    chosen = config.bands is not None or config.channels in (1, 2, 4)  # else as files are: of these, alpha may be one
    return ImageReader(bands=config.bands, scale=config.scale, channels=config.channels if chosen else None)
