"""An ablation's results, made up: for tests and for looking at the tables."""

from __future__ import annotations

from smp_feedback.experiments.ablation.rows import ROWS, TRAINED, lines

CLASSES = ["sky", "road", "sign"]


def fake_ablation(rows=TRAINED, seeds=3, value=lambda row, seed: 0.3 + 0.02 * list(ROWS).index(row) + 0.001 * seed):
    """As ``smp-feedback restore ablation`` keeps them; M of clean images is 0.2 better on clean ones."""
    return {
        "kind": "ablation",
        "version": 1,
        "command": "smp-feedback restore ablation --seeds 3",
        "settings": {"data": "polygons", "train_steps": 10},
        "hardware": "x86_64 CPU",
        "classes": CLASSES,
        "runs": [fake_run(row, seed, value(row, seed)) for seed in range(seeds) for row in rows],
    }


def fake_run(row, seed, value):
    passes = (4 if ROWS[row].fed_back else 1) if ROWS[row].restored else 1
    return {
        "row": row,
        "seed": seed,
        "seconds": 10.0 * passes,
        "seconds_per_image": 0.01 * passes,
        "updates": {"M": 10, "R": 10 * max(1, passes - 1) * ROWS[row].restored},
        "passes": {"M": 10 * passes, "R": 10 * passes * ROWS[row].restored},
        "parameters": {"M": 1000, "R": 200 * ROWS[row].restored},
        "scores": [
            fake_score(line.images, t, value + 0.2 * (line.images == "clean") - 0.01 * (passes - 1 - t))
            for line in lines([row])
            for t in range(passes)
        ],
    }


def fake_score(images, t, value):
    near = {"l1": None, "psnr": None} if images == "clean" else {"l1": 0.05 - 0.001 * t, "psnr": 20.0 + t}
    return {"images": images, "pass": t, "score": value, "per_class": [value + 0.1, value - 0.1, None], **near}
