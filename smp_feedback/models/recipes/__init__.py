"""The published models by name: an architecture each, with the loop it was published with."""

from __future__ import annotations

from typing import Any

from smp_feedback.hookspecs import Register, hookimpl

DEEP_FEEDBACK: dict[str, Any] = {"loop": "recurrent", "steps": 5, "tau": 1.0, "dynamics": "decay", "insert": "stem"}
"""Deep Feedback Models (arXiv 2509.15905): a state that decays, fed back behind the stem."""

NEUMANN: dict[str, Any] = {
    **{"loop": "recurrent", "steps": 10, "tau": 0.2, "dynamics": "fractional", "order": 1.5, "basis": "free"},
    **{"norm_error": "instance", "norm_feedback": "instance"},
}
"""Deep Recurrence for Dynamical Segmentation Models (arXiv 2507.10143): fractional weights, fed back to the image."""


DIRICHLET: dict[str, Any] = {**NEUMANN, "output": "dirichlet", "norm_error": "none"}
"""The same, of Dirichlet predictions. Published corrections are normalised with a learned scale for each pixel; without
one, evidence could not grow, so here they are not (``docs/recipes.md``)."""


@hookimpl
def register_architectures(register: Register) -> None:
    """Both papers' models."""
    for depth, expansion in ((18, 1), (34, 1), (50, 4)):
        address = f"smp_feedback.models.recipes.resnet:dfm_resnet{depth}"
        groups = {"channels": 16 * expansion, "norm_error": 8, "norm_feedback": 8}
        register(f"DFMResNet{depth}", address, feedback=DEEP_FEEDBACK | groups)
    instance = {"channels": 2, "norm_error": "instance", "norm_feedback": "instance"}
    register(
        "DFMDeepLabV3Plus", "smp_feedback.models.recipes.deeplab:DFMDeepLabV3Plus", feedback=DEEP_FEEDBACK | instance
    )
    register("NeumannUnet", "smp_feedback.models.recipes.unet:NeumannUnet", feedback={**NEUMANN, "channels": 2})
    register("DirichletUnet", "smp_feedback.models.recipes.unet:DirichletUnet", feedback=DIRICHLET)


@hookimpl
def register_cuts(register: Register) -> None:
    """Where they are opened: the last channels of what their heads do not read are fed back."""
    register("smp_feedback.models.recipes.resnet.DFMResNet", "smp_feedback.models.recipes.resnet:CUT")
    for name in ("deeplab.DFMDeepLabV3Plus", "unet.NeumannUnet"):
        register(f"smp_feedback.models.recipes.{name}", "smp_feedback.models.recipes.reading:CUT")
