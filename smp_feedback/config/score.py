"""The score loop's config: how a prediction is refined, and by which autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

from smp_feedback.checks import check_bool, check_choice, check_gradients, check_number, check_whole
from smp_feedback.config.base import LoopConfig
from smp_feedback.config.parse import own_loop
from smp_feedback.errors import InvalidType, InvalidValue

AUTOENCODERS = ("standard", "context")
UNPOOLINGS = ("tracked", "transposed", "nearest")
NOISES = ("gaussian", "swap", "none")


@dataclass(frozen=True, kw_only=True)
class Score(LoopConfig):
    """The score loop: a prediction y moves along a score that a conditional denoising autoencoder r estimates.

    *Image Segmentation by Iterative Inference from Conditional Score Estimation* (arXiv 1705.07450): y begins as the
    softmax of the base's logits, and ``y <- clip(y + step * (r(y, c) - y), 0, 1)``, where c are features of the base.
    The autoencoder is to be trained first (``smp-feedback score train``); ``steps`` and ``step`` are then chosen on
    validation images (``smp-feedback score tune``) and kept with the model. A base of one class is refined as the two
    of background and foreground.

    Args:
        steps: Updates, at most; 0 is the base's own answer.
        step: Step size, > 0; above 1 overshoots the reconstruction.
        tolerance: In evaluation, an image stops once ``|r - y|`` (the norm over classes, mean over pixels) is below
            this; 1e-3 in the paper, None never stops. Nothing is asked of an accelerator: there, images that have
            stopped stay in the batch; on a CPU they are left out of the work.
        autoencoder: ``standard`` contracts and expands; ``context`` keeps the resolution and dilates, and is
            conditioned on the image alone.
        features: What conditions it: ``stage:k``, the encoder's k-th feature; ``input``, the image; ``output``,
            what the base's head reads; or a module's dotted name (``layer4.1``) for what it gives. None is stage 4 (of
            stride 16, the paper's ``pool4``) of a base with an encoder, else ``output``; and ``input`` for ``context``.
        filters: Channels of the first convolution, doubled after every pooling; 64 in the paper.
        convolutions: Convolutions before each pooling.
        additional_pools: Poolings beyond the resolution of the deepest feature, >= 1; 2 in the paper.
        unpooling: ``tracked`` puts values back where the pooling found its maxima (as in the paper), ``transposed`` is
            a learned 4 x 4 convolution, ``nearest`` repeats. Where two values are equal up to rounding, another device,
            dtype or runtime may track the other one: for export to ONNX take one of the last two.
        skip: Whether what was pooled is added on the way up.
        batch_norm: Whether the convolutions on the way down are normalised.
        dropout: Probability, in [0, 1), on the way down.
        padding: Of the first convolution; 100 for a base that itself pads so (FCN-8), 1 keeps the size.
        noise: What corrupts the autoencoder's input in training: ``gaussian`` noise, ``swap`` draws another class for
            a pixel, ``none``.
        noise_level: Standard deviation of the gaussian noise (0.5 in the paper); the chance of a swap.
        temperature: Of the softmax that makes y of the logits, > 0.
        freeze: Whether the base is left alone: its weights do not train, and it stays in evaluation mode. Otherwise
            it learns through y and through the features; with ``detach`` or ``grad_steps`` through the features alone.
        base: A loop of the base's own, whose last look is then refined: :class:`Recurrent`, its name or its dict.
        grad_steps, detach, recompute: As in :class:`Recurrent`.

    Raises:
        InvalidType, InvalidValue: Naming field, value and range.

    >>> Score(steps=7, step=0.05).to_dict()["step"]
    0.05
    >>> Score(step=0.0)
    Traceback (most recent call last):
    smp_feedback.errors.InvalidValue: step=0.0: expected a number > 0.
    """

    loop: ClassVar[str] = "score"

    steps: int = 10
    step: float = 0.1
    tolerance: float | None = 1e-3
    autoencoder: Literal["standard", "context"] = "standard"
    features: tuple[str, ...] | None = None
    filters: int = 64
    convolutions: int = 1
    additional_pools: int = 2
    unpooling: Literal["tracked", "transposed", "nearest"] = "tracked"
    skip: bool = True
    batch_norm: bool = False
    dropout: float = 0.0
    padding: int = 1
    noise: Literal["gaussian", "swap", "none"] = "gaussian"
    noise_level: float = 0.5
    temperature: float = 1.0
    freeze: bool = True
    base: LoopConfig | None = None
    grad_steps: int | None = None
    detach: bool = False
    recompute: bool = False

    def __post_init__(self) -> None:
        check_whole("steps", self.steps, "; 0 is the base's own answer", least=0)
        check_number("step", self.step, above=0)
        if self.tolerance is not None:
            check_number("tolerance", self.tolerance, above=0)
        check_choice("autoencoder", self.autoencoder, AUTOENCODERS)
        check_choice("unpooling", self.unpooling, UNPOOLINGS)
        check_choice("noise", self.noise, NOISES)
        for name in ("filters", "convolutions", "padding"):
            check_whole(name, getattr(self, name))
        check_whole("additional_pools", self.additional_pools, "; with 0 nothing would read the deepest feature")
        for name in ("skip", "batch_norm", "freeze", "detach", "recompute"):
            check_bool(name, getattr(self, name))
        for name in ("dropout", "noise_level"):
            check_number(name, getattr(self, name), least=0)
        check_number("temperature", self.temperature, above=0)
        self._check_chances()
        check_gradients(self.grad_steps, self.detach)
        # what JSON and a command line give
        object.__setattr__(self, "features", _names(self.features))
        object.__setattr__(self, "base", own_loop(self.base))

    def _check_chances(self) -> None:
        if self.dropout >= 1:
            raise InvalidValue(f"dropout={self.dropout!r}: expected a probability < 1.")
        if self.noise == "swap" and self.noise_level > 1:
            raise InvalidValue(f"noise_level={self.noise_level!r} with noise='swap': expected a probability <= 1.")

    @property
    def conditions(self) -> tuple[str, ...] | None:
        """The names of the features, where that can be said without asking the base.

        >>> Score(autoencoder="context").conditions
        ('input',)
        """
        return ("input",) if self.features is None and self.autoencoder == "context" else self.features

    @property
    def is_data_dependent(self) -> bool:
        """Never: images that have stopped are masked."""
        return False


def _names(features: object) -> tuple[str, ...] | None:
    if features is None:
        return None
    listed = [*features] if isinstance(features, Sequence) and not isinstance(features, str) else None
    if not listed or not all(isinstance(name, str) and name for name in listed):
        raise InvalidType(
            f"features={features!r}: expected a list of names, such as ['stage:4'], ['input'] or ['encoder.layer3']; "
            "None is the usual one."
        )
    if len({*listed}) < len(listed):
        raise InvalidValue(f"features={listed!r}: expected each name once.")
    return tuple(cast("list[str]", listed))
