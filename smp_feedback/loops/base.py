"""What every looping model offers, whatever its loop."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, cast

import torch
from torch import Tensor, nn

from smp_feedback.config.base import GradientFlow, LoopConfig
from smp_feedback.errors import InvalidInput, InvalidType, NotScriptable, SurgeryError
from smp_feedback.loops.unroll import Share, Turned, reusable
from smp_feedback.ops.maps import size_of
from smp_feedback.saving.hub import OnDisk
from smp_feedback.saving.weights import FeedforwardWeights
from smp_feedback.surgery.extension import ClosedLoop
from smp_feedback.surgery.head import channels_of
from smp_feedback.surgery.hooks import check_unhooked, replaced_forward

Answer = Callable[[], tuple[Tensor, Tensor | None]]
"""Computes the logits, and the labels of a model that has some."""


@dataclass(frozen=True)
class Step:
    """One look, as :meth:`FeedbackModel.iterate` yields it; what costs is computed when it is asked for.

    Attributes:
        index: The step, from 0.
        state: What the model knows now (B, S + K, h, w).
    """

    index: int
    state: Tensor
    _before: Tensor | None
    _answer: Answer

    @functools.cached_property
    def _answers(self) -> tuple[Tensor, Tensor | None]:
        return self._answer()

    @property
    def logits(self) -> Tensor:
        """The prediction (B, classes, H, W)."""
        return self._answers[0]

    @property
    def labels(self) -> Tensor | None:
        """The image labels (B, classes) of a model with ``aux_params``, else None."""
        return self._answers[1]

    @functools.cached_property
    def change(self) -> Tensor:
        """How far this step moved each image's state, see :func:`relative_change` (B,)."""
        return relative_change(self._before, self.state)


def relative_change(old: Tensor | None, new: Tensor) -> Tensor:
    """``||new - old|| / ||new||`` per image (B,), dimensionless, without gradient; 0 at a fixed point.

    Args:
        old: State before (B, S, h, w); None is zero.
        new: State after, same shape.

    >>> relative_change(torch.ones(2, 1, 4, 4), torch.full((2, 1, 4, 4), 2.0))
    tensor([0.5000, 0.5000])
    """
    new = new.detach().flatten(1)
    moved = new if old is None else new - old.detach().flatten(1)
    floor = torch.finfo(new.dtype).tiny
    change: Tensor = moved.norm(dim=1) / new.norm(dim=1).clamp_min(floor)
    return change


class FeedbackModel(OnDisk, FeedforwardWeights, ClosedLoop):
    """A base model that looks again. Everything of the base stays where it was; ``feedback`` is new.

    The model holds no state between calls: one model serves two batches, two threads and two step counts.
    Made by :func:`smp_feedback.create` and :func:`smp_feedback.wrap`, never directly.
    """

    config_class: ClassVar[type[LoopConfig]]
    _is_torch_scriptable = False  # torch.jit.script is deprecated; torch.export and torch.compile are not

    @classmethod
    def close(cls, base: nn.Module, config: LoopConfig, in_channels: int | None = None) -> FeedbackModel:
        """Close *base* into this loop, in place; each loop has its own way. *in_channels*, if somebody knows them."""
        raise NotImplementedError

    def forward(self, x: Tensor, steps: int | None = None) -> Any:
        """The last look's answer.

        Args:
            x: Image (B, C, H, W); called as in smp.
            steps: How often to look, >= 1; None is the config's.

        Returns:
            Logits (B, classes, H, W), as from the base; ``(masks, labels)`` with ``aux_params``, as in smp.

        Raises:
            InvalidInput: If *x* has another rank or channel count.
            RuntimeError: As smp does, if the base needs a size that divides, with the size to pad to.
        """
        for _, turned in self._turns(x, steps):  # noqa: B007
            pass
        logits, labels = self._answer(turned, size_of(x))
        return logits if labels is None else (logits, labels)

    def iterate(self, x: Tensor, steps: int | None = None) -> Iterator[Step]:
        """Look once per ``next()``: lazily, for a loss on every step, a picture, or a rule of your own.

        What no feedback reaches is computed at once, and each look under the gradient mode of its ``next()``. With
        ``detach=True`` each step's loss may have a ``backward()`` of its own; ``torch.autograd.grad`` does not get
        beyond what the steps share.

        Args, raises: As :meth:`forward`, bad input at once, not at the first look; and
            :class:`~smp_feedback.errors.SurgeryError` where the model itself has hooks, which act in ``model(x)``
            alone. Those of its parts (``model.encoder``) act in every look.
        """
        self._check_opened("iterate")
        return self._as_steps(self._turns(x, steps, share=reusable), size_of(x))

    def _as_steps(self, turns: Iterator[tuple[int, Turned]], size: tuple[int, int]) -> Iterator[Step]:
        before: Tensor | None = None
        for t, turned in turns:
            yield self._step(t, turned, before, functools.partial(self._answer, turned, size))
            before = turned.state

    def _step(self, t: int, turned: Turned, before: Tensor | None, answer: Answer) -> Step:
        """A turn as it is shown; a loop that says more of its turns has steps of its own."""
        return Step(t, turned.state, before, answer)

    def trajectory(self, x: Tensor, steps: int | None = None) -> Tensor:
        """The logits of every look (T, B, classes, H, W); the last is what ``forward`` returns."""
        self._check_opened("trajectory")
        return torch.stack([self._answer(turned, size_of(x))[0] for _, turned in self._turns(x, steps)])

    @torch.inference_mode()
    def predict(self, x: Tensor, steps: int | None = None) -> Any:
        """As smp: switch to evaluation, and :meth:`forward` in inference mode."""
        if self.training:
            self.eval()
        return self(x, steps=steps)

    @property
    def config(self) -> dict[str, Any]:
        """What ``create`` takes to make this model again: the base's arguments, and ``feedback``.

        A base that keeps a ``config`` of its own goes on reading that.
        """
        if "config" in vars(self):
            return cast("dict[str, Any]", vars(self)["config"])
        arguments = dict(self.feedback.origin["arguments"]) if self.feedback.origin else {}
        if "classes" in arguments:  # a head may have been replaced since
            arguments["classes"] = channels_of(self) or arguments["classes"]
        return {**arguments, "feedback": self.loop_config.to_dict()}

    @property
    def loop_config(self) -> LoopConfig:
        """How this model looks again."""
        config: LoopConfig = self.feedback.config
        return config

    def __prepare_scriptable__(self) -> NoReturn:
        """What ``torch.jit.script`` asks first; without it, it gives up somewhere inside with words about itself."""
        raise NotScriptable(
            f"torch.jit.script cannot read a loop such as this {type(self).__name__}'s, and is deprecated: use "
            "torch.export.export(model, (image,)), torch.compile(model) or smp_feedback.export."
        )

    def backward_per_step(self, x: Tensor, loss: Callable[[Step], Tensor], steps: int | None = None) -> Tensor:
        """Look, and send each step's loss back before the next look: the memory of one step, for any T.

        Each step is on its own, as with ``detach=True``: no gradient crosses from one to the one before. What
        is computed once per image is gone through backward once, at the end.

        Args:
            x: Image (B, C, H, W).
            loss: A step's loss, a scalar, from its logits or labels.
            steps: As in :meth:`forward`.

        Returns:
            The losses (T,), without gradient; the parameters' gradients have been added to.

        >>> import smp_feedback as smpf
        >>> model = smpf.create("Unet", "resnet18", None, feedback=smpf.Recurrent(steps=3))
        >>> losses = model.backward_per_step(torch.rand(2, 3, 32, 32), lambda step: step.logits.square().mean())
        >>> losses.shape, model.encoder.conv1.weight.grad is None
        (torch.Size([3]), False)
        """
        self._check_opened("backward_per_step")
        made: list[Tensor] = []
        leaves: list[Tensor] = []

        def share(tensors: Sequence[Tensor]) -> list[Tensor]:
            made.extend(tensor for tensor in tensors if tensor.grad_fn is not None)
            leaves.extend(tensor.detach().requires_grad_() for tensor in made)
            ours = iter(leaves)
            return [tensor if tensor.grad_fn is None else next(ours) for tensor in tensors]

        def send_back(step: Step) -> Tensor:
            value = loss(step)
            value.backward()  # type: ignore[no-untyped-call]
            return value.detach()

        # map, unlike a loop, lets go of a step before it asks for the next
        turns = self._turns(x, steps, GradientFlow(detach=True), share)
        losses = list(map(send_back, self._as_steps(turns, size_of(x))))
        reached = [(tensor, leaf.grad) for tensor, leaf in zip(made, leaves, strict=True) if leaf.grad is not None]
        torch.autograd.backward([tensor for tensor, _ in reached], [gradient for _, gradient in reached])
        return torch.stack(losses)

    def _check_opened(self, method: str) -> None:
        """Nothing that acts in ``model(x)`` is left out by *method*, which opens the model rather than calls it.

        Raises:
            SurgeryError: If the model itself has a hook, or a forward that was replaced on the object; hooks of its
                parts act in every look.
        """
        if replaced_forward(self):
            raise SurgeryError(
                f"{method} opens this {type(self).__name__} without the forward that was replaced on the object "
                "itself: define it in a class of its own, and wrap that."
            )
        check_unhooked(self, f"{method} opens this {type(self).__name__}")

    def _turns(
        self, image: Tensor, steps: int | None, flow: GradientFlow | None = None, share: Share | None = None
    ) -> Iterator[tuple[int, Turned]]:
        """Check the input, compute what no feedback reaches, and begin the loop; each loop has its own.

        Args:
            image: The image.
            steps: T; None is the config's.
            flow: How gradients flow; None is the config's.
            share: What detached steps are handed in place of what they share; None where one backward pass goes
                through all of them.
        """
        raise NotImplementedError

    def _answer(self, turned: Turned, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        """Logits for an image of *size* (H, W), and labels where the base has a classification head."""
        raise NotImplementedError


def check_image(image: object, channels: int) -> None:
    """*image* is a (B, *channels*, H, W) tensor."""
    if not isinstance(image, Tensor):
        raise InvalidType(f"image is a {type(image).__name__}: expected a tensor (B, {channels}, H, W).")
    if image.ndim != 4:
        raise InvalidInput(f"image of shape {tuple(image.shape)}: expected (B, {channels}, H, W), rank 4.")
    if image.shape[1] != channels:
        raise InvalidInput(
            f"image of shape {tuple(image.shape)} has {image.shape[1]} channels: expected {channels} "
            f"(in_channels={channels} when the model was made)."
        )
    if not image.is_floating_point():
        raise InvalidInput(f"image of dtype {image.dtype}: expected floating point; for bytes, image.float() / 255.")
