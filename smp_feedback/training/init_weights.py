"""Training that begins from weights of the user's own, shown images as those were."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from smp_feedback.config.data import DataConfig
from smp_feedback.models.normalisation import given_config
from smp_feedback.saving.beginning import begin_from
from smp_feedback.saving.plain_weights import is_ours
from smp_feedback.saving.saved import DATA, read_config
from smp_feedback.training.run_folder import kept_data


def begin(model: nn.Module, source: str) -> None:
    """Load *source* into *model*, in place, which then expects images as its weights were trained on.

    A model of ours and a run of ``fit`` say that themselves. A plain file says nothing: taken are the mean and std of
    its encoder, by which smp's, timm's and torchvision's own recipes train.

    Args:
        model: As it was made, looping or plain.
        source: See :func:`smp_feedback.saving.beginning.begin_from`.

    Raises:
        FeedbackError: If it does not fit.
    """
    begin_from(model, source)
    vars(model).pop("data_config", None)
    vars(model)["data_config"] = _said(source) or given_config(model).config


def _said(source: str) -> DataConfig | None:
    """What is written beside the weights of what they were trained on."""
    path = Path(source).expanduser()
    if is_ours(path):
        told = read_config(path).get(DATA)
        return DataConfig() if told is None else DataConfig.from_dict(told)
    return kept_data(path.parent) if path.is_file() else None
