"""The recurrent loop: a decaying state, fed back."""

from smp_feedback.loops.recurrent.model import RecurrentModel
from smp_feedback.loops.recurrent.state import RecurrentFeedback

__all__ = ["RecurrentFeedback", "RecurrentModel"]
