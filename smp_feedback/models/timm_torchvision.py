"""Base models of timm and torchvision, by their names there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast

import timm
import torchvision
from torch import nn

from smp_feedback.checks import check_weights
from smp_feedback.errors import InvalidType, InvalidValue, UnknownKeyword
from smp_feedback.models.keywords import check_keywords, unknown_keyword

SMPS_WORDS = {"in_chans": "in_channels", "num_classes": "classes", "pretrained": "encoder_weights"}


def timm_classifier(
    name: str, encoder_weights: Any = None, in_channels: int = 3, classes: int = 1000, **kwargs: Any
) -> nn.Module:
    """A classifier of timm; its weights are random unless they are asked for, as in timm.

    Args:
        name: As ``timm.list_models`` has it, with or without the tag of pretrained weights.
        encoder_weights: None; any other word loads timm's pretrained weights, those of the name's tag if it has one.
        in_channels: Channels of the image.
        classes: Length of the logits; 1000 as in timm.
        **kwargs: As ``timm.create_model`` and the model take them: ``img_size=64``, ``drop_rate=0.1``.

    Raises:
        InvalidValue: If timm refuses them, in its words.

    >>> timm_classifier("test_resnet", classes=5).num_classes
    5
    """
    _check_told(f"timm/{name}", encoder_weights, kwargs, tuple(SMPS_WORDS))
    shape = {"in_chans": in_channels, "num_classes": classes}
    pretrained = encoder_weights is not None
    if isinstance(encoder_weights, str) and encoder_weights not in ("imagenet", "pretrained") and "." not in name:
        name = f"{name}.{encoder_weights}"
    try:
        return cast(nn.Module, timm.create_model(name, pretrained=pretrained, **shape, **kwargs))
    except TypeError as error:
        wrong = [key for key in kwargs if "unexpected keyword" in str(error) and repr(key) in str(error)]
        if not wrong:
            raise
        raise unknown_keyword(f"timm/{name}", _refuser(name, error), wrong[0], SMPS_WORDS) from error
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InvalidValue(f"timm/{name}: {error}") from error


def _refuser(name: str, error: TypeError) -> Callable[..., Any]:
    """Who did not take a keyword: the class that Python names, out of the model's module, else timm's entry point."""
    entry: Callable[..., Any] = timm.model_entrypoint(name.partition(".")[0])
    return cast("Callable[..., Any]", getattr(sys.modules[entry.__module__], str(error).partition(".")[0], entry))


def torchvision_segmenter(
    name: str, encoder_weights: Any = None, in_channels: int = 3, classes: int = 21, **kwargs: Any
) -> nn.Module:
    """A segmentation model of torchvision; its weights are random unless they are asked for.

    Args:
        name: As ``torchvision.models.list_models`` has it.
        encoder_weights: None; ``imagenet`` for the backbone's weights, or a name of torchvision's weights for the
            whole model (``COCO_WITH_VOC_LABELS_V1``, of 21 classes).
        in_channels: 3: torchvision's backbones take no other.
        classes: Channels of the logits; 21 as in torchvision.
        **kwargs: As torchvision takes them: ``aux_loss=True``. The loop does not use the auxiliary classifier.

    Raises:
        UnknownName: If *encoder_weights* are none of its.
        InvalidValue: If torchvision refuses them, in its words, or *in_channels* is not 3.
    """
    _check_told(f"torchvision/{name}", encoder_weights, kwargs, ("num_classes", "weights", "weights_backbone"))
    builder = torchvision.models.get_model_builder(name)
    told = {
        key: value for key, value in kwargs.items() if key != "aux_loss"
    }  # lraspp refuses it, unnamed, in its words
    check_keywords(f"torchvision/{name}", builder, told, open_ended=False)  # it drops what it does not know
    if in_channels != 3:
        raise InvalidValue(f"torchvision/{name}: in_channels={in_channels}; its backbones take 3.")
    if encoder_weights is not None:
        known = torchvision.models.get_model_weights(name).__members__
        check_weights(f"torchvision/{name}", encoder_weights, ("imagenet", *known))
    whole = encoder_weights not in (None, "imagenet")
    weights = {"weights": encoder_weights if whole else None}
    weights |= {"weights_backbone": None if whole or encoder_weights is None else "DEFAULT"}
    try:
        return cast(nn.Module, torchvision.models.get_model(name, **weights, num_classes=classes, **kwargs))
    except (ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise InvalidValue(f"torchvision/{name}: {error}") from error


def _check_told(who: str, weights: Any, kwargs: dict[str, Any], theirs: tuple[str, ...]) -> None:
    """*weights* are None or named, and nothing is said in the library's own words that ``create`` says in smp's."""
    if weights is not None and not (isinstance(weights, str) and weights):
        raise InvalidType(f"{who}: encoder_weights={weights!r}: expected None or a name, such as 'imagenet'.")
    for key in theirs:
        if key in kwargs:
            raise UnknownKeyword(f"{who} takes no {key!r}: say in_channels=, classes= or encoder_weights=, as in smp.")
