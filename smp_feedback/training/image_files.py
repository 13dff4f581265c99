"""Images that nobody has labelled, read as those were that a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from smp_feedback.config.data import DataConfig
from smp_feedback.data.augment import resize
from smp_feedback.data.folders.finding import find_images, warn_left_out
from smp_feedback.data.images.reader import ImageReader, as_unit
from smp_feedback.data.items import height_width, in_unit
from smp_feedback.errors import InvalidInput
from smp_feedback.exporting.serving import stride_of
from smp_feedback.ops.maps import Size, size_of
from smp_feedback.ops.reading import CLASSIFICATION


class ImageFiles(Dataset[tuple[Tensor, Tensor]]):
    """Images without targets (the target is an empty tensor).

    Args:
        path: An image, a folder of images, those in subfolders included, or some files.
        size: Side, or (H, W), to which they are resized; None leaves them.
        config: What the model expects of them; None takes any, read as they usually are.

    Attributes:
        as_bytes: Whether images of 8 bits stay bytes, for who makes them [0, 1] window by window.
        left_out: Files beside them that look like images and are not read; said once in a warning.
        samples: (path,) of each.
        stride: What sides are a multiple of, where *size* is None: an image of others is made up to that much larger.

    Raises:
        InvalidValue: If there is no image.
        InvalidInput: On access, naming the file: if it cannot be read, or has other channels than *config* says.
    """

    as_bytes = False
    normalised = False  # whoever shows images to a model normalises them

    def __init__(
        self,
        path: str | Path | Sequence[Path],
        size: int | Sequence[int] | None = None,
        config: DataConfig | None = None,
    ) -> None:
        self.size = None if size is None else height_width(size, least=1)
        self.config, self.reader, self.stride = config, _reader(config), 1
        self.left_out: tuple[Path, ...] = ()
        if isinstance(path, (str, Path)):
            self.paths, left_out = find_images(path)
            self.left_out = tuple(file for _, file in left_out)
            warn_left_out(path, left_out, len(self.paths))
        else:
            self.paths = [*path]

    @property
    def samples(self) -> list[tuple[Path]]:
        """The files."""
        return [(path,) for path in self.paths]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.whole(index)
        size = self.size or divisible(size_of(image), self.stride)
        if size != size_of(image):
            image = resize(image, size)
        return in_unit(image if self.as_bytes else as_unit(image), self.name(index)), torch.empty(0)

    def whole(self, index: int) -> Tensor:
        """The image as large as its file, bytes, or float32 in [0, 1]."""
        image = self.reader.read(self.paths[index])
        if self.config is not None and len(image) != self.config.channels:
            raise InvalidInput(
                f"{self.paths[index]} has {len(image)} channels: expected {self.config.channels}, as the images that "
                "the model was trained on."
            )
        return image

    def name(self, index: int) -> str:
        """The file's path."""
        return str(self.paths[index])


def divisible(size: Size, stride: int) -> Size:
    """*size*, or the next larger one whose sides *stride* divides.

    >>> divisible((360, 640), 32), divisible((64, 64), 32)
    ((384, 640), (64, 64))
    """
    height, width = (-(-side // stride) * stride for side in size)
    return height, width


def fit_to(files: ImageFiles, model: nn.Module, task: str) -> None:
    """Let images of *files* that keep their own sizes be made up to those that *model* takes."""
    takes_any = not getattr(model, "requires_divisible_input_shape", True)
    files.stride = 1 if takes_any or task == CLASSIFICATION else stride_of(model)


def _reader(config: DataConfig | None) -> ImageReader:
    """What reads files as those were that a model of *config* was trained on."""
    if config is None:
        return ImageReader()
    chosen = config.bands is not None or config.channels in (1, 2, 4)  # else as files are: of these, alpha may be one
    return ImageReader(bands=config.bands, scale=config.scale, channels=config.channels if chosen else None)
