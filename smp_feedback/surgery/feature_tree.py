"""What an encoder gives: maps in lists, tuples and dicts, taken apart into tensors and put together again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from torch import Tensor

from smp_feedback.errors import SurgeryError


class Leaf(NamedTuple):
    """Where a tensor lies in a tree: which of the tensors it is, or the image itself (-1)."""

    number: int


IMAGE = Leaf(-1)


def taken_apart(gave: Any, image: Tensor) -> tuple[Any, tuple[Tensor, ...]]:
    """The form of what an encoder *gave* for *image*, and its tensors, but for the image itself.

    Raises:
        SurgeryError: If there is something in it that is no tensor, None, list, tuple or dict.

    >>> import torch
    >>> image, deep = torch.zeros(1, 3, 4, 4), torch.ones(1, 8, 2, 2)
    >>> form, tensors = taken_apart([image, None, deep], image)
    >>> form, len(tensors)
    ([Leaf(number=-1), None, Leaf(number=0)], 1)
    >>> put_together(form, tensors, image)[2] is deep
    True
    """
    tensors: list[Tensor] = []

    def form_of(part: Any) -> Any:
        if isinstance(part, Tensor):
            if part is image:
                return IMAGE
            tensors.append(part)
            return Leaf(len(tensors) - 1)
        return _mapped(part, form_of)

    return form_of(gave), tuple(tensors)


def put_together(form: Any, tensors: Sequence[Tensor], image: Tensor) -> Any:
    """The inverse of :func:`taken_apart`, of other *tensors*; its lists are new."""
    if isinstance(form, Leaf):
        return image if form == IMAGE else tensors[form.number]
    return _mapped(form, lambda part: put_together(part, tensors, image))


def places_in(form: Any) -> dict[int, int]:
    """The tensors of *form*, by their numbers: from 1 as they come, or from 0 where the first is the image itself.

    >>> places_in([IMAGE, Leaf(0), None, Leaf(1)]), places_in({"out": Leaf(0)})
    ({1: 0, 3: 1}, {1: 0})
    """
    leaves = list(_leaves(form))
    first = 0 if leaves[:1] == [IMAGE] else 1
    return {k: leaf.number for k, leaf in enumerate(leaves, first) if leaf is not None and leaf != IMAGE}


def _leaves(form: Any) -> Iterator[Leaf | None]:
    if form is None or isinstance(form, Leaf):
        yield form
    else:
        for part in form.values() if isinstance(form, Mapping) else form:
            yield from _leaves(part)


def _mapped(tree: Any, change: Any) -> Any:
    """*tree* with what *change* makes of its parts."""
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return cast(Any, type(tree))({key: change(part) for key, part in tree.items()})
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(change(part) for part in tree))
    if isinstance(tree, (list, tuple)):
        return type(tree)([change(part) for part in tree])
    raise SurgeryError(
        f"The encoder gives a {type(tree).__name__} among its features: expected maps (B, C, h, w), in lists, tuples "
        "or dicts."
    )
