"""How many parameters the networks have, beside the published numbers: ``python -m smp_feedback_fcn.tables``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import smp_feedback as smpf
import torch

CLASSES = 11  # CamVid's
PUBLISHED = {"FCN8s": 134.5, "FCDenseNet56": 1.5, "FCDenseNet67": 3.5, "FCDenseNet103": 9.4}
"""Millions, for CamVid (arXiv 1611.09326, table 3)."""


class Row(NamedTuple):
    """One network.

    Attributes:
        name: As ``smp_feedback.create`` knows it.
        published: Millions of parameters.
        parameters: Ours, all trainable.
        statistics: Running means and variances besides, which the papers' library counts among the parameters.
    """

    name: str
    published: float
    parameters: int
    statistics: int


def rows() -> Iterator[Row]:
    """Each network, built where nothing is stored or computed."""
    for name, published in PUBLISHED.items():
        with torch.device("meta"):
            net = smpf.create(name, classes=CLASSES, feedback=False)
        statistics = sum(b.numel() for key, b in net.named_buffers() if "running" in key)
        yield Row(name, published, sum(p.numel() for p in net.parameters()), statistics)


def main() -> None:
    """Print the table."""
    print("| network | published, millions | parameters | and running statistics |\n|---|---|---|---|")
    for name, published, parameters, statistics in rows():
        print(f"| {name} | {published} | {parameters:,} | {parameters + statistics:,} |")


if __name__ == "__main__":
    main()
