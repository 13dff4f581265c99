"""A Lightning module that teaches a restoration loop: R to restore images, and M to segment what R has restored."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim import Adam

from smp_feedback.checks import check_bool, check_number, check_whole
from smp_feedback.data.batch import is_clips
from smp_feedback.data.triplets import check_triplets, labelled
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.evaluation.image_quality import l1, psnr
from smp_feedback.evaluation.score_loop import check_classes
from smp_feedback.loops.restoration.model import RestorationModel
from smp_feedback.training.build_loss import build_loss
from smp_feedback.training.class_weights import BALANCED
from smp_feedback.training.clip_loss import has_labels
from smp_feedback.training.clips_told import frames_of
from smp_feedback.training.film_parts import ongoing_in
from smp_feedback.training.metric import LookMetric
from smp_feedback.training.processes import average_gradients, begins_step, ends_step, unreduced
from smp_feedback.training.restoration_films import score_films
from smp_feedback.training.restoration_step import end_to_end, step_by_step
from smp_feedback.training.scoring_module import Batch, ScoringModule, check_answer
from smp_feedback.training.step_loss import StepLoss


class RestorationModule(ScoringModule):
    """Trains the two networks of *model*, and scores every pass: ``val_miou`` is the last one's.

    Batches are (distorted, clean, target) or (distorted, clean, target, index), as :class:`TripletsModule` makes them:
    images (B, C, H, W) and masks (B, H, W). As published (*Spatial Feedback Learning to Improve Semantic Segmentation
    in Hot Weather*, BMVC 2020), a batch runs so: the first restoration and its segmentation are in no loss. In each of
    the T steps R hears what changed, restores, is held to the clean image, and takes an optimiser step at once; M
    segments what was restored, and its loss is added. After the last step M takes one optimiser step. No gradient
    crosses from one step to another, or between R and M, so that memory does not grow with T.

    Of clips (B, T, C, H, W) with masks (B, T, H, W), which a model takes that carries (``Restoration(carry=...)``),
    each frame is one such step, the first one, too: one look a frame. Where a running mean is carried, R is held to the
    clean frame in that mean besides. Whole films are scored then, one look a frame: ``val_miou`` is that of all frames.

    The gradient of every optimiser step is clipped as the trainer is told, and the mean over all processes. Gradients
    of several batches add up end to end alone, as R takes several steps a batch otherwise. Precision is full, or
    ``bf16-mixed``: of two optimisers that share one scale, one would step with the gradients of another scale.

    Args:
        model: With a restoration loop.
        classes: Number of classes, that of the base; 2 for a base of one class.
        ignore_index: Label that is neither trained on nor scored; None scores all.
        loss: M's: a name, see :func:`smp_feedback.training.build_loss.build_loss`, or a module; summed over the steps.
        gammas: Focus of the steps' losses, for a loss that has one, the last for every later step; None is the loss's
            own, 0, 0.1, 0.2 as published.
        step_weights: Of the steps' losses; None is 1 for all.
        class_weights: One number a class, for a loss that weighs them. ``balanced``: counted in the training data, see
            :meth:`StepLoss.balance`, where the loss is ``class_balanced_iterative_focal``. None weighs all alike.
        restoration_loss: R's: a name as *loss*, such as ``MSELoss``, or a module, called with two images.
        lr_restorer: Learning rate of R's Adam.
        halve_every: Epochs after which that is halved.
        lr: Learning rate of M's Adam.
        weight_decay: M's, added to the gradient (Adam's, not AdamW's).
        decay: M's learning rate of an epoch over that of the one before, > 0.
        end_to_end: One backward pass through the whole loop in place of the cut: R learns from M's loss, too, and
            gradients flow through time as the loop's config says. Both take one optimiser step a batch.
        segmentation_weight: Of M's loss, beside R's, in that sum.
        truncate: Of clips and end to end, the frames after which the loss goes backward and what is carried is
            detached; None lets gradients through the whole clip.

    Raises:
        InvalidType, InvalidValue, UnknownName, UnknownKeyword: At birth, naming the argument.

    >>> import torch
    >>> import smp_feedback as smpf
    >>> loop = smpf.Restoration(depth=2, filters=4)
    >>> module = RestorationModule(smpf.create("Unet", "resnet18", None, classes=3, feedback=loop), classes=3)
    >>> module(torch.rand(1, 3, 64, 64)).shape
    torch.Size([1, 3, 64, 64])
    """

    by_hand = "RestorationModule"
    clips: ClassVar[bool] = True
    unscaled: ClassVar[tuple[str, ...]] = ("16-mixed", "16-true")
    model: RestorationModel
    scores: LookMetric

    def __init__(
        self,
        model: RestorationModel,
        *,
        classes: int,
        ignore_index: int | None = None,
        loss: str | nn.Module = "class_balanced_iterative_focal",
        gammas: list[float] | None = None,
        step_weights: list[float] | None = None,
        class_weights: str | list[float] | None = BALANCED,
        restoration_loss: str | nn.Module = "L1Loss",
        lr_restorer: float = 2e-4,
        halve_every: int = 30,
        lr: float = 5e-4,
        weight_decay: float = 2e-4,
        decay: float = 0.99,
        end_to_end: bool = False,
        segmentation_weight: float = 1.0,
        truncate: int | None = 1,
    ) -> None:
        super().__init__()
        if not isinstance(model, RestorationModel):
            wanted = "expected one with a restoration loop (feedback='restoration')"
            raise InvalidType(f"model is a {type(model).__name__}: {wanted}.")
        check_classes(model, classes)
        check_whole("halve_every", halve_every)
        check_bool("end_to_end", end_to_end)
        for name, rate in {"lr_restorer": lr_restorer, "lr": lr, "decay": decay}.items():
            check_number(name, rate, above=0)
        check_number("weight_decay", weight_decay, least=0)
        check_number("segmentation_weight", segmentation_weight, above=0)
        _check_truncate(truncate, end_to_end)
        more = ", as R takes a step in each look: give a larger batch_size, or end_to_end=True"
        self.several_steps = None if end_to_end else more
        self.model, self.classes, self.ignore_index = model, max(2, classes), ignore_index
        about = {"gammas": gammas, "step_weights": step_weights, "class_weights": class_weights}
        self.loss = StepLoss(loss, classes=self.classes, ignore_index=ignore_index, **cast("dict[str, Any]", about))
        if not isinstance(restoration_loss, (str, nn.Module)):
            raise InvalidType(f"restoration_loss={restoration_loss!r}: expected a name, or a torch.nn.Module.")
        self.restoration_loss = build_loss(restoration_loss)
        self.lr_restorer, self.halve_every = lr_restorer, halve_every
        self.lr, self.weight_decay, self.decay = lr, weight_decay, decay
        self.end_to_end, self.segmentation_weight, self.truncate = end_to_end, segmentation_weight, truncate
        config = model.feedback.config
        self.passes = config.steps + 1 if config.weight else 1
        self.scores = self._metric(self.passes)
        self.scored = None

    def configure_callbacks(self) -> list[Callback]:
        """None; but Lightning looks now for who steps by hand, and would refuse them to clip and to accumulate."""
        self.automatic_optimization = True  # until setup
        return []

    def setup(self, stage: str) -> None:
        """See that there are clips for what carries alone, and count the classes if the loss waits for that."""
        self.automatic_optimization = False
        data = getattr(cast(Any, self.trainer), "datamodule", None)
        self.check_frames(getattr(data, "clip", None))
        if stage != "fit" or not self.loss.waits:
            return
        if data is None:
            raise InvalidValue("class_weights='balanced' counts the pixels of a TripletsModule: train with one.")
        self.loss.balance(labelled(frames_of(data.train)))

    def check_frames(self, clip: int | None) -> None:
        """This can be trained on clips of so many frames, or on images, if that is None.

        Raises:
            InvalidValue: For clips of a loop that begins anew with every frame; for ``truncate`` of images.
        """
        if clip is not None:
            self.model.check_carries("clips (data.clip):")
        elif self.truncate != 1:
            raise InvalidValue(f"truncate={self.truncate} is for clips: say data.clip, too.")

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """All optimiser steps of one batch; returns the sum of the losses of R and M, each summed over the steps."""
        restorer, segmenter = cast(Any, self.optimizers())
        if begins_step(self.trainer, index):
            restorer.zero_grad()
            segmenter.zero_grad()
        triplets = check_triplets(self.fed(batch, 2))
        how = triplets, self.restoration_loss, self.loss, self._send_back
        labels = has_labels(triplets[2], self.ignore_index) if is_clips(triplets[0]) else None
        with unreduced(self.trainer):
            if self.end_to_end:
                lost = end_to_end(self.model, *how, self.segmentation_weight, self.truncate, labels)
            else:
                lost = step_by_step(self.model, *how, functools.partial(self._update, restorer.optimizer), labels)
        if ends_step(self.trainer, index):
            if self.end_to_end:
                self._update(restorer.optimizer)
            average_gradients(self.trainer, segmenter.optimizer)
            segmenter.step()
        self.log("loss", lost.segmenting, prog_bar=True)
        self.log("loss_restorer", lost.restoring, prog_bar=True)
        return lost.restoring + lost.segmenting

    def _send_back(self, loss: Tensor) -> None:
        self.manual_backward(loss / self.trainer.accumulate_grad_batches)

    def _update(self, optimizer: Any) -> None:
        """A step of R's, past Lightning: what counts as a step of the run is a batch."""
        average_gradients(self.trainer, optimizer)
        self.clip_gradients(optimizer)
        optimizer.step()
        optimizer.zero_grad()

    def on_train_epoch_start(self) -> None:
        """The learning rates of this epoch: functions of its number alone, so that a resumed run needs no other."""
        halved = 0.5 ** (self.current_epoch // self.halve_every)
        rates = self.lr_restorer * halved, self.lr * self.decay**self.current_epoch
        for optimizer, rate in zip(cast(Sequence[Any], self.optimizers()), rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate

    def validation_step(self, batch: Batch, index: int) -> None:
        """Score every pass on one batch; of films every look, one a frame."""
        distorted, clean, target = check_triplets(self.fed(batch, 2))
        undo = self._feeds.config(self.trainer).undo  # how close images are is told in [0, 1]
        if is_clips(distorted):
            scores, films = self._counting(1), (distorted, clean, target)
            found, counts = score_films(
                self.model, films, ongoing_in(batch), undo, scores, self.loss, self.ignore_index
            )
            if self.trainer.world_size > 1:  # all processes log the same, also one whose frames have no labels
                found, counts = {"val_loss": distorted.new_zeros(())} | found, {"val_loss": 0} | counts
            for name, value in found.items():
                self.log(name, value, sync_dist=True, batch_size=counts[name])
            return
        self._counting(self.passes)
        for t, passed in enumerate(self.model.passes(distorted)):
            check_answer(passed.logits, target)
            self.scores.update(t, passed.logits, target)
        steps = self.model.feedback.config.steps
        found = {
            "val_loss": self.loss(passed.logits, target, steps - 1),
            "val_l1": l1(undo(passed.restored), undo(clean)).mean(),
            "val_psnr": psnr(undo(passed.restored), undo(clean)).mean(),
        }
        self.log_dict(found, sync_dist=True, batch_size=len(target))

    def _counting(self, passes: int) -> LookMetric:
        """The scores of so many passes; begun anew, where they were those of others."""
        if len(self.scores.images) != passes:
            with torch.inference_mode(False):  # else only what validates could count with it
                self.scores = self._metric(passes).to(self.device)
        return self.scores

    def _metric(self, passes: int) -> LookMetric:
        how: dict[str, Any] = {"classes": self.classes, "ignore_index": self.ignore_index}
        return LookMetric("segmentation", steps=passes, **how)

    def on_validation_epoch_end(self) -> None:
        """Log the scores.

        Raises:
            InvalidInput: If there was nothing to score.
        """
        looks = self.conclude(unlabelled=False).looks
        self.log("val_miou", looks[-1], prog_bar=True, sync_dist=True)
        if len(looks) > 1:
            self.log_dict({f"val_miou/pass_{t}": one for t, one in enumerate(looks)}, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """R's Adam and M's; :meth:`on_train_epoch_start` sets their learning rates.

        Raises:
            InvalidValue: If one of the two has nothing to learn.
        """
        restorer = list(self.model.restorer.parameters())
        rs = {id(parameter) for parameter in restorer}
        segmenter = [parameter for parameter in self.model.parameters() if id(parameter) not in rs]
        sides = [[p for p in side if p.requires_grad] for side in (restorer, segmenter)]
        for name, side in zip(("restorer", "base"), sides, strict=True):
            if not side:
                raise InvalidValue(f"no parameter of the {name} requires a gradient: both networks are trained.")
        return [
            Adam(sides[0], lr=self.lr_restorer),
            Adam(sides[1], lr=self.lr, weight_decay=self.weight_decay),
        ]


def _check_truncate(truncate: int | None, end_to_end: bool) -> None:
    if truncate is not None:
        check_whole("truncate", truncate, "; None never")
    if truncate != 1 and not end_to_end:
        raise InvalidValue(
            f"truncate={truncate} with end_to_end=False: step by step no gradient crosses a frame; leave it out, or "
            "say end_to_end=True."
        )
