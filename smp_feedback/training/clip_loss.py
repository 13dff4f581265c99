"""The loss of clips: one look a frame, the state carried on, the gradient sent back a few frames at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from smp_feedback.errors import InvalidValue
from smp_feedback.loops.base import FeedbackModel, Step
from smp_feedback.loops.looking import carries
from smp_feedback.loops.recurrent.model import RecurrentModel
from smp_feedback.registry.public import catalogue
from smp_feedback.training.unrolling import Unrolling

OF_IMAGES = ("steps", "progressive", "segments", "supervise")
"""What says which of an image's looks learn; a frame has one."""
SHARDED = (FSDPStrategy, ModelParallelStrategy, DeepSpeedStrategy)
"""Lightning's strategies that spread parameters over processes."""


def clip_loss(module: Any, clip: Tensor, target: Tensor, free: int = 0) -> Tensor:
    """The mean loss of the frames of *clip* that have labels, ready for one backward pass.

    One look a frame, from the state that the frame before left, which is detached after every ``truncate`` frames. What
    they say goes backward at once: the memory is that of so many frames and of one gradient, for clips of any length.
    Frames after the last that has labels are not looked at, those before it without gradient where none of their part
    has labels.

    Args:
        module: Its `opened` model carries a state on, its `judge` is a frame's loss, its `unrolling` says ``truncate``.
        clip: (B, T, C, H, W).
        target: (B, T, ...), int64.
        free: Frames at the beginning that are looked at without loss.

    Returns:
        A scalar; 0, as its gradient is, where no frame has labels.

    Raises:
        InvalidValue: If no frame is left to learn from.
    """
    counted = _counted(target, ignored_by(module), free)
    end = counted[-1] + 1
    size = module.unrolling.truncate if torch.is_grad_enabled() and module.unrolling.truncate else end
    parts = [range(first, min(first + size, end)) for first in range(free, end, size)]
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    learnt = _Learnt(parameters)
    step = _carried(module.opened, clip[:, :free], None)
    for part in parts:
        if not any(t in counted for t in part):
            step = _carried(module.opened, clip[:, part.start : part.stop], step)
            continue
        losses = []
        for t in part:
            step = module.opened.look(clip[:, t], step)
            losses += [module.judge(step.logits, target[:, t], t)] if t in counted else []
        loss = torch.stack(losses).sum() / len(counted)
        if len(parts) == 1:
            return loss
        learnt.add(loss)
        step = cast(Step, step).detach()
    return learnt.loss()


def has_labels(target: Tensor, ignored: int | None) -> list[bool]:
    """Which frames of *target* (B, T, ...) have a label other than *ignored*, in any film.

    On a device this waits for it, once a batch, unless nothing is *ignored*.

    >>> has_labels(torch.tensor([[[9, 9], [9, 0]], [[9, 9], [9, 9]]]), 9)
    [False, True]
    """
    if ignored is None:
        return [True] * target.shape[1]
    found: list[bool] = (target != ignored).transpose(0, 1).flatten(1).any(1).tolist()
    return found


def _counted(target: Tensor, ignored: int | None, free: int) -> list[int]:
    """The frames of *target* that carry the loss; the last, whose loss is 0, where none has labels."""
    count = target.shape[1]
    if free >= count:
        raise InvalidValue(f"free_steps={free} of clips of {count} frames leaves none to learn from.")
    there = has_labels(target, ignored)
    return [t for t in range(free, count) if there[t]] or [count - 1]


def ignored_by(module: Any) -> int | None:
    """The label that *module* does not learn: its own, or that of its loss."""
    own: int | None = module.ignore_index
    return getattr(module.loss, "ignore_index", None) if own is None else own


def check_clips(model: nn.Module, how: Unrolling, by_hand: str | None, frames: int | None = None) -> None:
    """*model* can be trained on clips, of so many *frames* if that is known, and as it is told to.

    Raises:
        InvalidValue: For what says which looks of an image learn; for a loop that begins anew with each frame; for more
            frames without loss than a clip has.
    """
    for name in OF_IMAGES:
        if (value := getattr(how, name)) != getattr(Unrolling, name):
            raise InvalidValue(
                f"{name}={value!r} says which looks of an image learn; of a clip (data.clip) there is one a frame, and "
                "every frame that has labels learns: leave it out. free_steps is how many begin without."
            )
    if by_hand is not None:
        raise InvalidValue(f"{by_hand} is for looks at one image: of clips, truncate=1 sends each frame's loss back.")
    if isinstance(model, FeedbackModel) and model.loop_config.flow.detach:
        raise InvalidValue(
            "feedback.detach=True is for looks at one image: of clips, truncate=1 does that; leave it out."
        )
    if isinstance(model, FeedbackModel) and not isinstance(model, RecurrentModel):
        model.check_carries("clips (data.clip):")
    if isinstance(model, FeedbackModel) and not carries(model):
        fit = ", ".join(name for name, rule in catalogue().dynamics.items() if rule.carries)
        raise InvalidValue(
            f"clips (data.clip) carry the state from frame to frame, and this {type(model).__name__} begins anew with "
            f"each call: take feedback.dynamics of {fit}, or train on images, without data.clip."
        )
    most = how.free_steps if isinstance(how.free_steps, int) else how.free_steps[-1]
    if frames is not None and most >= frames:
        raise InvalidValue(f"free_steps={how.free_steps!r} of clips of {frames} frames leaves none to learn from.")


def check_sends_back(trainer: Any, how: Unrolling, unscaled: Sequence[str]) -> None:
    """The gradients of a clip's parts are those of the whole, as *trainer* trains.

    Raises:
        InvalidValue: For an *unscaled* precision, whose gradients would need scaling, and for parameters that are
            spread over processes.
    """
    if how.truncate is None:
        return
    said = f"truncate={how.truncate} sends the loss back a few frames at a time, and "
    if trainer.precision in unscaled:
        raise InvalidValue(f"{said}does not scale gradients: use precision 'bf16-mixed' or '32', or truncate=None.")
    if isinstance(trainer.strategy, SHARDED):
        raise InvalidValue(f"{said}needs whole parameters: use strategy 'ddp', or truncate=None.")


@torch.no_grad()
def _carried(model: Any, frames: Tensor, step: Step | None) -> Step | None:
    """The last look at *frames* (B, T, C, H, W), without gradient; *step*, if there are none."""
    for t in range(frames.shape[1]):
        step = model.look(frames[:, t], step)
    torch.clear_autocast_cache()  # it may hold weights that were cast without a graph
    return step


class _Learnt:
    """The gradients of losses that have gone backward, and a loss that stands for them all."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = parameters
        self.gradients: dict[int, Tensor] = {}
        self.total: Tensor | float = 0.0

    def add(self, loss: Tensor) -> None:
        """Send *loss* back; its graph is gone then."""
        self.total = self.total + loss.detach()
        found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        for i, gradient in enumerate(found):
            if gradient is None:
                continue
            before = self.gradients.get(i)  # which may be a tensor that another parameter has, too
            self.gradients[i] = gradient if before is None else before + gradient

    def loss(self) -> Tensor:
        """Their sum, whose backward pass hands the gradients on as they are."""
        reached = [self.parameters[i] for i in self.gradients]
        loss: Tensor = _Known.apply(self.total, [*self.gradients.values()], *reached)
        return loss


class _Known(torch.autograd.Function):
    """A loss whose gradients are known: whoever goes backward through it, scaled or with DDP, finds them."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Any, ...]:
        return None, None, *(gradient * above for gradient in ctx.gradients)
