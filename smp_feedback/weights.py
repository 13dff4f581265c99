"""From a plain model's weights and back, and to disk: nothing half-written, nothing half-loaded."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from smp_feedback.errors import FeedbackError, InvalidType, InvalidValue
from smp_feedback.surgery import StatisticsPerStep

CONFIG, WEIGHTS, PREFIX = "config.json", "model.safetensors", "feedback."


class FeedforwardWeights(nn.Module):
    """The ways in and out that every looping model has."""

    feedback: Any

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As the base's; a plain model's weights (``strict=False``) start the later steps' statistics anew."""
        plain = not any(key.startswith(PREFIX) for key in state_dict)
        renewed = plain and any(key.endswith("running_mean") for key in state_dict)
        report = super().load_state_dict(state_dict, *args, **kwargs)
        if renewed:
            reset_statistics(self)
        return report

    def feedforward_state_dict(self) -> dict[str, Tensor]:
        """The base model's own weights: loads strictly into the plain model."""
        return {key: value for key, value in self.state_dict().items() if not key.startswith(PREFIX)}

    def load_feedforward(self, source: Mapping[str, Tensor] | str | os.PathLike[str]) -> FeedforwardWeights:
        """Load a plain model's weights; all of them, or the model stays as it was.

        BatchNorm's statistics of the later steps begin again from the plain model's.

        Args:
            source: A state dict, or a directory written by smp's ``save_pretrained``.

        Raises:
            FeedbackError: If keys or shapes do not fit, with torch's list of which.
        """
        weights = source if isinstance(source, Mapping) else read_weights(source)
        before = {key: value.clone() for key, value in self.state_dict().items()}
        own = {key: value for key, value in before.items() if key.startswith(PREFIX)}
        try:
            self.load_state_dict({**dict(weights), **own})
        except RuntimeError as error:
            self.load_state_dict(before)
            raise FeedbackError(f"These are not the weights of the plain {self._base_name()}: {error}") from None
        reset_statistics(self)
        return self

    def save_pretrained(self, directory: str | os.PathLike[str]) -> Path:
        """Write ``config.json`` and ``model.safetensors``; a crash in the middle leaves older files whole.

        Returns:
            The directory.

        Raises:
            FeedbackError: If the model was wrapped around a base that no registered name can rebuild.
        """
        origin: dict[str, Any] | None = self.feedback.origin
        if origin is None:
            raise FeedbackError(
                f"{self._base_name()} was wrapped, and no registered architecture builds it: register one, or save "
                "state_dict() and wrap the base again."
            )
        import smp_feedback

        config = {"smp_feedback": smp_feedback.__version__, **origin, "feedback": self.feedback.config.to_dict()}
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}
        replace_file(folder / WEIGHTS, lambda path: save_file(tensors, path))
        replace_file(folder / CONFIG, lambda path: _write(path, config))
        return folder

    def _base_name(self) -> str:
        base: type[nn.Module] = getattr(type(self), "_base_class", type(self))
        return base.__name__


def reset_statistics(model: nn.Module) -> None:
    """Begin BatchNorm's statistics of the later steps from those of the first."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, StatisticsPerStep):
                module.begin_steps_anew()


def read_config(source: str | os.PathLike[str], **hub: Any) -> dict[str, Any]:
    """The config that :meth:`FeedforwardWeights.save_pretrained` wrote, from a directory or the hub.

    Raises:
        FeedbackError: If it is not there, no JSON, or somebody else's.
    """
    path = find_file(source, CONFIG, **hub)
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise FeedbackError(f"{path} is no JSON: {error}") from None
    if not isinstance(config, dict) or "smp_feedback" not in config:
        hint = "smp wrote it: build the model with create(...) and load_feedforward(directory)."
        known = isinstance(config, dict) and "_model_class" in config
        raise FeedbackError(f"{path} was not written by smp_feedback. {hint if known else ''}".strip())
    return config


def read_weights(source: str | os.PathLike[str], **hub: Any) -> dict[str, Tensor]:
    """The tensors of a directory's (or hub repository's) ``model.safetensors``; runs no code."""
    path = find_file(source, WEIGHTS, **hub)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise FeedbackError(f"{path} is truncated or no safetensors file: {error}") from None


def find_file(source: str | os.PathLike[str], name: str, **hub: Any) -> Path:
    """*name* in the directory *source*, else in the hub repository of that name."""
    if not isinstance(source, (str, os.PathLike)):
        raise InvalidType(
            f"{source!r:.80} ({type(source).__name__}): expected a directory, a repository or a state dict."
        )
    folder = Path(source)
    if folder.is_dir():
        if not (folder / name).is_file():
            raise InvalidValue(f"{folder} holds no {name}: expected a directory written by save_pretrained.")
        return folder / name
    if str(source).count("/") != 1 or folder.is_absolute():
        raise InvalidValue(f"{str(source)!r} is neither a directory nor the name of a hub repository (owner/name).")
    return Path(hf_hub_download(str(source), filename=name, **hub))


def replace_file(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a new *path* beside the old one, then put it in its place in one move; returns it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    draft = Path(name)
    try:
        write(draft)
        draft.chmod(0o644)
        return draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _write(path: Path, config: Mapping[str, Any]) -> None:
    try:
        path.write_text(json.dumps(config, indent=2, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise FeedbackError(f"The model's arguments cannot be written as JSON: {error}") from None
