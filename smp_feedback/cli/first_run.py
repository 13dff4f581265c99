"""A first ``run.yaml``: the settings as they were told, and those that follow from the data, with their reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from smp_feedback.data.inspection.problems import TRAIN
from smp_feedback.data.inspection.report import DataReport
from smp_feedback.data.inspection.suggestions import Suggestion, class_weights
from smp_feedback.saving.files import replace_file


def run_file(told: Mapping[str, Any], found: Sequence[Suggestion], report: DataReport) -> str:
    """The text of a file that ``fit --config`` takes as it is.

    Args:
        told: The settings that differ from their defaults, by group.
        found: What to add to those of the data.
        report: What was found, from which the rest is proposed in comments.

    >>> print(run_file({"data": {"name": "folder"}}, [Suggestion("size", [32, 32], "why")], DataReport(splits={})))
    # by smp-feedback check, for smp-feedback fit --config
    data:
      name: folder
      # why
      size: [32, 32]
    <BLANKLINE>
    """
    reasons = {one.key: one.why for one in found}
    data = {**told.get("data", {}), **{one.key: one.value for one in found}}
    lines = ["# by smp-feedback check, for smp-feedback fit --config", "data:"]
    for key, value in data.items():
        lines += [f"  # {reasons[key]}"] if key in reasons else []
        lines += [f"  {line}" for line in _dumped({key: value})]
    rest = {group: settings for group, settings in told.items() if group != "data"}
    lines += [*_dumped(rest)] if rest else []
    return "\n".join([*lines, *_proposed(report)]) + "\n"


def write_run_file(path: Path, text: str) -> Path:
    """Write *text* to *path*, all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return replace_file(path, lambda draft: draft.write_text(text))


def _dumped(settings: Mapping[str, Any]) -> list[str]:
    """Groups as blocks, and what they hold a setting a line."""
    lines: list[str] = []
    for key, value in settings.items():
        if isinstance(value, dict) and any(isinstance(one, str | list | dict) for one in value.values()):
            lines += [f"{key}:", *(f"  {line}" for line in _dumped(value))]
        else:
            flow: str = yaml.safe_dump({key: value}, default_flow_style=True, allow_unicode=True, width=1 << 20)
            lines.append(flow.strip()[1:-1])
    return lines


def _proposed(report: DataReport) -> list[str]:
    """Comments: what may help, and is left to choose."""
    weights = class_weights(report.splits[TRAIN]) if TRAIN in report.splits else None
    if weights is None:
        return []
    why, numbers = weights
    return [
        f"# The classes are uneven, {why}. Rare ones count more with",
        "# model:",
        "#   loss: cross_entropy",
        f"#   loss_arguments: {{weight: {numbers}}}",
    ]
