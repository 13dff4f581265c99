"""``smp-feedback check``: the screen, its status, and the file of settings that it leaves."""

from __future__ import annotations

import json
import shlex

import pytest
import torch
import yaml
from small_folders import OPTIONS, folder, mask, save

pytest.importorskip("lightning")
from smp_feedback.cli.main import main
from smp_feedback.data import check_dataset, open_dataset

SMALL = (
    "--model.encoder tu-test_resnet.r160_in1k --model.encoder_weights null --model.feedback false "
    "--model.arguments '{encoder_depth: 3, decoder_channels: [16, 8, 8]}' "
    "--trainer.max_steps 1 --trainer.accelerator cpu --trainer.enable_progress_bar false"
)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Where the verb runs; a terminal is 80 columns wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def check(words="", **options):
    told = json.dumps({**OPTIONS, "ignore_index": 255, **options})
    return main(["check", "--data.name", "folder", "--data.root", "data", "--data.options", told, *shlex.split(words)])


def good(root):
    """Two splits with all classes."""
    return folder(root / "data", train=[mask(0, 1, 2)] * 4, val=[mask(0, 1, 2)] * 2)


def test_good_data_are_ready_to_train(work, capsys):
    good(work)
    assert check("--data.batch_size 4") == 0
    out, err = capsys.readouterr()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert ["train", "4", "6 x 8", "3 x uint8", "0.039 to 0.94", "-", "-"] in rows
    assert ["tree", "33.3", "100.0", "33.3", "100.0"] in rows
    assert out.splitlines()[-1].startswith("ready to train")
    assert "checking the dataset" in err
    assert "checking the dataset" not in out


def test_nothing_is_cut_off_at_80_columns(work, capsys):
    name = "a_very_long_class_name_" * 5
    root = folder(work / "data", **{split: [mask(0, 1), mask(255)] for split in ("train", "val", "test")})
    broken = root / "train" / ("long_" * 20 + ".png")
    save(root / "trainannot" / broken.name, mask(0, 1))
    broken.write_bytes(b"no image")
    assert check(classes=["ground", name, *(f"class {k}" for k in range(20))]) == 2
    out = capsys.readouterr().out
    assert "…" not in out
    tables = [line for line in out.splitlines() if line.startswith(("│", "┃", "├", "└"))]
    assert max(map(len, tables)) <= 80
    folded = "".join(line.split("│")[1].strip() for line in tables if line.startswith("│"))
    assert name in folded
    assert f"error: train: data/train/{broken.name}: " in out
    assert "... and " in out, "of the problems there are the ten worst"
    assert sum(line.startswith(("error: ", "warning: ")) for line in out.splitlines()) == 10
    assert out.splitlines()[-1].startswith("2 errors, ")


@pytest.mark.parametrize(
    ("masks", "status", "says"),
    [
        ([mask(0, 1, 2), mask(0, 1, 7)], 2, "[7]"),
        (
            [mask(0, 1, 2), mask(0, 1, 2, size=(9, 4))],
            2,
            "data.size, data.crop (up to the smallest side) or data.batch_size 1",
        ),
        ([mask(0, 1), mask(0, 1, 255)], 0, "'house' has no pixel"),
    ],
)
def test_the_status_tells_what_training_would_not_survive(masks, status, says, work, capsys):
    folder(work / "data", train=masks, val=[mask(0, 1, 2)])
    assert check("--data.batch_size 2") == status
    assert says in capsys.readouterr().out


def test_json_is_what_the_library_returns(work, capsys):
    root = good(work)
    assert check("--data.batch_size 4 --json") == 0
    out, err = capsys.readouterr()
    opened = {
        split: open_dataset("folder", split, root="data", **OPTIONS, ignore_index=255) for split in ("train", "val")
    }
    wanted = check_dataset(opened, batch_size=4).to_dict()
    found = json.loads(out)
    assert found["splits"] == json.loads(json.dumps(wanted["splits"]))
    assert [one for one in found["problems"] if one["split"] != "test"] == wanted["problems"]
    assert "ready to train" in err
    assert root.is_dir()


def test_a_split_that_cannot_be_opened_is_a_problem_and_none_at_all_an_error(work, capsys):
    root = good(work)
    (root / "valannot/1.png").unlink()
    assert check("--data.batch_size 4") == 2
    out = capsys.readouterr().out
    assert "error: val: data/valannot: expected masks for every image, missing 1: 1.png." in out
    assert check("--data.root nowhere") == 2
    assert capsys.readouterr().err.count("smp-feedback: ") == 1


def test_fit_takes_the_settings_that_are_written(work, capsys):
    uneven = mask(*[0] * 46, 1, 2)
    folder(work / "data", train=[uneven, mask(*[0] * 34, 1, 2, size=(9, 4)), uneven], val=[mask(0, 1, 2)])
    assert check(SMALL) == 2
    assert "wrote run.yaml, with data.size and data.batch_size as it fits" in capsys.readouterr().out
    text = (work / "run.yaml").read_text()
    written = yaml.safe_load(text)
    assert written["data"].pop("options") == {**OPTIONS, "ignore_index": 255}
    assert written["data"] == {"name": "folder", "root": "data", "size": [32, 32], "batch_size": 3}
    assert "  # images are 9 x 4 to 6 x 8, in the middle 6 x 8; models take multiples of 32\n  size: [32, 32]\n" in text
    assert "#   loss_arguments: {weight: [" in text
    assert written["model"]["arguments"] == {"encoder_depth": 3, "decoder_channels": [16, 8, 8]}
    assert main(["fit", "--config", "run.yaml", "--out", "run"]) == 0
    out = capsys.readouterr().out
    assert "train: 3 images of 9 x 4 to 6 x 8; val: 1 images of 6 x 8" in out
    assert main(["check", "--config", "run.yaml", "--overwrite"]) == 0
    assert yaml.safe_load((work / "run.yaml").read_text())["data"]["size"] == [32, 32]


def test_a_file_of_settings_that_is_there_stays(work, capsys):
    good(work)
    (work / "mine.yaml").write_text("seed: 3\n")
    assert check("--data.batch_size 4 --out mine.yaml") == 0
    assert "mine.yaml is there, and left as it is; --overwrite writes it anew" in capsys.readouterr().out
    assert (work / "mine.yaml").read_text() == "seed: 3\n"
    assert check("--data.batch_size 4 --out mine.yaml --overwrite") == 0
    assert yaml.safe_load((work / "mine.yaml").read_text())["data"]["batch_size"] == 4


def test_synthetic_data_have_no_files_and_are_checked_too(work, capsys):
    assert main(shlex.split("check --data.name coloured_shapes --data.size 32 --data.options '{count: 8}'")) == 0
    assert "wrote run.yaml: " in capsys.readouterr().out
    assert yaml.safe_load((work / "run.yaml").read_text())["data"]["size"] == 32


# --- what fit says of it


def fit(words):
    options = json.dumps({**OPTIONS, "ignore_index": 255})
    told = f"fit --data.name folder --data.root data --data.options '{options}' --data.batch_size 2 --out run {SMALL}"
    return main(shlex.split(f"{told} {words}"))


def test_fit_warns_of_a_class_without_a_pixel_before_it_trains(work, capsys):
    folder(work / "data", train=[mask(0, 1, 255)] * 2, val=[mask(0, 1, 2)])
    assert fit("--data.size 32") == 0
    lines = capsys.readouterr().out.splitlines()
    (warning,) = [k for k, line in enumerate(lines) if line.startswith("warning: ") and "no pixel" in line]
    assert "data.values: {255: 2}" in lines[warning]
    assert warning < min(k for k, line in enumerate(lines) if line.startswith("wrote "))


def test_fit_refuses_images_of_several_sizes_in_one_line_before_any_work(work, capsys):
    sides = {"size": (32, 64)}
    folder(
        work / "data", train=[mask(0, 1, 2, size=(32, 32)), mask(0, 1, 2, **sides)], val=[mask(0, 1, 2, **sides)] * 2
    )
    assert fit("") == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    for words in ("32 x 32 (data/train/0.png)", "32 x 64 (data/train/1.png)", "data.size", "data.crop", "batch_size 1"):
        assert words in err
    assert not (work / "run").exists()


def test_windows_make_batches_of_images_of_several_sizes_which_are_scored_one_by_one(work):
    masks = [mask(0, 1, 2, size=(32, 32)), mask(0, 1, 2, size=(32, 64))]
    folder(work / "data", train=masks, val=masks)
    assert fit("--data.crop 32") == 0


def test_the_short_form_changes_nothing_that_is_learnt(work, monkeypatch):
    folder(work / "data", train=[mask(0, 1, 2)] * 2, val=[mask(0, 1, 2)])
    assert fit("--data.size 32 --data.augment flip --trainer.logger false") == 0
    (work / "run").rename(work / "before")
    monkeypatch.setattr("smp_feedback.cli.train.data_summary", lambda splits: [])
    assert fit("--data.size 32 --data.augment flip --trainer.logger false") == 0
    told, untold = (torch.load(work / f"{run}/last.ckpt", weights_only=True)["state_dict"] for run in ("before", "run"))
    assert all(torch.equal(value, untold[key]) for key, value in told.items())
