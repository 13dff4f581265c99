"""``smp-feedback score train | tune | evaluate``: a trained base's predictions, refined by iterative inference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import lightning
from jsonargparse import ArgumentParser
from rich.console import Console

from smp_feedback.checks import check_choice, check_whole
from smp_feedback.cli.score_settings import evaluate_settings, train_settings, tune_settings
from smp_feedback.cli.subcommands import Settings, Stage, add_stages, advancing, saved_model, scoring
from smp_feedback.cli.tables import refined_table, refinement_summary
from smp_feedback.cli.train import train
from smp_feedback.config.score import Score
from smp_feedback.data.items import checked_int
from smp_feedback.errors import InvalidValue, require
from smp_feedback.evaluation.results import save_result
from smp_feedback.evaluation.score_loop import evaluate_score
from smp_feedback.evaluation.tuning import check_search, tune
from smp_feedback.loops.score.model import ScoreModel
from smp_feedback.training.build import Facts, open_pairs
from smp_feedback.training.checkpoints import check_room
from smp_feedback.training.datamodule import PairsModule
from smp_feedback.training.denoising import DenoisingModule
from smp_feedback.training.run_folder import MODEL, check_same, free_folder, fresh_folder, say
from smp_feedback.training.trained_base import check_data, refined_base
from smp_feedback.training.trainer import room_for

LEARNT = ("score", "training")


def add_arguments(parser: ArgumentParser) -> Callable[[Any], None]:
    """Give *parser* the three verbs and their settings; returns what runs them."""
    return add_stages(parser, "score", STAGES)


def score_train(parser: ArgumentParser, args: Any) -> None:
    """Train the autoencoder that refines a base's predictions; the base is left as it is."""
    check_whole("save_every", args.save_every)
    if args.base is None:
        raise InvalidValue("What is to be refined? Give --base DIR, the --out of smp-feedback fit or a saved model.")
    if args.resume is not None:
        check_same(parser, args, Path(args.resume), LEARNT)
    seed = checked_int("seed", args.seed, least=0)
    made = parser.instantiate(args)
    lightning.seed_everything(seed, verbose=False)
    data, facts = opened("fit", args)
    model = refined_base(Path(args.base), Score(**vars(made.score)), facts)
    told = {"classes": len(facts.classes), "ignore_index": facts.ignore_index, **vars(made.training)}
    module = DenoisingModule(model, **told)
    folder = room_for(module, fresh_folder(args, "score"))
    train(module, data, vars(made.trainer), parser, args, folder, "val_miou", refinement_summary(model, facts.classes))


def score_tune(parser: ArgumentParser, args: Any) -> None:
    """Choose step size and number of updates on the validation images, and keep them with the model."""
    from smp_feedback.plotting.plot import plot

    check_search(args.step_sizes, args.most)
    model, _ = loaded(args)
    data, facts = opened("validate", args)
    check_data(model, facts)
    how = {"step_sizes": args.step_sizes, "most": args.most, **scoring(facts, args)}
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


def score_evaluate(parser: ArgumentParser, args: Any) -> None:
    """Score the base, one pass of the autoencoder, and iterative inference, on the test images."""
    from smp_feedback.plotting.pictures import examples, refined
    from smp_feedback.plotting.plot import plot

    check_choice("split", args.split, ("test", "val"))
    if args.crf:
        require("pydensecrf", extra="crf")
    model, source = loaded(args)
    data, facts = opened("test" if args.split == "test" else "validate", args)
    check_data(model, facts)
    pairs = getattr(data, args.split)
    folder = check_room(free_folder(args.out, "score"), 1 << 20)
    with advancing("scoring", pairs, args) as advance:
        found = evaluate_score(model, pairs, crf=args.crf, advance=advance, **scoring(facts, args))
    Console().print(refined_table(found, facts.classes, f"{source}, {args.split}"))
    path = save_result(found.result(facts.classes), folder / "scores.json")
    pictures = refined(model, examples(pairs), folder / "pictures.png", classes=len(facts.classes))
    for one in (path, *plot([path]), pictures):
        say(f"wrote {one}")


STAGES: dict[str, tuple[Settings, Stage]] = {
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


def loaded(args: Any) -> tuple[ScoreModel, Path]:
    """The model that ``--run`` or ``--model`` names, and where it is, on the device asked for."""
    model, source = saved_model(args, "score", ScoreModel)
    return cast(ScoreModel, model), source
