"""A model at work: its answer look by look, laid over the image, as one small GIF or WebP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from smp_feedback.checks import at_home, check_choice, check_steps, check_whole
from smp_feedback.errors import InvalidInput, InvalidType
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.ops.reading import labels_of
from smp_feedback.plotting.overlay import RGB, enlarged, laid_over, side_by_side, titled
from smp_feedback.plotting.pictures import fed
from smp_feedback.saving.files import replace_file
from smp_feedback.surgery.extension import evaluating, looping_in

FORMATS = ("gif", "webp")
MOST = 80  # frames, unless somebody says `every`
FIRST, EACH, LAST = 800, 80, 3000  # milliseconds that a frame is shown
COLOURS = 255  # of a GIF, and one that shows the frame before
HOW: dict[str, dict[str, Any]] = {"gif": {"optimize": True}, "webp": {"lossless": True, "method": 4}}


def animate(
    model: nn.Module,
    image: Tensor,
    path: str | Path,
    *,
    looks: int = 160,
    every: int | None = None,
    truth: Tensor | None = None,
    beside: Mapping[str, Tensor] | None = None,
    side: int = 360,
) -> Path:
    """Write *model* answering *image* as a moving picture, which ends with the look after which nothing changes.

    The image alone comes first; then the answer lies over it, class by class in a colour, and class 0, the background,
    in none. The last frame is held. The same model, image and Pillow give the same bytes.

    Args:
        model: A looping one; it answers in evaluation mode, where its weights are.
        image: (C, H, W) in [0, 1].
        path: A ``.gif``, which is shown wherever pictures are, or a ``.webp``, smaller and in full colour; a crash
            leaves an older one whole.
        looks: The most looks at it. Where the answer is the last one earlier, the animation ends there.
        every: Looks from frame to frame; None is as many as make 80 frames at most. The first and the last are shown.
        truth: Labels (H, W): pixels that are wrongly said to be of a class are vermilion, and a frame whose every
            pixel is right says that it is solved. None: nothing is marked.
        beside: Other answers (H, W) by what they are called, that stand still beside it: a twin's, or the truth.
        side: The longer side of the enlarged image, in pixels, at most; an image that is larger stays as it is.

    Returns:
        *path*.

    Raises:
        InvalidType: If *model* does not loop.
        InvalidInput: If the image or an answer has another shape.
        InvalidValue: If a number is out of its range, or *path* another kind of file.

    >>> import tempfile, smp_feedback as smpf
    >>> model = smpf.create("Unet", "resnet18", None, classes=2, feedback=True)
    >>> folder = Path(tempfile.mkdtemp())
    >>> animate(model, torch.rand(3, 32, 32), folder / "answer.gif", looks=3).name
    'answer.gif'
    """
    path = at_home(path)
    format = path.suffix.removeprefix(".").lower()
    check_choice("the suffix of path", format, FORMATS)
    check_steps(looks)
    check_whole("every", 1 if every is None else every)
    check_whole("side", side)
    nothing = "image", enlarged(laid_over(image, torch.zeros(image.shape[1:]), truth), side)
    still = [titled(image, name, labels, truth, side=side) for name, labels in (beside or {}).items()]
    answers = answers_by_look(model, image, looks)
    drawn = [titled(image, f"look {t}", answers[t - 1], truth, side=side) for t in shown_looks(len(answers), every)]
    frames = [side_by_side([first, *still]) for first in (nothing, *drawn)]
    path.parent.mkdir(parents=True, exist_ok=True)
    return replace_file(path, lambda draft: _write(draft, frames, format))


@torch.inference_mode()
def answers_by_look(model: nn.Module, image: Tensor, looks: int) -> list[Tensor]:
    """The labels (H, W) of *image* (C, H, W) after each look, up to that after which they stay what they are.

    Raises:
        InvalidType: If *model* does not loop.
        InvalidInput: If the answer is no map of labels.
    """
    loop = looping_in(model)
    if not isinstance(loop, FeedbackModel):
        raise InvalidType(f"{type(model).__name__} looks once: expected a looping model, as smp_feedback.create makes.")
    said: list[Tensor] = []
    with evaluating(loop):
        for step in loop.iterate(fed(loop, image[None]), looks):
            if step.logits.ndim != 4:
                raise InvalidInput(f"logits of shape {tuple(step.logits.shape)}: expected a map of classes to draw.")
            said.append(labels_of(step.logits)[0].cpu())
    return said[: settled_at(said)]


def settled_at(answers: Sequence[Tensor]) -> int:
    """The number of looks, from 1, after which no answer is another.

    >>> a, b = torch.tensor([0]), torch.tensor([1])
    >>> settled_at([a, b, a, a, a]), settled_at([a, a]), settled_at([a, b])
    (3, 1, 2)
    """
    return 1 + max((t for t, answer in enumerate(answers) if not torch.equal(answer, answers[-1])), default=-1) + 1


def shown_looks(looks: int, every: int | None) -> list[int]:
    """Which of 1 ... *looks* are drawn.

    >>> shown_looks(8, 3), shown_looks(160, None)[:3], len(shown_looks(160, None))
    ([1, 4, 7, 8], [1, 4, 7], 54)
    """
    step = -(-looks // (MOST - 2)) if every is None else every
    return sorted({*range(1, looks + 1, step), looks})


def _write(draft: Path, frames: Sequence[RGB], format: str) -> None:
    pages = [Image.fromarray(frame) for frame in frames]
    pages = _in_few_colours(pages) if format == "gif" else pages
    times = [FIRST, *[EACH] * (len(pages) - 2), LAST]
    how = {"save_all": True, "append_images": pages[1:], "duration": times, "loop": 0, **HOW[format]}
    pages[0].save(draft, format=format, **how)


def _in_few_colours(pages: Sequence[Image.Image]) -> list[Image.Image]:
    """All in one palette: exactly, where there are few colours; else in those near most of what some pages show."""
    counted = [page.getcolors(COLOURS) for page in pages]
    every = sorted({colour for page in counted for _, colour in page or ()})
    if None in counted or len(every) > COLOURS:
        some = Image.fromarray(np.concatenate([np.asarray(pages[i]) for i in (0, len(pages) // 2, -1)]))
        palette = some.quantize(COLOURS, dither=Image.Dither.NONE)
        return [page.quantize(palette=palette, dither=Image.Dither.NONE) for page in pages]
    return [_indexed(page, np.array(every)) for page in pages]


def _indexed(page: Image.Image, palette: NDArray[np.int64]) -> Image.Image:
    """*page* by its colours' numbers in *palette* (n, 3), which is sorted and has them all."""
    code = np.array([1 << 16, 1 << 8, 1])
    numbered = Image.fromarray(np.searchsorted(palette @ code, np.asarray(page) @ code).astype(np.uint8))
    numbered.putpalette(palette.astype(np.uint8).tobytes())
    return numbered
