"""What ``smp-feedback score train | tune | evaluate`` can be told, and what runs that they name were told before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning
import yaml
from jsonargparse import ArgumentParser

from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation.tuning import MOST, STEP_SIZES
from smp_feedback.score_config import Score
from smp_feedback.training.denoising import DenoisingModule
from smp_feedback.training.folder import CONFIG
from smp_feedback.training.settings import open_pairs
from smp_feedback.training.verbs import OURS, TITLES, split_words

PUBLISHED = {"data.batch_size": 10, "data.augment": "flip", "data.crop": 224, "trainer.max_epochs": 500}
"""As arXiv 1705.07450 has it; RMSprop and its rates are the module's own."""
AS_LEARNT = ("batch_size", "augment", "crop")  # of a base's data: how it learnt, which is no affair of what refines it


def with_settings(argv: Sequence[str]) -> list[str]:
    """*argv* with what the runs that it names were told, before all that overrides it.

    ``--resume`` brings all settings of a run of ``score train``, ``--run`` its data; ``--base`` brings the data that a
    base was trained on.
    """
    named = ("--resume", "--run", "--base")
    words = split_words(argv, named)
    for flag in named:
        if flag in words[:-1]:
            path = Path(words[words.index(flag) + 1]) / CONFIG
            if flag != "--base" and not path.is_file():
                raise InvalidValue(
                    f"{flag} {path.parent}: expected the folder of a run of score train, with its {CONFIG}."
                )
            told = _kept(flag, yaml.safe_load(path.read_text()), path.parent) if path.is_file() else {}
            return [*words[:2], "--config", json.dumps(told), *words[2:]]
    return list(argv)


def _kept(flag: str, told: dict[str, Any], folder: Path) -> dict[str, Any]:
    if flag != "--base" and "score" not in told:
        raise InvalidValue(f"{flag} {folder} is a run of fit: first smp-feedback score train --base {folder}.")
    if flag == "--resume":
        return told
    data = {key: value for key, value in told["data"].items() if flag == "--run" or key not in AS_LEARNT}
    return {"seed": told["seed"], "data": data}


def train_settings(parser: ArgumentParser) -> None:
    """Those of ``score train``; the defaults are the published ones."""
    _shared(parser, "runs/score/TIME")
    base = "what is refined: the --out of smp-feedback fit, or a directory of save_pretrained"
    parser.add_argument("--base", type=str | None, metavar="DIR", help=base)
    parser.add_argument("--resume", type=str | None, metavar="DIR", help="go on with the run whose --out this was")
    parser.add_argument("--save_every", type=int, default=200, help="batches between two last.ckpt of an epoch")
    early = "stop after so many validations without a better score; null never does"
    parser.add_argument("--early_stopping", type=int | None, default=100, metavar="N", help=early)
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
    _shared(parser, "beside the model")
    _whose(parser)
    sizes = "step sizes to try (default: the published ones)"
    parser.add_argument("--step_sizes", type=list[float], default=list(STEP_SIZES), metavar="[S, ...]", help=sizes)
    parser.add_argument("--most", type=int, default=MOST, metavar="N", help="numbers of updates to try: 0 to N")
    parser.add_function_arguments(open_pairs, "data", skip={"verb", "seed"})


def evaluate_settings(parser: ArgumentParser) -> None:
    """Those of ``score evaluate``."""
    _shared(parser, "runs/score/TIME")
    _whose(parser)
    parser.add_argument("--split", default="test", help="test or val")
    parser.add_argument("--crf", type=bool, default=False, help="also a dense CRF on the base's answer (extra crf)")
    parser.add_function_arguments(open_pairs, "data", skip={"verb", "seed"})


def _shared(parser: ArgumentParser, out: str) -> None:
    parser.add_argument("--config", action="config", help="a YAML file of these settings; later words override it")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same result")
    parser.add_argument("--out", type=str | None, metavar="DIR", help=f"where files go (default: {out})")


def _whose(parser: ArgumentParser) -> None:
    run = "the --out of score train: its data and model"
    parser.add_argument("--run", type=str | None, metavar="DIR", help=run)
    parser.add_argument("--model", type=str | None, metavar="DIR", help="or a model of save_pretrained, and --data")
    parser.add_argument("--accelerator", default="auto", help="auto, cpu or gpu")
