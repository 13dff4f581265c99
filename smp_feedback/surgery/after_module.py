"""The feedback added behind a base's first module, which then runs once per image: tokens of a patch embedding, say."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smp_feedback.errors import SurgeryError
from smp_feedback.ops.maps import Mixture, Size, resize, size_of
from smp_feedback.surgery.extension import Extension, calls_of, extend, full_name, made_by
from smp_feedback.surgery.feature_layout import Layout, patch_of
from smp_feedback.surgery.layout_runs import Ask, map_of
from smp_feedback.surgery.step_context import collect_answer, current_step


class AddsFeedback(Extension):
    """A module that reads the image; in each look the feedback, projected, is added to what it gave."""

    layout: Layout
    reader: int  # which of the readers answers for this module
    begins: bool  # whether no feedback enters before, so that it runs once per image

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As ever outside a loop; in a look, what it gave before the first, and the feedback."""
        step = current_step()
        if step is not None and self.begins and step.once.stages and args and args[0] is step.once.image:
            made = step.once.stages[0]
        else:
            made = cast(Tensor, super().forward(*args, **kwargs))
        if step is None:
            collect_answer(made)  # what its hooks make of it is made again in every look
            return made
        u = step.feedback if self.begins else resize(step.feedback, grid_on(self.layout, made, size_of(args[0])))
        return made + as_laid_out(self.layout, step.readers[self.reader](u))


def grid_on(layout: Layout, made: Tensor, size: Size) -> Size:
    """Height and width of what was *made*, laid out so, of an image of *size*.

    >>> grid_on(Layout("tokens"), torch.zeros(2, 12, 5), (32, 96)), grid_on(Layout(), torch.zeros(2, 5, 3, 4), (9, 9))
    ((2, 6), (3, 4))
    """
    return layout.grid(made.shape[1] - layout.prefix, size) if layout.is_tokens else size_of(layout.to_state(made))


def as_laid_out(layout: Layout, x: Tensor) -> Tensor:
    """A map (B, D, h, w) as *layout* has it.

    >>> as_laid_out(Layout("tokens"), torch.zeros(2, 5, 3, 4)).shape
    torch.Size([2, 12, 5])
    """
    if layout.is_tokens:
        return x.flatten(2).mT
    return layout.from_state(x)


def prefixed(layout: Layout, tokens: Tensor) -> Tensor:
    """*tokens* of the image with zeros for those before them; a map as it is.

    >>> prefixed(Layout("tokens", 1), torch.ones(1, 2, 1)).flatten()
    tensor([0., 1., 1.])
    """
    return F.pad(tokens, (0, 0, layout.prefix, 0)) if layout.is_tokens and layout.prefix else tokens


def add_after(
    base: nn.Module, name: str, image: Tensor, channels: int, *, reader: int = 0, begins: bool = True
) -> tuple[str, Layout, nn.Module]:
    """Let *channels* of feedback be added to what the module *name* of *base* gives, in place.

    Args:
        base: The base model, evaluating.
        name: The module's dotted name, or the end of it.
        image: (1, C, H, W), of a size it takes.
        channels: K.
        reader: The number of what reads the feedback, among all that do.
        begins: Whether no feedback enters before.

    Returns:
        The module's whole name, how it lays out what it gives, and what reads the feedback (weights zero).

    Raises:
        SurgeryError: If there is no such module, or it is not handed the image itself.
    """
    full = full_name(base, name, f"insert='after:{name}'")
    module = base.get_submodule(full)
    with calls_of(module) as calls, torch.no_grad():
        base(image)
    given = [inputs[0] for inputs, _ in calls if inputs]
    if len(calls) != 1 or not given or not is_image(given[0], image):
        raise SurgeryError(
            f"insert='after:{name}': {full} is not handed the image itself, once, so what lies before it would run in "
            "every look. Possible: a module that is, such as a patch embedding; 'input'; 'stage:k'."
        )

    with torch.no_grad():
        layout, width = _layout(module, made_by(base, module), calls[0][1], name, image)
    adds = extend(module, AddsFeedback)
    adds.layout, adds.reader, adds.begins = layout, reader, begins
    return full, layout, deaf_mixture(channels, width, image)


def deaf_mixture(channels: int, width: int, like: Tensor) -> Mixture:
    """What reads *channels* of feedback for a map of so many channels, and ignores them until it is trained."""
    reader = Mixture(channels, width).to(like.device, like.dtype)
    nn.init.zeros_(reader.weight)
    return reader


def is_image(given: Any, image: Tensor) -> bool:
    """Whether *given* is the *image* itself."""
    if not isinstance(given, Tensor):
        return False
    return given.shape == image.shape and torch.equal(given.to(image.dtype), image)


def _layout(module: nn.Module, ask: Ask, gave: Any, name: str, image: Tensor) -> tuple[Layout, int]:
    """How *module* lays out what it *gave* for *image*, and of how many channels that is; *ask* shows it others."""
    if isinstance(gave, Tensor) and gave.ndim == 3:
        return Layout("tokens", 0, patch_of(module, gave.shape[1], size_of(image))), gave.shape[2]
    if isinstance(gave, Tensor) and gave.ndim == 4:
        widths = [part.out_channels for part in module.modules() if isinstance(part, nn.Conv2d)]
        who, known = f"insert='after:{name}': it", widths[-1] if widths else None
        layout = map_of(who, module, ask, image, gave, known)
        return layout, layout.to_state(gave).shape[1]
    got = tuple(gave.shape) if isinstance(gave, Tensor) else f"a {type(gave).__name__}"
    raise SurgeryError(f"insert='after:{name}': it must give a map (B, D, h, w) or tokens (B, N, D), got {got}.")
