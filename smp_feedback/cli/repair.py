"""``smp-feedback repair train | evaluate``: a trained base's masks, mended by a local rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import lightning  # noqa: F401  before all who say float | int: --trainer.limit_train_batches 1 is one batch, not 1.0
from jsonargparse import ArgumentParser
from rich.table import Table

from smp_feedback.cli.connectivity import add_connectivity
from smp_feedback.cli.lessons import Lesson, train
from smp_feedback.cli.score import opened
from smp_feedback.cli.scoring import evaluate
from smp_feedback.cli.subcommands import Stage, add_run, add_shared, add_stages, add_trainer, add_whose
from smp_feedback.cli.tables import repair_summary, repaired_table
from smp_feedback.config.repair import Repair
from smp_feedback.errors import InvalidValue, require
from smp_feedback.evaluation.measures import check_measurable
from smp_feedback.evaluation.repair_loop import Repaired, evaluate_repair
from smp_feedback.factory import from_pretrained
from smp_feedback.loops.repair.model import RepairModel
from smp_feedback.loops.score.model import ScoreModel
from smp_feedback.ops.reading import SEGMENTATION
from smp_feedback.training.fitted_runs import fitted_by
from smp_feedback.training.opening import open_pairs
from smp_feedback.training.repair import OTHERWISE, RepairModule
from smp_feedback.training.run_folder import MODEL
from smp_feedback.training.told import OF_FILMS
from smp_feedback.training.trained_base import closed_base

RECIPE = {"trainer.gradient_clip_val": 1.0, "trainer.max_epochs": 100}
"""Of the recipe for any number of looks (``docs/anytime.md``); the module has the rest."""


def add_arguments(parser: ArgumentParser) -> Callable[[Any], None]:
    """Give *parser* the verbs and their settings; returns what runs them."""
    return add_stages(parser, "repair", STAGES)


def train_settings(parser: ArgumentParser) -> None:
    """Those of ``repair train``."""
    add_shared(parser, "runs/repair/TIME")
    base = "what is mended: the --out of smp-feedback fit, or a directory of save_pretrained"
    parser.add_argument("--base", type=str | None, metavar="DIR", help=base)
    fitted = "runs of fit, such as of --data.folds 3 --data.fold 0, 1 and 2: each answers for images it left out"
    parser.add_argument("--fitted", type=list[str], default=[], metavar="[DIR, ...]", help=fitted)
    add_run(parser, None)
    parser.add_class_arguments(Repair, "repair", skip={"base"}, instantiate=False)
    skip = {"model", "classes", "ignore_index", "fitted", "task", "truncate", "feedback_lr", *OTHERWISE}
    parser.add_class_arguments(RepairModule, "training", skip=skip, instantiate=False)
    parser.add_function_arguments(open_pairs, "data", skip={"verb", "seed", *OF_FILMS})
    add_trainer(parser, {"repair": "The loop, and its net", "training": "How the net learns"})
    parser.set_defaults(RECIPE)


def repair_train(parser: ArgumentParser, args: Any) -> None:
    """Train the net that mends a base's masks; the base is left as it is."""
    if args.base is None:
        raise InvalidValue("What is to be mended? Give --base DIR, the --out of smp-feedback fit or a saved model.")

    def prepare(made: Any) -> Lesson:
        data, facts = opened("fit", made)
        model = cast(RepairModel, closed_base(Path(made.base), Repair(**vars(made.repair)), facts))
        about: dict[str, Any] = {"classes": len(facts.classes), "ignore_index": facts.ignore_index}
        fitted = fitted_by([Path(one) for one in made.fitted], data.train, model) if made.fitted else None
        module = RepairModule(model, **about, fitted=fitted, **vars(made.training))
        return Lesson(module, data, "val_miou", repair_summary(model, facts.classes))

    train(parser, args, "repair", prepare, learnt=("repair", "training"))


def evaluate_settings(parser: ArgumentParser) -> None:
    """Those of ``repair evaluate``."""
    add_shared(parser, "runs/repair/TIME")
    add_whose(parser, "the --out of repair train: its data and model")
    parser.add_argument("--split", default="test", help="test or val")
    looks = "numbers of looks to score (default: the model's own)"
    parser.add_argument("--looks", type=list[int] | None, metavar="[N, ...]", help=looks)
    beside = "also a model with a score loop around the same base: the --out of score train, or a saved one"
    parser.add_argument("--beside", type=str | None, metavar="DIR", help=beside)
    parser.add_argument("--crf", type=bool, default=False, help="also a dense CRF on the base's answer (extra crf)")
    connected = "also clDice, Betti errors and breaks (extra topology)"
    parser.add_argument("--topology", type=bool, default=False, help=connected)
    parser.add_function_arguments(open_pairs, "data", skip={"verb", "seed", *OF_FILMS})


def repair_evaluate(parser: ArgumentParser, args: Any) -> None:
    """Score the base, the mended masks, and rivals, on the test images."""
    from smp_feedback.plotting.pictures import repaired

    if args.crf:
        require("pydensecrf", extra="crf")
    check_measurable(SEGMENTATION, topology=args.topology)
    beside = None if args.beside is None else score_loop_in(Path(args.beside))

    def score(model: RepairModel, data: Any, **how: Any) -> Any:
        other = None if beside is None else beside.to(next(model.parameters()).device)
        how |= {"looks": args.looks, "beside": other, "crf": args.crf, "topology": args.topology}
        return evaluate_repair(model, data, **how)

    evaluate(args, "repair", RepairModel, opened, score=score, table=answers_table, draw=repaired)


def answers_table(found: Repaired, classes: Sequence[str], title: str) -> Table:
    """Scores of the answers, and their connectivity where it was measured."""
    table = repaired_table(found, classes, title)
    add_connectivity(table, [score.metrics for score in found.answers.values()])
    return table


def score_loop_in(folder: Path) -> ScoreModel:
    """The model with a score loop in *folder*, that of a run of ``score train`` or of ``save_pretrained``.

    Raises:
        InvalidValue: If it is another one.
    """
    model = from_pretrained(folder / MODEL if (folder / MODEL).is_dir() else folder)
    if not isinstance(model, ScoreModel):
        raise InvalidValue(f"--beside {folder} holds a {type(model).__name__}: expected the --out of score train.")
    return model


STAGES: dict[str, tuple[Callable[[ArgumentParser], None], Stage]] = {
    "train": (train_settings, repair_train),
    "evaluate": (evaluate_settings, repair_evaluate),
}
