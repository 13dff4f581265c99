"""Options that several verbs have in common, and what stands beside them on a page."""

from __future__ import annotations

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
    "--topology true": "also clDice, Betti errors and breaks, look by look",
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
