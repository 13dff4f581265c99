"""Networks that restore an image before it is segmented again."""

from __future__ import annotations

from smp_feedback.hookspecs import Register, hookimpl


@hookimpl
def register_restorers(register: Register) -> None:
    """What is built in."""
    register("unet", "smp_feedback.restorers.painting:unet")
