"""From settings, as a command line or a YAML file has them, to a module and its data."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import nn

from smp_feedback.config.data import DataConfig
from smp_feedback.config.parse import Feedback, as_config
from smp_feedback.config.restoration import Restoration
from smp_feedback.config.score import Score
from smp_feedback.data.items import inherited
from smp_feedback.errors import DataWarning, FeedbackError, InvalidInput
from smp_feedback.factory import create
from smp_feedback.models.preprocessing import given_config
from smp_feedback.registry.public import catalogue
from smp_feedback.surgery.extension import evaluating
from smp_feedback.training.build_loss import USUAL, build_loss
from smp_feedback.training.data_settings import AUTO, check_data_settings
from smp_feedback.training.datamodule import PairsModule
from smp_feedback.training.init_weights import begin
from smp_feedback.training.metric import task_of
from smp_feedback.training.module import FeedbackModule

SPLITS = {"fit": ("val", "train"), "validate": ("val",), "test": ("test",), "predict": ("test",)}


@dataclass(frozen=True)
class Facts:
    """What a model must know of its data."""

    classes: tuple[str, ...]
    ignore_index: int | None
    task: str
    image: tuple[int, ...]
    crop: tuple[int, ...] | None = None  # an image as training shows it, where that is another
    reads: DataConfig = field(
        default_factory=DataConfig
    )  # how images are read, and how they are normalised if somebody said so
    normalise: str = AUTO  # whether else as the encoder was pretrained

    def cropped(self, side: int) -> Facts:
        """The same, where training shows windows of *side* pixels."""
        return replace(self, crop=(self.image[0], *(min(side, whole) for whole in self.image[1:])))

    def config(self, own: DataConfig) -> DataConfig:
        """What a model expects of such images that, by itself, is *own*.

        >>> Facts(("sky", "car"), None, "segmentation", (3, 6, 8), normalise="none").config(DataConfig()).classes
        ('sky', 'car')
        """
        said = self.reads if self.reads.mean is not None else own if self.normalise == AUTO else DataConfig()
        about = {"classes": self.classes, "ignore_index": self.ignore_index, "task": self.task}
        how = {name: getattr(self.reads, name) for name in ("size", "bands", "scale")}
        return DataConfig(mean=said.mean, std=said.std, channels=self.image[0], **about, **how)  # type: ignore[arg-type]

    @classmethod
    def of_config(cls, config: DataConfig, image: tuple[int, ...]) -> Facts:
        """What *config* says of the data that its model was trained on, for an *image* (C, H, W) to come."""
        return cls(config.classes, config.ignore_index, config.task, image, reads=config, normalise="none")


def open_pairs(
    verb: str,
    seed: int,
    *,
    name: str = "polygons",
    root: str | None = None,
    size: int | list[int] | None = None,
    batch_size: int = 8,
    workers: int = 0,
    images: int | None = None,
    augment: str = "none",
    crop: int | None = None,
    corruption: str | None = None,
    severity: int = 3,
    normalise: str = AUTO,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    shared: str = "warn",
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
        size: Side, or [H, W], in pixels.
        batch_size: Images per step and process.
        workers: Processes that load data.
        images: Train on so many images, drawn by the seed, fewer among more; None is all.
        augment: none, flip, flips (up and down too), crop_flip or colour.
        crop: Train on random windows of so many pixels a side, of the augmented images; null is whole images.
        corruption: Corrupts every split: training images anew in each epoch, the others always alike.
        severity: Of the corruption, 1 to 5.
        normalise: ``auto`` shows images to a pretrained encoder as it was pretrained, and to others as they are, in
            [0, 1]; ``none`` to all as they are.
        mean: Taken off each channel of an image in [0, 1], in place of the encoder's own.
        std: Of each channel, by which it is then divided; given together with *mean*.
        shared: Of images that two splits have in common: ``warn``, ``refuse`` or ``allow``.
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
    from smp_feedback.data import Corrupted, open_dataset
    from smp_feedback.data.augment import cropped
    from smp_feedback.data.folders.sharing import check_shared
    from smp_feedback.data.inspection.agreement import check_agreement

    how: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "images": images, "augment": augment}
    how |= {"crop": crop, "corruption": corruption, "severity": severity, "shared": shared}
    check_data_settings(**how, normalise=normalise, mean=mean, std=std)
    told: dict[str, Any] = {
        "root": root,
        "size": size,
        "seed": seed,
        "bands": bands,
        "channels": channels,
        "scale": scale,
    }
    told |= {"values": values, "colours": colours, "offset": offset, "empty_masks": empty_masks}
    told |= {"val_share": val_share, "test_share": test_share, "split_file": split_file}
    told |= {"folds": folds, "fold": fold, "group": group, **(options or {})}
    told = {key: value for key, value in told.items() if value is not None}
    opened: dict[str, Any] = {}
    for split in SPLITS[verb]:
        own = dict(told)
        if split == "train":
            own["transform"] = cropped(augment, crop)
            own |= {} if images is None else {"count": images}
        opened[split] = open_dataset(name, split, **own)
    check_agreement(opened)
    check_shared(opened, shared, unused=_test_files(name, told) if "train" in opened else {})
    reads: dict[str, Any] = {"bands": bands, "scale": scale, "mean": mean, "std": std}
    facts = replace(facts_of(next(iter(opened.values())), **reads), normalise=normalise)
    if crop is not None and "train" in opened:
        facts = facts.cropped(crop)
    if corruption is not None:
        worse = corruption, severity
        opened = {split: Corrupted(pairs, *worse, fresh=split == "train") for split, pairs in opened.items()}
    return PairsModule(**opened, batch_size=batch_size, workers=workers, seed=seed), facts


def _test_files(name: str, told: dict[str, Any]) -> dict[str, Any]:
    """The test split, if there is one of files: nothing in it is to be learnt, though fit itself does not open it."""
    from smp_feedback.data import open_dataset

    if told.get("root") is None:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # who scores it is told
        try:
            return {"test": open_dataset(name, "test", **told)}
        except FeedbackError:  # there is none, and fit wants none
            return {}


def facts_of(pairs: Any, **told: Any) -> Facts:
    """What a model must know of *pairs*, by its first item, and by what is *told* of how it is read and normalised.

    Raises:
        InvalidType, InvalidValue: If mean or std are not one number a channel.
    """
    image, target = pairs[0][:2]
    size = inherited(pairs, "size")
    reads = DataConfig(size=size if isinstance(size, tuple) else None, channels=len(image), **told)
    task = str(inherited(pairs, "task") or task_of(target[None]))  # one class of multilabel looks like a mask
    return Facts(tuple(pairs.classes), pairs.ignore_index, task, tuple(image.shape), reads=reads)


def build_module(
    facts: Facts,
    *,
    arch: str = "Unet",
    encoder: str | None = None,
    encoder_weights: str | None = AUTO,
    feedback: bool | str | dict[str, Any] = True,
    base_norm: str | None = None,
    arguments: dict[str, Any] | None = None,
    init: str | None = None,
    **training: Any,
) -> FeedbackModule:
    """A model and how it is trained.

    Args:
        facts: What to know of the data.
        arch: A name from ``list_architectures``, such as ``timm/<name>`` for a classifier of timm.
        encoder: A name from ``list_encoders``; null is the architecture's own (smp's: resnet34), if it has one.
        encoder_weights: ``auto`` is the architecture's own usage: smp's models download ``imagenet``, those of timm
            and torchvision begin at random; null is random.
        feedback: true (the architecture's usual loop), false, a loop's name, or its config such as
            ``{steps: 4, tau: 2.0}``.
        base_norm: ``group`` puts GroupNorm in the place of BatchNorm; null leaves the base as it is.
        arguments: What else the architecture takes, such as ``{encoder_depth: 4}``.
        init: Weights to begin with: a plain model's for the base, or a looping model's for all of it; a file (``.pth``,
            ``.ckpt``, ``.safetensors``), a directory of save_pretrained or a hub repository. No others are downloaded.
        **training: See :class:`FeedbackModule`.
    """
    if isinstance(loss := training.get("loss", USUAL), str):  # a base may take long to build
        about: dict[str, Any] = {"classes": len(facts.classes), "task": facts.task}
        build_loss(loss, facts.ignore_index, training.get("loss_arguments"), **about)
    if init is not None and encoder_weights == AUTO:
        encoder_weights = None
    base: dict[str, Any] = {"encoder_weights": encoder_weights, "base_norm": base_norm, "arguments": arguments}
    model = build_model(facts, feedback, arch=arch, encoder=encoder, **base)
    if init is not None:
        begin(model, init)
        cast(Any, model).data_config = facts.config(given_config(model).config)
    return FeedbackModule(
        model, classes=len(facts.classes), ignore_index=facts.ignore_index, task=facts.task, **training
    )


def build_model(
    facts: Facts,
    feedback: Feedback,
    *,
    arch: str,
    encoder: str | None,
    encoder_weights: str | None,
    base_norm: str | None,
    arguments: dict[str, Any] | None,
    around: Score | Restoration | None = None,
) -> nn.Module:
    """The model alone; as in :func:`build_module`, and *feedback* may be a config, *around* a loop around it all."""
    if around is not None:
        own = as_config(cast(Any, feedback), usual=catalogue().architectures.entry(arch).feedback)
        feedback = replace(around, base=own)
    told = shape_told(arch, facts.image[0], len(facts.classes)) | {"base_norm": base_norm, **(arguments or {})}
    told |= {} if encoder is None else {"encoder_name": encoder}
    told |= {} if encoder_weights == AUTO else {"encoder_weights": encoder_weights}
    model: nn.Module = create(arch, feedback=cast(Any, feedback), **told)
    cast(Any, model).data_config = facts.config(given_config(model).config)
    check_sizes(model, facts)
    return model


def shape_told(arch: str, in_channels: int, classes: int) -> dict[str, Any]:
    """What *arch* is told of the data; an architecture whose channels are fixed is not told theirs.

    >>> shape_told("Unet", in_channels=3, classes=5)
    {'classes': 5, 'in_channels': 3}
    """
    parameters = inspect.signature(catalogue().architectures[arch]).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return {"classes": classes} | ({"in_channels": in_channels} if takes_all or "in_channels" in parameters else {})


def check_sizes(model: nn.Module, facts: Facts) -> None:
    """Images of these sizes are ones that *model* takes.

    Raises:
        InvalidInput: With the size to pad to, or in the model's own words.
    """
    _check_size(model, facts.image, "data.size")
    if facts.crop is not None:
        _check_size(model, facts.crop, "data.crop")


def _check_size(model: nn.Module, image: tuple[int, ...], setting: str) -> None:
    check: Any = getattr(model, "check_input_shape", None)
    if check is not None and not getattr(model, "requires_divisible_input_shape", True):
        return
    try:
        with evaluating(model):
            model(torch.zeros(1, *image)) if check is None else check(torch.empty(1, *image, device="meta"))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InvalidInput(f"{error} Or set {setting}.") from None
