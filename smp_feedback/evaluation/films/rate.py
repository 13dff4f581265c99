"""How fast averaged answers forget: the rate that serves validation films best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from smp_feedback.errors import InvalidType
from smp_feedback.evaluation.asking import device_of
from smp_feedback.evaluation.films.counts import FilmTally
from smp_feedback.evaluation.films.evaluating import check_films, shown_to
from smp_feedback.evaluation.films.predictors import Averaged, FrameByFrame

RATES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)


class _Told:
    """A predictor that says what was computed for all who ask."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def begin(self) -> None:
        """Nothing is kept."""

    def see(self, frame: torch.Tensor) -> torch.Tensor:
        """*frame* is the answer."""
        return frame


def tune_rate(
    model: nn.Module,
    data: Any,
    *,
    classes: int,
    ignore_index: int | None = None,
    rates: Sequence[float] = RATES,
    batch_size: int = 8,
    workers: int = 0,
) -> dict[float, float]:
    """The mIoU of :class:`Averaged` answers on *data* by rate, best first: ``next(iter(found))`` is the rate to take.

    The model sees each frame once, for all rates. Of rates that score alike the largest comes first: it forgets
    soonest.

    Args:
        model: What answers each frame on its own.
        data: Frames with films, not those that are reported on.
        classes: Number of classes.
        ignore_index: Label that is not scored.
        rates: To try, each in (0, 1]; 1 averages nothing.
        batch_size: Films at a time.
        workers: Processes that load data.

    Raises:
        InvalidValue, InvalidType, InvalidInput: As :func:`evaluate_films`, and for a rate out of its range.
    """
    if isinstance(rates, (str, float, int)) or not len(rates):
        raise InvalidType(f"rates={rates!r}: expected numbers in (0, 1], such as {list(RATES)}.")
    films, single = check_films(data, classes), FrameByFrame(model)
    averages = [Averaged(_Told(single.model), rate) for rate in sorted(set(rates), reverse=True)]
    tallies = [FilmTally(films, classes, ignore_index, device_of(single.model)) for _ in averages]
    with torch.inference_mode():
        for frame, shown in shown_to(single.model, data, films, batch_size, workers):
            answer = single.see(shown)
            for average, tally in zip(averages, tallies, strict=True):
                if frame.place == 0:
                    average.begin()
                tally.add(average.see(answer), frame)
    found = {average.rate: tally.scores().miou for average, tally in zip(averages, tallies, strict=True)}
    return dict(sorted(found.items(), key=lambda rate: -rate[1]))
