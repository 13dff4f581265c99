"""Verbs that are handed a stranger's files end in one sentence and an exit status, and leave everything as it was."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from test_hostile import BOMB, CANARY, CONFIG_YAML, DEEP, Code

import smp_feedback as smpf

pytest.importorskip("lightning")
from smp_feedback.cli.main import main


def spoil_model(run):
    (run / "model" / "model.safetensors").write_bytes(b"\xff" * 64)


def spoil_config(run):
    (run / "model" / "config.json").write_text("[" * DEEP)


def code(run):
    torch.save({"state_dict": Code()}, run / "last.ckpt")


def pickled(run):
    (run / "last.ckpt").write_bytes(pickle.dumps(Code()))


def bomb(run):
    (run / "config.yaml").write_text(BOMB)


def no_settings(run):
    (run / "config.yaml").write_text("model: 3")


def tagged(run):
    (run / "config.yaml").write_text(f"a: !!python/object/apply:os.mkdir [{CANARY}]")


HOW = {
    "model": (spoil_model, spoil_config),
    "checkpoint": (code, pickled),
    "settings": (bomb, no_settings, tagged),
}
VERBS = {
    "info": ("model", "info {run}/model"),
    "export": ("model", "export {run}/model {out}.onnx"),
    "resume": ("checkpoint", "fit --resume {run} --trainer.enable_progress_bar false"),
    "init": ("checkpoint", "fit --config {run}/config.yaml --model.init {run}/last.ckpt --out {out}"),
    "predict": ("settings", "predict --run {run} --images {run} --out {out}"),
    "resume settings": ("settings", "fit --resume {run}"),
    "config": ("settings", "fit --config {run}/config.yaml --out {out}"),
}
CASES = [(name, how) for name, (what, _) in VERBS.items() for how in HOW[what] if (name, how) != ("info", spoil_model)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    run.mkdir()
    model = smpf.create("PlainConv", classes=2, width=4, feedback=smpf.Recurrent(steps=2))
    model.save_pretrained(run / "model")
    (run / "config.yaml").write_text(CONFIG_YAML)
    (run / "data.json").write_text(json.dumps(model.data_config.to_dict()))
    return run


def files_of(folder):
    """What is in it, but for logs of TensorBoard, which begin before a checkpoint is read."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "tensorboard" not in path.parts}


@pytest.mark.parametrize(("verb", "spoil"), CASES, ids=[f"{name} {how.__name__}" for name, how in CASES])
def test_a_verb_ends_in_a_sentence_and_leaves_all_as_it_was(verb, spoil, whole, tmp_path, capsys):
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    spoil(run)
    before = files_of(tmp_path)
    status = main(VERBS[verb][1].format(run=run, out=tmp_path / "out").split())
    said = capsys.readouterr().err
    assert status == 2, said
    assert "Traceback" not in said
    assert [line for line in said.splitlines() if line.startswith("smp-feedback:")]
    assert not CANARY.exists()
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("text", ["[" * DEEP, "{}", '{"kind": "comparison", "version": 1}', "\0"])
def test_plot_draws_no_stranger(text, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    (tmp_path / "a.json").write_text(text)
    assert main(["plot", str(tmp_path / "a.json")]) == 2
    assert "a.json" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


METADATA = [
    "",
    "\0",
    "[smp_feedback",
    "[smp_feedback]\nx",
    "[smp_feedback]\nx = ",
    "[smp_feedback]\nx = os:mkdir\n",
    "[smp_feedback]\n= a:b",
    "[smp_feedback]\nx = a b c",
    "[smp_feedback]\nx = nowhere_at_all:y",
    "é = è",
    "[smp_feedback]\n" + "x = os.path\n" * 50,
]


@pytest.mark.parametrize("text", METADATA, ids=range(len(METADATA)))
def test_a_strangers_metadata_breaks_nothing_and_calls_nothing(text, tmp_path, monkeypatch, restored):
    """What an entry point names is imported as a module of hooks, and not called."""
    folder = tmp_path / "stranger-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1\n")
    (folder / "entry_points.txt").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    from smp_feedback.registry.public import open_catalogue

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fresh = open_catalogue()
        assert "recurrent" in fresh.loops
        assert "unet" in {name.lower() for name in fresh.architectures}
    assert {path.name for path in tmp_path.iterdir()} == {folder.name}
