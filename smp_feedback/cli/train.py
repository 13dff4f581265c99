"""``smp-feedback fit | validate | test | predict``: Lightning's trainer, our modules, one YAML file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import lightning
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import Callback, LambdaCallback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from rich.console import Console

from smp_feedback.checks import check_whole
from smp_feedback.cli.tables import score_table, summary
from smp_feedback.data.items import checked_int
from smp_feedback.errors import InvalidValue
from smp_feedback.saving.files import replace_file
from smp_feedback.training.build import Facts, build_module, open_pairs
from smp_feedback.training.checkpoints import BEST, LAST, KeepsBest, StopsEarly, WholeCheckpoints, check_room
from smp_feedback.training.datamodule import PairsModule
from smp_feedback.training.metric import NAMES
from smp_feedback.training.module import FeedbackModule
from smp_feedback.training.prediction_writers import ImageFiles, LabelWriter, PredictionWriter
from smp_feedback.training.run_folder import (
    CONFIG,
    check_same,
    free_folder,
    fresh_folder,
    keep_settings,
    load_weights,
    save_model,
    say,
    tell,
    weights_of,
)
from smp_feedback.training.trainer import build_trainer, check_by_hand, last_checkpoint, quiet, reliable, room_for

OURS = {"default_root_dir", "enable_checkpointing", "enable_model_summary", "plugins", "use_distributed_sampler"}
TITLES = {"model": "The model, and how it is trained", "data": "The data", "trainer": "Lightning's trainer"}
SHARED = ("model", "data", "trainer", "seed")


def add_arguments(parser: ArgumentParser, verb: str) -> Callable[[Any], None]:
    """Give *parser* the settings of *verb*; returns what runs it."""
    parser.add_argument("--config", action="config", help="a YAML file of these settings; later words override it")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same result")
    parser.add_argument("--out", type=str | None, metavar="DIR", help=f"where files go (default: runs/{verb}/TIME)")
    if verb == "fit":
        parser.add_argument("--resume", type=str | None, metavar="DIR", help="go on with the run whose --out this was")
        parser.add_argument("--save_every", type=int, default=200, help="batches between two last.ckpt of an epoch")
        early = "stop after so many validations without a better score (default: never)"
        parser.add_argument("--early_stopping", type=int | None, metavar="N", help=early)
    else:
        parser.add_argument("--run", type=str | None, metavar="DIR", help="the --out of fit: its settings and weights")
        parser.add_argument("--weights", default="best", help="best, last or a checkpoint's path (default: best)")
    if verb == "predict":
        parser.add_argument("--images", type=str | None, metavar="PATH", help="an image or a folder of them")
        parser.add_argument("--looks", type=bool, default=False, help="also the labels of every look")
        parser.add_argument("--uncertainty", type=bool, default=False, help="also how uncertain each pixel is")
    parser.add_function_arguments(build_module, "model", skip={"facts", "classes", "ignore_index", "task", "model"})
    parser.add_function_arguments(open_pairs, "data", skip={"verb", "seed"})
    parser.add_class_arguments(lightning.Trainer, "trainer", skip=OURS, fail_untyped=False, instantiate=False)
    for group, title in TITLES.items():
        cast(Any, parser.groups)[group].title = title
    verbs = {"fit": fit, "validate": score, "test": score, "predict": predict}

    def run(args: Any) -> None:
        with quiet():
            verbs[verb](verb, parser, args)

    return run


def with_settings_of_a_run(argv: Sequence[str]) -> list[str]:
    """*argv* with the config of the run that ``--resume DIR`` or ``--run DIR`` names, before all that overrides it."""
    words = split_words(argv, ("--resume", "--run"))
    for flag in ("--resume", "--run"):
        if flag in words[:-1]:
            folder = Path(words[words.index(flag) + 1])
            if not (folder / CONFIG).is_file():
                raise InvalidValue(f"{flag} {folder}: expected the folder of a run, with its {CONFIG}.")
            settings = yaml.safe_load((folder / CONFIG).read_text())
            for group, verb in {"score": "score", "restoration": "restore"}.items():
                if group in settings:
                    told = f"{flag} {folder} is a run of {verb} train"
                    raise InvalidValue(f"{told}: smp-feedback {verb} --help has its verbs.")
            kept = settings if flag == "--resume" else {key: settings[key] for key in SHARED}
            return [words[0], "--config", json.dumps(kept), *words[1:]]
    return list(argv)


def split_words(argv: Sequence[str], flags: Sequence[str]) -> list[str]:
    """*argv* with the value of each of *flags* as a word of its own.

    >>> split_words(["test", "--run=runs/a", "--data.size=64"], ["--run"])
    ['test', '--run', 'runs/a', '--data.size=64']
    """
    joined = tuple(f"{flag}=" for flag in flags)
    return [part for word in argv for part in (word.split("=", 1) if word.startswith(joined) else [word])]


def fit(verb: str, parser: ArgumentParser, args: Any) -> None:
    """Train, and leave the best weights as a model that ``from_pretrained`` takes."""
    check_whole("save_every", args.save_every)
    if args.resume is not None:
        check_same(parser, args, Path(args.resume))
    data, facts, module, settings = prepare(verb, parser, args)
    check_by_hand(module, settings["gradient_clip_val"], settings["accumulate_grad_batches"])
    folder = room_for(module, fresh_folder(args, verb))
    train(module, data, settings, parser, args, folder, f"val_{NAMES[facts.task]}", summary(module, facts))


def train(
    module: lightning.LightningModule,
    data: PairsModule,
    settings: dict[str, Any],
    parser: ArgumentParser,
    args: Any,
    folder: Path,
    monitor: str,
    about: str,
) -> None:
    """Train *module*, or go on with it, and leave the best weights as a model.

    Args:
        module: What learns; its ``model`` is what is left.
        data: What from.
        settings: The trainer's.
        parser: Of *args*.
        args: All that was told, ``resume``, ``save_every`` and ``early_stopping`` among it.
        folder: Where everything goes.
        monitor: The score that the best weights have.
        about: What is said before.
    """
    callbacks: list[Callback] = [KeepsBest(folder, monitor), *reliable(args.seed, folder, args.save_every)]
    if args.early_stopping is not None:
        patience = check_whole("early_stopping", args.early_stopping)
        callbacks.append(StopsEarly(monitor, patience))

    def keep(trainer: Any, _: Any = None) -> None:
        if trainer.is_global_zero:
            keep_settings(parser, args, folder)

    if args.resume is not None:  # only once the checkpoint has taken them: a refused resume changes nothing
        callbacks.append(LambdaCallback(on_train_start=keep))
    trainer = trainer_of(settings, folder, callbacks, loggers=loggers_of(settings, folder, args.save_every))
    if args.resume is None:
        keep(trainer)
    if trainer.is_global_zero:
        say(about)
    module.train()
    trainer.fit(module, data, ckpt_path=last_checkpoint(folder) if args.resume else None)
    if trainer.is_global_zero:
        weights = folder / (BEST if (folder / BEST).is_file() else LAST)
        load_weights(module, weights)
        tell(folder, save_model(module, folder, args.data.name))


def score(verb: str, parser: ArgumentParser, args: Any) -> None:
    """Score every look on the split that *verb* names."""
    path = weights_of(args)
    data, facts, module, settings = prepare(verb, parser, args)
    load_weights(module, path)
    folder = check_room(free_folder(args.out, verb), 1 << 20)
    trainer = trainer_of(settings, folder, [])
    (trainer.validate if verb == "validate" else trainer.test)(module, data, verbose=False)
    if trainer.is_global_zero and module.scored is not None:
        Console().print(score_table(module.scored, facts.classes, f"{path}, {verb}"))
        found = {key: value.tolist() for key, value in module.scored._asdict().items() if key != "name"}
        written = {"score": module.scored.name, "classes": facts.classes, **found}
        text = json.dumps(written, indent=2).replace("NaN", "null")
        replace_file(folder / "scores.json", lambda draft: draft.write_text(text))
        tell(folder, [])


def predict(verb: str, parser: ArgumentParser, args: Any) -> None:
    """Write a label map for each picture, or, of a classifier, all labels as one table."""
    path = weights_of(args)
    data, facts, module, settings = prepare(verb, parser, args)
    if args.images is not None:
        files = ImageFiles(Path(args.images), args.data.size)
        data = PairsModule(test=files, batch_size=args.data.batch_size if args.data.size else 1)
    load_weights(module, path)
    folder = check_room(free_folder(args.out, verb), 1 << 20)
    shown: dict[str, Any] = {"looks": args.looks, "uncertainty": args.uncertainty}
    writer: Callback = PredictionWriter(folder, data.test, **shown)
    if facts.task == "classification":
        writer = LabelWriter(folder, data.test, facts.classes, **shown)
    trainer = trainer_of(settings, folder, [writer])
    trainer.predict(module, data, return_predictions=False)
    if trainer.is_global_zero:
        tell(folder, [], few=True)


def prepare(verb: str, parser: ArgumentParser, args: Any) -> tuple[PairsModule, Facts, FeedbackModule, dict[str, Any]]:
    """The data, what the model must know of it, the module, and the trainer's settings."""
    seed = checked_int("seed", args.seed, least=0)
    made = parser.instantiate(args)
    lightning.seed_everything(seed, verbose=False)
    data, facts = open_pairs(verb, seed, **made.data.as_dict())
    module = build_module(facts, **vars(made.model))
    return data, facts, module, vars(made.trainer)


def trainer_of(
    settings: dict[str, Any], folder: Path, callbacks: list[Callback], loggers: Any = False
) -> lightning.Trainer:
    """The trainer that the settings ask for, with our callbacks beside theirs."""
    theirs = settings.get("callbacks") or []
    return build_trainer(
        settings,
        callbacks=[*(theirs if isinstance(theirs, list) else [theirs]), *callbacks],
        logger=loggers,
        plugins=[WholeCheckpoints()],
        default_root_dir=folder,
        enable_model_summary=False,
        use_distributed_sampler=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
    )


def loggers_of(settings: dict[str, Any], folder: Path, flush: int) -> Any:
    """TensorBoard and CSV, unless the settings bring their own or none."""
    if settings.get("logger") not in (None, True):
        return settings["logger"]
    csv = CSVLogger(folder, name="csv", flush_logs_every_n_steps=flush)
    loggers: list[Logger] = [csv, TensorBoardLogger(folder, name="tensorboard", version="")]
    return loggers
