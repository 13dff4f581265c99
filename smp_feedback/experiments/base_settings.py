"""What every experiment is told: its data, its base, its training and its tests, checked at birth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from smp_feedback.checks import check_choice, check_number, check_whole
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.models.keywords import is_smps_own
from smp_feedback.registry.public import catalogue

OWN = {"root", "size", "seed", "count", "transform"}  # of a dataset's options, what an experiment sets itself
SMALL = "resnet18"  # of smp's encoders


@dataclass(frozen=True, kw_only=True)
class ExperimentSettings:
    """The settings that all experiments share; each has more of its own, and may have other defaults.

    Args:
        data: A dataset by name: ``polygons``, ``camvid``, ``folder``, ``torchvision/MNIST``, ...; all of them:
            ``smp_feedback.list_datasets()``.
        root: Its folder; synthetic datasets have none.
        size: Side of the images in pixels, of mazes in cells, or height and width; None is 64 for synthetic data, 96 x
            128 for files.
        data_options: The dataset's own options.
        arch: The base's architecture; ``timm/<name>`` for a classifier of timm.
        encoder: Its encoder. None is resnet18 for smp's architectures, and any other's own.
        arch_options: The architecture's own keywords.
        encoder_weights: As in smp; None is random.
        base_norm: ``group`` puts GroupNorm in the place of the base's BatchNorm in every model, twins included;
            None leaves it.
        train_steps: Batches of a training.
        batch_size: Images in each of them.
        lr: The learning rate.
        augment: ``none``, ``flip``, ``flips`` (up and down too), ``crop_flip``, ``colour``; corruption comes after it.
        seeds: Repetitions; each draws other weights, batches and training images, or corruptions of them.
        test_images: Held-out images to score, at most; 0 is all there are.
        split: The split they come from.

    Raises:
        InvalidValue, InvalidType, UnknownName: At birth, naming the argument.
    """

    kind = "experiment"

    data: str = "polygons"
    root: str | None = None
    size: int | list[int] = None  # type: ignore[assignment]  # None is filled in at birth
    data_options: dict[str, Any] = field(default_factory=dict)
    arch: str = "Unet"
    encoder: str | None = None
    arch_options: dict[str, Any] = field(default_factory=dict)
    encoder_weights: str | None = None
    base_norm: str | None = "group"
    train_steps: int = 200
    batch_size: int = 4
    lr: float = 1e-3
    augment: str = "flips"
    seeds: int = 3
    test_images: int = 100
    split: str = "test"

    def __post_init__(self) -> None:
        for name, value in self.usual.items():
            self._fill(name, value)
        for name in ("train_steps", "batch_size", "seeds"):
            check_whole(name, getattr(self, name))
        check_number("lr", self.lr, above=0)
        check_whole("test_images", self.test_images, least=0)
        if own := OWN & self.data_options.keys():
            raise InvalidValue(
                f"data_options={self.data_options}: {', '.join(sorted(own))} belongs to the {self.kind}."
            )
        catalogue().datasets.entry(self.data)
        if self.encoder is None and is_smps_own(catalogue().architectures[self.arch]):
            self._fill("encoder", SMALL)

    @property
    def usual(self) -> Mapping[str, Any]:
        """What takes the place of None."""
        return {"size": 64 if self.root is None else [96, 128]}

    def _fill(self, name: str, value: object) -> None:
        """Give *name* its usual value, if it has none."""
        if getattr(self, name) is None:
            object.__setattr__(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def check_list(name: str, values: Sequence[object], choices: Sequence[str] | None = None) -> None:
    """A list of at least one, each once, and each one of *choices*.

    >>> check_list("rows", ["clean", "clean"])
    Traceback (most recent call last):
    smp_feedback.errors.InvalidValue: rows=['clean', 'clean']: expected each once.
    """
    if isinstance(values, (str, Mapping)) or not isinstance(values, Sequence) or not values:
        raise InvalidType(f"{name}={values!r}: expected a list of at least one.")
    for value in values if choices else ():
        check_choice(name, value, choices)  # type: ignore[arg-type]
    if any(value in values[:i] for i, value in enumerate(values)):
        raise InvalidValue(f"{name}={values!r}: expected each once.")
