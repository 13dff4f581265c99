"""Splits by rule: shares, folds and files, whole and apart, the same for every seed and order of the file system."""

import hashlib
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from smp_feedback.data import MaskFolder, open_dataset
from smp_feedback.data.folders.splits import SplitRule
from smp_feedback.errors import InvalidType, InvalidValue

ROOT = Path("data")
NAMES = st.lists(st.text("abcé0123456789_ ", min_size=1, max_size=6), min_size=1, max_size=30, unique=True)
SHARES = st.floats(0.01, 0.6)


def images(names):
    return {name: ROOT / "images" / f"{name}.png" for name in names}


def split_of(rule, names, splits=("train", "val", "test")):
    """What a rule makes of images called so: {split: their names}."""
    return {split: list(rule.choose(split, images(names), ROOT)[0]) for split in splits if split in rule.makes}


def by_hash(names):
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())


# --- shares


@settings(max_examples=60, deadline=None)
@given(NAMES, SHARES, st.none() | SHARES, st.randoms())
def test_shares_part_the_images_wholly_and_by_name_alone(names, val, test, random):
    assume(val + (test or 0) < 1)
    rule = SplitRule(val_share=val, test_share=test)
    counts = {"val": max(1, round(val * len(names))), "test": test and max(1, round(test * len(names)))}
    if sum(counts[split] or 0 for split in counts) >= len(names):
        with pytest.raises(InvalidValue, match=rf"{len(names)} images are too few for train"):
            split_of(rule, names)
        return
    found = split_of(rule, names)
    assert sorted(chain(*found.values())) == sorted(names)  # whole and disjoint
    assert all(len(found[split]) == count for split, count in counts.items() if count)
    assert all(part == [name for name in names if name in part] for part in found.values())  # in the images' order
    first = counts["test"] or 0
    assert set(found["val"]) == set(by_hash(names)[first : first + counts["val"]])
    mixed = random.sample(names, len(names))
    assert {split: set(part) for split, part in split_of(rule, mixed).items()} == {
        split: set(part) for split, part in found.items()
    }


@settings(max_examples=40, deadline=None)
@given(NAMES, st.integers(2, 7), st.none() | SHARES)
def test_folds_are_val_once_each_and_as_large_as_each_other(names, folds, test):
    rules = [SplitRule(folds=folds, fold=fold, test_share=test) for fold in range(folds)]
    tests = 0 if test is None else max(1, round(test * len(names)))
    if len(names) - tests < folds:
        with pytest.raises(InvalidValue, match="too few"):
            split_of(rules[0], names)
        return
    found = [split_of(rule, names) for rule in rules]
    held = [set(parts["val"]) for parts in found]
    assert sum(map(len, held)) == len(set().union(*held)) == len(names) - tests
    assert max(map(len, held)) - min(map(len, held)) <= 1
    for parts in found:
        assert sorted(chain(*parts.values())) == sorted(names)
        assert parts.get("test") == found[0].get("test")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=8, max_size=40), SHARES, st.data())
def test_a_group_is_never_parted_and_takes_more_of_its_own_in(patients, share, data):
    names = [f"patient{patient}_slice{i}" for i, patient in enumerate(patients)]
    rule = SplitRule(val_share=share, group=r"patient(\d+)")
    groups = sorted(set(map(str, patients)))
    wanted = max(1, round(share * len(groups)))
    assume(wanted < len(groups))
    found = split_of(rule, names)
    patients_in = {split: {name.partition("_")[0] for name in part} for split, part in found.items()}
    assert not patients_in["train"] & patients_in["val"]
    assert patients_in["val"] == {f"patient{group}" for group in by_hash(groups)[:wanted]}
    more = [f"patient{data.draw(st.sampled_from(patients))}_late{i}" for i in range(3)]
    after = split_of(rule, [*names, *more])
    assert all(set(part) <= set(after[split]) for split, part in found.items())


def test_test_is_the_same_for_every_share_of_val():
    names = [f"i{k}" for k in range(20)]
    found = [split_of(SplitRule(val_share=share, test_share=0.2), names)["test"] for share in (0.1, 0.3, 0.5)]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 4


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"val_share": 0}, InvalidValue, "val_share=0: expected a share between 0 and 1"),
        ({"val_share": 1.0}, InvalidValue, "between 0 and 1"),
        ({"val_share": float("nan")}, InvalidValue, "between 0 and 1"),
        ({"test_share": "0.1"}, InvalidType, "test_share='0.1': expected a share"),
        ({"val_share": True}, InvalidType, "expected a share"),
        ({"val_share": 0.6, "test_share": 0.4}, InvalidValue, "leave nothing for train"),
        ({"folds": 5}, InvalidValue, "folds=5, fold=None: say which of them is val: fold=0 to 4"),
        ({"folds": 5, "fold": 5}, InvalidValue, "fold=0 to 4"),
        ({"folds": 1, "fold": 0}, InvalidValue, "folds=1: expected at least 2"),
        ({"folds": 2.0, "fold": 0}, InvalidType, "folds=2.0: expected a whole number"),
        ({"fold": 1}, InvalidValue, "fold=1: say of how many"),
        ({"folds": 5, "fold": 0, "val_share": 0.1}, InvalidValue, "leave one out"),
        ({"split_file": "a.csv", "val_share": 0.1}, InvalidValue, "leave val_share out"),
        ({"split_file": "a.csv", "folds": 2, "fold": 1}, InvalidValue, "leave folds out"),
        ({"group": r"(\d)"}, InvalidValue, "group=.* keeps together what a rule would part: add val_share"),
        ({"val_share": 0.1, "group": "("}, InvalidValue, "expected a regular expression"),
        ({"val_share": 0.1, "group": r"\d"}, InvalidValue, "has 0 parts in parentheses: expected one"),
        ({"val_share": 0.1, "group": r"(a)(\d)"}, InvalidValue, "has 2 parts"),
        ({"val_share": 0.1, "group": 3}, InvalidType, "group=3"),
    ],
)
def test_rules_that_cannot_be_are_refused(options, error, match):
    with pytest.raises(error, match=match):
        SplitRule(**options)


def test_images_of_no_group_are_named():
    rule = SplitRule(val_share=0.5, group=r"images/p(\d)?")
    with pytest.raises(InvalidValue, match=r"is not found in 2 of 3 images: images/px\.png, images/b\.png\.$"):
        rule.choose("train", images(["p1", "px", "b"]), ROOT)


# --- as folders have it


def save(path, value=0, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (8, 6), value if mode == "L" else (value, 0, 0)).save(path)


@pytest.fixture
def ten(tmp_path):
    for k in range(10):
        save(tmp_path / f"imgs/p{k // 2}_{k}.png", k)
        save(tmp_path / f"masks/p{k // 2}_{k}.png", k % 2, "L")
    return tmp_path


def opened(root, split="train", **options):
    return open_dataset(
        "folder", split, root=root, **{"images": "imgs", "masks": "masks", **options}, classes=["a", "b"]
    )


def names(data):
    return [image.stem for image, _ in data.samples]


def test_images_that_would_be_in_every_split_are_refused_with_what_to_write(ten):
    for split in ("train", "val", "test", "holdout"):
        with pytest.raises(InvalidValue) as caught:
            opened(ten, split)
        assert "\n" not in str(caught.value)
        for word in ("images='imgs'", "{split}", "val_share=", "split_file=", "folds=", "fold=", "split='all'"):
            assert word in str(caught.value)
    assert len(opened(ten, "all")) == len(opened(ten, "all", val_share=0.2)) == 10
    save(ten / "imgs/train/x.png")
    with pytest.raises(InvalidValue, match=r"or images='imgs/\{split\}'; split='all'"):
        opened(ten)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_folder_is_parted_whatever_the_seed(ten, seed):
    rule = {"val_share": 0.2, "test_share": 0.2, "group": r"p(\d)_", "seed": seed}
    found = {split: names(opened(ten, split, **rule)) for split in ("train", "val", "test")}
    order = by_hash("01234")
    for split, patients in (("test", order[:1]), ("val", order[1:2]), ("train", order[2:])):
        assert found[split] == [f"p{k // 2}_{k}" for k in range(10) if str(k // 2) in patients]
    data = opened(ten, "val", **rule)
    assert [mask.stem for _, mask in data.samples] == names(data)
    assert len(opened(ten, count=2, **rule)) == 2


def test_the_splits_that_a_rule_makes_are_named(ten):
    with pytest.raises(
        InvalidValue, match=r"split='test': val_share=0.2 makes train and val, .* Add test_share=0.1\.$"
    ):
        opened(ten, "test", val_share=0.2)
    with pytest.raises(InvalidValue, match=r"split='test': folds=5, fold=0 makes train and val, .* Add test_share=0.1"):
        opened(ten, "test", folds=5, fold=0)
    with pytest.raises(InvalidValue, match=r"split='val': test_share=0.2 makes train and test, .* Add val_share=0.2"):
        opened(ten, "val", test_share=0.2)


def test_a_split_without_a_folder_is_taken_from_train(ten):
    (ten / "imgs").rename(ten / "train")
    (ten / "masks").rename(ten / "trainannot")
    for place in ("test", "testannot"):
        save(ten / place / "other.png", 0, "L")
    with_split = {"images": "{split}", "masks": "{split}annot"}
    found = {split: names(opened(ten, split, val_share=0.2, **with_split)) for split in ("train", "val", "test")}
    assert found["test"] == ["other"]
    assert sorted(found["val"]) == sorted(by_hash([f"p{k // 2}_{k}" for k in range(10)])[:2])
    assert len({*found["train"], *found["val"]}) == 10
    with pytest.raises(InvalidValue, match=r"makes test from train, and .*test is there, too: leave one out"):
        opened(ten, test_share=0.2, **with_split)
    with pytest.raises(InvalidValue, match=r"has \{split\}, and split_file says it, too"):
        opened(ten, split_file="x.csv", **with_split)


@pytest.mark.parametrize("rule", [{"val_share": 0.5}, {"folds": 2, "fold": 0}])
def test_folders_of_splits_are_not_thrown_together(tmp_path, rule):
    for split in ("train", "val"):
        save(tmp_path / f"imgs/{split}/{split}.png")
        save(tmp_path / f"masks/{split}/{split}.png", 1, "L")
    with pytest.raises(InvalidValue, match=r"has the folders train, val: a rule would mix them\. Write images="):
        opened(tmp_path, **rule)
    assert names(opened(tmp_path, images="imgs/{split}", masks="masks/{split}")) == ["train"]
    assert len(opened(tmp_path, "all")) == 2


def test_a_class_of_ours_takes_the_rules_too(ten):
    data = MaskFolder(ten, "val", images="imgs", masks="masks", classes=["a", "b"], folds=5, fold=3)
    assert sorted(names(data)) == sorted(by_hash([f"p{k // 2}_{k}" for k in range(10)])[3::5])


# --- files that say it


def table(root, text, name="splits.csv"):
    (root / name).write_text(text, encoding="utf-8")
    return {"split_file": name}


def rows(ten, head="image,split", between=",", name="p{g}_{k}.png"):
    wanted = {k: ("train", "val", "test")[k % 3] for k in range(10)}
    lines = [name.format(g=k // 2, k=k) + between + split for k, split in wanted.items()]
    return "\n".join([head, *lines]) + "\n", wanted


@pytest.mark.parametrize(
    "name", ["p{g}_{k}.png", "p{g}_{k}", "imgs/p{g}_{k}.png", "./imgs/p{g}_{k}", "imgs\\p{g}_{k}.png"]
)
@pytest.mark.parametrize(("head", "between"), [("image,split", ","), ("Stem;Split", ";"), ("\ufeffimage\tsplit", "\t")])
def test_a_table_says_what_is_in_each_split(ten, name, head, between):
    text, wanted = rows(ten, head, between, name)
    options = table(ten, text)
    for split in ("train", "val", "test"):
        assert names(opened(ten, split, **options)) == [f"p{k // 2}_{k}" for k in range(10) if wanted[k] == split]
    assert len(opened(ten, "all", **options)) == 10


def test_a_table_may_have_more_columns_and_lie_elsewhere(ten, tmp_path_factory, monkeypatch):
    file = tmp_path_factory.mktemp("home") / "s.csv"
    file.write_text("id,split,image\n" + "\n".join(f"{k},{'val' if k else 'train'},p{k // 2}_{k}" for k in range(10)))
    monkeypatch.setenv("HOME", str(file.parent))
    monkeypatch.chdir(file.parent)
    for path in (file, "~/s.csv", "s.csv"):
        assert names(opened(ten, split_file=path)) == ["p0_0"]


def test_new_files_stay_outside_until_they_are_listed(ten):
    text, _ = rows(ten)
    options = table(ten, text)
    before = names(opened(ten, **options))
    save(ten / "imgs/new.png")
    save(ten / "masks/new.png", 0, "L")
    with pytest.warns(UserWarning, match=r"1 file is left out, 4 used: 1 in no split of splits.csv \(new.png\)\.$"):
        data = opened(ten, **options)
    assert (names(data), data.left_out) == (before, (ten / "imgs/new.png",))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("image,split\np0_0,train\np0_0,val\n", r"names 1 images twice: p0_0 \(train, val\)"),
        ("image,split\np0_0,train\nimgs/p0_0.png,train\n", r"names 1 images twice"),
        (
            "image,split\np0_0,train\np00_0,train\nq,val\n",
            r"names 2 images that are not there: p00_0, q\. Did you mean",
        ),
        ("image,split\np0_0,train\np0_1,\n", "line 3: expected an image and its split, one of them is empty"),
        ("image,split\np0_0,valid\n", r"no image is in split 'train'; it has valid\."),
        ("image,split\np0_0,trian\n", r"it has trian\. Did you mean 'trian'"),
        ("name,part\np0_0,train\n", r"the columns image \(or stem\) and split, .* found the columns name, part\."),
        ("", "found the columns of an empty file"),
    ],
)
def test_tables_that_cannot_be_are_refused_with_names(ten, text, match):
    with pytest.raises(InvalidValue, match=match):
        opened(ten, **table(ten, text))


def test_a_missing_table_is_named(ten):
    with pytest.raises(InvalidValue, match=r"none\.csv': expected a table .*; there is none"):
        opened(ten, split_file="none.csv")


def test_a_name_that_may_be_two_images_is_refused(ten):
    for place, mode in (("imgs", "RGB"), ("masks", "L")):
        for folder in "xy":
            save(ten / place / folder / "a.png", 0, mode)
    with pytest.raises(InvalidValue, match="line 2: 'a' may be x/a or y/a: say which"):
        opened(ten, **table(ten, "image,split\na,train\n"))


def test_a_group_that_a_file_parts_is_refused(ten):
    text, _ = rows(ten)
    with pytest.raises(InvalidValue, match=r"'0' is in two splits, train and val \(p0_1\)"):
        opened(ten, group=r"p(\d)_", **table(ten, text))
    whole = "image,split\n" + "".join(f"p{k // 2}_{k},{'val' if k < 4 else 'train'}\n" for k in range(10))
    assert len(opened(ten, "val", group=r"p(\d)_", **table(ten, whole))) == 4


def lists(root, **parts):
    (root / "lists").mkdir(exist_ok=True)
    for split, text in parts.items():
        (root / "lists" / f"{split}.txt").write_text(text)
    return {"split_file": "lists/{split}.txt"}


def test_a_list_a_split(ten):
    some = [f"p{k // 2}_{k}" for k in range(10)]
    options = lists(ten, train="\n".join(some[:6]), val="\n".join(some[6:]) + "\n\n", trainval="\n".join(some))
    assert names(opened(ten, **options)) == some[:6]
    assert names(opened(ten, "val", **options)) == some[6:]
    assert names(opened(ten, "trainval", **options)) == some
    with pytest.raises(InvalidValue, match=r"lists.test\.txt: expected a list .* lists of train, trainval, val"):
        opened(ten, "test", **options)
    lists(ten, val="\n".join(some[5:]))
    with pytest.raises(InvalidValue, match=r"names 1 images twice: p2_5 \(train, val\)"):
        opened(ten, **options)


def test_a_comment_in_a_list_names_no_image(ten):
    some = [f"p{k // 2}_{k}" for k in range(10)]
    options = lists(ten, train="# by hand\n" + "\n".join(some[:6]) + "\n  # p2_5", val="\n".join(some[6:]))
    assert names(opened(ten, **options)) == some[:6]


def test_names_are_one_however_their_accents_are_stored(tmp_path):
    save(tmp_path / "imgs/cafe\u0301.png")
    save(tmp_path / "imgs/b.png")
    for name in ("caf\u00e9", "b"):
        save(tmp_path / f"masks/{name}.png", 1, "L")
    data = opened(tmp_path, **table(tmp_path, "image,split\ncaf\u00e9,train\nb,val\n"))
    assert len(data) == 1
    assert np.array_equal(data[0][1], np.ones((6, 8)))
