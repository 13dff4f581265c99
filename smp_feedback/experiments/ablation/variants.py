"""A row's model and how it is trained: all begin from the same weights of M, and M learns in the same way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from smp_feedback.config.restoration import Restoration
from smp_feedback.experiments.ablation.rows import ROWS, AblationRow
from smp_feedback.experiments.ablation.settings import AblationSettings
from smp_feedback.training.build import build_model
from smp_feedback.training.datamodule import PairsModule
from smp_feedback.training.facts import Facts
from smp_feedback.training.module import FeedbackModule
from smp_feedback.training.restoration import RestorationModule
from smp_feedback.training.step_loss import StepLoss

UNHEARD = 1e-30  # a weight of 0 would be restoration alone: one step
CROSS_ENTROPY = "iterative_focal"  # of focus 0: the mean over an image, then over the batch, in every row
BALANCED = "class_balanced_iterative_focal"


def make_model(row: str, settings: AblationSettings, facts: Facts, seed: int) -> nn.Module:
    """The model of *row*: M, or M behind R; M's weights are those that *seed* draws for every row.

    Args:
        row: A name of :data:`ROWS`.
        settings: The ablation.
        facts: What to know of its data.
        seed: Of the weights.
    """
    torch.manual_seed(seed)
    return build_model(
        facts,
        loop_of(ROWS[row], settings.config),
        arch=settings.arch,
        encoder=settings.encoder,
        encoder_weights=settings.encoder_weights,
        base_norm=settings.base_norm,
        arguments=settings.arch_options,
    )


def loop_of(row: AblationRow, config: Restoration) -> Restoration | None:
    """The loop of *row*; None of M alone.

    >>> loop_of(ROWS["restoration"], Restoration(steps=3)).steps
    1
    """
    if not row.restored:
        return None
    if not row.fed_back:
        return dataclasses.replace(config, steps=1, weight=0.0)
    return config if row.heard else dataclasses.replace(config, weight=UNHEARD)


def make_module(
    row: str, settings: AblationSettings, facts: Facts, model: Any, data: PairsModule
) -> FeedbackModule | RestorationModule:
    """How *model* learns: M by the same Adam in every row, R by its own.

    Args:
        row: A name of :data:`ROWS`.
        settings: The ablation.
        facts: What to know of its data.
        model: Of :func:`make_model`.
        data: Of :func:`~smp_feedback.experiments.ablation.runs.training_data`: the learning rates fall after each of
            its epochs, and classes are weighed as they occur in it.
    """
    told: dict[str, Any] = {"classes": len(facts.classes), "ignore_index": facts.ignore_index}
    of = ROWS[row]
    gammas = settings.gammas if of.focal else [0.0]
    if not of.restored:
        weights = {"class_weights": counted(facts, data)} if of.balanced else {}
        told |= {"loss": BALANCED if of.balanced else CROSS_ENTROPY, "loss_arguments": {"gammas": gammas, **weights}}
        batches = len(data.train or ()) // settings.batch_size
        return FeedbackModule(model, optimizer=adam(settings), schedule=falling(settings, batches), **told)
    return RestorationModule(
        model,
        loss=BALANCED if of.balanced else CROSS_ENTROPY,
        gammas=gammas,
        class_weights="balanced" if of.balanced else None,
        lr_restorer=settings.lr_restorer,
        halve_every=settings.halve_every,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        decay=settings.decay,
        **told,
    )


def counted(facts: Facts, data: PairsModule) -> list[float]:
    """The weights of the classes in distorted pairs, as the restoration loop's training finds them in its triplets."""
    loss = StepLoss(BALANCED, classes=len(facts.classes), ignore_index=facts.ignore_index)
    return loss.balance(cast(Any, data.train).dataset)


def adam(settings: AblationSettings) -> Callable[[Iterable[Any]], Optimizer]:
    """M's Adam, as the restoration loop's training has it: one group, in which all decays."""

    def make(groups: Iterable[Any]) -> Optimizer:
        every = [parameter for group in groups for parameter in group["params"]]
        return Adam(every, lr=settings.lr, weight_decay=settings.weight_decay)

    return make


def falling(settings: AblationSettings, batches: int) -> Callable[[Optimizer], LambdaLR]:
    """M's learning rate, stepped batch by batch and falling once an epoch."""
    return lambda optimizer: LambdaLR(optimizer, lambda step: settings.decay ** (step // batches))
