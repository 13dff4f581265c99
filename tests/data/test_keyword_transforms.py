"""Transforms by keyword, as Albumentations has them: what goes in, what comes back, and what is refused."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from smp_feedback.data import MaskFolder
from smp_feedback.data.augment import as_transform, augmented, cropped
from smp_feedback.data.keyword_transforms import ByKeyword, takes_keywords
from smp_feedback.errors import InvalidType, InvalidValue

IMAGE, MASK = torch.rand(3, 8, 6), torch.randint(0, 3, (8, 6))


class Shift:
    """Calls as Albumentations' do: keywords alone, its own generator, a dictionary back. Rolls by what it draws."""

    __module__ = "albumentations.core.composition"

    def __init__(self, change=lambda image, mask: (image, mask)):
        self.change, self.rng, self.seen = change, np.random.default_rng(), []

    def set_random_seed(self, seed):
        self.rng = np.random.default_rng(seed)

    def __call__(self, *args, force_apply=False, **data):
        assert not args, "You have to pass data to augmentations as named arguments"
        self.seen.append({name: (array.dtype, array.shape) for name, array in data.items()})
        by = int(self.rng.integers(6))
        image, mask = (np.roll(data[name], by, axis=1) for name in ("image", "mask"))
        return dict(zip(("image", "mask"), self.change(image, mask), strict=True))


def mirrored(*, image, mask):
    """A function of keywords alone, which draws from NumPy's and Python's global generators."""
    return {"image": image * np.float32(np.random.rand()) * random.random(), "mask": mask[:, ::-1]}


def drawn(transform, *parts, seed=0):
    torch.manual_seed(seed)
    return augmented(as_transform(transform), *parts)


def test_an_image_and_its_mask_are_moved_alike():
    shift = Shift()
    image, mask = drawn(shift, IMAGE, MASK)
    assert (image.dtype, mask.dtype) == (torch.float32, torch.int64)
    assert shift.seen == [{"image": (np.float32, (8, 6, 3)), "mask": (np.float32, (8, 6))}]
    by = [k for k in range(6) if torch.equal(IMAGE.roll(k, -1), image)]
    assert len(by) == 1
    assert torch.equal(MASK.roll(by[0], -1), mask)


class Own:
    """A stand-in of one's own, of the same signature as Albumentations'."""

    def __call__(self, *args, force_apply=False, **data):
        if args:
            raise KeyError("You have to pass data to augmentations as named arguments")
        return {name: part[:, ::-1] for name, part in data.items()}


class Bare(Own):
    def __call__(self, *args, **data):
        return super().__call__(*args, **data)


def test_a_transform_of_ones_own_that_takes_keywords_alone_is_called_so_or_told_what_to_give():
    for transform in (Own(), lambda *, image, mask: Bare()(image=image, mask=mask)):
        image, mask = drawn(transform, IMAGE, MASK)
        assert torch.equal(image, IMAGE.flip(-1))
        assert torch.equal(mask, MASK.flip(-1))
    with pytest.raises(InvalidType, match=r"KeyError: .*named arguments.*lambda \*, image, mask: "):
        drawn(Bare(), IMAGE, MASK)


def test_what_is_drawn_is_a_function_of_torchs_seed_and_nobody_is_disturbed():
    for transform in (Shift(), mirrored):
        python, numpy = random.getstate(), np.random.get_state()[1].tolist()
        answers = [drawn(transform, IMAGE, MASK, seed=seed)[0] for seed in (3, 3, 4, 5, 6)]
        assert torch.equal(answers[0], answers[1])
        assert len({tuple(answer.flatten().tolist()) for answer in answers}) > 1
        assert (random.getstate(), np.random.get_state()[1].tolist()) == (python, numpy)


def test_images_of_one_item_are_moved_alike():
    one, other, mask = drawn(Shift(), IMAGE, IMAGE / 2, MASK)
    assert torch.equal(one / 2, other)
    assert torch.equal(drawn(Shift(), IMAGE, MASK)[1], mask)


@pytest.mark.parametrize("tensors", ["none", "image", "both"])
def test_a_mask_for_each_class_and_tensors_are_taken_back(tensors):
    masks = torch.randint(0, 2, (4, 8, 6))

    def change(image, mask):
        image = torch.from_numpy(image.transpose(2, 0, 1).copy()) if tensors != "none" else image
        return image, torch.from_numpy(mask.transpose(2, 0, 1) if tensors == "both" else mask)

    shift = Shift(change if tensors != "none" else lambda image, mask: (image, mask))
    image, moved = drawn(shift, IMAGE, masks)
    by = next(k for k in range(6) if torch.equal(IMAGE.roll(k, -1), image))
    assert torch.equal(moved, masks.roll(by, -1))
    assert shift.seen[0]["mask"][1] == (8, 6, 4)


def test_one_channel_may_lose_its_axis():
    image, mask = drawn(Shift(lambda image, mask: (image[..., 0], mask[..., None])), IMAGE[:1], MASK)
    assert (image.shape, mask.shape) == ((1, 8, 6), (8, 6))


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda i, m: (i[..., :1], m), InvalidValue, r"image of shape \(1, 8, 6\): expected \(3, H, W\)"),
        (lambda i, m: ((i * 255).astype(np.uint8), m), InvalidType, "torch.uint8: expected float32 in"),
        (lambda i, m: (i.astype(np.float64), m), InvalidType, "torch.float64: expected float32"),
        (lambda i, m: (i, m + 0.5), InvalidValue, "interpolated the mask"),
        (lambda i, m: (i[:4], m), InvalidValue, "gave 4 x 6 pixels, and 8 x 6 of mask"),
        (lambda i, m: (i, np.stack([m, m])), InvalidValue, r"mask of shape \(2, 8, 6\)"),
        (lambda i, m: (i, "mask"), InvalidType, "gave a str"),
    ],
)
def test_what_is_no_augmentation_of_the_pair_is_refused(change, error, says):
    with pytest.raises(error, match=says):
        drawn(Shift(change), IMAGE, MASK)


@pytest.mark.parametrize(
    ("transform", "says"),
    [
        (lambda image, mask: {"image": image, "mask": mask}, "gave a dict: expected"),
        (lambda image, mask: image, "gave a Image: expected"),
        (lambda image: image, r"failed on \(image, mask\)"),
        (lambda image, mask: (image.double(), mask), "torch.float64"),
        (lambda *, image, mask: image, "expected a dictionary with"),
    ],
)
def test_a_function_that_answers_otherwise_is_refused_by_name(transform, says):
    with pytest.raises(InvalidType, match=rf"transform=<function <lambda>.*{says}|{says}"):
        drawn(transform, IMAGE, MASK)


def test_what_takes_keywords_is_seen_without_the_library():
    class Own(Shift):
        __module__ = "mine"

    assert takes_keywords(Shift())
    assert takes_keywords(Own()), "a class made from one of the library's"
    assert takes_keywords(mirrored)
    assert not any(map(takes_keywords, (v2.RandomHorizontalFlip(), v2.Compose([v2.Identity()]), print)))


def test_it_goes_to_loading_processes_and_before_a_crop():
    transform = as_transform(mirrored)
    assert isinstance(pickle.loads(pickle.dumps(transform)), ByKeyword)
    assert as_transform(transform) is transform
    image, mask = drawn(cropped(Shift(), 4), IMAGE, MASK)
    assert (image.shape, mask.shape) == ((3, 4, 4), (4, 4))


def test_a_folder_takes_one(tmp_path):
    from PIL import Image

    for folder, mode in ("train", "RGB"), ("trainannot", "L"):
        (tmp_path / folder).mkdir()
        Image.new(mode, (6, 8), 1).save(tmp_path / folder / "a.png")
    shift = Shift()
    image, mask = MaskFolder(tmp_path, transform=shift)[0]
    assert (image.shape, mask.unique().tolist(), len(shift.seen)) == ((3, 8, 6), [1], 1)
