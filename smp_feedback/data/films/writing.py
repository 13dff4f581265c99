"""Video files, written frame by frame (PyAV)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from smp_feedback.checks import check_whole
from smp_feedback.data.files import absent, as_path, by
from smp_feedback.errors import DataWarning, InvalidInput, InvalidType, InvalidValue, require
from smp_feedback.saving.files import replace_file

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".avi": "avi"}
H264, MPEG4 = "libx264", "mpeg4"
VISUALLY_LOSSLESS = 18  # of x264's constant rate factor: 0 is lossless, 51 the worst
BIT_RATE = 8_000_000  # of MPEG-4, which has no such factor, a second
FINEST = 100_000  # of a frame rate's denominator
CLOCK = 60_000  # ticks a second of frames with times: of milliseconds, NTSC's rates, and no more than MPEG-4 has
EVEN = "avi"  # has one time between frames
PIXELS = Fraction(1, 16), Fraction(16)


class Look(NamedTuple):
    """How a film is shown: frames a second, or each at its time; how true to its colours, and the shape of a pixel."""

    rate: Fraction
    timed: bool
    quality: int
    pixel: Fraction


def write_video(
    path: str | Path,
    frames: Iterable[Tensor],
    fps: float | Fraction,
    *,
    quality: int = VISUALLY_LOSSLESS,
    times: Iterable[Fraction | float] | None = None,
    pixel: Fraction | float = 1,
) -> Path:
    """Write *frames* to a video file, one after the other; it is there when all are, or not at all.

    H.264 where this build of FFmpeg has it, else MPEG-4. Colour is kept at half resolution, as players expect it; of
    odd sizes at full resolution (4:4:4), so that no row or column is cut off, which some players do not show.

    Args:
        path: Of the file, ``.mp4``, ``.mov``, ``.mkv`` or ``.avi``.
        frames: (3, H, W), or grey (1, H, W), all of one size: floating point in [0, 1], or uint8.
        fps: Frames a second, > 0; a ``Fraction`` is kept exactly, as `VideoFrames` has it.
        quality: x264's constant rate factor, from 0 (lossless in its own colours) to 51.
        times: When each frame is shown, in seconds, rising, of a film whose rate varies (`VideoFrames.times`); the
            first is at 0. One is asked for after its frame; frames beyond them follow at *fps*. None is *fps* for all.
        pixel: How wide a pixel is shown, over how high, 1/16 to 16.

    Returns:
        The path.

    Raises:
        InvalidType, InvalidValue: For a path, rate, quality or pixel that is none, before anything is written.
        InvalidInput: For frames or times that are none, with which.
        MissingExtra: If PyAV is not installed.

    Warns:
        DataWarning: If *times* are not *fps*, and the file is an ``.avi``, whose frames are all as far apart.

    >>> import tempfile
    >>> path = write_video(Path(tempfile.mkdtemp()) / "a.mp4", [torch.zeros(3, 15, 17)] * 3, Fraction(30000, 1001))
    >>> path.name, path.stat().st_size > 500
    ('a.mp4', True)
    """
    path = as_path("path", path)
    kind = CONTAINERS.get(path.suffix.lower())
    if kind is None:
        raise InvalidValue(f"{path}: expected a name that ends in {', '.join(CONTAINERS)}.")
    if not path.parent.is_dir():
        raise InvalidValue(f"{path}: expected a folder that exists; {absent(path.parent)}")
    rate = _checked_rate(fps)
    if check_whole("quality", quality, least=0) > 51:
        raise InvalidValue(f"quality={quality}: expected 0 to 51, the smaller the better.")
    if not isinstance(pixel, (int, float, Fraction)) or not PIXELS[0] <= pixel <= PIXELS[1]:
        raise InvalidValue(f"pixel={pixel!r}: expected its width over its height, 1/16 to 16; 1 is square.")
    require("av", "video")
    shape = Fraction(pixel).limit_denominator(255)  # of MPEG-4
    shown = at_times(_checked(frames), rate, times)
    return replace_file(path, lambda draft: _write(draft, kind, shown, Look(rate, times is not None, quality, shape)))


def _checked_rate(fps: float | Fraction) -> Fraction:
    if isinstance(fps, bool) or not isinstance(fps, (int, float, Fraction)):
        raise InvalidType(f"fps={fps!r}: expected frames a second, a number > 0.")
    if not 0 < fps < FINEST:
        raise InvalidValue(f"fps={fps!r}: expected frames a second, a number > 0.")
    return Fraction(fps).limit_denominator(FINEST)


def _checked(frames: Iterable[Tensor]) -> Iterator[Tensor]:
    """Each of *frames* as uint8 (H, W, 3), all of one size."""
    first: tuple[int, ...] | None = None
    for count, frame in enumerate(frames):
        if not isinstance(frame, Tensor) or not (frame.is_floating_point() or frame.dtype == torch.uint8):
            found = frame.dtype if isinstance(frame, Tensor) else type(frame).__name__
            raise InvalidType(f"frame {count}: expected a tensor, floating point or uint8, not {found}.")
        if frame.ndim != 3 or len(frame) not in (1, 3) or 0 in frame.shape:
            raise InvalidInput(f"frame {count} of shape {tuple(frame.shape)}: expected (3, H, W) or (1, H, W).")
        first = tuple(frame.shape[1:]) if first is None else first
        if tuple(frame.shape[1:]) != first:
            raise InvalidInput(
                f"frame {count} has {by(frame.shape[1:])} pixels, the first {by(first)}: expected one size."
            )
        if frame.is_floating_point():
            frame = (frame.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
        yield frame.expand(3, -1, -1).permute(1, 2, 0).cpu().contiguous()
    if first is None:
        raise InvalidInput("no frames: expected at least one.")


def at_times(
    frames: Iterable[Tensor], rate: Fraction, times: Iterable[Fraction | float] | None
) -> Iterator[tuple[Tensor, Fraction]]:
    """Each of *frames* with its time, in seconds from the first; those beyond *times* follow at *rate*.

    Raises:
        InvalidInput: If a time is no number, or does not rise.
    """
    said: Iterator[Fraction | float] = iter(() if times is None else times)
    begun = last = Fraction(0)
    for count, frame in enumerate(frames):
        time = next(said, None)
        if time is not None and not math.isfinite(time):
            raise InvalidInput(f"times: frame {count} is shown at {time}: expected seconds.")
        now = Fraction(time) if time is not None else last + 1 / rate if count else last
        if count and now <= last:
            raise InvalidInput(
                f"times: frame {count} is shown at {float(now):g} s, the one before it at {float(last):g} s: expected "
                "times that rise."
            )
        begun = begun if count else now
        yield frame, now - begun
        last = now


def _write(draft: Path, kind: str, frames: Iterator[tuple[Tensor, Fraction]], look: Look) -> None:
    import av

    first = next(frames)
    timed, moved, last = look.timed and kind != EVEN, Fraction(0), -1
    with av.open(str(draft), "w", format=kind) as container:
        stream = _stream(container, look, (first[0].shape[0], first[0].shape[1]), timed=timed)
        for count, (frame, time) in enumerate(chain([first], frames)):
            picture = av.VideoFrame.from_ndarray(frame.numpy(), format="rgb24")
            picture = picture.reformat(format=stream.pix_fmt, dst_colorspace="ITU601")
            if timed:
                last = max(last + 1, round(time * CLOCK))
                picture.pts, picture.time_base = last, Fraction(1, CLOCK)
            moved = max(moved, abs(time - count / look.rate))
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    if kind == EVEN and moved > 1 / look.rate:
        warnings.warn(
            f"The frames are not {float(look.rate):g} a second, and an .avi has one time between frames: they are "
            f"shown up to {float(moved):.2g} s off; .mp4, .mov and .mkv keep their times.",
            DataWarning,
            stacklevel=4,
        )


def _stream(container: Any, look: Look, size: tuple[int, int], *, timed: bool) -> Any:
    import av

    try:
        av.codec.Codec(H264, "w")
        stream = container.add_stream(H264, rate=look.rate, options={"crf": str(look.quality)})
        stream.pix_fmt = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
    except av.codec.codec.UnknownCodecError:
        stream = container.add_stream(MPEG4, rate=look.rate, bit_rate=BIT_RATE)
        stream.pix_fmt = "yuv420p"  # it takes odd sizes
    stream.height, stream.width = size
    if look.pixel != 1:
        stream.codec_context.sample_aspect_ratio = look.pixel
    if timed:
        stream.codec_context.time_base = Fraction(1, CLOCK)
    return stream
