"""Any segmentation_models_pytorch model, looking again: feedback loops behind smp's own interface.

>>> import smp_feedback as smpf
>>> model = smpf.create("Unet", encoder="resnet18", encoder_weights=None, feedback=smpf.Recurrent(steps=3))
>>> sorted(name for name, _ in model.named_children())
['decoder', 'encoder', 'feedback', 'segmentation_head']
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from smp_feedback.builder import list_encoders
    from smp_feedback.config import Recurrent
    from smp_feedback.cuts import Cut
    from smp_feedback.errors import FeedbackError, PluginWarning
    from smp_feedback.exporting.export import Exported, export
    from smp_feedback.factory import create, wrap
    from smp_feedback.loops.base import FeedbackModel, Step
    from smp_feedback.plugins import (
        list_architectures,
        list_corruptions,
        list_datasets,
        list_plugins,
        register_architecture,
        register_corruption,
        register_cut,
        register_dataset,
        register_dynamics,
        register_loop,
        register_loss,
        register_projection,
        register_restorer,
    )
    from smp_feedback.restoration_config import Restoration
    from smp_feedback.saving.loading import from_pretrained
    from smp_feedback.score_config import Score

_HOMES = {
    "list_encoders": "builder",
    "Recurrent": "config",
    "Score": "score_config",
    "Restoration": "restoration_config",
    "Cut": "cuts",
    "FeedbackError": "errors",
    "PluginWarning": "errors",
    "Exported": "exporting.export",
    "export": "exporting.export",
    "create": "factory",
    "from_pretrained": "saving.loading",
    "wrap": "factory",
    "FeedbackModel": "loops.base",
    "Step": "loops.base",
    "list_architectures": "plugins",
    "list_corruptions": "plugins",
    "list_datasets": "plugins",
    "list_plugins": "plugins",
    "register_architecture": "plugins",
    "register_corruption": "plugins",
    "register_cut": "plugins",
    "register_dataset": "plugins",
    "register_dynamics": "plugins",
    "register_loop": "plugins",
    "register_loss": "plugins",
    "register_projection": "plugins",
    "register_restorer": "plugins",
}

__all__ = [
    "Cut",
    "Exported",
    "FeedbackError",
    "FeedbackModel",
    "PluginWarning",
    "Recurrent",
    "Restoration",
    "Score",
    "Step",
    "create",
    "export",
    "from_pretrained",
    "list_architectures",
    "list_corruptions",
    "list_datasets",
    "list_encoders",
    "list_plugins",
    "register_architecture",
    "register_corruption",
    "register_cut",
    "register_dataset",
    "register_dynamics",
    "register_loop",
    "register_loss",
    "register_projection",
    "register_restorer",
    "wrap",
]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: ``import smp_feedback`` alone imports no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
