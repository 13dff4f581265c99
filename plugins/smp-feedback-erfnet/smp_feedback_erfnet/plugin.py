"""What this package brings to ``smp_feedback``."""

from __future__ import annotations

from smp_feedback.hookspecs import Register, hookimpl


@hookimpl
def register_architectures(register: Register) -> None:
    """Imported when it is asked for."""
    register("ERFNet", "smp_feedback_erfnet.erfnet:ERFNet", aliases=("ERF-Net",))


@hookimpl
def register_cuts(register: Register) -> None:
    """It crops its logits to the image."""
    register("smp_feedback_erfnet.erfnet.ERFNet", "smp_feedback_erfnet.erfnet:CUT")
