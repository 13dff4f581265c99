"""What is compared with what: one frozen value, from the command line, a YAML file or Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from smp_feedback.checks import check_choice, check_number, check_whole
from smp_feedback.config.base import LoopConfig
from smp_feedback.config.parse import as_config
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.models.keywords import is_smps_own
from smp_feedback.registry.public import catalogue

MODELS = ("feedback", "plain", "one-step", "equal-compute")
CLEAN = "clean"
OWN = {"root", "size", "seed", "count", "transform"}  # of a dataset's options, what a comparison sets itself
LOOP = {"dynamics": "leaky", "tau": 1.0, "projection": "probabilities"}
SYNTHETIC = {"size": 64, "images": [4, 64], "train": ["rescaled_noise:4"], "train_steps": 200}
SMALL = "resnet18"  # of smp's encoders
FILES = {"size": [96, 128], "images": [16, 0], "train": [CLEAN], "train_steps": 150}


@dataclass(frozen=True)
class Condition:
    """A corruption and its severity, as written ``occlusion:3``; ``clean`` is none."""

    corruption: str = CLEAN
    severity: int = 0

    @classmethod
    def parse(cls, text: str) -> Condition:
        """``name:severity`` or ``clean``.

        Raises:
            InvalidValue, UnknownName: For anything else.

        >>> Condition.parse("occlusion:3")
        Condition(corruption='occlusion', severity=3)
        """
        if text == CLEAN:
            return cls()
        name, _, severity = str(text).partition(":")
        known = catalogue().corruptions.entry(name).name
        if severity not in ("1", "2", "3", "4", "5"):
            raise InvalidValue(f"{text!r}: expected 'clean' or 'name:severity' with a severity from 1 to 5.")
        return cls(known, int(severity))

    def __str__(self) -> str:
        return self.corruption if self.corruption == CLEAN else f"{self.corruption}:{self.severity}"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A comparison: every model is trained once for each seed, training condition and number of images.

    Args:
        data: A dataset by name: ``polygons``, ``camvid``, ``folder``, ``torchvision/MNIST``, ...; all of them:
            ``smp_feedback.list_datasets()``.
        root: Its folder; synthetic datasets have none.
        size: Side of the images in pixels, or height and width; None is 64 for synthetic data, 96 x 128 for files.
        data_options: The dataset's own options.
        arch: The base's architecture; ``timm/<name>`` for a classifier of timm.
        encoder: Its encoder. None is resnet18 for smp's architectures, and any other's own.
        arch_options: The architecture's own keywords.
        encoder_weights: As in smp; None is random.
        base_norm: ``group`` puts GroupNorm in the place of BatchNorm in every model, twins included; None leaves it.
        feedback: The loop: True (the architecture's usual one), its name, or its settings. The default, each look
            seeing the answer of the one before, did best in docs/comparison.md; ``Recurrent()`` is as published.
        models: Which of ``feedback``, ``plain``, ``one-step`` and ``equal-compute``.
        images: Numbers of training images; 0 is all there are. None is 4 and 64 for synthetic data, 16 and all for
            files.
        train: Training conditions: ``clean``, or a corruption and its severity such as ``rescaled_noise:4``,
            drawn anew each time an image is shown. None is ``rescaled_noise:4`` for synthetic data, whose images are
            otherwise too easy, and ``clean`` for files.
        train_steps: Optimiser steps (``equal-compute`` takes as many times more as the loop has looks). None is 200
            for synthetic data, 150 for files.
        batch_size: Images in each of those steps.
        lr: Peak learning rate of AdamW under a one-cycle schedule.
        loss: A loss by name.
        supervise: Which looks carry the loss: ``last`` (arXiv 2509.15905), ``mean`` (arXiv 2507.10143; it did best
            with the default loop), ``increasing``.
        augment: ``none``, ``flip``, ``flips`` (up and down too), ``crop_flip`` or ``colour``.
        seeds: Repetitions; each draws other weights, batches and training images.
        corruptions: What the trained models are scored under, besides the condition they were trained on; none of
            them in training.
        severities: Of each corruption, from 1 to 5.
        test_images: Held-out images to score, at most; 0 is all there are.
        split: The split they come from.

    Raises:
        InvalidValue, InvalidType, UnknownName: At birth, naming the argument.

    >>> Settings(seeds=2).twins
    ('plain', 'one-step', 'equal-compute')
    """

    data: str = "polygons"
    root: str | None = None
    size: int | list[int] = None  # type: ignore[assignment]  # None is filled in at birth
    data_options: dict[str, Any] = field(default_factory=dict)
    arch: str = "Unet"
    encoder: str | None = None
    arch_options: dict[str, Any] = field(default_factory=dict)
    encoder_weights: str | None = None
    base_norm: str | None = "group"
    feedback: bool | str | dict[str, Any] = field(default_factory=lambda: dict(LOOP))
    models: list[str] = field(default_factory=lambda: list(MODELS))
    images: list[int] = None  # type: ignore[assignment]
    train: list[str] = None  # type: ignore[assignment]
    train_steps: int = None  # type: ignore[assignment]
    batch_size: int = 4
    lr: float = 1e-3
    loss: str = "cross_entropy"
    supervise: str = "mean"
    augment: str = "flips"
    seeds: int = 3
    corruptions: list[str] = field(default_factory=lambda: ["rescaled_noise", "gaussian_blur", "occlusion"])
    severities: list[int] = field(default_factory=lambda: [1, 3, 5])
    test_images: int = 100
    split: str = "test"

    def __post_init__(self) -> None:
        for name, value in (SYNTHETIC if self.root is None else FILES).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name in ("train_steps", "batch_size", "seeds"):
            check_whole(name, getattr(self, name))
        check_number("lr", self.lr, above=0)
        check_number("test_images", self.test_images, least=0)
        check_choice("supervise", self.supervise, ("last", "mean", "increasing"))
        for name in ("models", "images", "train"):
            _check_list(name, getattr(self, name))
        for name in self.models:
            check_choice("models", name, MODELS)
        for count in self.images:
            check_number("images", count, least=0)
        if own := OWN & self.data_options.keys():
            raise InvalidValue(f"data_options={self.data_options}: {', '.join(sorted(own))} belongs to the comparison.")
        catalogue().losses.entry(self.loss)
        catalogue().datasets.entry(self.data)
        if self.encoder is None and is_smps_own(catalogue().architectures[self.arch]):
            object.__setattr__(self, "encoder", SMALL)
        self.looks, self.conditions, self.tests  # noqa: B018  (each raises)

    @property
    def config(self) -> LoopConfig:
        """The loop's config."""
        config = as_config(self.feedback, usual=catalogue().architectures.entry(self.arch).feedback)
        if config is None:
            raise InvalidValue(f"feedback={self.feedback!r}: there is nothing to compare; give True or a config.")
        return config

    @property
    def looks(self) -> int:
        """T in training."""
        steps = getattr(self.config, "steps", None)
        if not isinstance(steps, int):
            raise InvalidValue(f"feedback with steps={steps!r}: twins are trained by a number of looks; give one.")
        return steps

    @property
    def twins(self) -> tuple[str, ...]:
        """The models that feedback is compared with."""
        return tuple(name for name in MODELS[1:] if name in self.models)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What is trained on."""
        return tuple(Condition.parse(text) for text in self.train)

    @property
    def tests(self) -> tuple[Condition, ...]:
        """What every model is scored under: clean images, and each corruption at each severity."""
        for text in self.corruptions:
            _check_no_severity(str(text))
        wanted = [f"{name}:{severity}" for name in self.corruptions for severity in self.severities]
        return (Condition(), *(Condition.parse(text) for text in wanted))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def _check_no_severity(text: str) -> None:
    name, colon, severity = text.partition(":")
    known = catalogue().corruptions.entry(name).name
    if colon:
        raise InvalidValue(
            f"corruptions: {text!r}: expected its name, {known!r}, and severities=[{severity}] beside it."
        )


def _check_list(name: str, values: Sequence[object] | Mapping[str, object]) -> None:
    if isinstance(values, (str, Mapping)) or not isinstance(values, Sequence) or not values:
        raise InvalidType(f"{name}={values!r}: expected a list of at least one.")
    if len(set(values)) < len(values):
        raise InvalidValue(f"{name}={values!r}: expected each once.")
