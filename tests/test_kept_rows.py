"""The rows of studies that are kept with the project: the tables of docs are theirs, to the digit."""

from __future__ import annotations

import json

import pytest

from benchmarks import kept
from benchmarks.kept import PAGES, STUDIES


@pytest.mark.parametrize("name", STUDIES)
def test_the_table_of_a_page_is_made_of_the_rows_that_are_kept(name, pytestconfig):
    page = (pytestconfig.rootpath / "docs" / PAGES[name]).read_text(encoding="utf-8")
    rows = kept.kept(name)
    lines = [*STUDIES[name].table(rows)]
    assert lines
    assert [one for one in lines if one not in page] == []
    assert {row["seed"] for row in rows} == {"0", "1", "2"}, "the tables say three seeds"


def test_rows_are_kept_as_they_were_found_and_nothing_is_kept_of_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "ROWS", tmp_path / "rows")
    scores = [{"size": 5, "looks": looks, "solved": share} for looks, share in ((4, 0.25), (16, 1.0))]
    runs = [{"model": "feedback", "seed": k, "parameters": 9, "passes": 7, "scores": scores} for k in range(2)]
    (tmp_path / "results.json").write_text(json.dumps({"runs": runs}))
    kept.keep("blobs", tmp_path)
    assert [*kept.by_size(kept.kept("blobs"))] == ["| loop, 4 looks | 25 ± 0 |", "| loop, 16 looks | 100 ± 0 |"]
    (tmp_path / "results.json").write_text('{"runs": []}')
    with pytest.raises(SystemExit, match="nothing is changed"):
        kept.keep("blobs", tmp_path)
    assert len(kept.kept("blobs")) == 4
