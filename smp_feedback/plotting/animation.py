"""A model at work: its answer look by look, laid over the image, as one small GIF, WebP or MP4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from smp_feedback.checks import at_home, check_choice, check_steps, check_whole
from smp_feedback.config.stopping import UntilSettled
from smp_feedback.errors import InvalidInput, require
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.loops.call import Looks
from smp_feedback.plotting.animation_files import FORMATS, VIDEO, write_frames
from smp_feedback.plotting.answered_looks import AnsweredLook, answered_looks, looping_model
from smp_feedback.plotting.overlay import RGB, enlarged, laid_over, side_by_side, titled
from smp_feedback.plotting.painting import fitting, over
from smp_feedback.plotting.pictures import fed
from smp_feedback.plotting.shown_image import seen

MOST = 80  # frames, unless somebody says `every`


def animate(
    model: nn.Module,
    image: Tensor,
    path: str | Path,
    *,
    looks: Looks = 160,
    every: int | None = None,
    truth: Tensor | None = None,
    beside: Mapping[str, Tensor] | None = None,
    side: int = 360,
    normalised: bool = False,
) -> Path:
    """Write *model* answering *image* as a moving picture, which ends with the look after which nothing changes.

    The image alone comes first; then the answer lies over it, class by class in a colour, and class 0, the background,
    in none. A loop around a base begins with the base's answer. The last frame is held. The same model, image and
    Pillow give the same bytes, of a GIF and a WebP.

    Args:
        model: A looping one; it answers in evaluation mode, where its weights are.
        image: (C, H, W) in [0, 1].
        path: A ``.gif``, which is shown wherever pictures are, a ``.webp``, smaller and in full colour, or an ``.mp4``,
            which has a pause button (extra ``video``); a crash leaves an older one whole.
        looks: The most looks at it. Where the answer is the last one earlier, the animation ends there.
        every: Looks from frame to frame; None is as many as make 80 frames at most. The first and the last are shown.
        truth: Labels (H, W): pixels that are wrongly said to be of a class are vermilion, and a frame whose every
            pixel is right says that it is solved. None: nothing is marked.
        beside: Other answers (H, W) by what they are called, that stand still beside it: a twin's, or the truth.
        side: The longer side of the enlarged image, in pixels, at most; an image that is larger stays as it is.
        normalised: Whether *image* is normalised already, as ``model(image)`` takes it: the model is shown that, and
            for the picture it is undone (:meth:`smp_feedback.FeedbackModel.animate`).

    Returns:
        *path*.

    Raises:
        InvalidType: If *model* does not loop.
        InvalidInput: If the image or an answer has another shape.
        InvalidValue: If a number is out of its range, or *path* another kind of file.
        MissingExtra: For an ``.mp4``, if PyAV is not installed.

    >>> import tempfile, smp_feedback as smpf
    >>> model = smpf.create("Unet", "resnet18", None, classes=2, feedback=True)
    >>> folder = Path(tempfile.mkdtemp())
    >>> animate(model, torch.rand(3, 32, 32), folder / "answer.gif", looks=3).name
    'answer.gif'
    """
    path = at_home(path)
    format = path.suffix.removeprefix(".").lower()
    check_choice("the suffix of path", format, FORMATS)
    if format == VIDEO:
        require("av", "video")
    if not isinstance(looks, UntilSettled) and looks != 0:  # which a loop around a base may be told
        check_steps(looks)
    check_whole("every", 1 if every is None else every)
    check_whole("side", side)
    loop = looping_model(model)
    given = image[None] if normalised else fed(loop, _one(image)[None])
    image = seen(loop, image).image if normalised else image
    nothing = "image", enlarged(laid_over(image, torch.zeros(image.shape[1:]), truth), side)
    still = [titled(image, name, labels, truth, side=side) for name, labels in (beside or {}).items()]
    begun, after = _maps_by_look(loop, given, looks)
    shown = [*begun, *(after[t - 1] for t in shown_looks(len(after), every))] if after else begun
    drawn = [_panel(image, look, truth, side) for look in shown]
    frames = [side_by_side([first, *still]) for first in (nothing, *drawn)]
    return write_frames(path, frames, format)


def answers_by_look(model: nn.Module, image: Tensor, looks: Looks) -> list[Tensor]:
    """The labels (H, W) of *image* (C, H, W) in [0, 1] after each look, up to that after which they stay what they are.

    Raises:
        InvalidType: If *model* does not loop.
        InvalidInput: If the answer is no map of labels.
    """
    loop = looping_model(model)
    return [look.answer.long() for look in _maps_by_look(loop, fed(loop, image[None]), looks)[1]]


def _one(image: Tensor) -> Tensor:
    if image.ndim != 3:
        raise InvalidInput(f"image of shape {tuple(image.shape)}: expected one (C, H, W).")
    return image


def _maps_by_look(loop: FeedbackModel, given: Tensor, looks: Looks) -> tuple[list[AnsweredLook], list[AnsweredLook]]:
    """What the loop begins with, and its looks up to that after which the answer stays what it is."""
    found = answered_looks(loop, given.to(next(loop.parameters()).device), looks)
    if found[-1].classifies:
        raise InvalidInput(
            f"This {type(loop).__name__} gives one answer for the whole image: expected a map of classes to draw; "
            "model.show draws its probabilities."
        )
    after = [look for look in found if look.number]
    ends = settled_at([look.answer for look in after]) if after else 0
    return [look for look in found if not look.number], after[:ends]


def _panel(image: Tensor, look: AnsweredLook, truth: Tensor | None, side: int) -> tuple[str, RGB]:
    answer = fitting(look.answer, (image.shape[1], image.shape[2]))
    if answer.ndim == 2:
        return titled(image, look.title, answer, truth, side=side)
    if truth is not None:
        raise InvalidInput("truth: this model gives several labels a pixel, of which none is marked; leave truth=None.")
    return look.title, enlarged(over(image, answer), side)


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
