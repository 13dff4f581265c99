"""``smp-feedback fit | validate | test | predict``: Lightning's trainer, and one YAML file of settings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from smp_feedback.cli import films, predict_images, windows
from smp_feedback.cli.film_scores import has_films, tell_films
from smp_feedback.cli.lessons import Lesson, begun_already, seeded, train
from smp_feedback.cli.scores_told import tell_scores
from smp_feedback.cli.subcommands import add_run, add_shared, add_trainer
from smp_feedback.cli.tables import summary, tell
from smp_feedback.data.folders.sharing import check_shared
from smp_feedback.data.inspection.summary import data_summary
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation.by_image import check_draws
from smp_feedback.evaluation.measures import check_measurable
from smp_feedback.ops.reading import SEGMENTATION
from smp_feedback.saving.run_parts import say_changed
from smp_feedback.training.build import build_module
from smp_feedback.training.checkpoints import check_room
from smp_feedback.training.clips_told import clips_told, frames_of
from smp_feedback.training.cutting import check_learns_cut, cut_learned
from smp_feedback.training.datamodule import PairsModule
from smp_feedback.training.facts import Facts, check_as_learnt, check_several
from smp_feedback.training.image_scores import ImageScores
from smp_feedback.training.metric import NAMES
from smp_feedback.training.module import FeedbackModule
from smp_feedback.training.monitors import Monitor, monitor_of
from smp_feedback.training.opening import learnt_from, open_pairs
from smp_feedback.training.quiet import quiet
from smp_feedback.training.run_folder import DATA, free_folder, kept_data, load_weights, weights_of
from smp_feedback.training.same_settings import CONFIG, of_any_version, run_settings
from smp_feedback.training.samples import ShowsSamples
from smp_feedback.training.trainer import build_trainer


def add_arguments(parser: ArgumentParser, verb: str) -> Callable[[Any], int | None]:
    """Give *parser* the settings of *verb*; returns what runs it."""
    add_shared(parser, f"runs/{verb}/TIME")
    if verb == "fit":
        add_run(parser, None)
        words = "then learn which change of the state is a cut, on the films of val; saved with the model"
        parser.add_argument("--learn_cut", type=bool, default=False, help=words)
        kept = (
            "the score whose best weights are kept: val_dice, val_precision/NAME of a class, val_loss (default: mIoU)"
        )
        parser.add_argument("--monitor", type=str | None, metavar="SCORE", help=kept)
        shown = "epochs between two pictures of validation images in TensorBoard; null shows none"
        parser.add_argument("--samples_every", type=int | None, metavar="N", help=shown)
    else:
        also = "; or a saved model, for --images" if verb == "predict" else ""
        whose = f"the folder of a run (--out of fit): settings and weights{also}"
        parser.add_argument("--run", type=str | None, metavar="DIR", help=whose)
        parser.add_argument("--weights", default="best", help="best, last or a checkpoint's path (default: best)")
        windows.add_arguments(parser)
    if verb in ("validate", "test"):
        draws = "bootstrap samples for 95 % intervals; 0: none"
        parser.add_argument("--bootstrap", type=int, default=1000, metavar="N", help=draws)
        measured = "also Hausdorff 95 and average surface distance, in pixels (extra distances)"
        parser.add_argument("--distances", type=bool, default=False, help=measured)
        connected = "also connectivity, look by look: clDice, Betti errors, breaks (extra topology)"
        parser.add_argument("--topology", type=bool, default=False, help=connected)
    if verb == "predict":
        predict_images.add_arguments(parser)
        films.add_arguments(parser)
    parser.add_function_arguments(build_module, "model", skip={"facts", "classes", "ignore_index", "task", "model"})
    parser.add_function_arguments(open_pairs, "data", skip={"verb", "seed"})
    add_trainer(parser, {"model": "The model, and how it is trained"})
    verbs: dict[str, Callable[..., int | None]] = {"fit": fit, "validate": score, "test": score, "predict": predict}

    def run(args: Any) -> int | None:
        with quiet():
            return verbs[verb](verb, parser, args)

    return run


def fit(verb: str, parser: ArgumentParser, args: Any) -> None:
    """Train a model of the user's choice."""

    def prepare(made: Any) -> Lesson:
        data, facts = open_pairs(verb, made.seed, **made.data.as_dict())
        check_several(facts)
        if "/look_" not in (made.monitor or ""):  # a base may take long to build
            watched(made, 1, data, facts)
        module = build_module(facts, **vars(made.model))
        module.check_frames(data.clip)
        if made.learn_cut:
            check_learns_cut(module, data)
        about = [summary(module, facts, films=data.clip is not None), *in_short(data)]
        after = partial(cut_learned, module, data) if made.learn_cut else list[str]
        monitor = watched(made, module.steps, data, facts)
        return Lesson(module, data, monitor.name, "\n".join(about), after, watching(made, monitor, data, facts))

    train(parser, args, verb, prepare)


def watched(made: Any, looks: int, data: PairsModule, facts: Facts) -> Monitor:
    """The score whose best weights are kept, of a model of so many *looks*; what measures it is there."""
    asked = f"val_{NAMES[facts.task]}" if made.monitor is None else made.monitor
    monitor = monitor_of(asked, facts.task, facts.classes, looks, films=data.clip is not None)
    check_measurable(facts.task, distances=monitor.distances, topology=monitor.topology)
    return monitor


def watching(made: Any, monitor: Monitor, data: PairsModule, facts: Facts) -> list[Callback]:
    """What accompanies a run: what measures distances or connectivity where one is watched, and what shows samples."""
    callbacks: list[Callback] = []
    if monitor.distances or monitor.topology:
        about = facts.task, len(facts.classes), facts.ignore_index, len(data.val or ())
        how: Any = {"distances": monitor.distances, "topology": monitor.topology, "every_look": monitor.of_look}
        callbacks.append(ImageScores(*about, **how))
    if made.samples_every is not None:
        if data.clip is not None:
            raise InvalidValue(f"samples_every={made.samples_every}: samples are of images, and data.clip is of films.")
        callbacks.append(ShowsSamples(data.val, made.samples_every, facts.classes, facts.task))
    return callbacks


def in_short(data: PairsModule) -> list[str]:
    """What is trained on and scored, in lines; said, and so looked at, by one process alone."""
    if rank_zero_only.rank:  # type: ignore[attr-defined]
        return []
    splits = {"train": data.train, "val": data.val}
    frames = {name: frames_of(dataset) for name, dataset in splits.items()}
    return [*data_summary(frames), *clips_told(splits, data.clip, data.clip_stride)]


def score(verb: str, parser: ArgumentParser, args: Any) -> None:
    """Score every look on the split that *verb* names."""
    draws = check_draws(args.bootstrap)
    path = weights_of(args.run, args.weights)
    module, data, facts, settings = trained(verb, parser, args, path)
    check_shared({verb: data.val if verb == "validate" else data.test}, args.data.shared, unused=learnt(path.parent))
    check_several(facts)
    scored = data.val if verb == "validate" else data.test
    about = facts.task, len(facts.classes), facts.ignore_index, len(scored or ())
    bars = windows.put_on(module, args, settings, scored)
    each = ImageScores(*about, distances=args.distances, topology=args.topology, every_look=True)
    folder = check_room(free_folder(args.out, verb), 1 << 20, f"{verb} writes its scores there")
    trainer = build_trainer(settings, folder, [each, *bars])
    (trainer.validate if verb == "validate" else trainer.test)(module, data, verbose=False)
    if trainer.is_global_zero and module.scored is not None:
        how: Any = {"draws": draws, "data": scored, "by_look": each.by_look}
        tell_scores(module.scored, each.images, facts, folder, f"{path}, {verb}", **how)
        if facts.task == SEGMENTATION and has_films(scored):
            tell_films(module.opened, scored, facts, folder, f"{path}, {verb}, one answer a frame")
        tell(folder, [])


def learnt(run: Path) -> dict[str, Any]:
    """The training split of the run in *run*, see `learnt_from`."""
    config = of_any_version(run_settings(run)) if (run / CONFIG).is_file() else {}
    return learnt_from(config["data"], config["seed"]) if "data" in config else {}


def predict(verb: str, parser: ArgumentParser, args: Any) -> int:
    """Write what is asked for of each picture, or, of a classifier, all labels as one table; or answer a film."""
    if films.is_film(args):
        films.predict_film(args, seeded(parser, args))
        return 0
    return predict_images.predict(parser, args, trained)


def trained(
    verb: str, parser: ArgumentParser, args: Any, path: Path
) -> tuple[FeedbackModule, PairsModule, Facts, dict[str, Any]]:
    """The module with the weights in *path*, the data of *verb*, their facts, and the settings of the trainer."""
    made, kept = seeded(parser, args), kept_data(path.parent)
    say_changed(path.parent)
    begun_already(made)
    data, facts = open_pairs(verb, made.seed, **made.data.as_dict())
    if kept is not None:  # it knows how it was trained, and nothing need be downloaded
        check_as_learnt(facts, kept, str(path.parent / DATA))
        made.model.encoder_weights = None
    facts = windows.seen_in_windows(facts, made.window)
    module = build_module(facts, **vars(made.model))
    load_weights(module, path)
    if kept is not None:
        cast(Any, module.model).data_config = facts.config(kept)
    return module, data, facts, vars(made.trainer)
