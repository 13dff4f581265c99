"""What a model answers without feedback, as far as it has such an answer."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from smp_feedback.factory import create
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.loops.outer import OuterModel


def without_feedback(model: nn.Module) -> tuple[str, nn.Module | None]:
    """What stands for the model without feedback, in words, and the model that answers so; None is its first look.

    A loop around a base has the base's own answer. A loop with ``residual`` dynamics, such as `smp_feedback.wrap`
    makes, corrects the output of a base that answers alone, too: that base is built again, of the weights that it has
    now. Any other loop was trained to be read after its state was normalised: its base alone never answered anybody.
    """
    if not isinstance(model, FeedbackModel):
        return "", None
    if isinstance(model, OuterModel):
        inner = model.feedback.inner
        own = "" if inner is None else f", after the {inner.steps()} looks of its own loop"
        return f"The base without the {model.loop_config.loop} loop{own}", Asking(model)
    if getattr(model.loop_config, "dynamics", None) == "residual" and (plain := plain_twin(model)) is not None:
        return "The base without feedback: the same weights, no loop", plain
    return "One look (this loop has no answer without feedback)", None


class Asking(nn.Module):
    """What the base of a loop around it answers by itself."""

    def __init__(self, model: OuterModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> logits."""
        return self.model.asked(image).logits


def plain_twin(model: FeedbackModel) -> nn.Module | None:
    """The base of *model* without its loop, with its weights; None where nobody knows how to build it.

    >>> import smp_feedback as smpf
    >>> type(plain_twin(smpf.wrap(smpf.create("PlainConv", classes=2, feedback=False)))).__name__
    'PlainConv'
    """
    origin: Any = model.feedback.origin
    if origin is None:
        return None
    try:
        with torch.random.fork_rng(devices=[]):
            plain = create(origin["architecture"], feedback=False, **{**origin["arguments"], "encoder_weights": None})
        plain.load_state_dict(model.feedforward_state_dict())
    except Exception:  # a base that was changed since, or that makes the channels of the feedback itself
        return None
    return cast(nn.Module, plain).eval()
