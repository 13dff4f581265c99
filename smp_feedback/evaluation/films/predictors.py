"""What answers a film frame by frame: a carried state and its rivals, all asked alike."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from smp_feedback.checks import check_number, check_whole
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.loops.looking import carries
from smp_feedback.loops.steps import Step
from smp_feedback.loops.tiling.fitting import check_whole_frames
from smp_feedback.ops.maps import masks_of
from smp_feedback.ops.reading import chances_of
from smp_feedback.surgery.extension import looping_in


class Predictor(Protocol):
    """What answers films: it begins, and then sees one frame after the other of films side by side.

    Attributes:
        model: The network; its device, its precision and its normalisation are those of the frames.
    """

    model: nn.Module

    def begin(self) -> None:
        """Other films begin: nothing of those before counts."""
        ...

    def see(self, frame: Tensor) -> Tensor:
        """The next frame of each film (B, C, H, W): how probable each class is (B, classes, H, W)."""
        ...


class FrameByFrame:
    """Each frame on its own, as any model sees it.

    Args:
        model: Of images (B, C, H, W); a looping one begins anew with every frame.
        looks: How often that looks at a frame; None is its own number.

    >>> answer = FrameByFrame(nn.Identity()).see(torch.zeros(1, 2, 1, 1))
    >>> answer.flatten().tolist()
    [0.5, 0.5]
    """

    def __init__(self, model: nn.Module, looks: int | None = None) -> None:
        self.model = looping_in(model)
        if looks is not None:
            check_whole("looks", looks)
            if not isinstance(self.model, FeedbackModel):
                raise InvalidValue(f"looks={looks} of a {type(model).__name__}: only a looping model looks again.")
        self.told = {} if looks is None else {"steps": looks}

    def begin(self) -> None:
        """Nothing is kept."""

    def see(self, frame: Tensor) -> Tensor:
        """See :class:`Predictor`."""
        answer = self.model(frame, **self.told)
        return chances_of(masks_of(answer))


class LookByLook:
    """One look a frame, the state carried on.

    Args:
        model: A looping model whose dynamics carry a state.
        reset: ``auto`` begins anew after a cut, as the model's config tells one; a number is the change of the
            state above which a frame is one; None goes on.
    """

    def __init__(self, model: nn.Module, reset: Any = None) -> None:
        self.model: Any = _looking(model)
        self.reset = reset
        self.step: Step | None = None

    def begin(self) -> None:
        """The next frame is the first that the model knows of."""
        self.step = None

    def see(self, frame: Tensor) -> Tensor:
        """See :class:`Predictor`."""
        told = {} if self.reset is None else {"reset": self.reset}
        self.step = self.model.look(frame, self.step, **told)
        return chances_of(self.step.logits)


class Averaged:
    """Exponentially averaged answers to frames on their own: ``p <- p + rate (q - p)``, the first as it is.

    Args:
        model: A model, or a predictor, whose answers q are averaged.
        rate: In (0, 1]; 1 averages nothing. :func:`tune_rate` finds the best on films that are not reported on.

    >>> average = Averaged(nn.Identity(), rate=0.25)
    >>> sure = torch.tensor([50.0, -50.0]).view(1, 2, 1, 1)
    >>> [average.see(logits)[0, 0, 0, 0].item() for logits in (sure, -sure, -sure)]
    [1.0, 0.75, 0.5625]
    """

    def __init__(self, model: nn.Module | Predictor, rate: float) -> None:
        self.rate = _checked_rate(rate)
        self.single: Predictor = FrameByFrame(model) if isinstance(model, nn.Module) else model
        self.model = self.single.model
        self.mean: Tensor | None = None

    def begin(self) -> None:
        """The next answer is taken as it is."""
        self.single.begin()
        self.mean = None

    def see(self, frame: Tensor) -> Tensor:
        """See :class:`Predictor`."""
        answer = self.single.see(frame)
        self.mean = answer if self.mean is None else torch.lerp(self.mean, answer, self.rate)
        return self.mean


class AveragedFrames:
    """Each frame averaged with those before it, and answered so: ``m <- m + rate (x - m)``, the first as it is.

    What a film through moving air may be answered by where nothing moves but the air.

    Args:
        model: Of images (B, C, H, W).
        rate: In (0, 1]; 1 averages nothing.

    >>> average = AveragedFrames(nn.Identity(), rate=0.5)
    >>> frames = torch.tensor([[8.0, 0.0], [0.0, 8.0]]).view(2, 1, 2, 1, 1)
    >>> [round(average.see(frame)[0, 0].item(), 2) for frame in frames]
    [1.0, 0.5]
    """

    def __init__(self, model: nn.Module, rate: float) -> None:
        self.rate = _checked_rate(rate)
        self.single = FrameByFrame(model)
        self.model = self.single.model
        self.mean: Tensor | None = None

    def begin(self) -> None:
        """The next frame is taken as it is."""
        self.mean = None

    def see(self, frame: Tensor) -> Tensor:
        """See :class:`Predictor`."""
        self.mean = frame if self.mean is None else torch.lerp(self.mean, frame, self.rate)
        return self.single.see(self.mean)


class FrameStack:
    """The last *frames* frames as the channels of one image, oldest first; before the first there is that again.

    Args:
        model: A feed-forward model of C times *frames* channels.
        frames: How many, k >= 1.

    >>> stack = FrameStack(nn.Identity(), 3)
    >>> [stack.see(torch.full((1, 1, 1, 1), float(t))).argmax().item() for t in range(2)]  # of 0 0 0, then of 0 0 1
    [0, 2]
    """

    def __init__(self, model: nn.Module, frames: int) -> None:
        self.model, self.frames = model, check_whole("frames", frames)
        self.kept: deque[Tensor] = deque(maxlen=frames)

    def begin(self) -> None:
        """Forget all frames."""
        self.kept.clear()

    def see(self, frame: Tensor) -> Tensor:
        """See :class:`Predictor`."""
        self.kept.extend([frame] * (1 if self.kept else self.frames))
        answer = self.model(torch.cat([*self.kept], 1))
        return chances_of(masks_of(answer))


def _checked_rate(rate: float) -> float:
    check_number("rate", rate, above=0)
    if rate > 1:
        raise InvalidValue(f"rate={rate}: expected a number in (0, 1]; 1 averages nothing.")
    return rate


def as_predictor(model: Any, reset: Any = None) -> Predictor:
    """*model* as it answers films: one look a frame where its state can be carried on, else frame by frame.

    Raises:
        InvalidType: If it is neither a module nor a predictor.
        InvalidValue: If *reset* is given, and no state is carried on; for a model that carries one, in windows.
    """
    if isinstance(model, nn.Module):
        check_whole_frames(model)
        if carries(_opened(model)):
            return LookByLook(model, reset)
        if reset is None:
            return FrameByFrame(model)
    elif not hasattr(model, "see") or not hasattr(model, "begin"):
        raise InvalidType(f"{model!r:.80} ({type(model).__name__}): expected a model, or a Predictor.")
    elif reset is None:
        return model  # type: ignore[no-any-return]
    raise InvalidValue(
        f"reset={reset!r}: this {type(model).__name__} carries no state on that could begin anew; give a looping model "
        "with dynamics that carry one, such as 'gated', or a LookByLook(model, reset)."
    )


def _opened(model: Any) -> nn.Module:
    """The looping model in *model*, which may be the module of films around one."""
    inside = getattr(model, "model", None)
    return looping_in(inside if isinstance(inside, FeedbackModel) else model)


def _looking(model: nn.Module) -> nn.Module:
    inside = _opened(model)
    if carries(inside):
        return inside
    raise InvalidValue(
        f"This {type(inside).__name__} carries no state from frame to frame: expected a looping model with dynamics "
        "that do, such as 'leaky' or 'gated'."
    )
