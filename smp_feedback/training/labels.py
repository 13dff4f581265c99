"""A classifier's predictions as a table: one row an image."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from smp_feedback.data.items import item_name
from smp_feedback.saving.files import replace_file
from smp_feedback.training.predicting import ItemWriter, entropy

FILE = "labels.csv"


class LabelWriter(ItemWriter):
    """Writes ``labels.csv``: each image's name, its label after the last look, and how probable that is.

    Of several processes each writes its own share, ``labels_0.csv`` and so on.

    Args:
        folder: Where it goes.
        dataset: Names the items.
        classes: The labels' names.
        looks: Also a column for the label after each look.
        uncertainty: Also the entropy after the last look, 0 for none, 1 for log C.
    """

    def __init__(
        self, folder: Path, dataset: Any, classes: Sequence[str], *, looks: bool = False, uncertainty: bool = False
    ) -> None:
        super().__init__()
        self.folder, self.dataset, self.classes = folder, dataset, classes
        self.looks, self.uncertainty = looks, uncertainty
        self.rows: list[dict[str, str]] = []

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin anew."""
        self.rows = []

    def write(self, prediction: Tensor, indices: list[int]) -> None:
        """Note one batch, (T, B, classes)."""
        names = [item_name(self.dataset, index) for index in indices]
        self.rows += [self.row(name, prediction[:, b].float().cpu()) for b, name in enumerate(names)]

    def row(self, name: str, logits: Tensor) -> dict[str, str]:
        """One image's, from its logits (T, classes)."""
        p = logits[-1].softmax(0)
        found = {"image": name, "label": self.classes[int(p.argmax())], "probability": f"{float(p.max()):.4f}"}
        if self.looks:
            found |= {f"look_{t}": self.classes[k] for t, k in enumerate(logits.argmax(1).tolist(), start=1)}
        if self.uncertainty:
            found["uncertainty"] = f"{float(entropy(logits[-1:])):.4f}"
        return found

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the file, whole or not at all."""
        path = Path(FILE) if trainer.world_size == 1 else Path(f"labels_{trainer.global_rank}.csv")
        replace_file(self.folder / path, self._write)

    def _write(self, draft: Path) -> None:
        with draft.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(self.rows[0]) if self.rows else [])
            table.writeheader()
            table.writerows(self.rows)
