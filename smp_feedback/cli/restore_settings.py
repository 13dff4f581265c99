"""What ``smp-feedback restore train | evaluate`` can be told, and what runs that they name were told before."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import lightning
from jsonargparse import ArgumentParser

from smp_feedback.cli.subcommands import add_run, add_shared, add_whose, after_the_run
from smp_feedback.cli.train import OURS, TITLES
from smp_feedback.config.parse import as_config
from smp_feedback.config.restoration import Restoration
from smp_feedback.errors import InvalidValue
from smp_feedback.loops.restoration.model import RestorationModel
from smp_feedback.registry.public import catalogue
from smp_feedback.training.build import AUTO, Facts, build_model, open_pairs
from smp_feedback.training.distortion import Distortion
from smp_feedback.training.restoration import RestorationModule
from smp_feedback.training.trained_base import closed_base

RUN = "the --out of restore train: its data, distortion and model"
NOT_OF_A_BASE = ("batch_size", "augment", "crop", "corruption", "severity")  # how it learnt is its own affair
OUTRANKED = {
    "name": ("turbulence", "folder"),
    "severity": ("turbulence", "folder"),
    "turbulence": ("folder",),
}  # what a run may have said that would be taken in place of what is asked for now
OWN_DATA: set[str | int] = {"verb", "seed", "corruption", "severity"}  # what is wrong with the images is --distortion


def with_settings(argv: Sequence[str]) -> list[str]:
    """*argv* with what the runs that it names were told, before all that overrides it.

    ``--resume`` brings all settings of a run of ``restore train``, ``--run`` its data and distortion; ``--base`` brings
    the data that a base was trained on. Who names another distortion than that of ``--run`` gets it, also where the
    run's would outrank it.
    """
    return (
        after_the_run(argv, "restore", partial(_kept, argv)) if argv[1:2] in (["train"], ["evaluate"]) else list(argv)
    )


def _kept(argv: Sequence[str], flag: str, told: dict[str, Any], folder: Path) -> dict[str, Any]:
    if flag != "--base" and "restoration" not in told:
        raise InvalidValue(f"{flag} {folder} is no run of restore train: begin with smp-feedback restore train.")
    if flag == "--resume":
        return told
    if flag == "--run":
        said = {word.partition("=")[0].removeprefix("--distortion.") for word in argv}
        outranked = {one: None for name in said & {*OUTRANKED} for one in OUTRANKED[name]}
        return {"seed": told["seed"], "data": told["data"], "distortion": {**told["distortion"], **outranked}}
    return {"seed": told["seed"], "data": {k: v for k, v in told["data"].items() if k not in NOT_OF_A_BASE}}


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
    _data(parser)
    parser.add_class_arguments(lightning.Trainer, "trainer", skip=OURS, fail_untyped=False, instantiate=False)
    own = {"model": "The segmentation network", "restoration": "The loop, and its restorer"}
    titles = {**TITLES, **own, "training": "How the two learn", "distortion": "What is wrong with the images"}
    for group, title in titles.items():
        cast(Any, parser.groups)[group].title = title


def evaluate_settings(parser: ArgumentParser) -> None:
    """Those of ``restore evaluate``."""
    add_shared(parser, "runs/restore/TIME")
    add_whose(parser, RUN)
    parser.add_argument("--split", default="test", help="test or val")
    _data(parser)


def _data(parser: ArgumentParser) -> None:
    parser.add_function_arguments(open_pairs, "data", skip=OWN_DATA)
    parser.add_class_arguments(Distortion, "distortion", instantiate=False)


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
        base_norm: ``group`` puts GroupNorm in the place of BatchNorm; null leaves the base as it is.
        arguments: What else the architecture takes, such as ``{encoder_depth: 4}``.
    """
    base: dict[str, Any] = {"arch": arch, "encoder": encoder, "encoder_weights": encoder_weights}
    own = as_config(feedback, usual=catalogue().architectures.entry(arch).feedback)
    whole = replace(config, base=own)
    return cast(RestorationModel, build_model(facts, whole, **base, base_norm=base_norm, arguments=arguments))


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
