"""What answers to films got right: counted frame by frame on the device, read once at the end."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from smp_feedback.errors import InvalidInput
from smp_feedback.evaluation.cells import cells_of, check_strays, count
from smp_feedback.evaluation.films.order import FilmIndex, FrameBatch
from smp_feedback.evaluation.films.scores import FilmScores
from smp_feedback.evaluation.scores import shares
from smp_feedback.ops.reading import SEGMENTATION, labels_of

SPAN = 8
"""Frames after a cut that are counted one by one, and frames before it that they are held to."""


class _Last(NamedTuple):
    """The frame before: what was said, what is so, and whether that counts."""

    said: Tensor
    label: Tensor
    scored: Tensor


class FilmTally:
    """The counts of one predictor over any number of films.

    Args:
        films: All that will be counted.
        classes: Number of classes, >= 2.
        ignore_index: Label that is not counted.
        device: Where to count.
    """

    def __init__(self, films: FilmIndex, classes: int, ignore_index: int | None, device: torch.device) -> None:
        self.films, self.classes, self.ignore_index = films, classes, ignore_index
        longest, cells = max(map(len, films.places)), classes * classes
        self.at = torch.zeros(longest * cells, dtype=torch.long, device=device)
        self.around = torch.zeros((SPAN + 1) * cells, dtype=torch.long, device=device)  # offsets, and what is before
        self.flicker = torch.zeros(2, dtype=torch.long, device=device)  # changed, and all that stay
        self.behind = torch.zeros(2, dtype=torch.long, device=device)  # right, and all that are hidden
        self.strays = torch.zeros((), dtype=torch.long, device=device)
        self.last: _Last | None = None

    def add(self, chances: Tensor, frame: FrameBatch) -> None:
        """Count the answers (B, classes, H, W) to *frame*, which follows the one that was counted last.

        Raises:
            InvalidInput: If the shapes do not fit.
        """
        target = frame.target.to(chances.device, non_blocking=True)
        seen = cells_of(chances, target, self.classes, self.ignore_index)
        now, cells = _Last(labels_of(chances), seen.label, seen.scored), self.classes**2
        self.strays += seen.strays
        count(self.at, seen.cell + frame.place * cells, seen.scored)
        self._steadiness(now, frame)
        if any(self.films.cuts):
            for place in self._around(frame):
                where = torch.tensor(place, device=chances.device).view(-1, 1, 1)
                count(self.around, seen.cell + where.clamp_min(0) * cells, seen.scored & (where >= 0))
        if frame.hidden is not None:
            hidden = frame.hidden.to(chances.device, non_blocking=True) & seen.scored
            self.behind += torch.stack([(hidden & seen.right).sum(), hidden.sum()])

    def _steadiness(self, now: _Last, frame: FrameBatch) -> None:
        before, self.last = self.last if frame.place else None, now
        if before is None:
            return
        stays = now.scored & before.scored & (now.label == before.label)
        if any(self.films.cuts):  # another scene is not the same pixel a moment later
            goes_on = [frame.place not in self.films.cuts[film] for film in frame.films]
            stays &= torch.tensor(goes_on, device=stays.device).view(-1, 1, 1)
        self.flicker += torch.stack([(stays & (now.said != before.said)).sum(), stays.sum()])

    def _around(self, frame: FrameBatch) -> tuple[list[int], list[int]]:
        """For each film the frames since its last cut, and `SPAN` where the next one is near; -1 for neither."""
        after, before = [], []
        for cuts in (self.films.cuts[film] for film in frame.films):
            since = min((frame.place - cut for cut in cuts if cut <= frame.place), default=SPAN)
            until = min((cut - frame.place for cut in cuts if cut > frame.place), default=SPAN + 1)
            after.append(since if since < SPAN else -1)
            before.append(SPAN if until <= SPAN else -1)
        return after, before

    def scores(self) -> FilmScores:
        """What was counted, read from the device.

        Raises:
            InvalidInput: If labels were met that are neither a class nor ignored, or nothing was scored.
        """
        check_strays(self.strays, self.classes, self.ignore_index)
        tables = self.at.cpu().view(-1, self.classes, self.classes)
        whole = tables.sum(0)
        if not int(whole.sum()):
            raise InvalidInput(f"target: every label is ignored (ignore_index={self.ignore_index}).")
        *after, before = self._mious(self.around.cpu().view(-1, self.classes, self.classes))
        score, per_class = shares(whole, SEGMENTATION, self.ignore_index)
        return FilmScores(
            miou=score,
            per_class=per_class,
            accuracy=float(whole.diagonal().sum() / whole.sum()),
            flicker=_share(*self.flicker.tolist()),
            by_frame=self._mious(tables),
            after_cut=tuple(after) if any(self.films.cuts) else (),
            before_cut=before,
            hidden=_share(*self.behind.tolist()),
            films=len(self.films.places),
            frames=sum(map(len, self.films.places)),
        )

    def _mious(self, tables: Tensor) -> tuple[float | None, ...]:
        return tuple(_finite(shares(table, SEGMENTATION, self.ignore_index)[0]) for table in tables)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
