"""An encoder as a chain: its modules in the order in which one image passes through them.

Asked once, by a dry run. An encoder whose modules hand one tensor on from one to the next, and whose features
are what some of them gave, can be entered anywhere: what lies before is run once per image, and only the
rest is run again. Nothing is assumed of the encoder's class; what is no chain is left alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from smp_feedback.ops.maps import resize, size_of
from smp_feedback.surgery.extension import Extension, hooked
from smp_feedback.surgery.step_context import StepContext, current_step

POOLING = (nn.MaxPool2d, nn.AvgPool2d)


class Call(NamedTuple):
    """One module called by the trunk: its name there, what it was given and what it gave."""

    name: str
    given: Any
    gave: Any


class Chain(NamedTuple):
    """A trunk as a chain of modules.

    Attributes:
        trunk: Dotted name of the module whose forward it is.
        links: Names of the modules in it, in order.
        gives: What the trunk returns: for each item the link that made it, -1 for the trunk's own input.
        stages: The link that made each of the encoder's features, by the feature's index from 1.
        sizes: Height of what each link gave in the dry run, after that of the image.
        widths: Channels of what each link gave.
    """

    trunk: str
    links: tuple[str, ...]
    gives: tuple[int, ...]
    stages: dict[int, int]
    sizes: tuple[int, ...]
    widths: tuple[int, ...]

    def stem(self, model: nn.Module) -> tuple[int, int]:
        """The last link of the first block of convolutions to reduce the resolution, and the last of its poolings.

        The block takes the normalisation and activation after it along; poolings that follow are its way
        out, and per channel: the feedback can go through them on its own.
        """
        reduces = next(i for i in range(len(self.links)) if self.sizes[i + 1] < self.sizes[0])
        parts = [model.get_submodule(f"{self.trunk}.{name}") for name in self.links]
        last = reduces
        while last + 1 < len(parts) and not _convolves(parts[last + 1]) and not isinstance(parts[last + 1], POOLING):
            last += 1
        pooled = last
        while pooled + 1 < len(parts) and isinstance(parts[pooled + 1], POOLING):
            pooled += 1
        return last, pooled


class EntersLate(Extension):
    """A trunk that, in a look, goes on from what was computed once per image, and adds the feedback where it enters."""

    chain: Chain
    entry: int  # the first link behind a place where the feedback enters
    begins: bool  # whether no feedback enters before, so that what lies there is computed once
    adds: dict[int, int]  # the links to whose answers the feedback is added, and the reader of each

    def begin(self, image: Tensor) -> tuple[Tensor, ...]:
        """What the links before the entry give, as far as it is needed later; the last is handed on."""
        x, stages, kept = image, [], self.kept
        for i, name in enumerate(self.chain.links[: self.entry]):
            x = self.get_submodule(name)(x)
            if i in kept:
                stages.append(x)
        return tuple(stages)

    @property
    def kept(self) -> list[int]:
        """The links before the entry whose answers are needed later."""
        return sorted({i for i in self.chain.gives if 0 <= i < self.entry} | {self.entry - 1})

    def forward(self, image: Tensor) -> Any:
        """As ever outside a loop; in a look, the links from the entry on."""
        step = current_step()
        if step is None:
            return super().forward(image)
        stages = step.once.stages if self.begins and image is step.once.image else ()
        stages = stages or self.begin(image)
        made = {-1: image, **dict(zip(self.kept, stages, strict=True))}
        x = made[self.entry - 1] = self._heard(step, self.entry - 1, made[self.entry - 1])
        for i, link in enumerate(self.rest(), start=self.entry):
            x = self._heard(step, i, link(x))
            if i in self.chain.gives:
                made[i] = x
        return [made[i] for i in self.chain.gives]

    def _heard(self, step: StepContext, link: int, x: Tensor) -> Tensor:
        """What *link* gave, with the feedback where it enters there: on the grid of the first place, or resized."""
        if link not in self.adds:
            return x
        return x + cast(Tensor, step.readers[self.adds[link]](resize(step.feedback, size_of(x))))

    def rest(self) -> list[nn.Module]:
        """The links that every look runs."""
        return [self.get_submodule(name) for name in self.chain.links[self.entry :]]


def chain_of(model: nn.Module, image: Tensor) -> Chain | None:
    """The chain inside ``model.encoder``, if there is one; *model* must be evaluating.

    Args:
        model: A model with an encoder that gives a list of features.
        image: (1, C, H, W), of a size it takes.
    """
    encoder = getattr(model, "encoder", None)
    if not isinstance(encoder, nn.Module):
        return None
    inner = getattr(encoder, "model", None)  # timm's encoders keep their network there
    for trunk, name in ((encoder, "encoder"), (inner, "encoder.model")):
        if isinstance(trunk, nn.Module) and (chain := _traced(encoder, trunk, name, image)):
            return chain
    return None


def _traced(encoder: nn.Module, trunk: nn.Module, name: str, image: Tensor) -> Chain | None:
    with _recording(trunk) as (whole, calls), torch.no_grad():
        features = encoder(image)
    if len(whole) != 1 or whole[0].given is not image or not _handed_on(image, calls):
        return None
    gives = _makers(image, calls, whole[0].gave)
    if gives is None or not isinstance(features, list):
        return None
    stages = {k: i for k, f in enumerate(features) if k and (i := _maker(calls, f)) is not None}
    sizes = (image.shape[-2], *(call.gave.shape[-2] for call in calls))
    widths = tuple(call.gave.shape[1] for call in calls)
    return Chain(name, tuple(call.name for call in calls), gives, stages, sizes, widths)


@contextmanager
def _recording(trunk: nn.Module) -> Iterator[tuple[list[Call], list[Call]]]:
    """The calls of *trunk*, and those that it makes itself (not those made inside them)."""
    whole: list[Call] = []
    calls: list[Call] = []
    open_calls: list[str] = []

    def before(name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        open_calls.append(name)

    def after(name: str, module: nn.Module, args: Any, kwargs: Any, gave: Any) -> None:
        open_calls.pop()
        given = args[0] if len(args) == 1 and not kwargs else None
        if module is trunk:
            whole.append(Call(name, given, gave))
        elif open_calls == [""]:
            calls.append(Call(name, given, gave))

    hooks = []
    for name, module in trunk.named_modules():
        hooks.append(module.register_forward_pre_hook(functools.partial(before, name), with_kwargs=True))
        hooks.append(module.register_forward_hook(functools.partial(after, name), with_kwargs=True))
    with hooked(hooks):
        yield whole, calls


def _handed_on(image: Tensor, calls: list[Call]) -> bool:
    """Whether each call was given what the one before gave, the first the image.

    A function in place between two calls is not seen here; the proof that nothing has changed refuses it.
    """
    given = [image, *(call.gave for call in calls)]
    maps = all(isinstance(call.gave, Tensor) and call.gave.ndim == 4 for call in calls)
    return bool(calls) and maps and all(call.given is x for call, x in zip(calls, given, strict=False))


def _makers(image: Tensor, calls: list[Call], gave: Any) -> tuple[int, ...] | None:
    """For each tensor in the list *gave*, the call that made it, -1 for the image; None if something else did."""
    if not isinstance(gave, list):
        return None
    makers = [-1 if item is image else _maker(calls, item) for item in gave]
    return None if None in makers else tuple(cast("list[int]", makers))


def _maker(calls: list[Call], item: Any) -> int | None:
    """The last call that gave *item*: an activation in place gives what it was given."""
    return next((i for i in reversed(range(len(calls))) if calls[i].gave is item), None)


def _convolves(module: nn.Module) -> bool:
    return any(isinstance(part, nn.Conv2d) for part in module.modules())
