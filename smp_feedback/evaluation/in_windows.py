"""The answers of a model in windows after several numbers of looks: all of one batch, as windows come one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from smp_feedback.loops.call import Looks
from smp_feedback.loops.steps import Step
from smp_feedback.loops.tiling.asking import Feed
from smp_feedback.loops.tiling.model import TiledModel

Answered = tuple[Looks, Tensor, Tensor]
"""How often was looked, the logits then, and how many looks each image had (B,)."""


@dataclass(frozen=True)
class WholeImages:
    """A model in windows whose state is stitched between looks, each window shown to it through *feed*.

    So it is looked through as any loop is.
    """

    model: TiledModel
    feed: Feed

    @property
    def feedback(self) -> Any:
        """That of the loop inside."""
        return self.model.opened.feedback

    def __call__(self, image: Tensor, steps: Looks) -> Tensor:
        """The last look's logits."""
        return cast(Tensor, self.model(image, steps, feed=self.feed))

    def iterate(self, image: Tensor, steps: Looks) -> Iterator[Step]:
        """Look by look."""
        return self.model.iterate(image, steps, feed=self.feed)


Asked = nn.Module | WholeImages
Answers = Callable[[Any, Tensor, Sequence[Looks], str], Iterator[Answered]]
"""What is answered, whatever looks: who, images, numbers of looks, task."""


def answers_in_windows(
    model: TiledModel, feed: Feed, image: Tensor, looks: Sequence[Looks], task: str, answers: Answers
) -> Iterator[Answered]:
    """*answers* of a model in windows, each of which goes through *feed*.

    Where logits are stitched, an image had as many looks as the slowest of its windows.
    """
    if model.stitch == "state":
        yield from answers(WholeImages(model, feed), image, looks, task)
        return
    had = list[list[Tensor]]()
    order = dict[Looks, None]()

    def answer(window: Tensor) -> Tensor:
        said = [*answers(model.opened, window, looks, task)]
        had.append([count for _, _, count in said])
        order.update((t, None) for t, _, _ in said)
        return torch.cat([logits for _, logits, _ in said], 1)

    parts = model.stitched(image, answer, feed=feed).chunk(len(looks), 1)
    for t, logits, counts in zip(order, parts, zip(*had, strict=True), strict=True):
        yield t, logits, torch.cat(counts).view(len(image), -1).amax(1)  # windows come image by image
