"""The repair loop's config: which net mends a mask, and how much of the base's answer it may overrule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smp_feedback.checks import check_bool, check_gradients, check_number, check_whole
from smp_feedback.config.base import LoopConfig
from smp_feedback.config.parse import own_loop
from smp_feedback.config.presets import ANYTIME
from smp_feedback.config.recurrent import Recurrent
from smp_feedback.errors import InvalidValue


@dataclass(frozen=True, kw_only=True)
class Repair(LoopConfig):
    """The repair loop: a trained model answers once, and a small local rule mends its mask, look by look.

    The base is frozen. A net of 3 x 3 convolutions (``PlainConv``), closed into the loop of ``feedback="anytime"``, is
    shown the image beside the base's probabilities p, and what it says is added to their logarithms: each look answers
    ``log(q) + head(h_t)``, where ``q = confidence * p + (1 - confidence) / K``. Before any training the net says
    nothing, and every look gives the base's labels. The net is to be trained (``smp-feedback repair train``); because
    it knows neither size nor number of looks, it may look at larger images, and longer, than it was trained on.

    Args:
        steps: Looks T at the mask; 0 is the base's own answer.
        channels: Feedback channels of the state, beside the width, that the next look reads, >= 1.
        width: Channels of each convolution.
        depth: How many there are, >= 1: one look sees so many pixels to each side.
        confidence: The most that the base's answer counts for, in (0, 1): a base that is as good as sure of a gap could
            not be overruled else. Its labels stay, its probabilities are drawn towards 1 / K.
        cut: The relative change of a stream's state above which ``look(reset="auto")`` takes a frame for a cut, > 0;
            None where no film has taught one.
        base: A loop of the base's own, whose last look is then mended: :class:`Recurrent`, its name or its dict.
        grad_steps, detach, recompute: As in :class:`Recurrent`.

    Raises:
        InvalidType, InvalidValue: Naming field, value and range.

    >>> Repair(steps=7).to_dict()["steps"]
    7
    >>> Repair(confidence=1.0)
    Traceback (most recent call last):
    smp_feedback.errors.InvalidValue: confidence=1.0: expected a number in (0, 1), such as 0.98.
    """

    loop: ClassVar[str] = "repair"

    steps: int = 32
    channels: int = 8
    width: int = 32
    depth: int = 3
    confidence: float = 0.98
    cut: float | None = None
    base: LoopConfig | None = None
    grad_steps: int | None = None
    detach: bool = False
    recompute: bool = False

    def __post_init__(self) -> None:
        check_whole("steps", self.steps, "; 0 is the base's own answer", least=0)
        for name in ("channels", "width", "depth"):
            check_whole(name, getattr(self, name))
        check_number("confidence", self.confidence, above=0)
        if self.confidence >= 1:
            raise InvalidValue(f"confidence={self.confidence!r}: expected a number in (0, 1), such as 0.98.")
        if self.cut is not None:
            check_number("cut", self.cut, above=0)
        for name in ("detach", "recompute"):
            check_bool(name, getattr(self, name))
        check_gradients(self.grad_steps, self.detach)
        object.__setattr__(self, "base", own_loop(self.base))  # what JSON and a command line give

    @property
    def net(self) -> Recurrent:
        """The loop of the net that mends: any number of looks, images of any size.

        >>> Repair(channels=4).net.channels, Repair().net.dynamics
        (4, 'leaky')
        """
        usual = {key: value for key, value in ANYTIME.items() if key != "loop"}
        return Recurrent(**{**usual, "steps": max(1, self.steps), "channels": self.channels})
