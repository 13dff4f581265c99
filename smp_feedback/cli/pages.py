"""The help of a verb on one screen: what one needs, in the order one needs it; ``--help_all`` has the rest.

These pages are text, so that they are there at once: nothing is imported for them. That every word on them exists, and
has the default that stands beside it, is a test.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

WIDTH, LINES = 80, 40
COLUMN = 25  # where descriptions begin
Words = Mapping[str, str]
"""What is typed, by what it means."""


class Page(NamedTuple):
    """The help of one verb.

    Attributes:
        usage: What is typed behind the program's name.
        says: What the verb does.
        groups: By their titles, options and what stands beside each.
        stages: Whether the groups are of verbs of its own, not of options.
    """

    usage: str
    says: str
    groups: Mapping[str, Words]
    stages: bool = False

    def text(self) -> str:
        """The page, at most 80 characters wide."""
        lines = [f"usage: smp-feedback {self.usage}", "", *textwrap.wrap(self.says, WIDTH)]
        for title, words in self.groups.items():
            lines += ["", f"{title}:", *(line for pair in words.items() for line in _entry(*pair))]
        verb = self.usage.partition(" [")[0]
        more = f"{verb} VERB --help has the options of each" if self.stages else f"All settings: {verb} --help_all"
        return "\n".join([*lines, "", f"{more}."])

    @property
    def flags(self) -> list[str]:
        """The options on it."""
        return [] if self.stages else [word.split()[0] for words in self.groups.values() for word in words]


def _entry(word: str, says: str) -> list[str]:
    """An option and what it means, in lines."""
    lines = textwrap.wrap(says, WIDTH - COLUMN)
    if len(word) > COLUMN - 4:
        return [f"  {word}", *(" " * COLUMN + line for line in lines)]
    return [f"  {word:{COLUMN - 2}}{lines[0]}", *(" " * COLUMN + line for line in lines[1:])]


CONFIG = {"--config FILE.yaml": "settings by name; what is typed overrides it"}
DATA = {
    "--data.name NAME": "folder, camvid, ...: smp-feedback list datasets",
    "--data.root DIR": "where its files are",
    "--data.options {...}": "what else it takes: {classes: [sky, car]}",
    "--data.size SIZE": "pixels a side, or [H, W], that images are resized to",
}
LEARNS = {"--data.batch_size N": "images in a batch (default: 8)"}
RESUMES = {
    "--trainer.max_epochs N": "epochs",
    "--trainer.accelerator A": "auto, cpu or gpu (default: auto)",
    "--early_stopping N": "stop after so many validations without a better score",
    "--seed N": "same seed, same result (default: 0)",
    "--resume DIR": "go on with a run that was stopped",
}
WHOSE = {
    "--run DIR": "the --out of fit: its settings, data and weights",
    "--weights W": "best, last or a checkpoint's path (default: best)",
}
SCORES = {
    "--data.batch_size N": "images at a time (default: 8)",
    "--trainer.accelerator A": "auto, cpu or gpu (default: auto)",
    "--window N": "in overlapping windows of N px, images at their own size",
    "--bootstrap N": "drawings for 95 % intervals; 0: none (default: 1000)",
    "--distances true": "also Hausdorff 95 and average surface distance",
    "--out DIR": "where scores.json and its tables go",
}
COMPARED = {
    "--arch NAME": "the base (default: Unet)",
    "--encoder NAME": "its encoder",
    "--encoder_weights W": "as in smp; random without it",
}
CONDUCTED = {
    "--jobs N": "models trained at the same time (default: 1)",
    "--accelerator A": "auto, cpu or gpu (default: auto)",
}
TRAINED = {
    "--model DIR": "or a model of save_pretrained, with --data.name",
    "--split SPLIT": "test or val (default: test)",
}


def _scored(verb: str, says: str) -> Page:
    return Page(
        f"{verb} [options]",
        says,
        {
            "Which model": WHOSE,
            "On what, if not on the run's own": {**CONFIG, **DATA},
            "How": SCORES,
        },
    )


PAGES = {
    "compare": Page(
        "compare [options]",
        "Does feedback help on my images? Train a feedback model and its feed-forward twins alike, and report.",
        {
            "On what": {
                **CONFIG,
                **DATA,
                "--data.train_count N ...": "numbers of training images; 0 is all",
                "--data.augment HOW": "none, flip, flips, crop_flip, colour (default: flips)",
                "--train COND ...": "clean, or a corruption and its severity: occlusion:3",
                "--corruptions NAME ...": "what is tested, never trained on",
            },
            "What is compared": {
                **COMPARED,
                "--feedback LOOP": "true, a loop's name, or {steps: 4, ...}",
                "--models NAME ...": "feedback, plain, one-step, equal-compute, ...",
            },
            "How": {
                "--train_steps N": "optimiser steps of the loop",
                "--seeds N": "repetitions; more of them can be added later (default: 3)",
                **CONDUCTED,
                "--task TASK": "image, or film: frames of films (default: image)",
                "--out DIR": "the report; again, it goes on (default: runs/compare)",
            },
        },
    ),
    "compare --task film": Page(
        "compare --task film [options]",
        "Does a state that is carried from frame to frame help on my films? Train it and its rivals alike, and report.",
        {
            "On what": {
                **CONFIG,
                **DATA,
                "--data.name NAME": "a dataset that has films (default: moving)",
                "--data.train_count N": "frames to train on; 0 is all (default: 0)",
                "--train COND ...": "what clips are seen under: clean, rain:3, ...",
                "--tests COND ...": "what every model is scored under",
            },
            "What is compared": {
                **COMPARED,
                "--feedback LOOP": "a loop that carries (default: film)",
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
    "check": Page(
        "check [options]",
        "Look at all images and masks before a model is trained on them: what is there, and what is wrong.",
        {
            "What": {
                **DATA,
                "--data.values {...}": "which class each value of a mask means: {255: 1}",
                "--data.colours {...}": "the colour of each class, or the file of a table",
                "--data.offset N": "added to each value of a mask: -1 where labels begin at 1",
                "--data.val_share S": "share of the training images held out as val",
                "--data.split_file FILE": "or which image is in which split",
            },
            "How": {
                **CONFIG,
                "--out FILE": "settings that fit can begin with (default: run.yaml)",
                "--overwrite": "also over a file that is there",
                "--json": "all that was found, for programs",
            },
        },
    ),
    "fit": Page(
        "fit [options]",
        "Train a model, log and keep its best weights; --resume goes on with a run that was killed.",
        {
            "On what (smp-feedback check looks at it first, and writes run.yaml)": {
                **CONFIG,
                **DATA,
                **LEARNS,
                "--data.augment HOW": "none, flip, flips, crop_flip or colour (default: none)",
                "--data.crop N": "train on random windows of so many pixels a side",
            },
            "What learns": {
                "--model.arch NAME": "smp-feedback list architectures (default: Unet)",
                "--model.encoder NAME": "smp-feedback list encoders 'resnet*'",
                "--model.feedback LOOP": "true, false, a loop's name, or {steps: 4, ...} (default: true)",
                "--model.loss NAME": "smp-feedback list losses (default: cross_entropy)",
                "--model.lr RATE": "the peak learning rate (default: 0.001)",
            },
            "How long, and where": {
                "--monitor SCORE": "whose best weights are kept: dice, miou/look_1, ...",
                **RESUMES,
                "--out DIR": "where files go (default: runs/fit/TIME)",
            },
        },
    ),
    "validate": _scored("validate", "Score a trained model's every look on the validation images."),
    "test": _scored("test", "Score a trained model's every look on the test images."),
    "predict": Page(
        "predict [options]",
        "Write a trained model's label map for each image, at its own size and name.",
        {
            "Which model, and of what": {
                "--run DIR": "the --out of fit, or a saved model",
                "--weights W": "best, last or a checkpoint's path (default: best)",
                "--images PATH": "an image or a folder of them; without it, the test split",
                "--watch DIR": "images as they arrive in a folder, until Ctrl-C",
                "--out DIR": "where files go (default: runs/predict/TIME)",
            },
            "What is written": {
                "--overlays true": "also the answer over each image, with a legend",
                "--maps masks": "values or colours of the masks trained on, not labels",
                "--probabilities TYPE": "also how probable each class is: npy or tiff",
                "--polygons TYPE": "also outlines: geojson or coco",
                "--looks true": "also the labels of every look",
                "--uncertainty true": "also how uncertain each pixel is",
            },
            "How": {
                "--window N": "in overlapping windows of N px, images at their own size",
                "--steps N": "looks at each image; without it, the run's own",
                "--settled N": "stop an image after so many equal answers in succession",
            },
            "Films": {
                "--video FILE": "a film, drawn with its answer into --out FILE.mp4",
                "--camera N": "the frames of a camera, until Ctrl-C",
                "--film true": "the --images are a film's frames, in order of their names",
                "--masks DIR": "also each frame's label map, of a video",
                "--reset HOW": "begin anew at cuts: auto, never, or a threshold",
                "--frames N": "so many at most",
            },
        },
    ),
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


SHORT = {
    "compare": "Does feedback help on my images? Train twins, and report.",
    "check": "Look at all images and masks before training on them.",
    "fit": "Train a model; --resume goes on with a run.",
    "validate": "Score a trained model on the validation images.",
    "test": "Score a trained model on the test images.",
    "predict": "Write a trained model's label map for each image.",
    "score": "Refine predictions by iterative inference.",
    "repair": "Mend masks: close gaps, take away false spots.",
    "restore": "Restore distorted images before segmenting them.",
    "clicks": "Segment what a person clicks on.",
    "plot": "Draw the figures of saved results.",
    "export": "Write a saved model as one ONNX or torch.export file.",
    "info": "Show what a saved model is.",
    "list": "List what there is, by name, and who brought it.",
    "plugins": "Show the installed plugins.",
}
"""Every verb in a line."""


def stages_of(verb: str) -> list[str]:
    """The verbs that *verb* has of its own.

    >>> stages_of("score"), stages_of("fit")
    (['train', 'tune', 'evaluate'], [])
    """
    page = PAGES.get(verb)
    return [*page.groups["Verbs"]] if page is not None and page.stages else []


def verbs_with(flag: str) -> list[str]:
    """The verbs that have the option *flag* on their page.

    >>> verbs_with("--window"), verbs_with("--wnidow")
    (['validate', 'test', 'predict'], [])
    """
    return [verb for verb, page in PAGES.items() if flag in page.flags]


def page_of(words: Sequence[str], films: bool = False) -> Page | None:
    """The page of what *words* ask for, if there is one; *films*: whether a comparison is on films.

    >>> page_of(["score", "tune", "--run", "runs/a"]).usage, page_of(["info"])
    ('score tune [options]', None)
    """
    if films:
        return PAGES["compare --task film"]
    names = [" ".join(words[:most]) for most in (2, 1)]
    return next((PAGES[name] for name in names if name in PAGES), None)
