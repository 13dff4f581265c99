"""The pages of ``compare``: what is trained alike, and reported."""

from __future__ import annotations

from smp_feedback.cli.page import Page
from smp_feedback.cli.page_words import COMPARED, CONDUCTED, CONFIG, DATA

STUDIES = {
    "compare": Page(
        "compare [options]",
        "Does feedback help on my images? Train a feedback model and its feed-forward twins alike, and report.",
        {
            "Data": {
                **CONFIG,
                **DATA,
                "--data.train_count N ...": "numbers of training images; 0 is all",
                "--data.augment HOW": "none, flip, flips, crop_flip, colour (default: flips)",
                "--train COND ...": "training images: clean, or with a corruption: jpeg:3",
                "--corruptions NAME ...": "corruptions of the test images alone",
            },
            "What is compared": {
                **COMPARED,
                "--feedback LOOP": "true, a loop's name, or {steps: 4, ...}",
                "--models NAME ...": "feedback, plain, one-step, equal-compute, ...",
            },
            "How": {
                "--train_steps N": "optimiser steps of the loop",
                "--seeds N": "repetitions; more can be added later (default: 3)",
                **CONDUCTED,
                "--task TASK": "image, or film: frames of films (default: image)",
                "--out DIR": "the report; a rerun continues (default: runs/compare)",
            },
        },
    ),
    "compare --task film": Page(
        "compare --task film [options]",
        "Does a state carried from frame to frame help on my films? Train such a model and its rivals alike.",
        {
            "Data": {
                **CONFIG,
                **DATA,
                "--data.name NAME": "a dataset that has films (default: moving)",
                "--data.train_count N": "frames to train on; 0 is all (default: 0)",
                "--train COND ...": "training clips: clean, or with a corruption: rain:3",
                "--tests COND ...": "test films: clean, or with a corruption: rain:3",
            },
            "What is compared": {
                **COMPARED,
                "--feedback LOOP": "a loop that carries its state on (default: film)",
                "--models NAME ...": "carried, plain, averaged, stacked-4, stacked-8, looks-4",
            },
            "How": {
                "--clip N": "frames of a training clip (default: 8)",
                "--train_steps N": "batches of a training (default: 200)",
                "--seeds N": "repetitions (default: 3)",
                **CONDUCTED,
                "--out DIR": "where films.md and the rest go (default: runs/films)",
            },
        },
    ),
}
