"""What is known so far, in one file: results of other versions are not counted, and a kill loses one case at most."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
import torchvision

import smp_feedback
from benchmarks.working.cases import Case, Smallest, smallest_of
from benchmarks.working.checks import CHECKS


def versions() -> dict[str, str]:
    """Of all that a result depends on."""
    libraries = {"torch": torch, "torchvision": torchvision, "timm": timm, "smp": smp, "smp_feedback": smp_feedback}
    return {name: str(library.__version__).partition("+")[0] for name, library in libraries.items()}


def works(facts: dict[str, Any]) -> bool:
    """Whether every check was reached and passed."""
    return all(facts.get(name) == "" for name in CHECKS) and "stopped" not in facts


def reason(facts: dict[str, Any]) -> str:
    """What went wrong first; empty if all works."""
    if wrong := [facts[name] for name in CHECKS if facts.get(name)]:
        return str(wrong[0])
    if "stopped" in facts:
        return f"{facts['stopped']}, at: {next((name for name in CHECKS if name not in facts), 'the end')}"
    return ""


class Store:
    """Results by :attr:`Case.key`, kept in *path*.

    Args:
        path: A JSON file; made where there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        kept = json.loads(path.read_text()) if path.is_file() else {}
        if kept.get("versions") != versions():
            kept = {}
        self.results: dict[str, dict[str, Any]] = kept.get("results", {})
        self.smallest = {family: Smallest(*model) for family, model in kept.get("smallest", {}).items()}

    def families(self) -> Iterable[str]:
        """Finds the smallest model of each of timm's families that is not known; yields each family when it is."""
        for family in timm.list_modules():
            if family not in self.smallest and (found := smallest_of(family)):
                self.smallest[family] = found
            yield family
        self.write()

    def parameters(self, case: Case) -> int:
        """Of the model of *case*, where it is timm's: the small ones are asked first."""
        return self.smallest[case.family].parameters if case.family in self.smallest else 0

    def pending(self, cases: Iterable[Case], *, again: bool) -> list[Case]:
        """Those of *cases* without a result, or, *again*, without one in which all works."""
        return [case for case in cases if case.key not in self.results or (again and not works(self.results[case.key]))]

    def add(self, case: Case, facts: dict[str, Any]) -> None:
        """Keep what was found, at once."""
        self.results[case.key] = facts
        self.write()

    def write(self) -> None:
        """The file, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        half = self.path.with_suffix(".part")
        kept = {"versions": versions(), "smallest": self.smallest, "results": self.results}
        half.write_text(json.dumps(kept, indent=1))
        half.replace(self.path)
