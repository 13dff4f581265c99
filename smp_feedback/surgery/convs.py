"""Convolutions that read the feedback too: found, named, and given a sibling that does.

Each keeps its weight, keys and type, and answers ``conv(x) + reader(u)``, which is what a convolution over ``[x, u]``
computes; the reader is new and starts at zero.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from timm.layers import create_conv2d
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from smp_feedback.errors import SurgeryError, nearest
from smp_feedback.ops.maps import resize, size_of
from smp_feedback.surgery.extension import Extension, asking, extend
from smp_feedback.surgery.step_context import collect_answer, current_step

STANDARDISED = (StdConv2d, StdConv2dSame, ScaledStdConv2d, ScaledStdConv2dSame)


class ReadsFeedback(Extension):
    """A convolution that now reads the feedback too."""

    reader: int  # which of the readers answers for this convolution
    reads_image: bool  # or something made from it

    def forward(self, x: Tensor) -> Tensor:
        """conv(x) + reader(u); conv(x) alone outside a loop."""
        step = current_step()
        if step is None:
            answer = cast(Tensor, super().forward(x))
            collect_answer(answer)
            return answer
        u = fit(step.feedback, x, pad=self.reads_image)
        known = step.once.heard and u is step.feedback and x is step.once.read  # not of a padded or hooked image
        answer = step.once.heard[self.reader] if known else cast(Tensor, super().forward(x))
        return cast(Tensor, step.readers[self.reader](u)).add_(answer)  # in its own memory


def fit(feedback: Tensor, image: Tensor, *, pad: bool) -> Tensor:
    """*feedback* on the grid of *image*, which the base may have padded (or, not *pad*, resized)."""
    (h, w), (height, width) = size_of(feedback), size_of(image)
    if pad and (h, w) != (height, width):
        return F.pad(feedback, (0, width - w, 0, height - h))
    return resize(feedback, (height, width))


def sibling(conv: nn.Conv2d, channels: int) -> nn.Conv2d:
    """A convolution that reads *channels* where *conv* reads the image: same grid, no bias, weight zero.

    A copy of *conv*, so that whatever padding its class does comes along, except where the class
    standardises its weight, which would turn the smallest weight into a full-sized answer.
    """
    size = (conv.out_channels, channels, *conv.kernel_size)
    if isinstance(conv, STANDARDISED):
        same = isinstance(conv, (StdConv2dSame, ScaledStdConv2dSame))
        padding: Any = "same" if same else conv.padding
        facts = {"stride": conv.stride, "dilation": conv.dilation, "padding": padding, "bias": False}
        twin = cast(nn.Conv2d, create_conv2d(channels, conv.out_channels, conv.kernel_size, **facts))
    else:
        twin = copy.deepcopy(conv)
        if parametrize.is_parametrized(twin):  # the class is made for conv alone, and would ask for its parts
            twin.__class__ = parametrize.type_before_parametrizations(conv)
            del twin.parametrizations
        for hooks in (value for name, value in vars(twin).items() if "_hooks" in name):
            hooks.clear()
        twin.in_channels, twin.groups, twin.bias = channels, 1, None
    twin.weight = nn.Parameter(torch.zeros(size, dtype=conv.weight.dtype, device=conv.weight.device))
    return twin


def add_readers(convs: list[nn.Conv2d], channels: int, *, reads_image: bool, first: int = 0) -> nn.ModuleList:
    """Let *convs* read the feedback, in place; returns their readers, which are numbered from *first*."""
    readers = nn.ModuleList(sibling(conv, channels) for conv in convs)
    for index, conv in enumerate(convs, start=first):
        extended_conv = extend(conv, ReadsFeedback)
        extended_conv.reader, extended_conv.reads_image = index, reads_image
    return readers


def image_readers(model: nn.Module, image: Tensor) -> tuple[dict[str, nn.Conv2d], Any]:
    """The convolutions that are handed *image* (B, C, H, W) itself, by dotted name, and the model's answer.

    Compares values, not identity: some models pad the image first. An image handed on padded at its right
    and lower edge still counts.
    """
    found: dict[str, nn.Conv2d] = {}

    def ask(name: str, conv: nn.Conv2d, inputs: tuple[Any, ...]) -> None:
        x, (h, w) = inputs[0], image.shape[-2:]
        if x.shape[:2] == image.shape[:2] and torch.equal(x[..., :h, :w].to(image.dtype), image):
            found[name] = conv

    with asking(((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)), ask):
        return found, model(image)


def named_stem(model: nn.Module, stem: str) -> nn.Conv2d:
    """The convolution called *stem*, or an error that names those there are."""
    convs = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    if stem not in convs:
        raise SurgeryError(f"stem={stem!r} is no convolution of this {type(model).__name__}. {nearest(stem, convs)}")
    return convs[stem]
