"""What every looping model offers, whatever its loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NoReturn, cast

import torch
from torch import Tensor, nn

from smp_feedback.config.base import GradientFlow, LoopConfig
from smp_feedback.config.stopping import UntilSettled
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue, NotScriptable, SurgeryError
from smp_feedback.loops.call import Looks, Told, check_evaluating, check_number_of_looks, flow_of
from smp_feedback.loops.steps import Step as Step
from smp_feedback.loops.unroll import Share, Turned, reusable
from smp_feedback.ops.maps import size_of
from smp_feedback.saving.hub import OnDisk
from smp_feedback.saving.weights import FeedforwardWeights
from smp_feedback.surgery.extension import ClosedLoop
from smp_feedback.surgery.head import channels_of
from smp_feedback.surgery.hooks import check_unhooked, replaced_forward


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

    def forward(self, x: Tensor, steps: Looks | None = None, *, grad_steps: int | None = None) -> Any:
        """The last look's answer.

        Args:
            x: Image (B, C, H, W); called as in smp.
            steps: How often to look, >= 1; None is the config's. Or :func:`smp_feedback.until_settled`, in evaluation
                mode: until each image's answer stays as it is.
            grad_steps: The last looks that carry gradient, in this call alone, >= 1; those before run without. None
                is as the config says.

        Returns:
            Logits (B, classes, H, W), as from the base; ``(masks, labels)`` with ``aux_params``, as in smp.

        Raises:
            InvalidInput: If *x* has another rank or channel count.
            InvalidType, InvalidValue: If *steps* or *grad_steps* is out of its range, or *steps* a rule that this loop
                cannot keep.
            RuntimeError: As smp does, if the base needs a size that divides, with the size to pad to.
        """
        for _, turned in self._turns(x, self._told(steps, grad_steps)):  # noqa: B007
            pass
        logits, labels = self._answer(turned, size_of(x))
        return logits if labels is None else (logits, labels)

    def iterate(
        self, x: Tensor, steps: Looks | None = None, *, grad_steps: int | None = None, before: Step | None = None
    ) -> Iterator[Step]:
        """Look once per ``next()``: lazily, for a loss on every step, a picture, or a rule of your own.

        What no feedback reaches is computed at once, and each look under the gradient mode of its ``next()``. With
        ``detach=True`` each step's loss may have a ``backward()`` of its own; ``torch.autograd.grad`` does not get
        beyond what the steps share. Nothing is kept of a step but what the next one reads.

        Args:
            x: As in :meth:`forward`.
            steps: As in :meth:`forward`; with a rule there are as many as the slowest image takes.
            grad_steps: As in :meth:`forward`; a loss on the answer of a look before reaches the head alone.
            before: The look to go on from, of this image or of another, such as the next frame of a film: its state,
                its number, its count of looks. T looks and then U are T + U, to the bit. Give ``before.detach()`` to
                let no gradient through. Only where the dynamics carry a state on from call to call.

        Raises:
            InvalidInput: If *before* is of another batch size, or its state of other channels than this model's, too;
                if its image is of another size, the state is resized, where it is a map.
            InvalidValue: If nothing can go on from *before*.

        Raises besides: As :meth:`forward`, bad input at once, not at the first look; and
            :class:`~smp_feedback.errors.SurgeryError` where the model itself has hooks, which act in ``model(x)``
            alone. Those of its parts (``model.encoder``) act in every look.
        """
        self._check_opened("iterate")
        told = self._told(steps, grad_steps)
        if before is not None:
            self._check_before(before, x)
            told = told._replace(before=before)
        return self._as_steps(self._turns(x, told, share=reusable), size_of(x), before)

    def _as_steps(
        self, turns: Iterator[tuple[int, Turned]], size: tuple[int, int], begun: Step | None = None
    ) -> Iterator[Step]:
        before = None if begun is None else begun.state
        for t, turned in turns:
            if begun is not None:
                new = t - begun.index if turned.looks is None else turned.looks
                turned = turned._replace(looks=begun.looks + new)
            yield self._step(t, size, turned, before)
            before = turned.state

    def _step(self, t: int, size: tuple[int, int], turned: Turned, before: Tensor | None) -> Step:
        """A turn as it is shown; a loop that says more of its turns has steps of its own."""
        return Step(t, size, turned, before, self._answer)

    def trajectory(self, x: Tensor, steps: Looks | None = None, *, grad_steps: int | None = None) -> Tensor:
        """The logits of every look (T, B, classes, H, W); the last is what ``forward`` returns, told the same."""
        self._check_opened("trajectory")
        turns = self._turns(x, self._told(steps, grad_steps))
        return torch.stack([self._answer(turned, size_of(x))[0] for _, turned in turns])

    @torch.inference_mode()
    def predict(self, x: Tensor, steps: Looks | None = None) -> Any:
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

    def backward_per_step(
        self,
        x: Tensor,
        loss: Callable[[Step], Tensor],
        steps: int | None = None,
        *,
        grad_steps: int | None = None,
    ) -> Tensor:
        """Look, and send each step's loss back before the next look: the memory of one step, for any T.

        Each step is on its own, as with ``detach=True``: no gradient crosses from one to the one before. What
        is computed once per image is gone through backward once, at the end.

        Args:
            x: Image (B, C, H, W).
            loss: A step's loss, a scalar, from its logits or labels.
            steps: T, a number >= 1; None is the config's.
            grad_steps: The last looks that have a loss; those before run without gradient. None is all.

        Returns:
            The losses (T,), of *grad_steps* as many, without gradient; the parameters' gradients have been added to.

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

        if isinstance(steps, UntilSettled):
            raise InvalidValue(
                f"steps={steps}: backward_per_step trains, and so looks at all images of a batch equally often; give a "
                f"number, such as steps={self._count(None)}."
            )
        count = self._count(steps)
        told = Told(count, flow_of(GradientFlow(detach=True), grad_steps))
        free = 0 if grad_steps is None else count - grad_steps
        seen = self._as_steps(self._turns(x, told, share), size_of(x))
        # map, unlike a loop, lets go of a step before it asks for the next
        losses = list(map(send_back, itertools.islice(seen, max(0, free), None)))
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

    def _told(self, steps: Looks | None, grad_steps: int | None = None) -> Told:
        """What a call is told, checked before any work."""
        flow = flow_of(self.loop_config.flow, grad_steps)
        if not isinstance(steps, UntilSettled):
            return Told(self._count(steps), flow)
        self._check_stops(steps)
        check_evaluating(steps, self.training, grad_steps)
        return Told(steps.at_most, flow._replace(steps=None), steps.looks)  # nothing tells which looks are the last

    def _count(self, steps: int | None) -> int:
        """T of a call that is told a number, or none."""
        return int(self.feedback.steps()) if steps is None else check_number_of_looks(steps)

    def _check_stops(self, steps: UntilSettled) -> None:
        """An image of this loop can stop by itself when its answer stays.

        Raises:
            InvalidValue: If it cannot; a loop that can says so.
        """
        raise InvalidValue(
            f"steps={steps}: feedback={self.loop_config.loop!r} does not stop by its answer, feedback='recurrent' "
            f"does; give a number, such as steps={self._count(None)}."
        )

    def _check_before(self, before: Step, image: Tensor) -> None:
        """This loop can go on from *before* with *image*.

        Raises:
            InvalidInput, InvalidValue: If it cannot; a loop that can says so.
        """
        raise InvalidValue(
            f"before=: feedback={self.loop_config.loop!r} begins anew with every image; feedback='recurrent' goes on, "
            "with dynamics that carry its state."
        )

    def _turns(self, image: Tensor, told: Told, share: Share | None = None) -> Iterator[tuple[int, Turned]]:
        """Check the input, compute what no feedback reaches, and begin the loop; each loop has its own.

        Args:
            image: The image.
            told: What the call is told, checked.
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
