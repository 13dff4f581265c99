"""Which files belong together, which are left out, and that both are said; images that two splits share."""

import os
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import Subset

from smp_feedback.data import Cityscapes, Corrupted, MaskFolder, Shapes, open_dataset
from smp_feedback.data.files import SUFFIXES
from smp_feedback.data.folders.duplicates import duplicates, twins
from smp_feedback.data.folders.finding import find_images
from smp_feedback.data.folders.pairing import find_samples
from smp_feedback.data.folders.places import place
from smp_feedback.data.folders.sharing import check_shared
from smp_feedback.errors import DataWarning, InvalidType, InvalidValue
from smp_feedback.experiments.base_settings import ExperimentSettings
from smp_feedback.experiments.runs import check_apart
from smp_feedback.training.image_files import ImageFiles
from smp_feedback.training.opening import open_pairs

NAMES = ["ground", "plant"]


def put(root, *names, text=None):
    """Files that need no reader: each of another content."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(str(name) if text is None else text)
    return root


def draw(path, value=0, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (8, 6), value if mode == "L" else (value, 0, 0)).save(path)


def pairs(root, split="train", **told):
    """What is paired, by paths below *root*, and what is left out."""
    found = find_samples(root, split, **told)
    names = [(image.relative_to(root).as_posix(), mask.relative_to(root).as_posix()) for image, mask in found.pairs]
    return names, {(path.relative_to(root).as_posix(), why) for why, path in found.left_out}


# --- places


@pytest.mark.parametrize(
    ("told", "path", "stem"),
    [
        ("{split}", "val/a.png", "a"),
        ("{split}", "val/sub/a.PNG", "sub/a"),
        ("{split}", "val/a.b.png", "a.b"),
        ("{split}", "val/a b (1).png", "a b (1)"),
        ("{split}", "train/a.png", None),
        ("{split}", "val/a.raw", None),
        ("{split}", "val/.a.png", None),
        (".", "a.png", "a"),
        ("./x/../{split}", "x/../val/a.png", "a"),
        ("m/{stem}_mask.png", "m/a_mask.PNG", "a"),
        ("m/{stem}_mask.PNG", "m/s/a_mask.png", "s/a"),
        ("m/{stem}_mask.png", "m/a_mask.tif", None),
        ("m/{stem}_mask", "m/a_mask.tif", "a"),
        ("m/{stem}_mask.*", "m/a_mask.png", "a"),
        ("m/{stem}v1.2", "m/av1.2.png", "a"),
        ("m/{stem}+.png", "m/a+.png", "a"),
        ("m/{stem}+.png", "m/aaa.png", None),
        ("{split}/{stem}/{stem}_seg.png", "val/c1/c1_seg.png", "c1"),
        ("{split}/{stem}/{stem}_seg.png", "val/c1/c2_seg.png", None),
        ("{class}/{stem}.png", "plant/a.png", "a"),
        ("{stem}_{class}.png", "a_b_plant.png", "a_b"),
        ("{class}/{stem}.png", "other/a.png", None),
    ],
)
def test_what_image_and_mask_share(tmp_path, told, path, stem):
    assert place(tmp_path, told, (".png", ".tif"), split="val", classes=NAMES).stem(tmp_path / path) == stem


def test_a_place_of_any_split():
    anywhere = place(Path("d"), "{split}/masks", (".png",))
    assert [anywhere.stem(Path("d", name)) for name in ("a/masks/x.png", "a/b/masks/x.png")] == ["x", None]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("suffix", ["PNG", "png"])
def test_accents_dots_blanks_and_suffixes_in_capitals(tmp_path, form, suffix):
    name = unicodedata.normalize(form, "Größe é v1.2 (1)")
    other = unicodedata.normalize({"NFC": "NFD", "NFD": "NFC"}[form], name)
    put(tmp_path, f"train/{name}.JPG", f"trainannot/{other}.{suffix}", f"m/{other}_mask.{suffix}")
    assert pairs(tmp_path)[0] == [(f"train/{name}.JPG", f"trainannot/{other}.{suffix}")]
    assert pairs(tmp_path, masks="m/{stem}_mask.png")[0] == [(f"train/{name}.JPG", f"m/{other}_mask.{suffix}")]


def test_masks_of_one_name_but_for_capitals_are_refused(tmp_path):
    put(tmp_path, "train/a.png", "trainannot/a.png", "trainannot/a.PNG")
    with pytest.raises(InvalidValue, match="one mask per image, several are called 1: a"):
        pairs(tmp_path)


# --- subfolders, and folders in one another


def test_subfolders_are_read_where_the_masks_have_them(tmp_path):
    put(tmp_path, "train/b10.png", "train/b9.png", "train/a/2.png", "train/a/10.png", "train/thumbs/b9.png")
    put(tmp_path, *(f"trainannot/{name}.png" for name in ("b10", "b9", "a/2", "a/10")))
    names, left_out = pairs(tmp_path)
    assert [image for image, _ in names] == ["train/a/2.png", "train/a/10.png", "train/b9.png", "train/b10.png"]
    assert all(mask == image.replace("train/", "trainannot/") for image, mask in names)
    assert left_out == {("train/thumbs/b9.png", "in subfolders that the masks do not have")}
    put(tmp_path, "train/a/3.png")
    with pytest.raises(InvalidValue, match=r"trainannot: expected masks for every image, missing 1: 3\.png"):
        pairs(tmp_path)


@pytest.mark.parametrize(
    ("told", "files", "expected"),
    [
        ({"images": ".", "masks": "masks"}, ["a.png", "masks/a.png"], [("a.png", "masks/a.png")]),
        ({"images": "imgs", "masks": "imgs/masks"}, ["imgs/a.png", "imgs/masks/a.png"], None),
        ({"images": "images", "masks": "."}, ["images/a.png", "a.png"], [("images/a.png", "a.png")]),
        ({"images": ".", "masks": "{stem}_mask.png"}, ["a.png", "a_mask.png"], [("a.png", "a_mask.png")]),
        ({"images": "d", "masks": "d"}, ["d/a.jpg", "d/a.png"], [("d/a.jpg", "d/a.png")]),
        ({"images": "d/{stem}_sat.jpg", "masks": "d/{stem}_mask.png"}, ["d/1_sat.jpg", "d/1_mask.png"], None),
        ({"images": "d/{stem}_im.png", "masks": "d/{stem}.png"}, ["d/a_im.png", "d/a.png"], None),
        ({"images": "{stem}/image.png", "masks": "{stem}/mask.png"}, ["c1/image.png", "c1/mask.png"], None),
        ({"images": ".", "masks": "labels/{split}"}, ["a.png", "labels/all/a.png", "labels/val/b.png"], None),
    ],
)
def test_images_and_masks_may_lie_in_one_another(tmp_path, told, files, expected):
    put(tmp_path, *files)
    assert pairs(tmp_path, "all", **told) == (expected or [(files[0], files[1])], set())


def test_masks_without_a_lossless_kind_or_of_another_name_are_hinted_at(tmp_path):
    put(tmp_path, "train/a.png", "trainannot/a.jpg")
    with pytest.raises(InvalidValue, match=r"missing 1: a\.png\. a\.jpg is there; masks are \.png"):
        pairs(tmp_path)
    put(tmp_path, "val/a.png", "valannot/a_mask.png")
    with pytest.raises(InvalidValue, match=r"There is 'a_mask': .* write masks='\.\.\./\{stem\}_mask\.png'"):
        pairs(tmp_path, "val")
    put(tmp_path, "test/street7.png", "testannot/streat7.png")
    with pytest.raises(InvalidValue, match=r"'streat7' has no image: is that the mask of 'street7'"):
        pairs(tmp_path, "test")


def test_an_image_is_not_its_own_mask(tmp_path):
    put(tmp_path, "train/a.png")
    with pytest.raises(InvalidValue, match="found none: every file there is called as masks= says"):
        pairs(tmp_path, masks="{split}")


def test_one_file_a_class(tmp_path):
    put(tmp_path, "train/a.png", "train/b.png", "m/ground/a.png", "m/plant/a.png", "m/plant/b.png", "m/rock/b.png")
    found = find_samples(tmp_path, "train", masks="m/{class}/{stem}.png", classes=NAMES)
    assert [mask.relative_to(tmp_path).as_posix() for _, mask in found.pairs] == ["m/{class}/a.png", "m/{class}/b.png"]
    put(tmp_path, "train/c.png")
    with pytest.raises(InvalidValue, match=r"missing 1: c\.png"):
        find_samples(tmp_path, "train", masks="m/{class}/{stem}.png", classes=NAMES)


# --- what is left out


def test_what_is_left_out_is_said_once_in_one_line(tmp_path):
    for name in ("a", "b"):
        draw(tmp_path / f"train/{name}.png")
        draw(tmp_path / f"trainannot/{name}.png", 1, "L")
    put(tmp_path, "train/c.raw", "train/d.heic", "train/e.npy", "train/.hidden.png", "trainannot/x.png", "train/f")
    put(tmp_path, "train/notes.txt", "train/Thumbs.db", "train/README", "train/._a.png", "train/.DS_Store")
    put(tmp_path, "train/.ipynb_checkpoints/a.png", "train/__MACOSX/a.png", "train/a.pgw", "train/a.png.aux.xml")
    (tmp_path / "train/gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.warns(DataWarning, match="files are left out") as said:
        data = MaskFolder(tmp_path, classes=NAMES)
    assert len(said) == 1
    text = str(said[0].message)
    assert "\n" not in text
    assert text.startswith(f"{tmp_path}, train: 7 files are left out, 2 used: ")
    for words in (
        "4 of a kind that is not read (c.raw, d.heic, e.npy, ...)",
        "1 hidden (.hidden.png)",
        "1 linked to nothing (gone.png)",
        "1 mask without an image (x.png)",
    ):
        assert words in text
    names = {path.name for path in data.left_out}
    assert names == {"c.raw", "d.heic", "e.npy", "f", ".hidden.png", "gone.png", "x.png"}
    assert len(data) == 2


def test_nothing_is_said_where_nothing_is_left_out(tmp_path):
    for split in ("train", "val"):
        draw(tmp_path / f"{split}/{split}1.png")
        draw(tmp_path / f"masks/{split}1.png", 1, "L")
    for split in ("train", "val"):
        data = open_dataset("folder", split, root=tmp_path, masks="masks", classes=NAMES)
        assert (len(data), data.left_out) == (1, ())
    draw(tmp_path / "masks/lost.png", 1, "L")
    with pytest.warns(DataWarning, match=r"1 mask without an image \(lost\.png\)"):
        open_dataset("folder", root=tmp_path, masks="masks", classes=NAMES)


def test_only_files_that_are_not_read_are_named_where_no_image_is(tmp_path):
    put(tmp_path, "train/a.npy", "trainannot/a.png")
    with pytest.raises(InvalidValue, match=r"found none to use: 1 of a kind that is not read \(a\.npy\)"):
        MaskFolder(tmp_path)
    put(tmp_path, "val/day/a.png", "valannot/a.png")
    with pytest.raises(InvalidValue, match=r"found none to use: 1 in subfolders that the masks do not have \(a\.png\)"):
        MaskFolder(tmp_path, "val")


def test_cityscapes_says_it_too(tmp_path):
    put(tmp_path, "leftImg8bit/val/ulm/ulm_1_leftImg8bit.png", "gtFine/val/ulm/ulm_1_gtFine_labelIds.png")
    put(tmp_path, "leftImg8bit/val/ulm/other.png", "gtFine/val/ulm/ulm_2_gtFine_labelIds.png")
    put(tmp_path, "gtFine/val/ulm/ulm_1_gtFine_color.png")
    with pytest.warns(DataWarning, match=r"1 not called as images= says \(other.png\), 1 mask without .*ulm_2"):
        data = Cityscapes(tmp_path, "val")
    assert (len(data), len(data.left_out)) == (1, 2)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text("ab1é.", min_size=1, max_size=3).filter(lambda name: name[0] != "."),
        st.tuples(st.sampled_from([*SUFFIXES, ".HEIC", ".npy", ".txt"]), st.booleans()),
        min_size=1,
        max_size=8,
    )
)
def test_every_file_is_used_said_or_refused(tmp_path_factory, files):
    root = tmp_path_factory.mktemp("any")
    put(root, "train/zz.png", "trainannot/zz.png")
    for stem, (suffix, has_mask) in files.items():
        put(root, f"train/{stem}{suffix}", *([f"trainannot/{stem}.png"] if has_mask else []))
    images = {stem: suffix for stem, (suffix, _) in files.items() if suffix in SUFFIXES}
    missing = [stem for stem in images if not files[stem][1]]
    if missing:
        with pytest.raises(InvalidValue, match=f"missing {len(missing)}"):
            pairs(root)
        return
    names, left_out = pairs(root)
    assert {image for image, _ in names} == {f"train/{stem}{suffix}" for stem, suffix in images.items()} | {
        "train/zz.png"
    }
    unread = {f"train/{stem}{suffix}" for stem, (suffix, _) in files.items() if suffix in (".HEIC", ".npy")}
    lost = {f"trainannot/{stem}.png" for stem, (_, has_mask) in files.items() if has_mask and stem not in images}
    assert {path for path, _ in left_out} == unread | lost


# --- images to predict


def test_pictures_are_found_in_subfolders_and_the_rest_is_said(tmp_path):
    for name in ("b.png", "a.JPG", "day2/c9.png", "day2/c10.png"):
        draw(tmp_path / name)
    put(tmp_path, "old.raw", "notes.txt")
    (tmp_path / "day2/back").symlink_to(tmp_path, target_is_directory=True)
    with pytest.warns(DataWarning, match=r"1 file is left out, 4 used: 1 of a kind that is not read \(old\.raw\)\.$"):
        files = ImageFiles(tmp_path)
    names = ["a.JPG", "b.png", "day2/c9.png", "day2/c10.png"]
    assert [path.relative_to(tmp_path).as_posix() for path in files.paths] == names
    assert files.left_out == (tmp_path / "old.raw",)
    assert ImageFiles(tmp_path / "b.png").paths == [tmp_path / "b.png"]


def test_where_no_picture_is_it_is_said_why(tmp_path, monkeypatch):
    put(tmp_path, "photos/a.raw", "notes.txt")
    monkeypatch.setenv("HOME", str(tmp_path))
    for path, match in (
        (
            "photos",
            r"photos: expected an image or a folder of .*, found 1 of a kind that is not read \(a\.raw\)",
        ),
        ("notes.txt", r"notes\.txt: expected an image .*, found none"),
        ("photo", "photo does not exist. Did you mean 'photos'"),
    ):
        for where in (tmp_path / path, f"~/{path}"):
            with pytest.raises(InvalidValue, match=match):
                find_images(where)
    with pytest.raises(InvalidType, match="images=3: expected a path"):
        find_images(3)


# --- roots


def test_a_home_is_found_in_every_path(tmp_path, monkeypatch):
    for name in ("a", "b"):
        draw(tmp_path / f"d/train/{name}.png")
        draw(tmp_path / f"far/{name}.png", 1, "L")
    monkeypatch.setenv("HOME", str(tmp_path))
    data = open_dataset("folder", root="~/d", masks="~/far", classes=NAMES)
    assert data.samples[0] == (tmp_path / "d/train/a.png", tmp_path / "far/a.png")
    assert np.array_equal(data[0][1], np.ones((6, 8)))
    assert len(open_dataset("folder", "all", root="/", images="~/d/train", masks="~/far", classes=NAMES)) == 2
    with pytest.raises(InvalidValue, match=r"root='~nobody-here/d': ~nobody-here is nobody's home"):
        open_dataset("camvid", root="~nobody-here/d")


def test_roots_that_are_none_lead_to_the_right_one(tmp_path):
    put(tmp_path, "camvid/train/a.png", "camvid/trainannot/a.png", "camvid/valid/a.png", "file.zip")
    with pytest.raises(InvalidValue, match=r"file\.zip.train: expected a folder; .*file\.zip is a file"):
        MaskFolder(tmp_path / "file.zip")
    with pytest.raises(InvalidValue, match=r"camvd.* does not exist\. Did you mean 'camvid'"):
        MaskFolder(tmp_path / "camvd")
    with pytest.raises(InvalidValue, match=r"vali: expected .* has the splits \['train'\]\. Did you mean 'valid'"):
        MaskFolder(tmp_path / "camvid", "vali")
    with pytest.raises(InvalidValue, match=r"has the folders .*trian does not exist\. Did you mean 'train'"):
        MaskFolder(tmp_path / "camvid", "all", images="trian", masks="trainannot")
    for wrong, match in (({"root": 3}, "root=3"), ({"split": 3}, "split=3"), ({"images": ""}, "images=''")):
        with pytest.raises(InvalidType, match=f"{match}: expected"):
            MaskFolder(**{"root": tmp_path / "camvid", **wrong})


# --- images that two splits share


def two_splits(root, val=("a", "b"), same=("a",)):
    for k, name in enumerate(("a", "b", "c")):
        draw(root / f"train/{name}.png", k)
        draw(root / f"trainannot/{name}.png", 1, "L")
    for k, name in enumerate(val):
        draw(root / f"val/v{name}.png", 100 + k)
        draw(root / f"valannot/v{name}.png", 1, "L")
        if name in same:
            (root / f"val/v{name}.png").write_bytes((root / f"train/{name}.png").read_bytes())
    return {split: MaskFolder(root, split, classes=NAMES) for split in ("val", "train")}


def test_equal_files_are_warned_of_refused_or_allowed(tmp_path):
    datasets = two_splits(tmp_path)
    line = r"1 of 2 images of val are in train, too, byte for byte \(val/va\.png = train/a\.png\)"
    with pytest.warns(DataWarning, match=line) as said:
        check_shared(datasets)
    (found,) = twins(datasets)
    assert len(said) == 1
    assert "\n" not in str(said[0].message)
    assert (found.path, found.twin) == (tmp_path / "val/va.png", tmp_path / "train/a.png")
    with pytest.raises(InvalidValue, match=line):
        check_shared(datasets, "refuse")
    check_shared(datasets, "allow")
    with pytest.raises(InvalidValue, match="shared='deny'"):
        check_shared(datasets, "deny")


@pytest.mark.parametrize("link", [os.link, os.symlink, None])
def test_one_file_in_two_splits_is_refused_through_links_too(tmp_path, link):
    datasets = two_splits(tmp_path, same=())
    if link:
        (tmp_path / "val/va.png").unlink()
        link(tmp_path / "train/a.png", tmp_path / "val/va.png")
    else:
        datasets["val"].samples[0] = datasets["train"].samples[0]
    for shared in ("warn", "refuse"):
        with pytest.raises(InvalidValue, match="1 of 2 images of val are in train, too, the same files"):
            check_shared(datasets, shared)
    check_shared(datasets, "allow")
    assert [two.same for two in twins(datasets)] == [True]
    with pytest.warns(DataWarning, match="1 of 2 images of test are in train, too, the same files"):
        check_shared({"train": datasets["train"]}, unused={"test": datasets["val"]})
    with pytest.raises(InvalidValue, match="test are in train, too, the same files"):
        check_shared({"train": datasets["train"]}, "refuse", unused={"test": datasets["val"]})


def test_wrapped_datasets_are_asked_for_what_they_show(tmp_path):
    datasets = two_splits(tmp_path)
    with pytest.warns(DataWarning, match="1 of 1 images of val"):
        check_shared(
            {"train": Corrupted(Subset(datasets["train"], [2, 0]), "clean", 0), "val": Subset(datasets["val"], [0])}
        )
    assert twins({"train": Subset(datasets["train"], [1, 2]), "val": datasets["val"]}) == []
    assert twins({"train": Shapes(2), "val": Shapes(2), "test": [1, 2]}) == []


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.sampled_from(["train", "val", "test"]), st.lists(st.binary(max_size=2), max_size=5)))
def test_duplicates_are_those_that_a_look_at_every_pair_finds(tmp_path_factory, contents):
    root = tmp_path_factory.mktemp("twins")
    paths = {split: [root / f"{split}{k}" for k in range(len(parts))] for split, parts in contents.items()}
    for split, parts in contents.items():
        for path, content in zip(paths[split], parts, strict=True):
            path.write_bytes(b"x" * 70_000 + content)  # alike at the beginning
    found = duplicates(paths)
    for split in paths:
        for other in paths:
            if split < other:
                both = [two for two in found if {two.split, two.other} == {split, other}]
                shared = (
                    {
                        path
                        for path, content in zip(paths[both[0].split], contents[both[0].split], strict=True)
                        if content in contents[both[0].other]
                    }
                    if both
                    else set()
                )
                assert {two.path for two in both} == shared
                assert bool(both) == bool(set(contents[split]) & set(contents[other]))
                assert all(two.path.read_bytes() == two.twin.read_bytes() for two in both)


def test_training_says_what_is_shared(tmp_path):
    two_splits(tmp_path)
    told = {"name": "folder", "root": str(tmp_path), "batch_size": 1, "options": {"classes": NAMES}}
    with pytest.warns(DataWarning, match="1 of 2 images of val are in train"):
        open_pairs("fit", 0, **told)
    with pytest.raises(InvalidValue, match="1 of 2 images of val are in train"):
        open_pairs("fit", 0, shared="refuse", **told)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_pairs("fit", 0, shared="allow", **told)


def test_training_says_what_is_in_the_test_split_that_it_does_not_open(tmp_path):
    two_splits(tmp_path, same=())
    (tmp_path / "test").symlink_to(tmp_path / "train")
    (tmp_path / "testannot").symlink_to(tmp_path / "trainannot")
    told = {"name": "folder", "root": str(tmp_path), "batch_size": 1, "options": {"classes": NAMES}}
    with pytest.warns(DataWarning, match=r"3 of 3 images of test are in train, too, the same files") as said:
        open_pairs("fit", 0, **told)
    assert len(said) == 1
    open_pairs("test", 0, **told)


def test_an_experiment_says_which_images_it_scores_were_trained_on(tmp_path):
    two_splits(tmp_path)
    told = {"data": "folder", "root": str(tmp_path), "data_options": {"classes": NAMES}, "split": "val"}
    with pytest.warns(DataWarning, match="1 of 2 images of val are in train, too, byte for byte"):
        check_apart(ExperimentSettings(**told))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_apart(ExperimentSettings(**told | {"split": "train"}))
