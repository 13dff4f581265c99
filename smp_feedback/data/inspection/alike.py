"""Images of one batch have one size: seen by the heads of the files, before any is trained on."""

from __future__ import annotations

from typing import Any

from smp_feedback.data.draws import draws_undone
from smp_feedback.data.inspection.contract import naming
from smp_feedback.data.inspection.headers import MOST_FILES, header_of, spread
from smp_feedback.data.inspection.report import Size
from smp_feedback.data.items import item_name, source
from smp_feedback.data.one_size import Sized, several_sizes
from smp_feedback.errors import InvalidInput


def check_alike(dataset: Any, batch_size: int) -> None:
    """Images of *dataset* make batches of *batch_size*, as far as the heads of its files tell.

    Raises:
        InvalidInput: If they have several sizes, naming two files and the settings that help.
    """
    if batch_size > 1 and (two := unlike(dataset)):
        raise InvalidInput(several_sizes(*two))


def unlike(dataset: Any) -> tuple[Sized, Sized] | None:
    """Two items of several sizes, as training sees them; None where there are none, or nobody knows the files.

    Files of several sizes may be made alike by what reads them (a crop, another size), so that the smallest and the
    largest are read to see. Nothing is read of a dataset that has a ``size``.

    >>> unlike([1, 2]) is None
    True
    """
    if not len(dataset) or getattr(source(dataset, 0)[0], "size", None) is not None:
        return None
    seen: dict[Size, Sized] = {}
    with draws_undone():
        for i in _extremes(dataset):
            with naming(dataset, i):
                size = tuple(dataset[i][0].shape[-2:])
            seen.setdefault(size, (size, item_name(dataset, i)))
            if len(seen) > 1:
                first, other = seen.values()
                return first, other
    return None


def _extremes(dataset: Any) -> list[int]:
    """Items with the first, lowest, highest, narrowest and widest image, if files have several sizes; else none."""
    of_size: dict[Size, int] = {}
    for i in spread(len(dataset), MOST_FILES):
        if (head := header_of(dataset, i)) is not None:
            of_size.setdefault(head.size, i)
    if len(of_size) < 2:
        return []
    sides = [end(of_size, key=lambda size, axis=axis: size[axis]) for axis in (0, 1) for end in (min, max)]  # type: ignore[misc]
    return list(dict.fromkeys([next(iter(of_size.values())), *(of_size[size] for size in sides)]))
