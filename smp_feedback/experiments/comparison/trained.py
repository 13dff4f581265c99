"""What a comparison's training is told, and which of it is whose: a loop has more to be told than its twins."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from smp_feedback.config.base import LoopConfig
from smp_feedback.errors import InvalidValue, UnknownKeyword, nearest
from smp_feedback.experiments.comparison.results import FEEDBACK

if TYPE_CHECKING:
    from smp_feedback.training.unrolling import Unrolling

ELSEWHERE = ("model", "classes", "ignore_index", "task", "loss", "lr", "supervise")  # settings of their own
CALLED = ("optimizer", "schedule")  # what can be called is no setting
UNROLLED = ("steps", "free_steps", "progressive", "segments")  # what means nothing to a loop of one look


def check_training(training: Mapping[str, Any]) -> None:
    """Every key is one that a comparison can tell `FeedbackModule`.

    Raises:
        InvalidValue: For what a comparison says itself.
        UnknownKeyword: For what it does not take.

    >>> check_training({"free_stepz": 3})
    Traceback (most recent call last):
    smp_feedback.errors.UnknownKeyword: training takes no 'free_stepz'. Did you mean 'free_steps'?
    """
    from smp_feedback.training.module import FeedbackModule

    known = [name for name in inspect.signature(FeedbackModule).parameters if name not in (*ELSEWHERE, *CALLED)]
    for key in training:
        if key in ELSEWHERE:
            raise InvalidValue(f"training={{{key}: ...}}: the comparison knows it from its data and its own settings.")
        if key in CALLED:
            raise InvalidValue(f"training={{{key}: ...}}: every model has AdamW and one cycle; lr is its peak.")
        if key not in known:
            raise UnknownKeyword(f"training takes no {key!r}. {nearest(key, known)}")


def unrolling_of(config: LoopConfig, supervise: str, training: Mapping[str, Any]) -> Unrolling:
    """How the loop of *config* is unrolled in training.

    Raises:
        InvalidType, InvalidValue: If a number of looks is none, or nobody gives one.
    """
    from smp_feedback.training.unrolling import Unrolling

    told = {key: value for key, value in training.items() if key in UNROLLED}
    steps = getattr(config, "steps", None)
    if not isinstance(steps, int) and told.get("steps") is None:
        raise InvalidValue(f"feedback with steps={steps!r}: twins are trained by a number of looks; give one.")
    usual = steps if isinstance(steps, int) else 1
    carrying = getattr(config, "grad_steps", None)
    return Unrolling(usual=usual, supervise=cast(Any, supervise), carrying=carrying, **told)


def told(training: Mapping[str, Any], model: str) -> dict[str, Any]:
    """What of *training* the module of *model* is told; terms of a mixture judge the only look of a model that has one.

    >>> training = {"steps": [8, 16], "ema": 0.99, "feedback_lr": 0.01}
    >>> told(training, "one-step"), told(training, "plain")
    ({'ema': 0.99, 'feedback_lr': 0.01}, {'ema': 0.99})
    """
    from smp_feedback.training.loss_terms import from_the_first_look
    from smp_feedback.training.unrolling import LOOP_ONLY

    left_out = {FEEDBACK: (), "one-step": UNROLLED}.get(model, LOOP_ONLY)
    kept = {key: value for key, value in training.items() if key not in left_out}
    if model != FEEDBACK and isinstance(kept.get("loss_arguments"), Mapping):
        kept["loss_arguments"] = from_the_first_look(kept["loss_arguments"])
    return kept
