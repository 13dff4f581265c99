"""Answers over their image, and what changed from one to the next, as colours; and what each colour means."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.plotting.overlay import CLASSES, RGB, laid_over
from smp_feedback.plotting.pictures import photo
from smp_feedback.plotting.style import PALETTE

GONE = PALETTE[0]  # what became background
FAINT = 0.2  # of the image, behind what changed
MOST = 12  # names in a legend
Meaning = tuple[str, str | None]
"""What a colour stands for, and that colour; None shows the image."""


def over(image: Tensor, answer: Tensor) -> RGB:
    """*answer* over *image* (C, H, W) in [0, 1]: labels (H, W), 0 in no colour, or (classes, H, W) of 0 and 1.

    >>> over(torch.ones(1, 1, 2), torch.tensor([[[0, 1]], [[0, 0]]])).tolist() == over(
    ...     torch.ones(1, 1, 2), torch.tensor([[0, 1]])).tolist()
    True
    """
    if answer.ndim == 2:
        return laid_over(image, answer)
    painted = laid_over(image, torch.zeros_like(answer[0]))
    for k, there in enumerate(answer, 1):
        painted = laid_over(torch.from_numpy(painted).permute(2, 0, 1) / 255, k * there)
    return painted


def changed(before: Tensor, after: Tensor) -> Tensor:
    """Where one answer says something else than the other, bool (H, W).

    >>> changed(torch.tensor([[0, 1]]), torch.tensor([[1, 1]]))
    tensor([[ True, False]])
    """
    other = before != after
    return other if other.ndim == 2 else other.any(0)


def change_over(image: Tensor, before: Tensor, after: Tensor) -> RGB:
    """What changed between two answers, over the faint *image* (C, H, W): the colour of what it became, or black.

    >>> white = torch.ones(1, 1, 3)
    >>> change_over(white, torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 2]]))[0].tolist()
    [[255, 255, 255], [0, 0, 0], [230, 159, 0]]
    """
    grey = photo(image).mean(2, keepdims=True)
    faint = np.rint(255 * (1 - FAINT * (1 - grey))).astype(np.uint8).repeat(3, 2)
    became = after if after.ndim == 2 else torch.zeros_like(after[0])
    table = np.array([_rgb(GONE), *map(_rgb, CLASSES)], np.uint8)
    numbers = torch.where(became > 0, (became.long() - 1) % len(CLASSES) + 1, 0).numpy()
    painted: RGB = np.where(changed(before, after).numpy()[..., None], table[numbers], faint)
    return painted


def share_in_words(there: Tensor) -> str:
    """How many per cent of *there* (H, W) are true.

    >>> share_in_words(torch.tensor([True, False])), share_in_words(torch.tensor([False]))
    ('50.0 %', '0 %')
    """
    share = float(there.double().mean())
    if not share:
        return "0 %"
    return "< 0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"


def meanings(answers: Sequence[Tensor], names: Sequence[str]) -> list[Meaning]:
    """What the colours of *answers* and of their changes mean: the classes that are there, and no others.

    >>> meanings([torch.tensor([[0, 0]]), torch.tensor([[0, 2]])], ["ground", "tree", "road"])
    [('ground (background)', None), ('road', '#E69F00')]
    """
    several = answers[0].ndim == 3
    there = {k for a in answers for k in _classes_in(a)}
    found = [
        (names[k], CLASSES[(k - (not several)) % len(CLASSES)]) for k in sorted(there - (set() if several else {0}))
    ]
    kept: list[Meaning] = [*found[:MOST]]
    if len(found) > MOST:
        kept.append((f"and {len(found) - MOST} more", None))
    pairs = [(a, b) for a, b in itertools.pairwise(answers) if a is not b]
    if several:
        return [*kept, ("changed", GONE)] if any(bool(changed(*pair).any()) for pair in pairs) else kept
    shows = names[0] if names[0].lower() == "background" else f"{names[0]} (background)"
    first: list[Meaning] = [(shows, None)] if 0 in there else []
    gone = any(bool(((b == 0) & (a != 0)).any()) for a, b in pairs)
    return [*first, *kept, *([(f"became {names[0]}", GONE)] if gone else [])]


def _classes_in(answer: Tensor) -> list[int]:
    if answer.ndim == 2:
        return [k for k, count in enumerate(answer.flatten().bincount().tolist()) if count]
    return [k for k, there in enumerate(answer) if bool(there.any())]


def names_of(names: object, known: Sequence[str], classes: int) -> list[str]:
    """A name for each of *classes*: those given, else those *known* if there are as many, else their numbers.

    Raises:
        InvalidType, InvalidValue: If *names* are no names, or not as many.

    >>> names_of(None, (), 2), names_of(None, ("ground", "tree"), 2)
    (['class 0', 'class 1'], ['ground', 'tree'])
    """
    if names is None:
        return [*known] if len(known) == classes else [f"class {k}" for k in range(classes)]
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise InvalidType(f"names={names!r}: expected a list of names, one for each class.")
    if len(names) != classes:
        raise InvalidValue(f"names={[*names]}: expected {classes} names, one for each class, got {len(names)}.")
    return [*names]


def fitting(answer: Tensor, size: tuple[int, int]) -> Tensor:
    """*answer* (..., H, W) in the *size* of its image; of a model that answers larger maps the nearest pixels."""
    if tuple(answer.shape[-2:]) == size:
        return answer
    maps = answer.reshape(1, -1, *answer.shape[-2:]).float()
    return F.interpolate(maps, size, mode="nearest-exact")[0].reshape(*answer.shape[:-2], *size).to(answer.dtype)


def _rgb(colour: str) -> NDArray[np.uint8]:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.uint8)
