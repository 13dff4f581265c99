"""What is said of a dataset before it is trained on, against counts by hand."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_folders import CLASSES, folder, mask, picture, save
from torch.utils.data import ConcatDataset, Subset, random_split

from smp_feedback.data import Corrupted, MaskFolder, Shapes, check_dataset, count_classes
from smp_feedback.data.folders.sharing import check_shared
from smp_feedback.data.inspection.alike import check_alike, unlike
from smp_feedback.data.inspection.problems import percent, problems_of
from smp_feedback.data.inspection.report import DataReport, SplitReport
from smp_feedback.data.inspection.suggestions import class_weights, suggestions
from smp_feedback.data.inspection.summary import data_summary
from smp_feedback.data.items import inherited, item_name
from smp_feedback.errors import InvalidInput, InvalidValue


def opened(root, split="train", **how):
    return MaskFolder(root, split, **{"classes": CLASSES, "ignore_index": 255, **how})


def check(root, *splits, **how):
    """The report of a folder, whatever is wrong with it."""
    return check_dataset({split: opened(root, split) for split in splits}, strict=False, **how)


def said(report, words):
    """The problems of *report* that say *words*."""
    return [problem for problem in report.problems if words in str(problem)]


class Listed(list):
    classes, ignore_index = ("a", "b", "c"), 9


# --- what is counted


def test_shares_of_pixels_and_of_images_are_those_of_the_masks(tmp_path):
    root = folder(tmp_path, train=[mask(0), mask(0, 1), mask(255, 2), mask(255)])
    split = check(root, "train").splits["train"]
    rows = {row.name: (row.pixels, row.images, row.share, row.image_share) for row in split.classes}
    assert rows == {
        "ground": (48 + 24, 2, pytest.approx(72 / 120), 2 / 4),
        "tree": (24, 1, pytest.approx(24 / 120), 1 / 4),
        "house": (24, 1, pytest.approx(24 / 120), 1 / 4),
    }
    assert split.ignored == pytest.approx(72 / 192)
    assert split.void == (str(root / "train/3.png"),)
    assert (split.items, split.looked, split.sizes, split.stored) == (4, 4, {(6, 8): 4}, {(6, 8): 4})
    assert (split.channels, split.kinds) == ({3: 4}, {"3 x uint8": 4})
    assert (split.low, split.high) == (pytest.approx(10 / 255), pytest.approx(240 / 255))


@settings(max_examples=30, deadline=None)
@given(masks=st.lists(st.lists(st.sampled_from([0, 1, 2, 9]), min_size=12, max_size=12), min_size=1, max_size=5))
def test_any_masks_are_counted_as_numpy_counts_them(masks):
    arrays = np.array(masks).reshape(-1, 3, 4)
    items = Listed((torch.rand(3, 3, 4), torch.from_numpy(array)) for array in arrays)
    split = check_dataset(items).splits["dataset"]
    counted = (arrays != 9).sum()
    assert [row.pixels for row in split.classes] == [(arrays == k).sum() for k in range(3)] == count_classes(items)
    assert [row.images for row in split.classes] == [(arrays == k).any((1, 2)).sum() for k in range(3)]
    assert [row.share for row in split.classes] == [
        pytest.approx((arrays == k).sum() / max(1, counted)) for k in range(3)
    ]
    assert split.ignored == pytest.approx((arrays == 9).mean())
    assert len(split.void) == (arrays == 9).all((1, 2)).sum()


def test_each_channel_of_a_multilabel_mask_is_a_class():
    class Labelled(Listed):
        task = "multilabel"

    channels = torch.tensor([[[1, 1]], [[0, 1]], [[0, 9]]])
    split = check_dataset(Labelled([(torch.rand(3, 1, 2), channels)])).splits["dataset"]
    assert split.task == "multilabel"
    assert [(row.pixels, row.images, row.share) for row in split.classes] == [(2, 1, 1.0), (1, 1, 0.5), (0, 0, 0.0)]
    assert split.ignored == pytest.approx(1 / 6)
    assert count_classes(Labelled([(None, channels)])) == [2, 1, 0]
    for target, words in ((channels[:2], r"\(2, 1, 2\), expected \(3, 1, 2\)"), (channels + 2, "values")):
        with pytest.raises(InvalidInput, match=words):
            check_dataset(Labelled([(torch.rand(3, 1, 2), target)]))


def test_labels_are_counted_as_images():
    split = check_dataset(Listed((torch.rand(3, 2, 2), torch.tensor(k)) for k in (0, 0, 2, 9))).splits["dataset"]
    assert (split.task, [row.pixels for row in split.classes]) == ("classification", [2, 0, 1])
    assert [row.share for row in split.classes] == [pytest.approx(2 / 3), 0, pytest.approx(1 / 3)]


def test_every_item_is_read_once_and_nothing_that_is_drawn_afterwards_changes(tmp_path):
    class Random(Listed):
        read = 0

        def __getitem__(self, index):
            Random.read += 1
            return torch.rand(3, 2, 2) * random.random() * np.random.rand(), super().__getitem__(index)

    data = Random(torch.tensor(k) for k in (0, 1, 2))
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    check_dataset({"train": data, "val": data})
    assert Random.read == 6
    data_summary({"train": data})
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]


def test_a_report_is_plain_values(tmp_path):
    root = folder(tmp_path, train=[mask(0, 1)], val=[mask(0, 2)])
    found = json.loads(json.dumps(check(root, "train", "val").to_dict()))
    assert found["splits"]["train"]["stored"] == {"6 x 8": 1}
    assert found["splits"]["val"]["classes"][2] == {
        "name": "house", "pixels": 24, "images": 1, "share": 0.5, "image_share": 1.0
    }  # fmt: skip
    assert {"severity", "split", "item", "words"} == found["problems"][0].keys()


# --- what is wrong


def test_what_cannot_be_used_is_among_the_problems_unless_it_is_to_be_raised(tmp_path):
    root = folder(tmp_path, train=[mask(0, 1, 2), mask(0, 1, 7), mask(0, 1, 2)])
    (root / "train/2.png").write_bytes(b"no image")
    report = check(root, "train")
    errors = [problem.item for problem in report.errors]
    assert errors == [str(root / "train/1.png"), str(root / "train/2.png")]
    assert "[7]" in report.errors[0].words
    assert report.splits["train"].looked == 1
    with pytest.raises(InvalidInput, match="2 of 3 items cannot be used"):
        check_dataset({"train": opened(root)})


def test_a_class_without_a_pixel_is_said_and_255_may_be_what_it_means(tmp_path):
    root = folder(tmp_path, train=[mask(0, 1, 255, 255)], val=[mask(0, 1, 2)], test=[mask(0, 2)])
    (absent,) = said(check(root, "train", "val", "test"), "'house'")
    assert (absent.severity, absent.split) == ("warning", "train")
    assert "has no pixel, though it has in val and test: it is never learnt" in absent.words
    assert "50.0 % of the pixels are ignored (255): if 255 means 'house', set data.values: {255: 2}" in absent.words
    (unscored,) = said(check(root, "train", "test"), "'tree'")
    assert (unscored.split, unscored.words) == ("test", "'tree' has no pixel: it is never scored.")


def test_a_class_that_is_itself_ignored_needs_no_pixel_and_is_said_unless_it_is_called_so(tmp_path):
    root = folder(tmp_path, train=[mask(0, 1)])
    (problem,) = check_dataset(opened(root, ignore_index=2)).problems
    assert str(problem) == ("dataset: 'house' is label 2, and data.ignore_index is 2: it is neither learnt nor scored.")
    assert not check_dataset(opened(root, classes=["ground", "tree", "void"], ignore_index=2)).problems


@pytest.mark.parametrize(("labels", "severity"), [((0,), "error"), ((0, 1), "warning")])
def test_where_one_class_is_left_there_is_nothing_to_learn(labels, severity, tmp_path):
    report = check(folder(tmp_path, train=[mask(*labels, 255)]), "train")
    assert report.problems[0].severity == severity
    assert bool(said(report, "nothing to learn")) == (severity == "error")


def test_void_is_said_and_a_split_of_void_alone_is_an_error(tmp_path):
    root = folder(tmp_path, train=[mask(0, 1, 2), mask(255)], val=[mask(255), mask(255)])
    report = check(root, "train", "val")
    first, *rest = report.problems
    assert (first.severity, first.split) == ("error", "val")
    assert "every pixel of every mask is ignored (255)" in first.words
    assert [str(one) for one in rest] == [f"train: every pixel is ignored (255) in 1 of 2 images ({root}/train/1.png)."]


def test_sizes_that_differ_are_an_error_where_batches_are_made_of_them(tmp_path):
    root = folder(tmp_path, train=[mask(0, 1, 2), mask(0, 1, 2, size=(9, 4)), mask(0, 1, 2)])
    (problem,) = check(root, "train", batch_size=2).problems
    assert problem.severity == "error"
    for words in ("6 x 8", "9 x 4", "train/0.png", "train/1.png", "data.size", "data.crop", "data.batch_size 1"):
        assert words in problem.words
    assert [one.severity for one in check(root, "train").problems] == ["warning"]
    assert not check(root, "train", batch_size=1).problems
    assert not check(root, "train", batch_size=2, crop=4).problems
    assert check(root, "train", batch_size=2, crop=5).errors, "one image is 4 pixels wide"
    assert not check_dataset(opened(root, size=6), batch_size=2).problems


def test_rare_classes_few_images_constant_and_dark_ones_are_said(tmp_path):
    rare = np.zeros((40, 60), np.uint8)
    rare[0, :2], rare[1] = 2, 1
    root = folder(tmp_path, train=[rare, mask(0, 1)])
    for k in range(2):
        save(root / f"train/{k}.png", np.full((*((40, 60), (6, 8))[k], 3), 20, np.uint8))
    report = check(root, "train", batch_size=3)
    assert said(report, "2 images make no batch of 3: set data.batch_size to 2 or less")[0].severity == "error"
    assert said(report, f"'house' has {percent(2 / 2448)} of the pixels, in 1 of 2 images")
    assert said(report, "of one value in 2 of 2 images")
    assert not said(report, "nearly black"), "that is said already"
    save(root / "train/1.png", picture(0) // 10)
    assert said(check(root, "train"), "the largest value of its images is 0.094, nearly black")


def test_a_narrow_range_of_16_bits_is_said_with_the_scale_to_set(tmp_path):
    root = folder(tmp_path, train=[mask(0, 1, 2)])
    save(root / "train/0.png", np.arange(48, dtype=np.uint16).reshape(6, 8) * 100)
    (problem,) = check(root, "train").problems
    assert "0.072 of what 16 bits hold" in problem.words
    assert "data.scale: [0, 4700]" in problem.words


def test_files_left_beside_are_said():
    class Beside(Listed):
        left_out = ("a.webp", "sub/b.png", "c.bmp", "d.jfif")

    (problem,) = said(check_dataset(Beside([(torch.rand(3, 2, 2), torch.tensor([[0, 1], [2, 9]]))])), "left out")
    assert "4 files are left out, which lie beside those that are read (a.webp, sub/b.png, c.bmp, ...)" in problem.words


def test_problems_are_sorted_errors_first():
    splits = {"train": SplitReport(items=1, looked=1, left_out=("a",), unusable=(("b", "b: broken"),))}
    assert [one.severity for one in problems_of(splits, batch_size=2)] == ["error", "error", "warning"]


def test_a_share_has_digits_that_say_something():
    assert [percent(share) for share in (0.5, 0.012, 0.0099, 0.000123, 1e-7)] == [
        "50.0 %", "1.2 %", "0.99 %", "0.012 %", "0.00001 %"
    ]  # fmt: skip


# --- images of one batch


def turned(path, array):
    """As a phone stores it that was held on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(array).save(path, exif=exif)


def test_images_are_unlike_by_what_is_seen_of_them(tmp_path):
    root = folder(tmp_path, train=[mask(0), mask(0), mask(0)])
    assert unlike(opened(root)) is None
    turned(root / "train/1.png", picture(1, (8, 6)))
    assert unlike(opened(root)) is None, "upright it is as the others"
    save(root / "train/2.png", picture(2, (6, 9)))
    save(root / "trainannot/2.png", mask(0, size=(6, 9)))
    first, other = unlike(Corrupted(Subset(opened(root), [2, 0]), "brightness", 1))
    assert (first, other) == (((6, 9), str(root / "train/2.png")), ((6, 8), str(root / "train/0.png")))
    assert unlike(Subset(opened(root), [0, 1])) is None
    assert unlike(opened(root, size=(6, 8))) is None


def test_sizes_are_seen_before_any_image_is_read(tmp_path, monkeypatch):
    root = folder(tmp_path, train=[mask(0)] * 4)
    monkeypatch.setattr(MaskFolder, "__getitem__", lambda self, index: pytest.fail("read"))
    check_alike(opened(root), 4)


def test_unlike_images_are_refused_in_one_line_unless_they_come_alone(tmp_path):
    root = folder(tmp_path, train=[mask(0), mask(0, size=(4, 4))])
    with pytest.raises(
        InvalidInput, match=r"6 x 8 \(.*0\.png\) and 4 x 4 \(.*1\.png\): set data\.size, data\.crop"
    ) as e:
        check_alike(opened(root), 2)
    assert "\n" not in str(e.value)
    check_alike(opened(root), 1)
    check_alike(opened(root, transform=None, size=4), 2)


# --- the short form


def test_the_short_form_reads_masks_alone(tmp_path, monkeypatch):
    root = folder(tmp_path, train=[mask(0, 1, 255, 255), mask(0, 1, 1, 1)], val=[mask(0, 1, 2)])
    monkeypatch.setattr(MaskFolder, "__getitem__", lambda self, index: pytest.fail("read"))
    lines = data_summary({"train": opened(root), "val": opened(root, "val")})
    assert lines[0] == "train: 2 images of 6 x 8; val: 1 images of 6 x 8"
    assert lines[1] == ("3 classes, of train's pixels from 33.3 % (ground) to 66.7 % (tree); 25.0 % are ignored (255)")
    (warning,) = lines[2:]
    assert warning.startswith("warning: train: 'house' has no pixel, though it has in val")
    assert "data.values: {255: 2}" in warning


def test_the_short_form_says_that_it_looked_at_some(monkeypatch):
    monkeypatch.setattr("smp_feedback.data.inspection.summary.MOST_ITEMS", 2)
    data = Listed((torch.rand(3, 1, 2), torch.tensor([[0, k]])) for k in (1, 2, 1, 2))
    _, classes, warning = data_summary({"train": data})
    assert "of train's pixels (2 of 4 looked at)" in classes
    assert "'c' has no pixel (2 of 4 masks looked at)" in warning


def test_the_short_form_refuses_a_mask_that_training_would_stop_at(tmp_path):
    root = folder(tmp_path, train=[mask(0, 1), mask(7)])
    with pytest.raises(InvalidInput, match=r"trainannot/1\.png has labels \[7\]"):
        data_summary({"train": opened(root)})
    with pytest.raises(InvalidInput, match=r"item 1: labels \[7\]"):
        data_summary({"train": Listed([(None, torch.tensor(0)), (None, torch.tensor(7))])})


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("most", [200, 1])
def test_the_short_form_refuses_a_split_of_void_alone_though_it_looks_at_some(split, most, tmp_path, monkeypatch):
    monkeypatch.setattr("smp_feedback.data.inspection.summary.MOST_MASKS", most)
    masks = {"train": [mask(0, 1, 2)] * 2, "val": [mask(0, 1, 2)] * 2} | {split: [mask(255), mask(255)]}
    root = folder(tmp_path, **masks)
    with pytest.raises(InvalidInput, match=rf"{split}: every pixel of every mask is ignored \(255\)"):
        data_summary({name: opened(root, name) for name in masks})
    save(root / f"{split}annot/1.png", mask(255, 0, 1, 2))
    data_summary({name: opened(root, name) for name in masks})


def test_the_short_form_says_dark_files_of_16_bits_and_of_several_dtypes(tmp_path):
    root = folder(tmp_path, train=[mask(0, 1, 2)] * 2, val=[mask(0, 1, 2)])
    both = {name: opened(root, name) for name in ("train", "val")}
    assert len(data_summary(both)) == 2
    for k in range(2):
        values = np.linspace(0, 4095, 48).reshape(6, 8).astype(np.uint16)
        Image.fromarray(values).save(root / f"train/{k}.png")
    _, _, *warned = data_summary(both)
    assert len(warned) == 2
    assert "train: the largest value of its images is 0.062 of what 16 bits hold, nearly black" in warned[0]
    assert "data.scale: [0, 4095]" in warned[0]
    assert "files are of uint16 (in train) and uint8 (in val), each read over the range of its own dtype" in warned[1]
    assert said(check_dataset(both), "files are of uint16 (in train) and uint8 (in val)")
    assert len(data_summary({name: opened(root, name, scale="percentile") for name in both})) == 3


def test_the_short_form_is_short_of_many_classes_too():
    class Many(list):
        classes, ignore_index = tuple(map(str, range(300))), None

    _, _, *warned = data_summary({"train": Many([(torch.rand(3, 1, 2), torch.tensor([[0, 1]]))] * 2)})
    assert len(warned) == 11
    assert warned[-1] == "... and 288 warnings more; smp-feedback check --json has all"


@pytest.mark.parametrize(
    ("orientation", "size", "turned"), [(1, (6, 8), 0), (3, (6, 8), 1), (2, (6, 8), 1), (6, (8, 8), 1), (6, (6, 8), 0)]
)
@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_photos_that_are_turned_as_exif_says_though_of_one_size_are_said(orientation, size, turned, suffix, tmp_path):
    upright = size if orientation < 5 else size[::-1]
    root = folder(tmp_path, train=[mask(0, 1, 2, size=upright)])
    (root / "train/0.png").unlink()
    exif = Image.Exif()
    exif[0x0112] = orientation
    how = {"exif": exif} if suffix == "jpg" else {"tiffinfo": {274: orientation}}
    Image.fromarray(picture(0, size)).save(root / f"train/0.{suffix}", **how)
    report = check(root, "train")
    assert not report.errors
    assert len(said(report, "1 of 1 images are turned or mirrored as their EXIF orientation says")) == turned


def test_files_of_four_and_of_five_bands_are_an_error():
    items = Listed((torch.rand(bands, 2, 2), torch.tensor([[0, 1], [2, 9]])) for bands in (4, 5))
    (problem,) = check_dataset(items).errors
    assert "other numbers of channels, such as 4 (item 0) and 5 (item 1), and a model takes one" in problem.words


def test_one_file_a_class_whose_255_is_ignored_has_nothing_to_learn(tmp_path):
    for i in range(2):
        save(tmp_path / "train" / f"{i}.png", picture(i))
        save(tmp_path / f"trainannot/cat/{i}.png", mask(0, 255))
    how = {"masks": "{split}annot/{class}/{stem}.png", "classes": ["cat"]}
    (problem,) = check_dataset({"train": opened(tmp_path, **how)}).errors
    assert "no mask has a pixel of any class: there is nothing to learn. 50.0 % of the pixels are ignored" in str(
        problem
    )
    assert "set data.values: {255: 1}" in problem.words
    assert not check_dataset({"train": opened(tmp_path, **how, values={255: 1})}).errors


# --- what to set


def test_what_follows_from_the_data_is_suggested():
    def found(*sizes, items=8, **how):
        split = SplitReport(items=items, looked=items, sizes=dict.fromkeys(sizes, 1))
        report = DataReport(splits={"train": split})
        return {
            one.key: one.value for one in suggestions(report, **{"size": None, "batch_size": 8, "crop": None, **how})
        }

    assert found((64, 96)) == {}
    assert found((360, 480)) == {"size": [352, 480]}
    assert found((6, 8), items=3) == {"size": [32, 32], "batch_size": 3}
    assert found((64, 64), (64, 64 * 3), (128, 256)) == {"size": [64, 192]}
    assert found((64, 64), (64, 96), crop=64) == {}
    assert found((60, 90), size=32) == {}


def test_weights_make_up_for_how_often_a_class_is(tmp_path):
    pixels = np.zeros((10, 12), np.uint8)
    pixels[0, :6], pixels[1:4] = 2, 1
    split = check(folder(tmp_path, train=[pixels]), "train").splits["train"]
    why, weights = class_weights(split)
    shares = np.array([78, 36, 6]) / 120
    assert weights == pytest.approx(np.median(shares) / shares, rel=1e-2)
    assert why == "from 5.0 % (house) to 65.0 % (ground) of the pixels"
    assert class_weights(check(folder(tmp_path / "even", train=[mask(0, 1, 2)]), "train").splits["train"]) is None


# --- what splits have in common


def test_images_in_two_splits_are_the_first_problem(tmp_path):
    root = folder(tmp_path, train=[mask(0, 1, 2)] * 2, val=[mask(0, 1, 2)] * 2, test=[mask(0, 1, 2)])
    assert not check(root, "train", "val", "test").problems
    (root / "val/1.png").write_bytes((root / "train/0.png").read_bytes())
    (root / "trainannot/1.png").write_bytes((root / "trainannot/0.png").read_bytes())  # masks may be equal
    first, *_ = check(root, "train", "val", "test").problems
    assert (first.severity, first.split, first.item) == ("warning", "val", str(root / "val/1.png"))
    assert (
        f"1 of 2 images of val are in train, too, byte for byte, such as {root}/val/1.png = {root}/train/0.png"
        in first.words
    )
    assert check(root, "train", "val", shared="refuse").errors == (
        check_dataset({s: opened(root, s) for s in ("train", "val")}, shared="refuse").problems[0],
    )
    assert not check(root, "train", "val", shared="allow").problems
    (root / "test/0.png").unlink()
    (root / "test/0.png").symlink_to(root / "train/1.png")
    assert not check(root, "train", "val", "test").errors
    assert len(check(root, "train", "val", "test", shared="refuse").errors) == 2
    error = next(one for one in check(root, "train", "val", "test").problems if one.split == "test")
    assert error.severity == "warning"
    assert "1 of 1 images of test are in train, too, the same files" in error.words


def test_a_mask_file_is_of_one_split(tmp_path):
    root = folder(tmp_path, train=[mask(0, 1, 2)] * 2, val=[mask(0, 1, 2)] * 2)
    same = {split: opened(root, split, masks="trainannot") for split in ("train", "val")}
    with pytest.raises(InvalidValue, match="2 of 2 masks of val are in train, too, the same files"):
        check_shared(same)
    check_shared(same, "allow")
    first, *_ = check_dataset(same).problems
    assert (first.severity, first.split) == ("error", "val")
    assert "2 of 2 masks of val are in train, too, the same files" in first.words
    check_shared({split: opened(root, split) for split in same})
    layers = {split: opened(root, split, masks="trainannot/{stem}.png") for split in same}
    for data in layers.values():
        data.samples = [(image, root / "annot/{class}" / image.name) for image, _ in data.samples]
    with pytest.raises(InvalidValue, match="2 of 2 masks of val are in train, too"):
        check_shared(layers)


def test_one_file_a_class_is_checked_and_said_in_short(tmp_path):
    for split in ("train", "val"):
        for i in range(2):
            save(tmp_path / split / f"{i}.png", picture(i + 2 * (split == "val")))
            for name, labels in (("cat", mask(0, 1)), ("dog", mask(0, 0, 0, 1) if split == "train" else mask(0))):
                save(tmp_path / f"{split}annot/{name}/{i}.png", labels)
    how = {"masks": "{split}annot/{class}/{stem}.png", "classes": ["cat", "dog"]}
    datasets = {split: opened(tmp_path, split, **how) for split in ("train", "val")}
    report = check_dataset(datasets)
    assert [(row.name, row.share) for row in report.splits["train"].classes] == [("cat", 0.5), ("dog", 0.25)]
    assert said(report, "val: 'dog' has no pixel: it is never scored")
    assert "2 classes, of train's pixels from 25.0 % (dog) to 50.0 % (cat)" in data_summary(datasets)


def test_datasets_that_are_put_together_say_what_all_of_them_say():
    one, other = Shapes(3, size=32, seed=1), Shapes(2, size=32, seed=2)
    both = ConcatDataset([one, other])
    part, _ = random_split(both, [4, 1], torch.Generator().manual_seed(0))
    report = check_dataset(both)
    assert [facts.name for facts in report.splits["dataset"].classes] == list(one.classes)
    assert count_classes(both) == [a + b for a, b in zip(count_classes(one), count_classes(other), strict=True)]
    assert [item_name(both, k) for k in (2, 3, -1)] == [one.name(2), other.name(0), other.name(1)]
    assert item_name(part, 0) == item_name(both, part.indices[0])
    assert inherited(part, "classes") == one.classes
    assert inherited([one], "classes") is None
    different = ConcatDataset([one, Shapes(2, size=64)])
    assert inherited(different, "size") is None
