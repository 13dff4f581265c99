"""Asking a base model, once and before anything is cut: one dry run that says all we need to know."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from smp_feedback.builder import Cut
from smp_feedback.errors import SurgeryError
from smp_feedback.look import Look, looking
from smp_feedback.surgery import image_readers

SIZES = (64, 128, 192, 224, 256, 288, 384, 512)


class Probe(NamedTuple):
    """What the dry run showed.

    Attributes:
        image: The image it was shown (1, C, H, W).
        logits: The base's own answer (1, classes, ...).
        output: What the head read (1, S, h, w).
        readers: The convolutions that read the image, by dotted name.
    """

    image: Tensor
    logits: Tensor
    output: Tensor
    readers: dict[str, nn.Conv2d]

    @property
    def stride(self) -> float:
        """Image pixels per state pixel."""
        return self.image.shape[-2] / self.output.shape[-2]


def probe(base: nn.Module, cut: Cut, in_channels: int) -> Probe:
    """Show *base* one random image, of the first size that it takes; it must be evaluating.

    Raises:
        SurgeryError: If it takes none, with its own words.
    """
    refused: Exception | None = None
    tried = sizes(base)
    for size in tried:
        image = noise(base, (1, in_channels, size, size))
        try:
            found, answer = image_readers(base, image)
            output, _ = cut.body(base, cut.prefix(base, image))
        except Exception as error:  # sizes that do not fit fail in as many ways as there are models
            refused = error
            continue
        if not isinstance(output, Tensor) or output.ndim != 4:
            raise SurgeryError(
                f"{type(base).__name__}: the head must read one (B, S, h, w) tensor, got {output!r:.80}."
            )
        return Probe(image, _logits(answer), output, found)
    raise SurgeryError(f"{type(base).__name__} answered no dry run at {tried} px. Its last words: {refused!r}")


def prove(model: nn.Module, cut: Cut, seen: Probe, readers: nn.ModuleList, statistics: nn.ModuleList) -> None:
    """The cut model, shown any feedback, answers the probe as the base did.

    Raises:
        SurgeryError: If it does not: its forward does more than the cut knows.
    """
    channels = next(readers.parameters()).shape[1]
    feedback = noise(model, (1, channels, *seen.image.shape[-2:]))
    with looking(Look(0, feedback, readers, statistics)):
        logits = cut.head(model, cut.body(model, cut.prefix(model, seen.image))[0])
    allowed = 50 * torch.finfo(logits.dtype).eps ** 0.75 * (1 + float(seen.logits.abs().max()))
    same = logits.shape == seen.logits.shape and torch.allclose(
        logits, seen.logits, rtol=0, atol=allowed, equal_nan=True
    )
    if not same:
        raise SurgeryError(
            f"{type(model).__name__}: body and head do not reproduce its own answer; its forward does more than "
            "encoder -> decoder -> segmentation_head. Give it forward_features and forward_head that do all of it."
        )


def sizes(base: nn.Module) -> list[int]:
    """Sizes to try: those that modules were built for, then small to large, then the pretrained one.

    All are multiples of the encoder's output stride, which need not be a power of two (patches of 7 or 14).
    """
    modules = list(base.modules())
    built_for = sorted({side for m in modules if (side := _side(getattr(m, "img_size", None)))})
    trained_at = [
        side for m in modules if (side := _side((getattr(m, "pretrained_cfg", None) or {}).get("input_size")))
    ]
    stride = getattr(getattr(base, "encoder", None), "output_stride", 1)
    stride = stride if isinstance(stride, int) else 1
    multiples = [-(-size // stride) * stride for size in SIZES]
    return list(dict.fromkeys([*built_for, *multiples, *trained_at]))


def _side(size: Any) -> int | None:
    """The last number of 224, (224, 224) or (3, 224, 224)."""
    side = size[-1] if isinstance(size, (tuple, list)) and size else size
    return side if isinstance(side, int) and side > 0 else None


def in_channels_of(base: nn.Module) -> int:
    """Channels of the image: what the model says of itself, else what its first convolution reads."""
    config: Any = getattr(base, "config", None)
    if isinstance(config, dict) and "in_channels" in config:
        return int(config["in_channels"])
    for module in base.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    raise SurgeryError(f"{type(base).__name__} has no 2-d convolution: nothing in it could read the feedback.")


def noise(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Uniform noise on the model's device; the global generators stay where they are."""
    like = next(model.parameters())
    generator = torch.Generator().manual_seed(0)
    return torch.rand(shape, generator=generator).to(like.device, like.dtype)


def _logits(answer: Any) -> Tensor:
    logits = answer[0] if isinstance(answer, tuple) else answer
    if not isinstance(logits, Tensor):
        raise SurgeryError(
            f"expected the base to answer with a tensor or (masks, labels), got {type(answer).__name__}."
        )
    return logits
