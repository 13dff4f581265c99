"""Distorted image, clean image and mask: by a corruption, or from stored images, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset
from torchvision.transforms import v2

from smp_feedback.data import Corrupted, MaskFolder, Shapes, StoredTriplets, Triplets
from smp_feedback.data.augment import as_transform, augmented, cropped, resize
from smp_feedback.data.dataset_factory import AUGMENTATIONS
from smp_feedback.data.triplets import labelled
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue, UnknownName

SIZE, STEMS = (12, 20), ("a", "b", "c")


def same(ours, theirs):
    return len(ours) == len(theirs) and all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))


class Flipped(Dataset):
    """Mirrored at random, as augmented data are."""

    def __init__(self):
        self.dataset, self.flip = Shapes(3, 32), as_transform("flip")

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return augmented(self.flip, *self.dataset[index])


# --- any dataset under a corruption


@pytest.mark.parametrize("corruption", ["turbulence", "gaussian_noise"])
def test_an_item_is_what_corrupted_makes_of_it_and_what_it_was(corruption):
    data = Triplets(Shapes(4, 32), corruption, 4, seed=5)
    for i in range(-1, 4):
        distorted, clean, mask = data[i]
        assert same((distorted, mask), Corrupted(Shapes(4, 32), corruption, 4, 5)[i])
        assert same((clean, mask), Shapes(4, 32)[i])
        assert not torch.equal(distorted, clean)


def test_the_usual_distortion_is_turbulence():
    assert same(Triplets(Shapes(2, 32))[1], Triplets(Shapes(2, 32), "turbulence", 3, 0)[1])


def test_the_corruption_comes_after_the_augmentation():
    """Nothing is drawn for the image twice: the distorted one is the clean one, distorted."""
    for _ in range(8):
        distorted, clean, _ = Triplets(Flipped(), "brightness", 2)[0]
        assert torch.equal(distorted, (clean + 0.2).clamp(0, 1))


def test_a_fresh_distortion_is_another_each_time_and_a_function_of_the_global_generator():
    fresh, fixed = (Triplets(Shapes(2, 32), "gaussian_noise", 1, fresh=kind) for kind in (True, False))
    assert not torch.equal(fresh[0][0], fresh[0][0])
    assert torch.equal(fixed[0][0], fixed[0][0])
    once = []
    for _ in range(2):
        torch.manual_seed(3)
        once.append(fresh[0][0])
    assert torch.equal(*once)


def test_severity_zero_leaves_images_alone():
    distorted, clean, _ = Triplets(Shapes(1, 32), "gaussian_noise", 0)[0]
    assert torch.equal(distorted, clean)


def test_classes_void_and_names_are_those_of_the_images():
    data = Triplets(Subset(Shapes(4, 32), [3, 1]), "contrast")
    assert (len(data), data.classes, data.ignore_index) == (2, Shapes(4, 32).classes, Shapes(4, 32).ignore_index)
    assert data.name(-1) == "coloured_shapes[1] of seed 0"


def test_the_labelled_images_of_triplets_are_not_distorted():
    data = Triplets(Shapes(3, 32), "gaussian_noise")
    assert labelled(data) is data.dataset
    plain = labelled([data[0], data[1]])
    assert (len(plain), same(plain[1], Shapes(3, 32)[1])) == (2, True)


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ({"corruption": "turbulance"}, UnknownName, "Did you mean 'turbulence'"),
        ({"severity": 6}, InvalidValue, "severity=6"),
        ({"severity": float("nan")}, InvalidType, "severity=nan"),
        ({"seed": -1}, InvalidValue, "seed=-1"),
        ({"dataset": iter([])}, InvalidType, "expected a map-style dataset"),
    ],
)
def test_wrong_arguments_are_refused(how, kind, words):
    with pytest.raises(kind, match=words):
        Triplets(**{"dataset": Shapes(2, 32), **how})


# --- stored images


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def stored(tmp_path):
    """Clean images and masks, and below another folder a distorted image of each: 255 less the clean one."""
    rng = np.random.default_rng(0)
    for stem in STEMS:
        image = rng.integers(0, 256, (*SIZE, 3), np.uint8)
        write(tmp_path / f"train/{stem}.png", image)
        write(tmp_path / f"trainannot/{stem}.png", rng.integers(0, 12, SIZE, np.uint8))
        write(tmp_path / f"hot/day/{stem}.png", 255 - image)
    return tmp_path


def open_stored(root, transform=None, **how):
    return StoredTriplets(MaskFolder(root, **how), root / "hot", transform)


def test_partners_are_found_by_their_stem_below_the_folder(stored):
    data = open_stored(stored)
    assert [path.stem for path in data.files] == [*STEMS]
    assert (data.ignore_index, len(data.classes)) == (11, 11)
    for i in range(3):
        distorted, clean, mask = data[i]
        assert same((clean, mask), MaskFolder(stored)[i])
        torch.testing.assert_close(distorted, 1 - clean)
        assert (distorted.dtype, type(distorted), mask.dtype) == (torch.float32, torch.Tensor, torch.int64)


def test_another_suffix_is_a_partner_too(stored):
    with Image.open(stored / "hot/day/b.png") as image:
        image.save(stored / "hot/day/b.tif")
    (stored / "hot/day/b.png").unlink()
    torch.testing.assert_close(open_stored(stored)[1][0], 1 - open_stored(stored)[1][1])


@pytest.mark.parametrize("name", [*AUGMENTATIONS, "crop"])
def test_augmentation_meets_all_three_as_one(name, stored):
    """Distorted and clean add up to one, before and after; the mask moves with them, told by a twin of its own."""
    plain = MaskFolder(stored)[0]
    for seed in range(6):
        torch.manual_seed(seed)
        distorted, clean, mask = open_stored(stored, cropped("flips", 7) if name == "crop" else name)[0]
        torch.manual_seed(seed)
        alone = augmented(as_transform(cropped("flips", 7) if name == "crop" else name), *plain)
        if name != "colour":  # it draws as often as it is told, whatever it is shown
            torch.testing.assert_close(distorted, 1 - clean, atol=1e-5, rtol=0)
        assert same((clean, mask), alone)
        assert type(mask) is torch.Tensor


def test_a_callable_is_given_all_three(stored):
    data = open_stored(stored, v2.RandomHorizontalFlip(1.0))
    plain = open_stored(stored)[2]
    assert same(data[2], tuple(part.flip(-1) for part in plain))


@pytest.mark.parametrize("size", [(6, 10), 8])
def test_resized_images_have_resized_partners(size, stored):
    distorted, clean, _ = open_stored(stored, size=size)[0]
    assert distorted.shape == clean.shape
    torch.testing.assert_close(distorted, 1 - clean, atol=0.005, rtol=0)  # resized in whole numbers


def test_partners_that_have_the_size_already_stay_as_they_are(stored):
    for stem in STEMS:
        small = np.full((6, 10, 3), 17, np.uint8)
        write(stored / f"hot/day/{stem}.png", small)
    distorted, clean, _ = open_stored(stored, size=(6, 10))[0]
    assert clean.shape == (3, 6, 10)
    assert torch.equal(distorted, torch.full((3, 6, 10), 17 / 255))


def test_what_is_missing_is_named(stored):
    for stem in "ac":
        (stored / f"hot/day/{stem}.png").unlink()
    with pytest.raises(InvalidValue, match=r"hot: expected a distorted image .*, 2 of 3 are missing: a, c"):
        open_stored(stored)
    with pytest.raises(InvalidValue, match="none: expected the folder of the distorted images"):
        StoredTriplets(MaskFolder(stored), stored / "none")


def test_two_clean_images_do_not_share_a_distorted_one(stored):
    twice = torch.utils.data.Subset(MaskFolder(stored), [0, 1, 0])
    with pytest.raises(InvalidValue, match="hot: expected clean images of different stems, several are a"):
        StoredTriplets(twice, stored / "hot")


def test_two_of_one_stem_are_refused(stored):
    write(stored / "hot/night/b.png", np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(InvalidValue, match="there are several of b"):
        open_stored(stored)


@pytest.mark.parametrize("how", [{}, {"size": (6, 10)}])
def test_another_size_is_refused_with_both_sizes_and_names(how, stored):
    write(stored / "hot/day/a.png", np.zeros((12, 21, 3), np.uint8))
    words = r"hot/day/a.png has 12 x 21 pixels, the clean image \S*train/a.png has 12 x 20"
    with pytest.raises(InvalidInput, match=words):
        open_stored(stored, **how)[0]


def test_other_channels_are_refused(stored):
    grey = [(image[:1], mask) for image, mask in MaskFolder(stored)]

    class Grey(list):
        def name(self, index):
            return f"{STEMS[index]}.png"

    with pytest.raises(InvalidInput, match=r"hot/day/b.png has 3 channels, the image b.png has 1"):
        StoredTriplets(Grey(grey), stored / "hot")[1]


def test_a_file_that_is_no_image_is_named(stored):
    (stored / "hot/day/c.png").write_text("warm")
    with pytest.raises(InvalidInput, match=r"hot/day/c.png: expected an image file"):
        open_stored(stored)[2]


def test_resizing_is_that_of_the_clean_image(stored):
    whole = StoredTriplets(MaskFolder(stored), stored / "hot")[1][0]
    small = open_stored(stored, size=(6, 10))[1][0]
    torch.testing.assert_close(small, resize(whole, (6, 10)), atol=0.005, rtol=0)
