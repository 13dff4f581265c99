"""A Lightning module that teaches the autoencoder of a score loop to undo what is wrong with a prediction."""

from __future__ import annotations

import functools
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import RMSprop

from smp_feedback.checks import check_bool, check_number
from smp_feedback.data import item_name
from smp_feedback.data.batch import image_of, indices_of, pair_of
from smp_feedback.errors import InvalidType
from smp_feedback.evaluation.score_loop import begin_named, check_classes
from smp_feedback.loops.score.model import ScoreModel
from smp_feedback.loops.score.state import Begun
from smp_feedback.losses.pixels import in_a_row
from smp_feedback.losses.reconstruction import Reconstruction
from smp_feedback.ops.reading import SEGMENTATION
from smp_feedback.training.cycle import ScheduleCallable, make_schedule
from smp_feedback.training.feeds import dataset_of
from smp_feedback.training.metric import LookMetric
from smp_feedback.training.optim import OptimizerCallable, make_optimizer
from smp_feedback.training.scoring_module import PLATEAU, Batch, ScoringModule, check_answer

BASE, ONCE = range(2)  # the two answers that are scored


class DenoisingModule(ScoringModule):
    """Trains the autoencoder r of *model*, and scores ONE pass of it, ``val_miou``, beside the base, ``base_miou``.

    Batches are (image, target) or (image, target, index): images (B, C, H, W) and masks (B, H, W). The base runs once
    for each, frozen and without a graph; its prediction y_0 (or the truth) is corrupted by the autoencoder's own noise,
    and r(y) is held to the truth. As published (arXiv 1705.07450, section 4) by RMSprop of learning rate 1e-3, times
    0.99 an epoch, on cross-entropy and squared error alike; at most 500 epochs of batches of 10 until 100 bring no
    better score are the trainer's affair.

    Args:
        model: With a score loop; the parameters of its base learn too if its config says ``freeze=False``.
        classes: Number of classes, that of the base; 2 for a base of one class.
        ignore_index: Label that is neither trained on nor scored; None scores all.
        from_gt: Whether r learns from the corrupted truth, with zeros where it is void, in place of the base's
            prediction, as a denoising autoencoder in the narrow sense does. Scored is what it makes of the prediction.
        cross_entropy: Weight of ``-log p``, see :class:`smp_feedback.losses.reconstruction.Reconstruction`.
        squared_error: Weight of the squared error, called lambda in the paper.
        lr: Learning rate of the default RMSprop.
        decay: The learning rate of an epoch over that of the one before, > 0; of any optimiser.
        optimizer: Called with parameter groups, in place of RMSprop.
        schedule: Called with the optimiser and stepped after each of its steps, in place of *decay*.

    Raises:
        InvalidType, InvalidValue: At birth, naming the argument.

    >>> import smp_feedback as smpf
    >>> loop = smpf.Score(filters=4, additional_pools=1)
    >>> module = DenoisingModule(smpf.create("Unet", "resnet18", None, classes=3, feedback=loop), classes=3)
    >>> module.loss_of((torch.rand(1, 3, 32, 32), torch.zeros(1, 32, 32).long())).shape
    torch.Size([])
    """

    model: ScoreModel
    scores: LookMetric

    def __init__(
        self,
        model: ScoreModel,
        *,
        classes: int,
        ignore_index: int | None = None,
        from_gt: bool = False,
        cross_entropy: float = 1.0,
        squared_error: float = 1.0,
        lr: float = 1e-3,
        decay: float = 0.99,
        optimizer: OptimizerCallable | None = None,
        schedule: ScheduleCallable | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(model, ScoreModel):
            raise InvalidType(f"model is a {type(model).__name__}: expected one with a score loop (feedback='score').")
        check_classes(model, classes)
        check_bool("from_gt", from_gt)
        check_number("lr", lr, above=0)
        check_number("decay", decay, above=0)
        self.model, self.classes, self.ignore_index, self.from_gt = model, max(2, classes), ignore_index, from_gt
        self.lr, self.decay, self.optimizer, self.schedule = lr, decay, optimizer, schedule
        self.loss = Reconstruction(ignore_index=ignore_index, cross_entropy=cross_entropy, squared_error=squared_error)
        self.scores = LookMetric("segmentation", classes=self.classes, steps=2, ignore_index=ignore_index)
        self.scored = None

    def begin(self, batch: Batch) -> Begun:
        """What the base says of a batch, without a graph if it is frozen.

        Raises:
            InvalidInput: If an image is not finite, with its name.
        """

        def name(i: int) -> str:
            trainer, places = self._trainer, indices_of(batch)
            if trainer is None or places is None:
                return f"image {i}"
            return item_name(dataset_of(trainer), int(places[i]))

        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.model.feedback.config.freeze):
            return begin_named(self.model, image_of(batch), name)

    def loss_of(self, batch: Batch) -> Tensor:
        """The loss of one batch."""
        begun, (_, target) = self.begin(batch), pair_of(batch, SEGMENTATION)
        y = begun.y
        if self.from_gt:
            y = in_a_row(y, target, self.ignore_index).one_hot.view_as(y).to(y)
        return cast(Tensor, self.loss(self.model.reconstruct(y, begun.features), target))

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """One batch's loss."""
        loss = self.loss_of(self.ready(batch, index))
        self.log("loss", loss.detach(), prog_bar=True)
        return loss

    def on_train_epoch_start(self) -> None:
        """The learning rate of this epoch: a function of its number alone, so that a resumed run needs no other."""
        if self.schedule is None:
            for group in cast(Any, self.optimizers()).param_groups:
                group["lr"] = group["initial_lr"] * self.decay**self.current_epoch

    def validation_step(self, batch: Batch, index: int) -> None:
        """Score the base and one pass of the autoencoder on one batch."""
        batch = self.ready(batch, index)
        begun, (_, target) = self.begin(batch), pair_of(batch, SEGMENTATION)
        check_answer(begun.logits, target)
        logits = self.model.reconstruct(begun.y, begun.features)
        self.scores.update(BASE, begun.logits, target)
        self.scores.update(ONCE, logits, target)
        self.log("val_loss", self.loss(logits, target), sync_dist=True, batch_size=len(target))

    def on_validation_epoch_end(self) -> None:
        """Log the scores.

        Raises:
            InvalidInput: If there was nothing to score.
        """
        base, once = self.conclude(unlabelled=False).looks
        self.log("val_miou", once, prog_bar=True, sync_dist=True)
        self.log("base_miou", base, prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """RMSprop, whose learning rate :meth:`on_train_epoch_start` sets, or what was asked for."""
        make = self.optimizer or functools.partial(RMSprop, lr=self.lr, alpha=0.9, eps=1e-6)
        optimizer = make_optimizer(self.model, make, self.lr, 0.0)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        if self.schedule is None:
            return optimizer
        total = self.trainer.estimated_stepping_batches
        return {"optimizer": optimizer, "lr_scheduler": make_schedule(optimizer, self.schedule, total, PLATEAU)}
