"""Weights to begin with: a plain model's for the base, a looping model's for all of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from smp_feedback.errors import FeedbackError, InvalidValue
from smp_feedback.saving.files import Source
from smp_feedback.saving.plain_weights import Read, is_ours, looping, misfit, read_weights, without_prefix
from smp_feedback.saving.saved import read_saved
from smp_feedback.saving.weights import PREFIX, FeedforwardWeights, base_name, load_plain, with_rows


def begin_from(model: nn.Module, source: Mapping[str, Any] | Source) -> bool:
    """Load into *model*, looping or plain, in place, what *source* holds: all of it must fit.

    Args:
        model: As it was made.
        source: As :meth:`FeedforwardWeights.load_feedforward` takes it, and what this package left: a directory of a
            looping model, or a checkpoint of ``smp-feedback fit``.

    Returns:
        Whether a looping model was given a plain one's weights.

    Raises:
        FeedbackError: If they do not fit, in three lines; if a plain model is to begin with a loop's weights.

    >>> import torch
    >>> net = nn.Linear(2, 1)
    >>> begin_from(net, {"state_dict": {"net.weight": torch.ones(1, 2), "net.bias": torch.zeros(1)}})
    False
    >>> net(torch.ones(1, 2)).item()
    2.0
    """
    loops = isinstance(model, FeedforwardWeights)
    read = Read(read_saved(Path(cast(Any, source)).expanduser())[1], str(source)) if is_ours(source) else None
    read = read or read_weights(source)
    weights = without_prefix(read, [key for key in model.state_dict() if not (loops and key.startswith(PREFIX))])
    if not isinstance(model, FeedforwardWeights):
        if looping(weights):
            raise InvalidValue(
                f"{read.where} holds a model that looks again, and this {type(model).__name__} has one look: begin "
                "with the plain weights that a looping model's feedforward_state_dict() gives."
            )
        _load(model, weights, read.where, type(model).__name__)
    elif looping(weights):
        _load(model, with_rows(model, weights), read.where, f"this {base_name(model)}, which looks again")
    else:
        load_plain(model, weights, read.where)
        return True
    return False


def _load(model: nn.Module, weights: Mapping[str, Tensor], where: str, who: str) -> None:
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise FeedbackError(misfit(where, who, weights, model.state_dict())) from None
