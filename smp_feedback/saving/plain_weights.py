"""A plain model's weights as people have them: a file, a directory, a hub repository, or what was read from one."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from smp_feedback.errors import FeedbackError, InvalidType, InvalidValue
from smp_feedback.saving.files import Source, find_file
from smp_feedback.saving.saved import CONFIG, WEIGHTS, read_tensors

PICKLED = (".pth", ".pt", ".ckpt", ".bin", ".th", ".tar")
FILES = (*PICKLED, ".safetensors")
BOXES = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "module")
"""Where training loops keep the weights in what they save, the likeliest first."""
HUGGING = "pytorch_model.bin"  # of older directories
LOOPING = "feedback."


class Read(NamedTuple):
    """Weights, and where they came from.

    Attributes:
        weights: By name.
        where: A file or directory in words; ``the state dict`` of a mapping.
    """

    weights: dict[str, Tensor]
    where: str


def read_weights(source: Mapping[str, Any] | Source, **hub: Any) -> Read:
    """The tensors of *source*, taken out of whatever a training loop wrapped them in; runs no code.

    Args:
        source: A state dict or a checkpoint that holds one, a file (``.pth``, ``.pt``, ``.ckpt``, ``.bin``,
            ``.safetensors``), a directory written by smp's ``save_pretrained``, or the hub repository of one.
        **hub: As :func:`smp_feedback.saving.files.find_file` takes them.

    Raises:
        FeedbackError: If there are no weights, or reading them would run code.

    >>> read_weights({"epoch": 3, "state_dict": {"weight": torch.zeros(2)}}).weights
    {'weight': tensor([0., 0.])}
    """
    if isinstance(source, Mapping):
        return Read(_unpacked(source, "the state dict"), "the state dict")
    if not isinstance(source, (str, os.PathLike)):
        raise InvalidType(
            f"{source!r:.80} ({type(source).__name__}): expected a file, a directory, a repository or a state dict."
        )
    path = Path(source).expanduser()
    if path.is_file() or (path.suffix in FILES and not path.is_dir()):
        return Read(_unpacked(_load(path), str(path)), str(path))
    if path.is_dir() and not (path / WEIGHTS).is_file():
        path = _in_folder(path)
        return Read(_unpacked(_load(path), str(path)), str(path))
    found = find_file(path if path.is_dir() else source, WEIGHTS, **hub)
    return Read(read_tensors(found)[0], str(source))


def _in_folder(folder: Path) -> Path:
    """The weights in a *folder* that holds no ``model.safetensors``."""
    if (folder / HUGGING).is_file():
        return folder / HUGGING
    there = sorted(path.name for path in folder.iterdir() if path.suffix in FILES)
    name = next((name for name in ("best.ckpt", "last.ckpt") if name in there), there[0] if there else None)
    hint = f" It has {', '.join(there[:3])}: give one, such as {folder / name}." if name else ""
    raise InvalidValue(f"{folder} holds no {WEIGHTS}: expected a directory written by save_pretrained.{hint}")


def _load(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise InvalidValue(f"{path}: there is no such file.")
    if path.suffix == ".safetensors":
        return read_tensors(path)[0]
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle and zip raise whatever they stumble over
        why = "it is not whole, or none of torch's files"
        if "GLOBAL" in str(error):
            why = "it holds whole objects, which to load could run code; where it was made, save model.state_dict()"
        raise FeedbackError(f"{path} is not read: {why}.") from error
    if not isinstance(held, Mapping):
        raise InvalidType(f"{path} holds a {type(held).__name__}: expected a state dict, by model.state_dict().")
    return held


def _unpacked(held: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """The state dict in *held*, or *held* itself."""
    boxes = [key for key, inner in held.items() if isinstance(inner, Mapping) and _tensors(inner)]
    for box in BOXES:
        if box in boxes:
            _check_alone(box, boxes, held, where)
            return _tensors(held[box])
    if weights := _tensors(held):
        return weights
    keys = ", ".join(map(repr, list(held)[:5])) or "nothing"
    raise FeedbackError(f"{where}: no weights among {keys}; expected a state dict, by itself or as 'state_dict'.")


def _check_alone(box: str, boxes: list[str], held: Mapping[str, Any], where: str) -> None:
    """No other box holds the same model with other weights: their average (``model_ema``), say.

    Raises:
        InvalidValue: If one does, naming both.
    """
    for other in boxes:
        if other != box and _twins(_maps(held[box]), _maps(held[other])):
            raise InvalidValue(
                f"{where}: the model is there more than once, as {box!r} and {other!r}: give the one that you mean, "
                f"checkpoint[{other!r}], or save it by itself."
            )


def _maps(held: Mapping[str, Any]) -> list[Tensor]:
    return [value for value in _tensors(held).values() if value.ndim]  # an average counts its models, in a scalar


def _twins(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    """Whether they are of the same shapes, and not the very same."""
    if Counter(x.shape for x in ours) != Counter(x.shape for x in theirs):
        return False
    return not all(x.shape == y.shape and torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))


def _tensors(held: Mapping[str, Any]) -> dict[str, Tensor]:
    return {str(key): value for key, value in held.items() if isinstance(value, Tensor)}


def common_prefix(keys: Iterable[str], wanted: Iterable[str], where: str = "the state dict") -> str:
    """What stands before most of *wanted* in *keys*, such as ``model.`` or ``module.``; empty where nothing does.

    Raises:
        InvalidValue: If two models are there in whole, a student and its teacher, say.

    >>> common_prefix(["net.a.weight", "net.b.weight", "loss.weight"], ["a.weight", "b.weight"])
    'net.'
    """
    names, found = set(wanted), Counter[str]()
    for key in keys:
        parts = key.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in names:
                found["".join(f"{part}." for part in parts[:i])] += 1
    if not found:
        return ""
    most = max(found.values())
    best = sorted((prefix for prefix, count in found.items() if count == most), key=len)
    if len(best) > 1 and most == len(names) and best[0]:
        listed = " and ".join(repr(prefix) for prefix in best[:3])
        raise InvalidValue(
            f"{where}: the model is there more than once, as {listed}: give one of them, "
            f"{{k.removeprefix({best[0]!r}): v for k, v in state_dict.items() if k.startswith({best[0]!r})}}."
        )
    return best[0]


def without_prefix(read: Read, wanted: Iterable[str]) -> dict[str, Tensor]:
    """The weights as a model that has *wanted* calls them; what stands beside them is left, with a warning.

    Raises:
        InvalidValue: As :func:`common_prefix`.
    """
    prefix = common_prefix(read.weights, wanted, read.where)
    weights = {key.removeprefix(prefix): x for key, x in read.weights.items() if key.startswith(prefix)}
    if beside := [key for key in read.weights if not key.startswith(prefix)]:
        warnings.warn(
            f"{read.where}: {len(beside)} beside the model ({prefix}...) are left: {_few(beside)}.",
            UserWarning,
            stacklevel=3,
        )
    return weights


def misfit(where: str, who: str, weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """In three lines at most, how *weights* do not fit *who*, which wants *wanted*.

    >>> print(misfit("a.pth", "the plain Unet", {"b": torch.zeros(2)}, {"b": torch.zeros(3), "c": torch.zeros(1)}))
    a.pth: not the weights of the plain Unet: of its 2 tensors 1 missing (c), 1 of other shapes (b).
    b: (2,) there, (3,) in the model.
    """
    missing, others = [k for k in wanted if k not in weights], [k for k in weights if k not in wanted]
    shaped = [k for k, x in weights.items() if k in wanted and wanted[k].shape != x.shape]
    kinds = {"missing": missing, "of other shapes": shaped, "unexpected": others}
    counts = ", ".join(f"{len(keys)} {kind} ({_few(keys)})" for kind, keys in kinds.items() if keys)
    said = [f"{where}: not the weights of {who}: of its {len(wanted)} tensors {counts or 'all refused'}."]
    if shaped:
        key = shaped[0]
        said.append(f"{key}: {tuple(weights[key].shape)} there, {tuple(wanted[key].shape)} in the model.")
    if hint := _other_classes(weights, wanted, shaped) if not missing and not others else "":
        said.append(hint)
    return "\n".join(said)


def _other_classes(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], shaped: list[str]) -> str:
    """What to do where a head of another number of classes is all that differs."""
    pairs = [(tuple(weights[key].shape), tuple(wanted[key].shape)) for key in shaped]
    counts = {(theirs[0], ours[0]) for theirs, ours in pairs if theirs and ours and theirs[1:] == ours[1:]}
    if len(counts) != 1 or len(pairs) > 4:
        return ""
    theirs, ours = counts.pop()
    head = shaped[0].rpartition(".")[0]
    return (
        f"They are of {theirs} classes, the model has {ours}: load them into a plain model of {theirs}, replace its "
        f"{head} by one of {ours}, and wrap that."
    )


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")


def looping(weights: Iterable[str]) -> bool:
    """Whether *weights*, by the names that their model gives them, are those of one that looks again."""
    return any(key.startswith(LOOPING) for key in weights)


def is_ours(source: object) -> bool:
    """Whether *source* is a directory that a looping model was saved in."""
    if not isinstance(source, (str, os.PathLike)):
        return False
    path = Path(source).expanduser() / CONFIG
    return path.is_file() and '"smp_feedback"' in path.read_text(encoding="utf-8", errors="replace")
