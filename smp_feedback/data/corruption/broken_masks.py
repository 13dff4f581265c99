"""Masks broken as a model might have them: structures cut through, spots that are not there, edges that have moved."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from smp_feedback.checks import check_whole
from smp_feedback.errors import InvalidInput

GAPS, SPOTS, SHIFTS = 4, 3, 2  # at most so many of each; one gap at least
REACH = 12  # a gap is longer than its structure is wide by up to the shorter side over this
LARGEST = 10  # a spot's radius is up to the shorter side over this
DEEPEST = 32  # pixels beyond which nobody asks how far a pixel is from the edge of its structure
FURTHEST = 2  # pixels by which an edge moves


def broken_mask(mask: Tensor, generator: torch.Generator, *, ignore_index: int | None = None) -> Tensor:
    """*mask*, broken: 1 to 4 gaps, up to 3 false spots, up to 2 windows in which all edges have moved by 1 or 2 pixels.

    A gap is a disc around a pixel of the middle of a structure, so large that it cuts through: what lies around shows
    there. Structures are of every class but the most frequent one, which is their ground. Pure: the same generator
    state gives the same mask, and the global random numbers are neither used nor moved.

    Args:
        mask: Labels (H, W), int64.
        generator: Of the CPU, as is what is drawn.
        ignore_index: Label of pixels that stay as they are, and that nothing is filled with.

    Returns:
        Labels (H, W), like *mask*.

    Raises:
        InvalidInput: If *mask* is no map (H, W) of whole numbers.

    >>> line = torch.zeros(9, 9, dtype=torch.long)
    >>> line[4] = 1
    >>> cut = broken_mask(line, torch.Generator().manual_seed(0))
    >>> cut.shape, bool((cut[4] == 0).any())
    (torch.Size([9, 9]), True)
    """
    if mask.ndim != 2 or mask.is_floating_point():
        raise InvalidInput(f"mask of shape {tuple(mask.shape)} and {mask.dtype}: expected labels (H, W), int64.")
    void = torch.zeros_like(mask, dtype=torch.bool) if ignore_index is None else mask == ignore_index
    known = mask[~void]
    if not known.numel():
        return mask.clone()
    labels, counts = known.unique(return_counts=True)  # type: ignore[no-untyped-call]
    ground, found = labels[counts.argmax()], mask.masked_fill(void, int(labels[counts.argmax()]))
    for _ in range(_draw(0, SHIFTS, generator)):
        found = _shifted(found, generator)
    for _ in range(_draw(0, SPOTS, generator)):
        found = _spotted(found, labels, generator)
    structures = labels[labels != ground]
    for _ in range(_draw(1, GAPS, generator) if len(structures) else 0):
        found = _cut(found, structures[_draw(0, len(structures) - 1, generator)], ground, generator)
    return torch.where(void, mask, found)


def depths(region: Tensor, deepest: int = DEEPEST) -> Tensor:
    """How many pixels each of a *region*, bool (H, W), is from what is outside, in steps of a king, up to *deepest*.

    The image's border is not outside.

    >>> depths(torch.tensor([[0, 1, 1, 1, 0]]).bool())
    tensor([[0, 1, 2, 1, 0]])
    """
    check_whole("deepest", deepest)
    left, depth = region.float()[None, None], region.long()
    for _ in range(deepest - 1):
        left = 1 - F.max_pool2d(1 - left, 3, 1, 1)  # padded with -inf: the border takes nothing away
        if not left.any():
            break
        depth = depth + left[0, 0].long()
    return depth


def as_softened(labels: Tensor, channels: int, certainty: float, ignore_index: int | None = None) -> Tensor:
    """*labels* (H, W) as probabilities (channels, H, W) of a model that is as sure as *certainty*, in [0, 1].

    Where a label is ignored all classes are as likely; one channel is the chance of class 1 of two.

    >>> as_softened(torch.tensor([[0, 1, 255]]), 1, 0.5, 255)
    tensor([[[0.2500, 0.7500, 0.5000]]])
    """
    classes = max(2, channels)
    void = torch.zeros_like(labels, dtype=torch.bool) if ignore_index is None else labels == ignore_index
    sure = F.one_hot(labels.masked_fill(void, 0), classes).movedim(-1, 0).float()
    chances = torch.where(void, 1 / classes, certainty * sure + (1 - certainty) / classes)
    return chances[1:] if channels == 1 else chances


def _cut(mask: Tensor, structure: Tensor, ground: Tensor, generator: torch.Generator) -> Tensor:
    region = mask == structure
    depth = depths(region)
    middle = region & (depth == F.max_pool2d(depth.float()[None, None], 3, 1, 1)[0, 0].long())
    places = middle.nonzero()
    if not len(places):
        return mask
    place = places[_draw(0, len(places) - 1, generator)]
    reach = max(2, min(mask.shape) // REACH)
    radius = int(depth[place[0], place[1]]) + reach * float(torch.rand((), generator=generator))
    around = _disc(mask, place, 2 * radius + 1) & (mask != structure)
    fill = mask[around].mode().values if around.any() else ground
    return torch.where(region & _disc(mask, place, radius), fill, mask)


def _spotted(mask: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    place = torch.stack([torch.tensor(_draw(0, side - 1, generator)) for side in mask.shape])
    others = labels[labels != mask[place[0], place[1]]]
    if not len(others):
        return mask
    largest = max(1.0, min(mask.shape) / LARGEST)
    radius = 1 + (largest - 1) * float(torch.rand((), generator=generator))
    return torch.where(_disc(mask, place, radius), others[_draw(0, len(others) - 1, generator)], mask)


def _shifted(mask: Tensor, generator: torch.Generator) -> Tensor:
    """All edges in a window, of a sixth to half of each side, moved alike."""
    moved = mask.clone()
    window, source = [], []
    for side in mask.shape:
        length = _draw(max(1, side // 6), max(1, side // 2), generator)
        first, by = _draw(0, side - length, generator), _draw(-FURTHEST, FURTHEST, generator)
        window.append(slice(first, first + length))
        source.append((torch.arange(first, first + length) + by).clamp(0, side - 1))
    moved[window[0], window[1]] = mask[source[0][:, None], source[1]]
    return moved


def _disc(mask: Tensor, place: Tensor, radius: float) -> Tensor:
    rows, columns = (torch.arange(side) - int(at) for side, at in zip(mask.shape, place, strict=True))
    return rows.square()[:, None] + columns.square() <= radius**2


def _draw(least: int, most: int, generator: torch.Generator) -> int:
    return int(torch.randint(least, most + 1, (), generator=generator))
