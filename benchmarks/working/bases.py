"""The plain model of a case: how it is made, an image that it takes, its first module and its layout."""

from __future__ import annotations

from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import nn

from benchmarks.working.cases import VIT, Case
from smp_feedback.errors import SurgeryError
from smp_feedback.surgery.extension import evaluating
from smp_feedback.surgery.layout_runs import layout_of
from smp_feedback.surgery.probe import sizes

DPT_SLIM = {"decoder_intermediate_channels": (8, 8, 8, 8), "decoder_fusion_channels": 8, "decoder_readout": "ignore"}
LAYOUTS = {"map": "map", "last": "map, channels last", "tokens": "tokens"}


def recipe(case: Case) -> tuple[str, dict[str, Any]]:
    """What :func:`smp_feedback.create` is to be told: small decoders, random weights."""
    if case.table in ("timm", "torchvision"):
        return f"{case.table}/{case.name.removeprefix('torchvision/')}", {"classes": 10}
    usual: dict[str, Any] = {"encoder_weights": None, "classes": 10}
    if case.table == "vit":
        return VIT, {**usual, "encoder_name": case.name}
    if case.table == "smp" and case.name != "DPT":
        return case.name, {**usual, "encoder_name": "resnet18"}
    if case.table == "smp":
        return case.name, {**usual, **DPT_SLIM, "encoder_name": "tu-vit_tiny_patch16_224"}
    return _with_encoder({**usual, "encoder_name": f"tu-{case.name}"})


def _with_encoder(arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """U-Net where smp takes the encoder, else DPT, which takes models without a pyramid; else U-Net's refusal."""
    try:
        smp.create_model("Unet", **arguments)
    except Exception as refused:
        try:
            smp.create_model("DPT", **arguments, **DPT_SLIM)
        except Exception:
            raise refused from None
        return "DPT", arguments | DPT_SLIM
    return "Unet", arguments


def image_for(plain: nn.Module) -> torch.Tensor:
    """An image (1, 3, H, W): of a fixed size where timm says so, else of the first that *plain* takes."""
    cfg = getattr(plain, "pretrained_cfg", None) or {}
    refused: Exception | None = None
    for size in [cfg["input_size"][-1]] if cfg.get("fixed_input_size") else sizes(plain):
        image = torch.rand(1, 3, size, size)
        try:
            with evaluating(plain):
                plain(image)
            return image
        except Exception as error:  # sizes that do not fit fail in as many ways as there are models
            refused = refused or error
    assert refused is not None
    raise refused


def first_module(plain: nn.Module, image: torch.Tensor) -> str | None:
    """``after:NAME`` of the outermost module that is handed *image* itself, once, and has few of the parameters."""
    calls: dict[str, list[bool]] = {}
    count = sum(p.numel() for p in plain.parameters())
    hooks = [
        module.register_forward_hook(lambda _, given, gave, name=name: _note(calls, name, given, gave, image))
        for name, module in plain.named_modules()
        if name and sum(p.numel() for p in module.parameters()) < count / 4
    ]
    with evaluating(plain):
        plain(image)
    for hook in hooks:
        hook.remove()
    return next((f"after:{name}" for name, _ in plain.named_modules() if calls.get(name) == [True]), None)


def _note(calls: dict[str, list[bool]], name: str, given: Any, gave: Any, image: torch.Tensor) -> None:
    x = given[0] if given else None
    same = isinstance(x, torch.Tensor) and x.shape == image.shape and torch.equal(x, image)
    calls.setdefault(name, []).append(same and isinstance(gave, torch.Tensor) and gave.ndim in (3, 4))


def layout_in_words(plain: nn.Module, image: torch.Tensor) -> str | None:
    """How the features of a classifier are laid out; None if no way that a state could have."""
    try:
        with evaluating(plain):
            return LAYOUTS[layout_of(plain, image).kind]
    except (SurgeryError, AttributeError):
        return None
