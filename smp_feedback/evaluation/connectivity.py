"""Whether a mask stays connected where the truth does: clDice, Betti numbers, and breaks along the truth's centre line.

Of masks in two dimensions. The foreground is 8-connected and the background 4-connected: pixels of a structure that
touch at a corner hang together, and background that does so is parted by them. What is counted is scikit-image's
(extra ``topology``): ``skeletonize``, ``label`` and ``euler_number``.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from smp_feedback.checks import check_number
from smp_feedback.errors import InvalidInput, require
from smp_feedback.evaluation.connectivity_names import PER_LENGTH
from smp_feedback.ops.betti import Betti as Betti  # handed on

Mask = NDArray[np.bool_]
TOLERANCE = 1.0
"""How far, in pixels, a prediction may lie beside the truth's centre line: as sure as a line of one pixel is drawn."""


class Traits(NamedTuple):
    """What of one mask is looked at, whatever it is compared with.

    Attributes:
        mask: (H, W).
        skeleton: Its centre lines (H, W).
        betti: Its Betti numbers.
    """

    mask: Mask
    skeleton: Mask
    betti: Betti


def cldice(pred: Any, truth: Any) -> float:
    """Centre-line Dice of two masks, in [0, 1]: the harmonic mean of topology precision and sensitivity.

    ``Tprec = |S_P ^ V_L| / |S_P|`` is the part of the prediction's skeleton that lies in the truth, ``Tsens = |S_L ^
    V_P| / |S_L|`` the part of the truth's that lies in the prediction.

    Args:
        pred: What was said: a mask (H, W) of bool, or of 0 and 1; a tensor or an array.
        truth: What is so.

    Returns:
        0 where one of the two is empty, NaN where both are: there is nothing to be connected.

    Raises:
        InvalidInput: For what is no mask, and masks of two shapes.
        MissingExtra: If scikit-image is not there.

    Source:
        Shit et al., *clDice* (2021, arXiv 2003.07311), equations 1 to 3.

    >>> line = np.zeros((5, 10), dtype=bool)
    >>> line[2] = True
    >>> gap = line.copy()
    >>> gap[2, 4:6] = False
    >>> cldice(gap, line)  # 2 * 1 * 0.8 / (1 + 0.8)
    0.888...
    """
    return cldice_of(traits_of(pred, "pred"), _beside(pred, truth))


def betti_numbers(mask: Any) -> Betti:
    """How many connected pieces *mask* has, and how many holes; (0, 0) of an empty one.

    Args:
        mask: (H, W) of bool, or of 0 and 1; what lies beyond its border is background.

    Raises:
        InvalidInput, MissingExtra: As `cldice`.

    >>> ring = np.ones((3, 3), dtype=bool)
    >>> ring[1, 1] = False
    >>> betti_numbers(ring), betti_numbers(np.eye(4))
    (Betti(components=1, loops=1), Betti(components=1, loops=0))
    """
    return _betti(mask_of(mask, "mask"))


def betti_errors(pred: Any, truth: Any) -> Betti:
    """By how much the two Betti numbers differ, each >= 0; (0, 0) of two empty masks.

    Args:
        pred: What was said, as of `cldice`.
        truth: What is so.

    Raises:
        InvalidInput, MissingExtra: As `cldice`.

    >>> betti_errors(np.eye(4), np.array([[1, 0, 1, 0]] * 4))
    Betti(components=1, loops=0)
    """
    said, so = mask_of(pred, "pred"), mask_of(truth, "truth")
    _check_alike(said, so)
    return betti_difference(_betti(said), _betti(so))


def breaks_per_length(pred: Any, truth: Any, *, tolerance: float = TOLERANCE) -> float:
    """Breaks of *pred* along the centre line of *truth*, for 1000 pixels of that line.

    A pixel of the truth's skeleton is covered where the prediction has a pixel no further than *tolerance* away. What
    is not covered falls into 8-connected pieces. One is a break where it parts what is covered: where covered pixels
    of the skeleton touch it in two places or more (a gap in a line, a ring cut open, a junction that is missed: one
    each). One that touches them in a single place only shortens an end, and is none. One that touches them nowhere is
    a break, too: a whole component that was missed.

    Args:
        pred: What was said, as of `cldice`.
        truth: What is so.
        tolerance: In pixels, >= 0; gaps up to twice as long go unseen.

    Returns:
        NaN of an empty truth, which has no length; of an empty prediction the components of the truth's skeleton.

    Raises:
        InvalidInput, MissingExtra: As `cldice`.
        InvalidType, InvalidValue: For another tolerance.

    >>> line = np.zeros((3, 100), dtype=bool)
    >>> line[1] = True
    >>> cut = line.copy()
    >>> cut[:, 30:40] = cut[:, 60:70] = cut[:, 95:] = False  # two gaps, and an end that is too short
    >>> breaks_per_length(cut, line)
    20.0
    """
    check_number("tolerance", tolerance, least=0)
    return breaks_of(mask_of(pred, "pred"), _beside(pred, truth), tolerance)


def traits_of(mask: Any, name: str) -> Traits:
    """The `Traits` of *mask*; *name* is what an error calls it.

    >>> bool(traits_of(np.eye(4), "mask").skeleton.diagonal().all())  # a line of one pixel is its own
    True
    """
    checked = mask_of(mask, name)
    from skimage.morphology import skeletonize

    return Traits(checked, np.asarray(skeletonize(checked), dtype=bool), _betti(checked))


def cldice_of(pred: Traits, truth: Traits) -> float:
    """As `cldice`.

    A mask of some pixels has a skeleton of some: scikit-image's keeps each component and each hole.
    """
    if not pred.mask.any() or not truth.mask.any():
        return math.nan if pred.mask.any() == truth.mask.any() else 0.0
    precision = float((pred.skeleton & truth.mask).sum() / pred.skeleton.sum())
    sensitivity = float((truth.skeleton & pred.mask).sum() / truth.skeleton.sum())
    both = precision + sensitivity
    return 2 * precision * sensitivity / both if both else 0.0


def breaks_of(pred: Mask, truth: Traits, tolerance: float = TOLERANCE) -> float:
    """As `breaks_per_length`."""
    length = int(truth.skeleton.sum())
    return (
        PER_LENGTH * _breaks(truth.skeleton & ~_near(pred, tolerance), truth.skeleton) / length if length else math.nan
    )


def mask_of(mask: Any, name: str) -> Mask:
    """*mask* as an array of bool (H, W).

    Raises:
        InvalidInput: If it has another number of axes, or holds something else than 0 and 1.
        MissingExtra: If scikit-image is not there.
    """
    require("skimage", extra="topology")
    found = np.asarray(mask.detach().cpu() if isinstance(mask, Tensor) else mask)
    if found.ndim != 2:
        raise InvalidInput(f"{name} has the shape {found.shape}: expected a mask (H, W).")
    if found.dtype != bool and not np.isin(found, (0, 1)).all():
        raise InvalidInput(f"{name} holds other values than 0 and 1: expected a mask, such as labels == 1.")
    return found.astype(bool)


def _beside(pred: Any, truth: Any) -> Traits:
    found = traits_of(truth, "truth")
    _check_alike(mask_of(pred, "pred"), found.mask)
    return found


def _check_alike(pred: Mask, truth: Mask) -> None:
    if pred.shape != truth.shape:
        raise InvalidInput(f"pred has the shape {pred.shape}, truth {truth.shape}: expected masks of one shape.")


def _betti(mask: Mask) -> Betti:
    from skimage.measure import euler_number

    components = _labels(mask)[1]
    return Betti(components, components - int(euler_number(mask, connectivity=2)))


def _labels(mask: Mask) -> tuple[NDArray[np.int64], int]:
    """The 8-connected pieces of *mask*, numbered from 1, and how many there are."""
    from skimage.measure import label

    found, many = label(mask, connectivity=2, return_num=True)
    return found, int(many)


def betti_difference(one: Betti, other: Betti) -> Betti:
    """By how much they differ, each >= 0.

    >>> betti_difference(Betti(1, 3), Betti(2, 0))
    Betti(components=1, loops=3)
    """
    return Betti(*(abs(a - b) for a, b in zip(one, other, strict=True)))


def _near(mask: Mask, tolerance: float) -> Mask:
    """Where a pixel of *mask* is no further than *tolerance*."""
    from scipy.ndimage import distance_transform_edt

    if not mask.any():
        return mask
    return np.asarray(distance_transform_edt(~mask) <= tolerance, dtype=bool)


def _breaks(missed: Mask, skeleton: Mask) -> int:
    """Pieces of *missed* that covered pixels of *skeleton* touch in no place, or in two and more."""
    pieces, many = _labels(missed)
    covered, count = skeleton & ~missed, 0
    for piece, (rows, columns) in zip(range(1, many + 1), _boxes(pieces), strict=True):
        inside = pieces[rows, columns] == piece
        count += _labels(_grown(inside) & covered[rows, columns])[1] != 1
    return count


def _boxes(pieces: NDArray[np.int64]) -> list[tuple[slice, slice]]:
    """Where each piece lies, with a pixel around it."""
    from scipy.ndimage import find_objects

    return [
        (slice(max(0, rows.start - 1), rows.stop + 1), slice(max(0, columns.start - 1), columns.stop + 1))
        for rows, columns in find_objects(pieces)
    ]


def _grown(mask: Mask) -> Mask:
    """*mask* and its eight neighbours."""
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(mask, np.ones((3, 3), dtype=bool)), dtype=bool)
