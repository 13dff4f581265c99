"""One frozen dataclass per loop: validated at birth, with messages that name field, value and range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, cast

from smp_feedback.checks import (
    check_bool,
    check_choice,
    check_gradients,
    check_insert,
    check_norm,
    check_number,
    check_steps,
    check_whole,
)
from smp_feedback.errors import InvalidType, InvalidValue, UnknownKeyword, did_you_mean, suggestion
from smp_feedback.plugins import catalogue

C = TypeVar("C", bound="LoopConfig")


class GradientFlow(NamedTuple):
    """How gradients flow through time: one value, honoured by every loop (DESIGN: back-propagation modes).

    Attributes:
        steps: The last steps that carry gradient; None is all of them.
        detach: Each step on its own: no gradient crosses from one step to the one before.
        recompute: Keep only the states and run each step again in the backward pass.
    """

    steps: int | None = None
    detach: bool = False
    recompute: bool = False


class LoopConfig:
    """What every loop's config does: to a dict and back, with unknown keys refused."""

    loop: ClassVar[str]

    @property
    def state_channels_fed_back(self) -> int:
        """How many channels of a state are fed back; none for a loop without such a state."""
        return 0

    @property
    def is_data_dependent(self) -> bool:
        """Whether the images decide how many steps are run, so that they are no fixed graph."""
        return getattr(self, "tolerance", None) is not None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the loop's name and every field."""
        values = {f.name: getattr(self, f.name) for f in fields(cast(Any, self))}
        return {"loop": self.loop} | {k: "inf" if v == math.inf else v for k, v in values.items()}

    @classmethod
    def from_dict(cls: type[C], values: Mapping[str, Any]) -> C:
        """The inverse of :meth:`to_dict`; a key that is no field is an error."""
        loop = values.get("loop", cls.loop)
        if str(loop).lower() != cls.loop.lower():
            raise InvalidValue(f"loop={loop!r}: {cls.__name__} is the config of the loop {cls.loop!r}.")
        types = {f.name: str(f.type) for f in fields(cast(Any, cls))}
        known = list(types)
        given = {
            k: math.inf if v == "inf" and "float" in types.get(k, "") else v for k, v in values.items() if k != "loop"
        }
        for key in given:
            if key not in known:
                close = suggestion(did_you_mean(key, known), known, most=len(known))
                raise UnknownKeyword(f"{cls.__name__} has no field {key!r}. {close}")
        return cls(**given)


@dataclass(frozen=True, kw_only=True)
class Recurrent(LoopConfig):
    """The recurrent loop: part of a decaying state is fed back to the image (Deep Feedback Models).

    Defaults are the settings of arXiv 2509.15905, except where a measurement spoke for others
    (``docs/defaults.md``).

    Args:
        steps: Looks at the image, T >= 1; ``"auto"`` takes the fewest after which all remaining corrections
            sum to less than ``tolerance`` (0.01 if that is None).
        channels: Feedback channels K >= 1. ``probabilities`` feeds back one channel per class and
            ``entropy`` one, whatever is said here.
        tau: Time constant of the decay, in steps, > 0; ``math.inf`` for no decay.
        dynamics: How the state answers a correction: ``decay``, ``fractional``, ``leaky``, ``residual``, or
            a plugin's.
        output: What the state is read as. ``logits``: the base's head reads it after the last look. ``dirichlet``
            (arXiv 2507.10143): the head runs at every look, the state is the classes' evidence h, which starts at 1,
            and the model answers log(alpha), alpha = 1 + softplus(h): softmax of that is the Dirichlet's mean, and
            :func:`smp_feedback.dirichlet.uncertainty` reads the rest. Needs two classes or more.
        projection: What is fed back: ``softmax`` of the state, ``probabilities``, ``entropy``, or a plugin's; None
            is ``entropy`` for a ``dirichlet`` output and ``softmax`` for any other.
        order: Fractional order alpha > 0 of ``fractional`` (1.5 in arXiv 2507.10143).
        learn_rates: Whether each state channel learns its own decay rate s (all ones otherwise).
        rate_exponent: Exponent of |s| in the decay, > 0.
        basis: Basis Q in which the state decays: ``identity``; ``orthogonal``, learned and orthogonal at all
            times; ``free``, two independent matrices as in arXiv 2507.10143 (no bound on the state then).
        norm_error: How a correction is normalised: ``instance`` (each channel over space, as in the papers),
            ``layer`` (over channels and space), a number of groups, or ``none`` (no bound on the state then). None is
            ``instance`` for segmentation and 8 groups for classification (as in arXiv 2509.15905; fewer where 8 do
            not divide the state), for a head that averages over space would average every channel to zero.
        norm_feedback: How the state is normalised before the softmax; same choices. None is ``instance`` for
            segmentation and ``layer`` for classification, which a state of 1 x 1 survives.
        init_std: Standard deviation of h_0; 0 is deterministic (the papers also use 1e-3).
        feedback_init: Standard deviation of the new weights that read the feedback; 0 makes the first look
            the base model's own.
        statistics: BatchNorm's running statistics ``per_step`` or ``shared`` by all steps.
        grad_steps: The last steps that carry gradient; None is all.
        detach: Whether each step is on its own (no gradient from one step to the one before).
        recompute: Whether steps are run again in the backward pass instead of kept; under ``torch.compile``
            its partitioner decides instead. Leave timm's ``set_grad_checkpointing`` off: it runs modules again
            outside any step, with the first step's BatchNorm statistics.
        tolerance: In evaluation, an image stops when its state moves by less than this part of its norm;
            None never stops early. Costs one host synchronisation a step.
        insert: Where the feedback enters. ``input``: beside the image. ``stem``: after the first block of
            convolutions, through its pooling, beside what the next convolutions read (Deep Feedback Models).
            ``stage:k``: added to the encoder's k-th feature (of stride 2^k, where it is not dilated) through a
            1 x 1 convolution. ``after:NAME``: added so to what the module of that name gives, which must read
            the image itself (``after:patch_embed``: the tokens of a Vision Transformer). All that lies before is
            computed once per image: one draw of its dropout serves every look, and a hook that changes what the
            encoder is given is not heard there.
        stem: Dotted name of the convolution that shall read the feedback at the input; None finds those that
            read the image.

    Raises:
        InvalidType, InvalidValue: Naming field, value and range.
        UnknownName: For a dynamics or projection that nobody registered.

    >>> Recurrent(steps=8, tau=2.0).to_dict()["tau"]
    2.0
    >>> Recurrent(tau=-1)
    Traceback (most recent call last):
    smp_feedback.errors.InvalidValue: tau=-1: expected a number > 0 (steps).
    """

    loop: ClassVar[str] = "recurrent"

    steps: int | Literal["auto"] = 4
    channels: int = 2
    tau: float = 1.0
    dynamics: str = "decay"
    output: Literal["logits", "dirichlet"] = "logits"
    projection: str | None = None
    order: float = 1.5
    learn_rates: bool = False
    rate_exponent: float = 1.0
    basis: Literal["identity", "orthogonal", "free"] = "identity"
    norm_error: str | int | None = None
    norm_feedback: str | int | None = None
    init_std: float = 0.0
    feedback_init: float = 0.0
    statistics: Literal["per_step", "shared"] = "per_step"
    grad_steps: int | None = None
    detach: bool = False
    recompute: bool = False
    tolerance: float | None = None
    insert: str = "input"
    stem: str | None = None

    def __post_init__(self) -> None:
        if self.steps != "auto":
            check_steps(self.steps, hint="; steps='auto' finds its own")
        check_whole("channels", self.channels)
        check_number("tau", self.tau, above=0, unit=" (steps)", finite=False)
        for name in ("order", "rate_exponent"):
            check_number(name, getattr(self, name), above=0)
        for name in ("init_std", "feedback_init"):
            check_number(name, getattr(self, name), least=0)
        for name in ("learn_rates", "detach", "recompute"):
            check_bool(name, getattr(self, name))
        check_choice("basis", self.basis, ("identity", "orthogonal", "free"))
        check_choice("output", self.output, ("logits", "dirichlet"))
        check_choice("statistics", self.statistics, ("per_step", "shared"))
        for name in ("norm_error", "norm_feedback"):
            if getattr(self, name) is not None:
                check_norm(name, getattr(self, name))
        check_gradients(self.grad_steps, self.detach)
        if self.tolerance is not None:
            check_number("tolerance", self.tolerance, above=0)
        check_insert(self.insert, self.stem)
        _ = catalogue().projections[self.fed_back]
        catalogue().dynamics[self.dynamics].check(self)

    @property
    def fed_back(self) -> str:
        """The projection's name: the one given, or that of the output.

        >>> Recurrent().fed_back, Recurrent(output="dirichlet").fed_back
        ('softmax', 'entropy')
        """
        if self.projection is not None:
            return self.projection
        return "entropy" if self.output == "dirichlet" else "softmax"

    @property
    def state_channels_fed_back(self) -> int:
        """How many channels of the state are fed back; none where the prediction is.

        >>> Recurrent(channels=3).state_channels_fed_back, Recurrent(projection="entropy").state_channels_fed_back
        (3, 0)
        """
        if self.output == "dirichlet":  # its state is the classes' evidence, and a read-out is made of that
            return 0
        return int(catalogue().projections.make(self.fed_back, replace(self, norm_feedback="none"), 2).readout)

    @property
    def flow(self) -> GradientFlow:
        """How gradients flow through time, as one value."""
        return GradientFlow(self.grad_steps, self.detach, self.recompute)


Feedback = bool | str | LoopConfig | Mapping[str, Any] | None


def as_config(
    feedback: Feedback, default: LoopConfig | None = None, usual: Mapping[str, Any] | None = None
) -> LoopConfig | None:
    """The config behind ``feedback=``: True (*default*), False or None, a loop's name, a config or its dict.

    Args:
        feedback: What the caller said.
        default: What True means.
        usual: An architecture's own loop, as a dict: what True means, and what a dict changes.

    >>> as_config("recurrent") == as_config(True) == Recurrent()
    True
    >>> as_config(Recurrent(steps=3).to_dict()).steps
    3
    >>> as_config({"steps": 3}, usual={"loop": "recurrent", "steps": 5, "tau": 2.0}).tau
    2.0
    """
    if feedback is None or feedback is False:
        return None
    if isinstance(feedback, LoopConfig):
        return feedback
    if feedback is True:
        if usual is None:
            return default or Recurrent()
        feedback = dict(usual)
    if isinstance(feedback, str):
        feedback = {"loop": feedback}
    if isinstance(feedback, Mapping):
        name = catalogue().loops.entry(feedback.get("loop", _loop_of(usual))).name
        own = dict(usual) if usual is not None and _loop_of(usual) == name.lower() else {}
        return cast(LoopConfig, catalogue().loops[name].config_class.from_dict({**own, **feedback, "loop": name}))
    raise InvalidType(
        f"feedback={feedback!r} ({type(feedback).__name__}): expected True, False, the name of a loop "
        f"({', '.join(catalogue().loops)}), a config such as Recurrent(steps=4), or its dict."
    )


def _loop_of(usual: Mapping[str, Any] | None) -> str:
    return str((usual or {}).get("loop", Recurrent.loop)).lower()


def own_loop(base: Feedback) -> LoopConfig | None:
    """The config of a base's own loop, inside another one.

    Raises:
        InvalidValue: If it is a loop around a base itself: loops go one inside the other once.

    >>> own_loop("recurrent") == Recurrent()
    True
    """
    config = as_config(base)
    if config is not None and hasattr(config, "base"):
        raise InvalidValue(
            f"base={config.loop!r}: expected a loop that looks again itself, such as 'recurrent', or None."
        )
    return config
