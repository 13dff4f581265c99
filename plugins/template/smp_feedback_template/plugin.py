"""What this package brings. The entry point names this module; the parts are imported when they are first used."""

from __future__ import annotations

from smp_feedback.hookspecs import Register, hookimpl


@hookimpl
def register_architectures(register: Register) -> None:
    """Base models."""
    register("TemplateNet", "smp_feedback_template.net:TemplateNet")


@hookimpl
def register_dynamics(register: Register) -> None:
    """Rules by which the state answers."""
    register("template_gate", "smp_feedback_template.gate:Gate")


@hookimpl
def register_losses(register: Register) -> None:
    """Losses."""
    register("template_margin", "smp_feedback_template.margin:Margin")
