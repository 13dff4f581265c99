"""What a long run survives: a kill, a full disk, a loss that is no number; and that a seed repeats it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import a_few
from torch import nn

from smp_feedback.data import Corrupted, Shapes, item_name
from smp_feedback.errors import FeedbackError, InvalidValue

pytest.importorskip("lightning")
import resuming

import smp_feedback as smpf
from smp_feedback.training import FeedbackModule, PairsModule, fit
from smp_feedback.training.callbacks import NotFinite
from smp_feedback.training.checkpoints import WholeCheckpoints, check_room, checkpoint_bytes, read_checkpoint
from smp_feedback.training.sampling import Draw, Numbered, Shuffled

QUICK = {"progress": False, "accelerator": "cpu"}


def small(**training):
    torch.manual_seed(0)
    return FeedbackModule(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Dropout(0.5)), classes=3, **training)


# --- a kill


@pytest.fixture(scope="module")
def runs(request, tmp_path_factory):
    """Where the runs of resuming.py left what they ended with: those that a test of this session asks for."""
    folder = tmp_path_factory.mktemp("runs")
    asked = [(getattr(item, "originalname", ""), item) for item in request.session.items]
    killed, alike = test_a_killed_run_goes_on_bit_for_bit, test_the_number_of_workers_does_not_matter
    names = {item.callspec.params["name"] for name, item in asked if name == killed.__name__}
    names = sorted(names | {run for name, _ in asked if name == alike.__name__ for run in ("plain", "workers")})
    command = [sys.executable, resuming.__file__, str(folder), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + "".join(log.read_text() for log in folder.glob("*.log"))
    return folder


@pytest.mark.parametrize("name", a_few(resuming.RUNS, "plain", "workers", "segments"))
def test_a_killed_run_goes_on_bit_for_bit(runs, name):
    whole, resumed = (torch.load(runs / f"{n}.pt") for n in (name, f"{name} resumed"))
    kill = resuming.RUNS[name][1][-1]
    assert resumed["steps"] == [s for s in whole["steps"] if s >= kill], "it went on from where it was killed"
    assert whole["weights"].keys() == resumed["weights"].keys()
    assert [k for k, v in whole["weights"].items() if not torch.equal(v, resumed["weights"][k])] == []


def test_the_number_of_workers_does_not_matter(runs):
    none, two = (torch.load(runs / f"{name}.pt")["weights"] for name in ("plain", "workers"))
    assert all(torch.equal(value, two[key]) for key, value in none.items())


def test_what_a_run_goes_on_with_must_be_the_same(tmp_path):
    fit(small(), PairsModule(Shapes(4, 32), batch_size=2), steps=1, out=tmp_path, **QUICK)
    with pytest.raises(InvalidValue, match="batch_size=4: the run to resume has batch_size=2"):
        fit(small(), PairsModule(Shapes(4, 32), batch_size=4), steps=2, out=tmp_path, resume=True, **QUICK)
    with pytest.raises(InvalidValue, match="resume=True without out="):
        fit(small(), PairsModule(Shapes(4, 32), batch_size=2), steps=2, resume=True, **QUICK)


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path):
    module = fit(small(), PairsModule(Shapes(4, 32), batch_size=2), steps=1, out=tmp_path, resume=True, **QUICK)
    assert module.trainer.global_step == 1


def test_a_checkpoint_is_whole_or_not_there(tmp_path, monkeypatch):
    path, io = tmp_path / "last.ckpt", WholeCheckpoints()
    io.save_checkpoint({"state_dict": {"a": torch.ones(2)}}, path)
    monkeypatch.setattr(torch, "save", lambda checkpoint, draft: Path(draft).write_bytes(b"half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        io.save_checkpoint({"state_dict": {"a": torch.zeros(2)}}, path)
    assert torch.equal(io.load_checkpoint(path)["state_dict"]["a"], torch.ones(2))
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


class Code:
    """What no checkpoint may run."""

    def __reduce__(self):
        return os.system, ("touch was_run",)


@pytest.mark.parametrize("broken", ["code", "half", "none"])
def test_a_broken_checkpoint_is_named_and_runs_no_code(broken, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "last.ckpt"
    if broken == "code":
        torch.save({"state_dict": Code()}, path)
    if broken == "half":
        torch.save({"state_dict": torch.ones(1000)}, path)
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FeedbackError, match=r"last\.ckpt"):
        read_checkpoint(path)
    assert not (tmp_path / "was_run").exists()


def test_the_order_of_an_epoch_is_a_permutation_of_its_own():
    order = Shuffled(50, seed=1)
    first, again = list(order), list(order)
    order.set_epoch(1)
    second = list(order)
    assert first == again
    assert sorted(draw.item for draw in first) == sorted(draw.item for draw in second) == list(range(50))
    assert [draw.item for draw in first] != [draw.item for draw in second]
    assert {draw.epoch for draw in second} == {1}
    assert [draw.item for draw in Shuffled(50, seed=2)] != [draw.item for draw in first]


def test_processes_share_each_step_of_one():
    alone = [draw.item for draw in Shuffled(11, seed=0)]
    ranks = [[draw.item for draw in Shuffled(11, seed=0, replicas=2, rank=r)] for r in range(2)]
    assert [item for pair in zip(*ranks, strict=True) for item in pair] == alone[:10]


def test_every_process_has_an_image_to_score():
    pairs = PairsModule(val=Shapes(2, 32), batch_size=1)
    pairs.trainer = SimpleNamespace(world_size=3, global_rank=0)
    with pytest.raises(InvalidValue, match="3 processes: expected at least as many images to score, there are 2"):
        pairs.val_dataloader()


def test_an_item_draws_the_same_in_any_order_and_disturbs_nobody():
    data = Numbered(resuming.Augmented(), seed=5)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    early, late = data[Draw(2, 1)], (data[Draw(2, 0)], data[Draw(2, 1)])[1]
    assert torch.equal(early[0], late[0])
    assert early[2] == 1
    assert torch.equal(torch.rand(3), expected)
    assert not torch.equal(early[0], data[Draw(3, 1)][0]), "another epoch draws anew"
    assert not torch.equal(early[0], Numbered(resuming.Augmented(), seed=6)[Draw(2, 1)][0])


# --- the same seed


class Noted(FeedbackModule):
    """Keeps the batches that it saw."""

    def training_step(self, batch, index):
        self.seen = [*getattr(self, "seen", []), batch]
        return super().training_step(batch, index)


def test_a_seed_shows_every_model_the_same_batches():
    seen = []
    for feedback in (False, smpf.Recurrent(steps=2, init_std=0.1)):  # draws a different number of numbers
        base = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
        module = Noted(smpf.create("Unet", resuming.ENCODER, None, classes=3, feedback=feedback, **base), classes=3)
        fit(module, PairsModule(resuming.Augmented(), batch_size=4), steps=3, seed=2, **QUICK)
        seen.append(module.seen)
    for one, other in zip(*seen, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_another_seed_is_another_run():
    weights = [
        fit(small(), PairsModule(Shapes(8, 32), batch_size=2), steps=2, seed=seed, **QUICK).state_dict()[
            "model.0.weight"
        ]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


# --- a loss that is no number


class Poisoned(Shapes):
    """Image 3 is NaN."""

    def __getitem__(self, index):
        image, mask = super().__getitem__(index)
        return (image * float("nan") if index == 3 else image), mask

    def name(self, index):
        return f"street_{index}.png"


def test_nan_stops_training_and_names_the_batch(tmp_path):
    module = Noted(nn.Conv2d(3, 3, 1), classes=3)
    with pytest.raises(NotFinite, match=r"step \d+ .*epoch 0.*street_3.png") as stopped:
        fit(module, PairsModule(Poisoned(8, 32), batch_size=2), steps=100, out=tmp_path, save_every=1, **QUICK)
    bad = next(i for i, batch in enumerate(module.seen) if 3 in batch[2])
    assert len(module.seen) == bad + 1, "a CPU stops at once"
    assert f"step {bad} " in str(stopped.value)
    assert str(stopped.value).count(".png") == 2
    saved = tmp_path / "last.ckpt"
    if saved.exists():
        assert all(value.isfinite().all() for value in read_checkpoint(saved)["state_dict"].values())


def test_on_an_accelerator_the_first_bad_step_is_found_later(monkeypatch):
    """The device keeps it: the loss is looked at every few steps, and still the right batch is named."""
    from smp_feedback.training.callbacks import StopsAtNaN

    class Loss:  # a loss elsewhere than on the CPU
        def __init__(self, value):
            self.value, self.device = torch.tensor(value), torch.device("meta")

        def detach(self):
            return self

        def isfinite(self):
            return self.value.isfinite()

    class Trainer:
        current_epoch = 4
        datamodule = type("Data", (), {"train": Poisoned(8, 32)})
        fit_loop = type("Loop", (), {})

    full = torch.full
    monkeypatch.setattr(torch, "full", lambda *a, device=None, **k: full(*a, **k))
    watch = StopsAtNaN(every=3)

    def train(losses):
        for step, loss in enumerate(losses):
            Trainer.fit_loop.total_batch_idx = step
            batch = None, None, torch.tensor([step])
            watch.on_train_batch_end(Trainer, None, {"loss": Loss(loss)}, batch, step)

    with pytest.raises(NotFinite, match=r"step 4 .*epoch 4.*street_4.png"):
        train([1.0, 1.0, 1.0, 1.0, float("inf"), float("nan")])
    assert Trainer.fit_loop.total_batch_idx == 5


def test_names_come_through_subsets():
    data = torch.utils.data.Subset(Poisoned(8, 32), [5, 6])
    assert item_name(data, 1) == "street_6.png"
    assert item_name(Corrupted(data, "jpeg", 1), 0) == "street_5.png"


# --- a full disk


@pytest.mark.parametrize(
    ("code", "says"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "cannot be written to"), (errno.EACCES, "cannot be written to")],
)
def test_a_disk_that_refuses_is_reported_before_training(code, says, tmp_path, monkeypatch):
    def refuse(handle, start, size):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    module = Noted(nn.Conv2d(3, 3, 1), classes=3)
    with pytest.raises(FeedbackError, match=says) as refused:
        fit(module, PairsModule(Shapes(4, 32), batch_size=2), steps=1, out=tmp_path / "out", **QUICK)
    assert str(tmp_path / "out") in str(refused.value)
    assert not hasattr(module, "seen")
    assert list((tmp_path / "out").iterdir()) == []


def test_room_is_really_taken(tmp_path, monkeypatch):
    sizes = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (sizes.append(os.fstat(handle)), sync(handle)))
    check_room(tmp_path, 3_000_000)
    assert sizes[0].st_size == 3_000_000
    assert sizes[0].st_blocks * 512 >= 3_000_000, "no sparse file"
    monkeypatch.delattr(os, "posix_fallocate", raising=False)  # as on macOS
    check_room(tmp_path, 3_000_000)
    assert sizes[1].st_blocks * 512 >= 3_000_000
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/below"])
def test_what_is_no_folder_is_reported(place, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FeedbackError, match="no folder that can be written to"):
        check_room(tmp_path / place, 1)


def test_the_room_of_a_checkpoint_is_about_its_size(tmp_path):
    module = FeedbackModule(nn.Conv2d(64, 64, 9), classes=64, ema=0.9)
    images = [(torch.rand(64, 9, 9), torch.zeros(1, 1, dtype=torch.long))] * 2
    fit(module, PairsModule(images, batch_size=2), steps=1, out=tmp_path, **QUICK)
    size = (tmp_path / "last.ckpt").stat().st_size
    assert size <= 1.05 * checkpoint_bytes(module, averaged=True) <= 1.2 * size
