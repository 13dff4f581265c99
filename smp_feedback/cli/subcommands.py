"""What verbs share: stages of their own, what a run is told, and what the run was told that the words name."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import lightning
from jsonargparse import ArgumentParser

from smp_feedback.cli.help import first_line, new_parser, usage
from smp_feedback.errors import InvalidValue
from smp_feedback.saving.saved import CONFIG as SAVED
from smp_feedback.training.quiet import quiet
from smp_feedback.training.run_folder import MODEL
from smp_feedback.training.same_settings import CONFIG, of_any_version, run_settings
from smp_feedback.training.told import OF_FILMS

Stage = Callable[[ArgumentParser, Any], None]
Told = dict[str, Any]
OURS = {"default_root_dir", "enable_checkpointing", "enable_model_summary", "plugins", "use_distributed_sampler"}
WINDOW, OF_FILES = "--window", ("--images", "--watch")
NAMING = ("--resume", "--run", "--base")  # the words that name a run
OUT = "--out"  # where an experiment that goes on has its own
USUAL_OUTS = {"compare": ("runs/compare", "runs/films"), "restore": ("runs/ablation",)}
SHARED = ("model", "data", "trainer", "seed")  # what those that score a run of fit take of it
LOOPS = {
    "score": "score",
    "repair": "repair",
    "restore": "restoration",
    "clicks": "clicks",
}  # the group of settings that only runs of this verb have
INSTEAD = {
    "score": "is a run of fit: first smp-feedback score train --base {}.",
    "repair": "is a run of fit: first smp-feedback repair train --base {}.",
    "restore": "is no run of restore train: begin with smp-feedback restore train.",
    "clicks": "is no run of clicks train: begin with smp-feedback clicks train.",
}
AS_LEARNT = {
    "score": ("batch_size", "augment", "crop", *OF_FILMS),
    "repair": ("batch_size", *OF_FILMS),
    "restore": ("batch_size", "augment", "crop", "corruption", "severity", *OF_FILMS),
}  # of a base's data: how it learnt is its own affair
OUTRANKED = {
    "name": ("turbulence", "wind", "folder"),
    "severity": ("turbulence", "wind", "folder"),
    "turbulence": ("folder",),
}  # what a run may have said of its distortion that would be taken in place of what is asked for now


def add_stages(
    parser: ArgumentParser, verb: str, stages: Mapping[str, tuple[Callable[[ArgumentParser], None], Stage]]
) -> Callable[[Any], None]:
    """Give *parser* the stages of *verb* and their settings; returns what runs them."""
    verbs = parser.add_subcommands(dest="stage", metavar=" | ".join(stages))
    made: dict[str, tuple[ArgumentParser, Stage]] = {}
    for name, (settings, run) in stages.items():
        own = new_parser(run.__doc__)
        settings(own)
        own.usage = usage(own, f"{verb} {name}")
        verbs.add_subcommand(name, own, help=first_line(run))
        made[name] = own, run

    def chosen(args: Any) -> None:
        own, run = made[args.stage]
        with quiet():
            run(own, args[args.stage])

    return chosen


def add_shared(parser: ArgumentParser, out: str) -> None:
    """What every run can be told."""
    parser.add_argument("--config", action="config", help="a YAML file of these settings; later words override it")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same result")
    parser.add_argument("--out", type=str | None, metavar="DIR", help=f"where files go (default: {out})")


def add_whose(parser: ArgumentParser, run: str) -> None:
    """Which trained model a stage takes; *run* is what ``--run`` names."""
    parser.add_argument("--run", type=str | None, metavar="DIR", help=run)
    parser.add_argument("--model", type=str | None, metavar="DIR", help="or a model of save_pretrained, and --data")
    parser.add_argument("--accelerator", default="auto", help="auto, cpu or gpu")


def add_run(parser: ArgumentParser, early: int | None) -> None:
    """What a run that trains can be told; *early* is the usual patience."""
    parser.add_argument("--resume", type=str | None, metavar="DIR", help="go on with the run whose --out this was")
    parser.add_argument("--save_every", type=int, default=200, help="batches between two last.ckpt of an epoch")
    words = "stop after so many validations without a better score; null never does"
    parser.add_argument("--early_stopping", type=int | None, default=early, metavar="N", help=words)


def add_trainer(parser: ArgumentParser, titles: Mapping[str, str]) -> None:
    """What Lightning's trainer can be told; *titles* are those of the groups of settings."""
    parser.add_class_arguments(lightning.Trainer, "trainer", skip=OURS, fail_untyped=False, instantiate=False)
    for group, title in {**titles, "data": "The data", "trainer": "Lightning's trainer"}.items():
        cast(Any, parser.groups)[group].title = title


def with_settings_of_a_run(argv: Sequence[str]) -> list[str]:
    """*argv* with what the run that it names was told, before all that overrides it.

    ``--resume`` brings all settings of a run, ``--run`` those that say what it learnt from, and ``--base`` the data
    that a base was trained on. Who names another distortion than that of ``--run`` gets it, also where the run's would
    outrank it.

    Raises:
        InvalidValue: If a run that is named is none, or one of another verb.
    """
    words = split_words(argv, (*NAMING, WINDOW))
    of_loop = words[0] in LOOPS
    flag = next((flag for flag in NAMING if flag in words[:-1] and (of_loop or flag != "--base")), None)
    if flag is None or (of_loop and words[1] not in ("train", "tune", "evaluate")):
        return list(argv)
    verb, own = words[0], 2 if of_loop else 1
    told = _kept(words, flag, _settings_in(Path(words[words.index(flag) + 1]), verb, flag))
    return [*words[:own], "--config", json.dumps(told), *words[own:]]


def runs_in(argv: Sequence[str]) -> list[Path]:
    """The folders of runs that *argv* names, and of experiments that it may go on with.

    >>> runs_in(["test", "--run=runs/a", "--data.size=64"]), runs_in(["compare", "--out", "runs/b"])
    ([PosixPath('runs/a')], [PosixPath('runs/b')])
    """
    words = split_words(argv, (*NAMING, OUT))
    usual = () if OUT in words else USUAL_OUTS.get(argv[0] if argv else "", ())
    return [Path(value) for word, value in itertools.pairwise(words) if word in (*NAMING, OUT)] + [*map(Path, usual)]


def split_words(argv: Sequence[str], flags: Sequence[str]) -> list[str]:
    """*argv* with the value of each of *flags* as a word of its own.

    >>> split_words(["test", "--run=runs/a", "--data.size=64"], ["--run"])
    ['test', '--run', 'runs/a', '--data.size=64']
    """
    joined = tuple(f"{flag}=" for flag in flags)
    return [part for word in argv for part in (word.split("=", 1) if word.startswith(joined) else [word])]


def _settings_in(folder: Path, verb: str, flag: str) -> Told:
    path = folder / CONFIG
    if not path.is_file():
        saved = (folder / SAVED).is_file() and flag == "--run"
        if (saved and verb == "predict") or flag == "--base":  # a directory of save_pretrained
            return {}
        if saved:
            raise InvalidValue(f"{flag} {folder} is a saved model, {_whose(folder)}")
        of = f" of {verb} train" if verb in LOOPS else ""
        raise InvalidValue(f"{flag} {folder}: expected the folder of a run{of}, with its {CONFIG}.")
    told: Told = of_any_version(run_settings(folder))
    trained = next((one for one, group in LOOPS.items() if group in told), "fit")
    if flag == "--base" or trained == (verb if verb in LOOPS else "fit"):
        return told
    if trained != "fit" and verb == "predict" and (folder / MODEL).is_dir():
        instead = f"is a run of {trained} train; its model answers: --run {folder / MODEL}, with --images."
    elif trained != "fit":
        instead = f"is a run of {trained} train: smp-feedback {trained} --help has its verbs."
    else:
        instead = INSTEAD[verb].format(folder)
    raise InvalidValue(f"{flag} {folder} {instead}")


def _whose(model: Path) -> str:
    """Which run a saved *model* is of, or what takes it where it is of none."""
    if (model.parent / CONFIG).is_file():
        return f"and its run is the folder that it is in: --run {model.parent}."
    return f"which has no data of its own: give the --out of fit, or smp-feedback predict --run {model} --images PATH."


def _told(words: Sequence[str], flag: str) -> bool:
    """Whether *flag* is among *words*, and the last time with something.

    >>> _told(["test", "--window", "512"], "--window"), _told(["test", "--window", "null"], "--window")
    (True, False)
    """
    values = [value for word, value in itertools.pairwise(words) if word == flag]
    return bool(values) and values[-1].lower() not in ("null", "none", "~")


def _kept(words: Sequence[str], flag: str, told: Told) -> Told:
    """What of the settings of a run counts for the *flag* that names it."""
    if flag == "--resume" or not told:
        return told
    verb = words[0]
    if verb not in LOOPS:
        kept = {key: told[key] for key in SHARED}
        files = told["data"].get("root") is not None or any(word.partition("=")[0] in OF_FILES for word in words)
        if _told(words, WINDOW) and files:  # windows are of images at their own size; what is drawn anew has no other
            kept["data"] = {name: value for name, value in told["data"].items() if name != "size"}
        return kept
    if flag == "--base":
        return {"seed": told["seed"], "data": {k: v for k, v in told["data"].items() if k not in AS_LEARNT[verb]}}
    kept = {"seed": told["seed"], "data": told["data"]}
    if verb == "restore":
        said = {word.partition("=")[0].removeprefix("--distortion.") for word in words}
        outranked = {one: None for name in said & {*OUTRANKED} for one in OUTRANKED[name]}
        kept["distortion"] = {**told["distortion"], **outranked}
    return kept
