"""``smp-feedback restore train | evaluate | ablation``: networks that restore images, and segment what they restore."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import lightning
from jsonargparse import ArgumentParser
from rich.console import Console

from smp_feedback.checks import check_choice, check_whole
from smp_feedback.cli.experiments import ablation_settings, restore_ablation
from smp_feedback.cli.restore_settings import built, evaluate_settings, train_settings
from smp_feedback.cli.subcommands import Settings, Stage, add_stages, advancing, saved_model, scoring
from smp_feedback.cli.tables import restoration_summary, restored_table
from smp_feedback.cli.train import train
from smp_feedback.config.restoration import Restoration
from smp_feedback.data.items import checked_int
from smp_feedback.evaluation.restoration_loop import evaluate_restoration
from smp_feedback.evaluation.results import save_result
from smp_feedback.loops.restoration.model import RestorationModel
from smp_feedback.training.build import Facts
from smp_feedback.training.checkpoints import check_room
from smp_feedback.training.datamodule import TripletsModule
from smp_feedback.training.distortion import Distortion, open_triplets
from smp_feedback.training.restoration import RestorationModule
from smp_feedback.training.run_folder import check_same, free_folder, fresh_folder, say
from smp_feedback.training.step_loss import StepLoss
from smp_feedback.training.trained_base import check_data
from smp_feedback.training.trainer import check_by_hand, room_for

LEARNT = ("model", "restoration", "training", "distortion")
HELD_TO = ("loss", "gammas", "step_weights", "class_weights")


def add_arguments(parser: ArgumentParser) -> Callable[[Any], None]:
    """Give *parser* the verbs and their settings; returns what runs them."""
    return add_stages(parser, "restore", STAGES)


def restore_train(parser: ArgumentParser, args: Any) -> None:
    """Train a restorer, and the network that segments what it restores, as published or end to end."""
    check_whole("save_every", args.save_every)
    if args.resume is not None:
        check_same(parser, args, Path(args.resume), LEARNT)
    seed = checked_int("seed", args.seed, least=0)
    made = parser.instantiate(args)
    config, training = Restoration(**vars(made.restoration)), vars(made.training)
    lightning.seed_everything(seed, verbose=False)
    data, facts = opened("fit", args)
    about: dict[str, Any] = {"classes": len(facts.classes), "ignore_index": facts.ignore_index}
    StepLoss(**{name: training[name] for name in HELD_TO}, **about)  # a model may take long to build
    model = built(args.base, vars(made.model), config, facts)
    module = RestorationModule(model, **about, **training)
    settings = vars(made.trainer)
    check_by_hand(module, settings["gradient_clip_val"], settings["accumulate_grad_batches"])
    folder = room_for(module, fresh_folder(args, "restore"))
    train(module, data, settings, parser, args, folder, "val_miou", restoration_summary(model, facts.classes))


def restore_evaluate(parser: ArgumentParser, args: Any) -> None:
    """Score the segmentation of the clean, the distorted and the restored test images, step by step."""
    from smp_feedback.plotting.pictures import examples, restored
    from smp_feedback.plotting.plot import plot

    check_choice("split", args.split, ("test", "val"))
    loaded, source = saved_model(args, "restore", RestorationModel)
    model = cast(RestorationModel, loaded)
    data, facts = opened("test" if args.split == "test" else "validate", args)
    check_data(model, facts)
    triplets, said = getattr(data, args.split), Distortion(**args.distortion.as_dict()).said
    folder = check_room(free_folder(args.out, "restore"), 1 << 20)
    with advancing("scoring", triplets, args) as advance:
        found = evaluate_restoration(model, triplets, advance=advance, **scoring(facts, args))
    Console().print(restored_table(found, facts.classes, f"{source}, {args.split}, {said}"))
    path = save_result(found.result(facts.classes), folder / "scores.json")
    pictures = restored(model, examples(triplets), folder / "pictures.png", classes=len(facts.classes))
    for one in (path, *plot([path]), pictures):
        say(f"wrote {one}")


STAGES: dict[str, tuple[Settings, Stage]] = {
    "train": (train_settings, restore_train),
    "evaluate": (evaluate_settings, restore_evaluate),
    "ablation": (ablation_settings, restore_ablation),
}


def opened(verb: str, args: Any) -> tuple[TripletsModule, Facts]:
    """The triplets of one verb."""
    seed = checked_int("seed", args.seed, least=0)
    return open_triplets(verb, seed, Distortion(**args.distortion.as_dict()), **args.data.as_dict())
