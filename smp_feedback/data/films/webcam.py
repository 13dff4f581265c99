"""The frames of a camera of this machine, as long as somebody asks for them."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smp_feedback.errors import InvalidInput, require

USUAL_RATE = Fraction(25)
FORGOTTEN = 1000  # frames whose times nobody asked for
DEVICES = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}"), "win32": ("dshow", "video={}")}
"""What PyAV calls a camera on each system, and how one of a number is called there."""


class Webcam:
    """A camera of this machine, opened; frames are bytes (3, H, W), the next one whenever it is asked for.

    Args:
        name: A number from 0, or what the system calls it (``/dev/video2``; on Windows a name, for it has no numbers).

    Attributes:
        rate: Frames a second, as it says; who is slower gets fewer.
        times: When each frame that was asked for was taken, in seconds, until somebody takes that away.

    Raises:
        MissingExtra: If PyAV is missing.
        InvalidInput: If there is no such camera, or it cannot be opened.
    """

    def __init__(self, name: str = "0") -> None:
        require("av", extra="video")
        import av

        kind, path = camera_called(name)
        try:
            self._opened: Any = av.open(path, format=kind)
        except (OSError, ValueError) as error:  # all of PyAV's are one of these
            why = type(error).__name__
            raise InvalidInput(f"Camera {name}: {path} cannot be opened ({why}).{_others()}") from error
        self._stream = self._opened.streams.video[0]
        self.rate: Fraction = self._stream.average_rate or self._stream.guessed_rate or USUAL_RATE
        self.times: deque[Fraction] = deque(maxlen=FORGOTTEN)

    def __iter__(self) -> Iterator[Tensor]:
        last: Fraction | None = None
        for frame in self._opened.decode(self._stream):
            last = self._time(frame, last)
            self.times.append(last)
            yield torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)

    def _time(self, frame: Any, last: Fraction | None) -> Fraction:
        """When *frame* was taken; where it does not say, as long after the *last* as the rate has it."""
        said = None if frame.pts is None or frame.time_base is None else Fraction(frame.pts * frame.time_base)
        if said is None or (last is not None and said <= last):
            return Fraction(0) if last is None else last + 1 / self.rate
        return said

    def close(self) -> None:
        """Let go of it."""
        self._opened.close()


def camera_called(name: str) -> tuple[str, str]:
    """The kind of device that PyAV opens on this system, and what the camera *name* is called there."""
    kind, numbered = DEVICES.get(sys.platform, DEVICES["linux"])
    return kind, numbered.format(name) if name.isdigit() or sys.platform != "linux" else name


def _others() -> str:
    if sys.platform != "linux":
        return ""
    there = sorted(str(path) for path in Path("/dev").glob("video*"))
    return f" There is: {', '.join(there)}." if there else " There is none."
