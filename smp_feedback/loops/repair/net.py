"""The net that mends: a local rule that is shown an image beside a mask, in the loop for any number of looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from smp_feedback.config.repair import Repair
from smp_feedback.loops.beginnings import Beginnings
from smp_feedback.loops.call import Told
from smp_feedback.loops.recurrent.carrying import check_fits
from smp_feedback.loops.recurrent.model import RecurrentModel
from smp_feedback.loops.recurrent.step import at_least_single
from smp_feedback.loops.steps import Step
from smp_feedback.loops.unroll import Turn, Turned
from smp_feedback.models.plain_conv import PlainConv
from smp_feedback.ops.maps import Size, size_of
from smp_feedback.surgery.step_context import Once


@dataclass
class Mending:
    """A turn of the net, beside whose state stands what is known of the mask: so a look says by itself what it says.

    Attributes:
        turn: The net's.
        known: Logits of the mask that is mended (B, classes, H, W).
    """

    turn: Turn
    known: Tensor

    settled = False

    def __call__(self, state: Tensor | None, t: int) -> Turned:
        """Turn the net's part of the state; what is known is this image's, whatever the state came with."""
        turned = self.turn(None if state is None else state[:, self.known.shape[1] :], t)
        return turned._replace(state=torch.cat([self.known.to(turned.state.dtype), turned.state], 1))


class Mender(RecurrentModel):
    """A recurrent net that reads (B, C + classes, H, W), an image and the probabilities of a mask, and mends it."""

    confidence: float
    classes: int

    def _turn(self, image: Tensor, once: Once, told: Told, began: Beginnings | None) -> Turn:
        turn = super()._turn(image, once, told, began)
        return Mending(turn, believed(image[:, -self.classes :], self.confidence))

    def _found(self, before: Step, image: Tensor, asked: str) -> Step:
        return found_by(before, image, self.state_channels)

    @property
    def state_channels(self) -> int:
        """Of a state: what is known of the mask, and the net's own."""
        return self.classes + self.recurrent.dynamics.width

    def _answer(self, turned: Turned, size: Size) -> tuple[Tensor, Tensor | None]:
        said = self._logits(turned.state[:, self.classes :], size)
        return said + turned.state[:, : self.classes].to(said.dtype), None


def build_mender(config: Repair, in_channels: int, classes: int) -> Mender:
    """A net that, until it is trained, says nothing: its head is zero.

    >>> net = build_mender(Repair(steps=2, width=4), in_channels=3, classes=1).eval()
    >>> shown = torch.cat([torch.rand(1, 3, 8, 8), torch.full((1, 1, 8, 8), 0.5)], 1)
    >>> bool((net(shown) == 0).all())
    True
    """
    base = PlainConv(in_channels + classes, classes, width=config.width, depth=config.depth)
    net = cast(Mender, Mender.close(base, config.net))
    net.confidence, net.classes = config.confidence, classes
    head = cast(nn.Conv2d, net.head)
    for part in (head.weight, head.bias):
        nn.init.zeros_(cast(Tensor, part))
    return net


def believed(chances: Tensor, confidence: float) -> Tensor:
    """Logits of *chances* drawn towards 1 / K, in single precision or better: finite whatever the mask, labels kept.

    Args:
        chances: Probabilities (B, K, H, W); of one channel that of the foreground, and K is two.
        confidence: How much of them counts, in (0, 1).

    >>> believed(torch.tensor([[[[1.0]]]]), 0.98)  # of one channel a logit: log(0.99 / 0.01)
    tensor([[[[4.5951]]]])
    >>> believed(torch.tensor([[[[1.0]], [[0.0]]]]), 0.98).flatten().exp()
    tensor([0.9900, 0.0100])
    """
    chances = at_least_single(chances)
    classes = max(2, chances.shape[1])
    drawn = confidence * chances + (1 - confidence) / classes
    return drawn.logit() if chances.shape[1] == 1 else drawn.log()


def found_by(before: object, image: Tensor, channels: int) -> Step:
    """The look *before* as *image* (B, C, H, W) finds it, in its precision and on its grid.

    Raises:
        InvalidType, InvalidInput: If it is no look, or one of other streams or of a state of other channels.
    """
    found = check_fits(before, image, channels).to(at_least_single(image).dtype)
    return found if found.size == size_of(image) else found.resized(size_of(image), size_of(image))


def begun_from(net: Mender, state: Tensor) -> Step:
    """A look to go on from, of the net's own *state* (B, S, H, W), of which zeros are a first look's.

    >>> net = build_mender(Repair(steps=2, width=4, channels=1), in_channels=3, classes=1).eval()
    >>> shown = torch.rand(1, 4, 8, 8)
    >>> before = begun_from(net, torch.zeros(1, 5, 8, 8))
    >>> torch.equal(next(net.iterate(shown, 1, before=before)).state, next(net.iterate(shown, 1)).state)
    True
    """
    known = state.new_zeros(len(state), net.classes, *size_of(state))
    return Step(0, size_of(state), Turned(torch.cat([known, state], 1)), None, net._answer)
