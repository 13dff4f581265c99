"""Datasets by name."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import torch

from smp_feedback.data.batch import image_of, target_of
from smp_feedback.data.dataset_factory import open_dataset
from smp_feedback.data.inspection.checking import check_dataset as check_items
from smp_feedback.data.items import item_name
from smp_feedback.data.strangers import pair_transform, wrong_item
from smp_feedback.data.wrapped import films_of
from smp_feedback.errors import FeedbackError, InvalidType, UnknownKeyword

SPLITS = ("train", "val", "test")


def check_dataset(name: str, *, splits: Sequence[str] = SPLITS, **arguments: Any) -> None:
    """The dataset *name* opens, every item of every split is one, and is the same each time.

    ``val`` and ``test`` are the same for every seed, ``count=`` and ``size=`` are obeyed, an option that it does not
    have is refused, it ends where its length says, and travels to a loader's workers. Of ``films``, a frame is
    in one at most, and all frames of one are of one size. An augmentation that it is handed, as ``transform=``, moves
    image and mask alike. That belongs to training: give no *transform* here.

    Args:
        name: A registered name.
        splits: Those that it has.
        **arguments: As for :func:`smp_feedback.data.open_dataset`: ``root="path/to/files"``, ``count=8`` (all items are
            looked at).

    >>> check_dataset("polygons", count=4, size=32)
    """
    for split in splits:
        dataset = opened(name, split, arguments)
        check_described(dataset)
        try:
            check_items(dataset)
        except FeedbackError as error:
            raise AssertionError(f"{split}: {error}") from error
        check_first(dataset)
        check_repeats(dataset)
        check_films(dataset)
        if split != "train":
            check_seed(name, split, arguments)
    check_options(name, splits[0], arguments)
    if "train" in splits:
        check_transform(name, arguments)


def opened(name: str, split: str, arguments: dict[str, Any]) -> Any:
    """The dataset, which has a length and items."""
    try:
        return open_dataset(name, split, **arguments)
    except InvalidType as error:
        raise AssertionError(f"{split}: {error}") from error


def check_first(dataset: Any) -> None:
    """Its first item is an image float32 in [0, 1], and a target, as a model learns from them."""
    assert len(dataset), "it has no items"
    wrong = wrong_item(dataset, dataset[0], len(dataset.classes))
    assert wrong is None, f"{item_name(dataset, 0)}: {wrong}"


def check_transform(name: str, arguments: dict[str, Any]) -> None:
    """What it is handed as ``transform=`` is called for each item, and its answer is the item: mirrored, both are."""
    plain = opened(name, "train", arguments)
    mirror = pair_transform(_mirrored)
    mirrored = opened(name, "train", {**arguments, "transform": mirror})
    for index in range(min(len(plain), 4)):
        (image, target), (moved, where) = (pair_of_item(each[index]) for each in (plain, mirrored))
        by = "transform=, by name or as a callable,"
        symmetric = torch.equal(image, image.flip(-1))
        passed = mirror is not None and mirror.asked and (symmetric or not torch.equal(moved, image))
        assert passed, f"{by} is not passed on: item {index} is not what it makes of it"
        same = where if target.ndim == 0 else where.flip(-1)
        assert torch.equal(same, target), f"{by} moves the image of item {index} and not its mask"
    for name_of_one in ("flip", "none"):
        try:
            with torch.random.fork_rng(devices=[]):
                _ = opened(name, "train", {**arguments, "transform": name_of_one})[0]
        except Exception as error:
            raise AssertionError(f"transform={name_of_one!r}: {type(error).__name__}: {error}") from error


def pair_of_item(item: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Image and target of one item."""
    return image_of(item), torch.as_tensor(target_of(item))


def _mirrored(*parts: Any) -> Any:
    moved = tuple(part.flip(-1) for part in parts)
    return moved if len(moved) > 1 else moved[0]


def check_described(dataset: Any) -> None:
    """It names its classes, the label that counts for nothing (or None), and each item; and it ends."""
    classes = getattr(dataset, "classes", None)
    named = isinstance(classes, tuple | list) and all(isinstance(label, str) for label in classes)
    assert named, f"classes is {classes!r:.80}: expected the names of the labels"
    ignored = getattr(dataset, "ignore_index", "missing")
    assert ignored is None or isinstance(ignored, int), f"ignore_index is {ignored!r}: expected a label, or None"
    names = [str(dataset.name(i)) for i in range(len(dataset))]
    assert len(set(names)) == len(names), "two items have one name"
    with suppress(IndexError):
        dataset[len(dataset)]
        raise AssertionError(f"it has {len(dataset)} items, and one more: expected an IndexError")


def check_repeats(dataset: Any) -> None:
    """An item is the same each time, also after somebody wrote into it, and in a worker's copy."""
    image, target = (part.clone() for part in dataset[0])
    for part in dataset[0]:
        part.zero_()
    for which, source in (("asked again", dataset), ("in a worker", pickle.loads(pickle.dumps(dataset)))):
        same = torch.equal(source[0][0], image) and torch.equal(source[0][1], target)
        assert same, f"{which}, an item is another"


def check_films(dataset: Any) -> None:
    """Its films, if it has some, are of its own items, none of them twice, and each of one size; cuts are in them."""
    films = films_of(dataset)
    if films is None:
        return
    frames = [frame for film in films for frame in film]
    assert all(len(film) for film in films), "a film has no frame"
    assert set(frames) <= set(range(len(dataset))), f"films have frames that are no items: 0 to {len(dataset) - 1} are"
    assert len(set(frames)) == len(frames), "a frame is in two films, or twice in one"
    for film in films:
        sizes = {tuple(dataset[frame][0].shape) for frame in (film[0], film[-1])}
        assert len(sizes) == 1, f"the film of {dataset.name(film[0])} changes its size: {sorted(sizes)}"
    inside = {frame for film in films for frame in film[1:]}
    assert set(getattr(dataset, "cuts", ())) <= inside, "a cut is at no frame within a film"
    if hasattr(dataset, "hidden"):
        frame = frames[0]
        hidden, shape = dataset.hidden(frame), dataset[frame][0].shape[1:]
        is_mask = hidden.dtype == torch.bool and hidden.shape == shape
        assert is_mask, f"hidden({frame}) is {hidden.dtype} {tuple(hidden.shape)}: expected torch.bool {tuple(shape)}"


def check_seed(name: str, split: str, arguments: dict[str, Any]) -> None:
    """What is scored does not depend on a seed."""
    one, other = (cast(Any, open_dataset(name, split, **{**arguments, "seed": seed})) for seed in (0, 1))
    same = len(one) == len(other) and torch.equal(one[0][0], other[0][0])
    assert same, f"{split} is another with another seed: models of two seeds are scored on different images"


def check_options(name: str, split: str, arguments: dict[str, Any]) -> None:
    """``count=`` items of ``size=``, in pixels unless its ``unit`` is another, and no option that it does not have."""
    dataset: Any = open_dataset(name, split, **{**arguments, "count": 1, "size": (16, 24)})
    assert len(dataset) == 1, f"count=1 gives {len(dataset)} items"
    image, target = dataset[0]
    asked = (16, 24) if getattr(dataset, "unit", "pixels") == "pixels" else image.shape[-2:]
    assert image.shape == (3, *asked), f"size=(16, 24) gives an image {tuple(image.shape)}"
    assert target.shape in ((), asked), f"size=(16, 24) gives a target {tuple(target.shape)}"
    assert asked[0] < asked[1], f"size=(16, 24) gives an image of {asked[0]} x {asked[1]}, no wider than high"
    try:
        open_dataset(name, split, **arguments, no_such_option=1)
    except (UnknownKeyword, TypeError):
        return
    raise AssertionError("it takes an option that it does not have")
