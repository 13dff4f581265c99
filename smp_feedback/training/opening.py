"""From settings, as a command line or a YAML file has them, to data."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from smp_feedback.data.items import inherited
from smp_feedback.errors import DataWarning, FeedbackError, InvalidValue
from smp_feedback.training.data_settings import check_data_settings, check_films
from smp_feedback.training.datamodule import PairsModule
from smp_feedback.training.facts import AUTO, Facts, facts_of
from smp_feedback.training.told import told_of

SPLITS = {"fit": ("val", "train"), "validate": ("val",), "test": ("test",), "predict": ("test",)}


def open_pairs(
    verb: str,
    seed: int,
    *,
    name: str = "polygons",
    root: str | None = None,
    size: int | list[int] | None = None,
    batch_size: int = 8,
    workers: int = 0,
    train_count: int | None = None,
    augment: str = "none",
    crop: int | None = None,
    corruption: str | None = None,
    severity: int = 3,
    normalise: str = AUTO,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    shared: str = "warn",
    clip: int | None = None,
    clip_stride: int = 1,
    bands: list[int] | None = None,
    channels: int | None = None,
    scale: str | list[Any] | None = None,
    values: dict[Any, Any] | str | None = None,
    colours: dict[str, str | list[str | int | list[int]]] | str | None = None,
    offset: int | None = None,
    empty_masks: bool | None = None,
    val_share: float | None = None,
    test_share: float | None = None,
    split_file: str | None = None,
    folds: int | None = None,
    fold: int | None = None,
    group: str | None = None,
    options: dict[str, Any] | None = None,
) -> tuple[PairsModule, Facts]:
    """The data of one verb.

    Args:
        verb: ``fit`` opens train and val, ``validate`` val, ``test`` and ``predict`` test.
        seed: Seeds synthetic images, order, augmentation and noise.
        name: A dataset's name.
        root: Its folder.
        size: Side, or [H, W], in pixels (of mazes in cells).
        batch_size: Images, or clips, per step and process.
        workers: Processes that load data.
        train_count: Train on so many images, drawn by the seed, fewer among more; None is all.
        augment: none, flip, flips (up and down too), crop_flip, colour or a plugin's.
        crop: Train on random windows of so many pixels a side, of the augmented images; null is whole images.
        corruption: Corrupts every split: training images anew in each epoch, the others always alike.
        severity: Of the corruption, 1 to 5.
        normalise: ``auto`` shows images to a pretrained encoder as it was pretrained, and to others as they are, in
            [0, 1]; ``none`` to all as they are.
        mean: Taken off each channel of an image in [0, 1], in place of the encoder's own.
        std: Of each channel, by which it is then divided; given together with *mean*.
        shared: Of images that two splits have in common: ``warn``, ``refuse`` or ``allow``.
        clip: Train on clips of so many frames of a dataset with films, and score whole films, one look a frame; null is
            images.
        clip_stride: Frames from the start of a clip to that of the next.
        bands: Of each file, the bands that are read, counted from 1; null is all.
        channels: Of an image, such as 1 for grey ones; null is as its file has them, one band as three.
        scale: What of a file's values becomes 0 and 1: [low, high], one such pair a band, or ``percentile``; null is
            the whole range of 8 or 16 bits.
        values: Which label, class or ``ignore`` each value of a mask means, such as ``{255: 1}``.
        colours: The colour of each class: a table, such as ``{road: [128, 64, 128]}``, or the file of one.
        offset: Added to each value of a mask; -1 where labels begin at 1.
        empty_masks: Of one file a class, whether one that is missing says that nothing of the class is there.
        val_share: Share of the training images that is held out as val, in (0, 1).
        test_share: The same as test.
        split_file: A file that says which image is in which split.
        folds: Of cross-validation.
        fold: That of them which is val, from 0.
        group: A pattern of file names; images for which it finds the same stay in one split.
        options: What else this dataset takes.

    Returns:
        The batches, and what the model must know of them.

    Raises:
        UnknownKeyword: If the dataset does not take what is told.
    """
    from smp_feedback.data import Corrupted
    from smp_feedback.data.augment import cropped
    from smp_feedback.data.strangers import as_handed

    how: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "train_count": train_count, "augment": augment}
    how |= {"crop": crop, "corruption": corruption, "severity": severity, "shared": shared}
    clips: dict[str, Any] = {"clip": clip, "clip_stride": clip_stride}
    check_data_settings(**how, **clips, normalise=normalise, mean=mean, std=std)
    settings: dict[str, Any] = {"root": root, "size": size, "bands": bands, "channels": channels, "scale": scale}
    settings |= {"values": values, "colours": colours, "offset": offset, "empty_masks": empty_masks}
    settings |= {"val_share": val_share, "test_share": test_share, "split_file": split_file}
    settings |= {"folds": folds, "fold": fold, "group": group, "options": options}
    told = told_of(settings, seed, verb)
    opened = _opened(verb, name, told, as_handed(name, cropped(augment, crop)), train_count)
    _check_opened(name, opened, told, clip, shared)
    first = next(iter(opened.values()))
    facts = replace(facts_of(first, **_reads(first, told), mean=mean, std=std), normalise=normalise)
    if augment == "colour" and "train" in opened:
        _check_coloured(facts.image[0])
    if crop is not None and "train" in opened:
        facts = facts.cropped(crop)
    if corruption is not None:
        worse = corruption, severity
        opened = {split: Corrupted(pairs, *worse, fresh=split == "train") for split, pairs in opened.items()}
    return PairsModule(**opened, batch_size=batch_size, workers=workers, seed=seed, **clips), facts


def _opened(verb: str, name: str, told: dict[str, Any], transform: Any, train_count: int | None) -> dict[str, Any]:
    """The splits of *verb*, as *told*; what is trained on is augmented by *transform*, and may be few of all."""
    from smp_feedback.data import open_dataset
    from smp_feedback.data.strangers import check_of_stranger

    opened: dict[str, Any] = {}
    for split in SPLITS[verb]:
        trains = split == "train"
        few = told | {"transform": transform}
        opened[split] = _few(name, few, train_count) if trains else open_dataset(name, split, **told)
    for split, pairs in opened.items():
        check_of_stranger(name, pairs, transform if split == "train" else None)
    return opened


def _check_opened(name: str, opened: Mapping[str, Any], told: Mapping[str, Any], clip: int | None, shared: str) -> None:
    """What is *opened* agrees with itself, has films where clips are asked for, and shares no images."""
    from smp_feedback.data.folders.sharing import check_shared
    from smp_feedback.data.inspection.agreement import check_agreement

    check_agreement(opened)
    for split, pairs in opened.items() if clip is not None else ():
        check_films(pairs, split, cast(int, clip), training=split == "train")
    later = _of_files("test", told, lambda: _named(name, "test", told)) if "train" in opened else {}
    check_shared(opened, shared, unused=later)


def has_split(split: str, settings: Mapping[str, Any], seed: int) -> bool:
    """Whether there is such a *split* of the data that are told *settings*: always, of data that are drawn."""
    told = told_of(settings, seed)
    return told.get("root") is None or bool(_of_files(split, told, lambda: _named(settings["name"], split, told)))


def _named(name: str, split: str, told: Mapping[str, Any]) -> Any:
    from smp_feedback.data import open_dataset

    return open_dataset(name, split, **told)


def learnt_from(settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The training split of a run whose data were told *settings*, by its name, if there is still one of files."""
    told = told_of(settings, seed)
    return _of_files(
        "train", told, lambda: _few(settings["name"], told, settings.get("train_count", settings.get("images")))
    )


def _of_files(split: str, told: Mapping[str, Any], opened: Callable[[], Any]) -> dict[str, Any]:
    """A *split* that is only compared with others, by its name, if there is one of files.

    What its folders leave out is said by who trains on it or scores it.
    """
    if told.get("root") is None:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        try:
            return {split: opened()}
        except FeedbackError:  # there is none, or no longer
            return {}


def _few(name: str, told: dict[str, Any], train_count: int | None) -> Any:
    """The training split, and of it so many images."""
    from smp_feedback.data import open_dataset

    if train_count is None:
        return open_dataset(name, "train", **told)
    try:
        return open_dataset(name, "train", **told, count=train_count)
    except InvalidValue as error:
        raise InvalidValue(str(error).replace("count=", "data.train_count=", 1)) from None


def _reads(dataset: Any, told: Mapping[str, Any]) -> dict[str, Any]:
    """How *dataset* reads its files, whoever says so; of one that has no reader of ours, as it was *told*.

    And what its masks hold for each class, where that is not the label.
    """
    from smp_feedback.data.images.reader import ImageReader

    reader, masks = inherited(dataset, "images"), {"mask_values": inherited(dataset, "mask_values")}
    if isinstance(reader, ImageReader):
        return {"bands": reader.bands, "scale": reader.scale, **masks}
    return {**masks, **{name: told.get(name) for name in ("bands", "scale")}}


def _check_coloured(channels: int) -> None:
    if channels not in (1, 3):
        raise InvalidValue(
            f"data.augment=colour: images have {channels} channels, and saturation is one of red, green and blue; "
            "flip, flips and crop_flip take any."
        )
