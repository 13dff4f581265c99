"""Which models are asked: smp's architectures, torchvision's, and the smallest of each of timm's families."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import timm
import torch

import smp_feedback as smpf
from smp_feedback.registry.public import catalogue

PLACES = ("input", "stem", "stage:2", "decoder")
"""Of ``insert=``, those that smp's architectures are asked for; stages differ in nothing but their number."""

OF_TORCHVISIONS = ("input", "decoder")
"""The same of torchvision's."""

FIRST = "after:first"
"""Stands for ``after:NAME``, of the first module that reads the image and is a small part of the model."""

LARGEST = 150_000_000
"""Parameters; a family whose smallest model has more is left out."""

VIT = "ViTSegmenter"
"""What the plugin for Vision Transformers brings."""


class Case(NamedTuple):
    """One question: does this model work with the feedback entering there?

    Attributes:
        table: ``smp``, ``torchvision``, ``timm``, ``encoders`` or ``vit``.
        family: The row: an architecture, or a module of timm.
        name: The architecture, or the model of timm.
        place: Where the feedback enters, as ``insert=`` has it.
    """

    table: str
    family: str
    name: str
    place: str

    @property
    def key(self) -> str:
        """Its name in the file of results."""
        return "|".join(self)


class Smallest(NamedTuple):
    """The smallest model of a family, and its parameters."""

    name: str
    parameters: int


def smallest_of(family: str) -> Smallest | None:
    """The smallest model of timm's module *family*; timm's own miniatures for tests only where there is nothing else.

    Counted without memory for the weights; None if none can be made so.

    >>> smallest_of("vgg").name
    'vgg11'
    """
    names = timm.list_models(module=family)
    real = [name for name in names if not name.startswith("test_")]
    found = [Smallest(name, count) for name in real or names if (count := _parameters(name)) is not None]
    return min(found, key=lambda model: model.parameters, default=None)


def _parameters(name: str) -> int | None:
    model = _without_memory(name)
    return None if model is None else sum(p.numel() for p in model.parameters())


def is_isotropic(name: str) -> bool:
    """Whether a model of timm keeps one grid of patches all through, as it says itself.

    >>> is_isotropic("deit_tiny_patch16_224"), is_isotropic("resnet18")
    (True, False)
    """
    stages = getattr(_without_memory(name), "feature_info", None) or ()
    return len({stage["reduction"] for stage in stages}) == 1


def _without_memory(name: str) -> Any:
    """The model, its weights without values; None if it cannot be made so, which is said where it is asked."""
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            return timm.create_model(name)
    except Exception:  # as many ways as there are models
        return None


def cases_of(table: str, smallest: dict[str, Smallest]) -> Iterator[Case]:
    """The questions of *table*; *smallest* is the smallest model of each family of timm."""
    return TABLES[table]({family: model for family, model in smallest.items() if model.parameters <= LARGEST})


def _smp(smallest: dict[str, Smallest]) -> Iterator[Case]:
    for name in sorted(architecture.__name__ for architecture in smp.MODEL_ARCHITECTURES_MAPPING.values()):
        for place in PLACES:
            yield Case("smp", name, name, place)


def _torchvision(smallest: dict[str, Smallest]) -> Iterator[Case]:
    for name in smpf.list_architectures("torchvision/*"):
        for place in OF_TORCHVISIONS:
            yield Case("torchvision", name.partition("/")[2], name, place)


def _timm(smallest: dict[str, Smallest]) -> Iterator[Case]:
    for family, model in smallest.items():
        for place in ("input", FIRST):
            yield Case("timm", family, model.name, place)


def _encoders(smallest: dict[str, Smallest]) -> Iterator[Case]:
    for family, model in smallest.items():
        yield Case("encoders", family, model.name, "input")


def _vit(smallest: dict[str, Smallest]) -> Iterator[Case]:
    for family, model in smallest.items():
        if has_segmenter() and is_isotropic(model.name):
            yield Case("vit", family, model.name, "input")


def has_segmenter() -> bool:
    """Whether the plugin for Vision Transformers is installed."""
    return VIT in catalogue().architectures


TABLES: dict[str, Callable[[dict[str, Smallest]], Iterator[Case]]] = {
    "smp": _smp,
    "torchvision": _torchvision,
    "timm": _timm,
    "encoders": _encoders,
    "vit": _vit,
}

OF_TIMM = {"timm", "encoders", "vit"}
"""Tables whose rows are timm's families."""
