"""A run that one can watch: its line, its log through kills, its samples, and what it says when it ends."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
import torch
from conftest import a_few
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from torch import nn

pytest.importorskip("lightning")
from lightning.pytorch.loggers import TensorBoardLogger

from smp_feedback.data import Shapes
from smp_feedback.errors import InvalidValue
from smp_feedback.training import FeedbackModule, PairsModule, fit
from smp_feedback.training.checkpoints import KeepsBest, read_checkpoint
from smp_feedback.training.label_pictures import voc_colour
from smp_feedback.training.logs import OneCSV
from smp_feedback.training.monitors import in_words, title_of
from smp_feedback.training.progress import OneLine, duration, fitting
from smp_feedback.training.quiet import quiet
from smp_feedback.training.run_end import best_told, next_commands
from smp_feedback.training.run_folder import train_in
from smp_feedback.training.samples import BETWEEN, ShowsSamples, beside, in_colour, painted
from smp_feedback.training.trainer import build_trainer

IMAGES = Shapes(6, 16)


def module(**training):
    torch.manual_seed(0)
    return FeedbackModule(nn.Conv2d(3, 4, 3, padding=1), classes=4, **training)


def trained(*callbacks, logger=False, epochs=3, **settings):
    told = {"max_epochs": epochs, "accelerator": "cpu", "log_every_n_steps": 1, **settings}
    one = module()
    with quiet():
        trainer = build_trainer(told, None, callbacks, logger=logger)
        trainer.fit(one, PairsModule(IMAGES, IMAGES, batch_size=2))
    return trainer


# --- the line


def test_in_a_file_there_is_one_line_an_epoch(tmp_path):
    out = io.StringIO()
    kept = KeepsBest(tmp_path, "val_dice")
    trainer = trained(OneLine(console=Console(file=out, width=80)), kept)
    lines = out.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    score, best = (in_words("val_dice", float(value)) for value in (kept.current_score, kept.best_model_score))
    last = float(trainer.callback_metrics["val_dice"])
    assert f"Dice {in_words('val_dice', last)}  best {best} (epoch {kept.best_epoch + 1})" in lines[-1], score
    assert lines[-1].endswith("0 s left")
    assert all(len(line) <= 80 for line in lines)


def test_the_loss_of_a_line_is_the_mean_over_its_epoch():
    out, losses = io.StringIO(), []

    class Notes(OneLine):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            losses.append(float(trainer.callback_metrics["loss"]))

    trained(Notes(console=Console(file=out)), accumulate_grad_batches=3)
    said = [float(line.split()[3]) for line in out.getvalue().splitlines()]
    assert said == pytest.approx(np.reshape(losses, (3, 3)).mean(1).tolist(), rel=5e-3)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_in_a_terminal_there_is_one_line_and_nothing_is_cut_off(width, tmp_path, monkeypatch):
    monkeypatch.setattr("smp_feedback.training.progress.PAUSE", 0.0)
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    trained(OneLine(console=console), KeepsBest(tmp_path, "val_dice"))
    seen = out.getvalue()
    assert "…" not in seen
    shown = [part for line in seen.split("\n") for part in line.split("\r") if "epoch" in part]
    assert any("left" in part for part in shown)
    assert seen.count("\n") <= 2, "the same line anew"
    assert width < 80 or any("best" in part for part in shown)


def test_a_log_of_many_epochs_can_have_fewer_lines():
    out = io.StringIO()
    trained(OneLine(lines=4, console=Console(file=out)), epochs=9)
    assert len(out.getvalue().splitlines()) == 4


def test_nothing_is_shown_where_nothing_is_to_be(capsys):
    fit(module(), PairsModule(IMAGES, batch_size=2), steps=2, progress=False, accelerator="cpu")
    assert capsys.readouterr() == ("", "")
    fit(module(), PairsModule(IMAGES, batch_size=2), steps=2, accelerator="cpu")
    assert "epoch 1" in capsys.readouterr().err


@given(st.lists(st.text("abc", min_size=1, max_size=12), max_size=5), st.integers(0, 60))
def test_what_fits_is_whole_parts_that_keep_first_and_last(parts, room):
    said = fitting(parts, room)
    assert len(said) <= room
    assert not said or set(said.split("  ")) <= set(parts)
    if parts and len(parts[-1]) <= room and said:
        assert said.split("  ")[-1] == parts[-1]


@given(st.floats(0, 1e6))
def test_a_time_in_words_is_right_to_a_tenth(seconds):
    units = {"s": 1, "min": 60, "h": 3600, "d": 86400}
    words = duration(seconds).split()
    value = sum(int(n) * units[u] for n, u in zip(words[::2], words[1::2], strict=True))
    assert value == pytest.approx(seconds, abs=0.51 if seconds < 59 else max(31, seconds * 0.03))


# --- the log


def rows(folder):
    with (folder / "csv/version_0/metrics.csv").open() as file:
        return list(csv.DictReader(file))


class Killed(Exception):
    """What ends a run."""


@pytest.mark.parametrize("kills", a_few(["4", "2 6", "5", "7", "1"], "4", "2 6"))
def test_a_log_is_one_file_and_the_same_however_often_its_run_is_killed(kills, tmp_path, monkeypatch):
    step = FeedbackModule.training_step

    def run(folder, kill=None, *, resume=False):
        def watched(self, batch, index):
            if self.global_step == kill:
                raise Killed
            return step(self, batch, index)

        monkeypatch.setattr(FeedbackModule, "training_step", watched)
        told = {"max_epochs": 3, "accelerator": "cpu", "log_every_n_steps": 1, "enable_progress_bar": False}
        how = {"monitor": "val_dice", "config": "", "seed": 0, "save_every": 2, "patience": None}
        data = PairsModule(IMAGES, IMAGES, batch_size=2)
        with quiet():
            train_in(folder, module(), data, told, **how, resume=resume, begin=lambda: None)

    (tmp_path / "whole").mkdir()
    run(tmp_path / "whole")
    (tmp_path / "killed").mkdir()
    for i, kill in enumerate(map(int, kills.split())):
        with pytest.raises(Killed):
            run(tmp_path / "killed", kill, resume=i > 0)
    run(tmp_path / "killed", resume=True)
    whole, killed = (rows(tmp_path / name) for name in ("whole", "killed"))
    assert [int(row["step"]) for row in whole if row["loss"]] == [*range(9)]
    assert killed == whole
    assert [path.name for path in (tmp_path / "killed/csv").rglob("*") if path.is_file()] == ["metrics.csv"]
    before, after = (read_checkpoint(tmp_path / name / "best.ckpt") for name in ("whole", "killed"))
    assert before["epoch"] == after["epoch"]


def test_a_new_run_in_a_folder_begins_its_log_anew_and_columns_may_grow(tmp_path):
    for begun in range(2):
        log = OneCSV(tmp_path, resume=False)
        log.log_metrics({"loss": 1.0}, 0)
        log.log_metrics({"val_miou": 0.5}, 0)
        log.log_metrics({"loss": 2.0}, begun + 1)
    assert [(row["step"], row["loss"], row["val_miou"]) for row in rows(tmp_path)] == [
        ("0", "1.0", ""),
        ("0", "", "0.5"),
        ("2", "2.0", ""),
    ]


def test_a_line_that_a_kill_left_half_written_is_left_out(tmp_path):
    log = OneCSV(tmp_path, resume=False)
    for step in range(3):
        log.log_metrics({"loss": 1.0, "other": 2.0}, step)
    path = tmp_path / "csv/version_0/metrics.csv"
    path.write_text(path.read_text()[:-3])
    again = OneCSV(tmp_path, resume=True)
    again.go_on_from(2)
    again.log_metrics({"loss": 3.0, "other": 2.0}, 2)
    assert [(row["step"], row["loss"]) for row in rows(tmp_path)] == [("0", "1.0"), ("1", "1.0"), ("2", "3.0")]


# --- samples


def test_samples_are_the_image_the_truth_and_the_very_answer_that_was_scored(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from PIL import Image

    board = TensorBoardLogger(tmp_path, name="", version="")
    trainer = trained(ShowsSamples(IMAGES, 2, ["a", "b", "c", "d"], "segmentation"), logger=[board], epochs=4)
    found = event_accumulator.EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    tags = [tag for tag in found.Tags()["images"] if tag.startswith("val/")]
    assert len(tags) == 4
    for tag in tags:
        assert [event.step for event in found.Images(tag)] == [6, 12], "every second epoch, of three steps each"
    image, mask = IMAGES[0]
    with Image.open(io.BytesIO(found.Images(f"val/{IMAGES.name(0)}")[-1].encoded_image_string)) as picture:
        seen = torch.tensor(np.asarray(picture)).permute(2, 0, 1)
    with torch.no_grad():
        said = trainer.lightning_module.model(image[None]).argmax(1)[0]
    size = 16 + BETWEEN
    assert torch.equal(seen[..., :16], in_colour(image))
    for k, labels in enumerate((mask, said), 1):
        wanted = torch.tensor([[voc_colour(int(label)) for label in row] for row in labels])
        assert torch.equal(seen[..., k * size : k * size + 16].permute(1, 2, 0).long(), wanted)


def test_several_labels_and_void_are_painted():
    labels = torch.tensor([[[1, 0, 255, 0]], [[1, 1, 255, 0]]])
    found = painted(labels, 2, "multilabel").permute(1, 2, 0)[0].tolist()
    assert found == [[*voc_colour(2)], [*voc_colour(2)], [255, 255, 255], [0, 0, 0]]
    assert in_colour(torch.rand(1, 4, 4)).shape == in_colour(torch.rand(5, 4, 4)).shape == (3, 4, 4)
    assert beside([torch.zeros(3, 2, 2, dtype=torch.uint8)] * 3).shape == (3, 2, 6 + 2 * BETWEEN)


def test_samples_need_images():
    with pytest.raises(InvalidValue, match="there is none"):
        ShowsSamples(None, 2, ["a"], "segmentation")


def test_a_run_that_shows_samples_learns_what_it_learns_without(tmp_path):
    plain, shown = (
        trained(*callbacks, logger=[TensorBoardLogger(tmp_path, name=name, version="")])
        for name, callbacks in (("a", []), ("b", [ShowsSamples(IMAGES, 1, ["a", "b", "c", "d"], "segmentation")]))
    )
    states = [one.lightning_module.state_dict() for one in (plain, shown)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


# --- the end


def test_the_end_names_the_best_epoch_and_what_comes_next(tmp_path):
    data = PairsModule(IMAGES, IMAGES, batch_size=2)
    told = {"max_epochs": 3, "accelerator": "cpu", "enable_progress_bar": False, "logger": False}
    how = {"monitor": "val_dice/2", "config": "", "seed": 0, "save_every": 9, "patience": None, "resume": False}
    one = module()
    with quiet():
        train_in(tmp_path, one, data, told, **how, begin=lambda: None)
    kept = next(call for call in one.trainer.callbacks if isinstance(call, KeepsBest))
    score = 100 * float(kept.best_model_score)
    assert best_told(tmp_path, "val_dice/2") == [
        f"best: epoch {kept.best_epoch + 1}, Dice 2 {score:.1f} on the validation images"
    ]
    assert best_told(tmp_path / "none", "val_dice") == []
    assert next_commands("fit", tmp_path)[0] == f"next: smp-feedback test --run {tmp_path}"


def test_words_of_a_score():
    assert title_of("val_hd95") == "HD95"
    assert in_words("val_loss", 0.12345) == "0.123"
    assert in_words("val_miou", math.nan) == "-"
