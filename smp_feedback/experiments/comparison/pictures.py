"""Pictures for the report: how the models of the first seed answer held-out images, and whether the loop settles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from smp_feedback.experiments.comparison.runs import ComparisonKey, restored
from smp_feedback.experiments.comparison.settings import ComparisonSettings, Condition
from smp_feedback.experiments.comparison.size_pictures import ShownSizes, size_pictures
from smp_feedback.experiments.runs import TEST_SEED, facts, held_out
from smp_feedback.data.feeding import feeding
from smp_feedback.data import Corrupted, Sample
from smp_feedback.evaluation import save_result, stability
from smp_feedback.plotting.pictures import examples, refinement
from smp_feedback.plotting.plot import draw, save_figure
from smp_feedback.plotting.style import styled
from smp_feedback.loops.base import FeedbackModel

LOOKS = 20  # many more than any was trained with


def draw_pictures(settings: ComparisonSettings, folder: Path) -> dict[str, Path]:
    """Two pictures for each training condition, with the most training images; of a classifier, the second alone.

    At several sizes it is a picture for each, and the loop at work on the largest.

    Args:
        settings: The comparison.
        folder: Where its models are, and the pictures go.

    Returns:
        Paths by caption.
    """
    test, about = held_out(settings), facts(settings)
    images = max(settings.train_count, key=lambda n: n or float("inf"))
    drawn: dict[str, Path] = {}
    for condition in settings.conditions:
        models = _models(settings, condition, images, folder)
        name = str(condition).replace(":", "")
        if settings.sizes is not None:
            if models and about.task == "segmentation":
                drawn |= size_pictures(ShownSizes(settings, condition, models, folder / "models"))
            continue
        if models and about.task == "segmentation":
            path = folder / "models" / f"refinement-{name}.png"
            drawn[f"Held-out images under {condition}, models of seed 0"] = refinement(
                models, _examples(condition, test), path, classes=len(about.classes)
            )
        if isinstance(loop := models.get("feedback"), FeedbackModel):
            words = f"Whether the loop comes to rest: {LOOKS} looks at held-out images under {condition}, seed 0"
            drawn[words] = _settling(loop, condition, test, about.task, folder / "models" / f"stability-{name}.png")
    return drawn


def _models(settings: ComparisonSettings, condition: Condition, images: int, folder: Path) -> dict[str, nn.Module]:
    wanted = {
        name: restored(settings, ComparisonKey(name, condition, images, 0), folder) for name in settings.models[::-1]
    }
    return {name: model for name, model in wanted.items() if model is not None}


def _settling(loop: FeedbackModel, condition: Condition, test: Any, task: str, path: Path) -> Path:
    """The result beside its figure, for ``smp-feedback plot``."""
    feed = feeding(loop, test)
    result = stability(loop, [feed(image) for image, _ in _examples(condition, test)], looks=LOOKS, task=task)
    save_result(result, path.with_suffix(".json"))
    with styled("screen"):
        return save_figure(next(iter(draw(result).values())), path)


def _examples(condition: Condition, test: Any) -> list[Sample]:
    return examples(Corrupted(test, condition.corruption, condition.severity, seed=TEST_SEED))
