"""What an ablation of the restoration loop trains and scores: one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from smp_feedback.checks import check_number, check_whole
from smp_feedback.config.restoration import Restoration
from smp_feedback.data.augment import as_transform
from smp_feedback.data.items import Corruption
from smp_feedback.data.turbulence.simulator import in_words, of_air
from smp_feedback.errors import InvalidValue
from smp_feedback.experiments.ablation.rows import ROWS, TRAINED
from smp_feedback.experiments.base_settings import ExperimentSettings, check_list
from smp_feedback.losses.iterative import IterativeFocal
from smp_feedback.registry.public import catalogue


@dataclass(frozen=True, kw_only=True)
class AblationSettings(ExperimentSettings):
    """An ablation: each row's model is trained once for each seed, and all are scored on the same distorted images.

    Args:
        data: A segmentation dataset by name: ``polygons``, ``camvid``, ``folder``, ...; all of them:
            ``smp_feedback.list_datasets()``.
        arch: Of M, which segments: an architecture for segmentation.
        base_norm: ``group`` puts GroupNorm in the place of M's BatchNorm in every row; None leaves it.
        train_count: Training images; 0 is all there are.
        seeds: Repetitions; each draws other weights, batches and distortions of training images.
        augment: ``none``, ``flip``, ``flips``, ``crop_flip`` or ``colour``; images are distorted after it.
        corruption: What distorts the images, by name: the simulator of the paper is ``turbulence``.
        severity: Of that, 1 to 5. Training images are distorted anew in each epoch, test images always alike.
        turbulence: Air and camera in place of the two, by the names of
            :class:`~smp_feedback.data.turbulence.Turbulence`, such as ``{cn2: 1e-13, path: 1000}``.
        restoration: The loop, as :class:`Restoration` takes it: steps, depth, filters, reach, weight, ... The network
            is smaller than the paper's (depth 5, 64 filters), which is sized for images of 512 x 1024 pixels.
        gammas: Of the iterative focal loss, one for each step; the last stands for every later one. None is
            0, 0.1, 0.2, ... for as many steps as there are: the paper's, of its three.
        rows: Which rows are trained: ``clean``, ``distorted``, ``restoration``, ``feedback``, ``iterative-focal``,
            ``class-balanced``; and two controls, which are no rows of the paper: ``plain-balanced`` is M alone with the
            last row's weights, ``unheard`` runs as ``feedback`` does but is told nothing.
        train_steps: Training batches of every row: as many updates of M.
        lr: Learning rate of M's Adam, 5e-4 in the paper; the same in every row.
        lr_restorer: Learning rate of R's Adam, 2e-4 in the paper.
        weight_decay: Of M's Adam, 2e-4 in the paper.
        decay: M's learning rate of an epoch over that of the one before, 0.99 in the paper.
        halve_every: Epochs after which R's learning rate is halved, 30 in the paper.
        split: The split they come from. Scored are the last weights: no row is chosen by a score.

    >>> AblationSettings(restoration={"steps": 2, "depth": 3}).gammas
    [0.0, 0.1]
    """

    kind = "ablation"

    train_count: int = 0
    augment: str = "flip"
    corruption: str = "turbulence"
    severity: int = 3
    turbulence: dict[str, float] | None = None
    restoration: dict[str, Any] = field(default_factory=lambda: {"depth": 4, "filters": 16})
    gammas: list[float] = None  # type: ignore[assignment]  # None is filled in at birth
    rows: list[str] = field(default_factory=lambda: list(TRAINED))
    lr: float = 5e-4
    lr_restorer: float = 2e-4
    weight_decay: float = 2e-4
    decay: float = 0.99
    halve_every: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("halve_every", self.halve_every)
        check_whole("train_count", self.train_count, least=0)
        for name in ("lr_restorer", "decay"):
            check_number(name, getattr(self, name), above=0)
        check_number("weight_decay", self.weight_decay, least=0)
        self._check_distortion()
        check_list("rows", self.rows, tuple(ROWS))
        as_transform(self.augment)
        self._check_loop()

    @property
    def config(self) -> Restoration:
        """The loop's config, as rows with feedback have it."""
        return Restoration.from_dict(self.restoration)

    @property
    def distortion(self) -> tuple[str | Corruption, int]:
        """What distorts the images, and how much, as :class:`Corrupted` takes them."""
        return self.corruption if self.turbulence is None else of_air(self.turbulence), self.severity

    @property
    def said(self) -> str:
        """The same in words."""
        return f"{self.corruption}:{self.severity}" if self.turbulence is None else in_words(self.turbulence)

    def _check_distortion(self) -> None:
        _ = self.distortion
        check_whole("severity", self.severity)
        if self.severity > 5:
            raise InvalidValue(f"severity={self.severity}: expected 1 to 5; clean images are a row of their own.")
        object.__setattr__(self, "corruption", catalogue().corruptions.entry(self.corruption).name)

    def _check_loop(self) -> None:
        if not self.config.weight:
            raise InvalidValue("restoration with weight=0: feedback is a row of its own; give a weight such as 1e-3.")
        self._fill("gammas", [round(0.1 * t, 1) for t in range(self.config.steps)])
        IterativeFocal(gammas=self.gammas)
        if len(self.gammas) > self.config.steps:
            raise InvalidValue(f"gammas={self.gammas}: expected at most steps={self.config.steps}, one for each step.")
