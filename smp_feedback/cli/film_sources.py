"""Where the frames of a film come from: a file, a camera, or a folder of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, NamedTuple

from torch import Tensor

from smp_feedback.config.data import DataConfig
from smp_feedback.data.films.video import VideoFrames
from smp_feedback.data.films.webcam import Webcam
from smp_feedback.data.folders.finding import find_images
from smp_feedback.training.image_files import ImageFiles


class Source(NamedTuple):
    """A film to be read.

    Attributes:
        frames: Makes them, (C, H, W) each, for a model of this config; read when they are asked for.
        rate: Frames a second.
        times: When each is shown, in seconds, where that is not so many a second; asked for after its frame.
        pixel: How wide a pixel is shown, over how high.
        length: How many there are, as far as that is known.
        names: What they are called, where they are files.
        endless: Whether there are always more.
    """

    frames: Callable[[DataConfig], Iterable[Tensor]]
    rate: Fraction | float = 25.0
    length: int | None = None
    names: list[str] | None = None
    endless: bool = False
    times: Iterable[Fraction] | None = None
    pixel: Fraction = Fraction(1)


@contextmanager
def source_of(args: Any) -> Iterator[Source]:
    """The film that is asked for, opened; it is closed behind.

    Raises:
        InvalidValue, InvalidInput: If there is none.
    """
    count = args.frames
    if args.camera is not None:
        camera = Webcam(args.camera)
        try:
            times = iter(lambda: camera.times.popleft(), None)  # there is one whenever there is a frame
            yield Source(lambda _: camera, camera.rate, count, endless=True, times=times)
        finally:
            camera.close()
    elif args.video is not None:
        yield of_video(args.video, count)
    else:
        names = [str(path) for path in find_images(args.images)[0]][:count]
        yield Source(lambda config: _read(args.images, config), length=len(names), names=names)


def _read(folder: str, config: DataConfig) -> Iterator[Tensor]:
    files = ImageFiles(folder, None, config)
    return (files[i][0] for i in range(len(files)))


def of_video(path: str, most: int | None) -> Source:
    """The film in the file at *path*."""
    film = VideoFrames(path)
    count = film.length if most is None or film.length is None else min(most, film.length)
    return Source(lambda _: film, film.fps, count, times=film.times, pixel=film.pixel)
