"""The proof that a base, opened, is still the trained model; and why not, where it is not, in words that fit."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from smp_feedback.errors import SurgeryError
from smp_feedback.ops.maps import masks_of, size_of
from smp_feedback.registry.catalogue import SETTLED
from smp_feedback.surgery.cuts import Cut
from smp_feedback.surgery.extension import asking, calls_of, plain_class
from smp_feedback.surgery.probe import Probe
from smp_feedback.surgery.step_context import StepContext, in_step

WHOLE = "forward_features(image) and forward_head(features) that do all of it"


def prove(model: nn.Module, seen: Probe, step: StepContext, stem: str | None = None) -> bool:
    """The cut model, shown any feedback, answers the probe as the base did.

    Returns:
        Whether each of the readers reads once a step, so that what is said of the rest may be kept.

    Raises:
        SurgeryError: If it does not: its forward does more than the cut knows.
    """
    with ExitStack() as asking, in_step(step):
        calls = [asking.enter_context(calls_of(reader)) for reader in step.readers]
        output, features = seen.cut.body(model, seen.image)
    if not all(calls):
        stem = f"stem={stem!r}: this convolution" if stem else "A convolution that reads the image"
        raise SurgeryError(f"{stem} does not run between the image and the head: it would never read the feedback.")
    check_answer(model, seen, output, features)
    return all(len(each) == 1 for each in calls)


def check_opened(base: nn.Module, seen: Probe) -> None:
    """Body and head of *base*, as they are, answer the probe as *base* itself did.

    Raises:
        SurgeryError: If they do not.
    """
    check_answer(base, seen, *seen.cut.body(base, seen.image))


def check_answer(model: nn.Module, seen: Probe, output: Tensor, features: Tensor | None) -> None:
    """What the head makes of *output*, and the labels of *features*, are the base's own answer to the probe.

    Raises:
        SurgeryError: If they are not, with the cause as far as it shows.
    """
    cut: Cut = seen.cut
    pairs = [(cut.head(model, cut.read(model, output), size_of(seen.image)), seen.logits)]
    if features is not None and seen.labels is not None:
        pairs.append((cut.labels(model, features), seen.labels))
    if not all(same(ours, theirs) for ours, theirs in pairs):
        raise SurgeryError(_cause(model, seen))


def check_elsewhere(base: nn.Module, seen: Probe) -> None:
    """A *base* with a forward of somebody's own is opened right for values beyond [0, 1] and for an odd size, too.

    Such as a forward that scales bytes, clamps or pads. A size that either does not take is no concern here: a call
    with it fails. Forwards of smp, timm and torchvision are known.

    Raises:
        SurgeryError: If it is not, with the images for which it is not.
    """
    if f"{_owner(base).__module__}.".startswith((*SETTLED, "timm.", "torchvision.")):
        return
    image = seen.image
    for other, said in (
        (3 * image - 1, "values outside [0, 1]"),
        (image[..., 2:, 2:], f"{_by(image[..., 2:, 2:])} px"),
    ):
        try:
            cut = seen.cut
            cut.check(base, other)
            answer = cut.answer(base(other), size_of(other))
            ours = cut.head(base, cut.read(base, cut.body(base, other)[0]), size_of(other))
        except Exception:  # as many ways as there are models
            continue
        if not same(ours, masks_of(answer)):
            raise SurgeryError(
                f"{_who(base)} does more with images of {said} than its body and head do, and a loop, which opens the "
                f"model, would leave that out. Keep it out of the model (scale, clamp or pad images before it), or "
                f"give it {WHOLE}."
            )


def _by(image: Tensor) -> str:
    return " x ".join(map(str, size_of(image)))


def same(ours: Tensor, theirs: Tensor) -> bool:
    """Whether two answers are of one shape and, up to rounding in their dtype, of the same values."""
    allowed = 50 * torch.finfo(ours.dtype).eps ** 0.75 * (1 + float(theirs.nan_to_num().abs().max()))
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=0, atol=allowed, equal_nan=True)


def _cause(model: nn.Module, seen: Probe) -> str:
    changed = changed_image(model, seen.image)
    if changed is not None:
        return (
            f"{changed[0]}, and a loop, which opens the model, would leave that out. Keep it out of the model "
            f"(normalise images before it: a dataset's transform, or model.data_config), or give it {WHOLE}."
        )
    return (
        f"{plain_class(model).__name__}: body and head do not reproduce its own answer; {_who(model)} does more than "
        "encoder -> decoder -> segmentation_head. Let it answer bare logits (an activation belongs behind the model), "
        f"or give it {WHOLE}."
    )


def changed_image(model: nn.Module, image: Tensor) -> tuple[str, str] | None:
    """In words, how *model* changes an image before its first convolution, and the name of that; None if it does not.

    Args:
        model: The base, evaluating.
        image: (1, C, H, W), uniform in [0, 1], of a size it takes.
    """
    first: list[tuple[str, Tensor]] = []

    def ask(name: str, conv: nn.Conv2d, inputs: tuple[Any, ...]) -> None:
        if not first and isinstance(inputs[0], Tensor):
            first.append((name, inputs[0]))

    with asking(((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)), ask):
        model(image)
    if not first or not _is_picture(first[0][1], image):
        return None
    conv, (low, high) = first[0][0], (f"{float(x):.2g}" for x in first[0][1].aminmax())
    said = f"{_who(model)} changes the image before its first convolution"
    return f"{said} ({conv} is handed values from {low} to {high} of an image in [0, 1])", conv


def _is_picture(given: Tensor, image: Tensor) -> bool:
    """Whether *given* is *image* with other values, padded perhaps: same channels, as many pixels or more."""
    h, w = image.shape[-2:]
    if given.shape[:2] != image.shape[:2] or given.shape[-2] < h or given.shape[-1] < w:
        return False
    return not torch.equal(given[..., :h, :w].to(image.dtype), image)


def _who(model: nn.Module) -> str:
    """The forward that *model* runs, where a class of somebody's own has one."""
    owner = _owner(model)
    whose = f"{owner.__module__}."
    return f"This {plain_class(model).__name__}" if whose.startswith(SETTLED) else f"{owner.__name__}.forward"


def _owner(model: nn.Module) -> type:
    return next(cls for cls in plain_class(model).__mro__ if "forward" in vars(cls))
