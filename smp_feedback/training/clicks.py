"""A Lightning module that teaches a model to listen to clicks."""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from smp_feedback.checks import check_number, check_whole
from smp_feedback.config.clicks import ClickConfig
from smp_feedback.data.batch import pair_of
from smp_feedback.data.clicks.dialogue import damaged as with_damage
from smp_feedback.data.clicks.dialogue import dialogue
from smp_feedback.data.clicks.listening import how_of
from smp_feedback.errors import InvalidInput, InvalidValue
from smp_feedback.evaluation.clicks import iou
from smp_feedback.ops.reading import SEGMENTATION
from smp_feedback.training.module import FeedbackModule
from smp_feedback.training.sampling import LOOKS, derived
from smp_feedback.training.scoring_module import Batch
from smp_feedback.training.unrolling import span


class Talk(NamedTuple):
    """What is drawn for one batch.

    Attributes:
        free: Clicks whose answers carry no gradient, before the others.
        clicks: Clicks whose answers have a loss.
        forgotten: The numbers of those, from 0, at which state and mask are dropped.
    """

    free: int
    clicks: int
    forgotten: frozenset[int]


class ClickModule(FeedbackModule):
    """Trains *model* on clicks that a simulated user makes, and scores its answers: ``val_iou``, the mean over objects.

    Batches are those of `FeedbackModule`, masks of 0 and 1 (the object). The user clicks where the last answer is most
    wrong (RITM, arXiv 2102.06583): drawn in training, by a fixed rule in validation, see
    :func:`smp_feedback.data.clicks.user.next_clicks`. ``val_iou`` is the mean over the clicks as well: what a model
    gains at the first click counts as much as at the last; ``val_iou/click_3`` is that after three.

    Args:
        model: Reads the channels of the image and those of *how*; answers two classes, or one channel for both.
        ignore_index: Label that is neither clicked on, trained on nor scored.
        how: What the model is shown of clicks; None is what its ``data_config`` says.
        clicks: Clicks whose answers have a loss, its mean; a number, or ``[low, high]``, of which one is drawn for each
            batch. Where a state is carried, gradient goes through all of them. As many as there will be: a model that
            was trained on three gets worse beyond.
        free_clicks: Clicks without gradient before those, in the same way; RITM's 0 to 3 with one click after them are
            ``clicks=1, free_clicks=[0, 3]``.
        drop: Chance, at each click but the first, that the state and the mask so far are dropped, in [0, 1): an answer
            then has the clicks alone.
        damaged: Share of the objects that begin with a damaged mask in place of an empty one, so that the model learns
            to begin with that of another; for models that read a mask.
        scored_clicks: Clicks on each object in validation.
        **training: See `FeedbackModule`: ``loss``, ``loss_arguments``, ``class_weights``, ``lr``, ``weight_decay``,
            ``feedback_lr``, ``optimizer``, ``schedule``, ``ema``.

    Raises:
        InvalidValue, InvalidType, UnknownName: At birth, naming the argument.

    >>> import smp_feedback as smpf
    >>> model = smpf.create("PlainConv", in_channels=5, classes=1, feedback="anytime")
    >>> module = ClickModule(model, how=ClickConfig(radius=2), clicks=2)
    >>> module.loss_of((torch.rand(2, 3, 16, 16), torch.ones(2, 16, 16).long())).shape
    torch.Size([])
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        ignore_index: int | None = None,
        how: ClickConfig | None = None,
        clicks: int | list[int] = [1, 10],  # noqa: B006  read, never written
        free_clicks: int | list[int] = 0,
        drop: float = 0.1,
        damaged: float = 0.25,
        scored_clicks: int = 10,
        **training: Any,
    ) -> None:
        super().__init__(model, classes=2, ignore_index=ignore_index, task=SEGMENTATION, **training)
        self.how, self.steps = how_of(model, how), 1  # one answer a click, however often it looks for that
        for name, value in {"clicks": clicks, "free_clicks": free_clicks}.items():
            span(name, value, least=int(name == "clicks"))
        for name, share in {"drop": drop, "damaged": damaged}.items():
            check_number(name, share, least=0)
            if share >= 1:
                raise InvalidValue(f"{name}={share!r}: expected a share, 0 <= {name} < 1.")
        self.clicks, self.free_clicks = clicks, free_clicks
        self.drop, self.damaged, self.scored_clicks = drop, damaged, check_whole("scored_clicks", scored_clicks)

    def talk(self, seed: int, epoch: int, batch: int) -> Talk:
        """What is drawn for *batch*: a function of seed and place, the same in all processes."""
        draw = Random(derived(LOOKS, seed, epoch, batch))
        clicks = draw.randint(*span("clicks", self.clicks, least=1))
        free = draw.randint(*span("free_clicks", self.free_clicks, least=0))
        return Talk(free, clicks, frozenset(k for k in range(1, free + clicks) if draw.random() < self.drop))

    def loss_of(self, batch: Batch, passes: Any = None) -> Tensor:
        """The mean loss of the answers to one batch's clicks."""
        image, target = pair_of(batch, SEGMENTATION)
        free, clicks, forgotten = self.talk(0, 0, 0) if passes is None else passes
        start = self._begun(target)
        told: Any = {"start": start, "sampled": True, "free": free, "forgotten": forgotten}
        heard = dialogue(self.model, image, target, self.how, free + clicks, **told)
        losses = [self.judge(one.logits, target, 0) for k, one in enumerate(heard) if k >= free]
        return torch.stack(losses).mean()

    def answers_once(self, clip: int | None) -> bool:
        """Each click's answer is judged as a first look, however often the model looks for it."""
        return True

    def _begun(self, target: Tensor) -> Tensor | None:
        """The masks to begin with."""
        if not self.how.mask or not self.damaged:
            return None
        chosen = torch.rand(len(target), 1, 1, device=target.device) < self.damaged
        return with_damage(target) * chosen

    def drawn(self, batch: int, segment: int = 0) -> Any:
        """What is drawn for *batch* of this epoch."""
        seed = getattr(cast(Any, self.trainer).datamodule, "seed", 0)
        return self.talk(seed, self.current_epoch, batch)

    def _score(self, stage: str, batch: Batch) -> None:
        image, target = pair_of(batch, SEGMENTATION)
        losses, ious = [], []
        for one in dialogue(self.model, image, target, self.how, self.scored_clicks):
            losses.append(self.judge(one.logits, target, 0))
            ious.append(iou(one.object, target))
        found = torch.stack(ious, 1)
        told: Any = {"sync_dist": True, "batch_size": len(target), "on_epoch": True}
        if found.isnan().any():
            raise InvalidInput("a mask without an object: expected some pixels of label 1 in each.")
        self.log(f"{stage}_loss", torch.stack(losses).mean(), **told)
        self.log(f"{stage}_iou", found.mean(), prog_bar=True, **told)
        self.log_dict({f"{stage}_iou/click_{k + 1}": one for k, one in enumerate(found.mean(0))}, **told)

    def _conclude(self, stage: str) -> None:
        """All has been logged batch by batch."""

    def predict_step(self, batch: Any, index: int) -> Tensor:
        """Refused: nobody clicks.

        Raises:
            InvalidValue: Always.
        """
        raise InvalidValue("predict: this model answers clicks; smp_feedback.Clicks(model, image) is for a person's.")
