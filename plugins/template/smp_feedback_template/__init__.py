"""An architecture, a dynamics and a loss for smp_feedback."""

__version__ = "0.1.0"
