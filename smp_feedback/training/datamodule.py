"""Lightning data modules for any datasets of pairs or triplets."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sized
from typing import Any, ClassVar, cast

import lightning
import torch
from torch.utils.data import DataLoader, DistributedSampler

from smp_feedback.checks import check_whole
from smp_feedback.data.batching import Together
from smp_feedback.data.films.clips import Clips
from smp_feedback.data.inspection.alike import check_alike, unlike
from smp_feedback.data.items import checked_int
from smp_feedback.data.wrapped import films_of
from smp_feedback.errors import DataWarning, InvalidValue
from smp_feedback.training.checkpoints import is_resumed
from smp_feedback.training.data_settings import check_clip, check_films
from smp_feedback.training.feeds import Feeds
from smp_feedback.training.film_parts import FilmLoader, FilmParts, only
from smp_feedback.training.regrouping import Grouping, batches_over, difference, grouping_in
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
        clip: Train on clips of so many frames, see :class:`smp_feedback.data.Clips`, of datasets with ``films``:
            *batch_size* clips a step. Validated and tested is on whole films, *clip* frames of *batch_size* films at a
            time (films of one length go side by side), the state going on; so are predictions made. None is images.
            Where *train* is `Clips` already, theirs count.
        clip_stride: Frames from the start of a clip to that of the next; *clip* is clips that share none.

    Raises:
        InvalidValue: If there are fewer training pairs than make one batch; for clips of what has no films.
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
        clip: int | None = None,
        clip_stride: int = 1,
    ) -> None:
        super().__init__()
        check_whole("batch_size", batch_size)
        check_clip(clip, clip_stride)
        if clip is not None:
            for name, dataset in (("train", train), ("val", val), ("test", test)):
                check_films(dataset, name, clip, training=name == "train")
            train = train if train is None else Clips(train, clip, clip_stride)
        if train is not None and len(cast(Sized, train)) < batch_size:
            what = "images" if clip is None else f"clips of {clip} frames"
            raise InvalidValue(f"batch_size={batch_size}: expected at most the {len(train)} training {what} there are.")
        if train is not None:
            check_alike(train, batch_size)
        self.train, self.val, self.test, self._batch_size = train, val, test, batch_size
        self.workers, self.seed = checked_int("workers", workers, least=0), checked_int("seed", seed, least=0)
        every = 1
        if isinstance(train, Clips):
            clip, clip_stride, every = train.length, train.stride, train.every
        self.clip, self.clip_stride, self.clip_every = clip, clip_stride, every
        self._begin = (0, 0)  # epoch, and how many of its batches are over
        self.regrouped = False  # whether a run goes on in another number of processes
        self._feeds = Feeds()

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
        return self._scored(self.val, *self._processes())

    def whole_val_dataloader(self) -> Batches:
        """All validation pairs, in order, also where several processes have trained and one is left."""
        return self._scored(self.val, replicas=1, rank=0)

    def test_dataloader(self) -> Batches:
        """All test pairs, in order."""
        return self._scored(self.test, *self._processes())

    def predict_dataloader(self) -> Batches:
        """As :meth:`test_dataloader`."""
        return self._scored(self.test, *self._processes())

    def state_dict(self) -> dict[str, int]:
        """How far training is, in batches of this epoch, and whose batches they are."""
        return {**self._identity(), **dict(zip(("epoch", "batches"), self._reached(), strict=True))}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Begin where *state_dict* was taken, on as many processes or others.

        Raises:
            InvalidValue: If other data, another seed, or another batch size on as many processes would give other
                batches.

        Warns:
            DataWarning: On another number of processes, with what differs.
        """
        same = self.trainer is None or is_resumed(self.trainer)  # a finder has tried other batches since
        now = Grouping(self._processes()[0], self.batch_size)
        before = grouping_in(state_dict, now)
        self.regrouped = same and before.processes != now.processes
        for name, value in self._identity().items():
            regrouped = self.regrouped and name in Grouping._fields
            if same and not regrouped and state_dict.get(name, value) != value:
                raise InvalidValue(
                    f"{name}={value}: the run to resume has {name}={state_dict[name]}; it takes the same."
                )
        if self.regrouped and self._processes()[1] == 0:
            warnings.warn(difference(before, now), DataWarning, stacklevel=2)
        self._begin = state_dict["epoch"], self.batches_over(state_dict) if same else state_dict["batches"]

    def batches_over(self, state_dict: Mapping[str, int]) -> int:
        """How many batches of its epoch are over, as they are now, where *state_dict* was taken."""
        now = Grouping(self._processes()[0], self.batch_size)
        before, accumulated = grouping_in(state_dict, now), getattr(self.trainer, "accumulate_grad_batches", 1)
        if before.processes == now.processes:
            return state_dict["batches"]
        return batches_over(state_dict["batches"], before, now, accumulated)

    def _identity(self) -> dict[str, int]:
        count = len(self.train or ())
        films = {"clip": self.clip or 0, "clip_stride": self.clip_stride, "clip_every": self.clip_every}
        clips = {} if self.clip is None else films
        return {
            "images": count,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "processes": self._processes()[0],
            **clips,
        }

    def _processes(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """The batch on *device*, its images as the model wants them; our own modules normalise by themselves."""
        batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        if self.trainer is None or getattr(self.trainer.lightning_module, "feeds_itself", False):
            return batch
        return self._feeds.fed(self.trainer, batch, self.parts - 1)

    def _reached(self) -> tuple[int, int]:
        if self.trainer is None:
            return self._begin
        loop = self.trainer.fit_loop
        epoch: Any = loop.epoch_progress.current
        inside = epoch.processed < epoch.ready
        return epoch.processed, loop.epoch_loop.batch_progress.current.ready if inside else 0

    def _scored(self, dataset: Pairs | None, replicas: int, rank: int) -> Batches:
        """*dataset* in order; its films, so many frames at a time, where clips are trained on."""
        films = None if self.clip is None or dataset is None else films_of(dataset)
        if self.clip is None or films is None:
            return self._in_order(dataset, replicas, rank)
        if 0 < len(films) < replicas:
            raise InvalidValue(
                f"{replicas} processes: expected at least as many films to score, there are {len(films)}."
            )
        at_once = 1 if unlike(dataset) is not None else self.batch_size
        parts = FilmParts(self._items(dataset), films[rank::replicas], self.clip, at_once)
        how: dict[str, Any] = {"num_workers": self.workers, "persistent_workers": self.workers > 0}
        return FilmLoader(parts, batch_size=1, sampler=InOrder(range(len(parts))), collate_fn=only, **how)

    def _in_order(self, dataset: Pairs | None, replicas: int, rank: int) -> Batches:
        count = len(dataset or ())
        if 0 < count < replicas:
            raise InvalidValue(f"{replicas} processes: expected at least as many images to score, there are {count}.")
        mine = range(count)[rank::replicas]
        alone = dataset is not None and self.batch_size > 1 and unlike(dataset) is not None
        return self._loader(dataset or [], InOrder(mine), 1 if alone else self.batch_size, drop_last=False)

    def _loader(self, dataset: Pairs, sampler: DistributedSampler[Any], batch_size: int, *, drop_last: bool) -> Batches:
        return DataLoader(
            self._items(dataset),
            collate_fn=self._together(dataset, training=drop_last),
            batch_size=batch_size,  # by name: Lightning makes it again for predict
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )

    def _items(self, dataset: Pairs) -> Any:
        """What a loader asks for items."""
        return Numbered(dataset, self.seed, self.parts)

    def _together(self, dataset: Pairs, *, training: bool) -> Any:
        """What makes a batch of them."""
        return Together(dataset, training=training)


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
