"""The restoration loop's config: what mends the image between two looks, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smp_feedback.checks import check_bool, check_gradients, check_number, check_steps, check_whole
from smp_feedback.config.base import LoopConfig
from smp_feedback.config.parse import own_loop
from smp_feedback.errors import InvalidValue
from smp_feedback.registry.public import catalogue


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
            all steps are the first, so ``steps`` is 1 and nothing is run twice.
        absolute: Whether the size of the change is fed back (as the paper's figure has it) instead of the change
            itself (as its code does).
        base: A loop of the base's own, whose last look is the prediction: :class:`Recurrent`, its name or its dict.
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
    weight: float = 1e-3
    absolute: bool = False
    base: LoopConfig | None = None
    grad_steps: int | None = None
    detach: bool = False
    recompute: bool = False

    def __post_init__(self) -> None:
        check_steps(self.steps)
        check_whole("depth", self.depth, least=2)
        check_whole("filters", self.filters)
        check_number("reach", self.reach, above=0, unit=" (pixels)")
        check_number("weight", self.weight, least=0)
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
