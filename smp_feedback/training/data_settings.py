"""How training shows its data, checked before any of them are opened: by what trains, and by what only looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smp_feedback.checks import check_choice, check_whole
from smp_feedback.config.data import DataConfig
from smp_feedback.data.items import checked_int
from smp_feedback.data.wrapped import films_of, say_outside
from smp_feedback.errors import InvalidValue
from smp_feedback.training.facts import AUTO


def check_data_settings(
    *,
    batch_size: int = 8,
    workers: int = 0,
    train_count: int | None = None,
    augment: str = "none",
    crop: int | None = None,
    corruption: str | None = None,
    severity: int = 3,
    normalise: str = AUTO,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    shared: str = "warn",
    clip: int | None = None,
    clip_stride: int = 1,
    **more: Any,
) -> None:
    """See that these settings can be, whatever the data are; see `open_pairs` for each.

    What else is told, the dataset checks itself.

    Raises:
        InvalidType, InvalidValue, UnknownName: Naming the setting.

    >>> check_data_settings(batch_size=0)
    Traceback (most recent call last):
    smp_feedback.errors.InvalidValue: batch_size=0: expected a whole number >= 1.
    """
    from smp_feedback.data import Corrupted
    from smp_feedback.data.augment import as_transform
    from smp_feedback.data.folders.sharing import SHARED

    check_whole("batch_size", batch_size)
    checked_int("workers", workers, least=0)
    check_clip(clip, clip_stride)
    for name, value in (("train_count", train_count), ("crop", crop)):
        if value is not None:
            check_whole(name, value)
    as_transform(augment)
    if corruption is not None:
        Corrupted([], corruption, severity)  # type: ignore[arg-type]
    check_choice("normalise", normalise, (AUTO, "none"))
    check_choice("shared", shared, SHARED)
    _check_normalisation(normalise, mean, std)


def check_clip(clip: int | None, clip_stride: int = 1) -> None:
    """*clip* and *clip_stride* are numbers of frames.

    Raises:
        InvalidType, InvalidValue: If they are not, or a stride is said of no clips.
    """
    check_whole("clip_stride", clip_stride)
    if clip is not None:
        check_whole("clip", clip)
    elif clip_stride != 1:
        raise InvalidValue(f"clip_stride={clip_stride} without clip: say how many frames a clip has, or leave it out.")


def check_films(dataset: Any, name: str, clip: int, *, training: bool = False) -> None:
    """*dataset* has films, or is None; where it is for *training*, one at least is as long as a clip.

    Raises:
        InvalidValue: If it has none, with what has.

    Warns:
        DataWarning: If frames are in no film, of a dataset to score; clips say so themselves.
    """
    if dataset is None:
        return
    if (films := films_of(dataset)) is None:
        raise InvalidValue(
            f"clip={clip}: {name} is a {type(dataset).__name__} of images that belong to no films; expected a dataset "
            "with films, such as data.name=moving, or frames in folders (data.options {films: folder}); without clip "
            "a model is trained on images."
        )
    if training and (longest := max(map(len, films), default=0)) < clip:
        raise InvalidValue(f"clip={clip}: the longest film of {name} has {longest} frames: expected at most so many.")
    if not training:
        say_outside(dataset, films, "not scored", stacklevel=4)


def _check_normalisation(normalise: str, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """Mean and std go together, and without another wish; how many they are, the images tell."""
    if normalise == "none" and (mean is not None or std is not None):
        raise InvalidValue(f"mean={mean}, std={std} with normalise='none': give one of them.")
    channels = max((len(given) for given in (mean, std) if isinstance(given, Sequence)), default=3) or 3
    DataConfig(mean=mean, std=std, channels=channels)  # type: ignore[arg-type]
