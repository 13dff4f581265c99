"""``smp-feedback predict --images | --watch``: photographs go in, and what one can hand over comes out."""

from __future__ import annotations

from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any, cast

from jsonargparse import ArgumentParser

from smp_feedback.cli import predicting, windows
from smp_feedback.cli.lessons import seeded
from smp_feedback.cli.predicted import Predicted, tell_predicted
from smp_feedback.cli.tables import say
from smp_feedback.cli.watching import Arrivals, until_interrupted, watch
from smp_feedback.config.data import DataConfig, MaskValues
from smp_feedback.data.items import item_name
from smp_feedback.data.masks.reader import MaskReader
from smp_feedback.data.masks.writing import mask_values
from smp_feedback.errors import InvalidValue
from smp_feedback.ops.reading import CLASSIFICATION, SEGMENTATION
from smp_feedback.training.checkpoints import check_room
from smp_feedback.training.datamodule import PairsModule
from smp_feedback.training.facts import Facts
from smp_feedback.training.image_files import ImageFiles, fit_to
from smp_feedback.training.image_outputs import ImageOutputs
from smp_feedback.training.module import FeedbackModule
from smp_feedback.training.output_kinds import OutputKinds
from smp_feedback.training.prediction_summary import SUMMARY
from smp_feedback.training.prediction_writers import ItemWriter, LabelWriter, PredictionWriter
from smp_feedback.training.run_folder import free_folder, kept_data, weights_of
from smp_feedback.training.trainer import build_trainer, in_several
from smp_feedback.training.unread import PicturesModule

Answering = tuple[FeedbackModule, PairsModule, Facts, dict[str, Any]]
"""What predicts, what for, what is known of that, and the settings of the trainer."""
Trained = Callable[[str, ArgumentParser, Any, Path], Answering]
"""Opens a run with its data."""
Writing = Callable[[Any], ItemWriter]
"""What writes the answers to a dataset."""
OF_MAPS = {"maps": "labels", "probabilities": None, "overlays": False, "polygons": None, "min_area": 1}


def add_arguments(parser: ArgumentParser) -> None:
    """What images are told."""
    parser.add_argument("--images", type=str | None, metavar="PATH", help="an image or a folder of them")
    arrive = "a folder whose images are answered as they arrive, until Ctrl-C"
    parser.add_argument("--watch", type=str | None, metavar="DIR", help=arrive)
    most = "looks at each image, for --settled at most (default: the run's own; 640)"
    parser.add_argument("--steps", type=int | None, metavar="N", help=most)
    stops = "stop an image after so many equal answers in succession"
    parser.add_argument("--settled", type=int | None, metavar="N", help=stops)
    drawn = "also the answer over each image, with a legend"
    parser.add_argument("--overlays", type=bool, default=False, help=drawn)
    maps = "class maps hold labels, or, as the masks did that were trained on, their values or colours"
    parser.add_argument("--maps", type=str, default="labels", metavar="labels|masks", help=maps)
    chances = "also how probable each class is"
    parser.add_argument("--probabilities", type=str | None, metavar="npy|tiff", help=chances)
    outlines = "also the outlines of each class, but for a background"
    parser.add_argument("--polygons", type=str | None, metavar="geojson|coco", help=outlines)
    parser.add_argument("--min_area", type=int, default=1, metavar="PIXELS", help="of an outline, at least")
    parser.add_argument("--looks", type=bool, default=False, help="also the labels of every look")
    parser.add_argument("--uncertainty", type=bool, default=False, help="also how uncertain each pixel is")


def predict(parser: ArgumentParser, args: Any, trained: Trained) -> int:
    """Answer images and write what is asked for; 1 if some could not be read, else 0."""
    kinds = checked(args)
    module, data, facts, settings = answering(parser, args, trained)
    if facts.task == CLASSIFICATION:
        check_labels_alone(args)
    if args.watch is not None and in_several(settings):
        raise InvalidValue(f"--watch {args.watch} runs in one process: leave out trainer.devices and num_nodes.")
    if data.clip is not None:
        predicting.check_one_look(args.steps, args.settled, every=args.looks)
    predicting.look_for(module, args.steps, args.settled, every=args.looks)
    bars = windows.put_on(module, args, settings, data.test)
    if isinstance(data.test, ImageFiles) and args.window is None:
        fit_to(data.test, module.opened, facts.task)
        module.skips = data.test.size is None
    folder = Path(free_folder(args.out, "predict"))
    check_apart(args, data, folder)
    check_room(folder, 1 << 20, "predict writes its answers there")
    outputs = None if facts.task == CLASSIFICATION else outputs_of(args, facts, kinds, folder)
    if args.watch is not None:
        return _watch(args, (module, data, facts, settings), outputs, folder)
    writer = writing(args, facts, outputs, folder)(data.test)
    trainer = build_trainer(settings, folder, [writer, *bars])
    trainer.predict(module, data, return_predictions=False)
    found = Predicted(folder, writer.written, writer.unread)
    if not trainer.is_global_zero:  # the first one tells of all, and a status other than 0 would end it
        return 0
    tell_predicted(found, outputs)
    return found.status


def checked(args: Any) -> OutputKinds:
    """What is to be written, if the words go together.

    Raises:
        InvalidValue: If they do not.
    """
    if args.watch is not None and args.images is not None:
        raise InvalidValue(f"--watch {args.watch} and --images {args.images}: give one of them.")
    if args.watch is not None and not Path(args.watch).is_dir():
        raise InvalidValue(f"--watch {args.watch}: expected a folder, there is none.")
    return OutputKinds(
        looks=args.looks, uncertainty=args.uncertainty, **{name: getattr(args, name) for name in OF_MAPS}
    )


def check_apart(args: Any, data: PairsModule, folder: Path) -> None:
    """Answers lie in another folder than the images, whose names they have.

    Raises:
        InvalidValue: If they would not.
    """
    if args.watch is not None:
        paths = [Path(args.watch) / "any"]
    else:
        named = (Path(item_name(data.test, i)) for i in range(len(cast(Sized, data.test))))
        paths = [path for path in named if path.is_file()]
    if folder.resolve() in {path.parent.resolve() for path in paths}:
        raise InvalidValue(f"--out {folder} is where the images are, which have the same names: give another folder.")


def answering(parser: ArgumentParser, args: Any, trained: Trained) -> Answering:
    """What predicts, and what for; images alone need no data where the run knows them."""
    if predicting.is_saved(args.run):
        made = seeded(parser, args)
        return *predicting.of_saved(made), vars(made.trainer)
    path = weights_of(args.run, args.weights)
    kept = kept_data(path.parent)
    alone = args.images is not None or args.watch is not None
    if alone and kept is not None:
        made = seeded(parser, args)
        return *predicting.of_run(made, path, kept), vars(made.trainer)
    module, data, facts, settings = trained("predict", parser, args, path)
    data = predicting.pictures(args, facts.config(DataConfig()))[0] if alone else data
    return module, data, facts, settings


def outputs_of(args: Any, facts: Facts, kinds: OutputKinds, folder: Path) -> ImageOutputs:
    """What writes the maps of a model that knows *facts*."""
    source = args.images if args.watch is None else args.watch
    root = None if source is None else Path(source) if Path(source).is_dir() else Path(source).parent
    values = facts.reads.mask_values
    if values is None and kinds.maps == "masks" and facts.task == SEGMENTATION:
        values = values_told(args.data, facts)
    return ImageOutputs(folder, facts.classes, task=facts.task, mask_values=values, kinds=kinds, root=root)


def values_told(data: Any, facts: Facts) -> MaskValues | None:
    """What masks held by the settings *data* of a run that has not kept it, as those of before have not."""
    options, settings = {**(data.options or {})}, data.as_dict()  # ``values`` is a method of the namespace, too
    told = {name: options.get(name, settings.get(name)) for name in ("values", "colours", "offset")}
    known = {name: value for name, value in told.items() if value is not None}
    return mask_values(MaskReader(classes=facts.classes, ignore_index=facts.ignore_index, **known)) if known else None


def check_labels_alone(args: Any) -> None:
    """Nothing is asked of a classifier that labels have not.

    Raises:
        InvalidValue: If something is.
    """
    for name, usual in OF_MAPS.items():
        if getattr(args, name) != usual:
            raise InvalidValue(f"--{name}: the model classifies, and its answers are labels.csv; leave it out.")
    if args.window is not None:
        windows.check_maps(CLASSIFICATION)


def writing(args: Any, facts: Facts, outputs: ImageOutputs | None, folder: Path) -> Writing:
    """What writes the answers to a dataset."""
    if outputs is not None:
        return lambda dataset: PredictionWriter(folder, dataset, outputs=outputs)
    shown: dict[str, Any] = {"looks": args.looks, "uncertainty": args.uncertainty}
    return lambda dataset: LabelWriter(folder, dataset, facts.classes, **shown)


def _watch(args: Any, opened: Answering, outputs: ImageOutputs | None, folder: Path) -> int:
    """Answer what arrives, until Ctrl-C."""
    module, data, facts, settings = opened
    files: Any = data.test
    make, found, rows = writing(args, facts, outputs, folder), Predicted(folder, 0, {}), list[dict[str, str]]()
    done = set() if outputs is None else outputs.take_up(folder / SUMMARY)
    arrivals = Arrivals(Path(args.watch), folder, done)
    before = f", {len(done)} images of {folder / SUMMARY} are done" if done else ""
    say(f"watching {args.watch}{before}; Ctrl-C ends it")
    with until_interrupted() as stopped:
        for paths in watch(arrivals, stopped):
            some = ImageFiles(paths, files.size, files.config)
            some.stride, some.as_bytes = files.stride, files.as_bytes
            writer = make(some)
            if isinstance(writer, LabelWriter):
                writer.before = rows
            trainer = build_trainer({**settings, "enable_progress_bar": False}, folder, [writer])
            trainer.predict(module, PicturesModule(test=some, batch_size=data.batch_size), return_predictions=False)
            rows = writer.rows if isinstance(writer, LabelWriter) else rows
            found = found.after(map(str, paths), writer.written, writer.unread)
            for path in map(str, paths):
                say(writer.unread.get(path) or f"answered {path}")
    unread = found.unread | {str(path): f"{path} was not whole yet." for path in arrivals.waiting()}
    found = found._replace(unread=unread)
    tell_predicted(found, outputs)
    return found.status
