"""``smp-feedback restore train | evaluate | ablation``: networks that restore images, and segment what they restore."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import lightning  # noqa: F401  before all who say float | int: --trainer.limit_train_batches 1 is one batch, not 1.0
from jsonargparse import ArgumentParser

from smp_feedback.cli.experiments import ablation_settings, restore_ablation
from smp_feedback.cli.film_scores import tell_films
from smp_feedback.cli.lessons import Lesson, train
from smp_feedback.cli.scoring import evaluate
from smp_feedback.cli.subcommands import Stage, add_run, add_shared, add_stages, add_trainer, add_whose
from smp_feedback.cli.tables import restoration_summary, restored_table, say
from smp_feedback.config.restoration import Restoration
from smp_feedback.data.items import checked_int
from smp_feedback.data.triplets import distorted
from smp_feedback.data.wrapped import films_of
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation.restoration_loop import evaluate_restoration
from smp_feedback.loops.looking import carries
from smp_feedback.loops.restoration.model import RestorationModel
from smp_feedback.training.build import build_model
from smp_feedback.training.clips_told import clips_told, frames_of
from smp_feedback.training.datamodule import TripletsModule
from smp_feedback.training.distortion import Distortion, open_triplets
from smp_feedback.training.facts import AUTO, Facts
from smp_feedback.training.opening import open_pairs
from smp_feedback.training.restoration import RestorationModule
from smp_feedback.training.step_loss import StepLoss
from smp_feedback.training.trained_base import closed_base

LEARNT = ("model", "restoration", "training", "distortion")
HELD_TO = ("loss", "gammas", "step_weights", "class_weights")
TITLES = {
    "model": "The segmentation network",
    "restoration": "The loop, and its restorer",
    "training": "How the two learn",
    "distortion": "What is wrong with the images",
}
# what is wrong with the images is --distortion
OWN_DATA: set[str | int] = {"verb", "seed", "corruption", "severity"}


def add_arguments(parser: ArgumentParser) -> Callable[[Any], None]:
    """Give *parser* the verbs and their settings; returns what runs them."""
    return add_stages(parser, "restore", STAGES)


def train_settings(parser: ArgumentParser) -> None:
    """Those of ``restore train``; how both networks learn is as published."""
    add_shared(parser, "runs/restore/TIME")
    base = "begin with a trained model: the --out of smp-feedback fit, or a directory of save_pretrained"
    parser.add_argument("--base", type=str | None, metavar="DIR", help=base)
    add_run(parser, None)
    parser.add_function_arguments(build_restoring, "model", skip={"facts", "config"})
    parser.add_class_arguments(Restoration, "restoration", skip={"base"}, instantiate=False)
    skip = {"model", "classes", "ignore_index"}
    parser.add_class_arguments(RestorationModule, "training", skip=skip, instantiate=False)
    _add_data(parser)
    add_trainer(parser, TITLES)


def restore_train(parser: ArgumentParser, args: Any) -> None:
    """Train a restorer, and the network that segments what it restores, as published or end to end."""

    def prepare(made: Any) -> Lesson:
        config, training = Restoration(**vars(made.restoration)), vars(made.training)
        data, facts = opened("fit", made)
        about: dict[str, Any] = {"classes": len(facts.classes), "ignore_index": facts.ignore_index}
        StepLoss(**{name: training[name] for name in HELD_TO}, **about)  # a model may take long to build
        model = built(made.base, vars(made.model), config, facts)
        module = RestorationModule(model, **about, **training)
        module.check_frames(data.clip)
        frames = {"train": frames_of(data.train), "val": data.val}
        said = [restoration_summary(model, facts.classes), *clips_told(frames, data.clip, data.clip_stride)]
        return Lesson(module, data, "val_miou", "\n".join(said))

    train(parser, args, "restore", prepare, learnt=LEARNT)


def evaluate_settings(parser: ArgumentParser) -> None:
    """Those of ``restore evaluate``."""
    add_shared(parser, "runs/restore/TIME")
    add_whose(parser, "the --out of restore train: its data, distortion and model")
    parser.add_argument("--split", default="test", help="test or val")
    _add_data(parser)


def restore_evaluate(parser: ArgumentParser, args: Any) -> None:
    """Score the segmentation of the clean, the distorted and the restored test images, step by step."""
    from smp_feedback.plotting.pictures import restored

    how: Any = {"score": evaluate_restoration, "table": restored_table, "draw": restored}
    said = Distortion(**args.distortion.as_dict()).said
    evaluate(args, "restore", RestorationModel, opened, **how, note=f", {said}", more=films_told)


def films_told(model: RestorationModel, triplets: Any, facts: Facts, folder: Path, title: str) -> None:
    """Score whole films besides, one look a frame, where *model* carries and *triplets* are frames of some."""
    if carries(model) and films_of(triplets) is not None:
        tell_films(model, distorted(triplets), facts, folder, f"{title}, one look a frame")
        for path in sorted(folder.glob("films*")):
            say(f"wrote {path}")


STAGES: dict[str, tuple[Callable[[ArgumentParser], None], Stage]] = {
    "train": (train_settings, restore_train),
    "evaluate": (evaluate_settings, restore_evaluate),
    "ablation": (ablation_settings, restore_ablation),
}


def _add_data(parser: ArgumentParser) -> None:
    parser.add_function_arguments(open_pairs, "data", skip=OWN_DATA)
    parser.add_class_arguments(Distortion, "distortion", instantiate=False)


def opened(verb: str, args: Any) -> tuple[TripletsModule, Facts]:
    """The triplets of one verb."""
    seed = checked_int("seed", args.seed, least=0)
    return open_triplets(verb, seed, Distortion(**args.distortion.as_dict()), **args.data.as_dict())


def build_restoring(
    facts: Facts,
    config: Restoration,
    *,
    arch: str = "Unet",
    encoder: str | None = None,
    encoder_weights: str | None = AUTO,
    feedback: bool | str | dict[str, Any] = False,
    base_norm: str | None = None,
    arguments: dict[str, Any] | None = None,
) -> RestorationModel:
    """A new segmentation network behind a new restorer.

    Args:
        facts: What to know of the data.
        config: The loop.
        arch: A name from ``list_architectures``.
        encoder: A name from ``list_encoders``; null is the architecture's own (smp's: resnet34), if it has one.
        encoder_weights: ``auto`` is the architecture's own usage: smp's models download ``imagenet``, those of timm
            and torchvision begin at random; null is random.
        feedback: A loop of the segmentation network's own: true (recurrent), a loop's name, or its config; false is
            none.
        base_norm: ``group`` puts GroupNorm in the place of BatchNorm, ``pixel`` a normalisation of each pixel; null
            leaves the base as it is.
        arguments: What else the architecture takes, such as ``{encoder_depth: 4}``.
    """
    base: dict[str, Any] = {"encoder_weights": encoder_weights, "base_norm": base_norm, "arguments": arguments}
    model = build_model(facts, feedback, arch=arch, encoder=encoder, **base, around=config)
    return cast(RestorationModel, model)


def built(base: str | None, told: dict[str, Any], config: Restoration, facts: Facts) -> RestorationModel:
    """The model that is to be trained: of *base*, or new.

    Raises:
        InvalidValue: If *told* says how to build another than *base*.
    """
    if base is None:
        return build_restoring(facts, config, **told)
    usual = {name: one.default for name, one in inspect.signature(build_restoring).parameters.items()}
    for name, value in told.items():
        if value != usual[name]:
            raise InvalidValue(f"--model.{name} {value} with --base {base}: the base is built already; give one.")
    return cast(RestorationModel, closed_base(Path(base), config, facts))
