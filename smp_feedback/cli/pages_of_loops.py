"""The pages of verbs around other loops: refine, restore, click."""

from __future__ import annotations

from smp_feedback.cli.page import Page
from smp_feedback.cli.page_words import COMPARED, CONDUCTED, CONFIG, DATA, LEARNS, RESUMES, TRAINED

LOOPS = {
    "score": Page(
        "score VERB [options]",
        "Refine a trained model's predictions by iterative inference.",
        {
            "Verbs": {
                "train": "Train the autoencoder that refines a model's predictions. The model itself stays as it is.",
                "tune": "Choose step size and number of updates on the validation images.",
                "evaluate": "Score base, one pass of the autoencoder, and iterative inference, on the test images.",
            }
        },
        stages=True,
    ),
    "score train": Page(
        "score train [options]",
        "Train the autoencoder that refines a model's predictions. The model itself stays as it is.",
        {
            "Model and data": {
                "--base DIR": "the run's folder (--out of fit), or a saved model",
                **CONFIG,
                **DATA,
                "--data.batch_size N": "images in a batch (default: 10)",
            },
            "Model": {
                "--score.autoencoder NAME": "standard, context, ... (default: standard)",
                "--score.steps N": "updates of an answer",
                "--training.lr RATE": "the learning rate",
            },
            "Training": {**RESUMES, "--out DIR": "where files go (default: runs/score/TIME)"},
        },
    ),
    "score tune": Page(
        "score tune [options]",
        "Choose step size and number of updates on the validation images. They are saved with the model.",
        {
            "Model": {
                "--run DIR": "the --out of score train: its data and model",
                "--model DIR": "or a folder of save_pretrained, with --data.name",
            },
            "Data, if not the run's own": DATA,
            "How": {
                "--step_sizes [S, ...]": "step sizes to try; without it, the published ones",
                "--most N": "most updates to try (default: 50)",
                "--accelerator A": "auto, cpu or gpu (default: auto)",
                "--out DIR": "where files go; without it, beside the model",
            },
        },
    ),
    "score evaluate": Page(
        "score evaluate [options]",
        "Score the base, one pass of the autoencoder, and iterative inference, on the test images.",
        {
            "Model": {"--run DIR": "the --out of score train: its data and model", **TRAINED},
            "Data, if not the run's own": DATA,
            "How": {
                "--crf true": "also a dense CRF on the base's answer (extra crf)",
                "--accelerator A": "auto, cpu or gpu (default: auto)",
                "--out DIR": "where files go (default: runs/score/TIME)",
            },
        },
    ),
    "repair": Page(
        "repair VERB [options]",
        "Mend a trained model's masks with a small network that is applied again and again.",
        {
            "Verbs": {
                "train": "Train the network that mends a model's masks. The model itself stays as it is.",
                "evaluate": "Score the model, the mended masks and other methods on the test images.",
            }
        },
        stages=True,
    ),
    "repair train": Page(
        "repair train [options]",
        "Train the network that mends a model's masks. The model itself stays as it is.",
        {
            "Model and data": {
                "--base DIR": "the run's folder (--out of fit), or a saved model",
                "--fitted [DIR, ...]": "runs of fit that each left images out (cross-fitting)",
                **CONFIG,
                **DATA,
            },
            "Model": {
                "--repair.steps N": "number of looks of the saved model (default: 32)",
                "--training.broken SHARE": "share of true masks with drawn errors (default: 0.25)",
                "--training.pool N": "states that training continues from (default: 16)",
                "--training.lr RATE": "the learning rate",
            },
            "Training": {**RESUMES, "--out DIR": "where files go (default: runs/repair/TIME)"},
        },
    ),
    "repair evaluate": Page(
        "repair evaluate [options]",
        "Score the model, the mended masks and other methods on the test images.",
        {
            "Model": {"--run DIR": "the --out of repair train: its data and model", **TRAINED},
            "Data, if not the run's own": DATA,
            "How": {
                "--looks [N, ...]": "numbers of looks; without it, the model's own",
                "--beside DIR": "also a model with a score loop (--out of score train)",
                "--crf true": "also a dense CRF on the base's answer (extra crf)",
                "--topology true": "also clDice, Betti errors and breaks (extra topology)",
                "--accelerator A": "auto, cpu or gpu (default: auto)",
                "--out DIR": "where files go (default: runs/repair/TIME)",
            },
        },
    ),
    "restore": Page(
        "restore VERB [options]",
        "Restore distorted images before they are segmented. The restorer is told what the segmentation says.",
        {
            "Verbs": {
                "train": "Train a restorer and a segmentation network together.",
                "evaluate": "Score the segmentation of clean, distorted and restored test images, step by step.",
                "ablation": "Train and score the segmentation network alone, then each part of the loop added to it.",
            }
        },
        stages=True,
    ),
    "restore train": Page(
        "restore train [options]",
        "Train a restorer and a segmentation network together, as published or end to end.",
        {
            "Data": {
                **CONFIG,
                **DATA,
                **LEARNS,
                "--distortion.name NAME": "smp-feedback list corruptions, or turbulence",
                "--distortion.severity N": "its severity, 1 to 5",
            },
            "Model": {
                "--base DIR": "start from a trained model: the --out of fit",
                "--model.arch NAME": "architecture of the segmentation network",
                "--restoration.steps N": "passes over an image",
            },
            "Training": {**RESUMES, "--out DIR": "where files go (default: runs/restore/TIME)"},
        },
    ),
    "restore evaluate": Page(
        "restore evaluate [options]",
        "Score the segmentation of the clean, the distorted and the restored test images, step by step.",
        {
            "Model": {"--run DIR": "the --out of restore train: data, distortion, model", **TRAINED},
            "Data, if not the run's own": {
                **DATA,
                "--distortion.name NAME": "smp-feedback list corruptions, or turbulence",
                "--distortion.severity N": "its severity, 1 to 5",
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
            "Data": {
                **CONFIG,
                **DATA,
                "--data.train_count N": "training images; 0 is all (default: 0)",
                "--corruption NAME": "what distorts the images",
                "--severity N": "its severity, 1 to 5",
                "--turbulence {...}": "instead of the two: air and camera, {cn2: 1e-13}",
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
        "Segment what a person clicks on. Train such a model, and count the clicks it needs.",
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
            "Data": {
                **CONFIG,
                **DATA,
                "--data.name NAME": "assemblies, or instances: a number for each object (default: assemblies)",
                **LEARNS,
            },
            "Model": {
                "--model.arch NAME": "smp-feedback list architectures",
                "--model.encoder NAME": "smp-feedback list encoders",
                "--clicks.radius N": "radius of a click, in pixels",
                "--training.clicks [A, B]": "clicks of the simulated user on an object",
            },
            "Training": {**RESUMES, "--out DIR": "where files go (default: runs/clicks/TIME)"},
        },
    ),
    "clicks evaluate": Page(
        "clicks evaluate [options]",
        "Click on every test object where the answer is most wrong, and count the clicks to 80, 85 and 90 % IoU.",
        {
            "Model": {"--run DIR": "the --out of clicks train: its data and model", **TRAINED},
            "Data, if not the run's own": DATA,
            "How": {
                "--most N": "clicks on an object at most (default: 20)",
                "--accelerator A": "auto, cpu or gpu (default: auto)",
                "--out DIR": "where files go (default: runs/clicks/TIME)",
            },
        },
    ),
}
