"""What is compared with what: one frozen value, from the command line, a YAML file or Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from smp_feedback.checks import check_choice, check_number
from smp_feedback.config.base import LoopConfig
from smp_feedback.config.parse import as_config
from smp_feedback.errors import InvalidValue
from smp_feedback.experiments.base_settings import ExperimentSettings, check_list
from smp_feedback.experiments.comparison.results import FEEDBACK, MODELS, USUAL
from smp_feedback.registry.public import catalogue

CLEAN = "clean"
LOOP = {"dynamics": "leaky", "tau": 1.0, "projection": "probabilities"}
SYNTHETIC = {"size": 64, "images": [4, 64], "train": ["rescaled_noise:4"], "train_steps": 200}
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
class ComparisonSettings(ExperimentSettings):
    """A comparison: every model is trained once for each seed, training condition and number of images.

    Args:
        feedback: The loop: True (the architecture's usual one), its name, or its settings. The default, each look
            seeing the answer of the one before, did best in docs/comparison.md; ``Recurrent()`` is as published.
        init: Weights that every model begins with, in place of those that the seed draws: a plain model's, as a file, a
            directory or a hub repository; what a loop adds begins as it is made. None is the seed's.
        models: Which of ``feedback``, ``plain``, ``one-step`` and ``equal-compute``.
        images: Numbers of training images; 0 is all there are. None is 4 and 64 for synthetic data, 16 and all for
            files.
        train: Training conditions: ``clean``, or a corruption and its severity such as ``rescaled_noise:4``,
            drawn anew each time an image is shown. None is ``rescaled_noise:4`` for synthetic data, whose images are
            otherwise too easy, and ``clean`` for files.
        train_steps: Optimiser steps (``equal-compute`` takes as many times more as the loop has looks). None is 200
            for synthetic data, 150 for files.
        lr: Peak learning rate of AdamW under a one-cycle schedule.
        loss: A loss by name.
        supervise: Which looks carry the loss: ``last`` (arXiv 2509.15905), ``mean`` (arXiv 2507.10143; it did best
            with the default loop), ``increasing``.
        corruptions: What the trained models are scored under, besides the condition they were trained on; none of
            them in training.
        severities: Of each corruption, from 1 to 5.

    >>> ComparisonSettings(seeds=2).twins
    ('plain', 'one-step', 'equal-compute')
    """

    kind = "comparison"

    feedback: bool | str | dict[str, Any] = field(default_factory=lambda: dict(LOOP))
    init: str | None = None
    models: list[str] = field(default_factory=lambda: [FEEDBACK, *USUAL])
    images: list[int] = None  # type: ignore[assignment]
    train: list[str] = None  # type: ignore[assignment]
    train_steps: int = None  # type: ignore[assignment]
    loss: str = "cross_entropy"
    supervise: str = "mean"
    corruptions: list[str] = field(default_factory=lambda: ["rescaled_noise", "gaussian_blur", "occlusion"])
    severities: list[int] = field(default_factory=lambda: [1, 3, 5])

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("supervise", self.supervise, ("last", "mean", "increasing"))
        check_list("models", self.models, MODELS)
        check_list("images", self.images)
        check_list("train", self.train)
        for count in self.images:
            check_number("images", count, least=0)
        catalogue().losses.entry(self.loss)
        self.looks, self.conditions, self.tests  # noqa: B018  (each raises)

    @property
    def usual(self) -> dict[str, Any]:
        """What takes the place of None."""
        return SYNTHETIC if self.root is None else FILES

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


def _check_no_severity(text: str) -> None:
    name, colon, severity = text.partition(":")
    known = catalogue().corruptions.entry(name).name
    if colon:
        raise InvalidValue(
            f"corruptions: {text!r}: expected its name, {known!r}, and severities=[{severity}] beside it."
        )
