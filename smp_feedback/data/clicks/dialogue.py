"""Click, answer, click again: a simulated user and a model, round by round."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smp_feedback.config.clicks import ClickConfig
from smp_feedback.data.clicks.discs import discs
from smp_feedback.data.clicks.listening import Heard, listen
from smp_feedback.data.clicks.user import next_clicks, no_clicks
from smp_feedback.ops.maps import size_of


def dialogue(
    model: nn.Module,
    image: Tensor,
    truth: Tensor,
    how: ClickConfig,
    count: int,
    *,
    start: Tensor | None = None,
    sampled: bool = False,
    free: int = 0,
    forgotten: Collection[int] = (),
) -> Iterator[Heard]:
    """What *model* answers to each of *count* clicks, each made up from the answer before.

    Args:
        model: See :func:`smp_feedback.data.clicks.listening.listen`.
        image: (B, C, H, W), normalised as the model wants it.
        truth: (B, H, W): 1 is the object, 0 is not, any other label counts for nothing.
        how: What the model is shown beside the image.
        count: Clicks on each image; one without error gets no more of them, and is looked at all the same.
        start: (B, H, W) in [0, 1], the mask to begin with; None is an empty one.
        sampled: Whether clicks are drawn, to train with, see :func:`next_clicks`.
        free: Of the clicks, the first whose answers carry no gradient.
        forgotten: The numbers of clicks, from 0, at which state and mask are dropped, so that the model learns to do
            without them; the clicks stay.

    >>> import smp_feedback as smpf
    >>> model = smpf.create("PlainConv", in_channels=5, classes=1, feedback="anytime")
    >>> image, truth = torch.rand(1, 3, 16, 16), torch.ones(1, 16, 16, dtype=torch.long)
    >>> [heard.step.index for heard in dialogue(model, image, truth, ClickConfig(), 3)]
    [0, 1, 2]
    """
    clicks, step = no_clicks(len(image), image.device), None
    mask: Tensor | None = image.new_zeros(truth.shape) if start is None else start.to(image)
    answer = torch.zeros_like(truth, dtype=torch.bool) if start is None else start > 0.5
    for k in range(count):
        clicks = next_clicks(truth, answer, clicks, sampled=sampled)
        if k in forgotten:
            step, mask = None, None
        if k == free > 0:
            torch.clear_autocast_cache()  # it may hold weights that were cast without a graph
        with torch.set_grad_enabled(torch.is_grad_enabled() and k >= free):
            heard = listen(model, image, clicks, how, before=step, mask=mask)
        step, mask, answer = heard.step, heard.chance.detach(), heard.object
        yield heard


def damaged(truth: Tensor) -> Tensor:
    """Masks as another model could have drawn them: the object with a bite taken out, a lump added, and moved a little.

    What is drawn is drawn by torch.

    Args:
        truth: (B, H, W): 1 is the object.

    Returns:
        float32 (B, H, W) of 0 and 1.
    """
    mask = truth == 1
    bite, lump = _disc_on(mask), _disc_on(~mask)
    side = min(truth.shape[-2:])
    by = [int(torch.randint(-(side // 24), side // 24 + 1, ())) for _ in range(2)]
    return shifted(((mask & ~bite) | lump).float(), *by)


def shifted(mask: Tensor, down: int, right: int) -> Tensor:
    """*mask* (B, H, W), so many pixels further down and to the right: what leaves the image is gone, 0 comes in.

    >>> shifted(torch.eye(3)[None], 1, -1).int().tolist()
    [[[0, 0, 0], [0, 0, 0], [1, 0, 0]]]
    """
    return F.pad(mask, (right, -right, down, -down))


def _disc_on(region: Tensor) -> Tensor:
    """On each image a disc around a pixel of *region*, of a radius from 1 pixel to a sixth of the side, both drawn."""
    flat, width = region.flatten(1), region.shape[-1]
    place = torch.multinomial((flat | ~flat.any(1, keepdim=True)).float(), 1)[:, 0]
    centre = torch.stack([place // width, place % width, torch.ones_like(place)], -1)
    radius = 1 + float(torch.rand(())) * min(region.shape[-2:]) / 6
    return discs(centre[:, None], size_of(region), radius)[:, 0].bool()
