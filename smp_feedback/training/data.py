"""One Lightning data module for any pair of datasets."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any, cast

import lightning
from torch.utils.data import DataLoader

from smp_feedback.checks import check_whole
from smp_feedback.data import Sample
from smp_feedback.errors import InvalidValue

Pairs = Any  # a map-style Dataset[Sample], or any list of samples


class PairsModule(lightning.LightningDataModule):
    """Batches of (image, target) from map-style datasets.

    Args:
        train: Training pairs, shuffled anew in each pass.
        val: Validation pairs, in order; None trains without validation.
        batch_size: Images per step; a last, smaller batch is dropped in training (BatchNorm).
        workers: Processes that load data.

    Raises:
        InvalidValue: If there are fewer training pairs than make one batch.

    >>> from smp_feedback.data import Shapes
    >>> images, targets = next(iter(PairsModule(Shapes(8), batch_size=4).train_dataloader()))
    >>> images.shape, targets.shape
    (torch.Size([4, 3, 64, 64]), torch.Size([4, 64, 64]))
    """

    def __init__(self, train: Pairs, val: Pairs | None = None, *, batch_size: int = 8, workers: int = 0) -> None:
        super().__init__()
        check_whole("batch_size", batch_size)
        if len(cast(Sized, train)) < batch_size:
            raise InvalidValue(f"batch_size={batch_size}: expected at most the {len(train)} training images there are.")
        self.train, self.val, self.batch_size, self.workers = train, val, batch_size, workers

    def train_dataloader(self) -> DataLoader[Sample]:
        """Shuffled batches of one size."""
        return DataLoader(self.train, self.batch_size, shuffle=True, drop_last=True, num_workers=self.workers)

    def val_dataloader(self) -> DataLoader[Sample]:
        """All validation pairs, in order."""
        return DataLoader(cast(Pairs, self.val or []), self.batch_size, num_workers=self.workers)
