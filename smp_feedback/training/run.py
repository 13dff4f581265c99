"""One training run: seeded, with a progress bar, and nothing written that was not asked for."""

from __future__ import annotations

import warnings
from collections.abc import Sized
from typing import cast

import lightning
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from smp_feedback.config import check_whole
from smp_feedback.training.module import FeedbackModule

Pairs = Dataset[tuple[Tensor, Tensor]]


def fit(
    module: FeedbackModule,
    data: Pairs,
    *,
    steps: int,
    batch_size: int = 8,
    seed: int = 0,
    workers: int = 0,
    progress: bool = True,
    accelerator: str = "auto",
) -> FeedbackModule:
    """Train *module* for *steps* optimiser steps; two modules fitted with one seed see the same batches.

    Args:
        module: What to train; its model ends on the CPU, evaluating.
        data: Pairs of image (C, H, W) and target (H, W).
        steps: Optimiser steps, >= 1.
        batch_size: Images per step, drawn without replacement within each pass over the data.
        seed: Seeds weights made later, dropout and the order of images.
        workers: Processes that load data.
        progress: Whether to show a progress bar.
        accelerator: Lightning's.

    Returns:
        *module*.

    Raises:
        InvalidValue, InvalidType: If a count is below 1.
    """
    for name, value in (("steps", steps), ("batch_size", batch_size)):
        check_whole(name, value)
    lightning.seed_everything(seed, verbose=False)
    sampler = RandomSampler(cast(Sized, data), num_samples=steps * batch_size)
    loader = DataLoader(data, batch_size, sampler=sampler, num_workers=workers, drop_last=True)
    callbacks: list[Callback] = [TQDMProgressBar(leave=True)] if progress else []
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator=accelerator,
        devices=1,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        trainer.fit(module, loader)
    module.cpu().eval()
    return module
