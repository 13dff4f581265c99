"""``smp-feedback fit | validate | test | predict``: Lightning's trainer, and one YAML file of settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from smp_feedback.cli import films, predicting
from smp_feedback.cli.film_scores import has_films, tell_films
from smp_feedback.cli.lessons import Lesson, begun_already, seeded, train
from smp_feedback.cli.subcommands import add_run, add_shared, add_trainer
from smp_feedback.cli.tables import score_table, summary, tell
from smp_feedback.config.data import DataConfig
from smp_feedback.data.folders.sharing import check_shared
from smp_feedback.data.inspection.summary import data_summary
from smp_feedback.ops.reading import CLASSIFICATION, SEGMENTATION
from smp_feedback.saving.files import replace_file
from smp_feedback.training.build import build_module
from smp_feedback.training.checkpoints import check_room
from smp_feedback.training.clips_told import clips_told, frames_of
from smp_feedback.training.cutting import check_learns_cut, cut_learned
from smp_feedback.training.datamodule import PairsModule
from smp_feedback.training.facts import Facts, check_as_learnt
from smp_feedback.training.metric import NAMES
from smp_feedback.training.module import FeedbackModule
from smp_feedback.training.opening import learnt_from, open_pairs
from smp_feedback.training.prediction_writers import LabelWriter, PredictionWriter
from smp_feedback.training.quiet import quiet
from smp_feedback.training.run_folder import DATA, free_folder, kept_data, load_weights, weights_of
from smp_feedback.training.same_settings import CONFIG, of_any_version
from smp_feedback.training.trainer import build_trainer


def add_arguments(parser: ArgumentParser, verb: str) -> Callable[[Any], None]:
    """Give *parser* the settings of *verb*; returns what runs it."""
    add_shared(parser, f"runs/{verb}/TIME")
    if verb == "fit":
        add_run(parser, None)
        words = "then learn which change of the state is a cut, on the films of val; saved with the model"
        parser.add_argument("--learn_cut", type=bool, default=False, help=words)
    else:
        also = "; or a saved model, for --images" if verb == "predict" else ""
        whose = f"the --out of fit: its settings and weights{also}"
        parser.add_argument("--run", type=str | None, metavar="DIR", help=whose)
        parser.add_argument("--weights", default="best", help="best, last or a checkpoint's path (default: best)")
    if verb == "predict":
        parser.add_argument("--images", type=str | None, metavar="PATH", help="an image or a folder of them")
        most = "looks at each image, for --settled at most (default: the run's own; 640)"
        parser.add_argument("--steps", type=int | None, metavar="N", help=most)
        stops = "stop an image after so many equal answers in succession"
        parser.add_argument("--settled", type=int | None, metavar="N", help=stops)
        parser.add_argument("--looks", type=bool, default=False, help="also the labels of every look")
        parser.add_argument("--uncertainty", type=bool, default=False, help="also how uncertain each pixel is")
        films.add_arguments(parser)
    parser.add_function_arguments(build_module, "model", skip={"facts", "classes", "ignore_index", "task", "model"})
    parser.add_function_arguments(open_pairs, "data", skip={"verb", "seed"})
    add_trainer(parser, {"model": "The model, and how it is trained"})
    verbs = {"fit": fit, "validate": score, "test": score, "predict": predict}

    def run(args: Any) -> None:
        with quiet():
            verbs[verb](verb, parser, args)

    return run


def fit(verb: str, parser: ArgumentParser, args: Any) -> None:
    """Train a model of the user's choice."""

    def prepare(made: Any) -> Lesson:
        module, data, facts = built(verb, made)
        module.check_frames(data.clip)
        if made.learn_cut:
            check_learns_cut(module, data)
        about = [summary(module, facts, films=data.clip is not None), *in_short(data)]
        after = partial(cut_learned, module, data) if made.learn_cut else list[str]
        return Lesson(module, data, f"val_{NAMES[facts.task]}", "\n".join(about), after)

    train(parser, args, verb, prepare)


def in_short(data: PairsModule) -> list[str]:
    """What is trained on and scored, in lines; said, and so looked at, by one process alone."""
    if rank_zero_only.rank:  # type: ignore[attr-defined]
        return []
    splits = {"train": data.train, "val": data.val}
    frames = {name: frames_of(dataset) for name, dataset in splits.items()}
    return [*data_summary(frames), *clips_told(splits, data.clip, data.clip_stride)]


def score(verb: str, parser: ArgumentParser, args: Any) -> None:
    """Score every look on the split that *verb* names."""
    path = weights_of(args.run, args.weights)
    module, data, facts, settings = trained(verb, parser, args, path)
    check_shared({verb: data.val if verb == "validate" else data.test}, args.data.shared, unused=learnt(path.parent))
    folder = check_room(free_folder(args.out, verb), 1 << 20)
    trainer = build_trainer(settings, folder)
    (trainer.validate if verb == "validate" else trainer.test)(module, data, verbose=False)
    if trainer.is_global_zero and module.scored is not None:
        Console().print(score_table(module.scored, facts.classes, f"{path}, {verb}"))
        found = {key: value.tolist() for key, value in module.scored._asdict().items() if key != "name"}
        written = {"score": module.scored.name, "classes": facts.classes, **found}
        text = json.dumps(written, indent=2).replace("NaN", "null")
        replace_file(folder / "scores.json", lambda draft: draft.write_text(text))
        if facts.task == SEGMENTATION and has_films(scored := data.val if verb == "validate" else data.test):
            tell_films(module.opened, scored, facts, folder, f"{path}, {verb}, one answer a frame")
        tell(folder, [])


def learnt(run: Path) -> dict[str, Any]:
    """The training split of the run in *run*, see `learnt_from`."""
    told = run / CONFIG
    config = of_any_version(yaml.safe_load(told.read_text())) if told.is_file() else {}
    return learnt_from(config["data"], config["seed"]) if "data" in config else {}


def predict(verb: str, parser: ArgumentParser, args: Any) -> None:
    """Write a label map for each picture, or, of a classifier, all labels as one table; or answer a film."""
    if films.is_film(args):
        films.predict_film(args, seeded(parser, args))
        return
    module, data, facts, settings = answering(verb, parser, args)
    if data.clip is not None:
        predicting.check_one_look(args.steps, args.settled, every=args.looks)
    predicting.look_for(module, args.steps, args.settled, every=args.looks)
    folder = check_room(free_folder(args.out, verb), 1 << 20)
    shown: dict[str, Any] = {"looks": args.looks, "uncertainty": args.uncertainty}
    kind: Any = LabelWriter if facts.task == CLASSIFICATION else partial(PredictionWriter, task=facts.task)
    trainer = build_trainer(settings, folder, [kind(folder, data.test, facts.classes, **shown)])
    trainer.predict(module, data, return_predictions=False)
    if trainer.is_global_zero:
        tell(folder, [], few=True)


def answering(
    verb: str, parser: ArgumentParser, args: Any
) -> tuple[FeedbackModule, PairsModule, Facts, dict[str, Any]]:
    """What predicts, what for, and the settings of the trainer; images alone need no data where the run knows them."""
    if predicting.is_saved(args.run):
        made = seeded(parser, args)
        return *predicting.of_saved(made), vars(made.trainer)
    path = weights_of(args.run, args.weights)
    kept = kept_data(path.parent)
    if args.images is not None and kept is not None:
        made = seeded(parser, args)
        return *predicting.of_run(made, path, kept), vars(made.trainer)
    module, data, facts, settings = trained(verb, parser, args, path)
    data = data if args.images is None else predicting.pictures(args, facts.config(DataConfig()))
    return module, data, facts, settings


def trained(
    verb: str, parser: ArgumentParser, args: Any, path: Path
) -> tuple[FeedbackModule, PairsModule, Facts, dict[str, Any]]:
    """As :func:`built`, with the weights in *path*, and the settings of the trainer."""
    made, kept = seeded(parser, args), kept_data(path.parent)
    begun_already(made)
    data, facts = open_pairs(verb, made.seed, **made.data.as_dict())
    if kept is not None:  # it knows how it was trained, and nothing need be downloaded
        check_as_learnt(facts, kept, str(path.parent / DATA))
        made.model.encoder_weights = None
    module = build_module(facts, **vars(made.model))
    load_weights(module, path)
    if kept is not None:
        cast(Any, module.model).data_config = facts.config(kept)
    return module, data, facts, vars(made.trainer)


def built(verb: str, made: Any) -> tuple[FeedbackModule, PairsModule, Facts]:
    """The module, the data of *verb*, and what the one must know of the other."""
    data, facts = open_pairs(verb, made.seed, **made.data.as_dict())
    return build_module(facts, **vars(made.model)), data, facts
