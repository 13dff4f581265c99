"""Random draws that leave no trace, and those that the frames of one clip have in common."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np
import torch

Made = TypeVar("Made")
_CLIP: ContextVar[dict[Any, Any] | None] = ContextVar("clip", default=None)
"""What the frames of the clip that is being put together have in common so far; None outside."""


@contextmanager
def draws_undone() -> Iterator[None]:
    """What is drawn inside, by torch, NumPy or Python, changes nothing that is drawn afterwards.

    >>> torch.manual_seed(0), random.seed(0)
    (<torch._C.Generator object at ...>, None)
    >>> with draws_undone():
    ...     first = torch.rand(()), random.random()
    >>> first == (torch.rand(()), random.random())
    True
    """
    numpys, pythons = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        np.random.set_state(numpys)
        random.setstate(pythons)


@contextmanager
def one_clip() -> Iterator[None]:
    """The items that are read inside are the frames of one clip: their augmentation is drawn once, for all.

    Nothing is drawn before somebody asks, so a clip that has nothing random in it moves no generator.

    >>> with one_clip():
    ...     first, second = clip_seed(), clip_seed()
    >>> first == second, clip_seed()
    (True, None)
    """
    token = _CLIP.set({})
    try:
        yield
    finally:
        _CLIP.reset(token)


def once_a_clip(key: Hashable, make: Callable[[], Made]) -> Made:
    """What *make* gives, made once for all frames of a clip under *key*; each time outside `one_clip`."""
    common = _CLIP.get()
    if common is None:
        return make()
    if key not in common:
        common[key] = make()
    made: Made = common[key]
    return made


def clip_seed() -> int | None:
    """The seed that all frames of this clip share, drawn from torch's global generator; None outside `one_clip`."""
    if _CLIP.get() is None:
        return None
    return once_a_clip("seed", lambda: int(torch.randint(2**63 - 1, ())))


@contextmanager
def drawn_alike() -> Iterator[None]:
    """Within `one_clip`, what is drawn inside is the same each time, and nobody outside notices.

    >>> with one_clip():
    ...     drawn = []
    ...     for _ in range(2):
    ...         with drawn_alike():
    ...             drawn.append(torch.rand(()))
    >>> drawn[0] == drawn[1]
    tensor(True)
    """
    seed = clip_seed()
    if seed is None:
        yield
        return
    with draws_undone():
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        yield
