"""Training that begins from weights of the user's own, shown images as those were."""

from __future__ import annotations

import warnings
from pathlib import Path

from torch import nn

from smp_feedback.config.data import DataConfig
from smp_feedback.models.normalisation import given_config
from smp_feedback.saving.beginning import begin_from
from smp_feedback.saving.plain_weights import is_ours
from smp_feedback.saving.saved import DATA, read_config
from smp_feedback.training.run_folder import kept_data

KEEPS = "residual"
"""The dynamics that begin with every answer of a trained model."""


def begin(model: nn.Module, source: str) -> bool:
    """Load *source* into *model*, in place, which then expects images as its weights were trained on.

    A model of ours and a run of ``fit`` say that themselves. A plain file says nothing: taken are the mean and std of
    its encoder, by which smp's, timm's and torchvision's own recipes train.

    Args:
        model: As it was made, looping or plain.
        source: See :func:`smp_feedback.saving.beginning.begin_from`.

    Returns:
        Whether a looping model was given a plain one's weights.

    Raises:
        FeedbackError: If it does not fit.
    """
    plain = begin_from(model, source)
    vars(model).pop("data_config", None)
    vars(model)["data_config"] = _said(source) or given_config(model).config
    return plain


def say_what_begins(model: nn.Module, source: str) -> None:
    """Warn where the loop of *model*, given the plain weights of *source*, begins with other answers than they did."""
    dynamics = getattr(getattr(model, "loop_config", None), "dynamics", KEEPS)
    if dynamics != KEEPS:
        warnings.warn(
            f"{source} holds a plain model, and the loop's dynamics {dynamics!r} begin with other answers than it "
            f"gives: feedback={{'dynamics': {KEEPS!r}}} (--model.feedback.dynamics {KEEPS}) keeps them, as wrap does.",
            UserWarning,
            stacklevel=3,
        )


def _said(source: str) -> DataConfig | None:
    """What is written beside the weights of what they were trained on."""
    path = Path(source).expanduser()
    if is_ours(path):
        told = read_config(path).get(DATA)
        return DataConfig() if told is None else DataConfig.from_dict(told)
    return kept_data(path.parent) if path.is_file() else None
