"""What the files of a folder say, each read whole, without what a clock said; one that is not whole is told of."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

GROWING = ("events.out", "metrics.csv", ".lock")  # logs, and a lock


def files_of(folder: Path) -> dict[str, Path]:
    """Every file under a final name, by where it lies."""
    every = (path for path in sorted(folder.rglob("*")) if path.is_file())
    named = {str(path.relative_to(folder)): path for path in every}
    return {name: path for name, path in named.items() if "/." not in f"/{name}" and not is_growing(path)}


def is_growing(path: Path) -> bool:
    return any(part in path.name for part in GROWING)


def drafts_of(folder: Path) -> list[Path]:
    """What is hidden, and no lock."""
    return [path for path in folder.rglob(".*") if not is_growing(path)]


def content(path: Path) -> Any:
    """What *path* says, read whole, but for times.

    Raises:
        Exception: If it is not whole.
    """
    if path.suffix == ".ckpt":
        held = torch.load(path, map_location="cpu", weights_only=True)
        said = {key: held.get(key) for key in ("state_dict", "current_model_state", "optimizer_states", "global_step")}
        return digest(said)
    if path.suffix == ".safetensors":
        return digest(load_file(path))
    if path.suffix == ".json":
        return without_times(json.loads(path.read_text()))
    if path.suffix == ".yaml":
        return yaml.safe_load(path.read_text())
    if path.suffix in (".png", ".gif", ".jpg"):
        with Image.open(path) as picture:
            picture.load()
            return picture.size if "figures" in path.parts else digest(np.asarray(picture))
    if path.suffix == ".npy":
        return digest(np.load(path))
    if path.suffix == ".onnx":
        import onnx

        onnx.checker.check_model(onnx.load(path))
        return digest(path.read_bytes())
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.reader(file))
    return path.suffix if path.read_text().strip() else 1 / 0  # reports name times: they are there, and not empty


def digest(value: Any) -> str:
    """A hash of tensors, arrays and plain values inside one another."""
    hashed = hashlib.sha256()
    for part in parts_of(value):
        hashed.update(part)
    return hashed.hexdigest()


def parts_of(value: Any) -> Iterator[bytes]:
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape}".encode()
        yield value.tobytes()
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            yield str(key).encode()
            yield from parts_of(value[key])
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from parts_of(one)
    else:
        yield value if isinstance(value, bytes) else repr(value).encode()


def without_times(value: Any) -> Any:
    """*value* without what a clock said, or a folder is called."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if not ("second" in k or k in ("command", "out", "ms"))}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def contents(folder: Path, wrong: list[str], when: str) -> dict[str, Any]:
    """What each file says; one that cannot be read whole is *wrong*."""
    found = {}
    for name, path in files_of(folder).items():
        try:
            found[name] = content(path)
        except Exception as error:
            wrong.append(f"{when}: {name} is not whole: {type(error).__name__}: {error!s:.200}")
    return found
