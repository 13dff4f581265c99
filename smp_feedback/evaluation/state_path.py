"""Whether a loop comes to rest: the state's path, and what the prediction makes of it (arXiv 2507.10143)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from smp_feedback.checks import check_choice, check_steps
from smp_feedback.data.batch import image_of
from smp_feedback.data.feeding import feeding
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.evaluation.asking import device_of
from smp_feedback.evaluation.results import VERSION, Result
from smp_feedback.loops.base import FeedbackModel, check_image
from smp_feedback.ops.reading import SEGMENTATION, TASKS, labels_of
from smp_feedback.surgery.extension import evaluating, looping_in

CHUNK = 1 << 16  # of a state's values, in double precision at once


class StatePath(NamedTuple):
    """One image's way through the loop, T looks long.

    Attributes:
        change: ``||h_t - h_{t-1}|| / ||h_t||`` of each look (T,); the first is 1 where h_0 = 0.
        flips: Share of pixels whose class is not what the look before said (T - 1,), from look 2 on.
        distance: ``||h_t - h_T|| / ||h_T||`` (T,); the last is 0.
        path: The states on their first two principal axes (T, 2), in units of the state.
        explained: Share of the path's variance along either axis (2,).
    """

    change: Tensor
    flips: Tensor
    distance: Tensor
    path: Tensor
    explained: Tensor


def stability(
    model: FeedbackModel, images: Sequence[Tensor] | Dataset[Any], *, looks: int = 30, task: str = SEGMENTATION
) -> Result:
    """Run *model* on each image for many looks, and see whether it settles.

    Args:
        model: A looping model, evaluated where its weights are; left in its mode.
        images: Each (C, H, W), shown as it is; or a dataset, whose images are shown as `evaluate` shows them.
        looks: T; the state after it stands for the one at rest. With ``dynamics="decay"`` every state comes to
            rest, as corrections fade; with ``leaky`` only a loop that contracts does.
        task: How answers are read: ``multilabel`` channel by channel, any other by the largest.

    Returns:
        A result of kind ``stability``: ``looks``, and the fields of `StatePath` with one row for each image.

    Raises:
        InvalidType: If *model* does not loop.
        InvalidValue: If there is no image, or *looks* < 2.

    Memory: the states of one image, T times (S + K) x h x w values.
    """
    model = cast(FeedbackModel, looping_in(model))
    if not isinstance(model, FeedbackModel):
        raise InvalidType(f"model is a {type(model).__name__}: expected a looping model, made by create or wrap.")
    if check_steps(looks) < 2:
        raise InvalidValue(f"looks={looks}: expected at least 2, or there is no path.")
    check_choice("task", task, TASKS)
    items = cast(Any, images)
    if not len(items):
        raise InvalidValue("images is empty: expected at least one image (C, H, W).")
    feed = feeding(model, images)
    with evaluating(model), torch.inference_mode():
        paths = [path_of(model, feed(image_of(item)[None].to(device_of(model))), looks, task) for item in items]
    columns = {name: [getattr(path, name).tolist() for path in paths] for name in StatePath._fields}
    return {"kind": "stability", "version": VERSION, "looks": looks, **columns}


def path_of(model: FeedbackModel, image: Tensor, looks: int, task: str = SEGMENTATION) -> StatePath:
    """The path of one image (1, C, H, W)."""
    check_image(image, model.feedback.in_channels)
    states, labels, changes = [], [], []
    for step in model.iterate(image, steps=looks):
        states.append(step.state[0].flatten())
        labels.append(labels_of(step.logits, task)[0])
        changes.append(step.change[0])
    rest = looks - len(states)  # a loop with a tolerance stops where it settles
    change = torch.stack(changes + [torch.zeros_like(changes[0])] * rest)
    flips = [(new != old).float().mean() for old, new in pairwise(labels)]
    flips += [torch.zeros_like(changes[0])] * rest
    trail = torch.stack(states + states[-1:] * rest)
    distance = (trail - trail[-1]).norm(dim=1) / trail[-1].norm().clamp_min(torch.finfo(trail.dtype).tiny)
    path, explained = principal_path(trail)
    return StatePath(change.cpu(), torch.stack(flips).cpu(), distance.cpu(), path, explained)


def principal_path(states: Tensor, axes: int = 2) -> tuple[Tensor, Tensor]:
    """Principal component analysis of a path: T points in D dimensions, seen along their widest directions.

    The singular values of the centred (T, D) matrix X come from X X^T, which is (T, T) however large a state is,
    summed in double precision. An axis points so that the point farthest out on it is positive.

    Args:
        states: (T, D), T >= 2.
        axes: How many directions, at most T.

    Returns:
        Coordinates (T, axes), and each axis's share of the variance (axes,), 0 where nothing moves; both in double
        precision on the CPU.

    >>> path, explained = principal_path(torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]))
    >>> path[:, 0].abs().tolist(), explained.round(decimals=4).tolist()
    ([5.0, 0.0, 5.0], [1.0, 0.0])
    """
    gram = torch.zeros(len(states), len(states), dtype=torch.float64)
    for part in torch.split(states, CHUNK, dim=1):
        centred = part.cpu().double()
        centred -= centred.mean(0)
        gram += centred @ centred.T
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0).clamp_min(0)[:axes], vectors.flip(1)[:, :axes]
    far = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    total = gram.diagonal().sum()
    return vectors * far.sign() * values.sqrt(), values / total if total > 0 else torch.zeros_like(values)
