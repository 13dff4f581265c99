"""What the restoration loop is made of: one pass, a step as it is shown, and all that is new in a model."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple, cast

from torch import Tensor

from smp_feedback.config.restoration import Restoration
from smp_feedback.loops.outer import OuterFeedback
from smp_feedback.loops.steps import Step, relative_change
from smp_feedback.restorers.base import Restorer


class Pass(NamedTuple):
    """One restoration, and what the base says of it.

    Attributes:
        logits: p_t (B, classes, H, W).
        labels: The image labels of a base with a classification head.
        restored: z_t (B, C, H, W).
        displacement: Where the pixels of z_t were read, in pixels (B, 2, H, W): rows, columns; None if R paints.
        change: ``p_{t-1} - p_{t-2}`` as it was fed back (B, classes, H, W); None in the first restoration.
        before: p_{t-1}; None in the first restoration.
    """

    logits: Tensor
    labels: Tensor | None
    restored: Tensor
    displacement: Tensor | None
    change: Tensor | None = None
    before: Tensor | None = None


@dataclass(frozen=True)
class RestorationStep(Step):
    """One feedback iteration; ``state`` is [p_t, p_{t-1}, z_t] (B, 2 classes + C, H, W)."""

    @property
    def _pass(self) -> Pass:
        return cast(Pass, self._turned.more)

    @property
    def restored(self) -> Tensor:
        """The restored image (B, C, H, W)."""
        return self._pass.restored

    @property
    def displacement(self) -> Tensor | None:
        """Where its pixels were read, in pixels (B, 2, H, W): rows, columns; None of a restorer that paints."""
        return self._pass.displacement

    @property
    def fed_back(self) -> Tensor | None:
        """The change of the class scores that the restorer heard (B, classes, H, W); None if it heard none."""
        return self._pass.change

    @functools.cached_property
    def change(self) -> Tensor:
        """How far this step moved each image's logits, see :func:`relative_change` (B,)."""
        return relative_change(self._pass.before, self._pass.logits)


class RestorationFeedback(OuterFeedback):
    """All that is new in a model that restores: R."""

    restorer: Restorer
    config: Restoration

    def steps(self) -> int:
        """T of a call that names none."""
        return self.config.steps
