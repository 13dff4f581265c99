"""Where a base model is cut into body and head, by its class."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F

from smp_feedback.errors import InvalidType, SurgeryError
from smp_feedback.hookspecs import Register, hookimpl
from smp_feedback.ops.maps import Size, size_of
from smp_feedback.registry.catalogue import SETTLED
from smp_feedback.registry.public import catalogue
from smp_feedback.surgery.answers import takes_size, without_size
from smp_feedback.surgery.extension import Extension, extend
from smp_feedback.surgery.feature_layout import Layout
from smp_feedback.surgery.hooks import check_unhooked
from smp_feedback.surgery.layout_runs import layout_of

Output = tuple[Tensor, Tensor | None]
FEATURES = {"forward_features", "forward_head"}


def _as_they_are(model: Any, features: Tensor) -> Tensor:
    return features


def _any_size(model: Any, image: Tensor) -> None:
    pass


def _none(model: Any) -> int:
    return 0


def _itself(answer: Any, size: Size | None = None) -> Any:
    return answer


@dataclass(frozen=True)
class Cut:
    """A base model in two parts, each a function of the model: ``head(body(image))`` is its answer.

    A base is cut as its class is registered (:func:`smp_feedback.register_cut`); one with ``forward_features`` and
    ``forward_head`` needs no more.

    Attributes:
        body: ``(model, image) -> (output (B, S, h, w), features or None)``: runs at every step.
        head: ``(model, output, size) -> logits``; *size* is the image's (H, W).
        labels: ``(model, features) -> labels`` where the base has a classification head.
        check: ``(model, image)``: raises if the base cannot take an image of this size.
        readout: ``(model) -> K``: how many of the output's last channels the base has made to be fed back; its head
            does not read them. 0 where the loop is to make a read-out of its own.
        spread: ``(model, readout (B, K, h, w), size) -> (B, K, h', w')``: lays the fed-back channels out in space,
            where the state is no map (tokens, say). None where it is.
        answer: ``(answer, size) -> logits`` or (masks, labels): takes them out of the base's own answer, where that is
            more, or smaller than the image; with ``feedback=False`` the base that ``create`` gives answers these, too.
            A function of the answer alone is not told the size.
        stages: Names of the modules behind which ``insert="stage:1"``, ``"stage:2"``, ... adds the feedback; a base
            may say them itself, as its ``feedback_stages``.
        encoder: Name of the module that the body calls once, with the image alone, and whose features the rest of it
            reads: with ``insert="decoder"`` it runs once per image. A base may say it itself, as its
            ``feedback_encoder``.

    >>> import torch, smp_feedback as smpf
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.trunk, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 5, 1)
    ...     def forward(self, image):
    ...         return self.last(self.trunk(image).relu())
    >>> cut = Cut(lambda net, image: (net.trunk(image).relu(), None), lambda net, output, size: net.last(output))
    >>> _ = smpf.register_cut(Net, cut)
    >>> smpf.wrap(Net())(torch.rand(1, 3, 16, 16), steps=3).shape
    torch.Size([1, 5, 16, 16])
    """

    body: Callable[[Any, Tensor], Output]
    head: Callable[[Any, Tensor, Size], Tensor]
    labels: Callable[[Any, Tensor], Tensor] = _as_they_are
    check: Callable[[Any, Tensor], None] = _any_size
    readout: Callable[[Any], int] = _none
    spread: Callable[[Any, Tensor, Size], Tensor] | None = None
    answer: Callable[..., Any] = _itself
    stages: Sequence[str] = ()
    encoder: str | None = None

    def __post_init__(self) -> None:
        if not takes_size(self.answer) and self.answer is not _itself:
            object.__setattr__(self, "answer", functools.partial(without_size, self.answer))

    def read(self, model: Any, output: Tensor) -> Tensor:
        """What the head reads of the body's *output*: all but the channels that the base has made to be fed back."""
        return output[:, : output.shape[1] - self.readout(model)]


def cut_of(model: nn.Module, image: Tensor | None = None) -> Cut:
    """Where *model* is cut: by the most specific of its classes that has a cut.

    Args:
        model: The base, evaluating.
        image: (B, C, H, W), of a size it takes: shows how ``forward_features`` lays its features out.

    Raises:
        SurgeryError: If no class has one, and it has no ``forward_features`` and ``forward_head``.
    """
    name = cut_name(model)
    if name is not None:
        cut = _registered(name)
        return replace(cut, answer=_itself) if isinstance(model, AnswersLogits) else cut
    if callable(getattr(model, "forward_features", None)) and callable(getattr(model, "forward_head", None)):
        return FEATURES_CUT if image is None else _cut_by_layout(layout_of(model, image))
    raise SurgeryError(
        f"{type(model).__name__} cannot be cut into body and head. Give it forward_features(image) -> "
        "(B, S, h, w) and forward_head(features) -> logits, make it an smp SegmentationModel with encoder, "
        "decoder and segmentation_head, or register a smp_feedback.Cut for its class with register_cut."
    )


def _registered(name: str) -> Cut:
    """The cut of the class of that full *name*."""
    cut = catalogue().cuts[name]
    if not isinstance(cut, Cut):
        raise InvalidType(f"The cut of {name} is {cut!r:.80}: expected a smp_feedback.Cut.")
    return cut


def cut_name(model: nn.Module) -> str | None:
    """The class whose cut opens *model*, by its full name; None where no class of it has one.

    A subclass that defines ``forward_features`` and ``forward_head`` itself is opened there, whatever its parents' cut.

    >>> import segmentation_models_pytorch as smp
    >>> cut_name(smp.Unet("resnet18", encoder_weights=None))
    'segmentation_models_pytorch.base.model.SegmentationModel'
    """
    cuts = catalogue().cuts
    classes = list(itertools.takewhile(lambda cls: not FEATURES.issubset(vars(cls)), type(model).__mro__))
    own = type(model).__mro__[len(classes) : len(classes) + 1]  # a cut of that very class comes first
    names = [f"{cls.__module__}.{cls.__qualname__}" for cls in (*classes, *own)]
    return next((name for name in names if (cuts.is_here(name) if name.startswith(SETTLED) else name in cuts)), None)


class AnswersLogits(Extension):
    """A plain base that answers its logits, where its class answers more (a dict of them, say)."""

    def forward(self, image: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The logits, or (masks, labels)."""
        cut = _registered(cast(str, cut_name(self)))
        return cut.answer(super().forward(image, *args, **kwargs), size_of(image))


def answering_logits(base: nn.Module) -> nn.Module:
    """*base*, in place, answering its logits as a looping model does; one whose class answers them is left alone."""
    if cut_name(base) is not None and cut_of(base).answer is not _itself:
        extend(base, AnswersLogits)
    return base


def answering_as_its_class(base: nn.Module) -> nn.Module:
    """*base*, in place, without what :func:`answering_logits` did: a loop takes the logits out itself."""
    if isinstance(base, AnswersLogits) and base._extension is AnswersLogits:
        cast(Any, base).__class__ = base._base_class
    return base


def behind_head(cut: Cut) -> Cut:
    """The same base, cut behind its head instead of before it: the head runs at every step."""
    body = functools.partial(_body_and_head, cut)
    return replace(cut, body=body, head=_nothing_more, readout=_none, spread=None)


def _body_and_head(cut: Cut, model: Any, image: Tensor) -> Output:
    output, features = cut.body(model, image)
    return cut.head(model, cut.read(model, output), size_of(image)), features


def _nothing_more(model: Any, output: Tensor, size: Size) -> Tensor:
    return output


# --- smp


def _smp_body(model: Any, image: Tensor) -> Output:
    encoded = model.encoder(image)
    # DPT's encoder gives (features, prefix tokens) and its decoder takes both; all others a list
    features, *more = encoded if isinstance(encoded, tuple) else (encoded,)
    output = model.decoder(features, *more)
    return output, None if model.classification_head is None else features[-1]


def _smp_head(model: Any, output: Tensor, size: Size) -> Tensor:
    return cast(Tensor, model.segmentation_head(output))


def _smp_labels(model: Any, features: Tensor) -> Tensor:
    return cast(Tensor, model.classification_head(features))


def _smp_check(model: Any, image: Tensor) -> None:
    model.check_input_shape(image)


SMP_CUT = Cut(_smp_body, _smp_head, _smp_labels, _smp_check, encoder="encoder")
"""Encoder and decoder | segmentation head."""


# --- forward_features and forward_head


def _features(layout: Layout, model: Any, image: Tensor) -> Output:
    return layout.to_state(model.forward_features(image)), None


def _features_head(layout: Layout, model: Any, output: Tensor, size: Size) -> Tensor:
    return cast(Tensor, model.forward_head(layout.from_state(output)))


def _own_check(model: Any, image: Tensor) -> None:
    check = getattr(model, "check_input_shape", None)
    if callable(check):
        check(image)


def _tokens_in_space(layout: Layout, model: Any, readout: Tensor, size: Size) -> Tensor:
    return layout.spread(readout, size)


def _cut_by_layout(layout: Layout) -> Cut:
    cut = Cut(functools.partial(_features, layout), functools.partial(_features_head, layout), check=_own_check)
    return replace(cut, spread=functools.partial(_tokens_in_space, layout)) if layout.is_tokens else cut


FEATURES_CUT = _cut_by_layout(Layout())
"""``forward_features`` | ``forward_head``, as timm calls them, of features that are maps."""


# --- torchvision's segmentation models


def _backbone_and_classifier(model: Any, image: Tensor) -> Output:
    check_unhooked(model.classifier, "model.classifier is called part by part,")
    x = model.backbone(image)["out"]
    for part in list(model.classifier)[:-1]:
        x = part(x)
    return x, None


def _last_convolution(model: Any, output: Tensor, size: Size) -> Tensor:
    return F.interpolate(model.classifier[-1](output), size, mode="bilinear", align_corners=False)


def _backbone_and_scores(model: Any, image: Tensor) -> Output:
    return model.classifier(model.backbone(image)), None


def _upsampled(model: Any, output: Tensor, size: Size) -> Tensor:
    return F.interpolate(output, size, mode="bilinear", align_corners=False)


def _out(answer: Any, size: Size | None = None) -> Any:
    return answer["out"] if isinstance(answer, Mapping) else answer


TORCHVISION_CUT = Cut(_backbone_and_classifier, _last_convolution, answer=_out, encoder="backbone")
"""All of DeepLabV3 and FCN but the classifier's last convolution | that convolution, at the image's size."""

LRASPP_CUT = Cut(_backbone_and_scores, _upsampled, answer=_out, encoder="backbone")
"""Its classifier adds scores of two resolutions: the state is the scores."""


@hookimpl
def register_cuts(register: Register) -> None:
    """smp's models, and torchvision's for segmentation."""
    register("segmentation_models_pytorch.base.model.SegmentationModel", SMP_CUT)
    register("torchvision.models.segmentation._utils._SimpleSegmentationModel", TORCHVISION_CUT)
    register("torchvision.models.segmentation.lraspp.LRASPP", LRASPP_CUT)
