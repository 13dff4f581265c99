"""Films on the command line: what validation says of them, and the comparison that is asked for by its task."""

from __future__ import annotations

import json
import shlex

import pytest

pytest.importorskip("lightning")
pytest.importorskip("torchmetrics")
from smp_feedback.cli.main import main
from smp_feedback.evaluation.films import evaluate_films
from smp_feedback.evaluation.results import load_result
from smp_feedback.training.build import build_module
from smp_feedback.training.opening import open_pairs
from smp_feedback.training.run_folder import load_weights

MODEL = {"arch": "PlainConv", "arguments": {"width": 4, "depth": 2}}
LOOP = {"dynamics": "gated", "projection": "state", "channels": 2}
DATA = {"name": "moving", "size": 16, "options": {"frames": 4, "scene": 3, "count": 8}, "batch_size": 2}


def smp_feedback(line):
    return main(shlex.split(line))


def test_films_are_scored_printed_and_kept(tmp_path, capsys):
    config = tmp_path / "run.yaml"
    told = {"model": {**MODEL, "feedback": LOOP}, "data": DATA}
    config.write_text(json.dumps({**told, "trainer": {"max_epochs": 1, "accelerator": "cpu"}}))
    assert smp_feedback(f"fit --config {config} --out {tmp_path / 'run'} --trainer.enable_progress_bar false") == 0
    capsys.readouterr()
    assert smp_feedback(f"test --run {tmp_path / 'run'} --out {tmp_path / 'test'}") == 0
    printed = capsys.readouterr().out
    found = load_result(tmp_path / "test/films.json")["rows"][0]
    for name in ("mIoU", "flicker", "mIoU of frame 0", "mIoU before a cut", "2 films, 8 frames"):
        assert name in printed
    assert f"{100 * found['miou']:.1f}" in printed
    assert (tmp_path / "test/films-frames.png").is_file()
    data, facts = open_pairs("test", 0, **DATA)
    module = build_module(facts, **MODEL, feedback=LOOP)
    load_weights(module, tmp_path / "run/best.ckpt")
    again = evaluate_films(module.opened, data.test, classes=5)
    assert (again.miou, again.flicker) == pytest.approx((found["miou"], found["flicker"]))
    assert len(again.after_cut) == len(found["after_cut"]) > 0


def test_the_comparison_on_films_is_asked_for_by_its_task(tmp_path, capsys):
    with pytest.raises(SystemExit):
        smp_feedback("compare --task film --help_all")
    assert "--truncate" in capsys.readouterr().out
    decays = "--feedback '{dynamics: decay}'"
    assert smp_feedback(f"compare --task film --models [carried] {decays} --out {tmp_path}") == 2
    assert "carries no state from frame to frame" in capsys.readouterr().err
    assert smp_feedback(f"compare --task film --data polygons --size 16 --out {tmp_path}") == 2
    assert "does not say which frames are a film" in capsys.readouterr().err
    assert smp_feedback("compare --task films") == 2
    assert "film" in capsys.readouterr().err
