"""Files in folders, Cityscapes' layout, torchvision's datasets, augmentation, and the check of every item."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, Subset
from torchvision import tv_tensors

from smp_feedback.data import Cityscapes, Corrupted, MaskFolder, Polygons, check_dataset, open_dataset
from smp_feedback.data.augment import CropFlip, as_transform, augmented
from smp_feedback.data.classification import LAYOUTS, Classification
from smp_feedback.data.dataset_factory import AUGMENTATIONS, TORCHVISION
from smp_feedback.data.formats.cityscapes import TRAIN_IDS
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue, UnknownKeyword, UnknownName
from smp_feedback.evaluation import evaluate

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
NAMES = ["sky", "road", "car"]


def picture(height=6, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def labels(height=6, width=8, seed=0, most=2):
    return np.random.default_rng(seed).integers(0, most + 1, (height, width), np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(path)


def tensor(array):
    return torch.from_numpy(array.astype(np.int64))


# --- any folders


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "TIFF"])
@pytest.mark.parametrize("mask_suffix", ["png", "tif", "tiff"])
def test_images_and_masks_of_every_kind(tmp_path, suffix, mask_suffix):
    for k in range(2):
        save(tmp_path / f"photos/val/{k}.{suffix}", picture(seed=k))
        save(tmp_path / f"truth/{k}.{mask_suffix}", labels(seed=k))
    options = {"root": tmp_path, "images": "photos/{split}", "masks": "truth", "classes": NAMES}
    data = open_dataset("folder", "val", **options)
    assert (len(data), data.classes, data.ignore_index) == (2, tuple(NAMES), None)
    image, mask = data[1]
    assert torch.equal(mask, tensor(labels(seed=1)))
    if suffix != "jpg":
        assert torch.equal(image, torch.from_numpy(picture(seed=1)).permute(2, 0, 1) / 255)
    assert data.name(1) == str(tmp_path / "photos" / "val" / f"1.{suffix}")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_one_channel_of_16_bits_is_scaled_not_clipped(tmp_path, suffix):
    array = np.random.default_rng(0).integers(0, 1 << 16, (6, 8), np.uint16)
    save(tmp_path / f"train/x.{suffix}", array)
    save(tmp_path / "trainannot/x.png", labels())
    image, _ = MaskFolder(tmp_path, classes=NAMES)[0]
    assert image.dtype == torch.float32
    np.testing.assert_allclose(image.numpy(), np.broadcast_to(array / 65535, (3, 6, 8)), atol=1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_an_image_whose_range_nobody_knows_is_refused(tmp_path, kind):
    save(tmp_path / "train/x.tif", np.full((6, 8), -3, kind))
    save(tmp_path / "trainannot/x.png", labels())
    with pytest.raises(InvalidInput, match=rf"x\.tif: its values are {kind.__name__} from -3 to -3, .* a scale"):
        MaskFolder(tmp_path, classes=NAMES)[0]


def test_a_palette_counts_by_its_indices_and_a_label_may_be_ignored(tmp_path):
    values = labels()
    values[0, 0] = 255
    mask = Image.fromarray(values).convert("P")
    mask.putdata(values.flatten().tolist())
    mask.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    save(tmp_path / "train/a.png", picture())
    save(tmp_path / "trainannot/a.png", mask)
    data = open_dataset("folder", root=tmp_path, classes=NAMES, ignore_index=255)
    assert torch.equal(data[0][1], tensor(values))
    with pytest.raises(
        InvalidInput, match=r"trainannot.a.png has labels \[255\]; expected 0 to 2 \(the classes\)\. Is 255 the void"
    ):
        open_dataset("folder", root=tmp_path, classes=NAMES)[0]


def test_masks_with_names_of_their_own(tmp_path):
    save(tmp_path / "train/a.png", picture())
    save(tmp_path / "labels/train/a_mask.png", labels())
    options = {"classes": NAMES, "images": "{split}", "masks": "labels/{split}/{stem}_mask.png"}
    assert torch.equal(MaskFolder(tmp_path, **options)[0][1], tensor(labels()))
    save(tmp_path / "train/b.png", picture())
    (tmp_path / "val").mkdir()
    with pytest.raises(InvalidValue, match=r"train: expected masks for every image, missing 1: b_mask\.png"):
        MaskFolder(tmp_path, **options)
    with pytest.raises(InvalidValue, match=r"labels.val: expected a folder; .* has the folders .*'train', 'val'\]"):
        MaskFolder(tmp_path, "val", **options)


def test_two_masks_of_one_stem_are_refused(tmp_path):
    save(tmp_path / "train/a.png", picture())
    for suffix in ("png", "tif"):
        save(tmp_path / f"trainannot/a.{suffix}", labels())
    with pytest.raises(InvalidValue, match="one mask per image, several are called 1: a"):
        MaskFolder(tmp_path, classes=NAMES)


@pytest.fixture
def twenty(tmp_path):
    for k in range(20):
        save(tmp_path / f"train/{k}.png", picture(seed=k))
        save(tmp_path / f"trainannot/{k}.png", labels(seed=k))
    return tmp_path


def test_few_images_are_chosen_by_seed_and_keep_their_masks(twenty):
    names = []
    for seed in (0, 0, 1):
        data = open_dataset("folder", root=twenty, classes=NAMES, count=4, seed=seed)
        assert len(data) == 4
        for i in range(4):
            assert torch.equal(data[i][1], tensor(labels(seed=int(Path(data.name(i)).stem))))
        names.append([data.name(i) for i in range(4)])
    assert names[0] == names[1] != names[2]
    with pytest.raises(InvalidValue, match="count=21: expected at most the 20 items that 'train' has"):
        open_dataset("folder", root=twenty, classes=NAMES, count=21)
    with pytest.raises(InvalidValue, match="count=0"):
        open_dataset("camvid", root=twenty, count=0)


@pytest.mark.parametrize(
    ("name", "match"),
    [("camvid", "train/ and trainannot/"), ("cityscapes", "leftImg8bit/ and gtFine/"), ("folder", "names of labels")],
)
def test_what_has_to_be_given_is_asked_for(name, match):
    with pytest.raises(InvalidValue, match=match):
        open_dataset(name)


def test_a_folder_is_needed_too():
    with pytest.raises(InvalidValue, match=r"folder: root=None: expected the folder that holds"):
        open_dataset("folder", classes=NAMES)


def test_options_of_another_dataset_are_refused(twenty):
    with pytest.raises(UnknownKeyword, match="camvid takes no 'noise'"):
        open_dataset("camvid", root=twenty, noise=1.0)


def test_camvid_is_the_default_folder(twenty):
    data = open_dataset("camvid", root=twenty, size=(3, 4))
    assert data.samples == MaskFolder(twenty).samples
    assert (data[0][0].shape, data.ignore_index, len(data.classes)) == ((3, 3, 4), 11, 11)


# --- Cityscapes


def city(root, name, ids, split="train"):
    place = name.partition("_")[0]
    save(root / f"leftImg8bit/{split}/{place}/{name}_leftImg8bit.png", picture())
    save(root / f"gtFine/{split}/{place}/{name}_gtFine_labelIds.png", ids)


def test_cityscapes_becomes_train_ids_and_ignores_the_rest(tmp_path):
    ids = np.arange(48).reshape(6, 8) % 34
    ids[-1, -1] = 255
    city(tmp_path, "ulm_000000_000019", ids.astype(np.uint8))
    image, mask = open_dataset("cityscapes", root=tmp_path)[0]
    table = dict.fromkeys((*range(34), 255), 255)
    evaluated = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    table |= {number: k for k, number in enumerate(evaluated)}
    assert torch.equal(mask, tensor(np.vectorize(table.get)(ids)))
    assert torch.equal(image, torch.from_numpy(picture()).permute(2, 0, 1) / 255)
    data = Cityscapes(tmp_path)
    assert (len(data.classes), data.classes[0], data.classes[13], data.classes[18]) == (19, "road", "car", "bicycle")
    assert data.ignore_index == 255
    assert list(TRAIN_IDS) == evaluated


def test_cities_are_found_in_order_and_what_is_missing_is_named(tmp_path):
    for name in ("ulm_000000_000010", "ulm_000000_000009", "bonn_000000_000001"):
        city(tmp_path, name, labels())
    data = Cityscapes(tmp_path, size=4)
    assert [Path(data.name(i)).name.split("_left")[0] for i in range(3)] == [
        "bonn_000000_000001",
        "ulm_000000_000009",
        "ulm_000000_000010",
    ]
    assert len(open_dataset("cityscapes", root=tmp_path, count=2, seed=3)) == 2
    (tmp_path / "gtFine/train/bonn/bonn_000000_000001_gtFine_labelIds.png").unlink()
    with pytest.raises(InvalidValue, match=r"gtFine.train: expected masks for every image, missing 1: .*bonn"):
        Cityscapes(tmp_path)
    with pytest.raises(InvalidValue, match=r"leftImg8bit.val: expected a folder"):
        Cityscapes(tmp_path, "val")


def test_an_id_that_cityscapes_does_not_have_is_named(tmp_path):
    city(tmp_path, "ulm_000000_000019", np.full((6, 8), 77, np.uint8))
    with pytest.raises(InvalidInput, match=r"labelIds.png has ids \[77\]; expected those of Cityscapes"):
        Cityscapes(tmp_path)[0]


# --- torchvision


def test_grey_digits_become_rgb_images_with_a_label(mnist):
    data = open_dataset("torchvision/mnist", "test", root=mnist)
    image, label = data[3]
    stored = np.fromfile(mnist / "MNIST/raw/t10k-images-idx3-ubyte", np.uint8)[16:].reshape(10, 28, 28)
    assert torch.equal(image, torch.from_numpy(stored[3]).expand(3, -1, -1) / 255)
    assert (label.dtype, label.shape, int(label)) == (torch.int64, (), 3)
    assert (len(data), len(data.classes), data.ignore_index) == (10, 10, None)
    assert data.name(3) == "torchvision/MNIST test[3]"
    images, targets = next(iter(DataLoader(open_dataset("torchvision/MNIST", root=mnist, size=(32, 40)), 4)))
    assert (images.shape, targets.shape) == ((4, 3, 32, 40), (4,))
    check_dataset(data)


def test_a_tenth_of_the_training_images_is_held_out_for_every_seed(mnist):
    train, val = (open_dataset("torchvision/MNIST", split, root=mnist, seed=5) for split in ("train", "val"))
    assert (len(train), len(val)) == (36, 4)
    assert sorted(train.indices + val.indices) == list(range(40))
    assert val.indices == open_dataset("torchvision/MNIST", "val", root=mnist, seed=0).indices
    few = [open_dataset("torchvision/MNIST", root=mnist, count=5, seed=s) for s in (0, 0, 1)]
    assert few[0].indices == few[1].indices != few[2].indices
    assert all(set(data.indices) <= set(train.indices) for data in few)
    i = few[0].indices[0]
    assert few[0].name(0) == f"torchvision/MNIST train[{i}]"
    assert int(few[0][0][1]) == i % 10


def test_a_split_of_torchvisions_own_is_used_where_there_is_one(monkeypatch, tmp_path):
    class Textures:
        classes = ("dotted", "striped")

        def __init__(self, root, *, split, download):
            self.split = split

        def __len__(self):
            return 6

        def __getitem__(self, index):
            colour = {"train": 10, "val": 20, "test": 30}[self.split] + index
            return Image.new("RGB", (5, 4), (colour, 0, 0)), index % 3

    monkeypatch.setattr("torchvision.datasets.DTD", Textures)
    for split, base in (("train", 10), ("val", 20), ("test", 30)):
        data = Classification("DTD", split, root=tmp_path)
        assert len(data) == 6
        assert (data[1][0][0] * 255 == base + 1).all()
        assert data.name(1) == f"torchvision/DTD {split}[1]"
    with pytest.raises(InvalidInput, match=r"torchvision/DTD test\[2\] has the label 2; expected 0 to 1"):
        data[2]
    with pytest.raises(
        InvalidInput, match=r"2 of 6 items .*\n.*test\[2\] has the label 2.*\n.*test\[5\] has the label"
    ):
        check_dataset(data)


def test_absent_files_are_named_with_root_and_remedy(tmp_path):
    for name in ("MNIST", "CIFAR10", "USPS"):
        with pytest.raises(InvalidInput, match=rf"torchvision/{name}: .*root='{tmp_path}'; download=True fetches"):
            open_dataset(f"torchvision/{name}", root=tmp_path)
    with pytest.raises(InvalidValue, match="root=None: expected the folder of its files; download=True"):
        open_dataset("torchvision/MNIST")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    with pytest.raises(UnknownName, match="Did you mean 'torchvision/MNIST'"):
        open_dataset("torchvision/MNITS", root=tmp_path)


def test_every_torchvision_dataset_has_a_layout_and_exists():
    from torchvision import datasets

    assert sorted(LAYOUTS) == sorted(TORCHVISION)
    assert all(hasattr(datasets, name) for name in LAYOUTS)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no data at {SHARED}; small files cover the same code")
def test_the_real_digits_and_streets_open():
    digits = open_dataset("torchvision/MNIST", "test", root=SHARED / "mnist", size=32)
    assert (len(digits), digits.classes[7]) == (2000, "7 - seven")
    check_dataset(Subset(digits, range(50)))
    check_dataset(Subset(open_dataset("camvid", "val", root=SHARED / "camvid", size=(96, 128)), range(10)))


# --- augmentation


def coordinates(height=24, width=32):
    """An image whose red and green say where a pixel came from, and a mask of blocks of 4 that say the same."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([(y + 0.5) / height, (x + 0.5) / width, torch.zeros(height, width)])
    return image.float(), (y // 4) * (width // 4) + x // 4


@pytest.mark.parametrize("name", sorted({*AUGMENTATIONS} - {"colour"}))
def test_augmentation_moves_image_and_mask_together(name):
    image, mask = coordinates()
    for seed in range(20):
        torch.manual_seed(seed)
        moved, where = augmented(as_transform(name), image, mask)
        assert (moved.shape, where.shape, where.dtype) == (image.shape, mask.shape, torch.int64)
        assert type(moved) is type(where) is torch.Tensor
        y, x = moved[0] * 24 - 0.5, moved[1] * 32 - 0.5
        inner = (torch.stack([y, x]) % 4 - 1.5).abs().amax(0) < 1  # clear of the edges of a block
        assert inner.float().mean() > 0.15
        block = (y / 4 + 0.125).floor() * 8 + (x / 4 + 0.125).floor()
        assert torch.equal(block[inner].long(), where[inner])


def test_colours_change_and_move_with_the_mask():
    mask = (torch.arange(8) >= 4).long().expand(8, 8)
    image = (0.2 + 0.5 * mask).expand(3, 8, 8)  # light where the mask is 1
    sides, shades = set(), set()
    for seed in range(20):
        torch.manual_seed(seed)
        moved, where = augmented(as_transform("colour"), image, mask)
        assert moved[:, where == 1].min() > moved[:, where == 0].max()
        sides.add(int(where[0, 0]))
        shades.add(float(moved.max()))
    assert sides == {0, 1}
    assert len(shades) > 10


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_of_an_image_alone_and_repeatably(name, mnist):
    transform = as_transform(name)
    image = coordinates()[0]
    if transform is not None:
        assert isinstance(transform(tv_tensors.Image(image)), tv_tensors.Image)
    torch.manual_seed(1)
    first = [open_dataset("torchvision/MNIST", root=mnist, transform=name)[i][0] for i in range(5)]
    torch.manual_seed(1)
    again = [open_dataset("torchvision/MNIST", root=mnist, transform=name)[i][0] for i in range(5)]
    assert all(torch.equal(a, b) and type(a) is torch.Tensor for a, b in zip(first, again, strict=True))


def test_flips_flip_half_of_the_time_each():
    image, mask = coordinates()
    seen = {}
    for name in AUGMENTATIONS:
        turned = [augmented(as_transform(name), image, mask)[1] for _ in range(200)]
        seen[name] = [np.mean([bool((m[0, 0] - m[0, -1]) > 0) for m in turned])]
        seen[name].append(np.mean([bool(m[0, 0] // 8 > m[-1, 0] // 8) for m in turned]))
    assert seen["none"] == [0, 0]
    assert [abs(seen[name][0] - 0.5) < 0.15 for name in ("flip", "flips", "crop_flip")] == [True] * 3
    assert seen["flip"][1] == seen["crop_flip"][1] == 0
    assert abs(seen["flips"][1] - 0.5) < 0.15


def test_crop_flip_shows_a_share_of_the_sides_in_proportion_anywhere():
    crop, image = CropFlip(0.5), tv_tensors.Image(torch.zeros(3, 60, 80))
    drawn = [crop.make_params([image]) for _ in range(500)]
    shares = np.array([[p["part"][0] / 60, p["part"][1] / 80] for p in drawn])
    assert abs(shares[:, 0] - shares[:, 1]).max() < 0.02
    assert 0.49 <= shares.min() < 0.52 < 0.98 < shares.max() <= 1
    assert shares.mean() == pytest.approx(0.75, abs=0.03)
    room = np.array([[p["corner"][k] / max(1, side - p["part"][k]) for k, side in ((0, 60), (1, 80))] for p in drawn])
    assert 0 <= room.min() < 0.05 < 0.95 < room.max() <= 1


def test_what_is_no_augmentation_is_refused():
    with pytest.raises(InvalidType, match=r"transform=3: expected a callable, None, or one of \['colour', 'crop_flip'"):
        Polygons(transform=3)


# --- the check of every item


def test_every_bad_file_is_named_at_once(twenty):
    (twenty / "train/3.png").write_bytes(b"no image")
    save(twenty / "trainannot/5.png", labels(8, 6))
    save(twenty / "trainannot/7.png", np.full((6, 8), 9, np.uint8))
    data = MaskFolder(twenty, classes=NAMES, ignore_index=None)
    with pytest.raises(InvalidInput) as caught:
        check_dataset(data)
    first, *lines = str(caught.value).splitlines()
    assert first == "3 of 20 items cannot be used:"
    assert [f"{n}.png" in line for n, line in zip((3, 5, 7), lines, strict=True)] == [True] * 3
    assert ["cannot be read" in lines[0], "8 x 6 pixels" in lines[1], "has labels [9]" in lines[2]] == [True] * 3
    with pytest.raises(InvalidInput, match="3 of 20"):
        check_dataset(Corrupted(Corrupted(Subset(data, range(20)), "gaussian_noise", 1), "brightness", 1))


def test_a_long_list_is_cut(twenty):
    for k in range(20):
        (twenty / f"train/{k}.png").write_bytes(b"")
    data = MaskFolder(twenty, classes=NAMES)
    with pytest.raises(InvalidInput, match=r"40 of 40 items(?s:.)*\.\.\. and 20 more\.$"):
        check_dataset(Subset(data, [*range(20), *range(20)]))


def test_a_whole_dataset_passes_with_and_without_a_progress_bar(twenty, capsys):
    data = MaskFolder(twenty, classes=NAMES, transform="crop_flip")
    state = torch.get_rng_state()
    check_dataset(data)
    assert torch.equal(torch.get_rng_state(), state)
    assert capsys.readouterr().out == ""
    check_dataset(data, progress=True)
    assert "checking" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("item", "match"),
    [
        ((torch.zeros(3, 4, 4).byte(), torch.tensor(0)), "an image of torch.uint8, expected a floating-point tensor"),
        ((torch.zeros(4, 4), torch.tensor(0)), r"an image of shape \(4, 4\), expected \(C, H, W\)"),
        ((torch.full((3, 4, 4), 255.0), torch.tensor(0)), "values 255 to 255, expected 0 to 1"),
        ((torch.full((3, 4, 4), float("nan")), torch.tensor(0)), "values nan to nan"),
        ((torch.zeros(3, 4, 4), "a"), "a target of str, expected torch.int64"),
        ((torch.zeros(3, 4, 4), torch.full((4, 4), 0.5)), r"target of torch\.float32 holds 0\.5"),
        ((torch.zeros(3, 4, 4), torch.zeros(4, 5).long()), r"shape \(4, 5\), expected \(4, 4\)"),
        ((torch.zeros(3, 4, 4), torch.tensor(2)), r"labels \[2\]; expected 0 to 1 \(the classes\) or 9 \(ignored\)"),
        ((torch.zeros(3, 4, 4), torch.tensor(-1)), r"labels \[-1\]"),
        (None, r"NoneType: expected \(image, target"),
    ],
)
def test_a_strangers_items_are_held_to_the_contract(item, match):
    class Mine(list):
        classes, ignore_index = ("a", "b"), 9

        def name(self, index):
            return f"mine {index}"

    good = [(torch.zeros(3, 4, 4), torch.tensor(1)), (torch.zeros(3, 4, 4), torch.full((4, 4), 9))]
    check_dataset(Mine(good))
    with pytest.raises(InvalidInput, match=f"1 of 3 items cannot be used:\nmine 2: .*{match}"):
        check_dataset(Mine([*good, item]))


class Endless(IterableDataset):
    def __iter__(self):
        yield torch.zeros(3, 2, 2), torch.tensor(0)


MASK = torch.tensor([[0, 1], [1, 9]])


@pytest.mark.parametrize(
    "target",
    [MASK, MASK.byte(), MASK.int(), MASK.float(), MASK[None], MASK[None].byte(), MASK.numpy(), MASK.numpy()[None]],
)
@pytest.mark.parametrize("named", [False, True])
def test_what_training_takes_is_counted(target, named):
    class Mine(list):
        classes, ignore_index = ("a", "b"), 9

    item = {"image": torch.zeros(3, 2, 2), "mask": target} if named else (torch.zeros(3, 2, 2), target)
    (split,) = check_dataset(Mine([item])).splits.values()
    assert [one.pixels for one in split.classes] == [1, 2]
    assert split.ignored == 0.25


@pytest.mark.parametrize("dataset", [DataLoader([0]), iter([]), Endless(), None])
def test_what_has_no_places_is_refused_in_words(dataset):
    for check in (check_dataset, lambda data: evaluate(torch.nn.Identity(), data, classes=2)):
        with pytest.raises(InvalidType, match=r"(dataset|data) is a \w+: expected (a map-style|the) dataset"):
            check(dataset)


def test_nothing_is_no_dataset():
    with pytest.raises(InvalidValue, match="expected items, found none"):
        check_dataset([])
