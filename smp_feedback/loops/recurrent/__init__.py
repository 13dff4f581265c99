"""The recurrent loop: a decaying state, fed back."""

from smp_feedback.loops.recurrent.model import RecurrentFeedback, RecurrentModel

__all__ = ["RecurrentFeedback", "RecurrentModel"]
