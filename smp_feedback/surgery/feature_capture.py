"""Features of a base model by name: what conditions the autoencoder of the score loop, taken in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from smp_feedback.errors import SurgeryError
from smp_feedback.ops.maps import Size
from smp_feedback.surgery.cuts import Cut
from smp_feedback.surgery.extension import Extension, calls_of, extend, full_name
from smp_feedback.surgery.step_context import capture_feature

INPUT, OUTPUT, STAGE, ENCODER = "input", "output", "stage:", "encoder"
USUAL_STAGE = 4  # of stride 16, as the paper's pool4


class Captured(Extension):
    """A module that leaves what it gave to whoever captures features."""

    captured: str

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As ever."""
        gave = super().forward(*args, **kwargs)
        capture_feature(self.captured, gave)
        return gave


class Taken(NamedTuple):
    """A feature, and where it is taken.

    Attributes:
        name: As it was asked for.
        module: Dotted name of the module that gives it; empty for the image and for what the head reads.
        stage: Which of the features of an encoder; None where the module gives a single tensor.
    """

    name: str
    module: str = ""
    stage: int | None = None

    def of(self, features: Mapping[str, Any], image: Tensor, output: Tensor) -> Tensor:
        """The feature (B, C, h, w), after one pass of the base.

        Raises:
            SurgeryError: If the module did not run, or gave no map.
        """
        if not self.module:
            return image if self.name == INPUT else output
        if self.module not in features:
            raise SurgeryError(f"features: {self.name!r} did not run when the base answered, so it gives no feature.")
        gave = features[self.module]
        found = gave if self.stage is None else stages_of(gave)[self.stage]
        if not isinstance(found, Tensor) or found.ndim != 4:
            got = tuple(found.shape) if isinstance(found, Tensor) else f"a {type(found).__name__}"
            raise SurgeryError(f"features: {self.name!r} gives {got}; expected a map (B, C, h, w).")
        if found.shape[0] != image.shape[0]:  # windows of an image, say
            raise SurgeryError(f"features: {self.name!r} gives {found.shape[0]} maps for {image.shape[0]} images.")
        return found


def taken(base: nn.Module, names: Sequence[str] | None, image: Tensor) -> tuple[Taken, ...]:
    """Where the features called *names* are taken, and *base* ready to give them, in place.

    Args:
        base: The base model, evaluating.
        names: As in :class:`smp_feedback.Score`; None is the usual one.
        image: (1, C, H, W) of a size it takes.

    Raises:
        SurgeryError: If one does not exist, with those that do.
    """
    if names is None:
        stages = _stages(base, image)
        usual = min(USUAL_STAGE, max(stages, default=0))
        names = (f"{STAGE}{usual}",) if usual in stages else (OUTPUT,)
    found = tuple(_taken(base, name, image) for name in names)
    for module in {one.module for one in found if one.module}:
        extend(base.get_submodule(module), Captured).captured = module
    return found


def _taken(base: nn.Module, name: str, image: Tensor) -> Taken:
    if name in (INPUT, OUTPUT):
        return Taken(name)
    if not name.startswith(STAGE):
        return Taken(name, full_name(base, name, f"features: {name!r}"))
    stages, asked = _stages(base, image), name.removeprefix(STAGE)
    if not asked.isdecimal() or int(asked) not in stages:
        there = ", ".join(f"{STAGE}{k}" for k in stages)
        exist = f"This {type(base).__name__} has {there}" if there else "Its encoder gives no list of features"
        raise SurgeryError(f"features: {name!r}: {exist}, 'input', 'output' and its modules by their dotted names.")
    return Taken(name, ENCODER, int(asked))


def _stages(base: nn.Module, image: Tensor) -> list[int]:
    """The encoder's features that are maps with channels, by index from 1."""
    encoder = getattr(base, ENCODER, None)
    if not isinstance(encoder, nn.Module):
        return []
    with calls_of(encoder) as calls:
        base(image)
    features = stages_of(calls[-1][1]) if calls else ()
    return [k for k, x in enumerate(features) if k and isinstance(x, Tensor) and x.ndim == 4 and x.shape[1]]


def stages_of(gave: Any) -> Sequence[Any]:
    """An encoder's list of features; DPT's encoder gives it beside its prefix tokens."""
    inner = gave[0] if isinstance(gave, tuple) and gave and isinstance(gave[0], list) else gave
    return inner if isinstance(inner, (list, tuple)) else ()


def what_the_head_reads(cut: Cut, model: nn.Module, output: Tensor, size: Size) -> Tensor:
    """What the body gave (B, S + K, h, w), without what it made to be fed back, as a map."""
    read = cut.read(model, output)
    return read if cut.spread is None else cut.spread(model, read, size)
