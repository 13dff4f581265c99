"""What a comparison on films trains and scores: one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from smp_feedback.checks import check_number, check_whole
from smp_feedback.config.base import LoopConfig
from smp_feedback.config.data import DataConfig
from smp_feedback.config.parse import as_config
from smp_feedback.errors import InvalidValue
from smp_feedback.experiments.base_settings import OWN, ExperimentSettings, check_list
from smp_feedback.experiments.comparison.settings import Condition
from smp_feedback.experiments.films.rivals import CARRIED, RIVALS
from smp_feedback.registry.public import catalogue

LOOP = "film"


@dataclass(frozen=True, kw_only=True)
class FilmSettings(ExperimentSettings):
    """A comparison on films: every model is trained once for each seed, with equally many forward passes.

    Args:
        data: A dataset of frames that says which of them are films: ``moving``, or a folder opened with ``films``.
        feedback: The loop, whose dynamics carry a state: its name or settings. The default is the preset for films.
        models: Which of ``carried`` (one look a frame), ``plain`` (frame by frame), ``averaged`` (plain's answers,
            averaged), ``stacked-4`` and ``stacked-8`` (so many frames as channels of one image), and ``looks-4`` (four
            looks a frame, nothing carried).
        train_count: Frames to train on; 0 is all there are.
        train: What clips are seen under in training, each as often, drawn anew: ``clean``, or a corruption and its
            severity. The noise of ``rescaled_noise:3`` to ``:5`` has a sigma of 1, 2 and 4.
        tests: What every model is scored under.
        cuts: Under which of these films are joined, to see what a cut costs; None joins none.
        clip: Frames of a training clip.
        truncate: Frames after which no gradient goes further back; None goes through the whole clip.
        batch_size: Clips in a batch; models that see frames on their own have as many frames in one as these hold.
        lr: Peak learning rate of AdamW under a one-cycle schedule.
        clip_norm: Largest norm of the gradient; None leaves it.
        mean: What every model takes off frames in [0, 1], and divides by *std*; None shows them as they are. Noise that
            was scaled into [0, 1] has taken most of the contrast, and a base without normalisation learns little then.
        std: In (0, 1]; None if *mean* is.
        loss: A loss by name.
        test_images: Frames to score, at most; 0 is all there are.
        val_images: Frames of the validation films, on which the rate of averaging and the threshold of cuts are
            learned; 0 is all there are.
        train_options: Options of the dataset in training alone, such as ``{frames: 16}`` of ``moving``.
        test_options: The same for validation and test.
        camera: Of `SyntheticCamera`, such as ``{least: 0.6, pan: 0.02}``: what is trained on is then each still of the
            training split as it moves over it, beside the films of that split; and validation films are those of
            stills, too. None is the films alone.
        tuned: The split of the validation films.

    >>> FilmSettings(models=["averaged"]).passes
    1600
    """

    kind = "film comparison"

    data: str = "moving"
    feedback: bool | str | dict[str, Any] = LOOP
    models: list[str] = field(default_factory=lambda: [*RIVALS])
    train_count: int = 0
    train: list[str] = field(default_factory=lambda: ["rescaled_noise:3", "rescaled_noise:4", "rescaled_noise:5"])
    tests: list[str] = field(default_factory=lambda: ["rescaled_noise:3", "rescaled_noise:4", "rescaled_noise:5"])
    cuts: str | None = "rescaled_noise:4"
    clip: int = 8
    truncate: int | None = 1
    clip_norm: float | None = 1.0
    mean: float | None = None
    std: float | None = None
    loss: str = "cross_entropy"
    test_images: int = 640
    val_images: int = 320
    train_options: dict[str, Any] = field(default_factory=dict)
    test_options: dict[str, Any] = field(default_factory=dict)
    camera: dict[str, Any] | None = None
    tuned: str = "val"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_list("models", self.models, tuple(RIVALS))
        for name in ("train", "tests"):
            check_list(name, getattr(self, name))
        for name in ("train_count", "val_images"):
            check_whole(name, getattr(self, name), least=0)
        check_whole("clip", self.clip)
        if self.truncate is not None:
            check_whole("truncate", self.truncate)
        if self.clip_norm is not None:
            check_number("clip_norm", self.clip_norm, above=0)
        self.expected(1)
        catalogue().losses.entry(self.loss)
        for name in ("train_options", "test_options"):
            if own := (OWN - {"count"}) & getattr(self, name).keys():
                raise InvalidValue(
                    f"{name}={getattr(self, name)}: {', '.join(sorted(own))} belongs to the {self.kind}."
                )
        if self.tuned == self.split:
            raise InvalidValue(f"tuned={self.tuned!r} is what is reported on (split): expected another split.")
        frames = self.batch_size * self.clip
        if "looks-4" in self.models and frames % RIVALS["looks-4"].looks:
            raise InvalidValue(
                f"batch_size={self.batch_size}, clip={self.clip}: looks-4 has a quarter of these frames in a batch; "
                "expected a multiple of 4 in all."
            )
        self.config, self.conditions, self.tested, self.joined  # noqa: B018  (each raises)

    @property
    def usual(self) -> Mapping[str, Any]:
        """What takes the place of None."""
        return {"size": 48 if self.root is None else [96, 128]}

    @property
    def config(self) -> LoopConfig:
        """The loop's config; what looks on has BatchNorm statistics of a first look, and of all later ones."""
        config = as_config(self.feedback, usual=catalogue().architectures.entry(self.arch).feedback)
        if config is None or not hasattr(config, "dynamics"):
            raise InvalidValue(f"feedback={self.feedback!r}: expected a loop that carries a state, such as {LOOP!r}.")
        if CARRIED in self.models and not getattr(catalogue().dynamics[config.dynamics], "carries", False):
            known = [name for name, rule in catalogue().dynamics.items() if rule.carries]
            raise InvalidValue(
                f"dynamics={config.dynamics!r} carries no state from frame to frame; take one of {', '.join(known)}."
            )
        return cast(LoopConfig, replace(cast(Any, config), steps=2))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What is trained on."""
        return tuple(Condition.parse(text) for text in self.train)

    @property
    def tested(self) -> tuple[Condition, ...]:
        """What every model is scored under."""
        return tuple(Condition.parse(text) for text in self.tests)

    @property
    def joined(self) -> Condition | None:
        """Under what joined films are scored."""
        return None if self.cuts is None else Condition.parse(self.cuts)

    def expected(self, channels: int) -> DataConfig:
        """What every model expects of images of so many *channels*.

        Raises:
            InvalidType, InvalidValue: If mean and std are no such numbers, or one without the other.
        """
        mean, std = (None if value is None else channels * (value,) for value in (self.mean, self.std))
        return DataConfig(mean=mean, std=std, channels=channels)

    @property
    def passes(self) -> int:
        """Forward passes of a batch of *batch_size* images in training, each with its backward pass, of any model."""
        return self.train_steps * self.clip
