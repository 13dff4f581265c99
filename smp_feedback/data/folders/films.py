"""Which images of a folder are the frames of one film, by their folders or by their names."""

from __future__ import annotations

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from smp_feedback.data.files import natural_key, some
from smp_feedback.data.wrapped import Films
from smp_feedback.errors import DataWarning, InvalidType, InvalidValue

FOLDER = "folder"
HOLES = re.compile(r"(\{film\}|\{frame\})")
NUMBER = re.compile(r"\d+(?=\D*$)")  # the last in a name
SKIPPED = 1.5  # steps from a frame to the next, of the usual one, beyond which frames are missing
Key = tuple[Path, str]  # the folder of a film, and what stands for {film}


def film_pattern(films: str) -> re.Pattern[str]:
    """What the names of frames, without their suffix, look like.

    Args:
        films: ``folder``, where each film has a folder of its own, or a name with ``{frame}`` and perhaps ``{film}``.

    Raises:
        InvalidType, InvalidValue: If it is neither.

    >>> film_pattern("{film}_{frame}").fullmatch("drive_2_f0930").groupdict()
    {'film': 'drive_2', 'frame': 'f0930'}
    """
    if not isinstance(films, str):
        raise InvalidType(f"films={films!r}: expected 'folder', or a pattern such as '{{film}}_{{frame}}'.")
    holes = {"{film}": "(?P<film>.+)", "{frame}": r"(?P<frame>.*\d.*)"}
    told = "{frame}" if films == FOLDER else films
    if told.count("{frame}") != 1 or told.count("{film}") > 1:
        raise InvalidValue(
            f"films={films!r}: expected 'folder', where each film has a folder of its own, or a pattern of the names, "
            "without suffix, that has {frame} once and {film} at most once, such as '{film}_{frame}'."
        )
    return re.compile("".join(holes.get(part, re.escape(part)) for part in HOLES.split(told)))


def group_frames(images: Sequence[Path], films: str) -> tuple[Films, list[str]]:
    """The films of *images*, and between which frames some are missing, in words.

    Frames are in the order of the last number in their names. A film ends where numbers are missing, which is where
    they skip more than one and a half times as far as they mostly do, and another begins.

    Args:
        images: Paths of the frames.
        films: As `film_pattern` takes it.

    Raises:
        InvalidValue: If some are called otherwise, or two frames of a film have one number.

    >>> found, missing = group_frames([Path(f"a_{k}.png") for k in (1, 2, 3, 7, 8)], "{film}_{frame}")
    >>> found, missing
    ((range(0, 3), range(3, 5)), ['a_3.png to a_7.png'])
    """
    frames: defaultdict[Key, list[tuple[int, int]]] = defaultdict(list)
    pattern, strange = film_pattern(films), []
    for index, path in enumerate(images):
        match = pattern.fullmatch(path.stem)
        if match is None:
            strange.append(path.name)
            continue
        found = NUMBER.search(match["frame"])
        number = int(found[0]) if found else 0
        frames[path.parent, match.groupdict().get("film") or ""].append((number, index))
    if strange:
        raise InvalidValue(
            f"films={films!r}: {len(strange)} of {len(images)} images are called otherwise: {some(strange)}; expected "
            "a number in each name, by which frames are in order."
        )
    parts: list[range | tuple[int, ...]] = []
    missing: list[str] = []
    for of_film in frames.values():
        runs = _runs(sorted(of_film), images)
        parts += [_as_range([index for _, index in run]) for run in runs]
        missing += [f"{images[one[-1][1]].name} to {images[two[0][1]].name}" for one, two in pairwise(runs)]
    return tuple(parts), missing


def say_missing(where: object, missing: Sequence[str]) -> None:
    """Say, in one line, where frames are missing."""
    if missing:
        what = "place, where a film" if len(missing) == 1 else "places, where films"
        ends = "ends and another begins" if len(missing) == 1 else "end and others begin"
        warnings.warn(
            f"{where}: frames are missing in {len(missing)} {what} {ends}: {some(missing)}.", DataWarning, stacklevel=4
        )


def _runs(frames: list[tuple[int, int]], images: Sequence[Path]) -> list[list[tuple[int, int]]]:
    """The (number, index) of a film's frames, parted where some are missing."""
    steps = Counter(after - before for (before, _), (after, _) in pairwise(frames))
    if twice := [(images[i].name, images[j].name) for (a, i), (b, j) in pairwise(frames) if a == b]:
        one, other = sorted(twice[0], key=lambda name: natural_key(Path(name)))
        raise InvalidValue(
            f"{images[frames[0][1]].parent}: {one} and {other} are one frame of one film: leave one out."
        )
    usual = min((step for step, times in steps.items() if times == max(steps.values())), default=1)
    runs = [frames[:1]]
    for (before, _), frame in pairwise(frames):
        if frame[0] - before > SKIPPED * usual:
            runs.append([])
        runs[-1].append(frame)
    return runs


def _as_range(indices: Iterable[int]) -> range | tuple[int, ...]:
    """*indices*, as a range if they follow one another."""
    listed = tuple(indices)
    whole = range(listed[0], listed[0] + len(listed))
    return whole if listed == tuple(whole) else listed
