"""Pictures of how a model came to its answer, and of how sure it is: a row a sample, their titles above the first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from smp_feedback.config.data import DataConfig
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation.asking import device_of
from smp_feedback.evaluation.restoration_loop import RESTORED, images_of, shown
from smp_feedback.evaluation.score_loop import ANSWERS, answers
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.loops.repair.model import RepairModel
from smp_feedback.loops.restoration.model import RestorationModel
from smp_feedback.loops.score.model import ScoreModel
from smp_feedback.models.normalisation import given_config
from smp_feedback.ops.maps import masks_of
from smp_feedback.ops.reading import chances_of, labels_of
from smp_feedback.plotting.plot import save_figure
from smp_feedback.plotting.style import PALETTE, styled
from smp_feedback.surgery.extension import evaluating, looping_in

VOID = (255, 255, 255)
CHANGES = ("#009E73", "#D55E00", "#999999")  # mended, spoilt, wrong in another way
MAP = "gray"  # reads the same in print and in every colour vision
Panel = tuple[str, NDArray[Any]]  # a title, and what stands below it
EXAMPLES = 4
Item = TypeVar("Item")


def colours(mask: Tensor, classes: int, palette: Sequence[str] = PALETTE) -> NDArray[np.uint8]:
    """A label map (H, W) as RGB (H, W, 3); labels that are no class are white.

    >>> colours(torch.tensor([[0, 255]]), classes=2).tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    """
    rgb = [tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in palette]
    table = np.array([*(rgb[i % len(rgb)] for i in range(classes)), VOID], dtype=np.uint8)
    known = torch.where((mask >= 0) & (mask < classes), mask, classes)
    painted: NDArray[np.uint8] = table[known.cpu().numpy()]
    return painted


def answered(logits: Tensor, classes: int) -> NDArray[np.uint8]:
    """The labels that *logits* (1, classes, H, W) give, as `colours`."""
    return colours(labels_of(logits)[0], classes)


def refinement(
    models: Mapping[str, nn.Module], samples: Sequence[tuple[Tensor, Tensor]], path: Path, *, classes: int
) -> Path:
    """One row a sample: input, truth, each feed-forward answer, and each feedback model's, look by look.

    Args:
        models: By name; looping and feed-forward ones.
        samples: Pairs of image (3, H, W) in [0, 1] and mask (H, W).
        path: File to write, PNG, SVG or PDF; a crash leaves an older one whole.
        classes: Number of classes.

    Returns:
        *path*.
    """
    rows = []
    for image, mask in _some(samples):
        said = [one for name, model in models.items() for one in _answers(name, model, image[None])]
        rows.append([*_seen(image, mask, classes), *((title, answered(x, classes)) for title, x in said)])
    return grid(rows, path)


def uncertainty(
    models: Mapping[str, nn.Module], samples: Sequence[tuple[Tensor, Tensor]], path: Path, *, classes: int
) -> Path:
    """One row a sample: input, truth, and for each model its answer, its uncertainty and where it is wrong.

    Uncertainty is the entropy of the prediction over its largest possible value, log(classes): black is sure (0),
    white knows nothing (1). A model that knows what it does not know is bright where it is wrong.

    Looping models answer after their own number of looks. Arguments and result are those of `refinement`.
    """
    rows = []
    for image, mask in _some(samples):
        row = _seen(image, mask, classes)
        for name, model in models.items():
            logits = _answers(name, model, image[None])[-1][1]
            answer, chances = labels_of(logits)[0], chances_of(logits)[0]
            scored = (mask >= 0) & (mask < classes)
            row += [
                (name, colours(answer, classes)),
                ("uncertainty", torch.special.entr(chances).sum(0).div(math.log(classes)).cpu().numpy()),
                ("wrong", ((answer.cpu() != mask.cpu()) & scored.cpu()).float().numpy()),
            ]
        rows.append(row)
    return grid(rows, path, bar=True)


def refined(model: ScoreModel, samples: Sequence[tuple[Tensor, Tensor]], path: Path, *, classes: int) -> Path:
    """One row a sample: input, truth, the base's answer, one pass of the autoencoder, iterative inference, the change.

    The change is green where iterative inference mended what the base had wrong, orange where it spoilt what was
    right, grey where both are wrong in different ways, and white elsewhere.

    Arguments and result are those of `refinement`, but *model* is one, with a score loop.
    """
    rows = []
    for image, mask in _some(samples):
        with evaluating(model), torch.inference_mode():
            said = [labels_of(x)[0] for x in answers(model, model.begin(fed(model, image[None])))]
        three = zip(ANSWERS, (colours(labels, classes) for labels in said), strict=True)
        change = "green: mended, orange:\nspoilt, grey: still wrong", changes(said[0], said[-1], mask, classes)
        rows.append([*_seen(image, mask, classes), *three, change])
    return grid(rows, path)


def repaired(model: RepairModel, samples: Sequence[tuple[Tensor, Tensor]], path: Path, *, classes: int) -> Path:
    """One row a sample: input, truth, the base's answer, the mask after a quarter of the looks, after all, the change.

    The change is as `refined` shows it. Arguments and result are those of `refinement`, but *model* is one, with a
    repair loop.
    """
    rows, most = [], max(1, model.feedback.config.steps)
    counts = sorted({max(1, most // 4), most})
    for image, mask in _some(samples):
        with evaluating(model), torch.inference_mode():
            given = fed(model, image[None])
            said = [labels_of(masks_of(model(given, steps=n)))[0] for n in (0, *counts)]
        names = ["base", *(f"{n} look{'s' * (n > 1)}" for n in counts)]
        looks = zip(names, (colours(labels, classes) for labels in said), strict=True)
        change = "green: mended, orange:\nspoilt, grey: still wrong", changes(said[0], said[-1], mask, classes)
        rows.append([*_seen(image, mask, classes), *looks, change])
    return grid(rows, path)


def restored(
    model: RestorationModel, samples: Sequence[tuple[Tensor, Tensor, Tensor]], path: Path, *, classes: int
) -> Path:
    """One row a sample: clean, distorted and restored image, what was displaced, the truth, and each answer.

    The displacement is shown by its length: black stays, white is the sample's largest, or a pixel where all is less;
    a restorer that paints has none. The answers are those to the clean, the distorted and the restored image, step by
    step.

    Arguments and result are those of `refinement`, but *model* is one, with a restoration loop, and samples are
    triplets of distorted image, clean image and mask.
    """
    names, rows = images_of(model), []
    last = RESTORED if names[-1] == RESTORED else f"{RESTORED}, {names[-1]}"
    for distorted, clean, mask in _some(samples, "triplet of distorted image, clean image and mask"):
        with evaluating(model), torch.inference_mode():
            every = list(shown(model, fed(model, distorted[None]), fed(model, clean[None])))
        row: list[Panel] = [("clean", photo(clean)), ("distorted", photo(distorted))]
        row.append((last, photo(data_config(model).undo(every[-1].restored)[0])))
        if every[-1].displacement is not None:
            length = every[-1].displacement[0].norm(dim=0)
            row.append(("displacement", (length / length.max().clamp_min(1)).cpu().numpy()))
        said = ((f"of {name}", answered(one.logits, classes)) for name, one in zip(names, every, strict=True))
        rows.append([*row, ("truth", colours(mask, classes)), *said])
    return grid(rows, path)


def changes(before: Tensor, after: Tensor, mask: Tensor, classes: int) -> NDArray[np.uint8]:
    """Where *after* (H, W) is another label than *before*, as RGB (H, W, 3): mended, spoilt, or wrong as ever.

    >>> changes(torch.tensor([[0, 1, 2, 1]]), torch.tensor([[1, 2, 0, 1]]), torch.tensor([[1, 1, 1, 0]]), 3)[0].tolist()
    [[0, 158, 115], [213, 94, 0], [153, 153, 153], [255, 255, 255]]
    """
    before, after, mask = (labels.cpu() for labels in (before, after, mask))
    kind = torch.where(after == mask, 0, torch.where(before == mask, 1, 2))
    same = (before == after) | (mask < 0) | (mask >= classes)
    return colours(torch.where(same, len(CHANGES), kind), len(CHANGES), CHANGES)


def grid(rows: Sequence[Sequence[Panel]], path: Path, *, bar: bool = False) -> Path:
    """Pictures with their titles above the first row; those of one channel run from 0 (black) to 1."""
    height, width = rows[0][0][1].shape[:2]
    across, down = len(rows[0]), len(rows)
    with styled("screen"):
        figure = Figure(figsize=(1.7 * across * max(1, width / height) + 0.8 * bar, 1.9 * down))
        axes = figure.subplots(down, across, squeeze=False)
        for i, row in enumerate(rows):
            for j, (title, picture) in enumerate(row):
                drawn = axes[i, j].imshow(picture, interpolation="nearest", cmap=MAP, vmin=0, vmax=1)
                axes[i, j].set_axis_off()
                if i == 0:
                    axes[i, j].set_title(title, fontsize=9)
        if bar:
            figure.colorbar(drawn, ax=axes, label="entropy / log(classes)", aspect=15 * down, pad=0.01)
        return save_figure(figure, path)


def examples(data: Dataset[Item]) -> list[Item]:
    """A few items of a dataset, from all over it.

    >>> examples(range(10)), examples(range(2))
    ([0, 2, 5, 7], [0, 1])
    """
    total = len(cast(Any, data))
    count = min(EXAMPLES, total)
    return [data[i * total // count] for i in range(count)]


def photo(image: Tensor) -> NDArray[np.float32]:
    """An image (C, H, W) as it is drawn, (H, W, 3) or grey, (H, W, 1), in [0, 1].

    Of more than three bands it is the first three, of two the first.

    >>> [photo(torch.zeros(channels, 4, 6)).shape[2] for channels in (1, 2, 3, 5)]
    [1, 1, 3, 3]
    """
    seen = image[:3] if len(image) >= 3 else image[:1]
    drawn: NDArray[np.float32] = seen.clamp(0, 1).permute(1, 2, 0).float().cpu().numpy()
    return drawn


def data_config(model: nn.Module) -> DataConfig:
    """What *model* expects of images."""
    return given_config(model).config


def fed(model: nn.Module, image: Tensor) -> Tensor:
    """*image* (B, C, H, W) in [0, 1], as *model* is shown it, where its weights are."""
    return data_config(model).normalise(image.to(device_of(model)))


def _seen(image: Tensor, mask: Tensor, classes: int) -> list[Panel]:
    return [("input", photo(image)), ("truth", colours(mask, classes))]


def _some(samples: Sequence[Item], what: str = "pair of image and mask") -> Sequence[Item]:
    if not samples:
        raise InvalidValue(f"samples is empty: expected at least one {what}.")
    mask = cast(Any, samples[0])[-1]
    if mask.ndim != 2:
        raise InvalidValue(
            f"a mask of shape {tuple(mask.shape)}: a picture shows one label a pixel, (H, W); show a multilabel model "
            "class by class."
        )
    return samples


def _answers(name: str, model: nn.Module, image: Tensor) -> list[tuple[str, Tensor]]:
    """Every answer worth showing: one, or one a look."""
    image, model = fed(model, image), looping_in(model)
    with evaluating(model), torch.inference_mode():
        if not isinstance(model, FeedbackModel):
            return [(name, masks_of(model(image)))]
        return [(f"{name}, look {step.index + 1}", step.logits) for step in model.iterate(image)]
