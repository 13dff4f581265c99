"""Splits that mean different things by a label are told apart before one is scored as the other."""

from __future__ import annotations

import json

import pytest
import torch
from small_folders import folder, mask
from torch.utils.data import Subset

from smp_feedback.data import check_dataset
from smp_feedback.data.inspection.agreement import check_agreement, disagreements
from smp_feedback.errors import InvalidValue


class Said(list):
    """One item, and what it says of its labels."""

    def __init__(self, **said):
        super().__init__([(torch.rand(3, 2, 2), torch.tensor([[0, 1], [1, 0]]))])
        self.__dict__.update({"classes": ("sky", "cat"), "ignore_index": None, "task": "segmentation"} | said)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"classes": ("sky", "dog")}, "label 1 is 'cat' in train and 'dog' in val"),
        ({"classes": ("cat", "sky")}, "label 0 is 'sky' in train and 'cat' in val"),
        ({"classes": ("sky",)}, "label 1 is 'cat' in train and nothing in val"),
        ({"ignore_index": 255}, "train has ignore_index=None and val has ignore_index=255"),
        ({"task": "multilabel"}, "train has task='segmentation' and val has task='multilabel'"),
    ],
)
def test_splits_that_differ_are_named_with_what_differs(other, says):
    splits = {"train": Said(), "val": Subset(Said(**other), [0])}
    with pytest.raises(InvalidValue) as raised:
        check_agreement(splits)
    assert says in str(raised.value)
    assert [problem.severity for problem in check_dataset(splits, strict=False).problems if says in str(problem)] == [
        "error"
    ]


def test_what_nobody_says_is_not_compared():
    assert disagreements({"train": Said(), "val": list(Said()), "test": Said(classes=["sky", "cat"])}) == []


def test_fit_and_check_refuse_two_coco_files_of_other_categories(tmp_path, capsys, monkeypatch):
    pytest.importorskip("pycocotools")
    pytest.importorskip("lightning")
    from smp_feedback.cli.main import main

    monkeypatch.chdir(tmp_path)
    for split, names in (("train", ("cat", "dog")), ("val", ("dog",))):
        folder(tmp_path, **{split: [mask(0)] * 2})
        box = [[0, 0, 4, 0, 4, 4, 0, 4]]
        told = {
            "images": [{"id": k, "file_name": f"{k}.png", "height": 6, "width": 8} for k in range(2)],
            "annotations": [{"id": k, "image_id": k, "category_id": 0, "segmentation": box} for k in range(2)],
            "categories": [{"id": k, "name": name} for k, name in enumerate(names)],
        }
        (tmp_path / f"{split}.json").write_text(json.dumps(told))
    words = ["--data.name", "coco", "--data.root", ".", "--data.batch_size", "2"]
    words += ["--data.options", "{annotations: '{split}.json', images: '{split}'}"]
    for verb in ("fit", "check"):
        assert main([verb, *words]) == 2
        out, err = capsys.readouterr()
        assert (
            "label 1 is 'dog' in val and 'cat' in train" in out + err or "'cat' in train and 'dog' in val" in out + err
        )
