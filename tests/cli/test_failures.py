"""What is not ours fails on one line, too: with its cause, its file, the settings that help, and a way to the rest."""

from __future__ import annotations

import json
from argparse import ArgumentError

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning")
import segmentation_models_pytorch as smp
from torch.utils.data import DataLoader

import smp_feedback as smpf
from smp_feedback.cli import main as cli
from smp_feedback.cli.failures import DEBUG, cause, status, told
from smp_feedback.cli.main import main
from smp_feedback.cli.settings_files import expanded, files_in, place_of
from smp_feedback.data.batching import Together
from smp_feedback.errors import FeedbackError, InvalidInput, InvalidValue
from smp_feedback.training.sampling import ItemFailed, Numbered

TINY = {
    "model": {
        "encoder": "tu-test_resnet.r160_in1k",
        "encoder_weights": None,
        "feedback": {"steps": 2},
        "arguments": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
    },
    "data": {"name": "folder", "batch_size": 2, "options": {"classes": ["a", "b"], "ignore_index": None}},
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False},
}


class Broken:
    """Its second item fails as a stranger's does; each has a file."""

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 2

    def name(self, index):
        return f"slides/{index}.png"

    def __getitem__(self, index):
        if index == 1:
            raise self.error
        return torch.zeros(3, 8, 8), torch.zeros(8, 8, dtype=torch.long)


def failing(error, monkeypatch, capsys):
    """The exit status, and what stands on stderr, of a verb that raises *error*."""

    def verb(parser):
        def run(args):
            raise error

        return run

    verb.__name__, verb.__doc__ = "info", "Fail."
    monkeypatch.setattr(cli, "VERBS", (verb,))
    code, (_, err) = main(["info"]), capsys.readouterr()
    assert err.count("\n") == 1
    return code, err.removeprefix("smp-feedback: ").rstrip()


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (RuntimeError("shapes\n  differ"), 2, f"RuntimeError: shapes differ ({DEBUG}=1 shows where)"),
        (ValueError(), 2, f"ValueError ({DEBUG}=1 shows where)"),
        (AttributeError("no attribute 'x'"), 1, f"AttributeError: no attribute 'x' ({DEBUG}=1 shows where)"),
        (OSError(28, "No space left on device"), 2, "[Errno 28] No space left on device"),
        (PermissionError(13, "Permission denied", "out"), 2, "[Errno 13] Permission denied: 'out'"),
        (InvalidValue("tau=-1: expected > 0."), 2, "tau=-1: expected > 0."),
        (RuntimeError("weights " * 1000), 2, "..."),
    ],
)
def test_any_failure_is_one_line(error, code, says, monkeypatch, capsys):
    monkeypatch.delenv(DEBUG, raising=False)
    got, err = failing(error, monkeypatch, capsys)
    assert got == code
    assert says in err
    assert len(err) < 700


def test_all_of_it_is_shown_to_who_asks(monkeypatch, capsys):
    monkeypatch.setenv(DEBUG, "1")
    with pytest.raises(AttributeError, match="inside"):
        failing(AttributeError("inside"), monkeypatch, capsys)


def raised(function, *arguments):
    """What *function* really raises."""
    try:
        function(*arguments)
    except Exception as error:
        return error
    pytest.fail("it did not fail")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            lambda: raised(torch.nn.BatchNorm2d(4), torch.zeros(1, 4, 1, 1)),
            "torch.Size([1, 4, 1, 1])): give data.batch_size >= 2, larger images (data.size, data.crop), or "
            "model.base_norm group",
        ),
        (  # as smp's PSPNet says it
            lambda: ValueError("Expected more than 1 value per channel when training, got input size [1, 514, 1, 1]"),
            "([1, 514, 1, 1]): give data.batch_size >= 2",
        ),
        (lambda: raised(torch.empty, 2**50), "smaller data.batch_size, data.crop or data.size, fewer steps"),
        (lambda: raised(np.empty, 2**55), "smaller data.batch_size, data.crop or data.size, fewer steps"),
        (
            lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total"),
            "out of memory for 20.00 GiB: give a smaller data.batch_size",
        ),
        (
            lambda: raised(torch.stack, [torch.zeros(2), torch.zeros(3)]),
            "images of several sizes make no batch, such as [2] at entry 0 and [3] at entry 1: set data.size",
        ),
        (
            lambda: RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed."),
            "give fewer data.workers",
        ),
        (
            lambda: ItemFailed(
                "a.png: RuntimeError: stack expects each tensor to be equal size, but got [1] at entry 0"
                " and [2] at entry 1"
            ),
            "a.png: images of several sizes make no batch",
        ),
    ],
)
def test_what_is_known_to_happen_is_told_with_what_helps(error, says):
    error = error()
    assert says in told(error)
    assert DEBUG in told(error)
    assert status(error) == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_the_file_of_an_item_that_fails_is_named(workers):
    loader = DataLoader(Numbered(Broken(KeyError("mask\nof two lines")), seed=0), 2, num_workers=workers)
    error = raised(list, loader)
    assert isinstance(error, FeedbackError)
    assert told(error) == rf"slides/1.png: KeyError: 'mask\nof two lines' ({DEBUG}=1 shows where)"


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_ours_that_names_no_file_gets_one(workers):
    loader = DataLoader(Numbered(Broken(InvalidInput("expected labels.")), seed=0), 2, num_workers=workers)
    assert told(raised(list, loader)) == "expected labels. (Item: slides/1.png.)"
    named = DataLoader(Numbered(Broken(InvalidInput("slides/1.png: no image.")), seed=0), 2, num_workers=workers)
    assert told(raised(list, named)) == "slides/1.png: no image."


def test_memory_that_runs_out_is_not_the_items_fault():
    with pytest.raises(MemoryError):
        Numbered(Broken(MemoryError()), seed=0)[1]


def test_of_a_chain_of_causes_the_last_counts():
    lines = ["Traceback (most recent call last):", "  File", "KeyError: 1", "", "During handling of the above:", ""]
    again = ["Traceback (most recent call last):", "  File", "    code", "mine.Broken: two", "lines"]
    assert cause("\n".join([*lines, *again])) == ("mine.Broken", "two lines")


@pytest.mark.parametrize(
    ("one", "other", "training", "says"),
    [
        ((3, 4, 4), (3, 6, 4), True, r"4 x 4 \(item 0\) and 6 x 4 \(item 1\): set data.size, data.crop .* or"),
        ((3, 4, 4), (3, 6, 4), False, "set data.size or data.batch_size 1 .data.crop cuts training images alone"),
        ((3, 4, 4), (1, 4, 4), True, "item 0 has 3 channels and item 1 has 1"),
        ((3, 4, 4), (4, 4), True, r"item 0 is of shape \(3, 4, 4\) and item 1 of \(4, 4\)"),
    ],
)
def test_items_of_two_sizes_are_no_batch(one, other, training, says):
    items = [(torch.zeros(shape), torch.tensor(0), k) for k, shape in enumerate((one, other))]
    with pytest.raises(InvalidInput, match=says):
        Together([], training=training)(items)
    image, target, index = Together([], training=training)([items[0], items[0]])
    assert (image.shape, target.shape, index.tolist()) == ((2, *one), (2,), [0, 0])


@pytest.fixture
def mixed(tmp_path):
    """A folder of pairs of which every second one is larger, and the settings to train on it."""
    for grey, split in enumerate(("train", "val")):
        for k, size in enumerate(((16, 16), (24, 16))):
            for folder, picture in (
                (split, Image.new("RGB", size, (grey,) * 3)),
                (f"{split}annot", Image.new("L", size)),
            ):
                (tmp_path / folder).mkdir(exist_ok=True)
                picture.save(tmp_path / folder / f"{k}.png")
    settings = {**TINY, "data": {**TINY["data"], "root": str(tmp_path)}}
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(settings))
    return path


def test_images_of_two_sizes_are_one_line_with_both_files(mixed, capsys):
    assert main(["fit", "--config", str(mixed), "--out", str(mixed.parent / "out")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    for said in ("16 x 16 (", "train/0.png", "16 x 24 (", "train/1.png", "data.size", "data.crop", "batch_size 1"):
        assert said in err


# --- settings files, and a home directory


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seed: 1\ndata:\n  sizes: 32\n", "line 3: Subcommand 'fit' does not accept option 'data.sizes'. Did you mean"),
        ("seed: 1\ndata:\n  size: wide\n", "line 3: data.size: expected int or list[int] or null, not wide."),
        ("data: {size: [wide]}\n", "line 1: data.size: expected int or list[int] or null, not ['wide']."),
        ("trainer: {precision: '17'}", "line 1: trainer.precision: expected 64 or 32 or 16 or 'transformer-engine' or"),
        ("model:\n  feedback: {tua: 3}\n", "line 2: Recurrent has no field 'tua'. Did you mean 'tau'"),
        ("\n\nmodel:\n  arch: Unte\n", "line 4: No architecture is called 'Unte'. Did you mean 'Unet"),
        ("seed: 1\ndata: {size: [3\n", "line 3, column 1: no YAML"),
        ("seed: 1\n data: 3\n", "line 2, column 6: no YAML (mapping values are not allowed"),
        ("fit\n", "expected settings, such as"),
    ],
)
def test_what_is_wrong_in_a_settings_file_is_named_with_its_line(text, says, tmp_path, capsys):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    assert main(["fit", "--config", str(path), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith(f"smp-feedback: {path}")
    assert says in err


def test_a_line_is_named_only_where_it_is_the_one(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("data: {size: abc}\nmodel:\n  encoder: abc\n")
    words = ["fit", "--config", str(path)]
    assert place_of("No dataset is called 'abc'.", words) is None, "it stands there twice"
    assert place_of('Parser key "data.size": wrong', words).line == 1
    assert place_of('Parser key "data.size": wrong', [*words, "--data.size=3"]) is None, "typed, and so what counts"
    assert place_of("No such thing.", words) is None
    assert files_in(["fit", "--config", '{"seed": 1}', "--config=a.yaml"]) == [tmp_path.__class__("a.yaml")]


def test_a_tilde_is_the_home_directory(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded(["--run=~/a", "~", "~x.png", "a~", 3]) == [f"--run={tmp_path}/a", str(tmp_path), "~x.png", "a~", 3]
    assert main(["info", "~/nothing"]) == 2
    assert f"'{tmp_path}/nothing' is neither a directory" in capsys.readouterr().err
    (tmp_path / "run.yaml").write_text("data: {name: folder, root: ~/images, options: {classes: [a]}}")
    assert main(["fit", "--config=~/run.yaml", "--out", "~/out"]) == 2
    assert f"{tmp_path}/images" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_parsers_own_error_is_ours_to_tell():
    assert told(ArgumentError(None, "required: export.out")) == "required: export.out"


def test_weights_that_cannot_be_downloaded_are_told_with_what_needs_none(monkeypatch):
    def absent(*_, **__):
        raise FileNotFoundError("Please check your connection.")

    monkeypatch.setattr(smp.encoders, "hf_hub_download", absent)
    with pytest.raises(FileNotFoundError) as raised:
        smpf.create("Unet", encoder="resnet18")
    assert told(raised.value).startswith("Please check your connection. encoder_weights='imagenet' are downloaded.")
    assert "--model.encoder_weights null" in told(raised.value)
    assert smpf.create("Unet", encoder="resnet18", encoder_weights=None) is not None
