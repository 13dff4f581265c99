"""What verbs with stages of their own share: ``score train | tune | evaluate`` and ``restore train | evaluate``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser
from rich.console import Console
from rich.progress import Progress

from smp_feedback.checks import check_choice
from smp_feedback.cli.help import HelpFormatter, usage
from smp_feedback.cli.train import split_words
from smp_feedback.errors import InvalidValue
from smp_feedback.loops.outer import OuterModel
from smp_feedback.saving.loading import from_pretrained
from smp_feedback.training.build import Facts
from smp_feedback.training.checkpoints import LAST
from smp_feedback.training.run_folder import CONFIG, MODEL
from smp_feedback.training.trainer import quiet

Stage = Callable[[ArgumentParser, Any], None]
Settings = Callable[[ArgumentParser], None]
Told = dict[str, Any]


def add_stages(
    parser: ArgumentParser, verb: str, stages: Mapping[str, tuple[Settings, Stage]]
) -> Callable[[Any], None]:
    """Give *parser* the stages of *verb* and their settings; returns what runs them."""
    own_manner: Any = {"formatter_class": HelpFormatter, "exit_on_error": False, "allow_abbrev": False}
    verbs = parser.add_subcommands(dest="stage", metavar=" | ".join(stages))
    made: dict[str, tuple[ArgumentParser, Stage]] = {}
    for name, (settings, run) in stages.items():
        own = ArgumentParser(description=run.__doc__, **own_manner)
        settings(own)
        own.usage = usage(own, f"{verb} {name}")
        verbs.add_subcommand(name, own, help=(run.__doc__ or "").partition("\n")[0])
        made[name] = own, run

    def chosen(args: Any) -> None:
        own, run = made[args.stage]
        with quiet():
            run(own, args[args.stage])

    return chosen


def after_the_run(argv: Sequence[str], verb: str, kept: Callable[[str, Told, Path], Told]) -> list[str]:
    """*argv* with what the runs that it names were told, before all that overrides it.

    Args:
        argv: The verb, its stage, and their words.
        verb: Whose runs ``--resume`` and ``--run`` name; ``--base`` may name a directory without settings.
        kept: What of the settings in a folder counts for the flag that names it.

    Raises:
        InvalidValue: If a run that is named is none.
    """
    named = ("--resume", "--run", "--base")
    words = split_words(argv, named)
    for flag in named:
        if flag in words[:-1]:
            path = Path(words[words.index(flag) + 1]) / CONFIG
            if flag != "--base" and not path.is_file():
                raise InvalidValue(
                    f"{flag} {path.parent}: expected the folder of a run of {verb} train, with its {CONFIG}."
                )
            told = kept(flag, yaml.safe_load(path.read_text()), path.parent) if path.is_file() else {}
            return [*words[:2], "--config", json.dumps(told), *words[2:]]
    return list(argv)


def add_shared(parser: ArgumentParser, out: str) -> None:
    """What every stage can be told."""
    parser.add_argument("--config", action="config", help="a YAML file of these settings; later words override it")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same result")
    parser.add_argument("--out", type=str | None, metavar="DIR", help=f"where files go (default: {out})")


def add_whose(parser: ArgumentParser, run: str) -> None:
    """Which trained model a stage takes; *run* is what ``--run`` names."""
    parser.add_argument("--run", type=str | None, metavar="DIR", help=run)
    parser.add_argument("--model", type=str | None, metavar="DIR", help="or a model of save_pretrained, and --data")
    parser.add_argument("--accelerator", default="auto", help="auto, cpu or gpu")


def add_run(parser: ArgumentParser, early: int | None) -> None:
    """What a stage that trains can be told of its run; *early* is the usual patience."""
    parser.add_argument("--resume", type=str | None, metavar="DIR", help="go on with the run whose --out this was")
    parser.add_argument("--save_every", type=int, default=200, help="batches between two last.ckpt of an epoch")
    words = "stop after so many validations without a better score; null never does"
    parser.add_argument("--early_stopping", type=int | None, default=early, metavar="N", help=words)


def saved_model(args: Any, verb: str, kind: type[OuterModel]) -> tuple[OuterModel, Path]:
    """The model that ``--run`` or ``--model`` names, and where it is, on the device asked for.

    Raises:
        InvalidValue: If none is named, there is none, or it has no loop of *verb*, whose class is *kind*.
    """
    if (args.run is None) == (args.model is None):
        raise InvalidValue(f"Whose model? Give --run DIR, the --out of {verb} train, or --model DIR, a saved one.")
    device = device_for(args.accelerator)
    source = Path(args.model) if args.run is None else Path(args.run) / MODEL
    if not source.is_dir():
        begun = args.run is not None and (Path(args.run) / LAST).is_file()
        ended = f" Has the run ended? smp-feedback {verb} train --resume {args.run} goes on with it." if begun else ""
        raise InvalidValue(f"{source}: expected a saved model, there is none.{ended}")
    model = from_pretrained(source)
    if not isinstance(model, kind):
        loop = kind.config_class.loop
        raise InvalidValue(f"{source} holds a {type(model).__name__} without a {loop} loop: smp-feedback {verb} train.")
    return model.to(device), source


def scoring(facts: Facts, args: Any) -> dict[str, Any]:
    """How to score, as the functions of `smp_feedback.evaluation` take it."""
    how = {"batch_size": args.data.batch_size, "workers": args.data.workers}
    return {"classes": len(facts.classes), "ignore_index": facts.ignore_index, **how}


def device_for(accelerator: str) -> torch.device:
    """A GPU if it is asked for, or is there and nothing else is asked for.

    >>> device_for("cpu")
    device(type='cpu')
    """
    check_choice("accelerator", accelerator, ("auto", "cpu", "gpu"))
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise InvalidValue("accelerator='gpu': torch finds none; accelerator='auto' takes what there is.")
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def advancing(what: str, pairs: Any, args: Any) -> Iterator[Callable[[], None]]:
    """A progress bar over the batches; yields what moves it."""
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=-(-len(pairs) // args.data.batch_size))
        yield lambda: progress.advance(task)
