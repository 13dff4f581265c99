"""What ``smp-feedback score train | tune | evaluate`` can be told, and what runs that they name were told before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning
from jsonargparse import ArgumentParser

from smp_feedback.cli.subcommands import add_run, add_shared, add_whose, after_the_run
from smp_feedback.cli.train import OURS, TITLES
from smp_feedback.config.score import Score
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation.tuning import MOST, STEP_SIZES
from smp_feedback.training.build import open_pairs
from smp_feedback.training.denoising import DenoisingModule

PUBLISHED = {"data.batch_size": 10, "data.augment": "flip", "data.crop": 224, "trainer.max_epochs": 500}
"""As arXiv 1705.07450 has it; RMSprop and its rates are the module's own."""
RUN = "the --out of score train: its data and model"
AS_LEARNT = ("batch_size", "augment", "crop")  # of a base's data: how it learnt, which is no affair of what refines it


def with_settings(argv: Sequence[str]) -> list[str]:
    """*argv* with what the runs that it names were told, before all that overrides it.

    ``--resume`` brings all settings of a run of ``score train``, ``--run`` its data; ``--base`` brings the data that a
    base was trained on.
    """
    return after_the_run(argv, "score", _kept)


def _kept(flag: str, told: dict[str, Any], folder: Path) -> dict[str, Any]:
    if flag != "--base" and "restoration" in told:
        raise InvalidValue(f"{flag} {folder} is a run of restore train: smp-feedback restore --help has its verbs.")
    if flag != "--base" and "score" not in told:
        raise InvalidValue(f"{flag} {folder} is a run of fit: first smp-feedback score train --base {folder}.")
    if flag == "--resume":
        return told
    data = {key: value for key, value in told["data"].items() if flag == "--run" or key not in AS_LEARNT}
    return {"seed": told["seed"], "data": data}


def train_settings(parser: ArgumentParser) -> None:
    """Those of ``score train``; the defaults are the published ones."""
    add_shared(parser, "runs/score/TIME")
    base = "what is refined: the --out of smp-feedback fit, or a directory of save_pretrained"
    parser.add_argument("--base", type=str | None, metavar="DIR", help=base)
    add_run(parser, 100)
    parser.add_class_arguments(Score, "score", skip={"base"}, instantiate=False)
    skip = {"model", "classes", "ignore_index"}
    parser.add_class_arguments(DenoisingModule, "training", skip=skip, instantiate=False)
    parser.add_function_arguments(open_pairs, "data", skip={"verb", "seed"})
    parser.add_class_arguments(lightning.Trainer, "trainer", skip=OURS, fail_untyped=False, instantiate=False)
    titles = {**TITLES, "score": "The loop, and its autoencoder", "training": "How the autoencoder learns"}
    for group in ("score", "training", "data", "trainer"):
        cast(Any, parser.groups)[group].title = titles[group]
    parser.set_defaults(PUBLISHED)


def tune_settings(parser: ArgumentParser) -> None:
    """Those of ``score tune``."""
    add_shared(parser, "beside the model")
    add_whose(parser, RUN)
    sizes = "step sizes to try (default: the published ones)"
    parser.add_argument("--step_sizes", type=list[float], default=list(STEP_SIZES), metavar="[S, ...]", help=sizes)
    parser.add_argument("--most", type=int, default=MOST, metavar="N", help="numbers of updates to try: 0 to N")
    parser.add_function_arguments(open_pairs, "data", skip={"verb", "seed"})


def evaluate_settings(parser: ArgumentParser) -> None:
    """Those of ``score evaluate``."""
    add_shared(parser, "runs/score/TIME")
    add_whose(parser, RUN)
    parser.add_argument("--split", default="test", help="test or val")
    parser.add_argument("--crf", type=bool, default=False, help="also a dense CRF on the base's answer (extra crf)")
    parser.add_function_arguments(open_pairs, "data", skip={"verb", "seed"})
