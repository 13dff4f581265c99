"""What a model must know of its data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from smp_feedback.config.data import DataConfig
from smp_feedback.data.items import inherited
from smp_feedback.errors import InvalidValue
from smp_feedback.ops.reading import SEGMENTATION
from smp_feedback.training.metric import task_of

AUTO = "auto"


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
    sized_by: str = "data.size"  # the setting that says how large it is
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
        how = {name: getattr(self.reads, name) for name in ("size", "bands", "scale", "mask_values")}
        return DataConfig(mean=said.mean, std=said.std, channels=self.image[0], **about, **how)  # type: ignore[arg-type]

    @classmethod
    def of_config(cls, config: DataConfig, image: tuple[int, ...]) -> Facts:
        """What *config* says of the data that its model was trained on, for an *image* (C, H, W) to come."""
        return cls(config.classes, config.ignore_index, config.task, image, reads=config, normalise="none")


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


def check_several(facts: Facts) -> None:
    """There is more than one class to tell apart.

    Raises:
        InvalidValue: If every pixel is of the only one.
    """
    if facts.task == SEGMENTATION and len(facts.classes) == 1:
        raise InvalidValue(
            f"classes [{facts.classes[0]}]: every pixel is of the only class, so there is nothing to tell apart; name "
            f"what it is told from, too: [background, {facts.classes[0]}]."
        )


def check_as_learnt(facts: Facts, learnt: DataConfig, where: str) -> None:
    """Data are as those that a model *learnt* from, as the file *where* says: else its answers mean something else.

    Raises:
        InvalidValue: For other classes, in another order, or another ignore_index, task or number of channels.
    """
    pairs = [("channels", facts.image[0], learnt.channels), ("task", facts.task, learnt.task)]
    if learnt.classes:
        pairs.append(("classes", list(facts.classes), list(learnt.classes)))
        pairs.append(("ignore_index", facts.ignore_index, learnt.ignore_index))
    for name, now, then in pairs:
        if now != then:
            raise InvalidValue(
                f"the data have {name}={now}, the run learnt with {name}={then} ({where}): give the same."
            )
