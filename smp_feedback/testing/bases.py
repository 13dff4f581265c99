"""What is asked of a base beyond that it loops: classes as told, oblong images, the stages and encoder it declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from smp_feedback.config.recurrent import Recurrent
from smp_feedback.errors import FeedbackError, SurgeryError, UnknownName, one_line
from smp_feedback.factory import create, wrap
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.models.builder import arguments_of
from smp_feedback.ops.maps import masks_of
from smp_feedback.surgery.answers import is_smaller
from smp_feedback.surgery.cuts import cut_of
from smp_feedback.surgery.declared_stages import stages_of_base
from smp_feedback.surgery.decoder import encoder_of_base
from smp_feedback.testing.promises import check_heard, check_lossless


@contextmanager
def refusals_fail() -> Iterator[None]:
    """Context: a base that is refused breaks a promise; names, keywords and values that are wrong stay errors."""
    try:
        yield
    except SurgeryError as error:
        raise AssertionError(str(error)) from error


@contextmanager
def broken() -> Iterator[None]:
    """Context: what is refused breaks a promise; a name that nobody registered stays an error."""
    try:
        yield
    except UnknownName:
        raise
    except FeedbackError as error:
        raise AssertionError(str(error)) from error


@torch.no_grad()
def check_classes(name: str, arguments: Mapping[str, Any], image: Tensor) -> None:
    """Where the architecture *name* is told ``classes``, it answers as many, of any number that it does not refuse."""
    told = arguments_of(name, {"encoder_weights": None, **arguments})
    if "classes" not in told or told.get("encoder_weights") is not None:
        return
    other = told["classes"] + 1
    try:
        plain = create(name, feedback=False, **{"encoder_weights": None, **arguments, "classes": other}).eval()
        found = masks_of(plain(image)).shape[1]
    except Exception:  # it may have its reasons and say so; of an answer that is none the dry run says more
        return
    assert found == other, f"classes={other}: its model answers {found}, so its builder ignores `classes`"


@torch.no_grad()
def check_oblong(plain: nn.Module, model: FeedbackModel, image: Tensor) -> None:
    """Of an image that is wider than high, *model* answers masks no smaller, where *plain* answers at all."""
    wide = image if image.shape[-2] != image.shape[-1] else torch.cat([image, image.flip(-1)], -1)
    shape = tuple(wide.shape[-2:])
    try:
        expected = masks_of(plain.eval()(wide))
    except Exception:  # one of a fixed size, say
        return
    small = expected.ndim == 4 and is_smaller(expected.shape[2:], shape)
    assert not small, f"its logits are {tuple(expected.shape)} for an image of {shape}: expected its size at least"
    try:
        found = masks_of(model.eval()(wide))
    except Exception as error:
        raise AssertionError(f"of an image of {shape}, which the plain model takes: {one_line(error)}") from error
    assert found.shape == expected.shape, f"of {shape} px it answers {tuple(found.shape)}, not {tuple(expected.shape)}"


def check_stages(plain: nn.Module, image: Tensor) -> None:
    """Entered behind each of the stages that it declares, *plain* keeps every answer and hears the feedback."""
    for stage in range(1, 1 + len(stages_of_base(plain, cut_of(plain)))):
        config = Recurrent(insert=f"stage:{stage}", steps=2)
        check_lossless(plain, image, config=config)
        check_heard(wrap(plain, config), image)


def check_decoder(plain: nn.Module, image: Tensor) -> None:
    """Where *plain* has an encoder, it runs once for all looks: every answer is kept, and the feedback heard."""
    if encoder_of_base(plain, cut_of(plain)) is None:
        return
    config = Recurrent(insert="decoder", steps=2)
    check_lossless(plain, image, config=config)
    check_heard(wrap(plain, config), image)
