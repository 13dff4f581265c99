"""A comparison on films drawn: mIoU frame by frame, flicker, and what a cut costs; for ``smp-feedback plot``, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from smp_feedback.experiments.films.results import FilmComparison, FilmTest, parse
from smp_feedback.experiments.films.rivals import CARRIED
from smp_feedback.plotting.films import after_cuts, flickers, over_frames

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figures(results: Mapping[str, Any]) -> dict[str, Figure]:
    """``frames``, ``flicker`` and, where films were joined, ``cuts``.

    Raises:
        InvalidInput: If *results* are no comparison on films.
    """
    found = parse(results)
    made = {
        "frames": over_frames({test.test: _by_model(found, test, "by_frame") for test in found.tests}),
        "flicker": flickers({test.test: _by_model(found, test, "flicker") for test in found.tests}),
    }
    if found.joined:
        made["cuts"] = after_cuts(_cuts(found))
    return made


def _by_model(found: FilmComparison, test: FilmTest, measure: str) -> dict[str, list[Any]]:
    return {model: [getattr(s, measure) for s in found.scores(model, test).values()] for model in found.models}


def _cuts(found: FilmComparison) -> dict[str, list[tuple[float, Any]]]:
    """Of each model the mIoU before a cut and of the frames after it, a pair a seed."""
    shown = {}
    for test in found.joined:
        for model in found.models if not test.reset else [CARRIED]:
            name = f"{model}, reset" if test.reset else model
            shown[name] = [(score.before_cut, score.after_cut) for score in found.scores(model, test).values()]
    return shown
