"""Test images of an ablation: as distorted, as restored, and what each row's model of the first seed says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from smp_feedback.evaluation.restoration_loop import answers
from smp_feedback.experiments.ablation.rows import ROWS
from smp_feedback.experiments.ablation.runs import AblationKey, restored, test_triplets
from smp_feedback.experiments.ablation.settings import AblationSettings
from smp_feedback.plotting.pictures import Panel, answered, colours, data_config, examples, fed, grid, photo
from smp_feedback.surgery.extension import evaluating


def draw_pictures(settings: AblationSettings, folder: Path, name: str) -> Path | None:
    """One row a test image: distorted, clean, what the last row of R restored, every row's labels, the truth.

    Args:
        settings: The ablation.
        folder: Where its ``models`` are, and the picture goes.
        name: The file's.

    Returns:
        Its path; None if no model was kept.
    """
    wanted = {row: restored(settings, AblationKey(row, 0), folder) for row in ROWS if row in settings.rows}
    models = {row: model for row, model in wanted.items() if model is not None}
    test = test_triplets(settings)
    classes = len(test.classes or ())
    return grid([pictures(models, *sample, classes) for sample in examples(test)], folder / name) if models else None


def pictures(models: dict[str, nn.Module], distorted: Tensor, clean: Tensor, mask: Tensor, classes: int) -> list[Panel]:
    """The pictures of one test image, with their titles."""
    said, seen = {}, None
    for row, model in models.items():
        with evaluating(model), torch.inference_mode():
            *_, last = answers(model, fed(model, distorted[None]))
        said[row] = answered(last.logits, classes)
        if ROWS[row].restored:
            seen = f"restored:\n{row}", photo(data_config(model).undo(last.restored)[0])
    labels = [(row.replace("-", "\n"), picture) for row, picture in said.items()]
    images: list[Any] = [("distorted image", photo(distorted)), seen, ("clean image", photo(clean))]
    return [*filter(None, images), *labels, ("truth", colours(mask, classes))]
