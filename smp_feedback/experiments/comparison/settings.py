"""What is compared with what: one frozen value, from the command line, a YAML file or Python."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from smp_feedback.checks import check_bool, check_choice, check_number, check_whole
from smp_feedback.config.base import LoopConfig
from smp_feedback.config.parse import as_config
from smp_feedback.data.items import height_width
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.experiments.base_settings import ExperimentSettings, check_list
from smp_feedback.experiments.comparison.results import FEEDBACK, MODELS, SOLVED, USUAL
from smp_feedback.experiments.comparison.trained import check_training, unrolling_of
from smp_feedback.registry.public import catalogue

if TYPE_CHECKING:
    from smp_feedback.training.unrolling import Unrolling

CLEAN = "clean"
CORRUPTIONS = ["rescaled_noise", "gaussian_blur", "occlusion"]
LOOP = {"dynamics": "leaky", "tau": 1.0, "projection": "probabilities"}
SYNTHETIC = {"size": 64, "train_count": [4, 64], "train": ["rescaled_noise:4"], "train_steps": 200}
FILES = {"size": [96, 128], "train_count": [16, 0], "train": [CLEAN], "train_steps": 150}


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
class ComparisonSettings(ExperimentSettings):
    """A comparison: every model is trained once for each seed, training condition and number of images.

    Args:
        feedback: The loop: True (the architecture's usual one), its name, or its settings. The default, each look
            seeing the answer of the one before, did best in docs/comparison.md; ``Recurrent()`` is as published.
        init: Weights that every model begins with, in place of those that the seed draws: a plain model's, as a file, a
            directory or a hub repository; what a loop adds begins as it is made. None is the seed's.
        models: Which of ``feedback``, ``plain``, ``one-step``, ``equal-compute``, ``equal-inference`` (a deeper model
            of as many multiply-adds as ``inference_looks`` looks, of as much training) and ``equal-inference-3x`` (of
            three times as much).
        train_count: Numbers of training images; 0 is all there are. None is 4 and 64 for synthetic data, 16 and all for
            files.
        train: Training conditions: ``clean``, or a corruption and its severity such as ``rescaled_noise:4``,
            drawn anew each time an image is shown. None is ``rescaled_noise:4`` for synthetic data, whose images are
            otherwise too easy, and ``clean`` for files.
        train_steps: Optimiser steps of the loop and of ``plain``; ``equal-compute`` and ``equal-inference`` take as
            many as have the loop's compute: its forward passes at ``input``, its multiply-adds where looks share a part
            of the base. None is 200 for synthetic data, 150 for files.
        lr: Peak learning rate of AdamW under a one-cycle schedule.
        loss: A loss by name.
        supervise: Which looks carry the loss: ``last`` (arXiv 2509.15905), ``mean`` (arXiv 2507.10143; it did best
            with the default loop), ``increasing``, ``drawn``.
        training: What else of `FeedbackModule` training is told, such as ``{steps: [8, 16], free_steps: [0, 8],
            ema: 0.99}``; what only a loop has is left out for the others.
        clip: Largest norm of the gradient; None leaves it.
        corruptions: What the trained models are scored under, besides the condition they were trained on; none of
            them in training. None is noise, blur and occlusion; with *sizes*, none.
        severities: Of each corruption, from 1 to 5.
        sizes: Sizes of test images, such as ``[5, 9, 13, 21]``, at each of which every model is scored, on what it was
            trained on; of files, what they are resized to. None is the size of the training images.
        looks: Numbers of looks after which the loop is scored on what it was trained on. None is 1 to twice those of
            its training, or, with *sizes*, those of its training.
        inference_looks: Looks whose multiply-adds ``equal-inference`` has; None is the most of the loop's training,
            those without gradient left out.
        score: What counts with *sizes*: ``solved``, the share of images with every pixel right, or ``miou``. None is
            ``solved`` for synthetic data.

        topology: Whether connectivity is measured, too: clDice, Betti errors and breaks, after every look that is
            scored (extra ``topology``); None is no.

    >>> ComparisonSettings(seeds=2).twins
    ('plain', 'one-step', 'equal-compute')
    >>> ComparisonSettings(training={"steps": [8, 16]}).trained_looks
    16
    """

    kind = "comparison"

    feedback: bool | str | dict[str, Any] = field(default_factory=lambda: dict(LOOP))
    init: str | None = None
    models: list[str] = field(default_factory=lambda: [FEEDBACK, *USUAL])
    train_count: list[int] = None  # type: ignore[assignment]
    train: list[str] = None  # type: ignore[assignment]
    train_steps: int = None  # type: ignore[assignment]
    loss: str = "cross_entropy"
    supervise: str = "mean"
    training: dict[str, Any] | None = None
    clip: float | None = None
    corruptions: list[str] = None  # type: ignore[assignment]
    severities: list[int] = field(default_factory=lambda: [1, 3, 5])
    sizes: list[int | list[int]] | None = None
    looks: list[int] | None = None
    inference_looks: int | None = None
    score: str | None = None
    topology: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("supervise", self.supervise, ("last", "mean", "increasing", "drawn"))
        check_list("models", self.models, MODELS)
        check_list("train_count", self.train_count)
        check_list("train", self.train)
        for count in self.train_count:
            check_number("train_count", count, least=0)
        catalogue().losses.entry(self.loss)
        if self.topology is not None:
            check_bool("topology", self.topology)
        if self.clip is not None:
            check_number("clip", self.clip, above=0)
        check_training(self.training or {})
        self._check_sizes()
        check_whole("inference_looks", self.twin_looks)
        deeper = [name for name in self.models if name.startswith("equal-inference")]
        if deeper:  # else the settings are those of a comparison before there were such models, which goes on
            self._fill("inference_looks", self.trained_looks)
        if self.init is not None and deeper:
            raise InvalidValue(f"init={self.init!r}: {deeper[0]} has other layers; leave one of the two out.")
        self.config, self.conditions, self.tests  # noqa: B018  (each raises)

    @property
    def usual(self) -> dict[str, Any]:
        """What takes the place of None."""
        at_sizes = {"corruptions": [], "score": SOLVED if self.root is None else "miou"}
        more = at_sizes if self.sizes is not None else {"corruptions": CORRUPTIONS}
        return {**(SYNTHETIC if self.root is None else FILES), **more}

    @property
    def config(self) -> LoopConfig:
        """The loop's config, with as many steps as it is trained with."""
        return cast(LoopConfig, replace(cast(Any, self._asked), steps=self.trained_looks))

    @property
    def trained_looks(self) -> int:
        """T in training; where it is drawn, the most."""
        return self.unrolling.span[1]

    @property
    def twin_looks(self) -> int:
        """Looks whose multiply-adds ``equal-inference`` has."""
        return self.trained_looks if self.inference_looks is None else self.inference_looks

    @property
    def unrolling(self) -> Unrolling:
        """How the loop is unrolled in training."""
        return unrolling_of(self._asked, self.supervise, self.training or {})

    @property
    def _asked(self) -> LoopConfig:
        config = as_config(self.feedback, usual=catalogue().architectures.entry(self.arch).feedback)
        if config is None:
            raise InvalidValue(f"feedback={self.feedback!r}: there is nothing to compare; give True or a config.")
        return config

    @property
    def twins(self) -> tuple[str, ...]:
        """The models that feedback is compared with."""
        return tuple(name for name in MODELS if name != FEEDBACK and name in self.models)

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

    def _check_sizes(self) -> None:
        if self.looks is not None:
            check_list("looks", self.looks)
            for look in self.looks:
                check_whole("looks", look)
        if self.sizes is None:
            if self.score is not None:
                raise InvalidValue(f"score={self.score!r} without sizes: expected None, the metric of the task.")
            return
        check_choice("score", self.score, (SOLVED, "miou"))
        if isinstance(self.sizes, (str, int)):
            raise InvalidType(f"sizes={self.sizes!r}: expected a list, such as [5, 9, [9, 21]].")
        check_list("sizes", [height_width(size, least=1, name="sizes") for size in self.sizes])
        if self.corruptions:
            raise InvalidValue(
                f"corruptions={self.corruptions} with sizes={self.sizes}: at several sizes models are scored on what "
                "they were trained on; leave one of the two out."
            )


def _check_no_severity(text: str) -> None:
    name, colon, severity = text.partition(":")
    known = catalogue().corruptions.entry(name).name
    if colon:
        raise InvalidValue(
            f"corruptions: {text!r}: expected its name, {known!r}, and severities=[{severity}] beside it."
        )
