"""A video file as a dataset of frames, with masks for some of them or for all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import torch
from torch import Tensor
from torch.utils.data import Dataset

from smp_feedback.data.augment import Augmentation, as_item, as_transform
from smp_feedback.data.draws import once_a_clip
from smp_feedback.data.files import LABEL_SUFFIXES, absent, as_path, by, some
from smp_feedback.data.films.video import VideoFrames, as_tensor, opened, shown_at
from smp_feedback.data.folders.films import NUMBER
from smp_feedback.data.items import Sample, checked_index, height_width
from smp_feedback.data.masks.colours import Colours
from smp_feedback.data.masks.reader import MaskReader
from smp_feedback.errors import InvalidInput, InvalidValue


class LabelledVideo(Dataset[Sample]):
    """The frames of a video file, with the masks of a folder: one film.

    Masks are files whose last number is that of their frame, from *first*: ``12.png`` or ``mask_0012.png``. A frame
    without one has a mask that is full of *ignore_index*. The frames of a clip are read one after the other; a single
    one costs the way from the key frame before it.

    Args:
        path: The video.
        masks: The folder of masks.
        classes: Names of labels 0, 1, ...
        ignore_index: A label that counts for nothing; None if there is none, and every frame has a mask.
        size: Side, or (H, W), in pixels, to which frames and masks are resized; None leaves them.
        transform: Augmentation of the resized pair, see `MaskFolder`.
        first: The number of the first frame.
        values, colours, offset: What masks hold instead of labels, see `MaskReader`.

    Raises:
        InvalidValue: If a file is missing, two masks are one frame's, a mask belongs to no frame, or frames have none
            and *ignore_index* is None.
        InvalidInput: If the video cannot be read, or, on access, a mask is none of its frame.
        MissingExtra: If PyAV is not installed.

    >>> import tempfile
    >>> from PIL import Image
    >>> from smp_feedback.data import write_video
    >>> root = Path(tempfile.mkdtemp())
    >>> video = write_video(root / "a.mp4", torch.rand(4, 3, 16, 16), 25)
    >>> Image.new("L", (16, 16), 1).save(root / "frame_2.png")
    >>> data = LabelledVideo(video, root, classes=("ground", "thing"), ignore_index=255)
    >>> data.films, [mask.unique().item() for _, mask in data], data.name(2)[-14:]
    ((range(0, 4),), [255, 255, 1, 255], 'a.mp4, frame 2')
    """

    normalised = False

    def __init__(
        self,
        path: str | Path,
        masks: str | Path,
        *,
        classes: Sequence[str],
        ignore_index: int | None = None,
        size: int | Sequence[int] | None = None,
        transform: Augmentation = None,
        first: int = 0,
        values: Mapping[Any, Any] | None = None,
        colours: Colours | None = None,
        offset: int = 0,
    ) -> None:
        self.path = VideoFrames(path).path
        self.size = None if size is None else height_width(size, least=1)
        mean: dict[str, Any] = {"values": values, "colours": colours, "offset": offset}
        self.reader = MaskReader(classes=classes, ignore_index=ignore_index, **mean)
        self.classes, self.ignore_index = tuple(self.reader.classes), ignore_index
        self.transform = as_transform(transform)
        self.times = shown_at(self.path)[0]
        self.masks = _masks(as_path("masks", masks), first, len(self.times))
        if ignore_index is None and (without := [n for n in range(len(self)) if n not in self.masks]):
            raise InvalidValue(
                f"{masks}: {len(without)} of {len(self)} frames have no mask, such as frame {without[0] + first}: "
                "write ignore_index=255, of which their masks are full then."
            )

    @property
    def films(self) -> tuple[range, ...]:
        """One, of all frames."""
        return (range(len(self)),)

    def name(self, index: SupportsIndex) -> str:
        """The path, and which frame."""
        return f"{self.path}, frame {checked_index(index, len(self))}"

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        number = checked_index(index, len(self))
        image = once_a_clip((id(self), "frames"), lambda: _Playing(self.path, self.times)).frame(number)
        mask = self._mask(number, image)
        return as_item(image, mask, size=self.size, transform=self.transform, name=self.name(number))

    def _mask(self, number: int, image: Tensor) -> Tensor:
        path = self.masks.get(number)
        if path is None:
            return torch.full(image.shape[-2:], self.ignore_index or 0)
        mask = self.reader.read(path)
        if mask.shape != image.shape[-2:]:
            raise InvalidInput(
                f"{path} has {by(mask.shape)} pixels, {self.name(number)} has {by(image.shape[-2:])}: expected the "
                "same size."
            )
        self.reader.check(mask, path)
        return mask


class _Playing:
    """A video that goes on from the frame that it gave last, or is sought."""

    def __init__(self, path: Path, times: Sequence[int]) -> None:
        self.path, self.times = path, times
        self.next = -1
        self.frames: Iterator[Any] = iter(())

    def frame(self, number: int) -> Tensor:
        """Frame *number*."""
        if not self.next <= number <= self.next + 8 or self.next < 0:
            self.frames = self._from(number)
        for frame in self.frames:
            if frame.pts == self.times[number]:
                self.next = number + 1
                return as_tensor(frame)
            if frame.pts > self.times[number]:
                break
        raise InvalidInput(f"{self.path}: frame {number} cannot be read.")

    def _from(self, number: int) -> Any:
        """The frames from the key frame before *number*."""
        with opened(self.path) as (container, stream):
            container.seek(self.times[number], stream=stream)
            yield from container.decode(stream)


def _masks(folder: Path, first: int, frames: int) -> dict[int, Path]:
    """The mask of each frame that has one."""
    if not folder.is_dir():
        raise InvalidValue(f"{folder}: expected the folder of masks; {absent(folder)}")
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        number = NUMBER.search(path.stem)
        if path.suffix.lower() not in LABEL_SUFFIXES or path.name.startswith("."):
            continue
        place = int(number[0]) - first if number else -1
        if not 0 <= place < frames:
            raise InvalidValue(
                f"{path} belongs to no frame: expected a name whose last number is {first} to {first + frames - 1}; "
                "first= is the number of the first frame."
            )
        if place in found:
            raise InvalidValue(f"{folder}: {some([found[place].name, path.name])} are masks of one frame.")
        found[place] = path
    if not found:
        raise InvalidValue(f"{folder}: expected masks ({', '.join(LABEL_SUFFIXES)}), found none.")
    return found
