"""Losses by name: smp's, torch's and those of the papers, imported when they are asked for."""

from __future__ import annotations

from smp_feedback.hookspecs import Register, hookimpl

SMP = "segmentation_models_pytorch.losses"


@hookimpl
def register_losses(register: Register) -> None:
    """A loss is a class; the name builds it with its own defaults or the arguments given.

    smp's further losses are left out: ``SoftBCEWithLogitsLoss`` and ``MCCLoss`` take no class indices of several
    classes, and ``SoftCrossEntropyLoss`` is ``cross_entropy`` with ``label_smoothing``.
    """
    register("cross_entropy", "torch.nn:CrossEntropyLoss")
    for name in ("Dice", "Jaccard", "Focal", "Lovasz", "Tversky"):
        register(name.lower(), f"{SMP}:{name}Loss")
    register("evidential", "smp_feedback.losses.evidential:Evidential")
    register("generalized_dice", "smp_feedback.losses.published:GeneralizedDice")
    register("foreground_focal", "smp_feedback.losses.published:ForegroundFocal")
    register("dice_focal", "smp_feedback.losses.published:DiceFocal")
    register("iterative_focal", "smp_feedback.losses.iterative:IterativeFocal")
    register("class_balanced_iterative_focal", "smp_feedback.losses.iterative:ClassBalancedIterativeFocal")
    register("soft_cldice", "smp_feedback.losses.cldice:SoftClDice")
    register("dice_cldice", "smp_feedback.losses.cldice:DiceClDice")
    register("skeleton_recall", "smp_feedback.losses.skeleton_recall:SkeletonRecall")
    register("mixture", "smp_feedback.losses.mixture:LossMixture")
    register("reconstruction", "smp_feedback.losses.reconstruction:Reconstruction")
