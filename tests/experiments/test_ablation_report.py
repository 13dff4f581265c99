"""What an ablation's tables and sentences say: the arithmetic of made-up scores, by NumPy."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
from fake_ablation import CLASSES, fake_ablation

from smp_feedback.errors import InvalidInput
from smp_feedback.experiments.ablation.results import parse
from smp_feedback.experiments.ablation.rows import BEFORE, ROWS, TRAINED, AblationLine, lines
from smp_feedback.experiments.ablation.tables import conclusion, summary, tables

SCORES = {
    "clean": [0.20, 0.22, 0.24],
    "distorted": [0.30, 0.33, 0.31],
    "restoration": [0.32, 0.33, 0.34],
    "feedback": [0.36, 0.37, 0.39],
    "iterative-focal": [0.36, 0.36, 0.41],
    "class-balanced": [0.41, 0.40, 0.43],
}


def made(scores=SCORES, **more):
    return fake_ablation(rows=tuple(scores), value=lambda row, seed: scores[row][seed], **more)


def moved(row, by):
    return made({**SCORES, row: [value + by for value in SCORES[row]]})


def told(values):
    values = 100 * np.asarray(values)
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"


def test_the_table_has_the_papers_rows_in_its_order_and_that_of_clean_images_twice():
    rows = tables(made())["rows"].rows
    assert [(row[0], row[2]) for row in rows] == [
        ("clean", "clean"),
        ("clean", "distorted"),
        *((name, "distorted") for name in TRAINED[1:]),
    ]


def test_scores_are_means_over_seeds_with_their_standard_deviation():
    rows = tables(made())["rows"].rows
    assert rows[0][3] == told(np.array(SCORES["clean"]) + 0.2), "on clean images"
    for row in rows[1:]:
        assert row[3] == told(SCORES[row[0]])


def test_gains_are_paired_by_seed_against_the_row_before_and_both_plain_models():
    for row in tables(made())["rows"].rows[3:]:
        for cell, other in zip(row[4:], (BEFORE[row[0]], "distorted", "clean"), strict=True):
            gain = 100 * (np.array(SCORES[row[0]]) - np.array(SCORES[other]))
            agree = int((np.sign(gain) == np.sign(gain.mean())).sum())
            assert cell.startswith(f"{gain.mean():+.1f} ± {gain.std(ddof=1):.1f} ({agree}/3)"), (row[0], other)
            assert cell.endswith(" ahead") == (gain.mean() > 4.302653 / 3**0.5 * gain.std(ddof=1)), (row[0], other)


def test_the_first_lines_are_held_to_nothing_that_is_tested_otherwise():
    on_clean, on_distorted, plain = tables(made())["rows"].rows[:3]
    assert on_clean[4:] == ("n/a", "n/a", "n/a")
    assert on_distorted[4] == on_distorted[6] == "n/a"
    assert on_distorted[5].startswith("-9.3")
    assert plain[4:6] == ("n/a", "n/a")
    assert plain[6].startswith("+9.3")


def test_classes_are_averaged_over_the_seeds_that_have_them():
    results = made()
    for run in results["runs"]:
        if run["row"] == "feedback" and run["seed"] == 0:
            run["scores"][-1]["per_class"][1] = None
    by_class = tables(results)["classes"]
    assert [row[0] for row in by_class.rows] == CLASSES[:2], "a class that never came up has no row"
    feedback = by_class.columns.index("feedback")
    assert by_class.rows[0][feedback] == told(np.array(SCORES["feedback"]) + 0.1)
    assert by_class.rows[1][feedback] == told(np.array(SCORES["feedback"][1:]) - 0.1)


def test_every_pass_has_its_score_and_its_distance_to_the_clean_image():
    by_pass = {row[:2]: row[2:] for row in tables(made())["passes"].rows}
    score = np.array(SCORES["feedback"])
    assert by_pass["feedback", "mIoU (%)"] == tuple(told(score - 0.01 * (3 - t)) for t in range(4))
    assert by_pass["feedback", "PSNR (dB)"] == tuple(f"{20 + t:.2f} ± 0.00" for t in range(4))
    assert by_pass["feedback", "L1 (%)"][3] == "4.70 ± 0.00"
    assert by_pass["distorted", "PSNR (dB)"] == ("20.00 ± 0.00", "n/a", "n/a", "n/a")
    assert ("clean", "mIoU (%)") not in by_pass


def test_the_cost_is_that_of_both_networks():
    cost = {row[0]: row[1:] for row in tables(made())["cost"].rows}
    assert cost["distorted"] == ("1,000", "0", "10", "0", "10", "0", "10.0 ± 0.0", "10.0")
    assert cost["feedback"] == ("1,000", "200", "10", "30", "40", "40", "40.0 ± 0.0", "40.0")
    assert list(cost) == list(TRAINED)


@pytest.mark.parametrize(
    ("results", "begins", "says"),
    [
        (made(), "Yes: ", "(mIoU 37.3 ± 1.5) is ahead of M trained on distorted images by 6.0 points of mIoU (3 of 3"),
        (made(), "Yes: ", ", and ahead of M trained on clean images by 15.3 points of mIoU (3 of 3 seeds)."),
        (
            moved("feedback", -0.055),
            "Not shown: ",
            "is not shown to be ahead of M trained on distorted images (+0.5 ± 2.0",
        ),
        (
            moved("feedback", -0.2),
            "No: ",
            "is behind M trained on distorted images by 14.0 points of mIoU (3 of 3 seeds)",
        ),
        (made(seeds=1), "Undecided: ", "is 6.0 points of mIoU above M trained on distorted images (one seed)"),
        (made({"distorted": [0.3, 0.3, 0.3], "feedback": [0.302, 0.303, 0.304]}), "Yes, by little: ", "by 0.3 points"),
        (made({k: SCORES[k] for k in ("clean", "feedback")}), "Undecided: ", "no seed has scores of"),
        (made({k: SCORES[k] for k in ("distorted", "class-balanced")}), "Undecided: ", "no seed has scores of"),
    ],
)
def test_the_answer_says_plainly_whether_feedback_is_ahead_of_the_plain_model(results, begins, says):
    assert conclusion(results).startswith(begins)
    assert says in conclusion(results)


def test_a_gain_of_the_loss_alone_is_no_gain_of_feedback():
    scores = {**SCORES, "feedback": SCORES["distorted"], "plain-balanced": SCORES["class-balanced"]}
    answer, whole, *_ = summary(made(scores))
    assert answer.startswith("Not shown: "), "whatever the last row has gained"
    assert whole.startswith(
        "All parts together (mIoU 41.3 ± 1.5): ahead of M trained on distorted images by 10.0 points"
    )
    assert "not shown to be ahead of M alone with class-balanced weights (+0.0 ± 0.0 points, 0 of 3 seeds)" in whole


def test_controls_are_held_to_what_they_control():
    scores = {**SCORES, "plain-balanced": SCORES["distorted"], "unheard": [0.35, 0.36, 0.37]}
    said = " ".join(summary(made(scores)))
    assert "M alone, class-balanced weights, over distorted: +0.0 ± 0.0 (0/3): not shown." in said
    assert "Feedback that is not heard, over restoration: +3.0 ± 0.0 (3/3) ahead." in said
    assert "Feedback that is heard, over unheard: +1.3 ± 0.6 (3/3): not shown." in said
    assert "unheard" not in " ".join(summary(made()))


def test_what_each_part_brought_is_said_also_when_it_is_nothing():
    said = " ".join(summary(made()))
    assert "Feedback, over restoration: +4.3 ± 0.6 (3/3) ahead." in said
    assert "Iterative focal loss, over feedback: +0.3 ± 1.5 (1/3): not shown." in said
    assert "With 3 seeds no test can reach p < 0.05" in said


def test_a_run_that_is_missing_is_named():
    results = made()
    results["runs"] = [run for run in results["runs"] if (run["row"], run["seed"]) != ("feedback", 1)]
    assert summary(results)[-1] == "No run of feedback, seed 1."
    found = parse(results)
    assert len(found.gain(AblationLine("feedback"), AblationLine("restoration")).values) == 2, (
        "paired over the seeds both have"
    )


def test_every_row_but_the_plain_ones_adds_one_part_to_another():
    for name, before in BEFORE.items():
        row, old = ROWS[name], ROWS[before]
        parts = ("images", "restored", "fed_back", "focal", "balanced")
        assert sum(getattr(row, part) != getattr(old, part) for part in parts) == 1, name
    assert {line.row for line in lines(ROWS)} == set(ROWS)


def broken(change):
    results = copy.deepcopy(made())
    change(results)
    return results


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update(kind="comparison"), "kind='ablation'"),
        (lambda r: r.update(version=2), "version=1"),
        (lambda r: r.pop("classes"), "The ablation lacks 'classes'"),
        (lambda r: r["runs"][2].pop("updates"), "Run 2 lacks 'updates'"),
        (lambda r: r["runs"][2].update(row="restored"), "Run 2: row='restored', expected one of clean"),
        (lambda r: r["runs"][2]["updates"].pop("R"), r"Run 2 \(restoration, seed 0\): updates lacks 'R'"),
        (lambda r: r["runs"].append(r["runs"][3]), "Two runs of feedback, seed 0"),
        (lambda r: r["runs"][0]["scores"].pop(), "on clean and on distorted"),
        (lambda r: r["runs"][1]["scores"][0].update(score=1.5), "score=1.5"),
        (lambda r: r["runs"][1]["scores"][0].update(per_class=[0.1]), "1 values for 3 classes"),
        (lambda r: r["runs"][1]["scores"][0].update(images="blurred"), "images='blurred'"),
    ],
)
def test_results_that_are_none_are_refused(change, words):
    with pytest.raises(InvalidInput, match=words):
        parse(broken(change))


@pytest.mark.parametrize("width", [80, 200])
def test_on_a_narrow_console_nothing_of_a_table_is_cut(width):
    pytest.importorskip("rich")
    from rich.console import Console

    for table in tables(made()).values():
        console = Console(width=width, record=True, file=io.StringIO())
        parts = table.within(width)
        console.print(*parts, sep="\n")
        printed = console.export_text()
        assert "…" not in printed
        assert max(map(len, printed.splitlines())) <= width
        cells = [cell for row in table.rows for cell in row[table.labels :]]
        assert all(part in printed for cell in cells for part in cell.split(" (")[0].splitlines())
        shown = [column for part in parts for column in part.columns]
        assert len(shown) == len(table.columns) + table.labels * (len(parts) - 1), "each column once, beside its labels"
        assert len(parts) == 1 or width == 80
