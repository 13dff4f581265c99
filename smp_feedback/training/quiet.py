"""Lightning without its hints."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

HINTS = (
    "does not have many workers",
    "smaller than the logging interval",
    "treespec, LeafSpec",  # lightning 2.6 on torch 2.15, its own affair
    "your dataloader is not resumable",  # PairsModule is
    "in eval mode at the start of training",  # a frozen encoder is
    "Experiment logs directory",
    "exists and is not empty",
    "did not find any unused parameters",
    "but the keys will be ignored",  # a plateau is stepped by FeedbackModule
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
                warnings.filterwarnings("ignore", f"(?s).*{hint}.*")
            yield
    finally:
        logger.setLevel(level)
