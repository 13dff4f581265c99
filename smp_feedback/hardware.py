"""What figures were measured on."""

from __future__ import annotations

import platform

import torch


def hardware() -> str:
    """The device, the threads and the version of torch, as figures name them.

    >>> "torch" in hardware()
    True
    """
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
    return f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
