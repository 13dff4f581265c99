"""``smp-feedback restore ablation``: what each part of the restoration loop brings."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from jsonargparse import ArgumentParser

from smp_feedback.experiments.ablation.settings import AblationSettings


def ablation_settings(parser: ArgumentParser) -> None:
    """Those of ``restore ablation``."""
    parser.add_argument("--config", action="config", help="a YAML file with any of these")
    parser.add_class_arguments(AblationSettings)
    parser.add_argument("--out", default="runs/ablation", help="the folder for tables, pictures and models")
    parser.add_argument("--jobs", type=int, default=1, help="models trained at the same time")
    parser.add_argument("--accelerator", default="auto", help="Lightning's: auto, cpu, gpu")


def restore_ablation(parser: ArgumentParser, args: Any) -> None:
    """Train and score the segmentation network alone, then each part of the loop added to it."""
    from smp_feedback.cli.ablation_progress import ablate_aloud

    settings = AblationSettings(**{f.name: args[f.name] for f in fields(AblationSettings)})
    ablate_aloud(settings, args.out, jobs=args.jobs, accelerator=args.accelerator)
