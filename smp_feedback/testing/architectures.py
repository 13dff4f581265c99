"""Base models, and the places where they are opened."""

from __future__ import annotations

import functools
import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn

from smp_feedback.config.parse import Feedback, as_config
from smp_feedback.config.recurrent import Recurrent
from smp_feedback.factory import create, wrap
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.ops.maps import size_of
from smp_feedback.registry.public import catalogue
from smp_feedback.surgery.cuts import cut_of
from smp_feedback.testing import conformance
from smp_feedback.testing.handling import check_batches, check_devices, check_exported, check_saved
from smp_feedback.testing.memory import check_stateless
from smp_feedback.testing.promises import (
    check_agreement,
    check_close,
    check_heard,
    check_lossless,
    check_same_keys,
    masks_of,
)

SMALL: dict[str, Any] = {
    "arch": "Unet",
    "encoder": "tu-test_resnet",
    "encoder_weights": None,
    "decoder_channels": (32, 16, 16, 8, 8),
    "classes": 3,
}
"""The base that parts are tried on: smp's U-Net of a tiny encoder."""

ROUNDING = 1e-4  # of the largest logit: what a cut may change


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
    plain, model = build(feedback=False), cast(FeedbackModel, build(feedback=feedback))
    check_plain(name, plain, model)
    config = as_config(feedback, usual=catalogue().architectures.entry(name).feedback)
    check_lossless(plain, image, config=config if isinstance(config, Recurrent) else None)
    conformance.check_trains(functools.partial(_build, build, feedback), image)
    check_model(model, image, device=device)
    if exports:
        check_exported(model, image)


def _build(build: Any, loop: Feedback, *, feedback: bool) -> Any:
    return build(feedback=loop if feedback else False)


def check_plain(name: str, plain: nn.Module, model: nn.Module) -> None:
    """With ``feedback=False`` the architecture *name* is the *plain* model, of which *model* is one, newly made."""
    assert not isinstance(plain, FeedbackModel), "with feedback=False it looks again"
    assert isinstance(model, FeedbackModel), f"with feedback it is a {type(model).__name__}, which looks once"
    assert isinstance(model, type(plain)), f"with feedback it is no {type(plain).__name__}"
    shared = {id(p) for p in plain.parameters()} & {id(p) for p in model.parameters()}
    assert not shared, "its builder handed the same parameters out twice"
    if "feedback_channels" not in inspect.signature(catalogue().architectures[name]).parameters:
        check_same_keys(model, plain)


def check_model(model: FeedbackModel, image: Tensor, *, device: str | torch.device | None = None) -> None:
    """What every model that looks again promises: it agrees with itself, hears, forgets, serves, moves, is saved."""
    check_agreement(model, image)
    check_heard(model, image)
    check_stateless(model, image)
    check_batches(model, image)
    check_devices(model, image, device=device)
    check_saved(model, image)


@torch.no_grad()
def check_cut(model: nn.Module, image: Tensor) -> None:
    """Where *model* is opened (:class:`smp_feedback.Cut`), its body and its head are together the model again.

    Args:
        model: A plain base model, of a class that has a cut, or with ``forward_features`` and ``forward_head``.
        image: (B, C, H, W) of a size it takes.

    >>> import segmentation_models_pytorch as smp
    >>> check_cut(smp.Unet("resnet18", encoder_weights=None), torch.rand(2, 3, 32, 32))
    """
    cut = cut_of(model.eval(), image)
    cut.check(model, image)
    expected = cut.answer(model(image))
    output, features = cut.body(model, image)
    shape = f"its body gives {tuple(output.shape)}"
    assert output.ndim == 4, f"{shape}: expected (B, S, h, w)"
    assert len(output) == len(image), f"{shape} for {len(image)} images"
    state = output.shape[1] - cut.readout(model)
    assert state > 0, f"{shape}, of which {cut.readout(model)} channels are to be fed back"
    logits = cut.head(model, output[:, :state], size_of(image))
    check_close(logits, masks_of(expected), "head(body(image)) is not the model's answer", ROUNDING)
    if features is not None:
        check_close(cut.labels(model, features), expected[1], "labels(features) are not the model's labels", ROUNDING)
    if cut.spread is not None:
        laid = cut.spread(model, output[:, :1], size_of(image))
        assert laid.ndim == 4, f"spread gives {tuple(laid.shape)}: expected (B, 1, h, w)"
        assert laid.shape[:2] == (len(image), 1), f"spread gives {tuple(laid.shape)}: expected (B, 1, h, w)"
    check_lossless(model, image)
    looking = wrap(model)
    check_agreement(looking, image)
    with torch.enable_grad():
        check_heard(looking, image)
