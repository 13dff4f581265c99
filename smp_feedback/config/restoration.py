"""The restoration loop's config: what mends the image between two looks, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from smp_feedback.checks import check_bool, check_choice, check_gradients, check_number, check_steps, check_whole
from smp_feedback.config.base import LoopConfig
from smp_feedback.config.parse import own_loop
from smp_feedback.errors import InvalidValue
from smp_feedback.registry.public import catalogue

LEARNT: Literal["learnt"] = "learnt"
FEEDBACK, MEAN = "feedback", "mean"
"""What a restoration loop may carry on from one frame to the next."""


@dataclass(frozen=True, kw_only=True)
class Restoration(LoopConfig):
    """The restoration loop: what changed between two predictions goes to a network that restores the image again.

    *Spatial Feedback Learning to Improve Semantic Segmentation in Hot Weather* (BMVC 2020): a restoration network R
    and a segmentation model M, ``z_0 = R(x)``, ``p_0 = M(z_0)``, then T times ``z_t = R(x; (p_{t-1} - p_{t-2})
    z_{t-1})`` and ``p_t = M(z_t)``, with ``p_{-1} = p_0``: the first feedback is zero. M is the base; R is new, and is
    to be trained (``smp-feedback restore train``). Until then it gives back the image, and the model answers as its
    base does. Every restoration begins at the distorted image x.

    Args:
        steps: Feedback iterations T >= 1, beside the first restoration; 3 in the paper. They cost T + 1 passes of M.
        restorer: R, by its registered name: ``unet``, or what a plugin or :func:`register_restorer` brings.
        depth: Resolutions of the ``unet``, >= 2; 5 in the paper.
        filters: Its channels at full resolution, doubled at each further one; 64 in the paper.
        reach: The largest displacement of a pixel, in pixels, > 0; 10 in the paper.
        weight: Of the feedback where R hears it, >= 0; 1e-3 in the paper. 0 is restoration alone: without feedback
            all steps are the first, so ``steps`` is 1 and nothing is run twice. ``learnt``: a number of R's own that
            begins at 0 and is trained with it; on one image with ``end_to_end`` it stays there, for until something
            is heard no answer changes, so train it on films, or step by step.
        absolute: Whether the size of the change is fed back (as the paper's figure has it) instead of the change
            itself (as its code does).
        carry: What :meth:`FeedbackModel.look` carries on from one frame of a film to the next, at one restoration and
            one segmentation a frame. None, as published: nothing, each image is begun anew. ``feedback``: the change
            between the class scores of the last two frames, times the restored frame, is what R hears of the next one.
            ``mean``: besides, a running mean of the restored frames, ``m_t = m_{t-1} + rate_t (z_t - m_{t-1})``,
            which M segments in place of z_t, and of which R is shown m_{t-1} beside the frame.
        rate: Of that mean: ``learnt``, ``rate_t = 1 - k t / (t + 1)`` where R says for each pixel a k in (-1, 1) that
            begins at 0: no mean at all, until it is trained. Or the lowest rate, in (0, 1], of ``1 / (t + 1)``: a plain
            mean of the frames so far, which forgets the oldest from the time on when that rate is reached.
        cut: The relative change of a stream's logits above which ``look(reset="auto")`` takes a frame for a cut, > 0;
            None where no film has taught one. Only where something is carried.
        base: A loop of the base's own, whose last look is the prediction: :class:`Recurrent`, its name or its dict.
            It begins anew with each restored image, whatever is carried.
        grad_steps: Where R and M learn end to end: the last steps that carry gradient; None is all of them.
        detach: Likewise: whether no gradient crosses from one step to the one before.
        recompute: Likewise: whether steps are run again for their gradient, in place of being kept.

    An ordinary training loop learns R and M end to end; the paper's cut between them is the training's
    (:class:`RestorationModule`). BatchNorm's running statistics are shared by all T + 1 passes, as published.

    Raises:
        InvalidType, InvalidValue: Naming field, value and range.
        UnknownName: For a restorer that nobody registered.

    >>> Restoration(steps=2).to_dict()["restorer"]
    'unet'
    >>> Restoration(steps=0)
    Traceback (most recent call last):
    smp_feedback.errors.InvalidValue: steps=0: expected a whole number >= 1; steps=1 looks once.
    """

    loop: ClassVar[str] = "restoration"

    steps: int = 3
    restorer: str = "unet"
    depth: int = 5
    filters: int = 64
    reach: float = 10.0
    weight: float | Literal["learnt"] = 1e-3
    absolute: bool = False
    carry: Literal["feedback", "mean"] | None = None
    rate: float | Literal["learnt"] = LEARNT
    cut: float | None = None
    base: LoopConfig | None = None
    grad_steps: int | None = None
    detach: bool = False
    recompute: bool = False

    def __post_init__(self) -> None:
        check_steps(self.steps)
        check_whole("depth", self.depth, least=2)
        check_whole("filters", self.filters)
        check_number("reach", self.reach, above=0, unit=" (pixels)")
        self._check_weight()
        self._check_carries()
        for name in ("absolute", "detach", "recompute"):
            check_bool(name, getattr(self, name))
        self.check_hears(self.steps)
        check_gradients(self.grad_steps, self.detach)
        _ = catalogue().restorers[self.restorer]
        object.__setattr__(self, "base", own_loop(self.base))  # what JSON and a command line give

    def check_hears(self, steps: int) -> None:
        """More than one step needs feedback.

        Raises:
            InvalidValue: If there is none.
        """
        if not self.weight and steps > 1:
            raise InvalidValue(
                f"steps={steps} with weight=0: nothing is fed back, so all steps would be the first; give steps=1, or "
                "a weight such as 1e-3."
            )

    def _check_weight(self) -> None:
        if isinstance(self.weight, str) and self.weight != LEARNT:
            raise InvalidValue(f"weight={self.weight!r}: expected a number >= 0, or {LEARNT!r}.")
        if not isinstance(self.weight, str):
            check_number("weight", self.weight, least=0)

    def _check_carries(self) -> None:
        """What is carried, and what is said of it, go together."""
        if self.carry is not None:
            check_choice("carry", self.carry, (FEEDBACK, MEAN))
        if self.carry == FEEDBACK and not self.weight:
            raise InvalidValue(
                "carry='feedback' with weight=0: nothing is fed back, so there is nothing to carry; give a weight such "
                "as 1e-3, or carry='mean'."
            )
        if isinstance(self.rate, str) and self.rate != LEARNT:
            raise InvalidValue(f"rate={self.rate!r}: expected a number in (0, 1], or {LEARNT!r}.")
        if not isinstance(self.rate, str):
            check_number("rate", self.rate, above=0)
            if self.rate > 1:
                raise InvalidValue(f"rate={self.rate!r}: expected a number in (0, 1]; 1 forgets all frames before.")
            if self.carry != MEAN:
                raise InvalidValue(f"rate={self.rate!r} with carry={self.carry!r}: it is that of carry='mean'.")
        if self.cut is not None:
            check_number("cut", self.cut, above=0)
            if self.carry is None:
                raise InvalidValue(
                    f"cut={self.cut!r} with carry=None: nothing is carried that a cut could end; take carry='feedback' "
                    "or carry='mean', or leave cut=None."
                )
