"""Random draws that leave no trace, and those that the frames of one clip have in common."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch

_CLIP: ContextVar[list[int] | None] = ContextVar("clip", default=None)
"""Of the clip that is being put together: nothing, or its seed once somebody has asked for it."""


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
    token = _CLIP.set([])
    try:
        yield
    finally:
        _CLIP.reset(token)


def clip_seed() -> int | None:
    """The seed that all frames of this clip share, drawn from torch's global generator; None outside `one_clip`."""
    clip = _CLIP.get()
    if clip is None:
        return None
    if not clip:
        clip.append(int(torch.randint(2**63 - 1, ())))
    return clip[0]


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
