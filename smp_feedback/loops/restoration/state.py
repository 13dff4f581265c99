"""What the restoration loop is made of: one pass, what the next one knows of it, and all that is new in a model."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import torch
from torch import Tensor

from smp_feedback.config.restoration import MEAN, Restoration
from smp_feedback.errors import InvalidValue
from smp_feedback.loops.outer import OuterFeedback
from smp_feedback.loops.steps import Step, relative_change
from smp_feedback.restorers.base import Restored, Restorer


class Memory(NamedTuple):
    """What a pass knows of those before it.

    Attributes:
        last: p_{t-1} (B, classes, H, W).
        older: p_{t-2}, or p_{t-1} where there is no older one.
        restored: z_{t-1} (B, C, H, W).
        mean: m_{t-1}, the mean of the images restored so far (B, C, H, W), of a loop that carries it.
    """

    last: Tensor
    older: Tensor
    restored: Tensor
    mean: Tensor | None = None

    def state(self) -> Tensor:
        """As one map."""
        return torch.cat([part for part in self if part is not None], 1)


class Restoring(NamedTuple):
    """One restoration: what R made, what became of the mean of all so far, and the change of scores that R heard."""

    restored: Restored
    mean: Tensor | None
    change: Tensor | None

    @property
    def shown(self) -> Tensor:
        """What M is to segment (B, C, H, W): the mean where there is one, else the restored image."""
        return self.restored.image if self.mean is None else self.mean


class Pass(NamedTuple):
    """One restoration, and what the base says of it.

    Attributes:
        logits: p_t (B, classes, H, W).
        labels: The image labels of a base with a classification head.
        restored: z_t (B, C, H, W).
        displacement: Where the pixels of z_t were read, in pixels (B, 2, H, W): rows, columns; None if R paints.
        change: ``p_{t-1} - p_{t-2}`` as it was fed back (B, classes, H, W); None in the first restoration.
        before: p_{t-1}; None in the first restoration.
        mean: m_t, which the base was shown in place of z_t (B, C, H, W); None where it was shown z_t.
    """

    logits: Tensor
    labels: Tensor | None
    restored: Tensor
    displacement: Tensor | None
    change: Tensor | None = None
    before: Tensor | None = None
    mean: Tensor | None = None


@dataclass(frozen=True, repr=False, eq=False)
class RestorationStep(Step):
    """One feedback iteration, or one look; ``state`` is [p_t, p_{t-1}, z_t], and m_t where a mean is carried."""

    @property
    def _pass(self) -> Pass:
        return cast(Pass, self._turned.more)

    @property
    def restored(self) -> Tensor:
        """The restored image (B, C, H, W)."""
        return self._pass.restored

    @property
    def mean(self) -> Tensor | None:
        """The running mean of restored images, which was segmented (B, C, H, W); None of a loop that carries none."""
        return self._pass.mean

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

    def state_dict(self) -> dict[str, Tensor]:
        """As ever, of a loop that carries; where the pixels of this frame were read, the next look does not need."""
        if self._turned.looks is None:
            raise InvalidValue(f"A {type(self).__name__} is no look that another goes on from: there is none to save.")
        return Step.state_dict(replace(self, _turned=self._turned._replace(more=None)))


class RestorationFeedback(OuterFeedback):
    """All that is new in a model that restores: R."""

    restorer: Restorer
    config: Restoration

    def steps(self) -> int:
        """T of a call that names none."""
        return self.config.steps

    @property
    def state_channels(self) -> int:
        """Of a state: two predictions, an image, and a mean where one is carried."""
        return 2 * self.classes + self.in_channels * (2 if self.config.carry == MEAN else 1)

    def memory_of(self, state: Tensor) -> Memory:
        """What a *state* (B, state_channels, H, W) says."""
        k, c = self.classes, self.in_channels
        parts = torch.split(state, [k, k, *[c] * ((state.shape[1] - 2 * k) // c)], 1)
        return Memory(*parts)
