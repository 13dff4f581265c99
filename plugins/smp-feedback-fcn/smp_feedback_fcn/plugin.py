"""What this package brings to ``smp_feedback``."""

from __future__ import annotations

from smp_feedback.hookspecs import Register, hookimpl


@hookimpl
def register_architectures(register: Register) -> None:
    """Imported when they are asked for."""
    register("FCN8s", "smp_feedback_fcn.fcn8:FCN8s", aliases=("FCN8", "FCN-8s"))
    register("FCDenseNet", "smp_feedback_fcn.densenet:FCDenseNet", aliases=("FC-DenseNet", "Tiramisu"))
    for depth in (56, 67, 103):
        aliases = (f"FC-DenseNet{depth}", f"Tiramisu{depth}")
        register(f"FCDenseNet{depth}", f"smp_feedback_fcn.densenet:fc_densenet{depth}", aliases=aliases)


@hookimpl
def register_cuts(register: Register) -> None:
    """FCN-8s crops its logits to the image; FC-DenseNets are encoder, decoder and segmentation head as smp's are."""
    register("smp_feedback_fcn.fcn8.FCN8s", "smp_feedback_fcn.fcn8:CUT")
