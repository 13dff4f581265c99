"""What a film model learns once it is trained: which change of its state is a cut, on the films of validation."""

from __future__ import annotations

from typing import Any

from smp_feedback.data.items import inherited
from smp_feedback.data.wrapped import films_of
from smp_feedback.errors import InvalidValue
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.training.datamodule import PairsModule
from smp_feedback.training.module import FeedbackModule


def check_learns_cut(module: FeedbackModule, data: PairsModule) -> None:
    """The threshold of cuts can be learned, before an hour is spent on training.

    Raises:
        InvalidValue: If the model carries no state, or nothing that is validated on has a cut.
    """
    if data.clip is None or not isinstance(module.opened, FeedbackModel):
        raise InvalidValue(
            "learn_cut=True learns where a state that is carried on begins anew: train a loop on clips (data.clip)."
        )
    films = () if data.val is None else films_of(data.val) or ()
    if len(films) < 2 and not inherited(data.val, "cuts"):
        raise InvalidValue(
            f"learn_cut=True joins films of val for their cuts, and there {'is' if len(films) == 1 else 'are'} "
            f"{len(films)}: expected two, or one that says its cuts."
        )


def cut_learned(module: FeedbackModule, data: PairsModule) -> list[str]:
    """Let the model of *module* keep the threshold that tells cuts best, see `learn_cut`; what it is, in a line."""
    from smp_feedback.evaluation.films import learn_cut

    trainer: Any = module._trainer
    home, device = module.device, module.device if trainer is None else trainer.strategy.root_device
    module.to(device)
    found = learn_cut(module.opened, data.val, keep=True, batch_size=data.batch_size, workers=data.workers)
    module.to(home)
    return [str(found)]
