"""How every verb trains: what it is told is kept, all is seeded, and the best weights are left as a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import lightning
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import Callback

from smp_feedback.checks import check_whole
from smp_feedback.cli.tables import say, tell
from smp_feedback.data.items import checked_int
from smp_feedback.models.normalisation import given_config
from smp_feedback.saving.run_parts import say_changed
from smp_feedback.training.by_hand import check_by_hand
from smp_feedback.training.datamodule import PairsModule
from smp_feedback.training.looks_report import looks_report
from smp_feedback.training.module import FeedbackModule
from smp_feedback.training.opening import has_split
from smp_feedback.training.run_end import best_told, next_commands
from smp_feedback.training.run_folder import fresh_folder, kept_data, save_model, train_in
from smp_feedback.training.same_settings import check_same, resolved_loop
from smp_feedback.training.scoring_module import ScoringModule
from smp_feedback.training.trainer import room_for


class Lesson(NamedTuple):
    """What learns, what from, the score that its best weights have, what is said before, and what is done after.

    *after* is called once the best weights are there, before the model is saved, and returns lines to say; *callbacks*
    are what else accompanies the run.
    """

    module: ScoringModule
    data: PairsModule
    monitor: str
    about: str
    after: Callable[[], list[str]] = list[str]
    callbacks: Sequence[Callback] = ()


def train(
    parser: ArgumentParser,
    args: Any,
    verb: str,
    prepare: Callable[[Any], Lesson],
    learnt: Sequence[str] = ("model",),
) -> None:
    """Train, or go on with a run of *verb*, and leave the best weights as a model that ``from_pretrained`` takes.

    *prepare* is called with the settings, their classes made, once all is seeded; *learnt* are the groups of settings
    that say what is learnt, and how, which a run that goes on may not change.
    """
    check_whole("save_every", args.save_every)
    config = settings_text(parser, args)
    if args.resume is not None:
        check_same(config, Path(args.resume), learnt)
        say_changed(Path(args.resume))
    if args.early_stopping is not None:
        check_whole("early_stopping", args.early_stopping)
    made = seeded(parser, args)
    if args.resume is not None:
        begun_already(made)
    module, data, monitor, about, after, callbacks = prepare(made)
    if args.resume is not None and (kept := kept_data(Path(args.resume))) is not None:
        cast(Any, module.model).data_config = kept
    settings = vars(made.trainer)
    check_by_hand(module, settings["gradient_clip_val"], settings["accumulate_grad_batches"])
    if isinstance(module, FeedbackModule):
        module.check_data(data)
    folder = room_for(module, fresh_folder(args.out, args.resume, verb))
    how = {"seed": args.seed, "save_every": args.save_every, "patience": args.early_stopping}
    run: Any = {**how, "monitor": monitor, "config": config, "resume": args.resume is not None, "more": callbacks}
    lines = [about, *images_told(module.model)]
    if train_in(folder, module, data, settings, **run, begin=lambda: say("\n".join(lines))):
        for line in (*best_told(folder, monitor), *looks_report(module, data), *after()):
            say(line)
        tell(folder, save_model(module, folder, args.data.name))
        tested = verb != "fit" or has_split("test", vars(args.data), args.seed)
        for line in next_commands(verb, folder, tested):
            say(line)


def begun_already(made: Any) -> None:
    """The weights of a checkpoint are to come: others need neither be there any more nor be downloaded."""
    model: Any = getattr(made, "model", None)
    if hasattr(model, "init"):
        model.init = None


def images_told(model: Any) -> list[str]:
    """How images are shown to *model*, where that is not as they are, or not three channels of them."""
    config = given_config(model).config
    lines = [] if config.mean is None else [config.normalisation]
    if config.channels != 3 and begins_pretrained(model):
        bands = f"{config.channels} band{'s' * (config.channels > 1)}"
        lines.append(f"{bands}: weights of an encoder that was pretrained on three are repeated for them, as smp does")
    return lines


def begins_pretrained(model: Any) -> bool:
    """Whether the encoder of *model* was made with weights of its own."""
    config = getattr(model, "config", None)
    return isinstance(config, Mapping) and config.get("encoder_weights") is not None


def seeded(parser: ArgumentParser, args: Any) -> Any:
    """The settings with their classes made; all that is drawn from now on is drawn from their seed."""
    seed = checked_int("seed", args.seed, least=0)
    made = parser.instantiate(args)
    lightning.seed_everything(seed, verbose=False)
    return made


def settings_text(parser: ArgumentParser, args: Any) -> str:
    """All that is told, but for where it is kept, as YAML that ``--config`` takes to do all this again, elsewhere.

    A loop is all that its name means now.
    """
    kept = args.clone()
    if {"model.arch", "model.feedback"} <= {*kept.keys()}:
        kept["model.feedback"] = resolved_loop(kept["model.arch"], kept["model.feedback"])
    for key in ("config", "resume", "out"):
        kept.pop(key, None)
    return str(parser.dump(kept, format="yaml", skip_unset=False, skip_validation=True))
