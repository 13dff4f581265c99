"""A file that takes images as they are and answers in labels: bytes in, a label map out, nothing left to do outside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from smp_feedback.errors import InvalidValue
from smp_feedback.exporting.formats import ROUNDINGS, Session
from smp_feedback.exporting.serving import Served, Shape
from smp_feedback.models.normalisation import given_config
from smp_feedback.ops.maps import masks_of
from smp_feedback.ops.reading import MULTILABEL, labels_of, per_class, reading_of
from smp_feedback.surgery.head import channels_of
from smp_feedback.surgery.probe import noise

BYTE, MOST = 255, 256  # classes that a byte tells apart
LOOSEST = 1e-4  # of the largest logit: two that are nearer to each other may change places by rounding


class ServedReady(Served):
    """Bytes (B, C, H, W) in, labels (B, H, W) out, as bytes: normalised before, read after, in the graph.

    Args:
        model: A looping model or a plain one; left as it is.
        steps: T; None is the model's own.

    Raises:
        InvalidValue: If its images are no bytes, or its classes more than a byte tells apart.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, steps: int | None = None) -> None:
        super().__init__(model, steps)
        self.data = given_config(self.model).config
        if self.data.scale is not None:
            raise InvalidValue(
                f"with_preprocess=True: this model reads files by scale={self.data.scale!r}, which are no bytes; "
                "leave it out, and hand images in as the file's metadata say."
            )
        if (channels := channels_of(self.model) or 0) > MOST:
            raise InvalidValue(
                f"with_preprocess=True: {channels} classes are more than a byte tells apart; leave it out."
            )
        mean, std = self.data.mean or (0.0,) * self.channels, self.data.std or (1.0,) * self.channels
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32)[:, None, None])

    def logits(self, image: Tensor) -> Tensor:
        """Those of bytes (B, C, H, W)."""
        ready = (image.to(torch.float32) / BYTE - self.mean) / self.std
        return masks_of(super().forward(ready.to(self.dtype)))

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H, W), or (B, classes, H, W) of 0 and 1 where classes overlap."""
        return labels_of(self.logits(image), self.data.task).to(torch.uint8)

    def given(self, shape: Shape) -> dict[str, Tensor]:
        """Bytes."""
        return {"image": (noise(self, shape).float() * BYTE).round().to(torch.uint8)}

    @torch.no_grad()
    def trials(self, run: Session, shape: Shape) -> Iterator[tuple[Sequence[Tensor], Sequence[Tensor]]]:
        """The labels of the opened file *run*, and the model's; the file's where two classes are as good as equal."""
        image = self.given(shape)["image"]
        [got], logits = run(image), self.logits(image).float()
        wanted = labels_of(logits, self.data.task).to(torch.uint8)
        slack = max(LOOSEST, ROUNDINGS * torch.finfo(self.dtype).eps) * logits.abs().max().clamp_min(1)
        yield (
            [got],
            [torch.where(self._margin(logits) > 2 * slack, wanted, got) if got.shape == wanted.shape else wanted],
        )

    def _margin(self, logits: Tensor) -> Tensor:
        """By how much a label was chosen."""
        if self.data.task == MULTILABEL:
            return logits.abs()
        best = per_class(logits).topk(2, 1).values
        return best[:, 0] - best[:, 1]

    def names(self) -> tuple[str, ...]:
        """The output's name."""
        return ("label_map",)

    def reading(self, shape: Shape | None = None) -> str:
        """How logits became labels."""
        channels = channels_of(self.model)
        if channels is None:
            channels = self.logits(self.given(shape or self.readable())["image"]).shape[1]
        return reading_of(channels, self.data.task)

    def facts(self, shape: Shape | None = None) -> dict[str, str]:
        """Besides, that nothing is left to do, and what size the model was trained at."""
        said = "bytes 0 to 255, as files have them: they are normalised, and logits read, inside"
        return {**super().facts(shape), "images": said, "dtype": "uint8", "with_preprocess": "true"}
