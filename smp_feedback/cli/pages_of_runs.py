"""The pages of what one run goes through: look at its data, train, score, predict."""

from __future__ import annotations

from smp_feedback.cli.page import Page
from smp_feedback.cli.page_words import CONFIG, DATA, LEARNS, RESUMES, SCORES, WHOSE


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


RUNS = {
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
    "app": Page(
        "app [options]",
        "Try a saved model in the browser: drop an image, move the slider of looks, see what changed and how uncertain "
        "it is, download the mask; films and a camera where its state is carried on, clicks where it listens to them.",
        {
            "Which model": {
                "--model DIR": "a saved model, or the run that saved it",
                "--run DIR": "or the --out of fit: the model that it saved",
                "--accelerator A": "auto, cpu or gpu (default: auto)",
            },
            "How it looks": {
                "--looks N": "looks at an image, at most; without it, 4 times the model's own",
                "--size SIZE": "pixels a side, or [H, W], that images are resized to",
            },
            "Who reaches it": {
                "--host NAME": "where to listen: this computer alone (default: 127.0.0.1)",
                "--port N": "without it, the first free one from 7860",
                "--open": "open the page in this computer's browser; --no-open does not",
                "--max_size SIZE": "of a file that is uploaded, at most (default: 20MB)",
                "--max_pixels N": "of an image, at most; without it, 33 million, or 4 million where it is not resized",
            },
        },
    ),
}
