"""Runs of fit that each left images out, put together: for each training image one that did not learn from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import segmentation_models_pytorch as smp
from torch import nn

from smp_feedback.data.items import item_name
from smp_feedback.errors import FeedbackError, InvalidValue
from smp_feedback.factory import from_pretrained
from smp_feedback.loops.repair.model import RepairModel
from smp_feedback.models.normalisation import given_config
from smp_feedback.surgery.head import channels_of
from smp_feedback.training.cross_fitting import CrossFitted
from smp_feedback.training.opening import learnt_from
from smp_feedback.training.run_folder import MODEL, kept_data
from smp_feedback.training.same_settings import of_any_version, run_settings


def fitted_by(folders: Sequence[Path], train: Any, model: RepairModel) -> CrossFitted:
    """The models in *folders* as answerers for *train*: each for images that it did not learn from, about as many each.

    Args:
        folders: Those of runs of ``smp-feedback fit`` on the same files, such as those of ``--data.folds``.
        train: The images to be answered for, files with names.
        model: What learns from the answers: it must take the same images, and tell the same classes.

    Raises:
        InvalidValue: If a run is none, its images are no files, it takes other images or tells other classes; if an
            image is one that every run learnt from, with its name.
    """
    learnt = [_learnt(folder) for folder in folders]
    bases = [_model_of(folder, model) for folder in folders]
    counts, folds = [0] * len(folders), []
    for i in range(len(train)):
        name = str(Path(item_name(train, i)).resolve())
        free = [k for k, names in enumerate(learnt) if name not in names]
        if not free:
            raise InvalidValue(
                f"--fitted: all of {', '.join(map(str, folders))} learnt from {name}; expected for each training image "
                "a run that did not, as those of --data.folds 3 --data.fold 0, 1 and 2 are."
            )
        chosen = min(free, key=lambda k: counts[k])
        counts[chosen] += 1
        folds.append(chosen)
    return CrossFitted(bases, folds)


def _learnt(folder: Path) -> set[str]:
    """The files that the run in *folder* learnt from."""
    settings = of_any_version(run_settings(folder))
    split = learnt_from(settings["data"], settings["seed"]).get("train")
    if split is None:
        raise InvalidValue(
            f"--fitted {folder}: its training images are no files, or there no longer; of drawn images, which never "
            "end, take others: leave --fitted out."
        )
    return {str(Path(item_name(split, i)).resolve()) for i in range(len(split))}


def _model_of(folder: Path, model: RepairModel) -> nn.Module:
    saved = folder / MODEL
    try:
        base: nn.Module = from_pretrained(saved)
    except FeedbackError as ours:
        try:
            base = cast(Any, smp).from_pretrained(saved)
        except Exception:  # neither wrote it, and ours says so in words
            raise ours from None
    own, theirs = given_config(model).config, kept_data(folder) or given_config(base).config
    for name in ("mean", "std", "channels", "classes"):
        if getattr(own, name) != getattr(theirs, name):
            said = f"{name}={getattr(theirs, name)}, the base {getattr(own, name)}"
            raise InvalidValue(f"--fitted {folder}: it was trained with {said}; expected the same.")
    if (found := channels_of(base)) not in (None, model.feedback.classes):
        raise InvalidValue(f"--fitted {folder}: it answers {found} channels, the base {model.feedback.classes}.")
    return base
