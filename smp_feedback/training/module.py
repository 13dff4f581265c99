"""One Lightning module for any model that answers an image with logits, looping or not."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from smp_feedback.checks import check_choice, check_number, check_whole
from smp_feedback.errors import InvalidValue
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.ops.reading import CLASSIFICATION, MULTILABEL, SEGMENTATION
from smp_feedback.surgery.head import channels_of
from smp_feedback.surgery.step_batchnorm import reset_statistics
from smp_feedback.training.cycle import ScheduleCallable, averaging, fit_cycle, make_schedule
from smp_feedback.training.looks_module import LooksModule
from smp_feedback.training.loss_weights import Supervise, looks_of, step_weights, weighted
from smp_feedback.training.metric import NAMES
from smp_feedback.training.optim import OptimizerCallable, check_feedback_lr, make_optimizer
from smp_feedback.training.scoring_module import PLATEAU, Batch
from smp_feedback.training.weight_average import AveragedWeights, check_decay


class FeedbackModule(LooksModule):
    """Trains *model*, and scores every look: ``val_miou`` is the last look's, ``val_miou/look_1`` the first's.

    Batches are (image, target) or (image, target, index), or dictionaries of ``image`` and ``mask``, ``label`` or
    ``target``: images (B, C, H, W), and masks (B, H, W) or (B, 1, H, W) for segmentation, (B, classes, H, W) of 0 and 1
    for multilabel, or labels (B,) for classification, scored by ``val_accuracy``. Targets are of any type that holds
    whole numbers. A batch of void alone has the loss 0.

    Args:
        model: Anything that maps images (B, C, H, W) to logits (B, classes, H, W), or (B, classes). One channel, smp's
            default, tells two classes by its sign.
        classes: Number of classes; 1 stands for two, background and foreground.
        ignore_index: Label that is neither trained on nor scored; None scores all.
        task: ``segmentation``, ``multilabel`` or ``classification``; None sees it by the first target.
        loss: A name, see :func:`smp_feedback.training.build_loss.build_loss`, or a module called as
            ``loss(logits, target)`` (which ignores *ignore_index* by itself); one with
            ``reads_steps = True`` is told the look, ``step=t``.
        loss_arguments: The named loss's own arguments, such as ``{weight: [1, 5]}``.
        class_weights: One number a class, for a loss that weighs classes; ``balanced`` counts them once in the training
            masks, see :func:`smp_feedback.training.class_weights.balanced_weights`; None weighs all alike.
        supervise: Which looks carry the loss: ``last``, ``mean``, ``increasing`` or T numbers, see
            :func:`smp_feedback.training.loss_weights.step_weights`; a feed-forward model has one look.
        backward: ``together`` is one backward pass over the weighted sum; ``per_step`` sends each look's loss back
            before the next look: the memory of one look for any T, no gradient from one look to the one before.
        lr: Peak learning rate of the default AdamW.
        weight_decay: That AdamW's.
        feedback_lr: Peak learning rate of what the loop added to the base, which begins at nothing where a trained
            model is looped and hardly moves at the rate that fine-tunes the rest; of any optimiser. None is as *lr*.
        optimizer: Called with parameter groups, in place of AdamW.
        schedule: Called with the optimiser and stepped after each of its steps, in place of one cycle.
        ema: Decay of an exponential moving average of weights and statistics, which is then scored and kept in
            place of the last weights; None keeps the last. 0.999 averages over about the last 1000 steps.

    Raises:
        InvalidValue, InvalidType, UnknownName, UnknownKeyword: At birth, naming the argument.

    >>> module = FeedbackModule(nn.Conv2d(3, 2, 1), classes=2)
    >>> batch = torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long)
    >>> module.loss_of(batch).shape
    torch.Size([])
    """

    by_hand: ClassVar[str] = "backward='per_step'"
    averaged_by_lightning: ClassVar[bool] = True

    def __init__(
        self,
        model: nn.Module,
        *,
        classes: int,
        ignore_index: int | None = None,
        task: str | None = None,
        loss: str | nn.Module = "cross_entropy",
        loss_arguments: dict[str, Any] | None = None,
        class_weights: str | list[float] | None = None,
        supervise: str | list[float] = "last",
        backward: str = "together",
        lr: float = 1e-3,
        weight_decay: float = 1e-2,
        optimizer: OptimizerCallable | None = None,
        schedule: ScheduleCallable | None = None,
        ema: float | None = None,
        feedback_lr: float | None = None,
    ) -> None:
        super().__init__()
        check_whole("classes", classes)
        if task is not None:
            check_choice("task", task, tuple(NAMES))
        check_choice("backward", backward, ("together", "per_step"))
        check_number("lr", lr, above=0)
        check_number("weight_decay", weight_decay, least=0)
        check_decay(ema)
        check_feedback_lr(model, feedback_lr)
        self.feedback_lr = feedback_lr
        self.model, self.ignore_index, self.ema = model, ignore_index, ema
        self.classes = max(classes, 1 if task == MULTILABEL else 2)
        self.lr, self.weight_decay, self.optimizer, self.schedule = lr, weight_decay, optimizer, schedule
        self.named, self.arguments, self.task = loss if isinstance(loss, str) else None, loss_arguments, task
        if self.named is None:
            self.loss = cast(nn.Module, loss)
        self._weigh(class_weights)
        self._settle(None if task == CLASSIFICATION else channels_of(model), task or SEGMENTATION)
        self.steps = looks_of(model)
        self.weights = step_weights(cast(Supervise, supervise), self.steps)
        self.automatic_optimization = backward == "together" or not isinstance(model, FeedbackModel)
        self.scores = None if task is None else self._metric(task)
        self.scored = None

    def loss_of(self, batch: Batch) -> Tensor:
        """The loss of one batch, weighted over the looks, ready for one backward pass."""
        image, target = self.pair(batch)
        if self.weights[-1] == 1:
            return self.judge(self(image), target, self.steps - 1)
        looks = zip(self.weights, cast(FeedbackModel, self.model).iterate(image), strict=True)
        share = weighted(self.weights, self.judge, target)
        return torch.stack([share(step) for weight, step in looks if weight]).sum()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """One batch's loss; with ``backward="per_step"``, the whole optimiser step."""
        batch = self.ready(batch, index)
        loss = self.loss_of(batch) if self.automatic_optimization else self._step_by_step(batch)
        self.log("loss", loss.detach(), prog_bar=True)
        return loss

    def _step_by_step(self, batch: Batch) -> Tensor:
        image, target = self.pair(batch)
        optimizer, model = cast(Any, self.optimizers()), cast(FeedbackModel, self.model)
        optimizer.zero_grad()
        loss = model.backward_per_step(image, weighted(self.weights, self.judge, target)).sum()
        optimizer.step()
        schedule = cast(Any, self.lr_schedulers())
        if not isinstance(schedule, ReduceLROnPlateau):
            schedule.step()
        return loss

    def on_fit_start(self) -> None:
        """Refuse what cannot learn, and what ``backward="per_step"`` cannot do.

        Raises:
            InvalidValue: For a score loop of no update; with several processes, or 16-bit gradient scaling.
        """
        if isinstance(self.model, FeedbackModel) and getattr(self.model.loop_config, "steps", 1) == 0:
            raise InvalidValue("steps=0: the base answers, and nothing of the loop learns; give steps >= 1.")
        super().on_fit_start()

    def on_train_start(self) -> None:
        """One cycle is as long as the run; refuse to go on with one in a run of another length."""
        if self.schedule is None:
            fit_cycle(self.trainer)

    def on_train_epoch_start(self) -> None:
        """Where stochastic weight averaging has begun BatchNorm's statistics anew, begin those of later steps, too."""
        if any(self.current_epoch == one.swa_end + 1 for one in averaging(self.trainer)):
            reset_statistics(self.model)

    def configure_callbacks(self) -> list[Callback]:
        """The moving average, if there is one."""
        return [] if self.ema is None else [AveragedWeights(self.ema)]

    def configure_optimizers(self) -> Any:
        """See :mod:`smp_feedback.training.optim`."""
        optimizer = make_optimizer(self, self.optimizer, self.lr, self.weight_decay, self.feedback_lr)
        total = self.trainer.estimated_stepping_batches
        return {"optimizer": optimizer, "lr_scheduler": make_schedule(optimizer, self.schedule, total, PLATEAU)}
