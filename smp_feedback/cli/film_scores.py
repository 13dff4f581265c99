"""Films scored as they are printed: one look a frame, how right and how steady, with figures beside the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from smp_feedback.data.progress import progress_bar
from smp_feedback.errors import InvalidInput
from smp_feedback.evaluation.films import FilmScores, evaluate_films
from smp_feedback.evaluation.films.evaluating import count_frames
from smp_feedback.evaluation.films.order import films_in
from smp_feedback.evaluation.results import save_result
from smp_feedback.training.facts import Facts

SPANS = ((0, 1), (1, 8), (8, 64))  # frames that are told apart; what comes later is one more


def has_films(data: Any) -> bool:
    """Whether *data* says which of its items are films."""
    try:
        films_in(data)
    except InvalidInput:
        return False
    return True


def tell_films(model: Any, data: Any, facts: Facts, folder: Path, title: str) -> FilmScores:
    """Score *model* on the films of *data*, print a table, and leave ``films.json`` and its figures in *folder*."""
    from smp_feedback.plotting.plot import plot

    reset = "auto" if getattr(getattr(model, "loop_config", None), "cut", None) is not None else None
    with progress_bar("films", count_frames(data), console=Console(stderr=True)) as advance:
        how: Any = {"classes": len(facts.classes), "ignore_index": facts.ignore_index, "reset": reset}
        found = evaluate_films(model, data, advance=advance, **how)
    console = Console()
    console.print(
        title if reset is None else f"{title}, anew after a cut", soft_wrap=True, markup=False, highlight=False
    )
    console.print(films_table(found))
    for _ in plot([save_result(found.result(facts.classes), folder / "films.json")]):
        pass
    return found


def films_table(found: FilmScores) -> Table:
    """What was found, a row a number, in per cent."""
    said = (f"{count} {what}{'s' * (count != 1)}" for count, what in ((found.films, "film"), (found.frames, "frame")))
    table = Table(caption=", ".join(said), caption_justify="left")
    table.add_column("whole films")
    table.add_column("%", justify="right")
    rows: list[tuple[str, float | None]] = [("mIoU", found.miou), ("flicker", found.flicker)]
    ends = (*SPANS, (SPANS[-1][1], len(found.by_frame)))
    spans = [(a, min(b, len(found.by_frame))) for a, b in ends if a < len(found.by_frame)]
    rows += [(_span(a, b), _mean(found.by_frame[a:b])) for a, b in spans]
    if found.after_cut:
        rows += [("mIoU before a cut", found.before_cut), ("mIoU of the frame of a cut", found.after_cut[0])]
    rows.append(("right behind occluders", found.hidden))
    for name, value in rows:
        if value is not None:
            table.add_row(name, f"{100 * value:.1f}")
    return table


def _span(begin: int, end: int) -> str:
    return f"mIoU of frame {begin}" if end == begin + 1 else f"mIoU of frames {begin} to {end - 1}"


def _mean(values: tuple[float | None, ...]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None
