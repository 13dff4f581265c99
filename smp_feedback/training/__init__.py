"""Training with Lightning (extra ``train``)."""

from __future__ import annotations

from smp_feedback.errors import require

require("lightning", extra="train")

from smp_feedback.training.clicks import ClickModule
from smp_feedback.training.cross_fitting import CrossFitted, cross_fit
from smp_feedback.training.datamodule import PairsModule, TripletsModule
from smp_feedback.training.denoising import DenoisingModule
from smp_feedback.training.module import FeedbackModule
from smp_feedback.training.repair import RepairModule
from smp_feedback.training.restoration import RestorationModule
from smp_feedback.training.trainer import fit

__all__ = [
    "ClickModule",
    "CrossFitted",
    "DenoisingModule",
    "FeedbackModule",
    "PairsModule",
    "RepairModule",
    "RestorationModule",
    "TripletsModule",
    "cross_fit",
    "fit",
]
