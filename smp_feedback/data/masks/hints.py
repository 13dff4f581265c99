"""What a user may have meant whose mask holds values that are no labels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

MOST = 10  # values that an error names


def listed(values: Sequence[int]) -> str:
    """Values for an error, the first `MOST` of them.

    >>> listed([3, 1]), listed(range(12))
    ('[1, 3]', '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...]')
    """
    shown = sorted(values)
    return str(shown) if len(shown) <= MOST else f"{str(shown[:MOST])[:-1]}, ...]"


def wrong_labels(labels: Tensor, classes: int, ignored: object) -> str | None:
    """Those of *labels* that are neither a class nor *ignored*, and what they should be; None if all are.

    >>> import torch
    >>> wrong_labels(torch.tensor([0, 7, 255]), 2, 255), wrong_labels(torch.tensor([0, 1]), 2, None)
    ('labels [7]; expected 0 to 1 (the classes) or 255 (ignored).', None)
    """
    if (strange := strange_in(labels, classes, ignored)) is None:
        return None
    return f"labels {strange}; expected {expected_labels(classes, ignored)}."


def expected_labels(classes: int, ignored: object) -> str:
    """``0 to 2 (the classes) or 255 (ignored)``."""
    return f"0 to {classes - 1} (the classes){also_ignored(ignored)}"


def also_ignored(ignored: object) -> str:
    """`` or 255 (ignored)``, or nothing."""
    return "" if ignored is None else f" or {ignored} (ignored)"


def strange_in(labels: Tensor, count: int, ignored: object) -> str | None:
    """The values of *labels* that are neither 0 to *count* - 1 nor *ignored*, for an error; None if there are none."""
    if not labels.numel():
        return None
    low, high = labels.aminmax()
    if low >= 0 and high < count:  # most masks, seen in one pass
        return None
    outside = (labels < 0) | (labels >= count)
    if isinstance(ignored, int):
        outside &= labels != ignored
    return listed([*set(labels[outside].tolist())]) if outside.any() else None


def hint(found: Sequence[int], classes: int, ignore_index: int | None, palette: bool) -> str:
    """One sentence: which option would make labels of the values *found*, ascending.

    Args:
        found: Every value of a mask, once.
        classes: How many there are.
        ignore_index: The ignored label; None if there is none.
        palette: Whether the values are indices of a palette.

    >>> hint([0, 255], 2, None, False)
    'Black and white (0 and 255)? Write values={255: 1}.'
    >>> hint([1, 2, 3], 3, None, False)
    'Counted from 1? Write offset=-1.'
    >>> hint([0, 1, 255], 2, None, False)
    'Is 255 the void? Write ignore_index=255.'
    >>> hint([0, 127, 255], 3, None, False)
    'The classes in this order? Write values={0: 0, 127: 1, 255: 2}.'
    """
    counted = [value for value in found if value != ignore_index]
    unknown = [value for value in counted if not 0 <= value < classes]
    if classes == 2 and set(counted) <= {0, 255}:
        return "Black and white (0 and 255)? Write values={255: 1}."
    if (counted[0] == 1 and counted[-1] <= classes) or counted == [classes]:
        return "Counted from 1? Write offset=-1."
    if unknown == [classes]:
        return (
            f"A class more than the {classes} named? Or counted from 1, and 0 is nothing? "
            "Write values={0: 'ignore'}, offset=-1 and ignore_index=255."
        )
    if len(unknown) == 1 and len(counted) > 2:
        return f"Is {unknown[0]} the void? Write ignore_index={unknown[0]}."
    if 1 < len(counted) <= classes:
        table = ", ".join(f"{value}: {label}" for label, value in enumerate(counted))
        return f"The classes in this order? Write values={{{table}}}."
    also = "; or colours={class: [r, g, b]}, for the palette's colours" if palette else ""
    return f"Write values={{{unknown[0]}: label}} for what stands for a class or is ignored{also}."
