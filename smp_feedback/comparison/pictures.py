"""Pictures for the report: how the models of the first seed answer held-out images, look by look."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from smp_feedback.comparison.runs import TEST_SEED, Key, held_out, restored, task_of
from smp_feedback.comparison.settings import Condition, Settings
from smp_feedback.data import Corrupted
from smp_feedback.evaluation.pictures import refinement

EXAMPLES = 4


def draw_pictures(settings: Settings, folder: Path) -> dict[str, Path]:
    """One picture for each training condition, with the most training images; empty for classification.

    Args:
        settings: The comparison.
        folder: Where its models are, and the pictures go.

    Returns:
        Paths by caption.
    """
    test = held_out(settings)
    if task_of(test) == "classification":
        return {}
    images = max(settings.images, key=lambda n: n or float("inf"))
    drawn = {}
    for condition in settings.conditions:
        models = _models(settings, condition, images, folder / "models")
        if models:
            path = folder / f"pictures-{str(condition).replace(':', '')}.png"
            drawn[f"Held-out images under {condition}, models of seed 0"] = _draw(models, condition, test, path)
    return drawn


def _models(settings: Settings, condition: Condition, images: int, folder: Path) -> dict[str, nn.Module]:
    wanted = {name: restored(settings, Key(name, condition, images, 0), folder) for name in settings.models[::-1]}
    return {name: model for name, model in wanted.items() if model is not None}


def _draw(models: dict[str, nn.Module], condition: Condition, test: object, path: Path) -> Path:
    shown = Corrupted(test, condition.corruption, condition.severity, seed=TEST_SEED)  # type: ignore[arg-type]
    at = [i * len(shown) // EXAMPLES for i in range(min(EXAMPLES, len(shown)))]
    return refinement(models, [shown[i] for i in at], path, classes=len(shown.classes or ()))
