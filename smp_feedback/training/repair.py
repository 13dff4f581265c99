"""A Lightning module that teaches the net of a repair loop to mend masks: those of the base, and broken ones."""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from smp_feedback.checks import check_number
from smp_feedback.data.batch import indices_of
from smp_feedback.data.corruption.broken_masks import as_softened, broken_mask
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.evaluation.score_loop import check_classes
from smp_feedback.loops.repair.model import RepairModel
from smp_feedback.loops.repair.net import Mender, begun_from
from smp_feedback.ops.maps import size_of
from smp_feedback.ops.reading import SEGMENTATION
from smp_feedback.training.by_hand import looked_through
from smp_feedback.training.cross_fitting import CrossFitted
from smp_feedback.training.module import FeedbackModule
from smp_feedback.training.sampling import MASKS, derived
from smp_feedback.training.scoring_module import Batch
from smp_feedback.training.state_pool import Kept, StatePool, stacked
from smp_feedback.training.unrolling import LookPass, Span

CERTAIN = (0.7, 1.0)  # how sure a broken mask pretends to be, drawn for each
OTHERWISE = {"segments": 1, "backward": "together", "progressive": None}  # ways of going on that are not these
POOL = "repair_pool"  # what a checkpoint keeps it as


class Taught(NamedTuple):
    """What is looked through: the net, and what judges its looks."""

    judge: Any
    opened: Mender


class RepairModule(FeedbackModule):
    """Trains the net of *model*, by the recipe for any number of looks, on masks that are wrong; scores as ever.

    A batch's masks are the base's own answers, or those of models that did not learn from these images (*fitted*), and
    in the share *broken* the truth, broken (:func:`smp_feedback.data.corruption.broken_masks.broken_mask`). The net
    looks at image and mask as often as is drawn, without gradient and then with it, and the loss is that of the last
    look; a share of the batch goes on from a state of an earlier step (:class:`StatePool`). The base is neither trained
    nor moved. ``val_miou`` is the last look's of the whole model, ``val_miou/look_1`` the first's.

    Args:
        model: With a repair loop.
        classes: Number of classes, that of the base; 2 for a base of one class.
        ignore_index: Label that is neither trained on nor scored; None scores all.
        fitted: Who answers for the training images in place of the base, see :func:`cross_fit`; None is the base,
            which has learned from them and is more often right than it will be.
        broken: Share of the masks that are broken truth, in [0, 1].
        pool: Slots for states, >= the images of a step; 0 is none. A checkpoint holds them: image, mask and state, some
            7 MB a slot at 256 x 256 px.
        pooled: Share of a batch, in [0, 1), that goes on from the pool, once its slots are filled.
        steps, free_steps: Looks with gradient, and without before them; a number or ``[low, high]``, of which one is
            drawn for each batch.
        ema: Decay of the average of the weights, which is scored and kept; None keeps the last.
        lr: Peak learning rate of the default AdamW.
        **training: As `FeedbackModule` takes them: ``loss``, ``loss_arguments``, ``class_weights``, ``supervise``,
            ``weight_decay``, ``optimizer``, ``schedule``.

    Raises:
        InvalidType, InvalidValue: At birth, naming the argument.

    >>> import smp_feedback as smpf
    >>> model = smpf.create("PlainConv", classes=2, feedback=smpf.Repair(steps=2))
    >>> module = RepairModule(model, classes=2, steps=2, free_steps=1)
    >>> module.loss_of((torch.rand(2, 3, 16, 16), torch.zeros(2, 16, 16).long())).shape
    torch.Size([])
    """

    model: RepairModel

    def __init__(
        self,
        model: RepairModel,
        *,
        classes: int,
        ignore_index: int | None = None,
        fitted: CrossFitted | None = None,
        broken: float = 0.25,
        pool: int = 16,
        pooled: float = 0.5,
        steps: Span = [4, 8],  # noqa: B006  read, never written
        free_steps: Span = [0, 24],  # noqa: B006
        ema: float | None = 0.99,
        lr: float = 3e-3,
        **training: Any,
    ) -> None:
        if not isinstance(model, RepairModel):
            raise InvalidType(
                f"model is a {type(model).__name__}: expected one with a repair loop (feedback='repair')."
            )
        check_classes(model, max(2, classes))
        for name, share in {"broken": broken, "pooled": pooled}.items():
            check_number(name, share, least=0)
            if share > 1 or (name == "pooled" and share == 1):
                raise InvalidValue(
                    f"{name}={share!r}: expected a share, up to 1; of pooled below, for some begin anew."
                )
        for name, usual in OTHERWISE.items():
            if training.get(name, usual) != usual:
                raise InvalidValue(f"{name}={training[name]!r}: a state goes on through the pool here; leave it out.")
        if (task := training.pop("task", SEGMENTATION)) != SEGMENTATION:
            raise InvalidValue(f"task={task!r}: masks of one class a pixel are mended; leave it out.")
        super().__init__(
            model,
            classes=classes,
            ignore_index=ignore_index,
            task=SEGMENTATION,
            steps=steps,
            free_steps=free_steps,
            ema=ema,
            lr=lr,
            **training,
        )
        self.fitted, self.broken, self.pooled = fitted, broken, pooled
        self.pool = StatePool(pool)

    def shown(self, image: Tensor, target: Tensor, places: Tensor | None, draw: Random) -> Tensor:
        """What the net reads (B, C + classes, H, W): *image*, and a mask that is wrong as masks are.

        Args:
            image: (B, C, H, W).
            target: Labels (B, H, W).
            places: Places in the training images (B,), where models were fitted for them.
            draw: Says which masks are broken, and how.

        Raises:
            InvalidInput: If nobody says which images these are, and somebody was fitted for each.
        """
        if self.fitted is None:
            chances = self.model.chances(image)
        elif places is None:
            raise InvalidInput("a batch of (image, target): expected (image, target, index), as PairsModule makes it.")
        else:
            chances = self.fitted.chances(image, places)
        rows = [row for row in range(len(image)) if draw.random() < self.broken]
        for row, labels in zip(rows, target[rows].cpu() if rows else (), strict=True):
            generator = torch.Generator().manual_seed(draw.getrandbits(63))
            labels = broken_mask(labels, generator, ignore_index=self.ignore_index)
            wrong = as_softened(labels, chances.shape[1], draw.uniform(*CERTAIN), self.ignore_index)
            chances[row] = wrong.to(chances)
        return torch.cat([image, chances], 1)

    def loss_of(self, batch: Batch, passes: tuple[LookPass, ...] | None = None) -> Tensor:
        """The loss of one batch, all of which begins anew."""
        image, target = self.pair(batch)
        shown = self.shown(image, target, indices_of(batch), Random(0))
        (looks,) = self.unrolling.passes(0, 0, 0) if passes is None else passes
        return looked_through(Taught(self.judge, self.model.feedback.net), shown, target, looks)[0]

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """One batch's loss; what was reached goes to the pool."""
        batch = self.ready(batch, index)
        image, target = self.pair(batch)
        seed = getattr(cast(Any, self.trainer).datamodule, "seed", 0)
        draw = Random(derived(MASKS, seed, self.current_epoch, index, self.global_rank))
        shown, (looks,) = self.shown(image, target, indices_of(batch), draw), self.drawn(index)
        loss = self._going_on(shown, target, looks, draw)
        self.log("loss", loss.detach(), prog_bar=True)
        return loss

    def _going_on(self, shown: Tensor, target: Tensor, looks: LookPass, draw: Random) -> Tensor:
        net = cast(RepairModel, self.opened).feedback.net
        if not self.pool.size:
            return looked_through(Taught(self.judge, net), shown, target, looks)[0]
        slots = self.pool.slots(len(shown), draw)
        state = shown.new_zeros(len(shown), net.recurrent.dynamics.width, *size_of(shown), dtype=torch.float32)
        rows = self.pool.rows(slots, self.pooled, shown.shape[1:])
        if rows:
            old = stacked(self.pool.take([slots[row] for row in rows]), shown)
            shown, target, state = shown.clone(), target.clone(), state.clone()
            shown[rows], target[rows], state[rows] = old.shown.to(shown), old.target.to(target), old.state
        loss, last = looked_through(Taught(self.judge, net), shown, target, looks, begun_from(net, state))
        reached = last.state.detach()[:, net.classes :]
        self.pool.put(slots, [Kept(*parts) for parts in zip(shown, target, reached, strict=True)])
        return loss

    def check_data(self, data: Any) -> None:
        """As ever; for clips, and for batches larger than the pool.

        Raises:
            InvalidValue: For these, too.
        """
        if getattr(data, "clip", None) is not None:
            raise InvalidValue("clip: masks are mended image by image in training; leave data.clip out.")
        super().check_data(data)
        self.pool.slots(getattr(data, "batch_size", 1) if self.pool.size else 0, Random(0))

    def on_fit_start(self) -> None:
        """As ever; refuse a pool on several processes, whose pools one checkpoint does not hold.

        Raises:
            InvalidValue: There; see :meth:`check_data`.
        """
        super().on_fit_start()
        if self.pool.size and self.trainer.world_size > 1:
            raise InvalidValue(f"pool={self.pool.size} on {self.trainer.world_size} processes: give pool=0, or one.")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Beside the weights, the pool."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[POOL] = self.pool.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Beside the weights, the pool; of a run that goes on."""
        super().on_load_checkpoint(checkpoint)
        if POOL in checkpoint:
            self.pool.load_state_dict(checkpoint[POOL])
