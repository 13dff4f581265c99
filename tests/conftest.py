"""What every test shares."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

import smp_feedback as smpf
from smp_feedback.registry.public import catalogue

GOLDEN = Path(__file__).parents[1].parent / "shared" / "golden"
CAMVID = Path(__file__).parents[1].parent / "shared" / "data" / "camvid"
SMPS = [name for name in smpf.list_architectures() if hasattr(smp, name)]
"""smp's own architectures, whatever plugins are installed."""


def a_few(names, *kept):
    """Parameters: *kept* in ``make test``, the others of *names* only in ``make test-all``."""
    assert set(kept) <= set(names), "who is kept is one of them"
    return [name if name in kept else pytest.param(name, marks=pytest.mark.sweep) for name in names]


def pairs(firsts, seconds, *kept):
    """Parameters: every pair, those of neither a first nor a second of *kept* only in ``make test-all``."""
    every = [(first, second) for first in firsts for second in seconds]
    return [pair if {*pair} & {*kept} else pytest.param(*pair, marks=pytest.mark.sweep) for pair in every]


@pytest.fixture(autouse=True, scope="session")
def one_thread_per_worker():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def restored():
    """The catalogue of this process, left as it was found."""
    before = {kind: registry.copy() for kind, registry in catalogue().registries().items()}
    there = list(catalogue().plugins)
    yield catalogue()
    catalogue().plugins[:] = there
    for kind, registry in catalogue().registries().items():
        registry.replace(before[kind])


def idx(path, array):
    """MNIST's own format: zeros, type 8, number of axes, the axes, the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.fixture
def mnist(tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 40), ("t10k", 10)):
        idx(tmp_path / f"MNIST/raw/{part}-images-idx3-ubyte", rng.integers(0, 256, (count, 28, 28), np.uint8))
        idx(tmp_path / f"MNIST/raw/{part}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
    return tmp_path
