"""What a killed writer leaves: known, and cleared by the next; what somebody writes stays."""

from __future__ import annotations

import os
import signal
import time

import pytest

from smp_feedback.saving import drafts
from smp_feedback.saving.drafts import NAMES, clear_drafts, draft_of
from smp_feedback.saving.files import replace_file, replace_files


def in_a_child(work):
    """*work* in a fork that is killed once it says that it is there."""
    there, here = os.pipe()
    child = os.fork()
    if not child:
        try:
            work(lambda: (os.write(here, b"x"), time.sleep(60)))
        finally:
            os._exit(1)
    os.read(there, 1)
    return child


def end(child):
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.fixture
def aged(monkeypatch):
    monkeypatch.setattr(drafts, "YOUNG", -1)


@pytest.mark.parametrize("folder", [False, True])
def test_a_draft_is_its_writers_until_that_ends(folder, tmp_path, aged):
    def work(wait):
        with draft_of(tmp_path / "a [1].ckpt", folder=folder) as draft:
            (draft / "inside" if folder else draft).write_bytes(b"half")
            wait()

    child = in_a_child(work)
    (draft,) = tmp_path.iterdir()
    assert NAMES.fullmatch(draft.name)
    try:
        assert clear_drafts(tmp_path) == []
        assert draft.exists()
    finally:
        end(child)
    assert clear_drafts(tmp_path, "b") == []
    assert clear_drafts(tmp_path, "a [1].ckpt") == [draft]
    assert [*tmp_path.iterdir()] == []


def test_drafts_below_are_found_and_links_are_not_followed(tmp_path, aged):
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    ours = tmp_path / "run" / "model" / ".config.json.abcd_123.draft"
    theirs = [".config.json.draft", "config.json.abcd_123.draft", ".notes.draft", ".bashrc.settings"]
    other = tmp_path / "elsewhere" / ours.name
    for path in (ours, other, *(tmp_path / "run" / name for name in theirs)):
        path.touch()
    (tmp_path / "run" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "run" / ".a.abcd_123.draft").symlink_to(tmp_path / "elsewhere")
    assert clear_drafts(tmp_path / "run") == [ours]
    assert other.exists()
    assert all((tmp_path / "run" / name).exists() for name in theirs)


def test_one_that_was_only_just_made_may_not_be_locked_yet(tmp_path):
    (tmp_path / ".a.abcd_123.draft").touch()
    assert clear_drafts(tmp_path) == []


def test_without_locks_only_old_ones_are_nobodys(tmp_path, monkeypatch):
    monkeypatch.setattr(drafts, "fcntl", None)
    for name, age in ((".a.abcd_123.draft", 3600), (".b.abcd_123.draft", 2 * 86_400)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    assert [path.name for path in clear_drafts(tmp_path)] == [".b.abcd_123.draft"]
    replace_file(tmp_path / "c", lambda draft: draft.write_text("whole"))
    assert (tmp_path / "c").read_text() == "whole"


def test_files_that_fail_leave_none_behind(tmp_path):
    (tmp_path / "a").write_text("old")

    def fail(draft):
        draft.write_text("half")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        replace_files(tmp_path, {"a": lambda draft: draft.write_text("new"), "b": fail})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}
