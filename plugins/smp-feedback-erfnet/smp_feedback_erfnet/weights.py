"""An encoder's weights out of a classifier's checkpoint, whatever that one calls its parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from smp_feedback.errors import InvalidType, InvalidValue
from torch import Tensor

FIRST_KEY = "initial_block.conv.weight"
NESTED = ("state_dict", "model", "model_state_dict")  # where training scripts keep weights beside other things
HEADS = ("output_conv", "classifier", "linear", "fc", "head", "decoder")
"""What stands beside or behind an encoder, and is left out."""
SHIFTED = 7  # layers.7 to layers.14, of those that call them f_layers.0 to f_layers.7
MOST = 4  # keys that an error names


def encoder_weights_of(path: str | Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in *path* by the encoder's own names.

    The encoder is what stands where ``initial_block.conv.weight`` does: of ``module.features.encoder.initial_block...``
    every key that begins with ``module.features.encoder.``; all others (a classifier, a decoder) are left out, as are
    the encoder's own ``output_conv`` and, of a checkpoint without a prefix, `HEADS`. ``f_layers.k`` is
    ``layers.(7 + k)``. Counts of batches (``num_batches_tracked``), which old checkpoints lack, change nothing and may
    be missing.

    Args:
        path: A ``.safetensors`` file, or one that ``torch.save`` wrote (read with ``weights_only=True``); a state
            dict, or a dict with one under one of `NESTED`.
        expected: The encoder's state dict: its names and shapes.

    Returns:
        One tensor for each name of *expected*.

    Raises:
        InvalidType: If *path* is none.
        InvalidValue: If the file cannot be read, holds no such encoder or two, or one of other layers or shapes,
            naming them.
    """
    if not isinstance(path, (str, Path)):
        raise InvalidType(f"encoder_weights={path!r}: expected None or the path of a file of weights.")
    found = _encoder_in(_read(Path(path)), path)
    counts = {key: value for key, value in expected.items() if key.endswith("num_batches_tracked")}
    found = counts | found
    _check(found, expected, path)
    return found


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InvalidValue(f"encoder_weights={str(path)!r}: expected a file of weights; there is none.")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # the bytes of what is no such file may say anything
        why = str(error).strip().partition("\n")[0]
        raise InvalidValue(f"encoder_weights={str(path)!r} cannot be read as weights alone: {why:.200}") from error
    for name in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping):
        raise InvalidValue(f"encoder_weights={str(path)!r} holds a {type(content).__name__}: expected a state dict.")
    return {str(key): value for key, value in content.items()}


def _encoder_in(weights: Mapping[str, Any], path: object) -> dict[str, Any]:
    starts = [key.removesuffix(FIRST_KEY) for key in weights if key == FIRST_KEY or key.endswith(f".{FIRST_KEY}")]
    if len(starts) != 1:
        count = f"{len(starts)} encoders, under {starts}" if starts else "no encoder of ERFNet"
        raise InvalidValue(
            f"encoder_weights={str(path)!r} holds {count}: expected one key that ends in {FIRST_KEY}; it has "
            f"{_some(list(weights))}."
        )
    (start,) = starts
    inner = {key.removeprefix(start): value for key, value in weights.items() if key.startswith(start)}
    return {_renamed(key): value for key, value in inner.items() if key.partition(".")[0] not in HEADS}


def _renamed(key: str) -> str:
    kind, _, rest = key.partition(".")
    number, _, name = rest.partition(".")
    return f"layers.{int(number) + SHIFTED}.{name}" if kind == "f_layers" and number.isdigit() else key


def _check(found: Mapping[str, Any], expected: Mapping[str, Tensor], path: object) -> None:
    missing = [key for key in expected if key not in found]
    strange = [key for key in found if key not in expected]
    shapes = [
        f"{key} of shape {tuple(getattr(found[key], 'shape', ()))}, expected {tuple(value.shape)}"
        for key, value in expected.items()
        if key in found and getattr(found[key], "shape", None) != value.shape
    ]
    told = {"lacks": missing, "has besides": strange, "has": shapes}
    wrong = [f"it {verb} {_some(keys)}" for verb, keys in told.items() if keys]
    if wrong:
        hint = " These weights read another number of channels than in_channels." if _reads_others(shapes) else ""
        raise InvalidValue(f"encoder_weights={str(path)!r} is no encoder of this ERFNet: {'; '.join(wrong)}.{hint}")


def _reads_others(shapes: list[str]) -> bool:
    return any(line.startswith(FIRST_KEY) for line in shapes)


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - MOST} more" if len(keys) > MOST else ""
    return ", ".join(keys[:MOST]) + more if keys else "none"
