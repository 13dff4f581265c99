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
@pytest.mark.parametrize("verb", kills.WORKS)
def test_a_killed_verb_loses_nothing_and_ends_as_one_left_alone(verb, tmp_path):
    command = [sys.executable, "-m", "benchmarks.kills", "--verbs", verb, "--kills", "3", "--out", str(tmp_path / "k")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = json.loads((tmp_path / "k" / "kills.json").read_text())
    assert found["kills"] == 3
    assert found["wrong"] == []


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
