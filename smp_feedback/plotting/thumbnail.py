"""What one look answers, as a small picture for a notebook."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager, nullcontext

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from smp_feedback.loops.steps import Step
from smp_feedback.models.normalisation import given_config
from smp_feedback.ops.maps import size_of
from smp_feedback.ops.reading import SEGMENTATION, chances_of, labels_of
from smp_feedback.plotting.overlay import RGB, enlarged, side_by_side
from smp_feedback.plotting.painting import over
from smp_feedback.plotting.style import LINES
from smp_feedback.surgery.extension import evaluating

SIDE = 160  # pixels of an answer, at most
MOST = 4  # images of a batch
MOST_PROBABLE = 5


def thumbnail(step: Step) -> bytes:
    """The answers of a *step* to the first four images of its batch, as PNG; of a classifier its chances, as bars.

    They are computed without gradient and not kept, so that ``step.logits`` carries one as ever.

    >>> import smp_feedback as smpf
    >>> model = smpf.create("PlainConv", classes=2, feedback="anytime").eval()
    >>> thumbnail(next(model.iterate(torch.rand(1, 3, 16, 16))))[1:4]
    b'PNG'
    """
    model = getattr(step._answer, "__self__", None)
    task = given_config(model).config.task if isinstance(model, nn.Module) else SEGMENTATION
    quiet: AbstractContextManager[object] = evaluating(model) if isinstance(model, nn.Module) else nullcontext()
    with quiet, torch.no_grad():
        logits = step.answer()[0][:MOST].detach()
    if logits.ndim == 2:
        return _bars(chances_of(logits, task).float().cpu())
    step_down = max(1, -(-max(size_of(logits)) // SIDE))
    answers = labels_of(logits[..., ::step_down, ::step_down], task).cpu()
    drawn = Image.fromarray(side_by_side([_panel(i, answer) for i, answer in enumerate(answers)]))
    return _png(drawn)


def _panel(number: int, answer: Tensor) -> tuple[str, RGB]:
    white = torch.ones(1, *size_of(answer))
    return f"image {number}", enlarged(over(white, answer), SIDE)


def _bars(chances: Tensor) -> bytes:
    """The five most probable classes of each image, below one another."""
    figure = Figure(figsize=(3, 1.1 * len(chances) + 0.3), layout="constrained")
    for axis, row in zip(figure.subplots(len(chances), 1, squeeze=False)[:, 0], chances, strict=True):
        best = row.argsort(descending=True)[:MOST_PROBABLE].tolist()
        axis.barh(range(len(best)), [100 * float(row[k]) for k in best], color=LINES[0])
        axis.set_yticks(range(len(best)), [f"class {k}" for k in best], fontsize=7)
        axis.set(xlim=(0, 100), ylim=(len(best) - 0.5, -0.5))
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=80)
    return drawn.getvalue()


def _png(picture: Image.Image) -> bytes:
    drawn = io.BytesIO()
    picture.save(drawn, format="PNG", optimize=True)
    return drawn.getvalue()
