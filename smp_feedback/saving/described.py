"""What is saved is what is there: the arguments of a base, held against its modules before they are written.

Parts of a base may have been replaced, before it was closed into a loop or after. Its arguments build another model
then, and the saved weights would not come back, or come back and answer otherwise.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from smp_feedback.errors import FeedbackError
from smp_feedback.models.assembly import assemble
from smp_feedback.models.base_norm import with_base_norm
from smp_feedback.models.builder import arguments_of, build_base
from smp_feedback.saving.weights import PREFIX
from smp_feedback.surgery.extension import plain_class

UNHEARD = re.compile(r"(, )?(momentum|inplace|p|drop_prob)=[^,]*|(, )?inplace")
"""Of how a module shows itself, what an evaluating model does not compute with."""


def described(model: Any) -> dict[str, Any]:
    """How to build the base of *model* again, as it is now.

    Raises:
        FeedbackError: If its arguments cannot say what it is; with the first part that differs.
    """
    origin: dict[str, Any] = dict(model.feedback.origin)
    fresh = fresh_base(origin)
    if fresh is None or (wrong := difference(fresh, model)) is None:
        return origin
    classes = _other_classes(origin["arguments"], fresh, model)
    if classes is not None:
        renewed = {**origin, "arguments": {**origin["arguments"], "classes": classes}}
        fresh = fresh_base(renewed)
        if fresh is not None and difference(fresh, model) is None and _loop_fits(renewed, model):
            return renewed
    raise FeedbackError(
        f"This {plain_class(model).__name__} is no longer what its arguments build ({wrong}), and would not come back "
        "from disk as it is: keep its state_dict() beside the code that replaces that part, or register an "
        "architecture that builds it."
    )


def fresh_base(origin: Mapping[str, Any]) -> nn.Module | None:
    """The base that the arguments build, without weights where it can do without; None if nobody can say."""
    arguments = dict(origin["arguments"])
    base_norm = arguments.pop("base_norm", None)
    for device in ("meta", "cpu"):
        try:
            with torch.device(device), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                base = build_base(origin["architecture"], arguments_of(origin["architecture"], arguments))
                return base if base_norm is None else with_base_norm(base, base_norm)
        except Exception:  # a builder of somebody's own may need what is not here now
            continue
    return None


def difference(fresh: nn.Module, model: nn.Module) -> str | None:
    """The first part of the base in *model* that is another than in *fresh*, in words; None if all are alike.

    >>> difference(nn.Sequential(nn.Conv2d(3, 2, 1)), nn.Sequential(nn.Conv2d(3, 7, 1)))
    '0.weight: (7, 3, 1, 1), not (2, 3, 1, 1)'
    """
    theirs, ours = _shapes(fresh), _shapes(model)
    for key in (*theirs, *ours):
        if theirs.get(key) != ours.get(key):
            return f"{key}: {_in_words(ours.get(key))}, not {_in_words(theirs.get(key))}"
    made, found = dict(_modules(fresh)), dict(_modules(model))
    for name in (*made, *found):
        if made.get(name) != found.get(name):
            return f"{name}: {found.get(name) or 'none'}, not {made.get(name) or 'none'}"
    return None


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    own = model.state_dict()
    return {k: tuple(v.shape) for k, v in own.items() if hasattr(v, "shape") and not k.startswith(PREFIX)}


def _in_words(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else str(shape)


def _modules(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Each part of the base that computes, by name, as it shows itself."""
    for name, module in model.named_modules():
        cls = plain_class(module).__name__
        if not name or f"{name}.".startswith(PREFIX) or "Drop" in cls or isinstance(module, nn.Identity):
            continue
        if isinstance(module, _BatchNorm):  # one that was made to keep step over processes is the same
            cls = "BatchNorm"
        yield name, f"{cls}({UNHEARD.sub('', module.extra_repr())})"


def _other_classes(arguments: Mapping[str, Any], fresh: nn.Module, model: nn.Module) -> int | None:
    """The number of classes of a head that was put in the place of one of as many as the arguments say."""
    said, theirs, ours = arguments.get("classes"), _shapes(fresh), _shapes(model)
    changed = [(shape, ours[key]) for key, shape in theirs.items() if ours.get(key, shape) != shape]
    counts = {now[0] for shape, now in changed if shape and now and shape[0] == said and shape[1:] == now[1:]}
    return counts.pop() if len(counts) == 1 else None


def _loop_fits(origin: Mapping[str, Any], model: Any) -> bool:
    """Whether what is new in *model* would be of the same shapes around such a base."""
    arguments = {
        key: value for key, value in origin["arguments"].items() if key not in ("base_norm", "feedback_channels")
    }
    try:
        with torch.random.fork_rng(devices=[]):
            norm = origin["arguments"].get("base_norm")
            again = assemble(origin["architecture"], arguments, model.feedback.config, norm)
    except Exception:
        return False
    theirs, ours = again.state_dict(), model.state_dict()
    return {k: v.shape for k, v in theirs.items()} == {k: v.shape for k, v in ours.items()}
