"""Connectivity of every class in every image of a batch, once for each mask and each pair that is another."""

from __future__ import annotations

import math
from collections import OrderedDict
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from smp_feedback.evaluation.cells import Cells, masks_in
from smp_feedback.evaluation.connectivity import Mask, Traits, betti_difference, breaks_of, cldice_of, traits_of
from smp_feedback.evaluation.named_metrics import TOPOLOGY
from smp_feedback.ops.reading import MULTILABEL

KEPT = 512
"""Masks, and pairs, that are remembered: those of one batch, of a few classes, in succession of looks and models."""
PIXELS = 2**26
"""Of all masks that are remembered, each with its skeleton: two bytes a pixel."""


class Topology:
    """Measures one batch after another.

    A look that answers as one before, another model that does, and the truth of all of them are not measured again.

    Args:
        classes: Number of classes.
        ignore_index: A class that is not measured, or any other label.
        task: ``segmentation``, of which class 0, the background, is not measured, or ``multilabel``, of which each is.

    >>> from smp_feedback.evaluation.cells import cells_of
    >>> so = torch.eye(5, dtype=torch.long)[None]
    >>> said = so.clone()
    >>> said[0, 2, 2] = 0
    >>> found = Topology(2, None, "segmentation").of(cells_of(said, so, 2, None))
    >>> found["betti0_error"].tolist(), found["true_components"].tolist()
    ([[nan, 1.0]], [[nan, 1.0]])
    """

    def __init__(self, classes: int, ignore_index: int | None, task: str) -> None:
        self.classes, self.ignore_index, self.task = classes, ignore_index, task
        self.left_out = () if task == MULTILABEL else (0, ignore_index)
        self._traits: OrderedDict[bytes, Traits] = OrderedDict()
        self._values: OrderedDict[tuple[bytes, bytes], dict[str, float]] = OrderedDict()

    def of(self, cells: Cells) -> dict[str, Tensor]:
        """Of each metric of connectivity the value of each class in each image (B, classes), NaN where it has none.

        A class that is in neither answer nor truth has no clDice and no breaks, and Betti numbers of 0, rightly so. An
        image that is void as a whole has none of all. What is not scored is background, in the answer and in the truth.
        The masks are measured on the CPU, so that a device is waited for.
        """
        said, so = (part.cpu().numpy() for part in masks_in(cells, self.classes, self.task))
        found = torch.full((len(TOPOLOGY), *said.shape[:2]), math.nan)
        scored = cells.scored.flatten(1).any(1).tolist()
        for image in range(len(said)):
            for k in range(self.classes):
                if k not in self.left_out and scored[image]:
                    values = self._compared(said[image, k], so[image, k])
                    found[:, image, k] = torch.tensor([values[name] for name in TOPOLOGY])
        return dict(zip(TOPOLOGY, found, strict=True))

    def __reduce__(self) -> tuple[type[Topology], tuple[int, int | None, str]]:
        return Topology, (self.classes, self.ignore_index, self.task)  # to another process without what it remembers

    def _compared(self, said: Mask, so: Mask) -> dict[str, float]:
        """As `compared`, of two masks (H, W), or as it was the last time."""
        keys = _key(said), _key(so)
        found = self._values.pop(keys, None)
        if found is None:
            found = compared(*(self._traits_of(key, mask) for key, mask in zip(keys, (said, so), strict=True)))
        self._values[keys] = found
        if len(self._values) > KEPT:
            self._values.popitem(last=False)
        return found

    def _traits_of(self, key: bytes, mask: Mask) -> Traits:
        """Those of *mask*, which are kept: the last ones, of as many pixels as may be, and these at least."""
        found = self._traits.pop(key, None)
        self._traits[key] = found = traits_of(mask, "mask") if found is None else found
        pixels = sum(one.mask.size for one in self._traits.values())
        while len(self._traits) > 1 and (pixels > PIXELS or len(self._traits) > KEPT):
            pixels -= self._traits.popitem(last=False)[1].mask.size
        return found


def compared(said: Traits, so: Traits) -> dict[str, float]:
    """Every metric of connectivity of one mask beside the truth, by name.

    >>> from smp_feedback.evaluation.connectivity import traits_of
    >>> line = traits_of(np.eye(4), "mask")
    >>> found = compared(line, line)
    >>> [name for name, value in found.items() if value]
    ['cldice', 'components', 'true_components']
    """
    errors = betti_difference(said.betti, so.betti)
    return {
        "cldice": cldice_of(said, so),
        "betti0_error": errors.components,
        "betti1_error": errors.loops,
        "breaks": breaks_of(said.mask, so),
        "components": said.betti.components,
        "loops": said.betti.loops,
        "true_components": so.betti.components,
        "true_loops": so.betti.loops,
    }


def _key(mask: Mask) -> bytes:
    """What tells *mask* (H, W) from others, in a few bytes."""
    return blake2b(np.packbits(mask).tobytes() + repr(mask.shape).encode(), digest_size=16).digest()
