"""What a saved model consists of: ``config.json``, and tensors that carry a copy of it.

The copy makes ``model.safetensors`` whole by itself, so that one rename, the last, is the moment at which a new save
takes the place of the old one. A ``config.json`` from another save is known by its mark, a digest of itself as written,
and set aside; edited by hand it keeps its mark, and counts.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from smp_feedback.config.data import DataConfig
from smp_feedback.errors import FeedbackError, InvalidValue
from smp_feedback.saving.card import may_replace
from smp_feedback.saving.files import Source, find_file, replace_files
from smp_feedback.saving.provenance import BUILT_IN, brought_by_plugins, versions

CONFIG, WEIGHTS, CARD, MARK = "config.json", "model.safetensors", "README.md", "save"
CLASS = "_model_class"
"""What smp looks for in its own library by this name: it finds none, and says which."""
NEEDED = {"architecture": str, "arguments": dict, "feedback": dict, "versions": dict, "plugins": dict}
DATA = "data"  # what it expects of its images; models of 0.1 do not say


def describe(
    origin: Mapping[str, Any], feedback: Mapping[str, Any], data: DataConfig, cut: str | None = None
) -> dict[str, Any]:
    """The config of a model, JSON-ready.

    Args:
        origin: How its base is built: ``architecture`` and ``arguments``.
        feedback: Its loop's config as a dict.
        data: What it expects of its images.
        cut: The class whose cut opens its base, where that has one.

    Raises:
        FeedbackError: If an argument of the base cannot be written as JSON.
    """
    config = {**origin, "feedback": dict(feedback), "versions": versions()}
    config["plugins"] = brought_by_plugins(config, cut)
    config[CLASS] = "model of smp_feedback: load it with smp_feedback.from_pretrained"
    if data != DataConfig(channels=data.channels):  # else as 0.1 wrote it
        config[DATA] = data.to_dict()
    return {**config, MARK: hashlib.sha256(_dump(config).encode()).hexdigest()[:16]}


def write_saved(folder: Path, config: Mapping[str, Any], model: nn.Module, card: str) -> None:
    """Write the three files; *folder* holds the old model until the last move, and the new one after it.

    Raises:
        InvalidValue: If the parameters are spread over processes.
    """
    check_in_one_piece(model)
    # a copy of its own for each: safetensors refuses tensors that share memory
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    about = {BUILT_IN: _dump(config)}  # one entry: safetensors writes several in any order
    writers = {
        CARD: lambda path: path.write_text(card, encoding="utf-8"),
        CONFIG: lambda path: path.write_text(_dump(config), encoding="utf-8"),
        WEIGHTS: lambda path: save_file(tensors, path, metadata=about),
    }
    if not may_replace(folder / CARD):
        del writers[CARD]
    replace_files(folder, writers)


def check_in_one_piece(model: nn.Module) -> None:
    """All parameters of *model* are here.

    Raises:
        InvalidValue: If they are spread over processes, as FSDP2 has them, naming what puts them together.
    """
    if any(hasattr(parameter, "full_tensor") for parameter in model.parameters()):
        raise InvalidValue(
            "The parameters are spread over processes: get them by torch.distributed.checkpoint.state_dict's "
            "get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)) in every "
            "process, load them into a model that is not spread, and save that in one process."
        )


def read_config(source: Source, **hub: Any) -> dict[str, Any]:
    """What ``config.json`` says, by itself.

    Raises:
        FeedbackError: If it is missing or somebody else's.
    """
    path = find_file(source, CONFIG, **hub)
    return _parse(path.read_bytes(), path)


def read_saved(source: Source, **hub: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the tensors of one save, never of two.

    Raises:
        FeedbackError: If a file is missing, truncated or somebody else's, or the two do not belong together.
    """
    path = find_file(source, CONFIG, **hub)
    config = _parse(path.read_bytes(), path)
    tensors, about = read_tensors(find_file(source, WEIGHTS, **hub))
    if config.get(MARK) is None:  # taken out by hand: config.json is what counts
        return config, tensors
    if BUILT_IN not in about:
        raise FeedbackError(f"{path} and the {WEIGHTS} beside it are not of one save; save the model again.")
    own = _parse(about[BUILT_IN], path.with_name(WEIGHTS))
    if own.get(MARK) == config[MARK]:
        return config, tensors
    warnings.warn(
        f"{path} is of another save than {WEIGHTS} (was one interrupted?). The model is that of {WEIGHTS}, which "
        "knows its own config; save it again to mend this.",
        UserWarning,
        stacklevel=3,
    )
    return own, tensors


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and what is written about them; runs no code."""
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise FeedbackError(f"{path} is truncated or no safetensors file: {error}") from None


def writer_of(config: Mapping[str, Any]) -> str:
    """The version of smp_feedback that wrote *config*."""
    return str(config["versions"].get(BUILT_IN, "of an unknown version"))


def _parse(text: str | bytes, path: Path) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FeedbackError(f"{path} is no JSON: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("versions"), dict):
        hint = "smp wrote it: build the model with create(...) and load_feedforward(directory)."
        known = isinstance(config, dict) and CLASS in config
        raise FeedbackError(f"{path} was not written by smp_feedback. {hint if known else ''}".strip())
    _check_fields(config, path)
    return config


def _check_fields(config: dict[str, Any], path: Path) -> None:
    """Nothing is missing, of another type, or unknown: a later version may say there what matters."""
    wrong = [key for key, kind in NEEDED.items() if not isinstance(config.get(key), kind)]
    wrong += sorted(config.keys() - NEEDED.keys() - {MARK, DATA, CLASS})
    if not wrong:
        wrong = [f"plugins.{kind}" for kind, was in config["plugins"].items() if not isinstance(was, dict)]
        wrong += _not_understood(config.get(DATA, {}))
    if wrong:
        raise FeedbackError(
            f"{path} was written by smp_feedback {writer_of(config)}; this is {versions()[BUILT_IN]}, which does not "
            f"understand: {', '.join(map(repr, wrong))}."
        )


def _not_understood(data: Any) -> list[str]:
    """What a `DataConfig` does not know."""
    if not isinstance(data, dict):
        return [DATA]
    return [f"{DATA}.{key}" for key in sorted(data.keys() - {field.name for field in fields(DataConfig)})]


def _dump(config: Mapping[str, Any]) -> str:
    try:
        return json.dumps(config, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise FeedbackError(f"The model's arguments cannot be written as JSON: {error}") from None
