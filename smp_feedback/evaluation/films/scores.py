"""What an answer to films is worth: how right, how steady, and how soon right again after a cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from smp_feedback.evaluation.html_scores import per_cent
from smp_feedback.evaluation.results import VERSION, Result
from smp_feedback.loops.html_tables import table_html


@dataclass(frozen=True)
class FilmScores:
    """One predictor's scores on films; shares are in [0, 1], and None where nothing was to be counted.

    Attributes:
        miou: Mean intersection over union, from one confusion matrix over all frames of all films.
        per_class: Intersection over union of each class; None of one that is in neither answer nor truth.
        accuracy: Share of pixels that are right.
        flicker: Share of pixels whose class changes from a frame to the next where the truth does not; those that are
            labelled in both frames. Across a cut nothing is counted.
        by_frame: mIoU by the frame's place in its film, over all films that are so long.
        after_cut: mIoU of the frame with which another scene begins, of the next one, and so on; over all cuts.
            Empty where the films have none.
        before_cut: mIoU of as many frames before each cut.
        hidden: Share of right pixels among those of objects that an occluder hides.
        films, frames: How many were counted.
    """

    miou: float
    per_class: tuple[float | None, ...]
    accuracy: float
    flicker: float | None
    by_frame: tuple[float | None, ...]
    after_cut: tuple[float | None, ...]
    before_cut: float | None
    hidden: float | None
    films: int
    frames: int

    @property
    def recovered(self) -> int | None:
        """Frames after a cut until the mIoU is within a point of that before it; None if it is not so soon, or never.

        >>> scores = FilmScores(0.7, (), 0.8, None, (), (0.5, 0.6, 0.695, 0.71), 0.7, None, 1, 9)
        >>> scores.recovered
        2
        """
        if self.before_cut is None:
            return None
        near = [value is not None and value > self.before_cut - 0.01 for value in self.after_cut]
        return near.index(True) if any(near) else None

    def _repr_html_(self) -> str:
        shares = {
            "mIoU": self.miou,
            "accuracy": self.accuracy,
            "flicker": self.flicker,
            "mIoU before cuts": self.before_cut,
        }
        rows: list[tuple[str, float | None]] = [(f"{name} (%)", per_cent(share)) for name, share in shares.items()]
        counts = [("frames to recover after a cut", self.recovered), ("films", self.films), ("frames", self.frames)]
        return table_html([*rows, *counts])

    def result(self, classes: Sequence[str], model: str = "model") -> Result:
        """As `save_result` takes it, kind ``films``."""
        return films_result({model: self}, classes)


def films_result(models: Mapping[str, FilmScores], classes: Sequence[str]) -> Result:
    """The scores of several *models* by name as `save_result` takes them, kind ``films``: ``rows``, one a model.

    Args:
        models: By the name that figures show.
        classes: Their names.
    """
    rows: list[dict[str, Any]] = [{"model": name, **asdict(scores)} for name, scores in models.items()]
    return {"kind": "films", "version": VERSION, "task": "segmentation", "classes": list(classes), "rows": rows}
