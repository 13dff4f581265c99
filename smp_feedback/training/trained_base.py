"""A trained base, found where its training left it, and closed into a loop around it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from smp_feedback.config.data import DataConfig
from smp_feedback.config.repair import Repair
from smp_feedback.config.restoration import Restoration
from smp_feedback.config.score import Score
from smp_feedback.errors import FeedbackError, InvalidType, InvalidValue
from smp_feedback.evaluation.score_loop import check_classes
from smp_feedback.factory import from_pretrained, wrap
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.loops.outer import OuterModel
from smp_feedback.saving.saved import CONFIG as SAVED
from smp_feedback.saving.weights import PREFIX
from smp_feedback.training.build import build_model, check_sizes
from smp_feedback.training.checkpoints import read_checkpoint
from smp_feedback.training.facts import Facts
from smp_feedback.training.run_folder import checkpoint_of, kept_data
from smp_feedback.training.same_settings import CONFIG, of_any_version, run_settings

AROUND = {
    "score": "score train, refined",
    "restoration": "restore train, restored",
    "repair": "repair train, repaired",
}
"""Groups of settings that runs of fit do not have, and what such a run is."""
NEW = (f"{PREFIX}autoencoder.", f"{PREFIX}restorer.", f"{PREFIX}net.")  # what no base has
BUILDS = ("arch", "encoder", "base_norm", "arguments")  # what of a run's settings says what its model is


def closed_base(folder: Path, config: Score | Restoration | Repair, facts: Facts) -> OuterModel:
    """The model that was trained in *folder*, closed into the loop of *config*, of which all is new.

    Args:
        folder: That of a run of ``smp-feedback fit``, whose best weights count, or a directory written by
            ``save_pretrained``, ours or smp's.
        config: The loop.
        facts: What the data are like.

    Raises:
        InvalidValue: If there is no base, it has such a loop already, or the data have other classes or channels.
        InvalidInput: If it does not take images of the data's size.
    """
    if (folder / CONFIG).is_file():
        model = _of_run(folder, config, facts)
        own = kept_data(folder) or DataConfig(channels=facts.image[0])
    elif (folder / SAVED).is_file():
        model = _saved(folder, config)
        own = kept_data(folder) or model.data_config
    else:
        raise InvalidValue(
            f"--base {folder}: expected the folder of a run of smp-feedback fit, with its {CONFIG}, or a directory "
            f"written by save_pretrained, with its {SAVED}."
        )
    check_data(model, facts)
    model.data_config = facts.config(own)
    return model


def check_data(model: OuterModel, facts: Facts) -> None:
    """*model* reads such images and tells such classes.

    Raises:
        InvalidValue: If it does not.
        InvalidInput: If it does not take images of this size.
    """
    check_classes(model, len(facts.classes))
    if model.feedback.in_channels != facts.image[0]:
        raise InvalidValue(f"the base reads {model.feedback.in_channels} channels, the images have {facts.image[0]}.")
    check_sizes(model, facts)


def _of_run(folder: Path, config: Score | Restoration | Repair, facts: Facts) -> OuterModel:
    settings = of_any_version(run_settings(folder))
    for group, what in AROUND.items():
        if group in settings:
            raise InvalidValue(f"--base {folder} is a run of {what} already: give the base of that run.")
    told = settings["model"]
    how = {key: told[key] for key in BUILDS}
    model = build_model(facts, told["feedback"], encoder_weights=None, **how, around=config)
    path = checkpoint_of(folder)
    weights = {key: value for key, value in read_checkpoint(path)["state_dict"].items() if key.startswith("model.")}
    try:
        _load(model, {key.removeprefix("model."): value for key, value in weights.items()})
    except RuntimeError as error:
        raise InvalidValue(
            f"{path} does not fit a {told['arch']} of {len(facts.classes)} classes ({', '.join(facts.classes)}); was "
            f"the base trained on other data? {error!s:.200}"
        ) from None
    return cast(OuterModel, model)


def _load(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """The weights of the base alone; what is new in one that looks again lies a step deeper in *model*."""
    inner = {f"{PREFIX}inner.{k.removeprefix(PREFIX)}" if k.startswith(PREFIX) else k: v for k, v in weights.items()}
    own = {k: v for k, v in model.state_dict().items() if k.startswith(NEW)}
    model.load_state_dict({**inner, **own})


def _saved(folder: Path, config: Score | Restoration | Repair) -> OuterModel:
    try:
        base: nn.Module = from_pretrained(folder)
    except FeedbackError as ours:
        try:
            base = cast(Any, smp).from_pretrained(folder)
        except Exception:  # neither wrote it, and ours says so in words
            raise ours from None
    if isinstance(base, FeedbackModel) and isinstance(base.loop_config, Score):
        raise InvalidValue(f"--base {folder} is refined already: give its base, or tune it by --model {folder}.")
    if isinstance(base, FeedbackModel) and isinstance(base.loop_config, Restoration):
        raise InvalidValue(f"--base {folder} has a restoration loop already: give its base.")
    if isinstance(base, FeedbackModel) and isinstance(base.loop_config, Repair):
        raise InvalidValue(f"--base {folder} has a repair loop already: give its base.")
    model = wrap(base, config)
    if not isinstance(model, OuterModel):
        raise InvalidType(f"--base {folder} became a {type(model).__name__}, expected one with a {config.loop} loop.")
    return model.train()
