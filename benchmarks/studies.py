"""The settings of a study, read from its file as its class takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from smp_feedback.cli.experiments import OF_DATA

FIELDS = {word.partition(".")[2]: name for name, word in OF_DATA.items() if name != "images"}
"""What a word of the block ``data`` is called in settings; ``images`` is a word of before."""


def study_settings(path: Path) -> dict[str, Any]:
    """The keywords of a study's settings: what stands in its block ``data`` beside all else."""
    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {**{FIELDS[word]: value for word, value in said.pop("data", {}).items()}, **said}
