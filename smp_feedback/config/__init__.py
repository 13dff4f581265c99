"""Configs: one frozen value for each loop, validated at birth, and how what a caller gives becomes one."""

from smp_feedback.config.base import GradientFlow, LoopConfig
from smp_feedback.config.parse import Feedback, as_config
from smp_feedback.config.recurrent import Recurrent
from smp_feedback.config.repair import Repair
from smp_feedback.config.restoration import Restoration
from smp_feedback.config.score import Score

__all__ = ["Feedback", "GradientFlow", "LoopConfig", "Recurrent", "Repair", "Restoration", "Score", "as_config"]
