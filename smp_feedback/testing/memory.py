"""What a model remembers between calls: nothing."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from smp_feedback.loops.base import FeedbackModel
from smp_feedback.ops.maps import masks_of
from smp_feedback.testing.promises import hearing

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)
OPAQUE = (nn.Module, type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType)


@torch.no_grad()
def check_stateless(model: FeedbackModel, image: Tensor) -> None:
    """No call leaves anything behind: in evaluation, no answer depends on the calls before it or beside it.

    Looks at every attribute, buffer and hook of every module, after a first call (which may make what depends on the
    image's size alone), and serves two batches from two threads.
    """
    model.eval()
    other = image.flip(-1) / 2
    with hearing(model):
        expected = [masks_of(model(x)) for x in (image, other)]
        before = contents(model)
        model(image)
        check_unchanged(before, contents(model))
        assert torch.equal(masks_of(model(image)), expected[0]), "asked twice, it answers otherwise"
        with ThreadPoolExecutor(2) as threads:
            # a thread has a gradient mode of its own, and attention takes another kernel where its mask has gradients
            answers = list(threads.map(torch.no_grad()(lambda x: masks_of(model(x))), [image, other]))
        for answer, alone in zip(answers, expected, strict=True):
            assert torch.equal(answer, alone), "two threads disturb each other"


def contents(module: nn.Module) -> dict[str, object]:
    """All that *module* and what is in it hold, by path: tensors as copies, anything else as it is.

    >>> norm = nn.BatchNorm1d(2)
    >>> before = contents(norm)
    >>> _ = norm(torch.rand(3, 2))
    >>> check_unchanged(before, contents(norm))
    Traceback (most recent call last):
    AssertionError: a call changed ._buffers['running_mean']...
    """
    return {
        path: value
        for name, part in module.named_modules()
        for key, attribute in vars(part).items()
        for path, value in _leaves(f"{name}.{key}", attribute, frozenset())
    }


def check_unchanged(before: Mapping[str, object], after: Mapping[str, object]) -> None:
    """Nothing came, went or changed between two :func:`contents`."""
    for path in before.keys() | after.keys():
        assert path in before, f"a call left {path} behind"
        assert path in after, f"a call removed {path}"
    for path, value in before.items():
        assert _same(value, after[path]), f"a call changed {path}"


def _leaves(path: str, value: object, inside: frozenset[int]) -> Iterator[tuple[str, object]]:
    """What *value* is made of, containers and objects opened; *inside* is what is open already."""
    if id(value) in inside:
        return
    within = inside | {id(value)}
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _leaves(f"{path}[{key!r}]", one, within)
    elif isinstance(value, list | tuple | set | frozenset | deque) and not isinstance(value, torch.Size):
        yield f"len({path})", len(value)
        for i, one in enumerate(value):
            yield from _leaves(f"{path}[{i}]", one, within)
    elif isinstance(value, Tensor):
        yield path, value.clone()
    else:
        yield path, value
        if hasattr(value, "__dict__") and not isinstance(value, OPAQUE):
            yield from _leaves(path, vars(value), within)


def _same(old: object, new: object) -> bool:
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        return old.shape == new.shape and old.dtype == new.dtype and bool(((old == new) | (old != old)).all())
    if isinstance(old, PLAIN):
        return type(old) is type(new) and (old == new or old != old)
    return old is new
