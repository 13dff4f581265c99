"""Asking a base model, once and before anything is cut: one dry run that says all we need to know."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from smp_feedback.errors import InvalidValue, SurgeryError
from smp_feedback.ops.maps import Size, size_of
from smp_feedback.surgery.answers import checked_answer
from smp_feedback.surgery.convs import image_readers
from smp_feedback.surgery.cuts import Cut, behind_head, cut_of
from smp_feedback.surgery.failures import all_refused

SIZES = (64, 128, 192, 224, 256, 288, 384, 512)


class Probe(NamedTuple):
    """What the dry run showed.

    Attributes:
        cut: Where it is cut.
        image: The image it was shown (1, C, H, W).
        logits: The base's own answer (1, classes, ...).
        output: What the head read (1, S, h, w).
        readers: The convolutions that read the image, by dotted name.
        labels: The base's own labels, where it has a classification head.
        grid: Height and width of the state; where it is no map, of what of it is laid out in space.
    """

    cut: Cut
    image: Tensor
    logits: Tensor
    output: Tensor
    readers: dict[str, nn.Conv2d]
    labels: Tensor | None = None
    grid: Size = (1, 1)

    @property
    def stride(self) -> tuple[float, float]:
        """Image pixels from one place of the state to the next, (h, w)."""
        return self.image.shape[-2] / self.grid[0], self.image.shape[-1] / self.grid[1]

    @property
    def placeless(self) -> int | None:
        """How many of the state's tokens (B, S, N, 1) lie nowhere in space; None of a map."""
        tokens = self.cut.spread is not None and self.output.shape[-1] == 1
        return self.output.shape[-2] - self.grid[0] * self.grid[1] if tokens else None

    @property
    def classifies(self) -> bool:
        """Whether the base gives one answer per image."""
        return self.logits.ndim == 2


def probe(base: nn.Module, in_channels: int | None = None, *, dirichlet: bool = False) -> Probe:
    """Show *base* one random image, of the first size that it takes; it must be evaluating.

    Args:
        base: The base model.
        in_channels: How many the image has, if somebody knows; else the first number that it takes.
        dirichlet: Whether the base is cut behind its head.

    Raises:
        SurgeryError: If it takes none, with its own words, or cannot be cut.
        InvalidValue: If it is a classifier, and to be cut behind its head.
    """
    refused: list[Exception] = []
    tried = [*rectangles(base), *((size, size) for size in sizes(base))]
    counts = [in_channels] if in_channels else in_channels_of(base)
    for count, size in itertools.product(counts, tried):
        image = noise(base, (1, count, *size))
        try:
            found, answer = image_readers(base, image)
            cut = behind_head(cut_of(base, image)) if dirichlet else cut_of(base, image)
            output, features = cut.body(base, image)
        except SurgeryError:
            raise
        except Exception as error:  # sizes that do not fit fail in as many ways as there are models
            refused.append(error)
            continue
        _check_output(base, output, dirichlet=dirichlet)
        logits, labels = checked_answer(type(base).__name__, cut.answer(answer, size), image)
        if labels is not None and features is None:
            raise SurgeryError(
                f"{type(base).__name__} answers (masks, labels), and its body gives no features to make labels of: a "
                "loop would leave them out. Answer masks alone, or register a smp_feedback.Cut with labels(model, "
                "features), whose body gives (output, features)."
            )
        return Probe(cut, image, logits, output, found, labels, _grid(cut, base, output, size))
    raise SurgeryError(all_refused(type(base).__name__, refused[: len(tried)], _in_words(tried), counts)) from refused[
        0
    ]


def _check_output(base: nn.Module, output: Any, *, dirichlet: bool) -> None:
    """What the body of *base* gave can be a state."""
    if dirichlet and isinstance(output, Tensor) and output.ndim == 2:
        raise InvalidValue(
            f"output='dirichlet': {type(base).__name__} is a classifier, whose answer {tuple(output.shape)} has no "
            "pixels, and the state is the evidence at each pixel. Leave output='logits'."
        )
    if not isinstance(output, Tensor) or output.ndim != 4:
        got = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise SurgeryError(
            f"{type(base).__name__}: what the head reads (with output='dirichlet', what it gives) must be one "
            f"(B, S, h, w) tensor, got {got}."
        )


def _grid(cut: Cut, base: nn.Module, output: Tensor, size: Size) -> Size:
    laid = output if cut.spread is None else cut.spread(base, output[:, :1], size)
    return size_of(laid)


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


def rectangles(base: nn.Module) -> list[tuple[int, int]]:
    """The sizes (H, W) that modules were built for, where they are not square."""
    found = [getattr(module, "img_size", None) for module in base.modules()]
    pairs = [(size[0], size[1]) for size in found if isinstance(size, (tuple, list)) and len(size) == 2]
    return list(dict.fromkeys((h, w) for h, w in pairs if h != w))


def _in_words(sizes: list[tuple[int, int]]) -> str:
    return ", ".join(str(h) if h == w else f"{h} x {w}" for h, w in sizes)


def _side(size: Any) -> int | None:
    """The last number of 224, (224, 224) or (3, 224, 224)."""
    side = size[-1] if isinstance(size, (tuple, list)) and size else size
    return side if isinstance(side, int) and side > 0 else None


def in_channels_of(base: nn.Module) -> list[int]:
    """Channels the image may have, likeliest first: what the model says of itself, its first convolution's, the usual.

    What it says counts only as far as it has such a convolution: one that was put in the place of the first reads other
    images, and its ``config`` goes on saying what it was made with.
    """
    convs = [module.in_channels for module in base.modules() if isinstance(module, nn.Conv2d)]
    config: Any = getattr(base, "config", None)
    said = [int(config["in_channels"])] if isinstance(config, dict) and "in_channels" in config else []
    if said and said[0] in convs:
        return list(dict.fromkeys((*said, convs[0])))
    return list(dict.fromkeys((*convs[:1], *(said or (3, 1, 4)))))


def noise(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Uniform noise on the model's device; the global generators stay where they are."""
    like = next(model.parameters())
    generator = torch.Generator().manual_seed(0)
    return torch.rand(shape, generator=generator).to(like.device, like.dtype)
