"""What has been met of one split, item by item, and what that comes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from smp_feedback.data.inspection.contract import MULTILABEL
from smp_feedback.data.inspection.counting import occurrences
from smp_feedback.data.inspection.report import ClassFacts, Size, SplitReport
from smp_feedback.data.items import inherited


class ItemTally:
    """Counts of the items of *dataset* that were met.

    >>> tally = ItemTally([], classes=("ground", "tree"), ignore_index=255)
    >>> tally.add("a.png", torch.zeros(3, 2, 2), torch.tensor([[0, 0], [1, 255]]))
    >>> [(one.name, one.pixels, round(one.share, 3)) for one in tally.class_facts()]
    [('ground', 2, 0.667), ('tree', 1, 0.333)]
    """

    def __init__(self, dataset: Any, *, classes: Sequence[str] | None = None, ignore_index: int | None = None) -> None:
        told, ignored = inherited(dataset, "classes"), inherited(dataset, "ignore_index")
        names = classes if classes is not None else told if isinstance(told, (tuple, list)) else ()
        self.names = tuple(map(str, names))
        self.ignored = ignored if isinstance(ignored, int) and ignore_index is None else ignore_index
        self.multilabel = inherited(dataset, "task") == MULTILABEL
        self.items, self.met, self.labels = len(dataset), 0, 0
        self.pixels = torch.zeros(len(self.names), dtype=torch.int64)
        self.images, self.counted = torch.zeros_like(self.pixels), torch.zeros_like(self.pixels)
        self.void: list[str] = []
        self.constant: list[str] = []
        self.sizes: Counter[Size] = Counter()
        self.channels: Counter[int] = Counter()
        self.examples: dict[Size, str] = {}
        self.of_channels: dict[int, str] = {}
        self.seen, self.all = 0, 0  # targets' values that count, and all of them
        self.low, self.high = float("inf"), float("-inf")

    def add(self, name: str, image: Tensor, target: Tensor) -> None:
        """An item that can be used."""
        self.add_image(name, image)
        self.add_target(name, target)

    def add_image(self, name: str, image: Tensor) -> None:
        """Its size and the range of its values."""
        low, high, size = float(image.min()), float(image.max()), (int(image.shape[-2]), int(image.shape[-1]))
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.sizes[size] += 1
        self.channels[int(image.shape[0])] += 1
        self.examples.setdefault(size, name)
        self.of_channels.setdefault(int(image.shape[0]), name)
        if low == high and image[0].numel() > 1:
            self.constant.append(name)

    def add_target(self, name: str, target: Tensor) -> None:
        """How much of each class is there, and how much counts."""
        counts = torch.ones_like(target, dtype=torch.bool) if self.ignored is None else target != self.ignored
        seen = int(counts.sum())
        self.met, self.labels = self.met + 1, self.labels + (target.ndim == 0)
        self.seen, self.all = self.seen + seen, self.all + target.numel()
        if not seen:
            self.void.append(name)
        if self.names:
            found = occurrences(target, len(self.names), self.ignored, multilabel=self.multilabel)
            self.pixels += found
            self.images += found > 0
            self.counted += counts.flatten(1).sum(1) if self.multilabel else seen

    @property
    def task(self) -> str:
        """What the targets are."""
        return MULTILABEL if self.multilabel else "classification" if self.labels else "segmentation"

    def class_facts(self) -> tuple[ClassFacts, ...]:
        """How often each class is."""
        rows = zip(self.names, self.pixels.tolist(), self.images.tolist(), self.counted.tolist(), strict=True)
        return tuple(
            ClassFacts(
                name=name,
                pixels=pixels,
                images=images,
                share=pixels / max(1, counted),
                image_share=images / max(1, self.met),
            )
            for name, pixels, images, counted in rows
        )

    def report(self, **more: Any) -> SplitReport:
        """All of it; *more* is what the items alone do not say."""
        read = bool(self.sizes)
        return SplitReport(
            items=self.items,
            looked=self.met,
            task=self.task,
            sizes=dict(self.sizes.most_common()),
            channels=dict(self.channels.most_common()),
            examples=self.examples,
            of_channels=self.of_channels,
            measured=sum(self.sizes.values()),
            low=self.low if read else None,
            high=self.high if read else None,
            classes=self.class_facts(),
            ignored=1 - self.seen / max(1, self.all) if self.met else 0.0,
            ignore_index=self.ignored,
            void=tuple(self.void),
            constant=tuple(self.constant),
            **more,
        )
