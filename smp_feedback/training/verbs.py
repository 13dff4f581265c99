"""``smp-feedback fit | validate | test | predict``: Lightning's trainer, our modules, one YAML file."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from rich.console import Console

from smp_feedback.checks import check_whole
from smp_feedback.data.items import checked_int
from smp_feedback.errors import InvalidValue
from smp_feedback.saving.files import replace_file
from smp_feedback.training.data import PairsModule
from smp_feedback.training.module import FeedbackModule
from smp_feedback.training.predicting import ImageFiles, PredictionWriter
from smp_feedback.training.reliability import LAST, WholeCheckpoints, check_room, read_checkpoint
from smp_feedback.training.run import check_by_hand, last_checkpoint, quiet, reliable, room_for
from smp_feedback.training.scores import NAMES
from smp_feedback.training.settings import Facts, build_module, build_trainer, open_pairs
from smp_feedback.training.tables import score_table, summary

CONFIG, BEST, MODEL = "config.yaml", "best.ckpt", "model"
STARTED = "SMP_FEEDBACK_RUN"  # the folder of this run, for the processes that it starts
OURS = {"default_root_dir", "enable_checkpointing", "enable_model_summary", "plugins", "use_distributed_sampler"}
SHARED = ("model", "data", "trainer", "seed")


def add_arguments(parser: ArgumentParser, verb: str) -> Callable[[Any], None]:
    """Give *parser* the settings of *verb*; returns what runs it."""
    parser.add_argument("--config", action="config", help="a YAML file of these settings; later words override it")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same result (default: 0)")
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
    verbs = {"fit": fit, "validate": score, "test": score, "predict": predict}

    def run(args: Any) -> None:
        with quiet():
            verbs[verb](verb, parser, args)

    return run


def with_settings_of_a_run(argv: Sequence[str]) -> list[str]:
    """*argv* with the config of the run that ``--resume DIR`` or ``--run DIR`` names, before all that overrides it."""
    words = [
        part for word in argv for part in (word.split("=", 1) if word.startswith(("--resume=", "--run=")) else [word])
    ]
    for flag in ("--resume", "--run"):
        if flag in words[:-1]:
            folder = Path(words[words.index(flag) + 1])
            if not (folder / CONFIG).is_file():
                raise InvalidValue(f"{flag} {folder}: expected the folder of a run, with its {CONFIG}.")
            settings = yaml.safe_load((folder / CONFIG).read_text())
            kept = settings if flag == "--resume" else {key: settings[key] for key in SHARED}
            return [words[0], "--config", json.dumps(kept), *words[1:]]
    return list(argv)


def fit(verb: str, parser: ArgumentParser, args: Any) -> None:
    """Train, and leave the best weights as a model that ``from_pretrained`` takes."""
    check_whole("save_every", args.save_every)
    data, facts, module, settings = prepare(verb, parser, args)
    check_by_hand(module, settings["gradient_clip_val"], settings["accumulate_grad_batches"])
    folder = room_for(module, fresh_folder(args, verb))
    monitor = f"val_{NAMES[facts.task]}"
    best = ModelCheckpoint(folder, "best", monitor, save_on_train_epoch_end=False, mode="max")
    callbacks: list[Callback] = [best, *reliable(args.seed, folder, args.save_every)]
    if args.early_stopping is not None:
        patience = check_whole("early_stopping", args.early_stopping)
        callbacks.append(EarlyStopping(monitor, patience=patience, mode="max"))
    trainer = trainer_of(settings, folder, callbacks, loggers=loggers_of(settings, folder, args.save_every))
    if trainer.is_global_zero:
        keep_settings(parser, args, folder)
        say(summary(module, facts))
    module.train()
    trainer.fit(module, data, ckpt_path=last_checkpoint(folder) if args.resume else None)
    if trainer.is_global_zero:
        weights = folder / (BEST if (folder / BEST).is_file() else LAST)
        load_weights(module, weights)
        tell(folder, save_model(module, folder, args.data.name, weights))


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
    """Write one label map a picture."""
    path = weights_of(args)
    data, facts, module, settings = prepare(verb, parser, args)
    if facts.task != "segmentation":
        raise InvalidValue(f"predict writes label maps, and {args.data.name} has one label an image: use test.")
    if args.images is not None:
        files = ImageFiles(Path(args.images), args.data.size)
        data = PairsModule(test=files, batch_size=args.data.batch_size if args.data.size else 1)
    load_weights(module, path)
    folder = check_room(free_folder(args.out, verb), 1 << 20)
    writer = PredictionWriter(folder, data.test, looks=args.looks, uncertainty=args.uncertainty)
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


def fresh_folder(args: Any, verb: str) -> Path:
    """The folder of a new run, or of the one to resume."""
    if args.resume is not None:
        return Path(args.resume)
    folder = free_folder(args.out, verb)
    if (folder / LAST).exists():
        raise InvalidValue(f"{folder} holds a run: go on with it by --resume {folder}, or give another --out.")
    return folder


def free_folder(out: str | None, verb: str) -> Path:
    """*out*, or ``runs/VERB/TIME``; the processes that a run starts are told the same."""
    parent, _, told = os.environ.get(STARTED, "").partition(" ")
    if parent == str(os.getppid()):
        return Path(told)
    stem = Path("runs", verb, time.strftime("%Y-%m-%d_%H-%M-%S"))
    names = (stem if k == 1 else stem.with_name(f"{stem.name}_{k}") for k in itertools.count(1))
    folder = Path(out) if out is not None else next(name for name in names if not name.exists())
    os.environ[STARTED] = f"{os.getpid()} {folder}"
    return folder


def keep_settings(parser: ArgumentParser, args: Any, folder: Path) -> None:
    """Write ``config.yaml``: what ``--config`` takes to do all this again, elsewhere."""
    kept = args.clone()
    for key in ("config", "resume", "out"):
        kept.pop(key, None)
    text = parser.dump(kept, format="yaml", skip_unset=False, skip_validation=True)
    replace_file(folder / CONFIG, lambda draft: draft.write_text(text))


def weights_of(args: Any) -> Path:
    """The checkpoint to score or predict with."""
    if args.weights in ("best", "last"):
        if args.run is None:
            raise InvalidValue("Whose weights? Give --run DIR, the --out of fit, or --weights FILE.")
        path = Path(args.run) / f"{args.weights}.ckpt"
        path = path if path.is_file() or args.weights == "last" else Path(args.run) / LAST
    else:
        path = Path(args.weights)
    if not path.is_file():
        raise InvalidValue(f"{path}: expected a checkpoint, there is none.")
    return path


def load_weights(module: FeedbackModule, path: Path) -> None:
    """The weights in *path*, the averaged ones if there are any.

    Raises:
        InvalidValue: If they belong to another model.
    """
    try:
        module.load_state_dict(read_checkpoint(path)["state_dict"])
    except (RuntimeError, KeyError) as error:
        raise InvalidValue(
            f"{path} holds the weights of another model than the settings build: {error!s:.300}"
        ) from None


def save_model(module: FeedbackModule, folder: Path, dataset: str, weights: Path) -> list[Path]:
    """The model alone, for ``from_pretrained`` and ``smp-feedback export``; smp's own way for smp's own model."""
    save = getattr(module.model, "save_pretrained", None)
    if save is None:
        return []
    module.cpu().eval()
    save(folder / MODEL, dataset=dataset)
    return [folder / MODEL]


def tell(folder: Path, more: list[Path], *, few: bool = False) -> None:
    """Print where every file went."""
    there = sorted(path for path in folder.rglob("*") if path.is_file() and folder / MODEL not in path.parents)
    shown = there[:3] if few else there
    for path in [*shown, *more]:
        say(f"wrote {path}")
    if len(there) > len(shown):
        say(f"wrote {len(there)} files in all to {folder}")


def say(line: str) -> None:
    """One line, however long: paths are to be copied."""
    Console().print(line, soft_wrap=True, markup=False, highlight=False)
