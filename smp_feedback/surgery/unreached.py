"""What of a decoder no feedback reaches: found by a dry run, then computed once per image and kept for every look.

Feedback that enters deep in an encoder leaves its shallow features as they are. A module of the decoder that is handed
nothing else gives the same in every look. A convolution over a concatenation answers ``conv_a(a) + conv_b(b)``, and
where b is such a feature, ``conv_b(b)`` is the same.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from smp_feedback.surgery.extension import Extension, extend, hooked, plain_class
from smp_feedback.surgery.hooks import is_hooked
from smp_feedback.surgery.step_context import collect_answer, collecting_answers, current_step

ENCODER, DECODER = "encoder", "decoder"
KNOWN = "segmentation_models_pytorch."
"""Whose models hand encoder and decoder the image and the features as they are, whatever their size and mode."""


@dataclass(frozen=True)
class Unreached:
    """A module that no feedback reaches.

    Attributes:
        name: Its dotted name.
        reads: What it is handed: of the stages that are computed once, and after them of what others before it gave.
    """

    name: str
    reads: tuple[int, ...]

    def open(self, model: nn.Module, number: int) -> None:
        """Let it give what is kept under that *number*, in place."""
        module = extend(model.get_submodule(self.name), GivesWhatIsKept)
        module.number, module.reads = number, self.reads

    def answer(self, model: nn.Module, given: list[Tensor]) -> Tensor | None:
        """What it gives, before its hooks, which act in every look; None where it, or its forward, was replaced."""
        module = model.get_submodule(self.name)
        if not isinstance(module, GivesWhatIsKept):
            return None
        with collecting_answers() as answers:
            module(*given)
        return answers[-1] if answers else None


@dataclass(frozen=True)
class UnreachedColumns(Unreached):
    """A convolution over a concatenation, to whose last channels no feedback comes.

    Attributes:
        reached: How many channels lie before them.
    """

    reached: int

    def open(self, model: nn.Module, number: int) -> None:
        """Let it compute the other channels' part alone, in place."""
        conv = extend(cast(nn.Conv2d, model.get_submodule(self.name)), ReadsTheRest)
        conv.number, conv.reached = number, self.reached

    def answer(self, model: nn.Module, given: list[Tensor]) -> Tensor | None:
        """What it says of these channels; None where it was replaced, or a hook is on its way.

        A hook might change them, or gather the weights of what is spread over processes, for that call alone.
        """
        conv = model.get_submodule(self.name)
        if not isinstance(conv, ReadsTheRest) or any(is_hooked(module) for module in self._way(model)):
            return None
        return part_of(cast(nn.Conv2d, conv), torch.cat(given, 1), slice(self.reached, None), None)

    def _way(self, model: nn.Module) -> Iterator[nn.Module]:
        """The modules through which the features come to it: the encoder's own chain, and all that it lies in."""
        encoder = model.get_submodule(ENCODER)
        yield encoder
        yield from (inner for name, inner in encoder.named_children() if name == "model")  # as smp keeps timm's
        parts = self.name.split(".")
        yield from (model.get_submodule(".".join(parts[:end])) for end in range(1, len(parts) + 1))


class GivesWhatIsKept(Extension):
    """A module that, in a look, gives what was kept of it: where it is handed what that was made of."""

    number: int
    reads: tuple[int, ...]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As ever outside a loop, and where a hook hands it something else."""
        step = current_step()
        if step is None:
            made = super().forward(*args, **kwargs)
            collect_answer(made)
            return made
        once = step.once
        kept = once.kept[self.number] if once.kept else None
        if kept is None or kwargs or len(args) != len(self.reads):
            return super().forward(*args, **kwargs)
        known = (*once.stages, *once.kept)
        same = all(given is known[i] for given, i in zip(args, self.reads, strict=True))
        return kept if same else super().forward(*args, **kwargs)


class ReadsTheRest(Extension):
    """A convolution that, in a look, reads its first channels and adds what was kept of the others."""

    number: int
    reached: int

    def forward(self, x: Tensor) -> Tensor:
        """As ever outside a loop."""
        step = current_step()
        kept = step.once.kept[self.number] if step is not None and step.once.kept else None
        if kept is None:
            return cast(Tensor, super().forward(x))
        conv = cast(nn.Conv2d, self)
        return part_of(conv, x[:, : self.reached], slice(self.reached), conv.bias).add_(kept)  # in its own memory


def part_of(conv: nn.Conv2d, x: Tensor, channels: slice, bias: Tensor | None) -> Tensor:
    """What *conv* says of those of its *channels* that *x* is.

    >>> conv, x = nn.Conv2d(5, 2, 3, padding=1), torch.rand(1, 5, 4, 4)
    >>> parts = part_of(conv, x[:, :3], slice(3), conv.bias) + part_of(conv, x[:, 3:], slice(3, None), None)
    >>> torch.allclose(parts, conv(x), atol=1e-6)
    True
    """
    return F.conv2d(x, conv.weight[:, channels], bias, conv.stride, conv.padding, conv.dilation)


def keep(model: nn.Module, unreached: Sequence[Unreached], stages: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    """What each of *unreached* gives for these *stages*; None where it has to run in every look."""
    known: list[Tensor | None] = [*stages]
    for one in unreached:
        given = [x for i in one.reads if (x := known[i]) is not None]
        known.append(one.answer(model, given) if len(given) == len(one.reads) else None)
    return tuple(known[len(stages) :])


@contextmanager
def watching(model: nn.Module, stages: tuple[Tensor, ...]) -> Iterator[list[Unreached]]:
    """Context: what of the decoder of *model*, in the one look inside, is handed *stages* alone, in its order.

    Whatever feedback reaches must differ from *stages* by then: readers with weights of zero will not do.
    """
    found: list[Unreached] = []
    decoder = getattr(model, DECODER, None)
    if not isinstance(decoder, nn.Module):
        yield found
        return
    ends = (decoder, getattr(model, ENCODER, None))
    known_way = all(isinstance(end, nn.Module) and plain_class(end).__module__.startswith(KNOWN) for end in ends)
    watch = _Watch(found, stages, columns=known_way)
    hooks = []
    for name, module in decoder.named_modules(prefix=DECODER):
        hooks.append(module.register_forward_pre_hook(functools.partial(watch.before, name), with_kwargs=True))
        hooks.append(module.register_forward_hook(functools.partial(watch.after, name), with_kwargs=True))
    with hooked(hooks), watch:
        yield found
    if len(set(watch.called)) < len(watch.called):  # one that runs twice in a look would have two answers
        found.clear()


class _Watch(TorchFunctionMode):
    """Follows one look through a decoder: tensors that no feedback reached, and what was concatenated of them."""

    def __init__(self, found: list[Unreached], stages: tuple[Tensor, ...], *, columns: bool) -> None:
        super().__init__()
        self.found, self.columns = found, columns
        self.known, self.stages = list(stages), len(stages)
        self.called: list[str] = []
        self.inside: tuple[str, tuple[int, ...]] | None = None
        self.joined: list[tuple[Tensor, list[Tensor]]] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run it, and remember what was concatenated over channels."""
        made = function(*args, **(kwargs or {}))
        if function is torch.cat and (*args[1:], *(kwargs or {}).values()) == (1,):
            self.joined.append((made, list(args[0])))
        return made

    def before(self, name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.called.append(name)
        if self.inside is not None or kwargs or not args:
            return
        reads = [self._number(x) for x in args]
        if None not in reads:
            self.inside = name, tuple(cast("list[int]", reads))
        elif self.columns and _can_be_parted(module):
            self._part(name, cast(nn.Conv2d, module), args[0])

    def after(self, name: str, module: nn.Module, args: Any, kwargs: Any, gave: Any) -> None:
        if self.inside is None or self.inside[0] != name:
            return
        (_, reads), self.inside = self.inside, None
        if isinstance(gave, Tensor) and self._number(gave) is None:
            self._add(Unreached(name, reads), gave)

    def _part(self, name: str, conv: nn.Conv2d, x: Tensor) -> None:
        """Add the last channels of what *conv* is handed, as far as no feedback comes to them."""
        reads, reached = list[int](), conv.in_channels
        for part in reversed(self._parts(x)):
            number = self._number(part, copied=True)
            if number is None:
                break
            reads.insert(0, number)
            reached -= part.shape[1]
        if 0 < reached < conv.in_channels:  # a stage may be of no channels, as smp's of Mix Transformers
            self._add(UnreachedColumns(name, tuple(reads), reached), x)

    def _add(self, one: Unreached, gave: Tensor) -> None:
        self.found.append(one)
        self.known.append(gave)

    def _parts(self, x: Tensor) -> list[Tensor]:
        """What *x* was concatenated of, and those of."""
        parts = next((parts for made, parts in self.joined if made is x), None)
        return [x] if parts is None else [inner for part in parts for inner in self._parts(part)]

    def _number(self, x: Any, *, copied: bool = False) -> int | None:
        """Which of the known *x* is; or, *copied*, has the values of: resized to the size that it had."""
        for i, known in enumerate(self.known):
            if x is known and not (i >= self.stages and isinstance(self.found[i - self.stages], UnreachedColumns)):
                return i
            if copied and i >= self.stages and x.shape == known.shape and torch.equal(x, known):
                return i
        return None


def _can_be_parted(module: nn.Module) -> bool:
    plain = plain_class(module) is nn.Conv2d and not parametrize.is_parametrized(module)
    return plain and cast(nn.Conv2d, module).groups == 1 and cast(nn.Conv2d, module).padding_mode == "zeros"
