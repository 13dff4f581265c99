"""Video files, read frame by frame: by torchcodec where it is installed and finds FFmpeg, else by PyAV."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smp_feedback.checks import check_choice
from smp_feedback.data.files import absent, as_path, by
from smp_feedback.data.images.limits import check_size
from smp_feedback.errors import DataWarning, InvalidInput, InvalidValue, require

PYAV, TORCHCODEC = "pyav", "torchcodec"
FAILURES = (OSError, ValueError, RuntimeError, LookupError)  # of FFmpeg, whose errors are kinds of these


class VideoFrames:
    """The frames of a video file, one after the other; each pass reads the file anew, and holds a frame at a time.

    Frames are float32 (3, H, W) in [0, 1], upright as the file's rotation says, grey ones as three equal channels; of
    more than 8 bits, all are kept. Frames are those that are shown: all of them, whatever the time between two.

    Args:
        path: The file.
        reader: ``torchcodec`` or ``pyav``; None is torchcodec where it works, and PyAV elsewhere, for more than 8
            bits, which torchcodec converts otherwise, and for AVI, of which it fails at some frames.

    Attributes:
        fps: Frames a second, as the file says it, exactly: a ``Fraction``.
        size: (H, W) of a frame, in pixels, upright.
        pixel: How wide a pixel is shown, over how high, upright; 1 of square ones. Frames are not stretched by it.
        length: How many frames there are, as the file says; None where it does not.

    Raises:
        InvalidValue: If there is no such file.
        InvalidInput: If it is no video, or a broken one; while it is read, if it breaks off.
        MissingExtra: If PyAV is not installed.

    Warns:
        DataWarning: At the end of a pass, if the file holds fewer frames than it says.

    >>> import tempfile
    >>> from smp_feedback.data import write_video
    >>> path = write_video(Path(tempfile.mkdtemp()) / "a.mp4", (torch.full((3, 16, 32), k / 5) for k in range(3)), 25)
    >>> video = VideoFrames(path)
    >>> video.fps, video.size, video.length, [round(frame.mean().item(), 1) for frame in video]
    (Fraction(25, 1), (16, 32), 3, [0.0, 0.2, 0.4])
    """

    def __init__(self, path: str | Path, *, reader: str | None = None) -> None:
        self.path = as_path("path", path)
        if reader is not None:
            check_choice("reader", reader, (TORCHCODEC, PYAV))
        if self.path.is_dir():
            raise InvalidValue(
                f"{self.path} is a folder: expected a video file; frames in a folder are --images DIR --film true of "
                "predict, or open_dataset('folder', films='folder')."
            )
        if not self.path.is_file():
            raise InvalidValue(f"{self.path}: expected a video file; {absent(self.path)}")
        with opened(self.path) as (container, stream):
            first = next(container.decode(stream), None)
            if first is None:
                raise InvalidInput(f"{self.path} holds no frame.")
            self.fps = Fraction(stream.average_rate or stream.guessed_rate or 0)
            self.length: int | None = stream.frames or None
            self.bits = max(component.bits for component in first.format.components)
            pixel = Fraction(stream.sample_aspect_ratio or 1)
            self.pixel = pixel if round(first.rotation / 90) % 2 == 0 else 1 / pixel
            avi = container.format.name == "avi"  # without times: torchcodec fails where frames were reordered
        if not self.fps:
            raise InvalidInput(f"{self.path} does not say how many frames a second it has.")
        height, width = as_tensor(first).shape[-2:]
        self.size = (height, width)
        self.reader = reader or (TORCHCODEC if self.bits <= 8 and not avi and _decoder(self.path) else PYAV)

    @functools.cached_property
    def times(self) -> tuple[Fraction, ...] | None:
        """When each frame is shown, in seconds from the first, of a film whose rate varies.

        None where frames are as far apart as *fps* says, to a tick of the file's clock, and where it does not tell.
        The file is gone through for it, once, without decoding.
        """
        ticks, tick = shown_at(self.path)
        times = tuple((at - ticks[0]) * tick for at in ticks)
        uneven = any(abs(time - count / self.fps) > tick for count, time in enumerate(times))
        return times if uneven else None

    def __iter__(self) -> Iterator[Tensor]:
        count = 0
        for frame in _by_torchcodec(self.path) if self.reader == TORCHCODEC else _by_pyav(self.path):
            if tuple(frame.shape[-2:]) != self.size:
                raise InvalidInput(
                    f"{self.path}: frame {count} has {by(frame.shape[-2:])} pixels, others {by(self.size)}."
                )
            count += 1
            yield frame
        if self.length is not None and count < self.length:
            warnings.warn(f"{self.path} holds {count} frames, and says {self.length}.", DataWarning, stacklevel=2)

    def __repr__(self) -> str:
        frames = "" if self.length is None else f", {self.length} frames"
        return f"VideoFrames({str(self.path)!r}: {by(self.size)}{frames}, {float(self.fps):g} a second)"


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container at *path* and its first video stream, by PyAV; what fails inside is said with the file.

    Raises:
        InvalidInput: If there is no video in it, or FFmpeg fails.
        MissingExtra: If PyAV is not installed.
    """
    require("av", "video")
    import av

    if path.stat().st_size == 0:
        raise InvalidInput(f"{path} is empty.")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InvalidInput(f"{path} holds no video.")
            stream = container.streams.video[0]
            check_size(path, (stream.height or 0, stream.width or 0))
            stream.thread_type = "AUTO"
            yield container, stream
    except av.error.FFmpegError as error:
        raise InvalidInput(
            f"{path} is no video that can be read, or a broken one: {error.strerror or error}."
        ) from error


def shown_at(path: Path) -> tuple[list[int], Fraction]:
    """When each frame of the video at *path* is shown, in ticks of its clock, without decoding; and a tick in seconds.

    None of those that no player shows, as an edit list says.
    """
    with opened(path) as (container, stream):
        packets = (packet for packet in container.demux(stream) if packet.size and not packet.is_discard)
        ticks = sorted(packet.pts for packet in packets if packet.pts is not None)
        return ticks, Fraction(stream.time_base or 0)


def as_tensor(frame: Any) -> Tensor:
    """A frame of PyAV's as float32 (3, H, W) in [0, 1], upright."""
    deep = max(component.bits for component in frame.format.components) > 8
    values = frame.to_ndarray(format="rgb48le" if deep else "rgb24")
    image = torch.from_numpy(values.astype("float32")).permute(2, 0, 1) / (65535 if deep else 255)
    return torch.rot90(image, round(frame.rotation / 90), (1, 2)).contiguous()


def _by_pyav(path: Path) -> Iterator[Tensor]:
    with opened(path) as (container, stream):
        for frame in container.decode(stream):
            yield as_tensor(frame)


def _by_torchcodec(path: Path) -> Iterator[Tensor]:
    decoder = _decoder(path)
    if decoder is None:
        raise InvalidInput(
            f"{path}: torchcodec is not installed, finds no FFmpeg, or cannot read it; write reader='pyav'."
        )
    try:
        for index in range(len(decoder)):
            yield decoder[index].float() / 255
    except FAILURES as error:
        raise InvalidInput(f"{path} is a broken video: {error}") from error


def _decoder(path: Path) -> Any:
    """torchcodec's, or None where it does not work; it says that it finds no FFmpeg when it is first used."""
    try:
        from torchcodec.decoders import VideoDecoder

        return VideoDecoder(str(path))
    except (ImportError, *FAILURES):
        return None
