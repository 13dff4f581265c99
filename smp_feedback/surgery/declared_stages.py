"""Stages that a base declares: modules by name, anywhere in it, behind which the feedback is added.

An encoder that is a chain says its stages itself (:mod:`.encoder_chain`). Where branches run side by side nothing tells
what a stage is, or what could be run once per image: its author names the modules, and every look runs all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from smp_feedback.errors import InvalidType, SurgeryError
from smp_feedback.ops.maps import Size, resize, size_of
from smp_feedback.surgery.after_module import as_laid_out, deaf_mixture, grid_on, is_image, prefixed
from smp_feedback.surgery.cuts import Cut
from smp_feedback.surgery.extension import Extension, calls_of, extend, full_name, made_by
from smp_feedback.surgery.feature_layout import Layout
from smp_feedback.surgery.insertion_point import InsertionPoint
from smp_feedback.surgery.layout_runs import map_of, tokens_of
from smp_feedback.surgery.step_context import Once, current_step

ATTRIBUTE = "feedback_stages"


class AddsToStage(Extension):
    """A module to whose answer, in each look, the feedback is added."""

    layout: Layout
    reader: int  # which of the readers answers for this module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As ever outside a loop; in a look, what it gives and the feedback."""
        made, step = cast(Tensor, super().forward(*args, **kwargs)), current_step()
        if step is None:
            return made
        image = step.feedback if step.once.image is None else step.once.image
        added = step.readers[self.reader](resize(step.feedback, grid_on(self.layout, made, size_of(image))))
        return made + prefixed(self.layout, as_laid_out(self.layout, added))


@dataclass(frozen=True, kw_only=True)
class AtStage(InsertionPoint):
    """Behind a declared stage, which runs in every look, as all before it does.

    Attributes:
        stride: Image pixels from one place of what it gives to the next, (h, w).
    """

    stride: tuple[float, float]

    def once(self, model: nn.Module, image: Tensor) -> Once:
        """Nothing is computed once."""
        return Once(image=image)

    def grid(self, image: Tensor, once: Once) -> Size:
        """That of what the stage gives, up to how it rounds: there the feedback is resized, where that is another."""
        height, width = size_of(image)
        return max(1, round(height / self.stride[0])), max(1, round(width / self.stride[1]))


class Stage(NamedTuple):
    """What a dry run shows of a declared stage.

    Attributes:
        name: The module's whole name.
        reads_image: Whether it is handed the image itself: then it need not run in every look.
        made: What it gave for the image.
    """

    name: str
    reads_image: bool
    made: Any


def stages_of_base(base: nn.Module, cut: Cut) -> tuple[str, ...]:
    """The names that *base* or its *cut* declares, stage 1 first; none if neither does.

    Raises:
        InvalidType: If they are no names.
        SurgeryError: If two of them are one module, behind which the feedback cannot be added twice.
    """
    said = getattr(base, ATTRIBUTE, None) or cut.stages
    names = (said,) if isinstance(said, str) else tuple(said)
    for name in names:
        if isinstance(said, str) or not isinstance(name, str) or not name:
            raise InvalidType(
                f"{type(base).__name__}: its stages are {said!r:.80}: expected a tuple of names of its modules, as in "
                f"{ATTRIBUTE} = ('stem', 'layer1')."
            )
    _check_apart(base, names)
    return names


def _check_apart(base: nn.Module, names: Sequence[str]) -> None:
    """Each of *names* is a module of its own; one that is nowhere is told of where it is asked for."""
    every, there = dict(base.named_modules(remove_duplicate=False)), dict[int, str]()
    for name in names:
        ends = {id(module): module for full, module in every.items() if f".{full}".endswith(f".{name}")}
        module = every.get(name, next(iter(ends.values())) if len(ends) == 1 else None)
        if module is None:
            continue
        if (other := there.setdefault(id(module), name)) is not name or names.count(name) > 1:
            said = f"{other!r} twice" if other == name else f"{other!r} and {name!r}, which are one module"
            raise SurgeryError(
                f"{type(base).__name__} declares the stages {said}: expected a module of its own for each, in the "
                "order in which they run."
            )


def show(base: nn.Module, names: Sequence[str], stage: int, image: Tensor) -> Stage:
    """The *stage* (from 1) of those that *names* declare, as *base*, evaluating, runs it for *image*.

    Raises:
        SurgeryError: If there is no such stage or module, or it does not run once.
    """
    asked = f"insert='stage:{stage}'"
    if not 1 <= stage <= len(names):
        there = ", ".join(f"'stage:{k}' ({name})" for k, name in enumerate(names, 1))
        raise SurgeryError(f"{asked}: {type(base).__name__} declares {len(names)} stages: {there}.")
    name = full_name(base, names[stage - 1], f"{asked}: {names[stage - 1]!r}")
    with calls_of(base.get_submodule(name)) as calls, torch.no_grad():
        base(image)
    if len(calls) != 1:
        raise SurgeryError(f"{asked}: {name} runs {len(calls)} times per image: declare a module that runs once.")
    given, made = calls[0]
    return Stage(name, bool(given) and is_image(given[0], image), made)


def add_to_stage(
    base: nn.Module, seen: Stage, asked: str, image: Tensor, channels: int, *, reader: int = 0
) -> tuple[AtStage, nn.Module]:
    """Let *channels* of feedback be added to what the stage *seen* of *base* gives, in place.

    The number of what reads the feedback, among all that do, is *reader*.

    Returns:
        The place, and what reads the feedback (weights zero).

    Raises:
        SurgeryError: If it gives no map and no tokens; *asked* is how it was asked for.
    """
    module, made = base.get_submodule(seen.name), seen.made
    if not isinstance(made, Tensor) or made.ndim not in (3, 4):
        got = tuple(made.shape) if isinstance(made, Tensor) else f"a {type(made).__name__}"
        raise SurgeryError(
            f"{asked}: {seen.name} gives {got}: declare a module that gives one map (B, D, h, w) or tokens (B, N, D), "
            "such as one branch of several."
        )

    who, ask = f"{asked}: {seen.name}", made_by(base, module)
    with torch.no_grad():
        layout = (tokens_of if made.ndim == 3 else map_of)(who, module, ask, image, made)
    adds = extend(module, AddsToStage)
    adds.layout, adds.reader = layout, reader
    (height, width), (rows, columns) = size_of(image), grid_on(layout, made, size_of(image))
    mixture = deaf_mixture(channels, layout.to_state(made).shape[1], image)
    return AtStage(stride=(height / rows, width / columns)), mixture
