"""Lightning data modules for any datasets of pairs or triplets, and images that nobody has labelled."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, ClassVar, cast

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from smp_feedback.checks import check_whole
from smp_feedback.config.data import DataConfig
from smp_feedback.data.augment import resize
from smp_feedback.data.batch import IMAGE
from smp_feedback.data.batching import Together
from smp_feedback.data.feeding import feeding
from smp_feedback.data.folders.finding import find_images, warn_left_out
from smp_feedback.data.images.reader import ImageReader, as_unit
from smp_feedback.data.inspection.alike import check_alike, unlike
from smp_feedback.data.items import checked_int, height_width, in_unit
from smp_feedback.errors import InvalidInput, InvalidValue
from smp_feedback.training.checkpoints import is_resumed
from smp_feedback.training.sampling import Numbered, Shuffled

Pairs = Any  # a map-style Dataset[Sample], or any list of samples
Batches = DataLoader[tuple[Any, ...]]


class PairsModule(lightning.LightningDataModule):
    """Batches of (image, target, index) from map-style datasets.

    The order of epoch e and all that is drawn for an item (augmentation, fresh noise) are functions of the seed,
    e and the item: the same for every model, every number of workers, and after a run was killed and resumed.

    Args:
        train: Training pairs, shuffled anew in each epoch; None to evaluate alone.
        val: Validation pairs, in order; None trains without validation.
        test: Test pairs, in order; ``predict`` takes these too.
        batch_size: Images per step and process; a last, smaller batch is dropped in training (BatchNorm). Images of
            several sizes are scored one by one. May be set anew, as Lightning's batch-size finder does, to the number
            of training images at most.
        workers: Processes that load data.
        seed: Another seed, another order and other draws.

    Raises:
        InvalidValue: If there are fewer training pairs than make one batch.
        InvalidInput: If training images of several sizes are to make one.

    >>> from smp_feedback.data import Shapes
    >>> images, targets, indices = next(iter(PairsModule(Shapes(8), batch_size=4).train_dataloader()))
    >>> images.shape, targets.shape, indices.shape
    (torch.Size([4, 3, 64, 64]), torch.Size([4, 64, 64]), torch.Size([4]))
    """

    parts: ClassVar[int] = 2
    """What an item has."""

    def __init__(
        self,
        train: Pairs | None = None,
        val: Pairs | None = None,
        *,
        test: Pairs | None = None,
        batch_size: int = 8,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_whole("batch_size", batch_size)
        if train is not None and len(cast(Sized, train)) < batch_size:
            raise InvalidValue(f"batch_size={batch_size}: expected at most the {len(train)} training images there are.")
        if train is not None:
            check_alike(train, batch_size)
        self.train, self.val, self.test, self._batch_size = train, val, test, batch_size
        self.workers, self.seed = checked_int("workers", workers, least=0), checked_int("seed", seed, least=0)
        self._begin = (0, 0)  # epoch, and how many of its batches are over

    @property
    def batch_size(self) -> int:
        """Images per step and process."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, value: int) -> None:
        check_whole("batch_size", value)
        count = value if self.train is None else len(cast(Sized, self.train))
        if value > count:
            warnings.warn(f"batch_size={value}: there are {count} training images, so it is {count}.", stacklevel=2)
        self._batch_size = min(value, count)

    def train_dataloader(self) -> Batches:
        """Shuffled batches of one size."""
        replicas, rank = self._processes()
        if len(self.train or ()) < self.batch_size * replicas:
            count = len(self.train or ())
            raise InvalidValue(
                f"batch_size={self.batch_size} on {replicas} processes: expected at least as many training images, "
                f"there are {count}."
            )
        (epoch, batches), self._begin = self._begin, (0, 0)
        place = {"epoch": epoch, "skip": batches * self.batch_size}
        order = Shuffled(len(cast(Sized, self.train)), self.seed, replicas=replicas, rank=rank, **place)
        return self._loader(self.train, order, self.batch_size, drop_last=True)

    def val_dataloader(self) -> Batches:
        """All validation pairs, in order."""
        return self._in_order(self.val)

    def test_dataloader(self) -> Batches:
        """All test pairs, in order."""
        return self._in_order(self.test)

    def predict_dataloader(self) -> Batches:
        """As :meth:`test_dataloader`."""
        return self._in_order(self.test)

    def state_dict(self) -> dict[str, int]:
        """How far training is, in batches of this epoch, and whose batches they are."""
        return {**self._identity(), **dict(zip(("epoch", "batches"), self._reached(), strict=True))}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Begin where *state_dict* was taken.

        Raises:
            InvalidValue: If other data, another batch size, seed or number of processes would give other batches.
        """
        same = self.trainer is None or is_resumed(self.trainer)  # a finder has tried other batches since
        for name, now in self._identity().items():
            if same and state_dict[name] != now:
                raise InvalidValue(f"{name}={now}: the run to resume has {name}={state_dict[name]}; it takes the same.")
        self._begin = state_dict["epoch"], state_dict["batches"]

    def _identity(self) -> dict[str, int]:
        count = len(self.train or ())
        return {
            "images": count,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "processes": self._processes()[0],
        }

    def _processes(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """The batch on *device*, its images as the model that is trained or scored wants them, see `feeding`."""
        batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return batch if self.trainer is None else fed(self.trainer, batch, self.parts - 1)

    def _reached(self) -> tuple[int, int]:
        if self.trainer is None:
            return self._begin
        loop = self.trainer.fit_loop
        epoch: Any = loop.epoch_progress.current
        inside = epoch.processed < epoch.ready
        return epoch.processed, loop.epoch_loop.batch_progress.current.ready if inside else 0

    def _in_order(self, dataset: Pairs | None) -> Batches:
        replicas, rank = self._processes()
        count = len(dataset or ())
        if 0 < count < replicas:
            raise InvalidValue(f"{replicas} processes: expected at least as many images to score, there are {count}.")
        mine = range(count)[rank::replicas]
        alone = dataset is not None and self.batch_size > 1 and unlike(dataset) is not None
        return self._loader(dataset or [], InOrder(mine), 1 if alone else self.batch_size, drop_last=False)

    def _loader(self, dataset: Pairs, sampler: DistributedSampler[Any], batch_size: int, *, drop_last: bool) -> Batches:
        return DataLoader(
            Numbered(dataset, self.seed, self.parts),
            collate_fn=Together(dataset, training=drop_last),
            batch_size=batch_size,  # by name: Lightning makes it again for predict
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )


def dataset_of(trainer: Any) -> Any:
    """The dataset that *trainer* is going through; None where nobody knows."""
    stage = "train" if trainer.training else "val" if trainer.validating or trainer.sanity_checking else "test"
    if isinstance(trainer.datamodule, PairsModule):
        return getattr(trainer.datamodule, stage)
    stage = "predict" if trainer.predicting else stage
    loaders = getattr(trainer, "train_dataloader" if stage == "train" else f"{stage}_dataloaders")
    loader = loaders[0] if isinstance(loaders, (list, tuple)) and loaders else loaders
    return getattr(loader, "dataset", None)


def fed(trainer: Any, batch: Any, images: int = 1) -> Any:
    """*batch*, whose first *images* parts are images, as the model of *trainer*'s module wants it, see `feeding`."""
    module = trainer.lightning_module
    feed = feeding(getattr(module, "model", module), dataset_of(trainer))
    if isinstance(batch, Mapping) and IMAGE in batch:
        return {**batch, IMAGE: feed(batch[IMAGE])}
    if isinstance(batch, Tensor):
        return feed(batch)
    return [*map(feed, batch[:images]), *batch[images:]] if isinstance(batch, (tuple, list)) else batch


class TripletsModule(PairsModule):
    """Batches of (distorted, clean, target, index), for :class:`RestorationModule`; else as :class:`PairsModule`.

    >>> from smp_feedback.data import Shapes, Triplets
    >>> triplets = Triplets(Shapes(8, 32), "gaussian_blur")
    >>> distorted, clean, target, index = next(iter(TripletsModule(triplets, batch_size=4).train_dataloader()))
    >>> distorted.shape, clean.shape, target.shape
    (torch.Size([4, 3, 32, 32]), torch.Size([4, 3, 32, 32]), torch.Size([4, 32, 32]))
    """

    parts: ClassVar[int] = 3


class InOrder(DistributedSampler[Any]):
    """These indices, as they are: no item is repeated to make the processes' shares equal.

    >>> list(InOrder(range(5)[1::2]))
    [1, 3]
    """

    def __init__(self, indices: range) -> None:
        super().__init__(cast(Any, indices), 1, 0, shuffle=False)
        self.indices = indices

    def __iter__(self) -> Any:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


class ImageFiles(Dataset[tuple[Tensor, Tensor]]):
    """Images without targets (the target is an empty tensor).

    Args:
        path: An image, or a folder of images, those in subfolders included.
        size: Side, or (H, W), to which they are resized; None leaves them.
        config: What the model expects of them; None takes any, read as they usually are.

    Attributes:
        left_out: Files beside them that look like images and are not read; said once in a warning.

    Raises:
        InvalidValue: If there is no image.
        InvalidInput: On access, naming the file: if it cannot be read, or has other channels than *config* says.
    """

    normalised = False  # whoever shows images to a model normalises them

    def __init__(
        self, path: str | Path, size: int | Sequence[int] | None = None, config: DataConfig | None = None
    ) -> None:
        self.size = None if size is None else height_width(size, least=1)
        self.config, self.reader = config, _reader(config)
        self.paths, left_out = find_images(path)
        self.left_out = tuple(file for _, file in left_out)
        warn_left_out(path, left_out, len(self.paths))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.reader.read(self.paths[index])
        if self.config is not None and len(image) != self.config.channels:
            raise InvalidInput(
                f"{self.paths[index]} has {len(image)} channels: expected {self.config.channels}, as the images that "
                "the model was trained on."
            )
        if self.size:
            image = resize(image, self.size)
        return in_unit(as_unit(image), self.name(index)), torch.empty(0)

    def name(self, index: int) -> str:
        """The file's path."""
        return str(self.paths[index])


def _reader(config: DataConfig | None) -> ImageReader:
    """What reads files as those were that a model of *config* was trained on."""
    if config is None:
        return ImageReader()
    usual = config.channels == 3 and config.bands is None  # grey or colours, whichever a file has
    return ImageReader(bands=config.bands, scale=config.scale, channels=None if usual else config.channels)
