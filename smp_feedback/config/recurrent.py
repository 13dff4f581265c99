"""The recurrent loop's config: what is fed back, how the state answers, and how gradients flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from smp_feedback.checks import (
    check_bool,
    check_choice,
    check_gradients,
    check_norm,
    check_number,
    check_steps,
    check_whole,
)
from smp_feedback.config.base import LoopConfig
from smp_feedback.config.options import made_of, options_class, whole_options
from smp_feedback.config.places import places_of
from smp_feedback.errors import InvalidValue
from smp_feedback.registry.public import catalogue

DIRICHLET_NORM = "layer"
"""How corrections of a Dirichlet output are normalised where nothing is said: see ``docs/defaults.md``."""


@dataclass(frozen=True, kw_only=True)
class Recurrent(LoopConfig):
    """The recurrent loop: part of a decaying state is fed back to the image (Deep Feedback Models).

    Defaults are the settings of arXiv 2509.15905, except where a measurement spoke for others
    (``docs/defaults.md``). They are for one size of images and a fixed number of looks: for problems that grow, and for
    as many looks as they need, take ``feedback="anytime"`` (``docs/anytime.md``); around a trained model
    ``dynamics="residual"``.

    Args:
        steps: Looks at the image, T >= 1; ``"auto"`` takes the fewest after which all remaining corrections
            sum to less than ``tolerance`` (0.01 if that is None).
        channels: Feedback channels K >= 1. ``probabilities`` feeds back one channel per class and
            ``entropy`` one, whatever is said here.
        tau: Time constant of the decay, in steps, > 0; ``math.inf`` for no decay.
        dynamics: How the state answers a correction: ``decay``, ``fractional``, ``leaky``, ``gated`` (a learned gate
            says how much of it is taken), ``residual``, or a plugin's.
        output: What the state is read as. ``logits``: the base's head reads it after the last look. ``dirichlet``
            (arXiv 2507.10143): the head runs at every look, the state is the classes' evidence h, which starts at 1,
            and the model answers log(alpha), alpha = 1 + softplus(h): softmax of that is the Dirichlet's mean, and
            :func:`smp_feedback.ops.dirichlet.uncertainty` reads the rest. Needs two classes or more.
        projection: What is fed back: ``softmax`` of the state, the ``state`` itself, ``probabilities``,
            ``answer+state`` (probabilities beside the state), ``entropy``, or a plugin's; None is ``entropy`` for a
            ``dirichlet`` output and ``softmax`` for any other.
        order: Fractional order alpha > 0 of ``fractional`` (1.5 in arXiv 2507.10143).
        learn_rates: Whether each state channel learns its own decay rate s (all ones otherwise).
        rate_exponent: Exponent of |s| in the decay, > 0.
        basis: Basis Q in which the state decays: ``identity``; ``orthogonal``, learned and orthogonal at all
            times; ``free``, two independent matrices as in arXiv 2507.10143 (no bound on the state then).
        norm_error: How a correction is normalised: ``instance`` (each channel over space, as in the papers),
            ``layer`` (over channels and space), a number of groups, ``pixel`` (the channels of each pixel to an rms of
            1, whatever lies around it: the one that carries over to images of other sizes than those trained on), or
            ``none`` (no bound on the state then). None is ``instance`` for segmentation and 8 groups for
            classification (as in arXiv 2509.15905; fewer where 8 do not divide the state), for a head that averages
            over space would average every channel to zero. For a ``dirichlet`` output None is ``layer``, and becomes
            it: with every class normalised on its own, a rare one has as much evidence as a common one.
        norm_feedback: How the state is normalised before the softmax; same choices. None is ``instance`` for
            segmentation and ``layer`` for classification, which a state of 1 x 1 survives. Refused where what is
            fed back is the state as it is.
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
        cut: The relative change of a stream's state above which :meth:`FeedbackModel.look` with ``reset="auto"`` takes
            a frame for a cut in a film and begins anew, > 0; None where no film has taught one. Only with dynamics
            that carry a state from call to call (``leaky``, ``gated``).
        insert: Where the feedback enters. ``input``: beside the image. ``stem``: after the first block of
            convolutions, through its pooling, beside what the next convolutions read (Deep Feedback Models).
            ``stage:k``: added to the encoder's k-th feature (of stride 2^k, where it is not dilated) through a
            1 x 1 convolution. ``after:NAME``: added so to what the module of that name gives, which must read
            the image itself (``after:patch_embed``: the tokens of a Vision Transformer). All that lies before, and
            what the decoder makes of that alone, is computed once per image: one draw of its dropout serves every
            look, and a hook that changes what the encoder is given is not heard there. Several of them in a list: the
            same feedback is read at each, and what none of them reaches is computed once; at most one may be an
            ``after:NAME``. ``decoder``: added so to all features of the encoder that the decoder reads, whatever the
            encoder is: it runs once per image, and the looks turn in decoder and head alone. ``decoder:k``, or a list
            of them: to the k-th feature alone. Not together with places before.
        stem: Dotted name of the convolution that shall read the feedback at the input; None finds those that
            read the image.
        options: Settings of a plugin's dynamics or projection, by what it is:
            ``{"dynamics": {"kernel": 3}, "projection": {...}}``; what is not said is as its author has it. Refused for
            parts that have none, as all that are built in.

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
    cut: float | None = None
    insert: str | Sequence[str] = "input"
    stem: str | None = None
    options: Mapping[str, Any] | None = field(default=None, hash=False)  # a dict has no hash

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
        if self.norm_error is None and self.output == "dirichlet":  # said, and so saved: it once meant another
            object.__setattr__(self, "norm_error", DIRICHLET_NORM)
        for name in ("norm_error", "norm_feedback"):
            if getattr(self, name) is not None:
                check_norm(name, getattr(self, name))
        check_gradients(self.grad_steps, self.detach)
        if self.tolerance is not None:
            check_number("tolerance", self.tolerance, above=0)
        if self.cut is not None:
            check_number("cut", self.cut, above=0)
            if not catalogue().dynamics[self.dynamics].carries:
                raise InvalidValue(
                    f"cut={self.cut!r}: dynamics={self.dynamics!r} carries no state that a cut in a film could end; "
                    f"take dynamics={' or '.join(map(repr, carrying()))}, or leave cut=None."
                )
        object.__setattr__(self, "insert", places_of(self.insert, self.stem))
        if not self.normalises_feedback and self.norm_feedback not in (None, "none"):
            raise InvalidValue(
                f"norm_feedback={self.norm_feedback!r}: projection={self.fed_back!r} feeds the state back as it is; "
                "leave norm_feedback=None, and say norm_error for how corrections are normalised."
            )
        names = {"dynamics": self.dynamics, "projection": self.fed_back}
        object.__setattr__(self, "options", whole_options(self.options, names))
        catalogue().dynamics[self.dynamics].check(self)

    def options_of(self, part: Literal["dynamics", "projection"]) -> Any:
        """The settings of a *part*'s own, as its ``options_class``; None where it has none.

        >>> Recurrent().options_of("dynamics") is None
        True
        """
        name = self.dynamics if part == "dynamics" else self.fed_back
        of, said = options_class(part, name), (self.options or {}).get(part, {})
        return None if of is None else made_of(of, said, f"options: {part}={name!r}")

    @property
    def places(self) -> tuple[str, ...]:
        """Where the feedback enters, on the image's way.

        >>> Recurrent(insert=["stage:2", "input"]).places
        ('input', 'stage:2')
        """
        return (self.insert,) if isinstance(self.insert, str) else tuple(self.insert)

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
    def normalises_feedback(self) -> bool:
        """Whether what is fed back may be normalised.

        >>> Recurrent().normalises_feedback, Recurrent(projection="state").normalises_feedback
        (True, False)
        """
        return bool(getattr(catalogue().projections[self.fed_back], "normalises", True))

    @property
    def state_channels_fed_back(self) -> int:
        """How many channels of the state are fed back; none where the prediction is.

        >>> Recurrent(channels=3).state_channels_fed_back, Recurrent(projection="entropy").state_channels_fed_back
        (3, 0)
        """
        if self.output == "dirichlet":  # its state is the classes' evidence, and a read-out is made of that
            return 0
        from torch.random import fork_rng

        with fork_rng(devices=[]):  # a projection may draw weights, and asking what it reads may not move a seeded run
            return int(catalogue().projections.make(self.fed_back, replace(self, norm_feedback="none"), 2).readout)


def carrying() -> list[str]:
    """The dynamics whose state may be carried on from one call to the next.

    >>> {"leaky", "gated"} <= {*carrying()}, "decay" in carrying()
    (True, False)
    """
    known = catalogue().dynamics
    return [name for name in known if known[name].carries]
