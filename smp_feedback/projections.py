"""What of the state is fed back: its last channels, as they are or as a softmax, the prediction, its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from smp_feedback.config.recurrent import Recurrent
from smp_feedback.errors import InvalidValue
from smp_feedback.hookspecs import Register, hookimpl
from smp_feedback.ops.dirichlet import log_concentration, mean_entropy
from smp_feedback.ops.maps import resize
from smp_feedback.ops.normalise import Normalise, normaliser
from smp_feedback.ops.precision import SinglePrecision


class View(NamedTuple):
    """What a projection may look at.

    Attributes:
        readout: The state's last K channels (B, K, h, w), of several maps the first's; float32, or better.
        logits: Computes the current logits (B, classes, H', W') when called; log(alpha) of a Dirichlet output.
        size: Height and width of the image.
    """

    readout: Tensor
    logits: Callable[[], Tensor]
    size: tuple[int, int]


def softmax_feedback(readout: Tensor, size: tuple[int, int], normalise: Normalise) -> Tensor:
    """``softmax over channels of N_in(resize(readout, size))`` (arXiv 2509.15905).

    Args:
        readout: (B, K, h, w).
        size: (H, W), reached bilinearly, corners not aligned.
        normalise: N_in.

    Returns:
        (B, K, H, W), non-negative, summing to 1 over K.

    >>> softmax_feedback(torch.zeros(1, 2, 1, 1), (1, 2), lambda x: x)
    tensor([[[[0.5000, 0.5000]],
             [[0.5000, 0.5000]]]])
    """
    return normalise(resize(readout, size)).softmax(1)


def class_probabilities(logits: Tensor) -> Tensor:
    """Softmax over classes (B, C, H, W), or the sigmoid where there is one class.

    >>> class_probabilities(torch.zeros(1, 4, 1, 1)).flatten()
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)


def dirichlet_entropy(evidence: Tensor) -> Tensor:
    """Entropy in nats of ``alpha / sum(alpha)``, ``alpha = 1 + softplus(evidence)`` (arXiv 2507.10143).

    Args:
        evidence: (B, C, H, W).

    Returns:
        (B, 1, H, W), in [0, log C].

    >>> dirichlet_entropy(torch.zeros(1, 2, 1, 1)).item() - math.log(2) < 1e-6
    True
    """
    return mean_entropy(log_concentration(evidence))


class Projection(SinglePrecision):
    """What is fed back. Subclass, and ``register_projections`` it.

    An ``nn.Module``: parameters and modules that it sets as attributes are trained, moved and saved with the model.

    Args:
        config: The loop's config.
        classes: Channels of the logits.

    Attributes:
        readout: Channels that the state keeps for this projection, K (may be 0).
        channels: Channels of the feedback.
        reads_logits: Whether it looks at the prediction.
        normalises: Whether a config may say ``norm_feedback``; where it would do nothing, it is refused.
        options: Its own settings, an ``options_class``; None where it has none.
    """

    readout: int
    channels: int
    options: Any

    brought = ""
    """Who brought it, as an error says it behind its name; set by the model that it is of."""

    reads_logits = False
    normalises: ClassVar[bool] = True
    options_class: ClassVar[type | None] = None
    """A dataclass of settings of its own, said in a config under ``options={"projection": {...}}``."""

    def __new__(cls, config: Recurrent | None = None, *args: Any, **kwargs: Any) -> Self:
        """A module already, so that a class which sets all of its own need not call ``super().__init__``.

        Without a *config* a copy is made, of which all is set afterwards.
        """
        self = super().__new__(cls)
        nn.Module.__init__(self)
        self.options = None if config is None else config.options_of("projection")
        return self

    def __init__(self, config: Recurrent, classes: int) -> None:
        self.readout = self.channels = config.channels

    def forward(self, view: View) -> Tensor:
        """The feedback (B, channels, H, W)."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward(view).")

    def before(self) -> float | tuple[float, ...] | Tensor:
        """The feedback while nothing is known, the same everywhere; a tuple says a value for each channel.

        What follows from weights is a tensor (channels,), through which they learn.
        """
        return 1 / self.channels


def checked_feedback(fed: object, shape: tuple[int, ...], name: str, projection: Projection) -> Tensor:
    """What the *projection* called *name* feeds back, if it is of this *shape*.

    While a graph is recorded, nothing is asked.

    Raises:
        InvalidValue: If it is not.
    """
    if not torch.compiler.is_compiling() and (not isinstance(fed, Tensor) or fed.shape != shape):
        got = tuple(fed.shape) if isinstance(fed, Tensor) else f"a {type(fed).__name__}"
        raise InvalidValue(
            f"projection={name!r} ({type(projection).__name__}{projection.brought}) feeds back {got}: "
            f"expected {shape}, its channels at view.size. smp_feedback.testing.check_projection finds such faults."
        )
    return cast(Tensor, fed)


class Softmax(Projection):
    """Softmax of the state's last K channels."""

    def __init__(self, config: Recurrent, classes: int) -> None:
        super().__init__(config, classes)
        self.normalise = normaliser(config.norm_feedback or "instance", self.channels, "norm_feedback")

    def forward(self, view: View) -> Tensor:
        """See :func:`softmax_feedback`."""
        return softmax_feedback(view.readout, view.size, self.normalise)


class State(Projection):
    """The state's last K channels as they are.

    Nothing of them is lost, as it is by a softmax; what bounds them is how corrections are normalised.
    """

    normalises = False

    def forward(self, view: View) -> Tensor:
        """(B, K, H, W), resized bilinearly."""
        return resize(view.readout, view.size)

    def before(self) -> float | tuple[float, ...]:
        """An empty state."""
        return 0.0


class Probabilities(Projection):
    """Class probabilities of the current prediction; uniform before there is one.

    Nothing is normalised, and ``norm_feedback`` does nothing: it is taken, for saved configs may say it.
    """

    reads_logits = True

    def __init__(self, config: Recurrent, classes: int) -> None:
        self.readout, self.channels = 0, classes

    def forward(self, view: View) -> Tensor:
        """See :func:`class_probabilities`."""
        return class_probabilities(resize(view.logits(), view.size))

    def before(self) -> float:
        """Uniform over the classes; 1/2 where there is one."""
        return 1 / max(2, self.channels)


class AnswerAndState(State):
    """Class probabilities of the current prediction, and after them the state's last K channels as they are.

    Answer and state are both fed back in arXiv 2510.04871, too.
    """

    reads_logits = True

    def __init__(self, config: Recurrent, classes: int) -> None:
        super().__init__(config, classes)
        self.answer = Probabilities(config, classes)
        self.channels = self.answer.channels + self.readout

    def forward(self, view: View) -> Tensor:
        """(B, classes + K, H, W)."""
        answer, state = self.answer(view), super().forward(view)
        return torch.cat([answer.to(state.dtype), state], 1)

    def before(self) -> tuple[float, ...]:
        """Uniform over the classes, and an empty state."""
        return (self.answer.before(),) * self.answer.channels + (0.0,) * self.readout


class Entropy(Projection):
    """Entropy of the mean of a Dirichlet prediction; largest before there is one.

    Where the output is ``logits``, these are read as the Dirichlet's evidence. Of ``norm_feedback`` as
    :class:`Probabilities`.
    """

    reads_logits = True

    def __init__(self, config: Recurrent, classes: int) -> None:
        if classes < 2:
            raise InvalidValue(f"projection='entropy': expected classes >= 2, got classes={classes}.")
        self.readout, self.channels, self.classes = 0, 1, classes
        self.entropy = mean_entropy if config.output == "dirichlet" else dirichlet_entropy

    def forward(self, view: View) -> Tensor:
        """See :func:`dirichlet_entropy`."""
        return self.entropy(resize(view.logits(), view.size))

    def before(self) -> float:
        """That of the uniform distribution."""
        return math.log(self.classes)


@hookimpl
def register_projections(register: Register) -> None:
    """What the papers feed back, and the state itself."""
    register("softmax", Softmax)
    register("state", State)
    register("answer+state", AnswerAndState)
    register("probabilities", Probabilities)
    register("entropy", Entropy)
