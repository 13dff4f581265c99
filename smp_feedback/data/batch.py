"""Batches as people have them: tuples or dictionaries, and targets of any type that holds whole numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from smp_feedback.errors import InvalidInput
from smp_feedback.ops.reading import CLASSIFICATION, MULTILABEL, SEGMENTATION

IMAGE = "image"
MASK, LABEL, TARGET, INDEX = "mask", "label", "target", "index"
MOST = 5  # values that an error names
OF_CLIPS = 5  # axes of clips: (B, T, C, H, W)
EXPECTED = "expected (image, target, ...), or a dictionary of 'image' and one of 'mask', 'label', 'target'"


def pair_of(batch: Any, task: str | None = None, *, narrow: bool = False) -> tuple[Tensor, Tensor]:
    """The images and the targets of *batch*, the targets as int64.

    Args:
        batch: (image, target, ...), or a dictionary with ``image`` and ``mask``, ``label`` or ``target``; of both a
            mask and a label, the one that the task asks for. Of clips (B, T, C, H, W) targets have the axis T, too.
        task: ``segmentation``, ``multilabel`` or ``classification``; None where nobody knows yet.
        narrow: Whether targets that are bytes stay such, for who widens a part at a time; those of clips do not.

    Raises:
        InvalidInput: If there is no such pair, or the target holds no whole numbers.

    >>> image, target = pair_of({"image": torch.zeros(1, 3, 2, 2), "mask": torch.ones(1, 1, 2, 2)})
    >>> target
    tensor([[[1, 1],
             [1, 1]]])
    """
    image, target = image_of(batch), target_of(batch, task)
    if not is_clips(image):
        return image, read_target(target, task, narrow=narrow)
    frames = torch.as_tensor(target)
    if frames.shape[:2] != image.shape[:2]:
        raise InvalidInput(
            f"clips of shape {tuple(image.shape)} and target of shape {tuple(frames.shape)}: expected a target for "
            f"each frame, {tuple(image.shape[:2])} of them; one that nobody labelled is all ignore_index."
        )
    read = read_target(frames.flatten(0, 1), task)
    return image, read.reshape(*image.shape[:2], *read.shape[1:])


def is_clips(image: Any) -> bool:
    """Whether *image* holds clips (B, T, C, H, W), and not images (B, C, H, W)."""
    return isinstance(image, Tensor) and image.ndim == OF_CLIPS


def image_of(batch: Any) -> Tensor:
    """The images of *batch*: of a tensor, itself; of a dictionary, ``image``; of a sequence, the first.

    Raises:
        InvalidInput: If there is none.
    """
    if isinstance(batch, Tensor):
        return batch
    if isinstance(batch, Mapping) and IMAGE in batch:
        return cast(Tensor, batch[IMAGE])
    if isinstance(batch, Sequence) and not isinstance(batch, str) and batch:
        return cast(Tensor, batch[0])
    raise InvalidInput(f"{_said(batch)}: {EXPECTED}.")


def target_of(batch: Any, task: str | None = None) -> Any:
    """The targets of *batch*, as they are; see :func:`pair_of`.

    Raises:
        InvalidInput: If there are none.
    """
    if isinstance(batch, Mapping):
        keys = (LABEL, MASK, TARGET) if task == CLASSIFICATION else (MASK, LABEL, TARGET)
        for key in keys:
            if key in batch:
                return batch[key]
    elif isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch) > 1:
        return batch[1]
    raise InvalidInput(f"{_said(batch)}: {EXPECTED}.")


def indices_of(batch: Any) -> Tensor | None:
    """The places of a batch's items in their dataset: what follows the target, or ``index``; None if nobody says."""
    found = batch.get(INDEX) if isinstance(batch, Mapping) else batch[-1] if len(batch) > 2 else None
    return found if isinstance(found, Tensor) else None


def read_target(given: Any, task: str | None = None, *, narrow: bool = False) -> Tensor:
    """*given* as int64, or bytes where it may be *narrow*: labels (B,), masks (B, H, W), ``multilabel`` (B, C, H, W).

    Bytes, other whole numbers and truth values are converted, and an axis of one channel is left out. So are floating
    point numbers that are whole, which is seen to on a CPU. Elsewhere a look would wait for the device: training takes
    one at the first batch, see :func:`check_whole_numbers`.

    Raises:
        InvalidInput: If it holds other numbers, with some of them.

    >>> read_target(torch.tensor([[[0.0, 255.0]]])), read_target(torch.tensor([True, False]))
    (tensor([[[  0, 255]]]), tensor([1, 0]))
    >>> read_target(torch.tensor([[[0.5]]]))
    Traceback (most recent call last):
    smp_feedback.errors.InvalidInput: target of torch.float32 holds 0.5: expected class indices, whole numbers.
    """
    target: Tensor = torch.as_tensor(given)
    if target.is_complex():
        raise InvalidInput(f"target of {target.dtype}: expected class indices, whole numbers.")
    if target.device.type == "cpu":
        check_whole_numbers(target)
    target = target if target.dtype == torch.int64 or (narrow and target.dtype == torch.uint8) else target.long()
    drops = task != MULTILABEL if target.ndim == 4 else target.ndim == 2 and task in (None, CLASSIFICATION)
    return target[:, 0] if drops and target.shape[1] == 1 else target


def check_whole_numbers(target: Any) -> None:
    """A *target* of floating point numbers holds whole ones; on a device, this waits for it.

    Raises:
        InvalidInput: With some that are not.
    """
    target = torch.as_tensor(target)
    if target.is_floating_point() and (strange := target != target.round()).any():  # NaN is not itself
        some = sorted(set(target[strange].flatten().tolist()))[:MOST]
        found = ", ".join(f"{value:.6g}" for value in some)
        raise InvalidInput(f"target of {target.dtype} holds {found}: expected class indices, whole numbers.")


def check_labels(target: Tensor, classes: int, ignored: tuple[int, ...] = (), task: str = SEGMENTATION) -> None:
    """An int64 *target* holds labels of *classes* classes, for ``multilabel`` 0 and 1, or *ignored* ones.

    On a device, this waits for it.

    Raises:
        InvalidInput: With some others that it holds.

    >>> check_labels(torch.tensor([0, 2, 255]), 3, (255,))
    """
    least, most = (int(end) for end in target.aminmax()) if target.numel() else (0, 0)
    last = 1 if task == MULTILABEL else classes - 1
    if least >= 0 and most <= last:
        return
    strange = target[(target < 0) | (target > last)]
    others = [label for label in sorted(set(strange.tolist())) if label not in ignored]
    if others:
        found = ", ".join(map(str, others[:MOST])) + (", ..." if len(others) > MOST else "")
        hint = " Of masks of 0 and 255, 255 is class 1 by values={255: 1}." if others == [255] else ""
        raise InvalidInput(
            f"target holds {found}: expected labels 0 to {last}{_or(ignored)}; labels that shall not count are "
            f"ignore_index.{hint}"
        )


def _or(ignored: tuple[int, ...]) -> str:
    return "".join(f", or {label} for void" for label in ignored if label != -100)  # which torch ignores by itself


def _said(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"a batch of {', '.join(map(repr, batch)) or 'nothing'}"
    return (
        f"a batch of {len(batch)} parts" if isinstance(batch, Sequence) else f"a batch that is a {type(batch).__name__}"
    )
