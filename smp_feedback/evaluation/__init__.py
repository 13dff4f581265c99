"""Evaluation: what a model is worth under noise, and pictures of how it came to its answer."""

from __future__ import annotations

from smp_feedback.errors import require

require("torchmetrics", extra="train")

from smp_feedback.evaluation.sweep import miou, noise_sweep

__all__ = ["miou", "noise_sweep"]
