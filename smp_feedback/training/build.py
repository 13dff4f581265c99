"""From settings, as a command line or a YAML file has them, to a module."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from smp_feedback.config.parse import Feedback, as_config
from smp_feedback.config.repair import Repair
from smp_feedback.config.restoration import Restoration
from smp_feedback.config.score import Score
from smp_feedback.errors import InvalidInput, InvalidValue
from smp_feedback.factory import create
from smp_feedback.models.normalisation import given_config
from smp_feedback.registry.public import catalogue
from smp_feedback.surgery.extension import evaluating
from smp_feedback.training.build_loss import USUAL, build_loss
from smp_feedback.training.facts import AUTO, Facts
from smp_feedback.training.init_weights import begin, say_what_begins
from smp_feedback.training.module import FeedbackModule


def build_module(
    facts: Facts,
    *,
    arch: str = "Unet",
    encoder: str | None = None,
    encoder_weights: str | None = AUTO,
    feedback: bool | str | dict[str, Any] = True,
    base_norm: str | None = None,
    arguments: dict[str, Any] | None = None,
    init: str | None = None,
    **training: Any,
) -> FeedbackModule:
    """A model and how it is trained.

    Args:
        facts: What to know of the data.
        arch: A name from ``list_architectures``, such as ``timm/<name>`` for a classifier of timm.
        encoder: A name from ``list_encoders``; null is the architecture's own (smp's: resnet34), if it has one.
        encoder_weights: ``auto`` is the architecture's own usage: smp's models download ``imagenet``, those of timm
            and torchvision begin at random; null is random.
        feedback: true (the architecture's usual loop), false, a loop's name, or its config such as
            ``{steps: 4, tau: 2.0}``.
        base_norm: ``group`` puts GroupNorm in the place of BatchNorm, ``pixel`` a normalisation of each pixel; null
            leaves the base as it is.
        arguments: What else the architecture takes, such as ``{encoder_depth: 4}``.
        init: Weights to begin with: a plain model's for the base, or a looping model's for all of it; a file (``.pth``,
            ``.ckpt``, ``.safetensors``), a directory of save_pretrained or a hub repository. No others are downloaded.
        **training: See :class:`FeedbackModule`.
    """
    if isinstance(loss := training.get("loss", USUAL), str):  # a base may take long to build
        about: dict[str, Any] = {"classes": len(facts.classes), "task": facts.task}
        build_loss(loss, facts.ignore_index, training.get("loss_arguments"), **about)
    if init is not None and encoder_weights == AUTO:
        encoder_weights = None
    base: dict[str, Any] = {"encoder_weights": encoder_weights, "base_norm": base_norm, "arguments": arguments}
    model = build_model(facts, feedback, arch=arch, encoder=encoder, **base)
    if init is not None:
        if begin(model, init):
            say_what_begins(model, init)
        cast(Any, model).data_config = facts.config(given_config(model).config)
    return FeedbackModule(
        model, classes=len(facts.classes), ignore_index=facts.ignore_index, task=facts.task, **training
    )


def build_model(
    facts: Facts,
    feedback: Feedback,
    *,
    arch: str,
    encoder: str | None,
    encoder_weights: str | None,
    base_norm: str | None,
    arguments: dict[str, Any] | None,
    around: Score | Restoration | Repair | None = None,
) -> nn.Module:
    """The model alone; as in :func:`build_module`, and *feedback* may be a config, *around* a loop around it all."""
    if around is not None:
        own = as_config(cast(Any, feedback), usual=catalogue().architectures.entry(arch).feedback)
        feedback = replace(around, base=own)
    told = shape_told(arch, facts.image[0], len(facts.classes)) | {"base_norm": base_norm, **(arguments or {})}
    if (channels := told.get("in_channels", facts.image[0])) != facts.image[0]:
        raise InvalidValue(
            f"arguments.in_channels={channels}: the images have {facts.image[0]} channels; leave it out, or say "
            f"data.channels={channels} or data.bands."
        )
    told |= {} if encoder is None else {"encoder_name": encoder}
    told |= {} if encoder_weights == AUTO else {"encoder_weights": encoder_weights}
    model: nn.Module = create(arch, feedback=cast(Any, feedback), **told)
    cast(Any, model).data_config = facts.config(given_config(model).config)
    check_sizes(model, facts)
    return model


def shape_told(arch: str, in_channels: int, classes: int) -> dict[str, Any]:
    """What *arch* is told of the data; an architecture whose channels are fixed is not told theirs.

    >>> shape_told("Unet", in_channels=3, classes=5)
    {'classes': 5, 'in_channels': 3}
    """
    parameters = inspect.signature(catalogue().architectures[arch]).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return {"classes": classes} | ({"in_channels": in_channels} if takes_all or "in_channels" in parameters else {})


def check_sizes(model: nn.Module, facts: Facts) -> None:
    """Images of these sizes are ones that *model* takes.

    Raises:
        InvalidInput: With the size to pad to, or in the model's own words.
    """
    check_size(model, facts.image, facts.sized_by)
    if facts.crop is not None:
        check_size(model, facts.crop, "data.crop")


def check_size(model: nn.Module, image: tuple[int, ...], setting: str) -> None:
    """An *image* (C, H, W), as large as *setting* says, is one that *model* takes; raises as :func:`check_sizes`."""
    check: Any = getattr(model, "check_input_shape", None)
    if check is not None and not getattr(model, "requires_divisible_input_shape", True):
        return
    like = next(model.parameters(), torch.empty(0))  # on its device, in its precision
    try:
        with evaluating(model), torch.no_grad():
            model(like.new_zeros(1, *image)) if check is None else check(torch.empty(1, *image, device="meta"))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InvalidInput(f"{error} Or set {setting}.") from None
