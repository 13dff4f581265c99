"""A dataset under a corruption: the same for each item, or a fresh one at each access."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import SupportsIndex, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from smp_feedback.data.corruption.corruptions import check_severity
from smp_feedback.data.draws import clip_seed
from smp_feedback.data.items import Corruption, Sample, beyond_unit, checked_index, checked_int, in_unit
from smp_feedback.data.seeding import corruption_generator
from smp_feedback.data.wrapped import WrappedDataset, films_of, places_in_films
from smp_feedback.errors import InvalidInput
from smp_feedback.registry.public import catalogue

CLEAN = "clean"


class Corrupted(WrappedDataset[Sample]):
    """A dataset with corrupted images; targets stay as they are.

    What happens to item i depends on (seed, i) only. The random numbers are the same for every severity and every
    corruption, so that rows and columns of a sweep differ by nothing else. Of the frames of a film, each has its own,
    unless the corruption takes ``time``, as ``rain`` and ``shimmer`` do: then the film has them, and goes on with them.

    Args:
        dataset: Map-style, with items (image, target). ``classes`` and ``ignore_index`` are taken from it,
            through wrappers that keep it as ``.dataset``, such as ``torch.utils.data.Subset``.
        name: A registered corruption, or ``clean``, which leaves images alone; or a function of your own, called like
            one, ``(image, severity, generator) -> image``.
        severity: 1 to 5; 0 leaves images alone.
        seed: Another seed, another corruption of each item; >= 0. It has no meaning if *fresh*.
        fresh: Draw the corruption anew at each access, for training: from torch's global generator, which
            Lightning and ``DataLoader`` seed per process and worker. Training that restores that generator (a resumed
            one) therefore meets the same corruptions again.

    Raises:
        UnknownName: If no corruption is called *name*.
        InvalidType: If *dataset* has no length, or *severity* or *seed* is no whole number.
        InvalidValue: If *severity* or *seed* is out of its range.
        InvalidInput: When an item is asked for, if a corruption that is not ours gives no image like the one it got.

    >>> from smp_feedback.data import Shapes
    >>> clean, blurred = Shapes(4), Corrupted(Shapes(4), "gaussian_blur", 3)
    >>> torch.equal(blurred[2][1], clean[2][1]), torch.equal(blurred[2][0], clean[2][0])
    (True, False)
    >>> blurred.name(2)
    'coloured_shapes[2] of seed 0'
    """

    def __init__(
        self, dataset: Dataset[Sample], name: str | Corruption, severity: int, seed: int = 0, *, fresh: bool = False
    ) -> None:
        super().__init__(dataset)
        self.corruption, self.fresh = name, fresh
        self.severity = check_severity(severity, least=0)
        self.seed = checked_int("seed", seed, least=0)
        corrupt = None if name == CLEAN else _named(name)  # a wrong name is one at severity 0, too
        self._corrupt = corrupt if self.severity else None
        self.whose = _stranger(name)
        goes_on = self._corrupt is not None and "time" in inspect.signature(self._corrupt).parameters
        self._places = places_in_films(films_of(dataset) or ()) if goes_on else {}

    def __getitem__(self, index: SupportsIndex) -> Sample:
        i = checked_index(index, len(self))
        image, target = self.dataset[i]
        return self.corrupt(image, i), target

    def corrupt(self, image: Tensor, index: int) -> Tensor:
        """What happens to *image* (C, H, W) as item *index*.

        Raises:
            InvalidInput: If it is not in [0, 1], naming the item: corruptions come before normalisation.
        """
        if self._corrupt is None:
            return image
        clean = in_unit(image, self.name(index))
        film, time = self._places.get(index, (None, 0))
        if film is None:
            return self._checked(self._corrupt(clean, self.severity, self._generator(index)), clean, index)
        generator = self._generator(film, clip_seed() if self.fresh else None)
        made = cast("Callable[..., Tensor]", self._corrupt)(clean, self.severity, generator, time=time)
        return self._checked(made, clean, index)

    def _checked(self, made: object, clean: Tensor, index: int) -> Tensor:
        """What a corruption *made* of a *clean* image, if it is such an image; of ours nothing is asked."""
        if self.whose is None:
            return cast(Tensor, made)
        if not isinstance(made, Tensor):
            wrong: str | None = f"a {type(made).__name__}"
        elif (made.shape, made.dtype) != (clean.shape, clean.dtype):
            wrong = f"an image {tuple(made.shape)} of {made.dtype} for one {tuple(clean.shape)} of {clean.dtype}."
        else:
            wrong = beyond_unit(made) if made.numel() else None
        if wrong:
            raise InvalidInput(f"{self.name(index)}: {self.whose} gives, at severity {self.severity}, {wrong}")
        return cast(Tensor, made)

    def _generator(self, index: int, seed: int | None = None) -> torch.Generator:
        if not self.fresh:
            return corruption_generator(self.seed, index)
        return torch.Generator().manual_seed(int(torch.randint(2**63 - 1, ())) if seed is None else seed)


def _stranger(corruption: str | Corruption) -> str | None:
    """Who made *corruption*, as an error says it; None of ours."""
    if callable(corruption):
        return f"corruption {getattr(corruption, '__name__', repr(corruption))}"
    if corruption == CLEAN or not (brought := catalogue().corruptions.brought(corruption)):
        return None
    return f"corruption {corruption!r}{brought}"


def _named(corruption: str | Corruption) -> Corruption:
    return corruption if callable(corruption) else catalogue().corruptions[corruption]
