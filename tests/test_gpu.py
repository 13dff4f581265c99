"""What ``make gpu`` runs, small and on the CPU; a part that fails, or takes too long, keeps what it found."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace

import pytest
import torch

pytest.importorskip("matplotlib")
from benchmarks import gpu, gpu_parts

TIMED = ("loop ms", "plain ms", "loop / plain")
SMALL = replace(gpu_parts.REHEARSAL, memory_steps=(1, 2))
COMPILED = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


def rehearsed(name, tmp_path):
    gpu_parts.run(name, SMALL, tmp_path / f"{name}.json")
    return json.loads((tmp_path / f"{name}.json").read_text())["rows"]


def test_time_is_taken_in_inference_and_in_training(tmp_path):
    rows = rehearsed("eager", tmp_path)
    assert [*rows] == ["inference", "training"]
    assert all(tuple(row) == TIMED for row in rows.values())


def test_memory_grows_with_the_looks_unless_they_are_run_again(tmp_path):
    rows = rehearsed("memory", tmp_path)
    kept = {name: row["kept MiB"] for name, row in rows.items()}
    assert kept["all steps, T = 2"] == pytest.approx(2 * kept["all steps, T = 1"], rel=0.02)
    assert kept["recompute, T = 2"] < 0.3 * kept["plain, once"]
    assert kept["last, T = 2"] == kept["last, T = 1"]
    assert "backward_per_step, T = 2" in rows


@COMPILED
@pytest.mark.parametrize("way", gpu_parts.WAYS)
def test_a_way_to_be_faster_is_held_to_the_answer_without_it(way, tmp_path):
    torch._dynamo.reset()
    row = rehearsed(way, tmp_path)[way]
    assert {*TIMED, "loop / as it is", "plain / as it is"} <= {*row}
    assert (row["largest change"] < 1e-4) == (way != "bfloat16")


def test_the_study_of_mazes_is_run_and_read(tmp_path):
    pytest.importorskip("lightning")
    rows = rehearsed("anytime", tmp_path)
    assert [*rows] == ["seed 0, 2 looks", "seed 0, 3 looks"]
    assert {"3 x 3", "4 x 4"} <= {*rows["seed 0, 2 looks"]}


def python(code):
    return [sys.executable, "-S", "-c", code]


def test_what_a_part_found_before_it_failed_is_kept(tmp_path):
    found = tmp_path / "found.json"
    code = f"open({str(found)!r}, 'w').write('{{\"rows\": {{\"a\": {{\"b\": 1}}}}}}'); raise MemoryError('all of it')"
    part = gpu.run_part(python(code), found, seconds=60)
    assert part["rows"] == {"a": {"b": 1}}
    assert part["ended"] == "failed: MemoryError: all of it"


def test_a_part_that_does_not_fit_is_asked_to_end_and_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "GRACE", 0.5)
    began = time.monotonic()
    part = gpu.run_part(python("import time; time.sleep(60)"), tmp_path / "found.json", seconds=1.5)
    assert part["ended"] == "did not fit into 2 s"
    assert time.monotonic() - began < 30


def test_the_parts_go_on_after_one_that_failed_and_the_rest_is_not_begun_late(tmp_path, monkeypatch, capsys):
    codes = {"tests": "raise SystemExit('one failed')", "eager": "pass", "memory": "pass"}
    monkeypatch.setattr(gpu, "command_of", lambda name, found, rehearse: python(codes[name]))
    assert gpu.main(["--rehearse", "--parts", "tests", "eager", "--out", str(tmp_path)]) == 1
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert [part["ended"] for part in parts.values()] == ["failed: one failed", "whole"]
    assert "failed: one failed" in capsys.readouterr().out
    assert gpu.main(["--rehearse", "--parts", "memory", "--seconds", "1", "--out", str(tmp_path)]) == 0
    assert "not begun" in capsys.readouterr().out


def test_all_parts_fit_into_eight_minutes():
    assert sum(gpu.SECONDS.values()) <= 480


def test_a_table_has_a_row_for_each_and_says_how_a_part_ended():
    rows = {"inference": {"loop ms": 12.0, "loop / plain": [1.0, 0.9, 1.1]}, "training": {"loop ms": 30.0}}
    said = gpu.markdown("eager", {"rows": rows, "ended": "did not fit into 45 s", "seconds": 45.0})
    assert said.splitlines() == [
        "**eager** (45 s): did not fit into 45 s",
        "",
        "| | loop ms | loop / plain |",
        "|---|---|---|",
        "| inference | 12 | 1.00 (0.90 - 1.10) |",
        "| training | 30 |  |",
    ]


def test_without_a_gpu_nothing_is_begun(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu, "has_gpu", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main(["--out", str(tmp_path / "runs")])
    assert "--rehearse" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.sweep
def test_the_whole_is_rehearsed_as_it_is_run(tmp_path, capsys):
    assert gpu.main(["--rehearse", "--seconds", "900", "--parts", "tests", "eager", "--out", str(tmp_path)]) in (0, 1)
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert parts["tests"]["rows"]["tests"]["failed"] == 0
    assert parts["tests"]["rows"]["tests"]["skipped"] + parts["tests"]["rows"]["tests"]["passed"] > 0
    assert parts["eager"]["ended"] == "whole"
