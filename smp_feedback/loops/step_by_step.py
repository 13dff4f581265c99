"""A looping model opened: look by look, each as a step of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from smp_feedback.config.base import GradientFlow, LoopConfig
from smp_feedback.config.stopping import UntilSettled
from smp_feedback.errors import InvalidValue, SurgeryError
from smp_feedback.loops.beginnings import Beginnings
from smp_feedback.loops.call import Looks, Told, check_evaluating, check_number_of_looks, flow_of
from smp_feedback.loops.steps import Step
from smp_feedback.loops.unroll import Share, Turned, reusable
from smp_feedback.ops.maps import Size, size_of
from smp_feedback.surgery.extension import ClosedLoop
from smp_feedback.surgery.hooks import check_unhooked, replaced_forward


class StepByStep(ClosedLoop):
    """What is made of a loop's turns: steps, one at a time. A loop says what its turns are."""

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
            told = told._replace(before=self._found(before, x, "before="))
        return self._as_steps(self._turns(x, told, share=reusable), size_of(x), told.before)

    def _as_steps(self, turns: Iterator[tuple[int, Turned]], size: Size, begun: Step | None = None) -> Iterator[Step]:
        counted: Any = 0
        before = began = None
        if begun is not None:
            before, counted = begun.found()
            began = begun.beginnings
        for t, turned in turns:
            looks = turned.looks
            if looks is not None:  # images stop by themselves, and each goes on from looks of its own number
                looks = counted + looks
                began = Beginnings(t + 1 - looks)
            elif begun is not None:
                looks = counted + (t - begun.index)
            yield replace(self._step(t, size, turned._replace(looks=looks), before), beginnings=began)
            before = turned.state

    def _step(self, t: int, size: Size, turned: Turned, before: Tensor | None) -> Step:
        """A turn as it is shown; a loop that says more of its turns has steps of its own."""
        return Step(t, size, turned, before, self._answer)

    def trajectory(self, x: Tensor, steps: Looks | None = None, *, grad_steps: int | None = None) -> Tensor:
        """The logits of every look (T, B, classes, H, W); the last is what ``forward`` returns, told the same."""
        self._check_opened("trajectory")
        turns = self._turns(x, self._told(steps, grad_steps))
        return torch.stack([self._answer(turned, size_of(x))[0] for _, turned in turns])

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

        Raises:
            InvalidValue: If looks of this loop cannot be on their own (:meth:`check_per_step`), or one turns out to
                reach back into another.

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
            try:
                value.backward()  # type: ignore[no-untyped-call]
            except RuntimeError as error:
                if "through the graph a second time" not in str(error):
                    raise
                raise InvalidValue(self._reaching_back(step.index)) from error
            return value.detach()

        if isinstance(steps, UntilSettled):
            raise InvalidValue(
                f"steps={steps}: backward_per_step trains, and so looks at all images of a batch equally often; give a "
                f"number, such as steps={self._count(None)}."
            )
        self.check_per_step("backward_per_step:")
        count = self._count(steps)
        told = Told(count, flow_of(GradientFlow(detach=True), grad_steps))
        free = 0 if grad_steps is None else count - grad_steps
        seen = self._as_steps(self._turns(x, told, share), size_of(x))
        # map, unlike a loop, lets go of a step before it asks for the next
        losses = list(map(send_back, itertools.islice(seen, max(0, free), None)))
        reached = [(tensor, leaf.grad) for tensor, leaf in zip(made, leaves, strict=True) if leaf.grad is not None]
        torch.autograd.backward([tensor for tensor, _ in reached], [gradient for _, gradient in reached])
        return torch.stack(losses)

    def _reaching_back(self, look: int) -> str:
        """What is wrong where the loss of a *look* goes back through a graph that another one's has freed."""
        return (
            f"backward_per_step: look {look} of feedback={self.loop_config.loop!r} reaches back into a look before it, "
            "whose graph is gone: with told.flow.detach a loop must detach all that it carries from look to look, hand "
            "what its looks share through share, and a loss must keep no tensor of another look. Or use one backward "
            "pass over all looks, in training backward='together'."
        )

    def check_per_step(self, asked: str) -> None:
        """Each look of this loop can be on its own, as what was *asked* needs: no gradient crosses to the one before.

        Raises:
            InvalidValue: If it cannot; a loop that cannot says so.
        """

    @property
    def loop_config(self) -> LoopConfig:
        """How this model looks again."""
        config: LoopConfig = self.feedback.config
        return config

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

    def _found(self, before: Step, image: Tensor, asked: str) -> Step:
        """*before* as a call with *image* finds it, for what was *asked*.

        Raises:
            InvalidInput, InvalidValue: If this loop cannot go on from it; a loop that can says so.
        """
        self.check_carries(asked)
        raise NotImplementedError

    def check_carries(self, asked: str) -> None:
        """This loop has a state that goes on from call to call, as what was *asked* needs.

        Raises:
            InvalidValue: If it has not; a loop that has says so.
        """
        raise InvalidValue(
            f"{asked} feedback={self.loop_config.loop!r} begins anew with every image; feedback='recurrent' goes on, "
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

    def _answer(self, turned: Turned, size: Size) -> tuple[Tensor, Tensor | None]:
        """Logits for an image of *size* (H, W), and labels where the base has a classification head."""
        raise NotImplementedError
