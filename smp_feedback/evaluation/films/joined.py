"""Films joined into films with cuts, to learn what a cut looks like, and to see what it costs."""

from __future__ import annotations

from typing import Any, SupportsIndex

from smp_feedback.checks import check_whole
from smp_feedback.data.items import Sample, checked_index
from smp_feedback.data.wrapped import WrappedDataset
from smp_feedback.errors import InvalidInput
from smp_feedback.evaluation.films.order import films_in


class JoinedFilms(WrappedDataset[Sample]):
    """The frames of *dataset*, each of whose films goes over into the next ones; items stay what they are.

    Every film begins one of the new films, so that there are as many as before, and the last goes over into the first.
    Cuts that they had themselves are cuts still.

    Args:
        dataset: Of frames, with two films or more.
        parts: Films in one, >= 2: one cut fewer.
        frames: Frames of each, at most; None is all.

    Raises:
        InvalidInput: If there is but one film.

    >>> class Frames(list):
    ...     films = (range(0, 3), range(3, 5))
    >>> joined = JoinedFilms(Frames("abcde"))
    >>> joined.films, joined.cuts
    (((0, 1, 2, 3, 4), (3, 4, 0, 1, 2)), (0, 3))
    """

    def __init__(self, dataset: Any, parts: int = 2, frames: int | None = None) -> None:
        super().__init__(dataset)
        check_whole("parts", parts)
        if frames is not None:
            check_whole("frames", frames)
        inner = films_in(dataset)
        shots = [film[:frames] for film in inner.places]
        if len(shots) < 2 or parts < 2:
            raise InvalidInput(f"{len(shots)} films joined, parts={parts}: expected two films or more, and two parts.")
        joined = [[shots[(i + k) % len(shots)] for k in range(parts)] for i in range(len(shots))]
        self._films = tuple(tuple(place for shot in film for place in shot) for film in joined)
        own = {film[t] for film, cuts in zip(inner.places, inner.cuts, strict=True) for t in cuts}
        self.cuts = tuple(sorted({shot[0] for shot in shots} | own))

    @property
    def films(self) -> tuple[tuple[int, ...], ...]:
        """The places of the frames of each; those with which another film begins are in ``cuts``."""
        return self._films

    def __getitem__(self, index: SupportsIndex) -> Sample:
        item: Sample = self.dataset[checked_index(index, len(self))]
        return item
