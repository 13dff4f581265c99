"""The pages of what one run goes through: look at its data, train, score, predict."""

from __future__ import annotations

from smp_feedback.cli.page import Page
from smp_feedback.cli.page_words import CONFIG, DATA, LEARNS, RESUMES, SCORES, WHOSE


def _scored(verb: str, says: str) -> Page:
    return Page(
        f"{verb} [options]",
        says,
        {
            "Model": WHOSE,
            "Data, if not the run's own": {**CONFIG, **DATA},
            "How": SCORES,
        },
    )


RUNS = {
    "check": Page(
        "check [options]",
        "Check all images and masks before training. The result is a list of problems, and settings for fit.",
        {
            "Data": {
                **DATA,
                "--data.values {...}": "which class each value of a mask means: {255: 1}",
                "--data.colours {...}": "the colour of each class, or the file of a table",
                "--data.offset N": "added to each value of a mask: -1 where labels begin at 1",
                "--data.val_share S": "share of the training images kept for validation",
                "--data.split_file FILE": "table that says which image is in which split",
            },
            "How": {
                **CONFIG,
                "--out FILE": "settings file for fit (default: run.yaml)",
                "--overwrite": "replace a settings file that exists",
                "--json": "print all findings as JSON",
            },
        },
    ),
    "fit": Page(
        "fit [options]",
        "Train a model and keep its best weights. --resume continues a run that was stopped.",
        {
            "Data (smp-feedback check tests it and writes run.yaml)": {
                **CONFIG,
                **DATA,
                **LEARNS,
                "--data.augment HOW": "none, flip, flips, crop_flip or colour (default: none)",
                "--data.crop N": "train on random crops of N pixels a side",
            },
            "Model": {
                "--model.arch NAME": "smp-feedback list architectures (default: Unet)",
                "--model.encoder NAME": "smp-feedback list encoders 'resnet*'",
                "--model.feedback LOOP": "true, false, a loop's name, or {steps: 4, ...} (default: true)",
                "--model.loss NAME": "smp-feedback list losses (default: cross_entropy)",
                "--model.lr RATE": "the peak learning rate (default: 0.001)",
            },
            "Training": {
                "--monitor SCORE": "score that picks the best weights: dice, miou/look_1",
                **RESUMES,
                "--out DIR": "where files go (default: runs/fit/TIME)",
            },
        },
    ),
    "validate": _scored("validate", "Score a trained model on the validation images, after each look."),
    "test": _scored("test", "Score a trained model on the test images, after each look."),
    "predict": Page(
        "predict [options]",
        "Write a trained model's label map for each image, at the image's size.",
        {
            "Model and images": {
                "--run DIR": "the run's folder (--out of fit), or a saved model",
                "--weights W": "best, last or a checkpoint's path (default: best)",
                "--images PATH": "an image or a folder of them; without it, the test split",
                "--watch DIR": "images as they arrive in a folder, until Ctrl-C",
                "--out DIR": "where files go (default: runs/predict/TIME)",
            },
            "Output": {
                "--overlays true": "also the answer over each image, with a legend",
                "--maps masks": "write the masks' own values or colours, not labels",
                "--probabilities TYPE": "also class probabilities: npy or tiff",
                "--polygons TYPE": "also outlines: geojson or coco",
                "--looks true": "also the labels of every look",
                "--uncertainty true": "also the uncertainty of each pixel",
            },
            "How": {
                "--window N": "in overlapping windows of N px, images at their own size",
                "--steps N": "number of looks; without it, the run's own",
                "--settled N": "stop an image after N equal answers in a row",
            },
            "Films": {
                "--video FILE": "a film, drawn with its answer into --out FILE.mp4",
                "--camera N": "the frames of a camera, until Ctrl-C",
                "--film true": "the --images are a film's frames, in order of their names",
                "--masks DIR": "also the label map of each video frame",
                "--reset HOW": "reset the state at cuts: auto, never, or a threshold",
                "--frames N": "at most N frames",
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
