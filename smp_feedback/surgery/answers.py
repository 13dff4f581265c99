"""What a base answers, held to what a loop needs of it: finite logits no smaller than the image, and labels perhaps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from smp_feedback.errors import SurgeryError
from smp_feedback.ops.maps import Size, size_of

LOGITS = "expected logits (B, classes, H, W), (B, classes) of a classifier, or (masks, labels)"


class Answer(NamedTuple):
    """Logits (B, classes, H, W) or (B, classes), and the labels (B, n) beside masks."""

    logits: Tensor
    labels: Tensor | None = None


def takes_size(function: Callable[..., Any]) -> bool:
    """Whether *function* of an answer is to be told the image's size, too.

    It is where its second argument has no default, or is called ``size``.

    >>> takes_size(lambda answer: answer), takes_size(lambda answer, size: answer)
    (False, True)
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some that are written in C say nothing
        return False
    second = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][1:2]
    return any(p.name == "size" or p.default is p.empty for p in second)


def without_size(function: Callable[[Any], Any], answer: Any, size: Size | None = None) -> Any:
    """*function* of the *answer* alone."""
    return function(answer)


def checked_answer(who: str, answer: Any, image: Tensor) -> Answer:
    """*answer* of the base called *who* to *image* (B, C, H, W), taken apart.

    Raises:
        SurgeryError: If a loop, or a loss, could not use it, with what to do.
    """
    logits, labels = _parts(who, answer)
    shape = tuple(logits.shape)
    if logits.ndim not in (2, 4) or shape[0] != image.shape[0]:
        raise SurgeryError(f"{who} answers {shape} for an image {tuple(image.shape)}: {LOGITS}.")
    if not logits.is_floating_point():
        raise SurgeryError(f"{who} answers {logits.dtype}: {LOGITS}, before any argmax or threshold.")
    if logits.ndim == 4 and is_smaller(size_of(logits), size_of(image)):
        raise SurgeryError(
            f"{who} answers logits of {_by(logits)} for an image of {_by(image)}: let its head resize them to the "
            "image's size at least (upsample in forward_head; or in head(model, output, size) of a Cut, and "
            "alike in its answer(answer, size))."
        )
    if not bool(torch.isfinite(logits).all()):
        raise SurgeryError(f"{who} answers NaN or infinite values to an image of uniform noise in [0, 1].")
    return Answer(logits, labels)


def is_smaller(made: Sequence[int], shown: Sequence[int]) -> bool:
    """Whether a map of *made* rows and columns is smaller than an image of *shown*, in one of them.

    >>> is_smaller((64, 64), (64, 64)), is_smaller((128, 32), (64, 64))
    (False, True)
    """
    return any(one < other for one, other in zip(made, shown, strict=True))


def _parts(who: str, answer: Any) -> tuple[Tensor, Tensor | None]:
    if isinstance(answer, Tensor):
        return answer, None
    if isinstance(answer, tuple) and len(answer) == 2 and _are_masks_and_labels(*answer):
        return answer[0], answer[1]
    got, take = _described(answer)
    raise SurgeryError(
        f"{who} answers {got}: {LOGITS}. Let its forward return the logits, or take them out with a cut of its class: "
        f"register_cut(..., smp_feedback.Cut(body, head, answer=lambda answer, size: {take}))."
    )


def _are_masks_and_labels(masks: Any, labels: Any) -> bool:
    both = isinstance(masks, Tensor) and isinstance(labels, Tensor)
    return both and masks.ndim == 4 and labels.ndim == 2


def _described(answer: Any) -> tuple[str, str]:
    """What *answer* is, and how its logits are probably taken out."""
    kind = type(answer).__name__
    if hasattr(answer, "logits"):
        return f"a {kind} with logits", "answer.logits"
    if isinstance(answer, Mapping):
        keys = [str(key) for key in answer]
        usual = next((key for key in ("out", "logits") if key in keys), keys[0] if keys else "out")
        return f"a {kind} ({', '.join(keys[:5])})", f"answer[{usual!r}]"
    if isinstance(answer, (tuple, list)):
        parts = [str(tuple(part.shape)) if isinstance(part, Tensor) else type(part).__name__ for part in answer[:5]]
        return f"a {kind} of {len(answer)}: {', '.join(parts)}", "answer[0]"
    return f"a {kind}", "..."


def _by(x: Tensor) -> str:
    return " x ".join(map(str, size_of(x)))
