"""What is wrong with the images that are to be restored: a corruption of any dataset, or stored images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from smp_feedback.checks import check_number
from smp_feedback.data.augment import cropped
from smp_feedback.data.corruption.corruptions import check_severity
from smp_feedback.data.items import Corruption
from smp_feedback.data.stored_triplets import StoredTriplets
from smp_feedback.data.triplets import Triplets
from smp_feedback.data.turbulence.simulator import in_words, of_air
from smp_feedback.data.turbulence.wind import of_wind
from smp_feedback.errors import InvalidValue
from smp_feedback.registry.public import catalogue
from smp_feedback.training.data_settings import check_clip
from smp_feedback.training.datamodule import TripletsModule
from smp_feedback.training.facts import Facts
from smp_feedback.training.opening import SPLITS, open_pairs
from smp_feedback.training.told import OF_FILMS


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """What is wrong with the images.

    Args:
        name: A corruption: training images are corrupted anew in each epoch, the others always alike.
        severity: Of the corruption, 1 to 5.
        turbulence: Air and camera in place of the two, by the names of
            :class:`~smp_feedback.data.turbulence.Turbulence`, such as ``{cn2: 1e-13, path: 1000}``.
        wind: Of that air, in m/s: it carries the same air past all frames of a film, 25 a second, as the corruption
            ``shimmer`` does; None is another air for every frame.
        folder: Take stored images in its place, each of the stem of its clean one; {split} stands for train, val, test.

    Raises:
        InvalidType, InvalidValue, UnknownName: Naming the field.
    """

    name: str = "turbulence"
    severity: int = 3
    turbulence: dict[str, float] | None = None
    wind: float | None = None
    folder: str | None = None

    def __post_init__(self) -> None:
        check_severity(self.severity)
        if self.wind is not None:
            check_number("wind", self.wind, least=0, unit=" m/s")
            if self.turbulence is None:
                raise InvalidValue(
                    f"wind={self.wind}: it is that of the air that turbulence= tells; name='shimmer' is air in a wind "
                    "of 2 m/s."
                )
        if self.folder is None or self.turbulence is not None:
            _ = self.corruption
        if self.turbulence is not None and (self.folder is not None or self.name != "turbulence"):
            other = f"name={self.name!r}" if self.folder is None else f"folder={self.folder!r}"
            raise InvalidValue(f"turbulence={self.turbulence} and {other}: images are distorted in one way; give one.")

    @property
    def said(self) -> str:
        """In words, for a table."""
        if self.folder is not None:
            return self.folder
        if self.turbulence is None:
            return f"{self.name}:{self.severity}"
        return in_words(self.turbulence) + ("" if self.wind is None else f" in a wind of {self.wind:g} m/s")

    @property
    def corruption(self) -> str | Corruption:
        """As :class:`Triplets` takes it."""
        if self.turbulence is not None:
            return of_air(self.turbulence) if self.wind is None else of_wind(self.turbulence, self.wind)
        return catalogue().corruptions.entry(self.name).name


def open_triplets(verb: str, seed: int, distortion: Distortion, **data: Any) -> tuple[TripletsModule, Facts]:
    """The triplets of one verb.

    Args:
        verb: As :func:`smp_feedback.training.opening.open_pairs` takes it.
        seed: Likewise.
        distortion: What is wrong with the images.
        **data: What else that function takes, but for its corruption.

    Returns:
        The batches, and what the model must know of them.

    Raises:
        InvalidValue: If there are labels where maps are expected; as the dataset and :class:`StoredTriplets` say.
    """
    clips = {key: data.pop(key) for key in OF_FILMS if key in data}
    check_clip(**{"clip": None, **clips})
    augment, crop = data.get("augment", "none"), data.get("crop")
    stored = distortion.folder is not None
    pairs, facts = open_pairs(verb, seed, **{**data, **({"augment": "none", "crop": None} if stored else {})})
    if facts.task != "segmentation":
        raise InvalidValue(f"data.name={data.get('name')} has one label an image: what is learnt are maps of labels.")
    opened: dict[str, Any] = {}
    for split in SPLITS[verb]:
        own = getattr(pairs, split)
        if distortion.folder is None:
            opened[split] = Triplets(own, distortion.corruption, distortion.severity, fresh=split == "train")
        else:
            transform = cropped(augment, crop) if split == "train" else None
            opened[split] = StoredTriplets(own, Path(distortion.folder.replace("{split}", split)), transform)
    if stored and crop is not None and "train" in opened:
        facts = facts.cropped(cast(int, crop))
    how = {"batch_size": pairs.batch_size, "workers": pairs.workers, "seed": pairs.seed, **clips}
    return TripletsModule(**opened, **how), facts
