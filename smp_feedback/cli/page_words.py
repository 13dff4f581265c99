"""Options that several verbs have in common, and what stands beside them on a page."""

from __future__ import annotations

CONFIG = {"--config FILE.yaml": "settings by name; options on the command line win"}
DATA = {
    "--data.name NAME": "folder, camvid, ...: smp-feedback list datasets",
    "--data.root DIR": "the folder of its files",
    "--data.options {...}": "its other options: {classes: [sky, car]}",
    "--data.size SIZE": "images are resized to it: pixels a side, or [H, W]",
}
LEARNS = {"--data.batch_size N": "images in a batch (default: 8)"}
RESUMES = {
    "--trainer.max_epochs N": "epochs",
    "--trainer.accelerator A": "auto, cpu or gpu (default: auto)",
    "--early_stopping N": "stop after N validations without a better score",
    "--seed N": "same seed, same result (default: 0)",
    "--resume DIR": "continue a run that was stopped",
}
WHOSE = {
    "--run DIR": "the run's folder (--out of fit): settings and weights",
    "--weights W": "best, last or a checkpoint's path (default: best)",
}
SCORES = {
    "--data.batch_size N": "images at a time (default: 8)",
    "--trainer.accelerator A": "auto, cpu or gpu (default: auto)",
    "--window N": "in overlapping windows of N px, images at their own size",
    "--bootstrap N": "bootstrap samples for 95 % intervals (default: 1000)",
    "--distances true": "also Hausdorff 95 and average surface distance",
    "--topology true": "also clDice, Betti errors and breaks, look by look",
    "--out DIR": "where scores.json and its tables go",
}
COMPARED = {
    "--arch NAME": "the architecture (default: Unet)",
    "--encoder NAME": "its encoder",
    "--encoder_weights W": "as in smp; random without it",
}
CONDUCTED = {
    "--jobs N": "models trained at the same time (default: 1)",
    "--accelerator A": "auto, cpu or gpu (default: auto)",
}
TRAINED = {
    "--model DIR": "or a folder of save_pretrained, with --data.name",
    "--split SPLIT": "test or val (default: test)",
}
