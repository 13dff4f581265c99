"""Base models: architectures, and what every model that looks again promises."""

from __future__ import annotations

import functools
from typing import Any, cast

import torch
from torch import Tensor, nn

from smp_feedback.config.parse import Feedback, as_config
from smp_feedback.config.recurrent import Recurrent
from smp_feedback.factory import create
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.models.assembly import signature_of
from smp_feedback.registry.public import catalogue
from smp_feedback.surgery.extension import plain_class
from smp_feedback.testing import conformance
from smp_feedback.testing.bases import check_classes, check_decoder, check_oblong, check_stages, refusals_fail
from smp_feedback.testing.handling import check_batches, check_devices, check_exported, check_saved
from smp_feedback.testing.memory import check_stateless
from smp_feedback.testing.promises import check_agreement, check_heard, check_lossless, check_same_keys

SMALL: dict[str, Any] = {
    "arch": "Unet",
    "encoder": "tu-test_resnet",
    "encoder_weights": None,
    "encoder_depth": 3,
    "decoder_channels": (16, 8, 8),
    "classes": 3,
}
"""The base that parts are tried on: smp's U-Net of a tiny encoder."""


def check_architecture(
    name: str,
    image: Tensor,
    *,
    feedback: Feedback = True,
    exports: bool = False,
    device: str | torch.device | None = None,
    **arguments: Any,
) -> None:
    """The architecture *name* keeps every promise of a base model.

    Without feedback it is the plain model; wrapped, it keeps every answer, and once trained it hears the feedback, in
    all of its new parameters. It learns where the plain model does, remembers nothing, serves any batch, moves, and
    comes back from disk.

    Args:
        name: A registered name.
        image: (B, C, H, W) of a size it takes; small is fast.
        feedback: The loop to try, as for :func:`smp_feedback.create`; True is the architecture's own.
        exports: Whether it claims to be exportable.
        device: One more device to try; None is a CUDA device if there is one.
        **arguments: As for :func:`smp_feedback.create`; ``encoder_weights`` is None unless given.

    >>> check_architecture("timm/test_resnet", torch.rand(2, 3, 32, 32), classes=4)
    """
    build = functools.partial(create, name, **{"encoder_weights": None, **arguments})
    config = as_config(feedback, usual=catalogue().architectures.entry(name).feedback)
    config = config if isinstance(config, Recurrent) else None
    with refusals_fail():
        check_classes(name, arguments, image)
        plain, model = build(feedback=False), cast(FeedbackModel, build(feedback=feedback))
        check_plain(name, plain, model)
        check_lossless(plain, image, config=config)
        check_oblong(plain, model, image)
        check_stages(plain, image)
        check_decoder(plain, image)
        conformance.check_trains(functools.partial(_build, build, feedback), image, config=config)
    check_model(model, image, device=device)
    if exports:
        check_exported(model, image)


def _build(build: Any, loop: Feedback, *, feedback: bool) -> Any:
    return build(feedback=loop if feedback else False)


def check_plain(name: str, plain: nn.Module, model: nn.Module) -> None:
    """With ``feedback=False`` the architecture *name* is the *plain* model, of which *model* is one, newly made."""
    assert not isinstance(plain, FeedbackModel), "with feedback=False it looks again"
    assert isinstance(model, FeedbackModel), f"with feedback it is a {type(model).__name__}, which looks once"
    assert isinstance(model, plain_class(plain)), f"with feedback it is no {plain_class(plain).__name__}"
    shared = {id(p) for p in plain.parameters()} & {id(p) for p in model.parameters()}
    assert not shared, "its builder handed the same parameters out twice"
    if "feedback_channels" not in signature_of(name).parameters:
        check_same_keys(model, plain)


def check_model(model: FeedbackModel, image: Tensor, *, device: str | torch.device | None = None) -> None:
    """What every model that looks again promises: it agrees with itself, hears, forgets, serves, moves, is saved."""
    check_agreement(model, image)
    check_heard(model, image)
    check_stateless(model, image)
    check_batches(model, image)
    check_devices(model, image, device=device)
    check_saved(model, image)
