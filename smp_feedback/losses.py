"""Losses by name: smp's and torch's, imported when they are asked for."""

from __future__ import annotations

from smp_feedback.hookspecs import Register, hookimpl

SMP = "segmentation_models_pytorch.losses"


@hookimpl
def register_losses(register: Register) -> None:
    """A loss is a class; the name builds it with its own defaults or the arguments given."""
    register("cross_entropy", "torch.nn:CrossEntropyLoss")
    for name in ("Dice", "Jaccard", "Focal", "Lovasz", "Tversky"):
        register(name.lower(), f"{SMP}:{name}Loss")
