"""One click's answer: what a model is shown beside the image, and from where it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from smp_feedback.config.clicks import ClickConfig
from smp_feedback.data.clicks.discs import discs
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.loops.base import FeedbackModel, Step
from smp_feedback.loops.looking import carries
from smp_feedback.models.normalisation import given_config
from smp_feedback.ops.maps import size_of
from smp_feedback.ops.reading import chances_of, labels_of
from smp_feedback.surgery.extension import looping_in


class Heard(NamedTuple):
    """What a model made of the clicks so far.

    Attributes:
        logits: (B, classes, H, W), of two classes, or one channel for both.
        step: The last look, from which the next click goes on; None where nothing is carried.
    """

    logits: Tensor
    step: Step | None

    @property
    def object(self) -> Tensor:
        """Where the object is, bool (B, H, W)."""
        return labels_of(self.logits).bool()

    @property
    def chance(self) -> Tensor:
        """How probable the object is, (B, H, W)."""
        return chances_of(self.logits)[:, 1]


def listen(
    model: nn.Module,
    image: Tensor,
    clicks: Tensor,
    how: ClickConfig,
    *,
    before: Step | None = None,
    mask: Tensor | None = None,
) -> Heard:
    """What *model* answers to all clicks so far.

    Args:
        model: Reads the channels of *image* and those of *how*.
        image: (B, C, H, W), normalised as the model wants it.
        clicks: (B, N, 3) of row, column, sign.
        how: What the model is shown beside the image.
        before: The look to go on from; of a model that carries nothing it is left aside.
        mask: (B, H, W) in [0, 1], the answer so far, for a model that reads one; None is an empty one.

    Raises:
        InvalidValue: If *model* has more than two classes.

    >>> import smp_feedback as smpf
    >>> model = smpf.create("PlainConv", in_channels=5, classes=1, feedback="anytime")
    >>> heard = listen(model, torch.rand(1, 3, 16, 16), torch.tensor([[[8, 8, 1]]]), ClickConfig())
    >>> heard.logits.shape, heard.step.index
    (torch.Size([1, 1, 16, 16]), 0)
    """
    size = size_of(image)
    parts = [image, discs(clicks, size, how.radius).to(image.dtype)]
    if how.mask:
        seen = image.new_zeros(len(image), *size) if mask is None else mask.to(image.dtype)
        parts.append(seen[:, None])
    x = torch.cat(parts, 1)
    looping = looping_in(model)  # of a compiled one, that inside
    if not isinstance(looping, FeedbackModel):
        return Heard(_of_an_object(cast(Tensor, model(x))), None)
    goes_on = how.carry and carries(looping)
    for step in looping.iterate(x, steps=how.looks, before=before if goes_on else None):  # noqa: B007
        pass
    return Heard(_of_an_object(step.logits), step if goes_on else None)


def _of_an_object(logits: Tensor) -> Tensor:
    """*logits*, which tell an object from what is none."""
    if logits.shape[1] > 2:
        raise InvalidValue(
            f"The model answers with {logits.shape[1]} classes: expected one that tells an object from what is none "
            "(classes=1, or 2), as smp-feedback clicks train makes it."
        )
    return logits


def how_of(model: nn.Module, how: ClickConfig | None = None, *, reads_mask: bool = False) -> ClickConfig:
    """*how*, or else what *model* says itself of what it is shown of clicks.

    Args:
        model: That listens to clicks.
        how: What is said in its place.
        reads_mask: Whether it is to be shown a mask to begin with.

    Raises:
        InvalidValue: If nobody says, or it is to begin with a mask and reads none.
    """
    how = given_config(model).config.clicks if how is None else how
    how = ClickConfig.from_dict(how) if isinstance(how, Mapping) else how
    if how is not None and not isinstance(how, ClickConfig):
        raise InvalidType(f"how={how!r} ({type(how).__name__}): expected a ClickConfig, as it was trained with.")
    if how is None:
        raise InvalidValue(
            f"This {type(model).__name__} does not say that it listens to clicks: train one by smp-feedback clicks "
            "train, or give how=ClickConfig(...), as it was trained."
        )
    if reads_mask and not how.mask:
        raise InvalidValue(
            "This model reads no mask beside the image and the clicks, so it cannot begin with one: expected a model "
            "that was trained with clicks.mask (ClickConfig(mask=True))."
        )
    return how
