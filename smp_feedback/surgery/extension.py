"""Opening a base model: behaviour is added to its modules in place, and hooks that ask them know how to leave.

Nothing of the base is replaced: an extended module keeps its weights, keys and type, and copies and pickles as before.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.utils.hooks import RemovableHandle

from smp_feedback.errors import SurgeryError, did_you_mean, suggestion

_extended: dict[tuple[type[nn.Module], type[nn.Module]], type[nn.Module]] = {}
M = TypeVar("M", bound=nn.Module)
CARRIERS = DataParallel, DistributedDataParallel, AveragedModel  # what calls the model that is in its ``module``


class Extension(nn.Module):
    """Behaviour that is added to a module of any class; see :func:`extend`."""

    _base_class: type[nn.Module]
    _extension: type[nn.Module]

    def __reduce_ex__(self, protocol: Any) -> Any:
        # the extended class has no importable name: copies and pickles are built from its parts
        return _blank, (plain_class(self), *extensions(self)), self.__dict__.copy()


class ClosedLoop(Extension):
    """A base model that was closed into a loop: what every loop is, to rooms that need not know more of it."""

    feedback: Any


class InParts(nn.Module):
    """What asks the *model* inside about an image part by part: images are as that one expects them."""

    model: nn.Module


def asked_in(model: nn.Module) -> nn.Module:
    """The model that *model* asks part by part, or *model* itself."""
    return model.model if isinstance(model, InParts) else model


def carried(model: nn.Module) -> list[nn.Module]:
    """*model*, and what it only carries, outermost first: a model that was compiled, averaged or put on devices.

    >>> [type(one).__name__ for one in carried(nn.DataParallel(nn.ReLU()))]
    ['DataParallel', 'ReLU']
    """
    found = [model]
    while True:
        last = found[-1]
        inside = last._modules.get("module" if isinstance(last, CARRIERS) else "_orig_mod")  # as torch.compile has it
        if inside is None:
            return found
        found.append(inside)


def looping_in(model: nn.Module) -> nn.Module:
    """The looping model that *model* carries, or *model* itself: only that one can be opened look by look."""
    inside = carried(model)[-1]
    return inside if isinstance(inside, ClosedLoop) else model


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


@contextmanager
def hooked(hooks: Iterable[RemovableHandle]) -> Iterator[None]:
    """Context: *hooks* are there, and then no more."""
    handles = list(hooks)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def asking(
    modules: Iterable[tuple[str, M]], before: Callable[[str, M, tuple[Any, ...]], None]
) -> AbstractContextManager[None]:
    """Context: *before* is told name, module and inputs whenever one of *modules* is called."""
    return hooked(m.register_forward_pre_hook(functools.partial(before, name)) for name, m in modules)


@contextmanager
def calls_of(module: nn.Module) -> Iterator[list[tuple[tuple[Any, ...], Any]]]:
    """Context: what *module* is given and gives, call by call."""
    calls: list[tuple[tuple[Any, ...], Any]] = []
    with hooked([module.register_forward_hook(lambda _, given, gave: calls.append((given, gave)))]):
        yield calls


def made_by(base: nn.Module, module: nn.Module) -> Callable[[Any], Any]:
    """What *module* of *base* gives, at its last call, as a function of what *base* is given."""

    def made(given: Any) -> Any:
        with calls_of(module) as calls:
            base(given)
        return calls[-1][1]

    return made


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
