"""The loss of each look: made for the channels, the task and the weights of the classes, which may be counted yet."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from smp_feedback.data.batch import check_labels, pair_of
from smp_feedback.data.films.clips import Clips
from smp_feedback.errors import InvalidValue
from smp_feedback.ops.reading import SEGMENTATION, answers_classes
from smp_feedback.training.apply_loss import is_smps, loss_of_look
from smp_feedback.training.build_loss import build_loss
from smp_feedback.training.class_weights import BALANCED, balanced_weights, check_class_weights
from smp_feedback.training.metric import task_of
from smp_feedback.training.scoring_module import ScoringModule, check_answer


class JudgingModule(ScoringModule):
    """A module whose *loss* is *named*, and built with its *arguments*, or is one already.

    The loss of a name is built anew where the *channels* that the model answers, the *task* or *class_weights* turn out
    to be others; whether these are *balanced* stays as it was said.
    """

    classes: int
    task: str | None
    loss: nn.Module
    named: str | None
    arguments: dict[str, Any] | None
    channels: int | None
    class_weights: Tensor | None
    balanced: bool

    def judge(self, logits: Tensor, target: Tensor, look: int) -> Tensor:
        """The loss of one look's logits; the first tell how many channels the model answers.

        Raises:
            InvalidValue: If *target* is of another size than *logits*.
            InvalidInput: If a loss that is ours, smp's or torch's is to judge labels that there are not; seen to on a
                CPU, and on a device at an epoch's first batch, for each look would wait for it.
        """
        check_answer(logits, target)
        known = self.named is not None or is_smps(self.loss) or type(self.loss).__module__ == nn.modules.loss.__name__
        if known and (target.device.type == "cpu" or self._begins_epoch()):
            said: list[int | None] = [self.ignore_index, getattr(self.loss, "ignore_index", None)]
            ignored = tuple(dict.fromkeys(label for label in said if label is not None))
            check_labels(target, self.classes, ignored, self.task or SEGMENTATION)
        if logits.shape[1] != self.channels:
            self._settle(logits.shape[1], self.task or SEGMENTATION)
        how: dict[str, Any] = {"ignore_index": self.ignore_index, "named": self.named is not None}
        return loss_of_look(self.loss, logits, target, look, **how)

    def _begins_epoch(self) -> bool:
        trainer: Any = self._trainer
        return trainer is not None and trainer.training and trainer.fit_loop.batch_idx == 0

    def _settle(self, channels: int | None, task: str) -> None:
        """Make the loss for so many channels and such a task."""
        if channels is not None and not answers_classes(channels, self.classes, task):
            one = "; one channel tells two, background and foreground" if channels == 1 else ""
            raise InvalidValue(
                f"the model answers {channels} channels, the data have {self.classes} classes{one}: build it with "
                f"classes={self.classes}."
            )
        self.channels = channels
        told: dict[str, Any] = {"channels": channels, "classes": self.classes, "task": task}
        weights = None if self.class_weights is None else self.class_weights.tolist()
        loss = self.loss if self.named is None else self.named
        made = build_loss(loss, self.ignore_index, self.arguments, class_weights=weights, **told)
        self.loss = made if self.named is None else made.to(self.device)

    def _weigh(self, weights: str | list[float] | None) -> None:
        """Keep the weights of the classes; those that are to be counted are alike until they are, and saved then."""
        self.balanced = isinstance(weights, str)
        numbers = check_class_weights(weights, self.classes)
        kept = torch.ones(self.classes) if self.balanced else None if numbers is None else torch.tensor(numbers)
        self.register_buffer("class_weights", kept, persistent=self.balanced)

    def setup(self, stage: str) -> None:
        """Weigh the classes, where that is to be counted: in the training pairs, or as a checkpoint has it.

        Raises:
            InvalidValue: If there are no training pairs to count in.
        """
        if not self.balanced or self.class_weights is None:
            return
        if stage == "fit":
            pairs = getattr(getattr(cast(Any, self.trainer), "datamodule", None), "train", None)
            if pairs is None:
                raise InvalidValue(
                    f"class_weights={BALANCED!r} counts the training pairs of a PairsModule: train with one, or give "
                    "a list, such as class_balanced_weights(count_classes(data))."
                )
            pairs = pairs.dataset if isinstance(pairs, Clips) else pairs  # each frame counts once
            task = self.task or task_of(pair_of(default_collate([pairs[0]]))[1])
            counted = balanced_weights(pairs, self.classes, self.ignore_index, task, normalise=True)
            self.class_weights.copy_(torch.tensor(counted))
        self._settle(self.channels, self.task or SEGMENTATION)
