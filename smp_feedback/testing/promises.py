"""What every model that looks again promises, whatever its base and its loop.

>>> import segmentation_models_pytorch as smp
>>> plain = smp.Unet("resnet18", encoder_weights=None)
>>> check_lossless(plain, torch.rand(1, 3, 64, 64))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from smp_feedback.config.recurrent import Recurrent
from smp_feedback.factory import wrap
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.ops.maps import masks_of, size_of
from smp_feedback.surgery.answers import is_smaller
from smp_feedback.surgery.cuts import cut_of

ROUNDING = 1e-3  # what another order of summation may become after a few looks


def check_lossless(
    plain: nn.Module, image: Tensor, *, tolerance: float = 1e-4, config: Recurrent | None = None
) -> None:
    """Wrapped with ``dynamics="residual"``, *plain* answers as before for every number of steps, and back again.

    Args:
        plain: The base model; left as it was.
        image: (B, C, H, W) of a size it takes.
        tolerance: Largest difference allowed, relative to the largest logit if that exceeds 1.
        config: The loop's other settings, such as where the feedback enters.
    """
    plain.eval()
    model = wrap(plain, keeping(config or Recurrent()))
    with torch.no_grad():
        expected = masks_of(cut_of(plain, image).answer(plain(image), size_of(image)))
        for steps in (1, 3):
            check_close(masks_of(model(image, steps=steps)), expected, f"steps={steps}: outputs moved", tolerance)
    plain.load_state_dict(model.feedforward_state_dict(), strict=True)


def keeping(config: Recurrent) -> Recurrent:
    """*config* with the dynamics that keeps answers, and answers that are the plain model's: logits."""
    if config.output == "dirichlet":
        options = _without(config.options, "projection")
        config = replace(config, output="logits", projection=None, options=options)
    return replace(config, dynamics="residual", options=_without(config.options, "dynamics"))


def _without(options: Mapping[str, Any] | None, part: str) -> dict[str, Any]:
    """The *options* of a config but for those of a *part* that is changed."""
    return {key: value for key, value in (options or {}).items() if key != part}


@torch.no_grad()
def check_agreement(model: FeedbackModel, image: Tensor) -> None:
    """``forward``, ``predict``, ``iterate`` and ``trajectory`` say the same, and none disturbs another.

    Maps of logits are no smaller than the image.
    """
    model.eval()
    path = model.trajectory(image)
    assert path.isfinite().all(), "an answer is not finite"
    size, grid = tuple(image.shape[-2:]), tuple(path.shape[3:])
    assert not grid or not is_smaller(grid, size), (
        f"logits of {grid} for an image of {size}: expected its size at least"
    )
    assert torch.equal(path[-1], masks_of(model(image))), "trajectory[-1] is not forward"
    assert torch.equal(path[-1], masks_of(model.predict(image))), "predict is not forward"
    first, second = model.iterate(image), model.iterate(image.flip(-1))
    for expected in path:
        assert torch.equal(next(first).logits, expected), "an interleaved loop disturbed this one"
        next(second)


def check_heard(model: FeedbackModel, image: Tensor) -> None:
    """What is fed back changes the answer, and gradient reaches every new parameter once it is heard.

    Restores the weights it moves.
    """
    model.eval()
    with hearing(model):
        path = model.trajectory(image)
        moved = float(path.detach().diff(dim=0).abs().max())
        assert moved > 0, "every look gave the answer of the one before"
        model.zero_grad(set_to_none=True)
        path.square().mean().backward()  # type: ignore[no-untyped-call]
        for name, parameter in model.feedback.named_parameters():
            reached = parameter.grad is not None and bool(parameter.grad.abs().max() > 0)
            assert reached or not parameter.requires_grad, f"no gradient reaches feedback.{name}"
        model.zero_grad(set_to_none=True)


@contextmanager
def hearing(model: FeedbackModel) -> Iterator[None]:
    """*model* as if trained: what starts at zero, so that the feedback is ignored, is not zero inside.

    Every weight and buffer is restored.
    """
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for name, parameter in model.feedback.named_parameters():
        if name.startswith("readers.") or not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():  # some heads start at zero
            nn.init.normal_(parameter, std=0.1)
    try:
        yield
    finally:
        model.load_state_dict(before)


def check_same_keys(model: FeedbackModel, plain: nn.Module) -> None:
    """The keys and shapes of *plain* are all there; everything else is ``feedback.*``."""
    ours, theirs = model.state_dict(), plain.state_dict()
    assert all(ours[key].shape == value.shape for key, value in theirs.items())
    assert all(key.startswith("feedback.") for key in ours.keys() - theirs.keys())


def check_close(ours: Tensor, theirs: Tensor, words: str, rounding: float = ROUNDING) -> None:
    """*ours* are *theirs*, up to *rounding* as a part of the largest of these (of 1 if that is less)."""
    assert ours.shape == theirs.shape, f"{words}: {tuple(ours.shape)}, expected {tuple(theirs.shape)}"
    off = float((ours - theirs).abs().max()) / max(1.0, float(theirs.abs().max()))
    assert off <= rounding, f"{words}, by {off:.1e} of the largest value"
