"""Datasets around another, and which of a dataset's items are the frames of a film."""

from __future__ import annotations

import warnings
from typing import Any, SupportsIndex, cast

from torch import Tensor
from torch.utils.data import Dataset

from smp_feedback.data.items import Item, checked_index, inherited, item_name, parts_of, source
from smp_feedback.errors import DataWarning, InvalidInput, InvalidType

Films = tuple[range | tuple[int, ...], ...]
"""Of each film the indices of its frames, in order."""


def films_of(dataset: Any) -> Films | None:
    """The films of *dataset*, or of the one that it wraps item for item; None where nobody says.

    A ``Subset`` has of each film the frames that it chose, in the film's order; a ``ConcatDataset`` the films of all.

    >>> from torch.utils.data import Subset
    >>> class Two(list):
    ...     films = (range(0, 3), range(3, 6))
    >>> films_of(Subset(Two("abcdef"), [5, 3, 1])), films_of(["a", "b"])
    (((2,), (1, 0)), None)
    """
    if hasattr(dataset, "films"):
        return cast(Films, dataset.films)
    if parts := parts_of(dataset):
        return _joined(parts)
    inner = None if hasattr(type(dataset), "films") else getattr(dataset, "dataset", None)  # who says that it has none
    if inner is None or (found := films_of(inner)) is None:
        return None
    if hasattr(dataset, "indices"):
        places = {int(index): place for place, index in enumerate(dataset.indices)}
        chosen = (tuple(places[frame] for frame in film if frame in places) for film in found)
        return tuple(film for film in chosen if film)
    return found if len(dataset) == len(inner) else None


def _joined(parts: Any) -> Films | None:
    films: list[range | tuple[int, ...]] = []
    start = 0
    for part in parts:
        found = films_of(part)
        if found is None:
            return None
        films += [tuple(start + frame for frame in film) for film in found]
        start += len(part)
    return tuple(films)


def check_frames(dataset: Any, films: Films) -> None:
    """The frames of *films* are items of *dataset*.

    Raises:
        InvalidInput: If some are not, with the first.
    """
    for number, film in enumerate(films):
        if beyond := [frame for frame in film if not 0 <= frame < len(dataset)]:
            raise InvalidInput(
                f"films of {type(dataset).__name__}: film {number} has frame {beyond[0]}, and there are {len(dataset)} "
                "items: expected places from 0 on."
            )


def say_outside(dataset: Any, films: Films, left: str, stacklevel: int = 3) -> None:
    """Warn of the items of *dataset* that are in none of *films*, and so are *left*, such as ``not scored``.

    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     say_outside("abcdef", (range(2), (3,)), "not scored")
    >>> str(said[0].message)
    '3 of 6 frames of str are in no film, and not scored; the first is item 2.'
    """
    inside = {frame for film in films for frame in film}
    outside = [frame for frame in range(len(dataset)) if frame not in inside]
    if outside:
        what = "frame" if len(dataset) == 1 else "frames"
        be = "is" if len(outside) == 1 else "are"
        warnings.warn(
            f"{len(outside)} of {len(dataset)} {what} of {type(dataset).__name__} {be} in no film, and {left}; the "
            f"first is {item_name(dataset, outside[0])}.",
            DataWarning,
            stacklevel=stacklevel + 1,
        )


def places_in_films(films: Films) -> dict[int, tuple[int, int]]:
    """Of each frame by its index: its film, and its place there.

    >>> places_in_films((range(2), (4,)))
    {0: (0, 0), 1: (0, 1), 4: (1, 0)}
    """
    return {frame: (number, place) for number, film in enumerate(films) for place, frame in enumerate(film)}


class WrappedDataset(Dataset[Item]):
    """What datasets around another share: it is in ``.dataset``, and theirs are length, classes, names and films.

    Args:
        dataset: Map-style.

    Raises:
        InvalidType: If *dataset* has no length.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        if not hasattr(dataset, "__len__"):
            raise InvalidType(f"dataset={dataset!r}: expected a map-style dataset, with a length.")
        self.dataset = dataset
        classes = inherited(dataset, "classes")
        self.classes = None if classes is None else tuple(cast("tuple[str, ...]", classes))
        self.ignore_index = cast("int | None", inherited(dataset, "ignore_index"))

    def __len__(self) -> int:
        return len(cast(Any, self.dataset))

    def name(self, index: SupportsIndex) -> str:
        """What the wrapped dataset calls item *index*."""
        return item_name(self.dataset, checked_index(index, len(self)))

    @property
    def films(self) -> Films:
        """The wrapped dataset's.

        Raises:
            AttributeError: If it has none.
        """
        found = films_of(self.dataset)
        if found is None:
            raise AttributeError(f"{type(self.dataset).__name__} has no films")
        return found

    def hidden(self, index: SupportsIndex) -> Tensor:
        """Where an occluder hides an object of frame *index*, as the wrapped dataset says; bool (H, W).

        Raises:
            AttributeError: If it does not say.
        """
        inner, place = source(self.dataset, checked_index(index, len(self)), "hidden")
        found: Tensor = inner.hidden(place)
        return found
