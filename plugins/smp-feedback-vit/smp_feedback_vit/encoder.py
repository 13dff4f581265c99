"""Encoders: any model of timm that keeps one grid of patches or features from its first layer to its last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
import torch
from smp_feedback.checks import check_choice
from smp_feedback.errors import FeedbackError, InvalidType, InvalidValue, UnknownKeyword, UnknownName
from smp_feedback.models.timm_torchvision import timm_classifier
from smp_feedback.surgery.extension import asking, evaluating
from smp_feedback.surgery.feature_layout import Layout
from smp_feedback.surgery.layout_runs import layout_of
from torch import Tensor, nn

from smp_feedback_vit.patches import Patches, Size

MOST_PREFIX = 32  # more tokens than any of timm's models puts before those of the image


class ViTEncoder(nn.Module):
    """A model of timm without its head: image -> [normalised patch tokens as a map (B, D, h, w)].

    Args:
        name: As timm has it, with or without ``tu-`` and the tag of its weights.
        weights: None is random; ``imagenet`` timm's pretrained weights, any other word those of that tag.
        in_channels: Channels of the image.
        img_size: Pixels, H = W or (H, W), that the positions are made for; None is timm's.
        sizes: ``error`` or ``pad``, see :class:`Patches`.
        **kwargs: As timm's model takes them: ``depth=4``, ``patch_size=8``.

    >>> encoder = ViTEncoder("vit_tiny_patch16_224", depth=1)
    >>> encoder(torch.rand(1, 3, 32, 64))[0].shape
    torch.Size([1, 192, 2, 4])
    """

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        in_channels: int = 3,
        *,
        img_size: int | Size | None = None,
        sizes: str = "error",
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.model, self.patches = build(name, weights, in_channels, 0, img_size, sizes, kwargs)
        if getattr(self.model, "attn_pool", None) is not None:  # nothing would read it
            self.model.reset_classifier(0, "")
        self.name, self.in_channels = name, in_channels
        self.out_channels = (in_channels, int(self.model.num_features))
        self.output_stride = self.patches.stride
        # models that are made to average first and normalise then have not normalised their tokens
        late = getattr(self.model, "fc_norm", None)
        self.norm_late = isinstance(getattr(self.model, "norm", None), nn.Identity) and late is not None

    @property
    def img_size(self) -> Size | None:
        """The only size (H, W) it takes; None is any."""
        return self.patches.size

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> [(B, D, h, w)], one vector for each patch."""
        features = self.model.forward_features(image)
        if self.norm_late:
            features = self.model.fc_norm(features)
        return [self.patches.to_map(features, (image.shape[-2], image.shape[-1]))]


def build(
    name: str,
    weights: str | None,
    in_channels: int,
    classes: int,
    img_size: int | Size | None,
    sizes: str,
    kwargs: Mapping[str, Any],
) -> tuple[Any, Patches]:
    """timm's model *name* with a head of *classes* (0: none), taking other sizes where it can; and its patches.

    Raises:
        UnknownName, UnknownKeyword, InvalidValue: For what does not exist, and models that keep no such grid.
    """
    check_choice("sizes", sizes, ("error", "pad"))
    name = timm_name(name)
    img_size = tuple(img_size) if isinstance(img_size, list) else img_size  # as it comes back from a file
    given = dict(kwargs) if img_size is None else {**kwargs, "img_size": img_size}
    try:
        model = _made(name, weights, in_channels, classes, {"dynamic_img_size": True, **given})
    except UnknownKeyword as error:
        if "dynamic_img_size" in given or "'dynamic_img_size'" not in str(error):
            raise
        model = _made(name, weights, in_channels, classes, given)
    try:
        with evaluating(model):
            patches = _ask(model, name, in_channels, img_size)
    except FeedbackError:
        raise
    except Exception as error:  # models fail in as many ways as there are
        raise InvalidValue(f"encoder {name!r} answered no dry run: {error!r}") from error
    if sizes == "pad":
        patches = patches._replace(pad=True)
        model.get_submodule(patches.reader).register_forward_pre_hook(patches.pad_image)
    return model, patches


def _made(name: str, weights: str | None, in_channels: int, classes: int, given: Mapping[str, Any]) -> Any:
    try:
        return timm_classifier(name, weights, in_channels, classes, **given)
    except UnknownKeyword:
        raise
    except TypeError as error:  # a keyword that timm's model sets itself
        raise InvalidValue(f"encoder {name!r}: {error}") from error


def timm_name(name: str) -> str:
    """The name as timm has it.

    Raises:
        InvalidType, UnknownName: If it is none.

    >>> timm_name("tu-vit_tiny_patch16_224.augreg_in21k")
    'vit_tiny_patch16_224.augreg_in21k'
    """
    if not isinstance(name, str):
        raise InvalidType(f"encoder {name!r}: expected a name (str), got {type(name).__name__}.")
    model = name.removeprefix("tu-")
    if not timm.is_model(model.partition(".")[0]):
        raise UnknownName("encoder", name, timm.list_models(), "timm's Vision Transformers: timm.list_models('*vit*').")
    return model


def _ask(model: Any, name: str, in_channels: int, img_size: int | Size | None) -> Patches:
    """The patches of *model*, and the outermost modules that are handed the image: dry runs that say all."""
    stride = _stride(model, name)
    native = _pair(img_size or model.pretrained_cfg["input_size"][-2:])
    readers: list[str] = []  # who is handed the image, outermost first
    first = _image(model, in_channels, native)

    def ask(module: str, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs and inputs[0] is first:
            readers.append(module)

    if takes_any_size := getattr(model, "dynamic_img_size", False):  # a small image shows as much
        first = _image(model, in_channels, (2 * stride, 3 * stride))
    with asking(((n, m) for n, m in model.named_modules() if n), ask):
        layout = layout_of(model, first)
        features = model.forward_features(first)
    if not readers:
        raise InvalidValue(f"encoder {name!r}: none of its modules is handed the image itself.")
    patches = Patches(stride, _checked(layout, features, first, stride, name), reader=readers[0])
    if not takes_any_size and not _takes(model, patches, (native[0] + stride, native[1]), in_channels):
        patches = patches._replace(size=native)
    return patches


def _stride(model: Any, name: str) -> int:
    """Pixels from one token to the next."""
    info = getattr(model, "feature_info", None)
    if info:
        return int(info[-1]["reduction"])
    size = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if size is None:
        raise InvalidValue(f"encoder {name!r}: timm does not say how large its patches are.")
    return _pair(size)[0]


def _checked(layout: Layout, features: Tensor, image: Tensor, stride: int, name: str) -> Layout:
    """*layout*, its tokens counted."""
    height, width = image.shape[-2] // stride, image.shape[-1] // stride
    if layout.is_tokens:
        prefix = features.shape[1] - height * width
        if 0 <= prefix <= MOST_PREFIX:
            return Layout("tokens", prefix)
    elif layout.to_state(features).shape[-2:] == (height, width):
        return layout
    raise InvalidValue(
        f"encoder {name!r} gives {tuple(features.shape)} for an image of {image.shape[-2]} x {image.shape[-1]}: no "
        f"{height} x {width} patches. Expected a model that keeps one grid, such as a plain Vision Transformer; smp's "
        f"architectures take pyramids, as 'tu-{name}'."
    )


def _takes(model: Any, patches: Patches, size: Size, in_channels: int) -> bool:
    """Whether a model that promises nothing takes another size all the same."""
    try:
        features = model.forward_features(_image(model, in_channels, size))
        return patches.to_map(features, size).shape[-2:] == patches.grid(size)
    except Exception:  # as many ways as there are models
        return False


def _image(model: nn.Module, channels: int, size: Size) -> Tensor:
    like = next(model.parameters())
    return torch.zeros(1, channels, *size, dtype=like.dtype, device=like.device)


def _pair(size: Any) -> Size:
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)
