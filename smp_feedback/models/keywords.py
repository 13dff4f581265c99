"""Keywords: each is one that somebody takes. smp drops some in silence, and a misspelled one with them."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import segmentation_models_pytorch as smp  # noqa: F401  (doctests)
from segmentation_models_pytorch.base import SegmentationModel

from smp_feedback.config.recurrent import Recurrent
from smp_feedback.errors import UnknownKeyword, nearest

NORM = "decoder_use_batchnorm"
DEPRECATED = {"Linknet": NORM, "MAnet": NORM, "Unet": NORM, "UnetPlusPlus": NORM}
DEPRECATED |= {"PAN": "upscale_mode", "PSPNet": "psp_use_batchnorm"}
"""What smp's architectures take out of their ``**kwargs``, with a warning."""


def is_smp(builder: object) -> bool:
    """Whether *builder* is one of smp's own architectures, or made of one; its base class alone makes nobody smp's."""
    classes = builder.__mro__ if isinstance(builder, type) else ()
    models = [cls for cls in classes if issubclass(cls, SegmentationModel) and cls is not SegmentationModel]
    return any(cls.__module__.startswith("segmentation_models_pytorch.") for cls in models)


def is_smps_own(builder: object) -> bool:
    """Whether *builder* comes with smp itself; a subclass of another package may have defaults of its own.

    >>> is_smps_own(smp.Unet), is_smps_own(type("Mine", (smp.Unet,), {"__module__": "mine"}))
    (True, False)
    """
    return is_smp(builder) and str(getattr(builder, "__module__", "")).startswith("segmentation_models_pytorch.")


def takes_encoder_keywords(builder: object, encoder_name: str) -> bool:
    """Whether further keywords reach someone: timm's encoders take them, smp's own drop them in silence."""
    return not is_smp(builder) or encoder_name.startswith(("tu-", "timm-"))


def check_keywords(arch: str, builder: Callable[..., Any], given: Mapping[str, Any], *, open_ended: bool) -> None:
    """Every keyword in *given* is one that *builder* takes."""
    parameters = _parameters(builder)
    if open_ended and any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    for key in given:
        if key not in named and key not in deprecated_keywords(builder):
            raise unknown_keyword(arch, builder, key)


def _parameters(builder: Callable[..., Any]) -> list[inspect.Parameter]:
    """Those of *builder*; a subclass of an smp model hands on to it what it does not name itself."""
    classes = [cls for cls in getattr(builder, "__mro__", ()) if is_smp(cls)] or [builder]
    found = {p.name: p for cls in reversed(classes) for p in inspect.signature(cls).parameters.values()}
    return list(found.values())


def deprecated_keywords(builder: Callable[..., Any]) -> set[str]:
    """The keywords that smp still takes for *builder* without naming them in its signature.

    A class that takes any keyword hands on to its parents those it does not know, so theirs are its own.

    >>> deprecated_keywords(smp.PAN), deprecated_keywords(smp.FPN)
    ({'upscale_mode'}, set())
    """
    classes = itertools.takewhile(_takes_any, filter(is_smp, getattr(builder, "__mro__", ())))
    return {DEPRECATED[cls.__name__] for cls in classes if is_smps_own(cls) and cls.__name__ in DEPRECATED}


def _takes_any(builder: Callable[..., Any]) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(builder).parameters.values())


def unknown_keyword(
    who: str, builder: Callable[..., Any], key: str, renamed: Mapping[str, str] | None = None
) -> UnknownKeyword:
    """The error for *key*, with what was probably meant or where it belongs.

    Args:
        who: Takes no *key*.
        builder: What takes the others.
        key: The keyword.
        renamed: Those of *builder* that are said in other words here, and the words.
    """
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = [(renamed or {}).get(p.name, p.name) for p in _parameters(builder) if p.kind in kinds]
    loops = key in Recurrent.__dataclass_fields__
    hint = f"It belongs to the loop: feedback=Recurrent({key}=...)." if loops else nearest(key, known)
    return UnknownKeyword(f"{who} takes no {key!r}. {hint}")
