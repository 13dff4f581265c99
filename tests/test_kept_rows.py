"""The rows of studies that are kept with the project: the tables of docs are theirs, to the digit."""

from __future__ import annotations

import json

import pytest

from benchmarks import kept
from benchmarks.kept_studies import STUDIES, by_size

LESS = {  # the differences that a page has whole, by study: to which model, and of which measures
    "clicks": [("mask before (RITM)", ["IoU after clicks"]), ("clicks alone", ["IoU after clicks"])],
    "hot_air_film": [("M, trained through the air", ["mIoU", "flicker"])],
    "camvid_film": [("carried", ["mIoU", "flicker"])],
    **{name: [("plain, equal passes", ["pixels", "with clDice"])] for name in ("vessels", "cracks", "membranes")},
}


@pytest.mark.parametrize("name", STUDIES)
def test_the_table_of_a_page_is_made_of_the_rows_that_are_kept(name, pytestconfig):
    page = (pytestconfig.rootpath / "docs" / STUDIES[name].page).read_text(encoding="utf-8")
    rows = kept.kept(name)
    lines = [*STUDIES[name].table(rows)]
    assert rows
    assert lines
    assert [one for one in lines if one not in page] == []
    assert {row["seed"] for row in rows} == {"0", "1", "2"}, "the tables say three seeds"


@pytest.mark.parametrize(("name", "against", "measure"), [(n, a, m) for n in LESS for a, ms in LESS[n] for m in ms])
def test_the_differences_of_a_page_are_those_of_its_rows(name, against, measure, pytestconfig):
    page = (pytestconfig.rootpath / "docs" / STUDIES[name].page).read_text(encoding="utf-8")
    _, *lines = kept.differences(name, against)[measure]
    assert lines
    assert [one for one in lines if one not in page] == []


def write_solved(folder, solved):
    """A comparison's results: what each model solves of size 8, by seed."""
    runs = [
        {"model": model, "seed": k, "parameters": 9, "passes": 7, "scores": [{"size": 8, "looks": 1, "solved": share}]}
        for model, shares in solved.items()
        for k, share in enumerate(shares)
    ]
    (folder / "results.json").write_text(json.dumps({"runs": runs}))


def test_rows_are_kept_as_they_were_found_and_nothing_is_kept_of_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "ROWS", tmp_path / "rows")
    write_solved(tmp_path, {"feedback": [0.25, 0.25], "plain": [1.0, 1.0]})
    kept.keep("blobs", tmp_path)
    assert [*by_size(kept.kept("blobs"))] == ["| loop, 1 looks | 25 ± 0 |", "| plain | 100 ± 0 |"]
    (tmp_path / "results.json").write_text('{"runs": []}')
    with pytest.raises(SystemExit, match="nothing is changed"):
        kept.keep("blobs", tmp_path)
    assert len(kept.kept("blobs")) == 4


def test_differences_are_paired_by_seed_and_bold_where_their_interval_does_not_hold_zero(tmp_path, monkeypatch):
    """Three seeds' half interval is 4.302653 sd / sqrt 3: of 1, 2 and 3 points 2.5, of 1.9, 2 and 2.1 a tenth."""
    monkeypatch.setattr(kept, "ROWS", tmp_path / "rows")
    twin = [0.5, 0.1, 0.3]
    wide, narrow = ([t + d / 100 for t, d in zip(twin, each, strict=True)] for each in ((1, 2, 3), (1.9, 2, 2.1)))
    write_solved(tmp_path, {"plain": twin, "wide": wide, "narrow": narrow, "once": [0.7]})
    kept.keep("blobs", tmp_path)
    assert kept.differences("blobs", "plain") == {
        "solved": [
            "| less plain | size 8 |",
            "| wide | +2.0 ± 2.5 |",
            "| narrow | **+2.0 ± 0.2** |",
            "| once | - |",
        ]
    }
    with pytest.raises(SystemExit, match=r"no model 'plein'.*did you mean 'plain'"):
        kept.differences("blobs", "plein")


def test_the_command_prints_the_differences_it_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["kept", "clicks", "--against", "clicks alone"])
    kept.main()
    found = capsys.readouterr().out.splitlines()
    assert "clicks: IoU after clicks" in found
    assert sum(line.startswith("| carried ") for line in found) == 2  # of IoU, and of clicks to some IoU
    monkeypatch.setattr("sys.argv", ["kept", "--against", "clicks alone"])
    with pytest.raises(SystemExit):
        kept.main()
