"""A film as one call: for DistributedDataParallel and ``torch.compile``, which see a module's ``forward`` alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from smp_feedback.checks import check_whole
from smp_feedback.errors import InvalidInput, InvalidType
from smp_feedback.loops.base import FeedbackModel, check_image
from smp_feedback.loops.looking import Reset
from smp_feedback.loops.steps import Step


class Film(nn.Module):
    """One look a frame over clips, see :meth:`FeedbackModel.look`. Holds no state between calls.

    Args:
        model: A looping model whose dynamics carry their state.

    Raises:
        InvalidType: If *model* does not look again.
        InvalidValue: If it has no state that goes on from frame to frame.

    >>> import smp_feedback as smpf
    >>> film = smpf.Film(smpf.create("PlainConv", classes=2, feedback=smpf.Recurrent(dynamics="gated")))
    >>> film(torch.rand(1, 4, 3, 16, 16)).shape
    torch.Size([1, 4, 2, 16, 16])
    """

    def __init__(self, model: FeedbackModel) -> None:
        super().__init__()
        if not isinstance(model, FeedbackModel):
            raise InvalidType(
                f"model is a {type(model).__name__}, which does not look again: expected a model of "
                "smp_feedback.create(..., feedback=smpf.Recurrent(dynamics='gated'))."
            )
        model.check_carries("Film:")
        self.model = model

    def forward(
        self, clip: Tensor, before: Step | None = None, *, detach_every: int | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The logits of every frame, each looked at once.

        Args:
            clip: Frames in order (B, T, C, H, W).
            before: The look to go on from, of the clip before; None begins anew.
            detach_every: Frames after which no gradient goes back, >= 1 (truncated back-propagation through time);
                None lets it through the whole clip.

        Returns:
            Logits (B, T, classes, H, W), or (B, T, classes) of a classifier; with ``aux_params`` the pair of these and
            the frames' labels (B, T, classes).

        Raises:
            InvalidType, InvalidInput: If *clip* is no clip, or nothing goes on from *before*.
            InvalidValue: If *detach_every* is out of its range.
        """
        if detach_every is not None:
            check_whole("detach_every", detach_every, "; None never")
        # torch.compile reads no property that is kept
        seen = [step.answer() for step in self._looks(clip, before, detach_every=detach_every)]
        logits = torch.stack([one for one, _ in seen], 1)
        labels = [one for _, one in seen if one is not None]
        return (logits, torch.stack(labels, 1)) if labels else logits

    def steps(self, clip: Tensor, before: Step | None = None, *, reset: Reset = None) -> Iterator[Step]:
        """Look once a frame, lazily: the steps themselves, of which the last is what the next clip goes on from.

        Args, raises: As :meth:`forward`, at once; *reset* as :meth:`FeedbackModel.look`.
        """
        check_clip(clip)
        check_image(clip[:, 0], self.model.feedback.in_channels)
        self.model.check_look(reset)
        if before is not None:
            self.model._found(before, clip[:, 0], "look:")
        return self._looks(clip, before, reset=reset)

    def _looks(
        self, clip: Tensor, before: Step | None, *, reset: Reset = None, detach_every: int | None = None
    ) -> Iterator[Step]:
        check_clip(clip)
        return self._frame_by_frame(clip, before, reset, detach_every)

    def _frame_by_frame(
        self, clip: Tensor, before: Step | None, reset: Reset, detach_every: int | None
    ) -> Iterator[Step]:
        for t, frame in enumerate(clip.unbind(1)):
            if detach_every is not None and t and t % detach_every == 0 and before is not None:
                before = before.detach()
            before = self.model.look(frame, before, reset=reset)
            yield before


def check_clip(clip: object) -> None:
    """*clip* is frames (B, T, C, H, W), one at least."""
    if not isinstance(clip, Tensor):
        raise InvalidType(f"clip is a {type(clip).__name__}: expected a tensor (B, T, C, H, W).")
    if clip.ndim != 5 or not clip.shape[1]:
        raise InvalidInput(
            f"clip of shape {tuple(clip.shape)}: expected (B, T, C, H, W) with T >= 1 frames; one frame of each stream "
            "is model.look(frame, before)."
        )
