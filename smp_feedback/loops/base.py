"""What every looping model offers, whatever its loop."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, cast

import torch
from torch import Tensor, nn

from smp_feedback.config.base import LoopConfig
from smp_feedback.errors import InvalidInput, InvalidType, NotScriptable
from smp_feedback.loops.call import Looks
from smp_feedback.loops.looking import OneLook
from smp_feedback.loops.showing import Shows
from smp_feedback.loops.steps import Step as Step
from smp_feedback.ops.maps import size_of
from smp_feedback.saving.hub import OnDisk
from smp_feedback.saving.weights import FeedforwardWeights
from smp_feedback.surgery.head import channels_of


class FeedbackModel(OnDisk, FeedforwardWeights, OneLook, Shows):
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

    def __prepare_scriptable__(self) -> NoReturn:
        """What ``torch.jit.script`` asks first; without it, it gives up somewhere inside with words about itself."""
        raise NotScriptable(
            f"torch.jit.script cannot read a loop such as this {type(self).__name__}'s, and is deprecated: use "
            "torch.export.export(model, (image,)), torch.compile(model) or smp_feedback.export."
        )


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
