"""The loops: ways of feeding back what a model has concluded."""

from __future__ import annotations

from smp_feedback.hookspecs import Register, hookimpl


@hookimpl
def register_loops(register: Register) -> None:
    """The loops that exist."""
    register("recurrent", "smp_feedback.loops.recurrent.model:RecurrentModel")
    register("repair", "smp_feedback.loops.repair.model:RepairModel")
    register("restoration", "smp_feedback.loops.restoration.model:RestorationModel")
    register("score", "smp_feedback.loops.score.model:ScoreModel")
