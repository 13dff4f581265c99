"""The pages of verbs around other loops: refine, restore, click."""

from __future__ import annotations

from smp_feedback.cli.page import Page
from smp_feedback.cli.page_words import COMPARED, CONDUCTED, CONFIG, DATA, LEARNS, RESUMES, TRAINED

LOOPS = {
    "score": Page(
        "score VERB [options]",
        "Refine a trained model's predictions by iterative inference: train what refines them, tune it, evaluate.",
        {
            "Verbs": {
                "train": "Train the autoencoder that refines a base's predictions; the base is left as it is.",
                "tune": "Choose step size and number of updates on the validation images, and keep them.",
                "evaluate": "Score base, one pass of the autoencoder, and iterative inference, on the test images.",
            }
        },
        stages=True,
    ),
    "score train": Page(
        "score train [options]",
        "Train the autoencoder that refines a base's predictions; the base is left as it is.",
        {
            "Of what": {
                "--base DIR": "the --out of fit, whose data it takes, or a saved model",
                **CONFIG,
                **DATA,
                "--data.batch_size N": "images in a batch (default: 10)",
            },
            "What learns": {
                "--score.autoencoder NAME": "standard, context, ... (default: standard)",
                "--score.steps N": "updates of an answer",
                "--training.lr RATE": "the learning rate",
            },
            "How long, and where": {**RESUMES, "--out DIR": "where files go (default: runs/score/TIME)"},
        },
    ),
    "score tune": Page(
        "score tune [options]",
        "Choose step size and number of updates on the validation images, and keep them with the model.",
        {
            "Which model": {
                "--run DIR": "the --out of score train: its data and model",
                "--model DIR": "or a model of save_pretrained, with --data.name",
            },
            "On what, if not on the run's own": DATA,
            "How": {
                "--step_sizes [S, ...]": "what is tried; without it, the published ones",
                "--most N": "numbers of updates to try: 0 to N (default: 50)",
                "--accelerator A": "auto, cpu or gpu (default: auto)",
                "--out DIR": "where files go; without it, beside the model",
            },
        },
    ),
    "score evaluate": Page(
        "score evaluate [options]",
        "Score the base, one pass of the autoencoder, and iterative inference, on the test images.",
        {
            "Which model": {"--run DIR": "the --out of score train: its data and model", **TRAINED},
            "On what, if not on the run's own": DATA,
            "How": {
                "--crf true": "also a dense CRF on the base's answer (extra crf)",
                "--accelerator A": "auto, cpu or gpu (default: auto)",
                "--out DIR": "where files go (default: runs/score/TIME)",
            },
        },
    ),
    "repair": Page(
        "repair VERB [options]",
        "Mend a trained model's masks by a local rule, looked at again and again: train it, evaluate.",
        {
            "Verbs": {
                "train": "Train the net that mends a base's masks; the base is left as it is.",
                "evaluate": "Score the base, the mended masks, and rivals, on the test images.",
            }
        },
        stages=True,
    ),
    "repair train": Page(
        "repair train [options]",
        "Train the net that mends a base's masks; the base is left as it is.",
        {
            "Of what": {
                "--base DIR": "the --out of fit, whose data it takes, or a saved model",
                "--fitted [DIR, ...]": "runs of fit that each left images out (cross-fitting)",
                **CONFIG,
                **DATA,
            },
            "What learns": {
                "--repair.steps N": "looks of the model that is kept (default: 32)",
                "--training.broken SHARE": "of masks that are broken truth (default: 0.25)",
                "--training.pool N": "slots for states to go on from (default: 16)",
                "--training.lr RATE": "the learning rate",
            },
            "How long, and where": {**RESUMES, "--out DIR": "where files go (default: runs/repair/TIME)"},
        },
    ),
    "repair evaluate": Page(
        "repair evaluate [options]",
        "Score the base, the mended masks, and rivals, on the test images.",
        {
            "Which model": {"--run DIR": "the --out of repair train: its data and model", **TRAINED},
            "On what, if not on the run's own": DATA,
            "How": {
                "--looks [N, ...]": "numbers of looks; without it, the model's own",
                "--beside DIR": "also a model with a score loop: the --out of score train",
                "--crf true": "also a dense CRF on the base's answer (extra crf)",
                "--topology true": "also clDice, Betti errors and breaks (extra topology)",
                "--accelerator A": "auto, cpu or gpu (default: auto)",
                "--out DIR": "where files go (default: runs/repair/TIME)",
            },
        },
    ),
    "restore": Page(
        "restore VERB [options]",
        "Restore distorted images before they are segmented, with what the segmentation says: train, evaluate, ablate.",
        {
            "Verbs": {
                "train": "Train a restorer, and the network that segments what it restores.",
                "evaluate": "Score the segmentation of clean, distorted and restored test images, step by step.",
                "ablation": "Train and score the segmentation network alone, then each part of the loop added to it.",
            }
        },
        stages=True,
    ),
    "restore train": Page(
        "restore train [options]",
        "Train a restorer, and the network that segments what it restores, as published or end to end.",
        {
            "On what": {
                **CONFIG,
                **DATA,
                **LEARNS,
                "--distortion.name NAME": "smp-feedback list corruptions, or turbulence",
                "--distortion.severity N": "of that, 1 to 5",
            },
            "What learns": {
                "--base DIR": "begin with a trained model: the --out of fit",
                "--model.arch NAME": "of the segmentation network",
                "--restoration.steps N": "passes over an image",
            },
            "How long, and where": {**RESUMES, "--out DIR": "where files go (default: runs/restore/TIME)"},
        },
    ),
    "restore evaluate": Page(
        "restore evaluate [options]",
        "Score the segmentation of the clean, the distorted and the restored test images, step by step.",
        {
            "Which model": {"--run DIR": "the --out of restore train: data, distortion, model", **TRAINED},
            "On what, if not on the run's own": {
                **DATA,
                "--distortion.name NAME": "smp-feedback list corruptions, or turbulence",
                "--distortion.severity N": "of that, 1 to 5",
            },
            "How": {
                "--accelerator A": "auto, cpu or gpu (default: auto)",
                "--out DIR": "where files go (default: runs/restore/TIME)",
            },
        },
    ),
    "restore ablation": Page(
        "restore ablation [options]",
        "Train and score the segmentation network alone, then each part of the loop added to it.",
        {
            "On what": {
                **CONFIG,
                **DATA,
                "--data.train_count N": "training images; 0 is all (default: 0)",
                "--corruption NAME": "what distorts the images",
                "--severity N": "of that, 1 to 5",
                "--turbulence {...}": "air and camera in place of the two: {cn2: 1e-13}",
            },
            "What is compared": {**COMPARED, "--rows NAME ...": "clean, distorted, restoration, feedback, ..."},
            "How": {
                "--train_steps N": "training batches of every row",
                "--seeds N": "repetitions (default: 3)",
                **CONDUCTED,
                "--out DIR": "tables, pictures and models (default: runs/ablation)",
            },
        },
    ),
    "clicks": Page(
        "clicks VERB [options]",
        "Segment what a person clicks on: train a model to listen to clicks, count how many it needs.",
        {
            "Verbs": {
                "train": "Train a model to segment the object that a simulated user clicks on.",
                "evaluate": "Click on every test object where the answer is most wrong, and count the clicks.",
            }
        },
        stages=True,
    ),
    "clicks train": Page(
        "clicks train [options]",
        "Train a model to segment the object that a simulated user clicks on.",
        {
            "On what": {
                **CONFIG,
                **DATA,
                "--data.name NAME": "assemblies, or instances: a number for each object (default: assemblies)",
                **LEARNS,
            },
            "What learns": {
                "--model.arch NAME": "smp-feedback list architectures",
                "--model.encoder NAME": "smp-feedback list encoders",
                "--clicks.radius N": "of a click, in pixels",
                "--training.clicks [A, B]": "clicks of the simulated user on an object",
            },
            "How long, and where": {**RESUMES, "--out DIR": "where files go (default: runs/clicks/TIME)"},
        },
    ),
    "clicks evaluate": Page(
        "clicks evaluate [options]",
        "Click on every test object where the answer is most wrong, and count the clicks to 80, 85 and 90 % IoU.",
        {
            "Which model": {"--run DIR": "the --out of clicks train: its data and model", **TRAINED},
            "On what, if not on the run's own": DATA,
            "How": {
                "--most N": "clicks on an object at most (default: 20)",
                "--accelerator A": "auto, cpu or gpu (default: auto)",
                "--out DIR": "where files go (default: runs/clicks/TIME)",
            },
        },
    ),
}
