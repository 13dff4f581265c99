"""What our Lightning modules share: an answer, scores of all that led to it, and a plateau that is heard."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import lightning
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from smp_feedback.config.data import DataConfig
from smp_feedback.data.batch import check_whole_numbers, target_of
from smp_feedback.data.feeding import Feed
from smp_feedback.data.images.reader import as_unit
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.ops.maps import masks_of
from smp_feedback.training.by_hand import check_by_hand
from smp_feedback.training.callbacks import check_averaging
from smp_feedback.training.checkpoints import instead_of_loading, is_resumed
from smp_feedback.training.datamodule import PairsModule
from smp_feedback.training.feeds import Feeds
from smp_feedback.training.metric import LookMetric, Scored
from smp_feedback.training.processes import check_whole_parameters, take_over_buffers
from smp_feedback.training.regrouping import regroup

Batch = tuple[Tensor, ...]
PLATEAU = "val_loss"  # what a plateau is a plateau of


class ScoringModule(lightning.LightningModule):
    """A module with a *model* that is trained, and *scores* of each of its answers to an image.

    What its last scores were is *scored*.
    """

    by_hand: str | None = None
    """What of the module steps its optimiser itself, where it does."""
    clips: ClassVar[bool] = False
    """Whether it clips its gradient where it steps its optimiser itself."""
    several_steps: str | None = ""
    """Why it takes several steps a batch where it steps its optimiser itself, in words; None where it takes one."""
    scales: ClassVar[bool] = False
    """Whether it scales its gradient where it steps its optimiser itself."""
    averaged_by_lightning: ClassVar[bool] = False
    """Whether it takes Lightning's StochasticWeightAveraging; not what sets its learning rates itself."""
    feeds_itself: ClassVar[bool] = True
    """Its steps normalise images by themselves, whatever data module or loader they come from."""
    unscaled: ClassVar[tuple[str, ...]] = ("16-mixed",)
    model: nn.Module
    ignore_index: int | None
    scores: LookMetric | None
    scored: Scored | None

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Self:
        """Lightning's, of a module made as *kwargs* say: a checkpoint holds weights, and not what they are those of.

        Raises:
            InvalidType: Without ``model=``, naming what loads a trained model.
        """
        if "model" not in kwargs:
            raise InvalidType(instead_of_loading(cls.__name__, checkpoint_path))
        return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)

    def forward(self, image: Tensor, **call: int) -> Tensor:
        """The model's logits (B, classes, H, W), the last if there are several; *call* is what else it is told."""
        return masks_of(self.model(image, **call))

    def __init__(self) -> None:
        super().__init__()
        self._feeds = Feeds()

    def fed(self, batch: Any, images: int = 1) -> Any:
        """*batch*, whose first *images* parts are images, normalised as the model wants it; see `Feeds`."""
        trainer: Any = self._trainer
        return batch if trainer is None else self._feeds.fed(trainer, batch, images)

    def feed_of(self, images: Tensor) -> Feed:
        """What makes parts of *images*, bytes or in [0, 1], what the model wants; see `Feeds`."""
        trainer: Any = self._trainer
        config = DataConfig() if trainer is None else self._feeds.config(trainer, images)
        return lambda part: config.normalise(as_unit(part))

    def ready(self, batch: Any, index: int) -> Any:
        """A *batch* of pairs, normalised; the targets of an epoch's first are looked at, which waits for the device."""
        if index == 0:
            check_whole_numbers(target_of(batch, getattr(self, "task", None)))
        return self.fed(batch)

    def conclude(self, *, unlabelled: bool = True) -> Scored:
        """The scores so far, which begin anew.

        Args:
            unlabelled: Whether there may have been nothing to score.

        Raises:
            InvalidInput: If there was nothing, and must not be.
        """
        assert self.scores is not None
        self.scored = self.scores.scored()
        self.scores.reset()
        if not unlabelled and self.scored.looks.isnan().all() and not self.trainer.sanity_checking:
            raise InvalidInput(f"target: every validation label is ignored (ignore_index={self.ignore_index}).")
        return self.scored

    def on_validation_end(self) -> None:
        """Step a plateau, which waits for the loss on the validation images; see `make_schedule`."""
        schedule: Any = self.lr_schedulers()
        if isinstance(schedule, ReduceLROnPlateau) and not self.trainer.sanity_checking:
            schedule.step(self.trainer.callback_metrics[PLATEAU])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Of a run that goes on in another number of processes, as many batches of the epoch are over as are now."""
        trainer: Any = self._trainer
        data = None if trainer is None else trainer.datamodule
        state = checkpoint.get(type(data).__qualname__)
        if state is None or not isinstance(data, PairsModule) or not is_resumed(trainer):
            return
        if (batches := data.batches_over(state)) != state["batches"]:
            regroup(checkpoint["loops"], batches)

    def on_validation_epoch_start(self) -> None:
        """Score what is kept: see `take_over_buffers`."""
        if not self.automatic_optimization and self.trainer.state.fn == "fit":
            take_over_buffers(self.trainer, self)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Clip the gradient as the trainer was told, where Lightning does not."""
        if not self.automatic_optimization:
            self.clip_gradients(optimizer)

    def on_fit_start(self) -> None:
        """Refuse what optimisers that are stepped by hand cannot do.

        Raises:
            InvalidValue: For parameters that are spread over processes, gradients that cannot add up over batches, or
                a precision whose gradients would need scaling; for Lightning's StochasticWeightAveraging, where it
                would do something else.
        """
        check_averaging(self)
        if self.automatic_optimization:
            return
        check_by_hand(self, None, self.trainer.accumulate_grad_batches)
        check_whole_parameters(self.trainer, str(self.by_hand))
        if self.trainer.precision in self.unscaled and not self.scales:
            raise InvalidValue(f"{self.by_hand} does not scale gradients: use precision 'bf16-mixed' or '32'.")


def check_answer(logits: Tensor, target: Tensor) -> None:
    """Maps are answered with maps, and labels with labels.

    Raises:
        InvalidValue: If the model is one for the other.
    """
    told = f"the model answers {tuple(logits.shape)} where the targets are {tuple(target.shape)}"
    several = target.ndim == 4 and logits.ndim == 4  # multilabel: a channel of the target for each class
    target = target[:, 0] if several else target
    if logits.ndim != target.ndim + 1:
        raise InvalidValue(
            f"{told}: labels want a classifier (arch: timm/<name>), label maps a model for segmentation (arch: Unet)."
        )
    if logits.shape[2:] != target.shape[1:]:
        raise InvalidValue(f"{told}: expected one size; give images of a size that the model takes (data.size).")
