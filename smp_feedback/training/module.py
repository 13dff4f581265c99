"""One Lightning module for any model that answers an image with logits, looping or not."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassJaccardIndex

from smp_feedback.checks import check_choice, check_number, check_whole
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.plugins import catalogue


class FeedbackModule(lightning.LightningModule):
    """Trains *model* with AdamW under a one-cycle schedule; logs the loss and validation mIoU.

    Args:
        model: Anything that maps images (B, C, H, W) to logits (B, classes, H, W).
        classes: Number of classes, >= 2.
        ignore_index: Label that is neither trained on nor scored; None scores all.
        loss: A name from the registry of losses, built with its defaults (``cross_entropy`` ignores
            *ignore_index*), or a module called as ``loss(logits, target)``.
        supervise: ``last`` puts the loss on the last step (arXiv 2509.15905), ``all`` its mean over the steps
            (arXiv 2507.10143), in one backward pass; a feed-forward model has one step.
        lr: Peak learning rate.
        weight_decay: AdamW's.

    Raises:
        InvalidValue, InvalidType, UnknownName: At birth, naming the argument.

    >>> module = FeedbackModule(nn.Conv2d(3, 2, 1), classes=2)
    >>> batch = torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long)
    >>> module.loss_of(batch).shape
    torch.Size([])
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        classes: int,
        ignore_index: int | None = None,
        loss: str | nn.Module = "cross_entropy",
        supervise: str = "last",
        lr: float = 1e-3,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__()
        check_whole("classes", classes)
        check_choice("supervise", supervise, ("last", "all"))
        check_number("lr", lr, above=0)
        check_number("weight_decay", weight_decay, least=0)
        self.model, self.supervise, self.lr, self.weight_decay = model, supervise, lr, weight_decay
        self.loss = build_loss(loss, ignore_index) if isinstance(loss, str) else loss
        self.miou = MulticlassJaccardIndex(classes, ignore_index=ignore_index, validate_args=False)

    def forward(self, image: Tensor) -> Tensor:
        """The model's logits (B, classes, H, W)."""
        logits: Tensor = self.model(image)
        return logits

    def loss_of(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The loss of one batch, over the last step or all."""
        image, target = batch
        if self.supervise == "all" and isinstance(self.model, FeedbackModel):
            losses = [self.loss(step.logits, target) for step in self.model.iterate(image)]
            return torch.stack(losses).mean()
        loss: Tensor = self.loss(self(image), target)
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """One optimiser step's loss."""
        loss = self.loss_of(batch)
        self.log("loss", loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Adds one batch to the mIoU."""
        image, target = batch
        self.miou.update(self(image).argmax(1), target)
        self.log("val_miou", self.miou, prog_bar=True)

    def configure_optimizers(self) -> Any:
        """AdamW, one cycle over the trainer's steps; norms, biases and the residual's gamma do not decay."""
        decayed: list[nn.Parameter] = []
        free: list[nn.Parameter] = []
        for parameter in self.parameters():
            (decayed if parameter.ndim > 1 else free).append(parameter)
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": free, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=self.lr)
        total = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.lr, total_steps=total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def build_loss(name: str, ignore_index: int | None) -> nn.Module:
    """The loss called *name*; smp's need to be told that there are several classes."""
    make = catalogue().losses[name]
    arguments: dict[str, Any] = {} if ignore_index is None else {"ignore_index": ignore_index}
    if make.__module__.startswith("segmentation_models_pytorch"):
        arguments["mode"] = "multiclass"
    loss: nn.Module = make(**arguments)
    return loss
