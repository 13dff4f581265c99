"""Loops around a base that answers as a whole, plain or with a loop of its own."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from smp_feedback.config.base import LoopConfig
from smp_feedback.errors import SurgeryError
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.loops.call import Told
from smp_feedback.loops.recurrent.model import RecurrentModel
from smp_feedback.loops.recurrent.state import RecurrentFeedback
from smp_feedback.models.builder import check_reads_logits
from smp_feedback.ops.maps import size_of
from smp_feedback.surgery.cuts import cut_of
from smp_feedback.surgery.feature_capture import what_the_head_reads
from smp_feedback.surgery.probe import Probe, probe
from smp_feedback.surgery.proof import check_elsewhere, check_opened


class OuterFeedback(nn.Module):
    """What every such loop adds to a base.

    Args:
        config: The loop's config.
        seen: What a dry run showed of the base.
        inner: What is new in a base that looks again itself.
    """

    inner: RecurrentFeedback | None

    def __init__(self, config: LoopConfig, seen: Probe, inner: RecurrentFeedback | None) -> None:
        super().__init__()
        self.config, self.cut = config, seen.cut
        self.in_channels, self.classes = seen.image.shape[1], seen.logits.shape[1]
        self.inner = inner


class Asked(NamedTuple):
    """What a base answers.

    Attributes:
        logits: (B, classes, H, W).
        labels: Its image labels, where it has a classification head.
        output: What its head read.
    """

    logits: Tensor
    labels: Tensor | None
    output: Tensor


class OuterModel(FeedbackModel):
    """A base that is asked for predictions."""

    feedback: OuterFeedback

    # not those of a recurrent base, which this loop goes around
    _check_stops = FeedbackModel._check_stops
    check_carries = FeedbackModel.check_carries
    _found = FeedbackModel._found

    def asked(self, image: Tensor) -> Asked:
        """One pass of the base, or all looks of its own loop."""
        cut, size = self.feedback.cut, size_of(image)
        inner = self.feedback.inner
        if inner is not None:
            for _, turned in super()._turns(image, Told(inner.steps(), inner.config.flow)):  # noqa: B007
                pass
            logits, labels = super()._answer(turned, size)
            output = turned.state[:, : inner.state_channels]
            return Asked(logits, labels, output if cut.spread is None else cut.spread(self, output, size))
        cut.check(self, image)
        output, features = cut.body(self, image)
        logits = cut.head(self, cut.read(self, output), size)
        labels = None if features is None else cut.labels(self, features)
        return Asked(logits, labels, what_the_head_reads(cut, self, output, size))


def opened(base: nn.Module, config: LoopConfig, in_channels: int | None) -> tuple[Probe, RecurrentFeedback | None]:
    """What a dry run shows of *base*, which must be evaluating, and what is new in one that looks again itself.

    Raises:
        SurgeryError: If it gives no map of classes, its forward does more than its parts, or it has a loop that none
            goes around.
    """
    asked = f"feedback={config.loop!r}"
    check_reads_logits(base, asked)
    cut_of(base)  # what cannot be cut need not be asked anything
    if isinstance(base, FeedbackModel) and not isinstance(base, RecurrentModel):
        name = f"{type(base).__name__} of the loop {base.loop_config.loop!r}"
        raise SurgeryError(f"{asked} goes around a plain model or a recurrent one, no {name}.")
    seen = probe(base, in_channels)
    if seen.classifies:
        raise SurgeryError(
            f"{asked} needs a map of classes, and {type(base).__name__} gives one answer per image: choose a model for "
            "segmentation, or feedback='recurrent'."
        )
    if isinstance(base, RecurrentModel):
        return seen, base.recurrent
    check_opened(base, seen)
    check_elsewhere(base, seen)
    return seen, None


def keep_base_evaluating(model: nn.Module, inner: nn.Module | None) -> None:
    """All of *model* but what its loop brought goes to evaluation mode, and *inner*, the base's own loop."""
    for name, part in model.named_children():
        if name != "feedback":
            part.eval()
    if inner is not None:
        inner.eval()
