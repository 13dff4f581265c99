"""``smp-feedback clicks train | evaluate``: models that listen to a person's clicks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import lightning  # noqa: F401  before all who say float | int: --trainer.limit_train_batches 1 is one batch, not 1.0
from jsonargparse import ArgumentParser
from rich.console import Console
from torch import nn

from smp_feedback.checks import check_choice
from smp_feedback.cli.lessons import Lesson, train
from smp_feedback.cli.scoring import advancing, saved_model
from smp_feedback.cli.subcommands import Stage, add_run, add_shared, add_stages, add_trainer, add_whose
from smp_feedback.cli.tables import clicked_table, clicking_summary, say
from smp_feedback.config.clicks import ClickConfig
from smp_feedback.data.items import checked_int
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation.clicks import MOST, clicked, evaluate_clicks
from smp_feedback.evaluation.results import save_result
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.models.normalisation import given_config
from smp_feedback.training.build import build_model
from smp_feedback.training.checkpoints import check_room
from smp_feedback.training.clicks import ClickModule
from smp_feedback.training.datamodule import PairsModule
from smp_feedback.training.facts import AUTO, Facts
from smp_feedback.training.opening import open_pairs
from smp_feedback.training.run_folder import free_folder

LEARNT = ("model", "clicks", "training")
LOOP: dict[str, Any] = {"preset": "anytime", "steps": 1, "dynamics": "gated"}
"""A state that may be carried on and on, whatever the image's size; one look a click."""
SKIPPED = {"model", "how", "ignore_index", "classes", "task", "steps", "free_steps", "progressive", "segments"}
SKIPPED |= {"supervise", "backward"}  # of FeedbackModule: how often to look is said by the clicks
TITLES = {
    "model": "The model",
    "clicks": "What it is shown of clicks",
    "training": "How it learns, and what the simulated user does",
}


def add_arguments(parser: ArgumentParser) -> Callable[[Any], None]:
    """Give *parser* the verbs and their settings; returns what runs them."""
    return add_stages(parser, "clicks", STAGES)


def train_settings(parser: ArgumentParser) -> None:
    """Those of ``clicks train``."""
    add_shared(parser, "runs/clicks/TIME")
    add_run(parser, None)
    parser.add_function_arguments(build_clicking, "model", skip={"facts", "how"})
    parser.add_class_arguments(ClickConfig, "clicks", instantiate=False)
    parser.add_class_arguments(ClickModule, "training", skip=SKIPPED, instantiate=False)
    _add_data(parser)
    add_trainer(parser, TITLES)


def clicks_train(parser: ArgumentParser, args: Any) -> None:
    """Train a model to segment the object that a simulated user clicks on."""

    def prepare(made: Any) -> Lesson:
        how = ClickConfig(**vars(made.clicks))
        data, facts = opened("fit", made)
        model = build_clicking(facts, how, **vars(made.model))
        module = ClickModule(model, ignore_index=facts.ignore_index, **vars(made.training))
        return Lesson(module, data, "val_iou", clicking_summary(model, how))

    train(parser, args, "clicks", prepare, learnt=LEARNT)


def evaluate_settings(parser: ArgumentParser) -> None:
    """Those of ``clicks evaluate``."""
    add_shared(parser, "runs/clicks/TIME")
    add_whose(parser, "the --out of clicks train: its data and model")
    parser.add_argument("--split", default="test", help="test or val")
    parser.add_argument("--most", type=int, default=MOST, metavar="N", help="clicks on an object at most")
    _add_data(parser)


def clicks_evaluate(parser: ArgumentParser, args: Any) -> None:
    """Click on every test object where the answer is most wrong, and count the clicks to 80, 85 and 90 % IoU."""
    from smp_feedback.plotting.plot import plot

    check_choice("split", args.split, ("test", "val"))
    model, source = saved_model(args, "clicks", FeedbackModel)
    data, _ = opened("test" if args.split == "test" else "validate", args)
    items = getattr(data, args.split)
    folder = check_room(free_folder(args.out, "clicks"), 1 << 20, "clicks writes its scores there")
    how: Any = {"batch_size": args.data.batch_size, "workers": args.data.workers, "clicks": args.most}
    with advancing("clicking", items, args) as advance:
        found = evaluate_clicks(model, items, advance=advance, **how)
    Console().print(clicked_table(found, f"{source}, {args.split}"))
    path = save_result(clicked({"model": found}, args.seed), folder / "scores.json")
    for one in (path, *plot([path])):
        say(f"wrote {one}")


STAGES: dict[str, tuple[Callable[[ArgumentParser], None], Stage]] = {
    "train": (train_settings, clicks_train),
    "evaluate": (evaluate_settings, clicks_evaluate),
}


def _add_data(parser: ArgumentParser) -> None:
    parser.add_function_arguments(open_pairs, "data", skip={"verb", "seed"})
    parser.set_defaults({"data.name": "assemblies"})


def opened(verb: str, args: Any) -> tuple[PairsModule, Facts]:
    """The data of one verb.

    Raises:
        InvalidValue: If there is more to tell than one object from the rest.
    """
    data, facts = open_pairs(verb, checked_int("seed", args.seed, least=0), **args.data.as_dict())
    if facts.task != "segmentation" or len(facts.classes) != 2:
        raise InvalidValue(
            f"data.name={args.data.name} has {len(facts.classes)} classes for {facts.task}: expected masks of one "
            "object and the rest, such as those of data.name=instances."
        )
    return data, facts


def build_clicking(
    facts: Facts,
    how: ClickConfig,
    *,
    arch: str = "Unet",
    encoder: str | None = None,
    encoder_weights: str | None = AUTO,
    feedback: bool | str | dict[str, Any] = LOOP,
    base_norm: str | None = None,
    arguments: dict[str, Any] | None = None,
) -> nn.Module:
    """A new model that is shown clicks beside the image.

    Args:
        facts: What to know of the data.
        how: What it is shown of clicks.
        arch: A name from ``list_architectures``.
        encoder: A name from ``list_encoders``; null is the architecture's own (smp's: resnet34), if it has one.
        encoder_weights: ``auto`` is the architecture's own usage: smp's models download ``imagenet``, those of timm
            and torchvision begin at random; null is random.
        feedback: A loop, its name or its config; the state goes on from click to click where its dynamics carry it.
        base_norm: ``group`` puts GroupNorm in the place of BatchNorm, ``pixel`` a normalisation of each pixel; null
            leaves the base as it is.
        arguments: What else the architecture takes, such as ``{encoder_depth: 4}``.
    """
    shown = replace(facts, image=(facts.image[0] + how.channels, *facts.image[1:]))
    base: dict[str, Any] = {"encoder_weights": encoder_weights, "base_norm": base_norm, "arguments": arguments}
    model = build_model(shown, feedback, arch=arch, encoder=encoder, **base)
    own = given_config(model).config.with_channels(facts.image[0])
    cast(Any, model).data_config = replace(facts.config(own), clicks=how)
    return model
