"""What a model expects of its images, and what its answers mean: saved with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from smp_feedback.checks import check_choice, check_fields, check_number, check_whole
from smp_feedback.config.clicks import ClickConfig
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue

if TYPE_CHECKING:
    from torch import Tensor

TASKS = ("segmentation", "multilabel", "classification")
MaskValues = tuple[int | str | None, ...]
"""Of each class what a mask holds: a whole number, or ``"#rrggbb"`` or ``"transparent"``; None where it has none."""
SELDOM = ("mask_values",)  # said of models that have some


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What a model was trained on.

    Attributes:
        mean: What is taken off each channel of an image in [0, 1], itself in [0, 1]; None leaves images as they are.
        std: What is then divided by, in (0, 1].
        size: (H, W) of the images it was trained on, in pixels; None where they differ.
        bands: Of each file, those that are read, counted from 1; None is all.
        channels: Channels of an image.
        scale: How a file's values become [0, 1]: a (low, high) of each band, or ``percentile``; None is by its dtype.
        classes: Names of labels 0, 1, ...
        ignore_index: The label that counts for nothing; None if there is none.
        task: ``segmentation``, ``multilabel`` or ``classification``.
        mask_values: What the masks held for each class, or for absent and present where a pixel may have several; None
            is the label itself.
        clicks: What it is shown of clicks beside the image; None if it does not listen to any.

    Raises:
        InvalidType, InvalidValue: At birth, naming the field.

    >>> config = DataConfig(mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25], size=[48, 64])
    >>> config.mean, config.size, DataConfig.from_dict(config.to_dict()) == config
    ((0.5, 0.5, 0.5), (48, 64), True)
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None
    bands: tuple[int, ...] | None = None
    channels: int = 3
    scale: tuple[tuple[float, float], ...] | str | None = None
    classes: tuple[str, ...] = ()
    ignore_index: int | None = None
    task: str = "segmentation"
    mask_values: MaskValues | None = None
    clicks: ClickConfig | None = None

    def __post_init__(self) -> None:
        check_whole("channels", self.channels)
        self._settle("mean", _numbers("mean", self.mean, self.channels))
        self._settle("std", _numbers("std", self.std, self.channels, above=0))
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and (max(values) > 1 or min(values) < 0):
                raise InvalidValue(
                    f"{name}={list(values)}: expected numbers in [0, 1], as images are; divide by 255 what is said of "
                    "images in [0, 255]."
                )
        if (self.mean is None) != (self.std is None):
            raise InvalidValue(f"mean={self.mean}, std={self.std}: expected both, or neither.")
        self._settle("size", _whole_numbers("size", self.size))
        if self.size is not None and len(self.size) != 2:
            raise InvalidType(f"size={self.size!r}: expected a pair (H, W) in pixels, or None.")
        self._settle("bands", _whole_numbers("bands", self.bands))
        self._settle("scale", _ranges(self.scale))
        self._settle("classes", _names(self.classes))
        if isinstance(self.ignore_index, bool) or not isinstance(self.ignore_index, int | None):
            raise InvalidType(f"ignore_index={self.ignore_index!r}: expected a label (an int) or None.")
        check_choice("task", self.task, TASKS)
        self._settle("mask_values", _mask_values(self.mask_values))
        if isinstance(self.clicks, Mapping):
            self._settle("clicks", ClickConfig.from_dict(self.clicks))
        if not isinstance(self.clicks, ClickConfig | None):
            raise InvalidType(f"clicks={self.clicks!r}: expected a ClickConfig or None.")

    def _settle(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: every field; ``mask_values`` and ``clicks`` of a model that has some."""
        told = {name: getattr(self, name) for field in fields(self) if (name := field.name) != "clicks"}
        said = {name: _plain(value) for name, value in told.items() if name not in SELDOM or value is not None}
        return said if self.clicks is None else {**said, "clicks": self.clicks.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DataConfig:
        """The inverse of :meth:`to_dict`.

        Raises:
            InvalidType: If *values* is no mapping.
            UnknownKeyword: For a key that is no field.
        """
        check_fields(cls, values)
        return cls(**values)

    def normalise(self, images: Tensor) -> Tensor:
        """``(images - mean) / std``, channel by channel; as they are where there is no mean.

        It runs on the images' device, and nothing is copied to it.

        Args:
            images: (..., C, H, W), floating point, in [0, 1].

        Raises:
            InvalidInput: If they have other channels than *mean*.

        >>> import torch
        >>> config = DataConfig(mean=(0.5,), std=(0.25,), channels=1)
        >>> config.normalise(torch.ones(1, 1, 1, 2)), config.undo(config.normalise(torch.ones(1)[:, None, None])).item()
        (tensor([[[[2., 2.]]]]), 1.0)
        """
        if self.mean is None or self.std is None:
            return images
        self._check_channels(images)
        return (images - _per_channel(self.mean, images)) / _per_channel(self.std, images)

    def undo(self, images: Tensor) -> Tensor:
        """The inverse of :meth:`normalise`: ``images * std + mean``."""
        if self.mean is None or self.std is None:
            return images
        self._check_channels(images)
        return images * _per_channel(self.std, images) + _per_channel(self.mean, images)

    def with_channels(self, channels: int) -> DataConfig:
        """The same for images of *channels* channels, mean and std as `repeated` has them."""
        if channels == self.channels or self.mean is None or self.std is None:
            return replace(self, channels=channels)
        mean, std = (repeated(values, channels) for values in (self.mean, self.std))
        return replace(self, channels=channels, mean=mean, std=std)

    @property
    def beside(self) -> int:
        """How many channels a model reads beside those of its images.

        >>> DataConfig().beside, DataConfig(clicks=ClickConfig(mask=True)).beside
        (0, 3)
        """
        return 0 if self.clicks is None else self.clicks.channels

    @property
    def normalisation(self) -> str:
        """In words, for a card or a line of a run.

        >>> DataConfig().normalisation, DataConfig(mean=(0.485,), std=(0.229,), channels=1).normalisation
        ('images as they are, in [0, 1]', 'images in [0, 1], less mean [0.485], over std [0.229]')
        """
        if self.mean is None or self.std is None:
            return "images as they are, in [0, 1]"
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        return f"images in [0, 1], less mean [{mean}], over std [{std}]"

    def _check_channels(self, images: Tensor) -> None:
        if images.ndim < 3 or images.shape[-3] != self.channels:
            raise InvalidInput(
                f"images of shape {tuple(images.shape)}: expected {self.channels} channels, as the model's data_config "
                f"has ({self.normalisation})."
            )


def repeated(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """The mean or std of each of *channels* channels, as smp gives them the weights of an encoder trained on three.

    Channel i has the weights of channel i % 3, so it has its mean, too; a single channel, whose weights are the sum of
    all, the mean of all.

    >>> repeated((0.25, 0.5, 0.75), 5), repeated((0.25, 0.5, 0.75), 1)
    ((0.25, 0.5, 0.75, 0.25, 0.5), (0.5,))
    """
    if channels == 1:
        return (math.fsum(values) / len(values),)
    return tuple(values[i % len(values)] for i in range(channels))


def _per_channel(values: tuple[float, ...], images: Tensor) -> Tensor:
    """(C, 1, 1) on the images' device, filled there: a copy from the host would wait for it."""
    made = images.new_empty(len(values), 1, 1)
    for place, value in zip(made, values, strict=True):
        place.fill_(value)
    return made


def _numbers(name: str, values: Any, channels: int, above: float | None = None) -> tuple[float, ...] | None:
    if values is None:
        return None
    listed = _listed(name, values, "numbers")
    if len(listed) != channels:
        raise InvalidValue(f"{name}={list(listed)}: expected one number a channel, {channels} of them.")
    for value in listed:
        check_number(name, value, above=above, least=None if above is not None else -math.inf)
    return tuple(float(value) for value in listed)


def _whole_numbers(name: str, values: Any) -> Any:
    if values is None:
        return None
    return tuple(check_whole(name, value) for value in _listed(name, values, "whole numbers >= 1"))


def _ranges(scale: Any) -> Any:
    """Pairs (low, high); one pair alone is that of every band."""
    if scale is None:
        return None
    if isinstance(scale, str):
        if scale.partition(":")[0] != "percentile":
            raise InvalidValue(f"scale={scale!r}: expected 'percentile', [low, high], or one such pair a band.")
        return scale
    listed = _listed("scale", scale, "pairs (low, high)")
    pairs = [listed] if not isinstance(listed[0], Sequence) else listed
    for pair in pairs:
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise InvalidType(f"scale={scale!r}: expected [low, high], one such pair a band, or 'percentile'.")
        for value in pair:
            check_number("scale", value, least=-math.inf)
        if not pair[0] < pair[1]:
            raise InvalidValue(f"scale={scale!r}: expected low < high.")
    return tuple((float(low), float(high)) for low, high in pairs)


def _names(classes: Any) -> tuple[str, ...]:
    names = tuple(classes) if isinstance(classes, Sequence) and not isinstance(classes, str) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise InvalidType(f"classes={classes!r}: expected the names of labels 0, 1, ...")
    return names


def _mask_values(given: Any) -> MaskValues | None:
    """Values or colours, of a list that is as long as there are classes, or of two states."""
    if given is None:
        return None
    listed = _listed("mask_values", given, "what masks hold for each class, values or colours")
    if {type(value) for value in listed if value is not None} not in ({int}, {str}):
        raise InvalidType(f'mask_values={given!r}: expected whole numbers, or colours ("#rrggbb"), a class each.')
    return tuple(listed)


def _listed(name: str, values: Any, what: str) -> Sequence[Any]:
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise InvalidType(f"{name}={values!r}: expected a list of {what}, or None.")
    return values


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
