"""Where a scene ends: the change of a model's state that tells cuts from other frames, learned on films."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from smp_feedback.errors import InvalidInput, require
from smp_feedback.evaluation.films.evaluating import shown_to
from smp_feedback.evaluation.films.joined import JoinedFilms
from smp_feedback.evaluation.films.order import FrameBatch, films_in
from smp_feedback.evaluation.films.predictors import LookByLook
from smp_feedback.loops.looking import SETTLED_IN


@dataclass(frozen=True)
class LearnedCut:
    """What tells cuts; ``float(found)`` is the threshold, as ``reset=`` and the config's ``cut`` take it.

    Attributes:
        threshold: The change of the state, ``Step.change``, above which a frame is taken for a cut.
        auc: How well that change tells them: the chance that it is larger at a cut than at another frame.
        found: Share of cuts above the threshold.
        false: Share of other frames above it.
        cuts, others: How many there were.
    """

    threshold: float
    auc: float
    found: float
    false: float
    cuts: int
    others: int

    def __float__(self) -> float:
        return self.threshold

    def __str__(self) -> str:
        return (
            f"Cuts are changes of the state above {self.threshold:.3g}: {self.found:.1%} of {self.cuts} cuts, "
            f"{self.false:.1%} of {self.others} other frames (AUC {self.auc:.3f})."
        )


def learn_cut(model: nn.Module, data: Any, *, keep: bool = False, batch_size: int = 8, workers: int = 0) -> LearnedCut:
    """The change of *model*'s state that tells cuts best: the threshold of largest Youden's J.

    J is the share of cuts above the threshold less that of other frames. Between two changes that were seen, the
    threshold is in the middle. The first two frames of a film, which ``look`` takes for no cut, do not count; those
    right after a cut do, as frames that are none.

    Args:
        model: A looping model whose state can be carried on.
        data: Frames with films, not those that are reported on. Where they say no cuts, each film goes over into the
            next one, see :class:`JoinedFilms`.
        keep: Whether the model keeps the threshold in its config, for ``reset="auto"``.
        batch_size: Films at a time.
        workers: Processes that load data.

    Raises:
        InvalidValue: If the model carries no state on.
        InvalidInput: If *data* says nothing of films, or there is but one, and no cut in it.
        MissingExtra: Without torchmetrics (extra ``train``).
    """
    looking = LookByLook(model)
    joined = data if any(films_in(data).cuts) else JoinedFilms(data)
    films = films_in(joined)
    changes: list[Tensor] = []
    cuts: list[bool] = []
    with torch.inference_mode():
        for frame, shown in shown_to(looking.model, joined, films, batch_size, workers):
            if frame.place == 0:
                looking.begin()
            looking.see(shown)
            if frame.place >= SETTLED_IN and looking.step is not None:
                changes.append(looking.step.change)
                cuts += _are_cuts(frame, films.cuts)
    learned = youden(torch.cat(changes).cpu() if changes else torch.zeros(0), torch.tensor(cuts, dtype=torch.bool))
    if keep:
        looking.model.choose_cut(learned.threshold)
    return learned


def _are_cuts(frame: FrameBatch, cuts: tuple[tuple[int, ...], ...]) -> list[bool]:
    return [frame.place in cuts[film] for film in frame.films]


def youden(changes: Tensor, cuts: Tensor) -> LearnedCut:
    """The threshold of *changes* (n,) that tells *cuts* (n,), bool, from the others best; of equals the highest.

    Where nothing tells them it is the largest change, which none exceeds.

    Raises:
        InvalidInput: If all are cuts, or none is, or a change is no number.

    >>> youden(torch.tensor([0.1, 0.2, 0.5, 0.9]), torch.tensor([False, False, True, True])).threshold
    0.35...
    """
    require("torchmetrics", extra="train")
    from torchmetrics.functional.classification import binary_auroc, binary_roc

    count, others = int(cuts.sum()), int((~cuts).sum())
    if not count or not others or not changes.isfinite().all():
        raise InvalidInput(f"{count} cuts and {others} other frames, finite changes: expected one of each at least.")
    values, rank = torch.unique(changes.double(), return_inverse=True)  # chances: others would be taken for logits
    chance = rank.double() / len(values)
    false, found, _ = binary_roc(chance, cuts.long())
    lowest = torch.unique(chance).mul(len(values)).round().long().flip(0).tolist()  # above each threshold of the curve
    best = max(range(len(lowest) + 1), key=lambda i: (float(found[i] - false[i]), -i))
    threshold = float(values[-1]) if best == 0 else _below(values, lowest[best - 1])
    auc = float(binary_auroc(chance, cuts.long()))
    above = [float((changes[which] > threshold).double().mean()) for which in (cuts, ~cuts)]
    return LearnedCut(threshold, auc, above[0], above[1], count, others)


def _below(values: Tensor, place: int) -> float:
    """Half way from *values*' one at *place*, all > 0, to the one below it, or to nothing."""
    middle = (float(values[place]) + (float(values[place - 1]) if place else 0.0)) / 2
    return max(middle, torch.finfo(torch.float32).tiny)
