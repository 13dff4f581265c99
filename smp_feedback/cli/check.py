"""``smp-feedback check``: the data of a run, looked at whole before an hour is spent on it."""

from __future__ import annotations

import json
import sys
import warnings
from argparse import SUPPRESS
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from rich.console import Console

from smp_feedback.cli.data_screen import show, verdict
from smp_feedback.cli.first_run import run_file, write_run_file
from smp_feedback.cli.tables import say
from smp_feedback.cli.train import add_arguments as add_those_of_fit
from smp_feedback.data.dataset_factory import open_dataset
from smp_feedback.data.inspection.checking import check_dataset
from smp_feedback.data.inspection.problems import TRAIN, worst_first
from smp_feedback.data.inspection.report import ERROR, WARNING, DataReport, Problem
from smp_feedback.data.inspection.suggestions import suggestions
from smp_feedback.errors import InvalidInput, InvalidValue, one_line
from smp_feedback.training.clips_told import clips_told
from smp_feedback.training.data_settings import check_data_settings, check_films
from smp_feedback.training.told import told_of

SPLITS = (TRAIN, "val", "test")
OWN = ("check", "config", "out", "resume", "json", "overwrite")  # what a run.yaml does not hold
OUT = "run.yaml"


def add_arguments(parser: ArgumentParser) -> Callable[[Any], int]:
    """Give *parser* all that fit can be told, so that its files are taken, and returns what runs the check."""
    add_those_of_fit(parser, "fit")
    ours = {action.dest: action for action in parser._actions}
    ours["out"].help = f"settings file for fit (default: {OUT})"
    ours["out"].metavar = "FILE"
    ours["resume"].help = SUPPRESS
    parser.add_argument("--json", action="store_true", help="print all findings as JSON")
    parser.add_argument("--overwrite", action="store_true", help="replace a settings file that exists")
    return lambda args: check(parser, args)


def check(parser: ArgumentParser, args: Any) -> int:
    """Look at every item of every split, say what was found and write a first file of settings.

    Returns:
        The exit status: 2, as that of fit would be, for errors.
    """
    data = args.data
    check_data_settings(**data.as_dict())
    opened, refused = opened_splits(data, args.seed)
    how = {"batch_size": data.batch_size, "crop": data.crop, "shared": data.shared}
    report = check_dataset(opened, progress=Console(stderr=True), strict=False, **how)
    unfit = [] if data.mean is None else unlike_mean(report, len(data.mean))
    unfit += without_films(opened, data.clip)
    report = replace(report, problems=worst_first([*refused, *unfit, *report.problems]))
    if args.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        show(report)
        for line in clips_told(opened, data.clip, data.clip_stride):
            say(line)
    for line in (_written(parser, args, report), verdict(report)):
        print(line, file=sys.stderr if args.json else sys.stdout)
    return 2 if report.errors else 0


def opened_splits(data: Any, seed: int) -> tuple[dict[str, Any], list[Problem]]:
    """Every split that there is, as its files are, without augmentation; and why others are not.

    Raises:
        InvalidValue, InvalidInput: If there is none.
    """
    told = told_of(data.as_dict(), seed)
    opened: dict[str, Any] = {}
    refused: list[tuple[str, Exception]] = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*left out")  # that is in the report
        for split in SPLITS:
            count = {"count": data.train_count} if split == TRAIN and data.train_count is not None else {}
            try:
                opened[split] = open_dataset(data.name, split, **{**told, **count})
            except (InvalidValue, InvalidInput) as error:
                refused.append((split, error))
    if not opened:
        raise refused[0][1]
    return opened, [_unopened(split, error) for split, error in refused]


def unlike_mean(report: DataReport, numbers: int) -> list[Problem]:
    """Splits whose images have another number of channels than *numbers* are given as their mean."""
    words = f"data.mean and data.std have {numbers} numbers, and images have {{}} channels: give one number a channel."
    return [
        Problem(severity=ERROR, split=name, item=None, words=words.format(channels))
        for name, split in report.splits.items()
        for channels in split.channels
        if channels != numbers
    ]


def without_films(opened: Mapping[str, Any], clip: int | None) -> list[Problem]:
    """Splits of which no clips can be made, where clips are asked for."""
    found: list[Problem] = []
    if clip is None:
        return found
    for split, dataset in opened.items():
        try:
            check_films(dataset, split, clip, training=split == TRAIN)
        except InvalidValue as error:
            found.append(Problem(severity=ERROR, split=split, item=None, words=one_line(error)))
    return found


def _unopened(split: str, error: Exception) -> Problem:
    """A split that fit needs, or one that it can do without."""
    severity = WARNING if split == "test" else ERROR
    return Problem(severity=severity, split=split, item=None, words=one_line(error))


def _written(parser: ArgumentParser, args: Any, report: DataReport) -> str:
    """Write a file of settings, unless there is one already; returns what to say of it."""
    path = Path(args.out or OUT)
    if path.exists() and not args.overwrite:
        return f"{path} is there, and left as it is; --overwrite writes it anew"
    kept = args.clone()
    for key in OWN:
        kept.pop(key, None)
    text = parser.dump(kept, format="yaml", skip_default=True, skip_unset=False, skip_validation=True)
    data = args.data
    found = suggestions(report, size=data.size, batch_size=data.batch_size, crop=data.crop)
    write_run_file(path, run_file(yaml.safe_load(text) or {}, found, report))
    added = f", with {' and '.join(f'data.{one.key}' for one in found)} as it fits" if found else ""
    return f"wrote {path}{added}: smp-feedback fit --config {path}"
