"""One run of an ablation: a row's model trained once and scored; a pure function of the settings and its key."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from smp_feedback.data import Corrupted
from smp_feedback.data.triplets import Triplets
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation.image_quality import ImageTally
from smp_feedback.evaluation.restoration_loop import answers, counted
from smp_feedback.experiments import runs, store
from smp_feedback.experiments.ablation.rows import DISTORTED, ROWS, lines
from smp_feedback.experiments.ablation.settings import AblationSettings
from smp_feedback.experiments.ablation.variants import make_model, make_module
from smp_feedback.experiments.cost import seconds_per_image
from smp_feedback.experiments.runs import TEST_SEED, held_out, opened, train
from smp_feedback.loops.restoration.model import RestorationModel
from smp_feedback.training.datamodule import PairsModule, TripletsModule
from smp_feedback.training.facts import Facts


class AblationKey(NamedTuple):
    """Which run of an ablation."""

    row: str
    seed: int

    def __str__(self) -> str:
        return f"{self.row}-s{self.seed}"


def keys(settings: AblationSettings) -> Iterator[AblationKey]:
    """Every run, seed by seed, so that what is there after an hour is a whole table."""
    rows = [row for row in ROWS if row in settings.rows]
    return (AblationKey(row, seed) for seed, row in itertools.product(range(settings.seeds), rows))


def passes_of(settings: AblationSettings, key: AblationKey) -> int:
    """Passes of M and R in training a run: about what its time goes with."""
    row, steps = ROWS[key.row], settings.config.steps
    passes = 1 if not row.restored else 2 * (steps + 1 if row.fed_back else 1)
    return passes * settings.train_steps


def facts(settings: AblationSettings) -> Facts:
    """What a model must know of the data.

    Raises:
        InvalidValue: If they have one label an image.
    """
    found = runs.facts(settings)
    if found.task != "segmentation":
        raise InvalidValue(f"data={settings.data} has one label an image: an ablation wants maps of labels.")
    return found


def training_data(settings: AblationSettings, key: AblationKey) -> PairsModule | TripletsModule:
    """What *key* is trained on: the same images in the same order, and as distorted, in all rows of one seed."""
    clean = opened(settings, "train", key.seed, settings.train_count or None)
    row, how = ROWS[key.row], {"batch_size": settings.batch_size, "seed": key.seed}
    if row.restored:
        return TripletsModule(Triplets(clean, *settings.distortion, fresh=True), **how)
    distorted = row.images == DISTORTED
    return PairsModule(Corrupted(clean, *settings.distortion, fresh=True) if distorted else clean, **how)


def test_triplets(settings: AblationSettings) -> Triplets:
    """The same distorted images for every row and seed, beside the clean ones; none of training is drawn so."""
    return Triplets(held_out(settings), *settings.distortion, seed=TEST_SEED)


def trained(settings: AblationSettings, key: AblationKey, accelerator: str) -> tuple[nn.Module, float]:
    """The model of *key*, trained, and the seconds that took."""
    about, data = facts(settings), training_data(settings, key)
    model = make_model(key.row, settings, about, key.seed)
    module = make_module(key.row, settings, about, model, data)
    return model, train(key, module, data, settings.train_steps, accelerator)


def run(settings: AblationSettings, key: AblationKey, accelerator: str = "auto") -> store.Trained:
    """Train, score and measure one model.

    Args:
        settings: The ablation.
        key: Which of its runs.
        accelerator: Lightning's.

    Returns:
        A run as ``ablation.json`` holds it, and the weights.
    """
    (model, seconds), about = trained(settings, key, accelerator), facts(settings)
    device = torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
    model, test = model.to(device), test_triplets(settings)
    found = {"row": key.row, "seed": key.seed, "seconds": seconds, **compute(model, settings)}
    found["seconds_per_image"] = seconds_per_image(model, test[0][0][None].to(device))
    found["scores"] = [entry for line in lines([key.row]) for entry in scores(model, test, about, line.images)]
    return store.Trained.of(model, found)


def scores(model: nn.Module, test: Triplets, about: Facts, images: str) -> list[dict[str, Any]]:
    """The scores of each pass of *model*, M or M behind R, on ``clean`` or on ``distorted`` *images*.

    Mean IoU, each class's, and the means over images of L1 and PSNR, None for what is no number; of M alone there is
    one pass, whose image is the one it was shown.
    """
    how: Any = {"classes": len(about.classes), "ignore_index": about.ignore_index, "batch_size": 8}
    found = counted(model, test, lambda *both: answers(model, both[0 if images == DISTORTED else 1]), **how)
    return [{"images": images, "pass": t, **_numbers(one)} for t, one in enumerate(found)]


def _numbers(one: ImageTally) -> dict[str, Any]:
    score, near = one.score(), one.closeness()
    kept = {name: value if math.isfinite(value) else None for name, value in near.items()}
    return {"score": score.score, "per_class": list(score.per_class), **kept}


def compute(model: nn.Module, settings: AblationSettings) -> dict[str, Any]:
    """What training takes: updates, and forward passes of a batch, of M and R; and the parameters of both."""
    every, n = sum(p.numel() for p in model.parameters()), settings.train_steps
    if not isinstance(model, RestorationModel):
        return {"updates": {"M": n, "R": 0}, "passes": {"M": n, "R": 0}, "parameters": {"M": every, "R": 0}}
    config, restorer = model.feedback.config, sum(p.numel() for p in model.restorer.parameters())
    each = config.steps + 1 if config.weight else 1  # the first restoration is in no loss
    return {
        "updates": {"M": n, "R": n * config.steps},
        "passes": {"M": n * each, "R": n * each},
        "parameters": {"M": every - restorer, "R": restorer},
    }


def restored(settings: AblationSettings, key: AblationKey, folder: Path) -> nn.Module | None:
    """The trained model of *key*, if its weights are kept in *folder*."""
    return store.restored(folder, key, lambda: make_model(key.row, settings, facts(settings), key.seed))
