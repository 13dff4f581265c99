"""Killed at a random moment, a verb leaves whole files, and goes on to what it would have written."""

from __future__ import annotations

import json
import sys

import pytest

pytest.importorskip("lightning")
import subprocess
from pathlib import Path

from benchmarks import kills

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a process's time is read from /proc")


@linux
@pytest.mark.sweep
def test_every_killed_verb_loses_nothing_and_ends_as_one_left_alone(tmp_path):
    """One process for all of them: what verbs import takes longer than they do."""
    kill = ["-m", "benchmarks.kills", "--kills", str(3 * len(kills.WORKS)), "--out", str(tmp_path / "k")]
    command = [sys.executable, *kill]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    every = json.loads((tmp_path / "k" / "kills.json").read_text())
    assert [one["verb"] for one in every] == [*kills.WORKS]
    assert [(one["kills"], one["wrong"]) for one in every] == [(3, [])] * len(every)


def test_what_is_wrong_is_seen(tmp_path):
    """A half file, one that is gone, another, a new one, and a draft that stays."""
    found = kills.Found("fit")
    (tmp_path / "half.json").write_text('{"a":')
    kills.look(tmp_path, "kill 1", {"gone.json"}, {}, found)
    assert [text.split(": ")[1].split(" is ")[0] for text in found.wrong] == ["half.json", "gone.json"]
    found = kills.Found("fit")
    (tmp_path / "half.json").unlink()
    (tmp_path / "a.json").write_text('{"a": 1, "seconds": 3}')
    (tmp_path / "b.json").write_text("{}")
    (tmp_path / ".a.json.abcd_123.draft").touch()
    kills.at_the_end(tmp_path, {"a.json": {"a": 2}}, found)
    assert [text.partition(": ")[2] for text in found.wrong] == [
        "a.json is another",
        "b.json is new",
        "the draft .a.json.abcd_123.draft is left",
    ]
    found = kills.Found("fit")
    (tmp_path / ".a.json.abcd_123.draft").unlink()
    kills.at_the_end(tmp_path, {"a.json": {"a": 1}, "b.json": {}}, found)
    assert found.wrong == []
