"""Whose answers ``smp-feedback predict`` writes for images that nobody has labelled: of a run, or of a saved model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from torch import nn

from smp_feedback.config.data import DataConfig
from smp_feedback.config.stopping import until_settled
from smp_feedback.data.images.reader import head_of
from smp_feedback.data.items import height_width
from smp_feedback.errors import InvalidInput, InvalidValue
from smp_feedback.factory import from_pretrained
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.loops.tiling.fitting import sides
from smp_feedback.ops.maps import Size
from smp_feedback.saving.saved import CONFIG as SAVED
from smp_feedback.training.build import build_module, check_sizes
from smp_feedback.training.facts import Facts
from smp_feedback.training.image_files import ImageFiles, divisible
from smp_feedback.training.module import FeedbackModule
from smp_feedback.training.run_folder import DATA, MODEL, kept_data, load_weights, weights_of
from smp_feedback.training.same_settings import CONFIG
from smp_feedback.training.unread import PicturesModule

ANY_SIDE = 256  # px, of images that a run reads at whatever size they have
ANY_STRIDE = 32  # px, of which the sides are multiples that most models take


class Shown(NamedTuple):
    """What answers, what it is shown, and what its answers mean."""

    module: FeedbackModule
    data: PicturesModule
    facts: Facts


def of_run(made: Any, path: Path, kept: DataConfig) -> Shown:
    """The weights in *path*, of a run whose data are as *kept* says; *made* is what the verb is told."""
    data, files = pictures(made, kept)
    facts = Facts.of_config(kept, (kept.channels, *shown_size(made, files)))
    for tried in sizes_tried(facts, files, made):
        try:
            return Shown(_loaded(made, path, tried), data, tried)
        except InvalidInput as error:
            refused = error
    raise refused


def of_saved(made: Any) -> Shown:
    """The model of ``save_pretrained`` in the folder ``--run``; classes that it does not name are numbers.

    Raises:
        InvalidValue: If there are no images to show it.
    """
    if made.images is None and made.watch is None:
        raise InvalidValue(f"--run {made.run} is a saved model, without data: give --images PATH, too.")
    model: Any = from_pretrained(made.run)
    config = model.data_config
    count = len(config.classes) or max(2, int(model.config.get("classes", 2)))
    config = replace(config, classes=config.classes or tuple(map(str, range(count))))
    data, files = pictures(made, config)
    facts = Facts.of_config(config, (config.channels, *shown_size(made, files)))
    check_some_size(model, sizes_tried(facts, files, made))
    told: Any = {"classes": len(facts.classes), "ignore_index": facts.ignore_index, "task": facts.task}
    return Shown(FeedbackModule(model, **told), data, facts)


def model_of(made: Any) -> nn.Module:
    """The model of a run, or a saved one, without data: for frames of any size, which are not there yet.

    Raises:
        InvalidValue: If the run does not say what its answers mean.
    """
    if is_saved(made.run):
        return cast(nn.Module, from_pretrained(made.run))
    path = weights_of(made.run, made.weights)
    kept = kept_data(path.parent)
    if kept is None:
        raise InvalidValue(
            f"{path.parent} does not say how its images were shown ({DATA}), as runs of 0.1 do not: give the model "
            f"that it saved, --run {path.parent / MODEL}."
        )
    side = (kept.size or (ANY_SIDE, ANY_SIDE)) if made.data.size is None else height_width(made.data.size, least=1)
    return _loaded(made, path, Facts.of_config(kept, (kept.channels, *side))).model


def _loaded(made: Any, path: Path, facts: Facts) -> FeedbackModule:
    made.model.encoder_weights = made.model.init = None  # the run's own are loaded, and nothing need be downloaded
    module = build_module(facts, **vars(made.model))
    load_weights(module, path)
    return module


def look_for(module: FeedbackModule, steps: int | None, settled: int | None, *, every: bool) -> None:
    """Let *module* look *steps* times, or until *settled* answers in succession are equal, and show *every* look.

    Raises:
        InvalidValue: If its model does not loop, or cannot stop by its answer.
    """
    module.every_look = every
    if settled is not None and settled < 2:
        raise InvalidValue(
            f"--settled {settled}: expected how many equal answers in succession stop an image, 2 or more; for a "
            "number of looks give --steps."
        )
    if steps is None and settled is None:
        return
    model = module.opened
    if not isinstance(model, FeedbackModel):
        said = f"--steps {steps}" if settled is None else f"--settled {settled}"
        raise InvalidValue(f"{said}: a plain {type(model).__name__} looks once; leave it out.")
    asked = steps if settled is None else until_settled(settled, **({} if steps is None else {"at_most": steps}))
    model.eval()._told(asked)
    module.asked = asked


def check_one_look(steps: int | None, settled: int | None, *, every: bool) -> None:
    """Nothing is asked of the looks at a frame, of which there is one.

    Raises:
        InvalidValue: If something is.
    """
    for name, asked in (("--steps", steps), ("--settled", settled), ("--looks", every or None)):
        if asked is not None:
            raise InvalidValue(
                f"{name} {asked}: a film (data.clip) has one look a frame; leave it out, or give single --images."
            )


def is_saved(folder: str | None) -> bool:
    """Whether *folder* is one that ``save_pretrained`` wrote, and no run."""
    return folder is not None and (Path(folder) / SAVED).is_file() and not (Path(folder) / CONFIG).is_file()


def pictures(made: Any, config: DataConfig) -> tuple[PicturesModule, ImageFiles]:
    """The images asked for, as large as it is told, else as those that the model of *config* was trained on.

    Those that are seen in windows are as large as they are. Of a folder that is watched there are none yet.
    """
    size = made.data.size or (config.size if made.window is None else None)
    files = ImageFiles([] if made.watch is not None else Path(made.images), size, config)
    files.as_bytes = made.window is not None
    return PicturesModule(test=files, batch_size=made.data.batch_size if size else 1), files


def shown_size(made: Any, files: ImageFiles) -> Size:
    """Height and width of what the model is shown: a window, an image, or the first that can be read."""
    return first_size(files) if made.window is None else sides(made.window)


def first_size(files: ImageFiles) -> Size:
    """Height and width of the images, or of the first that can be read."""
    if files.size is not None:
        return files.size
    for path in files.paths:
        try:
            return head_of(path).size
        except InvalidInput:  # it is told when its turn comes
            continue
    return ANY_SIDE, ANY_SIDE


def made_up(facts: Facts) -> Facts:
    """*facts* of images that are made up to sides which most models take."""
    return replace(facts, image=(facts.image[0], *divisible((facts.image[1], facts.image[2]), ANY_STRIDE)))


def sizes_tried(facts: Facts, files: ImageFiles, made: Any) -> list[Facts]:
    """*facts* of images of each size that a model is tried at: one alone where it is told.

    The first image may be one that the model cannot take, as others may be: it is told when its turn comes.
    """
    if files.size is not None or made.window is not None:
        return [facts]
    return [facts, made_up(facts), replace(facts, image=(facts.image[0], ANY_SIDE, ANY_SIDE))]


def check_some_size(model: nn.Module, tried: list[Facts]) -> None:
    """*model* takes images of one of the sizes *tried*.

    Raises:
        InvalidInput: If it takes none, as the last says.
    """
    for facts in tried:
        try:
            return check_sizes(model, facts)
        except InvalidInput as error:
            refused = error
    raise refused
