"""Augmentations, metrics, encoders and verbs, and what strangers' datasets and losses give: each fault is found."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from segmentation_models_pytorch.encoders._base import EncoderMixin
from torch import nn
from torch.utils.data import Dataset
from torchvision.transforms import v2

from smp_feedback import testing
from smp_feedback.evaluation import NamedMetric


@pytest.fixture
def registered(restored):
    """Registers a part for one test."""
    return lambda kind, part, **more: restored.registries()[kind].register("mine", part, **more)


# --- augmentations


def mirror():
    return v2.RandomHorizontalFlip(0.5)


class Alone:
    def __call__(self, image, mask):
        return image.flip(-1), mask


class Darker:
    """Moved alone, and of other colours: nothing but where it is bright tells."""

    def __call__(self, image, mask):
        return 0.9 * image.flip(-1), mask


class Smooth:
    def __call__(self, image, mask):
        return image, (mask.float() + mask.float().roll(1, -1)) / 2


class Bright:
    def __call__(self, image, mask):
        return image * 2, mask


class Scribbles:
    def __call__(self, image, mask):
        image += 0.01
        return image, mask


class OwnDice:
    def __call__(self, image, mask):
        return (image.flip(-1), mask.flip(-1)) if random.random() < 0.5 + np.random.rand() / 9 else (image, mask)


class Relabels:
    def __call__(self, image, mask):
        return image, mask + 5


class Doubles:
    def __call__(self, image, mask):
        return image.double(), mask


def test_a_sound_augmentation_passes(registered):
    registered("augmentations", mirror)
    testing.check_augmentation("mine")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Alone, "moves an image and leaves its mask where it was"),
        (Darker, "not moved alike"),
        (Smooth, "interpolated the mask"),
        (Bright, "expected 0 to 1"),
        (Scribbles, "wrote into"),
        (OwnDice, "other random numbers"),
        (Relabels, r"labels that were not there: \[5, 6\]"),
        (Doubles, "float64"),
        (lambda: lambda image, mask: (image, mask), "does not travel"),
        (lambda: 5, "made 5: expected a callable"),
    ],
)
def test_an_augmentation_with_a_fault_fails(registered, make, words):
    registered("augmentations", make)
    with pytest.raises(AssertionError, match=words):
        testing.check_augmentation("mine")


# --- metrics


def metric(shares=None, best="max", **more):
    return NamedMetric("mine", "mine", "mine", best, shares=shares, **more)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (metric(), "neither shares= nor of_all="),
        (metric(lambda n: (n.hit, n.target), best="min"), "where all is right it is 1"),
        (metric(lambda n: (n.target, n.hit)), "more than its whole"),
        (metric(lambda n: (n.hit.sum(), n.target.sum())), r"the shape \(\)"),
        (metric(lambda n: n.hit / n.target), "a Tensor: expected two tensors"),
        (metric(lambda n: (n.hit.add_(1), n.target.add_(1))), "wrote into"),
        (metric(of_all=lambda n: (n.hit / n.target)[..., 0]), "the order of the classes"),
        (metric(of_all=lambda n: n.hit.sum() / n.target.sum()), r"of counts \(2, classes\) it fails"),
        (metric(of_all=lambda n: (n.hit / n.target).amin(-1) / 0), "is inf"),
        (metric(of_all=lambda n: n.nothing), "has no attribute"),
        (metric(lambda n: (n.hit, n.target), tasks=("guessing",)), "tasks among"),
    ],
)
def test_a_metric_with_a_fault_fails(registered, part, words):
    registered("metrics", part, origin="mine 1.0")
    with pytest.raises(AssertionError, match=words):
        testing.check_metric("mine")


# --- encoders


class Stairs(EncoderMixin, nn.Module):
    def __init__(self, depth=5):
        nn.Module.__init__(self)
        self._depth, self._in_channels, self._out_channels = depth, 3, [3, 4, 4, 8, 8, 8]
        pairs = zip(self._out_channels[:depth], self._out_channels[1:], strict=False)
        self.stages = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairs)

    def forward(self, image):
        features = [image]
        for stage in self.stages:
            features.append(stage(features[-1]).relu())
        return features


class Shallow(Stairs):
    def __init__(self):
        super().__init__(4)


class Square(Stairs):
    def forward(self, image):
        return [one[..., : one.shape[-2]] for one in super().forward(image)]


class Misses(Stairs):
    def forward(self, image):
        return super().forward(image)[1:]


class Colours(Stairs):
    def set_in_channels(self, in_channels, pretrained=True):
        pass


def test_a_sound_encoder_passes(registered):
    registered("encoders", Stairs)
    testing.check_encoder("mine")


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        (Shallow, "5 out_channels for depth=3: expected 4"),
        (Square, "map 0 of an image of 64 x 96"),
        (Misses, "3 maps: expected 4"),
        (Colours, "images of 1 channels it fails"),
        (nn.Identity, "has no out_channels"),
    ],
)
def test_an_encoder_with_a_fault_fails(registered, encoder, words):
    registered("encoders", encoder)
    with pytest.raises(AssertionError, match=words):
        testing.check_encoder("mine", depths=(3,))


# --- verbs


def says(parser):
    """Say something."""
    parser.add_argument("--times", type=int, default=1)
    return lambda args: 0 if args.times == 1 else 3


def silent(parser):
    return print


def broken(parser):
    """Break."""
    raise ValueError("no such thing")


def endless(parser):
    """Return nothing."""


def test_a_sound_verb_passes(registered):
    registered("verbs", says)
    testing.check_verb("mine", words=["--times", "1"])


@pytest.mark.parametrize(
    ("verb", "words", "match"),
    [
        (silent, None, "does not say what it is for"),
        (broken, None, "ValueError: no such thing"),
        (endless, None, "gives a NoneType"),
        (says, ["--times", "2"], "ends with 3"),
        (says, ["--tmies", "2"], "ArgumentError"),
    ],
)
def test_a_verb_with_a_fault_fails(registered, verb, words, match):
    pytest.importorskip("jsonargparse")
    registered("verbs", verb)
    with pytest.raises(AssertionError, match=match):
        testing.check_verb("mine", words=words)


def test_a_part_that_is_not_at_its_address_fails_as_any_other_fault(registered):
    registered("verbs", "no_such_module:verb")
    with pytest.raises(AssertionError, match="no_such_module:verb"):
        testing.check_verb("mine")


def test_a_preset_with_a_field_that_there_is_not_fails(registered):
    registered("presets", {"stepz": 3})
    with pytest.raises(AssertionError, match="no field 'stepz'"):
        testing.check_preset("mine")


# --- datasets and losses


class Columns(Dataset):
    """Sound: it calls what it is handed with plain tensors."""

    classes, ignore_index = ("dark", "bright"), None

    def __init__(self, split, *, root=None, size=None, seed=0, count=None, transform=None):
        self.seed = {"train": seed + 2, "val": 0, "test": 1}[split]
        self.count, self.size, self.transform = count or 4, size or (8, 8), transform

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if not 0 <= index < self.count:
            raise IndexError(index)
        drawn = torch.Generator().manual_seed(9 * self.seed + index)
        mask = (torch.rand(1, self.size[1], generator=drawn) < 0.4).long().repeat(self.size[0], 1)
        image = (mask + torch.rand(3, *self.size, generator=drawn)) / 2
        return self.transform(image, mask) if self.transform else (image, mask)

    def name(self, index):
        return f"column {index}"


class Ignores(Columns):
    def __init__(self, split, *, transform=None, **options):
        super().__init__(split, **options)


class ImageAlone(Columns):
    def __getitem__(self, index):
        transform, self.transform = self.transform, None
        image, mask = super().__getitem__(index)
        self.transform = transform
        return (transform(image), mask) if transform else (image, mask)


class Precise(Columns):
    def __getitem__(self, index):
        image, mask = super().__getitem__(index)
        return image.double(), mask


class Levels(Columns):
    def __getitem__(self, index):
        image, mask = super().__getitem__(index)
        return 255 * image, mask


class Beyond(Columns):
    def __getitem__(self, index):
        image, mask = super().__getitem__(index)
        return image, mask + 2 * (torch.arange(len(mask)) == index)[:, None]


def test_a_dataset_that_calls_its_transform_with_plain_tensors_passes(registered):
    registered("datasets", Columns)
    testing.check_dataset("mine")


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (Ignores, "is not passed on"),
        (ImageAlone, "moves the image of item 0 and not its mask"),
        (Precise, "column 0: an image of torch.float64, expected torch.float32"),
        (Levels, "column 0: an image with values .* to 25"),
        (Beyond, "column 0"),
    ],
)
def test_a_dataset_whose_items_are_none_fails(registered, dataset, words):
    registered("datasets", dataset)
    with pytest.raises(AssertionError, match=words):
        testing.check_dataset("mine")


class Loss(nn.Module):
    def forward(self, logits, target):
        return nn.functional.cross_entropy(logits, target)


class Double(Loss):
    def forward(self, logits, target):
        return super().forward(logits, target).double()


class Detached(Loss):
    def forward(self, logits, target):
        return super().forward(logits, target).detach()


class NotANumber(Loss):
    def forward(self, logits, target):
        return super().forward(logits, target) * float("nan")


class Item(Loss):
    def forward(self, logits, target):
        return super().forward(logits, target).item()


@pytest.mark.parametrize(
    ("loss", "words"),
    [(Double, "float64"), (Detached, "no gradient"), (NotANumber, "it is nan"), (Item, "is a float")],
)
def test_a_loss_that_gives_no_number_fails(registered, loss, words):
    registered("losses", loss)
    with pytest.raises(AssertionError, match=words):
        testing.check_loss("mine")
