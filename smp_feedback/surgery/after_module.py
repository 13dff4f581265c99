"""The feedback added behind a base's first module, which then runs once per image: tokens of a patch embedding, say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from smp_feedback.errors import SurgeryError
from smp_feedback.ops.maps import Mixture
from smp_feedback.surgery.extension import Extension, extend, full_name
from smp_feedback.surgery.feature_layout import Layout, Size, patch_of
from smp_feedback.surgery.step_context import Once, collect_answer, collecting_answers, current_step


class AddsFeedback(Extension):
    """A module that runs once per image; in each look the feedback, projected, is added to what it gave."""

    layout: Layout

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As ever outside a loop; in a look, what it gave before the first, and the feedback."""
        step = current_step()
        if step is not None and step.once.stages:
            made = step.once.stages[0]
        else:
            made = cast(Tensor, super().forward(*args, **kwargs))
        if step is None:
            collect_answer(made)  # what its hooks make of it is made again in every look
            return made
        return made + as_laid_out(self.layout, step.readers[0](step.feedback))


def as_laid_out(layout: Layout, x: Tensor) -> Tensor:
    """A map (B, D, h, w) as *layout* has it.

    >>> as_laid_out(Layout("tokens"), torch.zeros(2, 5, 3, 4)).shape
    torch.Size([2, 12, 5])
    """
    if layout.is_tokens:
        return x.flatten(2).mT
    return layout.from_state(x)


class AfterModule(NamedTuple):
    """Behind a module that is handed the image itself.

    Attributes:
        name: Its dotted name.
        layout: How it lays out what it gives.
    """

    name: str
    layout: Layout

    def once(self, model: nn.Module, image: Tensor) -> Once:
        """What it gives for the image."""
        module = model.get_submodule(self.name)
        if not isinstance(module, AddsFeedback):
            raise SurgeryError(
                f"{self.name} was replaced since the model was made, so the feedback is no longer read there. "
                "Replace parts of the base before it is closed into a loop, with wrap."
            )
        with collecting_answers() as told:
            module(image)
        return Once(stages=(told[0],))

    def grid(self, image: Tensor, once: Once) -> tuple[int, int]:
        """That of what it gives."""
        made = once.stages[0]
        if self.layout.is_tokens:
            return self.layout.grid(made.shape[1], (image.shape[-2], image.shape[-1]))
        h, w = self.layout.to_state(made).shape[-2:]
        return h, w

    def carry(self, model: nn.Module, feedback: Tensor) -> Tensor:
        """As it is."""
        return feedback

    def before(self, model: nn.Module) -> set[nn.Module]:
        """Itself, and all in it."""
        return set(model.get_submodule(self.name).modules())

    def forgetful(self) -> AfterModule:
        """The same: nothing in it reads the feedback."""
        return self


def enter_after(base: nn.Module, name: str, image: Tensor, channels: int) -> tuple[AfterModule, nn.ModuleList]:
    """Let *channels* of feedback be added to what the module *name* of *base* gives, in place.

    Args:
        base: The base model, evaluating.
        name: The module's dotted name, or the end of it.
        image: (1, C, H, W), of a size it takes.
        channels: K.

    Raises:
        SurgeryError: If there is no such module, or it is not handed the image itself.
    """
    full = full_name(base, name, f"insert='after:{name}'")
    module = base.get_submodule(full)
    with _watching(module) as calls, torch.no_grad():
        base(image)
    given = [inputs[0] for inputs, _ in calls if inputs]
    if len(calls) != 1 or not given or not isinstance(given[0], Tensor) or not _is_image(given[0], image):
        raise SurgeryError(
            f"insert='after:{name}': {full} is not handed the image itself, once, so what lies before it would run in "
            "every look. Possible: a module that is, such as a patch embedding; 'input'; 'stage:k'."
        )
    layout, width = _layout(module, calls[0][1], name, (image.shape[-2], image.shape[-1]))
    reader = Mixture(channels, width).to(image.device, image.dtype)
    nn.init.zeros_(reader.weight)
    extend(module, AddsFeedback).layout = layout
    return AfterModule(full, layout), nn.ModuleList([reader])


@contextmanager
def _watching(module: nn.Module) -> Iterator[list[tuple[tuple[Any, ...], Any]]]:
    calls: list[tuple[tuple[Any, ...], Any]] = []
    hook = module.register_forward_hook(lambda _, inputs, gave: calls.append((inputs, gave)))
    try:
        yield calls
    finally:
        hook.remove()


def _is_image(given: Tensor, image: Tensor) -> bool:
    return given.shape == image.shape and torch.equal(given.to(image.dtype), image)


def _layout(module: nn.Module, gave: Any, name: str, size: Size) -> tuple[Layout, int]:
    """How *module* lays out what it *gave* for an image of *size*, and of how many channels that is."""
    if isinstance(gave, Tensor) and gave.ndim == 3:
        return Layout("tokens", 0, patch_of(module, gave.shape[1], size)), gave.shape[2]
    if isinstance(gave, Tensor) and gave.ndim == 4:
        widths = [part.out_channels for part in module.modules() if isinstance(part, nn.Conv2d)]
        last = gave.shape[3] in widths[-1:] and gave.shape[1] not in widths[-1:]
        return (Layout("last"), gave.shape[3]) if last else (Layout("map"), gave.shape[1])
    got = tuple(gave.shape) if isinstance(gave, Tensor) else f"a {type(gave).__name__}"
    raise SurgeryError(f"insert='after:{name}': it must give a map (B, D, h, w) or tokens (B, N, D), got {got}.")
