"""Opening a base model: every cut small, and provable.

Nothing of the base is replaced. A convolution that reads the image keeps its weight, keys and type, and
answers ``conv(x) + reader(u)``, which is what a convolution over ``[x, u]`` computes; the reader is new and
starts at zero.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from timm.layers import create_conv2d
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from smp_feedback.errors import SurgeryError, did_you_mean, suggestion
from smp_feedback.look import current_look, tell

_extended: dict[tuple[type[nn.Module], type[nn.Module]], type[nn.Module]] = {}
STANDARDISED = (StdConv2d, StdConv2dSame, ScaledStdConv2d, ScaledStdConv2dSame)
M = TypeVar("M", bound=nn.Module)


class Extension(nn.Module):
    """Behaviour that is added to a module of any class; see :func:`extend`."""

    _base_class: type[nn.Module]
    _extension: type[nn.Module]

    def __reduce_ex__(self, protocol: Any) -> Any:
        # the extended class has no importable name: copies and pickles are built from its parts
        return _blank, (plain_class(self), *extensions(self)), self.__dict__.copy()


def extended(base: type[nn.Module], extension: type[nn.Module]) -> type[nn.Module]:
    """The class that is both, *extension* first; made once for each pair."""
    if (base, extension) in _extended:
        return _extended[base, extension]
    facts = {"__module__": extension.__module__, "_base_class": base, "_extension": extension}
    return _extended.setdefault(
        (base, extension), type(f"{extension.__name__}{base.__name__}", (extension, base), facts)
    )


def extend(module: nn.Module, extension: type[M]) -> M:
    """Add *extension* to *module*, in place: the same object, weights, keys and ``isinstance``.

    >>> class Loud(Extension):
    ...     def forward(self, x):
    ...         return 2 * super().forward(x)
    >>> module = nn.ReLU()
    >>> _ = extend(module, Loud)
    >>> module(torch.tensor(3.0)), isinstance(module, nn.ReLU)
    (tensor(6.), True)
    """
    module.__class__ = extended(type(module), extension)
    return cast(M, module)


def plain_class(module: nn.Module) -> type[nn.Module]:
    """The class of *module* before any extension."""
    cls = type(module)
    while issubclass(cls, Extension):
        cls = cls._base_class
    return cls


def extensions(module: nn.Module) -> list[type[nn.Module]]:
    """What was added to the class of *module*, the first first.

    >>> extensions(extend(nn.ReLU(), Extension)) == [Extension]
    True
    """
    cls, found = type(module), list[type[nn.Module]]()
    while issubclass(cls, Extension):
        found.insert(0, cls._extension)
        cls = cls._base_class
    return found


def _blank(base: type[nn.Module], *added: type[nn.Module]) -> nn.Module:
    cls = functools.reduce(extended, added, base)
    return nn.Module.__new__(cls)


class ReadsFeedback(Extension):
    """A convolution that now reads the feedback too."""

    reader: int  # which of the readers answers for this convolution
    reads_image: bool  # or something made from it

    def forward(self, x: Tensor) -> Tensor:
        """conv(x) + reader(u); conv(x) alone outside a loop."""
        look = current_look()
        if look is None:
            answer = cast(Tensor, super().forward(x))
            tell(answer)
            return answer
        u = fit(look.feedback, x, pad=self.reads_image)
        known = look.once.heard and u is look.feedback  # of a padded image it is not
        answer = look.once.heard[self.reader] if known else cast(Tensor, super().forward(x))
        return cast(Tensor, look.readers[self.reader](u)).add_(answer)  # in its own memory


def fit(feedback: Tensor, image: Tensor, *, pad: bool) -> Tensor:
    """*feedback* on the grid of *image*, which the base may have padded (or, not *pad*, resized)."""
    (h, w), (height, width) = feedback.shape[-2:], image.shape[-2:]
    if (h, w) == (height, width):
        return feedback
    if pad:
        return F.pad(feedback, (0, width - w, 0, height - h))
    return F.interpolate(feedback, (height, width), mode="bilinear", align_corners=False)


def sibling(conv: nn.Conv2d, channels: int) -> nn.Conv2d:
    """A convolution that reads *channels* where *conv* reads the image: same grid, no bias, weight zero.

    A copy of *conv*, so that whatever padding its class does comes along, except where the class
    standardises its weight, which would turn the smallest weight into a full-sized answer.
    """
    size = (conv.out_channels, channels, *conv.kernel_size)
    if isinstance(conv, STANDARDISED):
        same = isinstance(conv, (StdConv2dSame, ScaledStdConv2dSame))
        padding: Any = "same" if same else conv.padding
        facts = {"stride": conv.stride, "dilation": conv.dilation, "padding": padding, "bias": False}
        twin = cast(nn.Conv2d, create_conv2d(channels, conv.out_channels, conv.kernel_size, **facts))
    else:
        twin = copy.deepcopy(conv)
        if parametrize.is_parametrized(twin):  # the class is made for conv alone, and would ask for its parts
            twin.__class__ = parametrize.type_before_parametrizations(conv)
            del twin.parametrizations
        for hooks in (value for name, value in vars(twin).items() if "_hooks" in name):
            hooks.clear()
        twin.in_channels, twin.groups, twin.bias = channels, 1, None
    twin.weight = nn.Parameter(torch.zeros(size, dtype=conv.weight.dtype, device=conv.weight.device))
    return twin


def add_readers(convs: list[nn.Conv2d], channels: int, *, reads_image: bool) -> nn.ModuleList:
    """Let *convs* read the feedback, in place; returns their readers."""
    readers = nn.ModuleList(sibling(conv, channels) for conv in convs)
    for index, conv in enumerate(convs):
        extended_conv = extend(conv, ReadsFeedback)
        extended_conv.reader, extended_conv.reads_image = index, reads_image
    return readers


def image_readers(model: nn.Module, image: Tensor) -> tuple[dict[str, nn.Conv2d], Any]:
    """The convolutions that are handed *image* (B, C, H, W) itself, by dotted name, and the model's answer.

    Compares values, not identity: some models pad the image first. An image handed on padded at its right
    and lower edge still counts.
    """
    found: dict[str, nn.Conv2d] = {}

    def ask(name: str, conv: nn.Conv2d, inputs: tuple[Any, ...]) -> None:
        x, (h, w) = inputs[0], image.shape[-2:]
        if x.shape[:2] == image.shape[:2] and torch.equal(x[..., :h, :w].to(image.dtype), image):
            found[name] = conv

    with asking(((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)), ask):
        return found, model(image)


@contextmanager
def asking(modules: Iterable[tuple[str, M]], before: Callable[[str, M, tuple[Any, ...]], None]) -> Iterator[None]:
    """*before* is told name, module and inputs whenever one of *modules* is called."""
    hooks = [m.register_forward_pre_hook(functools.partial(_told, before, name)) for name, m in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _told(before: Callable[..., None], name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
    before(name, module, inputs)


def full_name(model: nn.Module, name: str, asked: str) -> str:
    """The dotted name of the module of *model* that is called *name*, or whose name ends so; *asked* is how.

    Raises:
        SurgeryError: If none is, or several are.
    """
    names = [str(full) for full, _ in model.named_modules() if full]
    found = [full for full in names if full == name] or [full for full in names if full.endswith(f".{name}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise SurgeryError(f"{asked} may be {', '.join(found[:5])}: give the whole name of one.")
    close = did_you_mean(name, [*names, *(full.rpartition(".")[2] for full in names)])
    raise SurgeryError(
        f"{asked}: no module of this {type(model).__name__} is called that. "
        f"{suggestion(close, [child for child, _ in model.named_children()])}"
    )


def named_stem(model: nn.Module, stem: str) -> nn.Conv2d:
    """The convolution called *stem*, or an error that names those there are."""
    convs = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    if stem not in convs:
        close = suggestion(did_you_mean(stem, convs), list(convs))
        raise SurgeryError(f"stem={stem!r} is no convolution of this {type(model).__name__}. {close}")
    return convs[stem]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """*model* in evaluation mode and without gradients; every module's own mode is restored."""
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
