"""How images are shown to a model: by the mean and std of its encoder, or as it says itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import segmentation_models_pytorch as smp
import timm
import torchvision
from huggingface_hub import try_to_load_from_cache
from timm.data import constants
from torch import nn

from smp_feedback.config.data import DataConfig, repeated
from smp_feedback.errors import InvalidValue
from smp_feedback.models.keywords import is_smps_own
from smp_feedback.registry.public import catalogue
from smp_feedback.surgery.extension import InParts, carried, plain_class

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""The mean and the std of each channel."""

IMAGENET: Statistics = constants.IMAGENET_DEFAULT_MEAN, constants.IMAGENET_DEFAULT_STD
HALF: Statistics = constants.IMAGENET_INCEPTION_MEAN, constants.IMAGENET_INCEPTION_STD
DPN: Statistics = constants.IMAGENET_DPN_MEAN, constants.IMAGENET_DPN_STD
OTHERS = {"dpn": DPN, "inception": HALF, "xception": HALF, "timm-tf_efficientnet_lite": HALF}
"""smp's encoders that were not pretrained on ImageNet's own mean and std, by how their names begin."""
OTHER_WEIGHTS = {"advprop": HALF}


class Given(NamedTuple):
    """A model's data config, and whether nobody said it."""

    config: DataConfig
    assumed: bool


def encoder_normalisation(name: str, channels: int = 3, weights: object = None) -> Statistics | None:
    """The mean and std of each channel with which an encoder was pretrained, of images in [0, 1].

    Nothing is downloaded: what smp has fetched with the weights counts, and what it says of its encoders elsewhere.

    Args:
        name: As smp has it, ``tu-`` and a name of timm's included.
        channels: Of the images; others than three as `smp_feedback.config.data.repeated` has them.
        weights: Which of its weights, such as ``imagenet`` or ``advprop``; None is the usual ones.

    Returns:
        None if it was never pretrained.

    Raises:
        InvalidValue: If it was on images whose channels are in another order than red, green, blue.

    >>> encoder_normalisation("resnet18", channels=1)
    ((0.449,), (0.226,))
    >>> encoder_normalisation("tu-test_vit"), encoder_normalisation("tu-resnet18")[0]
    (((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), (0.485, 0.456, 0.406))
    """
    found = _of_smp(name, weights) if name in smp.encoders.encoders else _of_timm(name.partition("-")[2])
    return None if found is None else cast(Statistics, tuple(repeated(values, channels) for values in found))


def _of_smp(name: str, weights: object) -> Statistics:
    known = smp.encoders.encoders[name]["pretrained_settings"]
    chosen = weights if weights in known else next(iter(known))
    fetched = try_to_load_from_cache(known[chosen]["repo_id"], "config.json", revision=known[chosen]["revision"])
    if isinstance(fetched, str):
        return as_statistics(f"{name}.{chosen}", json.loads(Path(fetched).read_text()))
    begins = [found for begin, found in OTHERS.items() if name.startswith(begin)]
    return OTHER_WEIGHTS.get(str(chosen), begins[0] if begins else IMAGENET)


def _of_timm(name: str) -> Statistics | None:
    if not timm.is_model(name) or not timm.models.is_model_pretrained(name):
        return None
    return _of_timms_config(f"tu-{name}", timm.models.get_pretrained_cfg(name).to_dict())


def _of_timms_config(name: str, told: Mapping[str, Any]) -> Statistics:
    return as_statistics(name, timm.data.resolve_data_config(pretrained_cfg=dict(told)) | {"mean": told.get("mean")})


def as_statistics(name: str, told: Mapping[str, Any]) -> Statistics:
    """What *told*, in the words that smp and timm share, says of images in [0, 1] for the encoder *name*.

    >>> as_statistics("vgg", {"mean": [127.5], "std": [255.0], "input_range": [0, 255]})
    ((0.5,), (1.0,))
    """
    if told.get("input_space", "RGB") != "RGB":
        raise InvalidValue(
            f"{name} was pretrained on {told['input_space']}, and images here are RGB: choose another encoder, or "
            "encoder_weights=None."
        )
    largest = (told.get("input_range") or (0, 1))[1]
    mean, std = (told.get(key) or usual for key, usual in zip(("mean", "std"), IMAGENET, strict=True))
    return tuple(value / largest for value in mean), tuple(value / largest for value in std)


def built_config(arch: str, base: nn.Module, told: Mapping[str, Any]) -> DataConfig:
    """The data config of the architecture *arch*, just built as *base* of the arguments *told*.

    With pretrained weights it is their mean and std; with random ones images are shown as they are. A builder of a
    plugin whose weights want another says so itself, as ``base.data_config``.
    """
    own = vars(base).get("data_config")
    if isinstance(own, DataConfig):
        return own
    channels, weights = int(told.get("in_channels", 3)), told.get("encoder_weights")
    found = None if weights is None else _pretrained(arch, base, told, weights)
    if found is None:
        return DataConfig(channels=channels)
    mean, std = (repeated(values, channels) for values in found)
    return DataConfig(mean=mean, std=std, channels=channels)


def _pretrained(arch: str, base: nn.Module, told: Mapping[str, Any], weights: object) -> Statistics | None:
    name = told.get("encoder_name")
    if isinstance(name, str) and (name in smp.encoders.encoders or name.startswith("tu-")):
        return encoder_normalisation(name, weights=weights)
    if (config := _timms(base)) is not None:
        return _of_timms_config(arch, config)
    entry = catalogue().architectures.entry(arch)
    if entry.name.startswith("torchvision/") and weights != "imagenet":
        found = torchvision.models.get_model_weights(entry.name.partition("/")[2])[str(weights)].transforms()
        return tuple(found.mean), tuple(found.std)
    ours = entry.name.startswith("torchvision/") or type(base).__module__.startswith("smp_feedback.")
    return IMAGENET if ours or weights == "imagenet" else None


def _timms(base: nn.Module) -> Mapping[str, Any] | None:
    """What timm says of its model that *base* is, or has in it."""
    for module in base.modules():
        config = getattr(module, "pretrained_cfg", None)
        if isinstance(config, Mapping) and config.get("mean"):
            return config
    return None


def given_config(model: nn.Module) -> Given:
    """What *model* expects of its images: what it was made, trained or loaded with, else what is assumed.

    A model of smp's, timm's or torchvision's own that nobody made or loaded here is taken to have been trained as they
    show it, by the mean and std of its encoder; one of any other class, or with a hook before it, which may normalise
    by itself, on images as they are. What carries a model, compiled, averaged or in windows, expects what that does.
    """
    for one in carried(model):
        told = vars(one).get("data_config")
        if isinstance(told, DataConfig):
            return Given(told, assumed=False)
    model = carried(model)[-1]
    if isinstance(model, InParts):
        return given_config(model.model)
    config = getattr(model, "config", None)
    config = config if isinstance(config, Mapping) else {}
    own = getattr(getattr(model, "feedback", None), "in_channels", None)
    channels = int(own if isinstance(own, int) else config.get("in_channels", 3))
    found = None if model._forward_pre_hooks else _usual(model, plain_class(model), config)
    if found is None:
        return Given(DataConfig(channels=channels), assumed=False)
    mean, std = (repeated(values, channels) for values in found)
    return Given(DataConfig(mean=mean, std=std, channels=channels), assumed=True)


def _usual(model: nn.Module, plain: type[nn.Module], config: Mapping[str, Any]) -> Statistics | None:
    """How the library of the class *plain* shows images to *model*."""
    if is_smps_own(plain):
        name = config.get("encoder_name")
        return encoder_normalisation(name, weights=config.get("encoder_weights")) if isinstance(name, str) else None
    if plain.__module__.startswith("torchvision.models."):
        return IMAGENET
    theirs = _timms(model) if plain.__module__.startswith("timm.models.") else None
    return None if theirs is None else _of_timms_config(plain.__name__, theirs)
