"""One training run: seeded, with a progress bar, and nothing written that was not asked for."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import lightning
from lightning.pytorch.callbacks import Callback, TQDMProgressBar

from smp_feedback.checks import check_whole
from smp_feedback.training.data import PairsModule
from smp_feedback.training.module import FeedbackModule


def fit(
    module: FeedbackModule,
    data: PairsModule,
    *,
    steps: int,
    seed: int = 0,
    progress: bool = True,
    accelerator: str = "auto",
) -> FeedbackModule:
    """Train *module* for *steps* optimiser steps; two modules fitted with one seed see the same batches.

    Args:
        module: What to train; its model ends on the CPU, evaluating.
        data: What to train it on.
        steps: Optimiser steps, >= 1.
        seed: Seeds dropout, augmentation and the order of images.
        progress: Whether to show a progress bar.
        accelerator: Lightning's.

    Returns:
        *module*.

    Raises:
        InvalidValue, InvalidType: If *steps* is no whole number >= 1.
    """
    check_whole("steps", steps)
    lightning.seed_everything(seed, verbose=False)
    refresh = 1 if sys.stderr.isatty() else max(1, steps // 10)  # a log file wants few lines
    callbacks: list[Callback] = [TQDMProgressBar(refresh_rate=refresh, leave=True)] if progress else []
    with quiet():
        trainer = lightning.Trainer(
            max_steps=steps,
            accelerator=accelerator,
            devices=1,
            limit_val_batches=0 if data.val is None else 1.0,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=progress,
        )
        trainer.fit(module, data)
    module.cpu().eval()
    return module


HINTS = (
    "does not have many workers",
    "smaller than the logging interval",
    "treespec, LeafSpec",  # lightning 2.6 on torch 2.15, its own affair
)


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's hints about hardware, workers and validation, which would tear the progress bar."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for hint in HINTS:
                warnings.filterwarnings("ignore", f".*{hint}.*")
            yield
    finally:
        logger.setLevel(level)
