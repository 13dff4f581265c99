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
