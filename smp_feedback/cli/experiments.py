"""Experiments as they are typed: their arguments, a progress bar over their runs, tables, and every file named."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from smp_feedback.cli.renamed import OF_EXPERIMENTS
from smp_feedback.experiments.ablation.settings import AblationSettings
from smp_feedback.experiments.base_settings import ExperimentSettings
from smp_feedback.training.opening import open_pairs
from smp_feedback.training.told import OF_FIT, options_told

if TYPE_CHECKING:
    from smp_feedback.experiments.engine import Experiment

FIGURES = "figures"
OF_DATA = OF_EXPERIMENTS
"""What settings of the data are called on the command line, as in fit."""
READ = tuple(
    name for name in inspect.signature(open_pairs).parameters if name not in ("verb", "seed", "root", "size", *OF_FIT)
)
"""Of the settings of the data, those that fit names beside the options, and an experiment keeps among them."""
MOVING = (".gif", ".webp")


def add_arguments(parser: ArgumentParser, settings: type[ExperimentSettings], out: str, files: str) -> None:
    """What an experiment with *settings* can be told; *files* is what it leaves in ``--out``."""
    parser.add_argument("--config", action="config", help="a YAML file with any of these")
    parser.add_class_arguments(settings, skip={*OF_DATA})
    hints, said = get_type_hints(settings), _described(*reversed(settings.__mro__))
    for field in (one for one in fields(settings) if one.name in OF_DATA):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        kind = hints[field.name] if default is not None else hints[field.name] | None
        parser.add_argument(f"--{OF_DATA[field.name]}", type=kind, default=default, help=said[field.name])
    read_like_fit(parser)
    parser.add_argument("--out", default=out, help=f"the folder for {files}")
    parser.add_argument("--jobs", type=int, default=1, help="models trained at the same time")
    parser.add_argument("--accelerator", default="auto", help="Lightning's: auto, cpu, gpu")
    parser.add_argument("--executor", default="local", help="who trains: local, dask://HOST:PORT or slurm")


def read_like_fit(parser: ArgumentParser) -> None:
    """How files are read and divided, as fit is told it."""
    hints, said = get_type_hints(open_pairs), _described(open_pairs)
    for name in READ:
        parser.add_argument(f"--data.{name}", type=hints[name], default=None, help=said[name])


def _described(*told: Any) -> dict[str, str]:
    """What docstrings say of each argument, a later one in place of an earlier."""
    from docstring_parser import parse

    pages = [parse(inspect.cleandoc(one.__doc__ or "")) for one in told]
    return {one.arg_name: one.description or "" for page in pages for one in page.params}


def add_task(parser: ArgumentParser, usual: str) -> None:
    """What is compared on: images, or films."""
    parser.add_argument("--task", choices=("image", "film"), default=usual, help="single images, or frames of films")


def lists_of_words(words: Sequence[str], settings: type[ExperimentSettings]) -> list[str]:
    """*words* where those behind an option that takes a list are that list.

    >>> from smp_feedback.experiments.comparison.settings import ComparisonSettings
    >>> lists_of_words(["--sizes", "5", "9", "--seeds", "3"], ComparisonSettings)
    ['--sizes', '[5, 9]', '--seeds', '3']
    >>> lists_of_words(["--sizes=5", "--looks=[2, 3]"], ComparisonSettings)
    ['--sizes', '[5]', '--looks', '[2, 3]']
    """
    lists = {f"--{OF_DATA.get(f.name, f.name)}" for f in fields(settings) if str(f.type).startswith("list[")}
    joined: list[str] = []
    for flag, behind in _by_option(words):
        name, _, first = flag.partition("=")
        if name in lists and first:
            flag, behind = name, [first, *behind]
        if flag in lists and behind and not behind[0].startswith("["):
            behind = [f"[{', '.join(behind)}]"]
        joined += [flag, *behind]
    return joined


def _by_option(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each option, or first word, with the words behind it."""
    starts = [i for i, word in enumerate(words) if i == 0 or word.startswith("--")]
    for begin, end in zip(starts, [*starts[1:], len(words)], strict=True):
        yield words[begin], [*words[begin + 1 : end]]


def conduct(experiment: Experiment[Any, Any], kind: type[ExperimentSettings], args: Any) -> None:
    """Make *experiment* with the settings, of *kind*, in *args*."""
    told = {f.name: args[OF_DATA.get(f.name, f.name)] for f in fields(kind)}
    told["data_options"] = options_told(
        {"options": told["data_options"]} | {name: args[f"data.{name}"] for name in READ}
    )
    settings = kind(**told)
    aloud(experiment, settings, args.out, jobs=args.jobs, accelerator=args.accelerator, executor=args.executor)


def ablation_settings(parser: ArgumentParser) -> None:
    """Those of ``restore ablation``."""
    add_arguments(parser, AblationSettings, "runs/ablation", "tables, pictures and models")


def restore_ablation(parser: ArgumentParser, args: Any) -> None:
    """Train and score the segmentation network alone, then each part of the loop added to it."""
    from smp_feedback.experiments.ablation.experiment import ablate

    conduct(ablate, AblationSettings, args)


def aloud(experiment: Experiment[Any, Any], settings: Any, out: str, **how: Any) -> None:
    """Make *experiment*, and print what came of it."""
    from smp_feedback.evaluation.results import load_result

    console = Console()
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    progress = Progress(TextColumn("{task.description}"), *columns, console=console)
    total = sum(experiment.passes(settings, key) for key in experiment.keys(settings))
    task = progress.add_task("training", total=total)
    with ExitStack() as stack:

        def begin() -> None:
            console.print(experiment.plan(settings), soft_wrap=True)
            stack.enter_context(progress)

        def advance(key: Any, found: Mapping[str, Any] | None) -> None:
            done = 0 if found is None else experiment.passes(settings, key)
            progress.update(task, description=str(key), advance=done)

        told: Any = {"command": "smp-feedback " + shlex.join(sys.argv[1:]), "begin": begin, "advance": advance}
        try:
            written = experiment(settings, out, **how, **told)
        except (KeyboardInterrupt, SystemExit):  # Lightning makes one the other
            console.print(f"Interrupted. Finished runs are kept in {out}; the same command continues.", soft_wrap=True)
            raise SystemExit(130) from None
    results = load_result(Path(out) / experiment.results)
    said = [*experiment.summary(results)]
    for line in said[:1]:  # the answer first
        console.print(line, markup=False)
    for table in experiment.tables(results):
        console.print(*table.within(console.width), sep="\n")
    for line in said[1:]:
        console.print(line, markup=False)
    for line in _wrote(written):
        console.print(f"wrote {line}", soft_wrap=True)


def _wrote(written: Iterable[Path]) -> Iterator[str]:
    """Every file, but of the figures, which the page shows, only what moves and how many there are."""
    figures: dict[Path, int] = {}
    for path in written:
        if path.parent.name == FIGURES and path.suffix not in MOVING:
            figures[path.parent] = figures.get(path.parent, 0) + 1
        else:
            yield str(path)
    yield from (f"{folder} ({count} figure{'s' * (count > 1)})" for folder, count in figures.items())
