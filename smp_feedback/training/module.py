"""One Lightning module for any model that answers an image with logits, looping or not."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from smp_feedback.checks import check_choice, check_number, check_whole
from smp_feedback.data.batch import image_of, is_clips
from smp_feedback.dynamics.base import Dynamics
from smp_feedback.dynamics.gradient_probe import check_lets_through
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.models.builder import check_reads_logits
from smp_feedback.ops.reading import CLASSIFICATION, MULTILABEL, SEGMENTATION
from smp_feedback.surgery.extension import CARRIERS, InParts, carried, looping_in
from smp_feedback.surgery.head import channels_of
from smp_feedback.surgery.step_batchnorm import reset_statistics
from smp_feedback.training.by_hand import in_segments, look_by_look, looked_through
from smp_feedback.training.clip_loss import check_clips, check_sends_back, clip_loss
from smp_feedback.training.cycle import ScheduleCallable, asked_steps, averaging, fit_cycle, make_schedule
from smp_feedback.training.looks_module import LooksModule
from smp_feedback.training.loss_terms import check_reached
from smp_feedback.training.loss_weights import looks_of
from smp_feedback.training.metric import NAMES
from smp_feedback.training.optim import OptimizerCallable, check_feedback_lr, make_optimizer
from smp_feedback.training.scoring_module import PLATEAU, Batch
from smp_feedback.training.unrolling import LookPass, unrolling_of, warn_of_untrained_statistics
from smp_feedback.training.weight_average import AveragedWeights, check_decay


class FeedbackModule(LooksModule):
    """Trains *model*, and scores every look: ``val_miou`` is the last look's, ``val_miou/look_1`` the first's.

    Batches are (image, target) or (image, target, index), or dictionaries of ``image`` and ``mask``, ``label`` or
    ``target``: images (B, C, H, W), and masks (B, H, W) or (B, 1, H, W) for segmentation, (B, classes, H, W) of 0 and 1
    for multilabel, or labels (B,) for classification, scored by ``val_accuracy``. Targets are of any type that holds
    whole numbers. A batch of void alone has the loss 0.

    Clips (B, T, C, H, W), with a target for each frame, are looked at once a frame, the state going on from frame to
    frame (dynamics that carry); the loss is the mean over the frames that have a label other than *ignore_index*. A
    model that does not loop sees all frames as one batch. Films are scored so, too, whole, by one ``val_miou``.

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
        supervise: Which looks carry the loss: ``last``, ``mean``, ``increasing``, ``drawn`` (one, for each batch
            another) or T numbers, see :func:`smp_feedback.training.loss_weights.step_weights`; a feed-forward model has
            one look.
        steps: T, the looks that learn: a number, or ``[low, high]``, of which one is drawn for each batch; None is the
            loop's own. Scored are always the loop's own looks.
        free_steps: Looks without gradient before those; a number, or ``[low, high]``. The state that the others begin
            with is one that a longer run meets. Of clips, frames without loss at the beginning.
        progressive: Share alpha of the progressive loss (Bansal et al., arXiv 2202.05826, section 3.2), which is added
            to 1 - alpha of the usual: that of the last of k looks, which follow n without gradient, n drawn from
            0 ... T - 1, k from 1 ... T - n. None is none.
        segments: Optimiser steps for each batch, each over looks that go on from the state, without its gradient, that
            the one before left (deep supervision, arXiv 2510.04871); for dynamics that carry. A run counts steps.
        backward: ``together`` is one backward pass over the weighted sum; ``per_step`` sends each look's loss back
            before the next look: the memory of one look for any T, no gradient from one look to the one before.
        truncate: Frames of a clip after which the state is detached (truncated back-propagation through time), and
            their loss sent back: the memory of so many frames for clips of any length. None lets gradients through the
            whole clip. The gradient goes through any optimiser, precision and DDP as that of one backward pass.
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

    averaged_by_lightning: ClassVar[bool] = True
    clips: ClassVar[bool] = True
    scales: ClassVar[bool] = True

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
        steps: int | list[int] | None = None,
        free_steps: int | list[int] = 0,
        progressive: float | None = None,
        segments: int = 1,
        truncate: int | None = 1,
        lr: float = 1e-3,
        weight_decay: float = 1e-2,
        optimizer: OptimizerCallable | None = None,
        schedule: ScheduleCallable | None = None,
        ema: float | None = None,
        feedback_lr: float | None = None,
    ) -> None:
        super().__init__()
        if isinstance(model, CARRIERS):  # looks would be asked of the model inside, past what carries it
            raise InvalidType(
                f"model is a {type(model).__name__}: expected the model in it; the trainer puts that on its devices "
                "(devices, strategy), and ema averages it."
            )
        if isinstance(model, InParts):
            raise InvalidType(
                f"model is a {type(model).__name__}, which is not trained: expected the model in it; to score and "
                "predict in windows, say module.model = smp_feedback.tiled(module.model) after that."
            )
        check_whole("classes", classes)
        if task is not None:
            check_choice("task", task, tuple(NAMES))
        check_choice("backward", backward, ("together", "per_step"))
        check_number("lr", lr, above=0)
        check_number("weight_decay", weight_decay, least=0)
        check_decay(ema)
        check_reads_logits(model, "training")
        check_feedback_lr(looping_in(model), feedback_lr)
        self.feedback_lr = feedback_lr
        self.model, self.ignore_index, self.ema = model, ignore_index, ema
        self.classes = max(classes, 1 if task == MULTILABEL else 2)
        self.lr, self.weight_decay, self.optimizer, self.schedule = lr, weight_decay, optimizer, schedule
        self.named, self.arguments, self.task = loss if isinstance(loss, str) else None, loss_arguments, task
        if self.named is None:
            self.loss = cast(nn.Module, loss)
        self._weigh(class_weights)
        self._settle(None if task == CLASSIFICATION else channels_of(carried(model)[-1]), task or SEGMENTATION)
        self.steps = looks_of(model)
        asked: dict[str, Any] = {"steps": steps, "free_steps": free_steps, "progressive": progressive}
        asked |= {"segments": segments, "truncate": truncate}
        self.unrolling = unrolling_of(self.opened, supervise=supervise, backward=backward, **asked)
        if isinstance(self.opened, FeedbackModel) and backward == "per_step":
            self.by_hand, self.several_steps = "backward='per_step'", None
        elif segments > 1:
            self.by_hand, self.several_steps = f"segments={segments}", ", as each segment takes a step"
        self.scores = None if task is None else self._metric(task, self.steps)
        self.scored = None

    def loss_of(self, batch: Batch, passes: tuple[LookPass, ...] | None = None) -> Tensor:
        """The loss of one batch, weighted over the looks, ready for one backward pass; *passes* are what is drawn."""
        image, target = self.pair(batch)
        drawn = self.unrolling.passes(0, 0, 0) if passes is None else passes
        if is_clips(image):
            return self._loss_of_clips(image, target, drawn[0].free)
        return torch.stack([self._loss_of_pass(image, target, looks) for looks in drawn]).sum()

    def _loss_of_clips(self, clip: Tensor, target: Tensor, free: int) -> Tensor:
        self.check_frames(clip.shape[1])
        if isinstance(self.opened, FeedbackModel):
            return clip_loss(self, clip, target, free)
        return self.judge(self(clip.flatten(0, 1)), target.flatten(0, 1), 0)

    def check_frames(self, clip: int | None) -> None:
        """This can be trained on clips of so many frames, or on images, if that is None.

        Raises:
            InvalidValue: For what is said of an image's looks where there are clips, and the other way round; for a
                loop that begins anew with each frame.
        """
        if clip is not None:
            check_clips(self.opened, self.unrolling, self.by_hand, clip)
        elif (truncate := self.unrolling.truncate) != 1:
            raise InvalidValue(f"truncate={truncate} is for clips, and an image has one frame: say data.clip, too.")

    def _loss_of_pass(self, image: Tensor, target: Tensor, looks: LookPass) -> Tensor:
        if looks.only_last:
            logits = self(image, **looks.call)
            return looks.weights[-1] * self.judge(logits, target, len(looks.weights) - 1)
        return looked_through(self, image, target, looks)[0]

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """One batch's loss; stepped by hand, all its optimiser steps."""
        batch = self.ready(batch, index)
        if self.by_hand is None or is_clips(image_of(batch)):  # which then are refused
            loss = self.loss_of(batch, self.drawn(index))
        else:
            step = look_by_look if self.unrolling.segments == 1 else in_segments
            loss = step(self, *self.pair(batch), index)
        self.log("loss", loss.detach(), prog_bar=True)
        return loss

    def drawn(self, batch: int, segment: int = 0) -> tuple[LookPass, ...]:
        """What is drawn for *batch* of this epoch: with the seed of the data module, the same in all processes."""
        seed = getattr(cast(Any, self.trainer).datamodule, "seed", 0)
        return self.unrolling.passes(seed, self.current_epoch, batch, segment)

    def on_fit_start(self) -> None:
        """Refuse what cannot learn, and what stepping by hand cannot do; warn of BatchNorm that stays untrained.

        Raises:
            InvalidValue: For a model in windows, a term of a mixture that no look reaches, a score loop of no update,
                or dynamics that cut the gradient; see :meth:`ScoringModule.on_fit_start`.
        """
        if isinstance(self.opened, InParts):
            raise InvalidValue(f"A {type(self.opened).__name__} is not trained: train the model in it, on crops.")
        if isinstance(self.opened, FeedbackModel) and getattr(self.opened.loop_config, "steps", 1) == 0:
            raise InvalidValue("steps=0: the base answers, and nothing of the loop learns; give steps >= 1.")
        for part in self.opened.modules():
            if isinstance(part, Dynamics) and part.brought:
                check_lets_through(part)
        data: Any = cast(Any, self.trainer).datamodule
        clip = getattr(data, "clip", None)
        self.check_data(data)
        if clip is not None and isinstance(self.opened, FeedbackModel):
            check_sends_back(self.trainer, self.unrolling, self.unscaled)
        if self.trainer.is_global_zero:
            furthest = self.unrolling.furthest if clip is None else clip
            warn_of_untrained_statistics(self.opened, furthest, clips=clip is not None)
        super().on_fit_start()

    def check_data(self, data: Any) -> None:
        """Refuse what cannot be learnt from *data*, a data module, before anything is: frames, and looks of a mixture.

        Raises:
            InvalidValue: As :meth:`check_frames`; for a term that waits for a look which training does not come to.
        """
        clip = getattr(data, "clip", None)
        self.check_frames(clip)
        judged = self.unrolling.judged if clip is None else clip
        check_reached(self.loss, 1 if self.answers_once(clip) else judged)

    def answers_once(self, clip: int | None) -> bool:
        """Whether every answer is judged as a first look: of a *clip*'s frames, those of a model that does not loop."""
        return clip is not None and not isinstance(self.opened, FeedbackModel)

    def on_train_start(self) -> None:
        """One cycle is as long as the run; refuse to go on with one in a run of another length."""
        if self.schedule is None:
            fit_cycle(self.trainer, self.unrolling.segments)

    def on_train_epoch_start(self) -> None:
        """Where stochastic weight averaging has begun BatchNorm's statistics anew, begin those of later steps, too."""
        if any(self.current_epoch == one.swa_end + 1 for one in averaging(self.trainer)):
            reset_statistics(self.model)

    def configure_callbacks(self) -> list[Callback]:
        """The moving average, if there is one."""
        self.automatic_optimization = True  # until setup: Lightning looks now, and clips for nobody who steps by hand
        return [] if self.ema is None else [AveragedWeights(self.ema)]

    def setup(self, stage: str) -> None:
        """Weigh the classes, see :class:`JudgingModule`; who steps by hand does so from now on."""
        super().setup(stage)
        self.automatic_optimization = self.by_hand is None

    def configure_optimizers(self) -> Any:
        """See :mod:`smp_feedback.training.optim`."""
        optimizer = make_optimizer(self, self.optimizer, self.lr, self.weight_decay, self.feedback_lr)
        total = asked_steps(self.trainer, self.unrolling.segments)
        return {"optimizer": optimizer, "lr_scheduler": make_schedule(optimizer, self.schedule, total, PLATEAU)}
