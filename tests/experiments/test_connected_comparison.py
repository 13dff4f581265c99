"""Connectivity in a comparison: measured where it is asked for, after every look, and told in tables of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fake_comparison import fake_results, fake_sizes

pytest.importorskip("lightning")
pytest.importorskip("skimage")
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.evaluation import evaluate
from smp_feedback.evaluation.named_metrics import TOPOLOGY
from smp_feedback.experiments.comparison import experiment
from smp_feedback.experiments.comparison.experiment import check
from smp_feedback.experiments.comparison.runs import ComparisonKey, held_out, scores, untrained
from smp_feedback.experiments.comparison.settings import ComparisonSettings, Condition
from smp_feedback.experiments.comparison.tables import connected, shown, tables
from smp_feedback.experiments.comparison.trained import told
from smp_feedback.ops.reading import CLASSIFICATION

TERMS = {"terms": ["cross_entropy", {"name": "soft_cldice", "weight": 0.5, "from_look": 2}]}


def tiny(**changes):
    small = {"size": 16, "arch": "PlainConv", "feedback": {"steps": 2}, "corruptions": [], "train": ["clean"]}
    small |= {"train_count": [2], "train_steps": 1, "seeds": 1, "test_images": 2, "batch_size": 2}
    return ComparisonSettings(**{**small, "topology": True, **changes})


def with_topology(results):
    """*results* whose connectivity follows from the score, so that the tables' cells do, too."""
    for run in results["runs"]:
        for score in run["scores"]:
            score["topology"] = {"cldice": score["score"], "betti0_error": 10 * score["score"], "components": 3.0}
    return results


def test_every_look_of_every_model_is_measured_as_evaluate_does():
    settings = tiny()
    key = ComparisonKey("feedback", Condition(), 2, 0)
    twin, test = untrained(settings, key), held_out(settings)
    found = [*scores(settings, key, twin, test)]
    expected = evaluate(twin.model, test, classes=6, looks=[1, 2, 3, 4], topology=True)
    assert [score["looks"] for score in found] == [1, 2, 3, 4]
    for score, other in zip(found, expected, strict=True):
        assert {*score["topology"]} == {*TOPOLOGY}
        for name in TOPOLOGY:
            assert score["topology"][name] == pytest.approx(other.metrics[name], nan_ok=True)
    assert "topology" not in next(scores(tiny(topology=None), key, twin, test))


def test_cells_are_means_over_seeds_of_what_runs_hold():
    results = with_topology(fake_results(trains=("clean",), counts=(4,), corruptions=("occlusion",)))
    made = tables(results)
    own = [
        [score["score"] for run in results["runs"] for score in run["scores"] if _is(run, score, model)]
        for model in ("feedback", "plain", "one-step", "equal-compute")
    ]
    rows = {row[2:4]: row[4:] for row in made["connectivity"].rows}
    assert {name for _, name in rows} == {"clDice", "Betti 0 error"}, "what is judged, and was measured"
    for cell, values in zip(rows["clean", "clDice"], own, strict=True):
        assert cell == f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}"
    for cell, values in zip(rows["clean", "Betti 0 error"], own, strict=True):
        assert cell == f"{10 * np.mean(values):.2f} ± {10 * np.std(values, ddof=1):.2f}"
    by_look = {row[2]: row[3:] for row in made["connectivity-looks"].rows}
    assert by_look["clDice"] == tables(results)["looks"].rows[0][3:]


def _is(run, score, model):
    return run["model"] == model and score["severity"] == 0 and score["looks"] == run["looks"]


def test_at_several_sizes_it_is_told_by_size():
    results = with_topology(fake_sizes(seeds=1, sizes=(5, 9, 13, 21)))
    made = {table.title: table for table in shown(results)}
    rows = made["Connectivity by size of the test images"].rows
    loop = next(run for run in results["runs"] if run["model"] == "feedback")
    values = {(s["looks"], s["size"]): s["score"] for s in loop["scores"]}
    row = next(row for row in rows if row[2:5] == ("clDice", "feedback", "64"))
    assert row[5:] == tuple(f"{100 * values[64, size]:.1f}" for size in (5, 9, 13, 21))


def test_where_it_was_not_measured_there_are_no_tables():
    assert connected(fake_results(seeds=1, trains=("clean",), counts=(4,), corruptions=())) == []
    results = with_topology(fake_results(seeds=1, trains=("clean",), counts=(4,), corruptions=()))
    results["runs"][0]["scores"][0]["topology"] = 3
    with pytest.raises(InvalidInput, match="topology=3: expected numbers"):
        connected(results)


def test_terms_judge_the_only_look_of_a_twin():
    training = {"loss_arguments": TERMS, "ema": 0.9}
    alone = {"terms": ["cross_entropy", {"name": "soft_cldice", "weight": 0.5}]}
    assert told(training, "feedback") == training
    for model in ("plain", "one-step", "equal-inference"):
        assert told(training, model) == {"loss_arguments": alone, "ema": 0.9}
    check(tiny(loss="mixture", training={"loss_arguments": TERMS}, models=["feedback", "plain"]))


def test_what_cannot_be_measured_is_known_before_training(monkeypatch):
    with pytest.raises(InvalidType, match="topology='yes'"):
        tiny(topology="yes")
    about = experiment.facts(tiny())
    monkeypatch.setattr(experiment, "facts", lambda settings: replace(about, task=CLASSIFICATION))
    with pytest.raises(InvalidValue, match="nothing that is connected"):
        check(tiny())
