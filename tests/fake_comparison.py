"""A comparison's results, made up: for tests and for looking at the report."""

from __future__ import annotations

import numpy as np

GAINS = {"feedback": 0.03, "plain": 0.0, "one-step": -0.005, "equal-compute": 0.028}
CLASSES = ["ground", "triangle", "rectangle", "hexagon"]


def fake_results(
    models=tuple(GAINS),
    seeds=3,
    trains=("clean", "rescaled_noise:4"),
    counts=(2, 4, 8, 64),
    corruptions=("gaussian_noise", "motion_blur", "occlusion", "rescaled_noise"),
    *,
    task="segmentation",
    looks=4,
    sway=0.012,
    gains=GAINS,
):
    """As `smp-feedback compare` writes them: scores that fall with severity and rise with images."""
    draw = np.random.default_rng(0)
    runs = []
    for train in trains:
        for images in counts:
            for seed in range(seeds):
                shift = draw.normal(0, 0.02)
                runs += [
                    fake_run(m, seed, train, images, corruptions, looks, shift, sway, gains[m], draw) for m in models
                ]
    return {
        "kind": "comparison",
        "version": 1,
        "command": "smp-feedback compare --data polygons --arch Unet --encoder resnet18 --seeds 3",
        "settings": {"data": {"name": "polygons", "size": 64}, "arch": "Unet", "encoder": "resnet18", "steps": 200},
        "hardware": "x86_64 CPU, 2 threads, torch 2.15.0",
        "classes": CLASSES,
        "ignore_index": None,
        "task": task,
        "runs": runs,
    }


def fake_run(model, seed, train, images, corruptions, looks, shift, sway, gain, draw):
    loops = looks if model == "feedback" else 1
    steps = 200 * looks if model == "equal-compute" else 200
    base = 0.45 + 0.06 * np.log2(images) - (0.1 if train != "clean" else 0.0) + shift
    robust = 0.5 if train != "clean" else 1.0

    def score(corruption, severity, t=loops):
        late = -0.12 * 0.35**t if model == "feedback" else 0.0
        slope = 0.04 + 0.01 * (corruption == "gaussian_noise")
        value = base + late + gain * (1 + severity / 5) - robust * slope * severity + draw.normal(0, sway)
        value = float(np.clip(value, 0.01, 0.99))
        parts = [float(np.clip(value + d, 0, 1)) for d in (0.15, 0.02, -0.05, -0.12)]
        ece = float(np.clip(0.05 + 0.02 * severity - gain, 0, 1))
        return {
            "corruption": corruption,
            "severity": severity,
            "looks": t,
            "score": value,
            "per_class": parts,
            "ece": ece,
        }

    scores = [score("clean", 0), *(score(name, severity) for name in corruptions for severity in range(1, 6))]
    if model == "feedback":
        name, _, severity = train.partition(":")
        scores += [score(name, int(severity or 0), t) for t in range(1, 2 * looks + 1) if t != looks]
    return {
        "model": model,
        "seed": seed,
        "train": train,
        "images": images,
        "steps": steps,
        "looks": loops,
        "seconds": 0.06 * steps * loops + float(draw.normal(0, 0.5)),
        "seconds_per_image": 0.004 * loops,
        "kept_mb": None,
        "parameters": 14_330_000 if model in ("plain", "equal-compute") else 14_340_000,
        "scores": scores,
    }


SOLVED = {  # of mazes of 5, 9, 13 and 21 cells: after each number of looks for the loop, and once for its twins
    "feedback": {16: (0.97, 0.55, 0.10, 0.0), 64: (0.98, 0.90, 0.70, 0.2), 160: (0.98, 0.92, 0.80, 0.6)},
    "plain": {1: (0.0, 0.0, 0.0, 0.0)},
    "equal-compute": {1: (0.05, 0.0, 0.0, 0.0)},
    "equal-inference": {1: (0.49, 0.0, 0.0, 0.0)},
    "equal-inference-3x": {1: (0.99, 0.1, 0.0, 0.0)},
}
PARAMETERS = {"feedback": 30_000, "plain": 28_000, "equal-compute": 28_000}


def fake_sizes(models=tuple(SOLVED), seeds=3, sizes=(5, 9, 13, 21), sway=0.01, solved=SOLVED):
    """As `smp-feedback compare --sizes ... --looks ...` writes them."""
    draw = np.random.default_rng(0)
    runs = []
    for model, seed in ((model, seed) for seed in range(seeds) for model in models):
        looks = 16 if model == "feedback" else 1
        dearer = {"equal-compute": 9600, "equal-inference": 573, "equal-inference-3x": 1719}  # of as many multiply-adds
        steps = dearer.get(model, 800)
        scores = []
        for t, size, share in ((t, *pair) for t, row in solved[model].items() for pair in zip(sizes, row, strict=True)):
            share = float(np.clip(share + draw.normal(0, sway) * (0 < share < 1), 0, 1))
            value = {"score": 0.5 + share / 2, "per_class": [0.5 + share / 2, None], "ece": 0.05, "solved": share}
            scores.append({"corruption": "clean", "severity": 0, "looks": t, "size": size, **value})
        how = {"seconds": 100.0, "seconds_per_image": 0.001 * looks, "kept_mb": 10.0, "scores": scores}
        how |= {
            "parameters": PARAMETERS.get(model, 340_000),
            "macs": 57_000_000 if "inf" in model else 3_400_000 * looks,
        }
        how |= {"steps": steps, "looks": looks, "passes": 12 * steps if looks > 1 else steps}
        runs.append({"model": model, "seed": seed, "train": "clean", "images": 100_000, **how})
    results = fake_results(seeds=1, counts=(2,), trains=("clean",))
    settings = {"data": "mazes", "sizes": [*sizes], "looks": [16, 64, 160], "score": "solved", "models": [*models]}
    return {**results, "settings": settings, "classes": ["other", "path"], "runs": runs}
