"""What every test shares."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

GOLDEN = Path(__file__).parents[1].parent / "shared" / "golden"
CAMVID = Path(__file__).parents[1].parent / "shared" / "data" / "camvid"


@pytest.fixture(autouse=True, scope="session")
def one_thread_per_worker():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
