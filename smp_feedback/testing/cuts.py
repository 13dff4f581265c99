"""The places where base models are opened."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from smp_feedback.config.parse import Feedback, as_config
from smp_feedback.config.recurrent import Recurrent
from smp_feedback.factory import wrap
from smp_feedback.ops.maps import size_of
from smp_feedback.surgery.answers import checked_answer
from smp_feedback.surgery.cuts import cut_of
from smp_feedback.testing.bases import check_decoder, check_oblong, check_stages, refusals_fail
from smp_feedback.testing.promises import check_agreement, check_close, check_heard, check_lossless, keeping

ROUNDING = 1e-4  # of the largest logit: what a cut may change


def check_cut(model: nn.Module, image: Tensor, *, feedback: Feedback = None) -> None:
    """Where *model* is opened (:class:`smp_feedback.Cut`), its body and its head are together the model again.

    Args:
        model: A plain base model, of a class that has a cut, or with ``forward_features`` and ``forward_head``.
        image: (B, C, H, W) of a size it takes.
        feedback: The loop to try, a recurrent one, where the usual does not fit: ``{"stem": "first"}``, say.

    >>> import segmentation_models_pytorch as smp
    >>> check_cut(smp.Unet("resnet18", encoder_weights=None), torch.rand(2, 3, 32, 32))
    """
    with refusals_fail(), torch.no_grad():
        check_opened(model, image)
    config = as_config(feedback)
    config = config if isinstance(config, Recurrent) else None
    with refusals_fail():
        check_lossless(model, image, config=config)
        looking = wrap(model, True if config is None else keeping(config))
        check_oblong(_Plain(model), looking, image)
        check_stages(model, image)
        check_decoder(model, image)
    check_agreement(looking, image)
    check_heard(looking, image)


class _Plain(nn.Module):
    """A base that answers its logits, whatever its class answers."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(self, image: Tensor) -> Any:
        """Logits, or (masks, labels)."""
        return cut_of(self.base).answer(self.base(image), size_of(image))


def check_opened(model: nn.Module, image: Tensor) -> None:
    """Body and head of *model*, as its cut has them, are together its own answer to *image*, in the shapes promised."""
    cut = cut_of(model.eval(), image)
    cut.check(model, image)
    answer = checked_answer(type(model).__name__, cut.answer(model(image), size_of(image)), image)
    expected = answer.logits
    output, features = cut.body(model, image)
    shape = f"its body gives {tuple(output.shape)}"
    assert output.ndim == 4, f"{shape}: expected (B, S, h, w)"
    assert len(output) == len(image), f"{shape} for {len(image)} images"
    state = output.shape[1] - cut.readout(model)
    assert state > 0, f"{shape}, of which {cut.readout(model)} channels are to be fed back"
    logits = cut.head(model, output[:, :state], size_of(image))
    check_close(logits, expected, "head(body(image)) is not the model's answer", ROUNDING)
    if features is not None:
        assert answer.labels is not None, "its body gives features to make labels of, and the model answers no labels"
        check_close(cut.labels(model, features), answer.labels, "labels(features) are not the model's labels", ROUNDING)
    if cut.spread is not None:
        laid = cut.spread(model, output[:, :1], size_of(image))
        assert laid.ndim == 4, f"spread gives {tuple(laid.shape)}: expected (B, 1, h, w)"
        assert laid.shape[:2] == (len(image), 1), f"spread gives {tuple(laid.shape)}: expected (B, 1, h, w)"
