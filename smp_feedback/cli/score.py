"""``smp-feedback score train | tune | evaluate``: a trained base's predictions, refined by iterative inference."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import lightning  # noqa: F401  before all who say float | int: --trainer.limit_train_batches 1 is one batch, not 1.0
from jsonargparse import ArgumentParser

from smp_feedback.cli.lessons import Lesson, train
from smp_feedback.cli.scoring import advancing, evaluate, how_to_score, saved_model
from smp_feedback.cli.subcommands import Stage, add_run, add_shared, add_stages, add_trainer, add_whose
from smp_feedback.cli.tables import refined_table, refinement_summary, say
from smp_feedback.config.score import Score
from smp_feedback.data.items import checked_int
from smp_feedback.errors import InvalidValue, require
from smp_feedback.evaluation.results import save_result
from smp_feedback.evaluation.score_loop import evaluate_score
from smp_feedback.evaluation.tuning import MOST, STEP_SIZES, check_search, tune
from smp_feedback.loops.score.model import ScoreModel
from smp_feedback.training.checkpoints import check_room
from smp_feedback.training.datamodule import PairsModule
from smp_feedback.training.denoising import DenoisingModule
from smp_feedback.training.facts import Facts
from smp_feedback.training.opening import open_pairs
from smp_feedback.training.run_folder import MODEL
from smp_feedback.training.told import OF_FILMS
from smp_feedback.training.trained_base import check_data, closed_base

PUBLISHED = {"data.batch_size": 10, "data.augment": "flip", "data.crop": 224, "trainer.max_epochs": 500}
"""As arXiv 1705.07450 has it; RMSprop and its rates are the module's own."""
RUN = "the --out of score train: its data and model"


def add_arguments(parser: ArgumentParser) -> Callable[[Any], None]:
    """Give *parser* the three verbs and their settings; returns what runs them."""
    return add_stages(parser, "score", STAGES)


def train_settings(parser: ArgumentParser) -> None:
    """Those of ``score train``; the defaults are the published ones."""
    add_shared(parser, "runs/score/TIME")
    base = "what is refined: the --out of smp-feedback fit, or a directory of save_pretrained"
    parser.add_argument("--base", type=str | None, metavar="DIR", help=base)
    add_run(parser, 100)
    parser.add_class_arguments(Score, "score", skip={"base"}, instantiate=False)
    skip = {"model", "classes", "ignore_index"}
    parser.add_class_arguments(DenoisingModule, "training", skip=skip, instantiate=False)
    parser.add_function_arguments(open_pairs, "data", skip={"verb", "seed", *OF_FILMS})
    add_trainer(parser, {"score": "The loop, and its autoencoder", "training": "How the autoencoder learns"})
    parser.set_defaults(PUBLISHED)


def score_train(parser: ArgumentParser, args: Any) -> None:
    """Train the autoencoder that refines a base's predictions; the base is left as it is."""
    if args.base is None:
        raise InvalidValue("What is to be refined? Give --base DIR, the --out of smp-feedback fit or a saved model.")

    def prepare(made: Any) -> Lesson:
        data, facts = opened("fit", made)
        model = cast(ScoreModel, closed_base(Path(made.base), Score(**vars(made.score)), facts))
        told = {"classes": len(facts.classes), "ignore_index": facts.ignore_index, **vars(made.training)}
        return Lesson(DenoisingModule(model, **told), data, "val_miou", refinement_summary(model, facts.classes))

    train(parser, args, "score", prepare, learnt=("score", "training"))


def tune_settings(parser: ArgumentParser) -> None:
    """Those of ``score tune``."""
    add_shared(parser, "beside the model")
    add_whose(parser, RUN)
    sizes = "step sizes to try (default: the published ones)"
    parser.add_argument("--step_sizes", type=list[float], default=list(STEP_SIZES), metavar="[S, ...]", help=sizes)
    parser.add_argument("--most", type=int, default=MOST, metavar="N", help="numbers of updates to try: 0 to N")
    parser.add_function_arguments(open_pairs, "data", skip={"verb", "seed", *OF_FILMS})


def score_tune(parser: ArgumentParser, args: Any) -> None:
    """Choose step size and number of updates on the validation images, and keep them with the model."""
    from smp_feedback.plotting.plot import plot

    check_search(args.step_sizes, args.most)
    model, _ = saved_model(args, "score", ScoreModel)
    data, facts = opened("validate", args)
    check_data(model, facts)
    how = {"step_sizes": args.step_sizes, "most": args.most, **how_to_score(facts, args)}
    say(f"{len(args.step_sizes)} step sizes, up to {args.most} updates each, {len(data.val or ())} images")
    before = model.feedback.config
    folder = Path(args.out or args.run or args.model)
    kept = folder / MODEL if args.out or args.run else folder
    check_room(folder, 2 * sum(tensor.nbytes for tensor in model.state_dict().values()))
    with advancing("tuning", data.val, args) as advance:
        found = tune(model, data.val, advance=advance, **how)
    path = save_result(found.result(), folder / "tuning.json")
    written = [path, *plot([path])]
    scored = {"split": "val", "base_miou": found.base, "miou": found.best, "step": found.step, "steps": found.steps}
    model.choose(step=found.step, steps=found.steps).cpu().save_pretrained(kept, dataset=args.data.name, metrics=scored)
    say(f"{found} (Kept before: {before.steps} of {before.step:g}.)")
    for one in (*written, kept):
        say(f"wrote {one}")


def evaluate_settings(parser: ArgumentParser) -> None:
    """Those of ``score evaluate``."""
    add_shared(parser, "runs/score/TIME")
    add_whose(parser, RUN)
    parser.add_argument("--split", default="test", help="test or val")
    parser.add_argument("--crf", type=bool, default=False, help="also a dense CRF on the base's answer (extra crf)")
    parser.add_function_arguments(open_pairs, "data", skip={"verb", "seed", *OF_FILMS})


def score_evaluate(parser: ArgumentParser, args: Any) -> None:
    """Score the base, one pass of the autoencoder, and iterative inference, on the test images."""
    from smp_feedback.plotting.pictures import refined

    if args.crf:
        require("pydensecrf", extra="crf")
    how: Any = {"score": partial(evaluate_score, crf=args.crf), "table": refined_table, "draw": refined}
    evaluate(args, "score", ScoreModel, opened, **how)


STAGES: dict[str, tuple[Callable[[ArgumentParser], None], Stage]] = {
    "train": (train_settings, score_train),
    "tune": (tune_settings, score_tune),
    "evaluate": (evaluate_settings, score_evaluate),
}


def opened(verb: str, args: Any) -> tuple[PairsModule, Facts]:
    """The data of one verb.

    Raises:
        InvalidValue: If there are labels where maps are expected.
    """
    data, facts = open_pairs(verb, checked_int("seed", args.seed, least=0), **args.data.as_dict())
    if facts.task != "segmentation":
        raise InvalidValue(f"data.name={args.data.name} has one label an image: what is refined are maps of labels.")
    return data, facts
