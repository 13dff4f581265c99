"""A strip of looks: the image, the answer after some of them, and below each what changed since the one before."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor, nn

from smp_feedback.evaluation.asking import device_of
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.loops.call import Looks
from smp_feedback.loops.repair.model import RepairModel
from smp_feedback.loops.restoration.model import RestorationModel
from smp_feedback.loops.score.model import ScoreModel
from smp_feedback.loops.showing import one_image
from smp_feedback.ops.maps import size_of
from smp_feedback.plotting.animation import settled_at
from smp_feedback.plotting.answered_looks import (
    AnsweredLook,
    answered_looks,
    at_looks,
    checked_looks,
    few_of,
    looping_model,
)
from smp_feedback.plotting.painting import change_over, changed, fitting, meanings, names_of, over, share_in_words
from smp_feedback.plotting.pictures import data_config, photo
from smp_feedback.plotting.shown_image import seen
from smp_feedback.plotting.style import LINES, styled

PANEL = 1.6  # inches
SHAPES = 0.4, 2.5  # of a panel, height over width, at most
LETTERS = 9
SHARP = 400  # pixels of a side, up to which each is drawn as a square
MOST_PROBABLE = 5
DPI = 110


class NotebookFigure(Figure):
    """A figure that a notebook shows by itself, whether pyplot was ever imported or not."""

    def _repr_png_(self) -> bytes:
        drawn = io.BytesIO()
        self.savefig(drawn, format="png", dpi=DPI, metadata={"Software": None})
        return drawn.getvalue()


class DrawnLooks(NamedTuple):
    """What is drawn: the image (C, H, W) in [0, 1], the looks, the classes' names, and what is said above."""

    image: Tensor
    looks: list[AnsweredLook]
    names: list[str]
    words: str


def show(
    model: nn.Module,
    image: Tensor,
    steps: Looks | None = None,
    *,
    looks: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """How *model* comes to its answer; see :meth:`smp_feedback.FeedbackModel.show`, which this is.

    Args, raises: As there; *model* may be compiled or averaged, too.
        InvalidType: If it does not loop.

    >>> import torch, smp_feedback as smpf
    >>> model = smpf.create("PlainConv", classes=2, feedback=smpf.Repair(steps=2, width=8))
    >>> [axes.get_title() for axes in show(model, torch.rand(3, 16, 16), looks=[0, 2]).axes if axes.get_title()]
    ['image', 'base', 'look 2', '0 % changed']
    """
    loop = looping_model(model)
    shown = _looked_at(loop, one_image(image), steps, looks, names)
    with styled("screen"):
        return _bars(shown) if shown.looks[0].classifies else _strip(loop, shown)


def _looked_at(model: FeedbackModel, image: Tensor, steps: Looks | None, looks: object, names: object) -> DrawnLooks:
    config, own = data_config(model), model._count(None)
    begins = int(not _has_base(model))
    numbers, steps = checked_looks(looks, steps, begins, own)
    if names is not None and (classes := getattr(model.feedback, "classes", None)) is not None:
        names_of(names, (), classes if config.task == "multilabel" else max(2, classes))  # before any work
    found = answered_looks(model, image[None].to(device_of(model)), steps)
    called = names_of(names, config.classes, found[-1].classes)
    after = [look for look in found if look.number]
    settled = settled_at([look.answer for look in after]) if after else 0
    drawn = at_looks(found, [*range(1 - begins), *few_of(len(after), settled)] if numbers is None else numbers)
    drawn = [_fitted(look, image) for look in drawn]
    picture, words = seen(model, image)
    skips = 0 < settled < len(after) and len(after) > len(drawn)
    rests = f"the same from look {settled} to {len(after)}" if skips else ""
    return DrawnLooks(picture, drawn, called, "; ".join(filter(None, (f"image: {words}" if words else "", rests))))


def _has_base(model: FeedbackModel) -> bool:
    """Whether there is an answer before the first look."""
    if isinstance(model, RestorationModel):
        return bool(model.feedback.config.weight)
    return isinstance(model, ScoreModel | RepairModel)


def _fitted(look: AnsweredLook, image: Tensor) -> AnsweredLook:
    return look if look.classifies else look._replace(answer=fitting(look.answer, size_of(image)))


def _strip(model: FeedbackModel, shown: DrawnLooks) -> Figure:
    figure, axes = _panels(shown, 2 if shown.looks[0].segmented is None else 3)
    _picture(axes[0, 0], photo(shown.image), "image")
    for column, look in enumerate(shown.looks, 1):
        above, answer, change = axes[0, column], axes[-2, column], axes[-1, column]
        title = look.title
        if look.segmented is not None:
            _picture(above, photo(seen(model, look.segmented).image), f"restored, {title}")
            title = f"answer, {title}"
        _picture(answer, over(shown.image, look.answer), title)
        if column > 1:
            before = shown.looks[column - 2].answer
            share = share_in_words(changed(before, look.answer))
            _picture(change, change_over(shown.image, before, look.answer), f"{share} changed")
    _legend(figure, shown)
    return figure


def _bars(shown: DrawnLooks) -> Figure:
    """Of a classifier: the image, and the probabilities of the most probable classes after each look."""
    figure, axes = _panels(shown, 1, wide=1.3)
    _picture(axes[0, 0], photo(shown.image), "image")
    best = shown.looks[-1].answer.argsort(descending=True)[:MOST_PROBABLE].tolist()
    for column, look in enumerate(shown.looks, 1):
        axis: Axes = axes[0, column]
        axis.set_axis_on()
        axis.barh(range(len(best)), [100 * float(look.answer[k]) for k in best], color=LINES[0])
        axis.set_yticks(
            range(len(best)), [shown.names[k] for k in best] if column == 1 else [""] * len(best), parse_math=False
        )
        axis.tick_params(labelsize=LETTERS - 1)
        axis.set(xlim=(0, 100), ylim=(len(best) - 0.5, -0.5), xticks=(0, 50, 100), box_aspect=1)
        axis.grid(axis="y", visible=False)
        axis.set_title(look.title, fontsize=LETTERS)
        axis.set_xlabel("probability (%)", fontsize=LETTERS - 1)
    return figure


def _panels(shown: DrawnLooks, down: int, wide: float = 1.0) -> tuple[Figure, Any]:
    """A figure with a column for the image and one for each look; what stays empty has no axes."""
    across, (height, width) = 1 + len(shown.looks), size_of(shown.image)
    shape = min(max(height / width, SHAPES[0]), SHAPES[1])
    least = max(PANEL * shape, 1.2) + 0.25
    figure = NotebookFigure(figsize=(max(4.2, wide * PANEL * across), least * down + 0.45), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    if shown.words:
        figure.suptitle(shown.words, fontsize=LETTERS)
    return figure, axes


def _picture(axis: Axes, picture: NDArray[Any], title: str) -> None:
    small = max(picture.shape[:2]) <= SHARP
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest" if small else "antialiased")
    axis.set_title(title, fontsize=LETTERS)


def _legend(figure: Figure, shown: DrawnLooks) -> None:
    entries = meanings([look.answer for look in shown.looks], shown.names)
    handles = [Patch(facecolor=colour or "white", edgecolor="#999999", label=name) for name, colour in entries]
    if handles:
        widest = 0.075 * (6 + max(len(name) for name, _ in entries))  # inches
        across = max(1, min(len(handles), int(figure.get_figwidth() / widest)))
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=across, fontsize=LETTERS - 1)
        for text in legend.get_texts():
            text.set_parse_math(False)  # a name is shown as it is written, dollars too
