"""Back from disk and from the hub."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch

from smp_feedback.config.data import DataConfig
from smp_feedback.config.parse import PLACES, Feedback, as_config, as_trained
from smp_feedback.config.recurrent import Recurrent
from smp_feedback.errors import FeedbackError, InvalidValue, one_line
from smp_feedback.models.assembly import assemble
from smp_feedback.saving.files import Source
from smp_feedback.saving.provenance import BUILT_IN, check_plugins, versions
from smp_feedback.saving.saved import DATA, read_saved, writer_of
from smp_feedback.saving.weights import FeedforwardWeights, load_saved

LARGEST = 1 << 20
"""Of the numbers that a saved config may build a model of: channels, classes, looks."""


def from_pretrained(
    source: Source,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    strict: bool = True,
    map_location: str | torch.device | None = None,
    feedback: Feedback = True,
    **overrides: Any,
) -> Any:
    """The :class:`FeedbackModel` that ``save_pretrained`` wrote, from a directory or a hub repository, evaluating.

    Never downloads the base's pretrained weights, and runs no code from the checkpoint.

    Args:
        source: A directory, or a hub repository ``owner/name``.
        revision: Branch, tag or commit of the repository; None is its main branch.
        cache_dir: Where downloads are kept; None is huggingface_hub's own place.
        token: For private repositories; None is the one of ``hf auth login``.
        force_download: Whether to download again what is in the cache.
        local_files_only: Whether to use the cache alone, without network.
        strict: Whether every weight must fit. False loads those that do and warns of the others, as smp does.
        map_location: The device the model is put on; None leaves it where it is made, the CPU by default.
        feedback: True keeps the saved loop; a dict changes the fields it names (BatchNorm's statistics follow the
            number of steps); a loop's or preset's name replaces it but for where the feedback enters, and a config
            as a whole.
        **overrides: Arguments of the base that shall be others than the saved ones: ``classes=2, strict=False``.

    Raises:
        FeedbackError: If a file is missing, truncated or somebody else's, was written by a later version in words
            that this one does not know, or its weights do not fit.
        UnknownName: If a part belongs to a plugin that is not installed, with what to install.
        InvalidValue: If pretrained weights are asked for, or feedback is False.

    >>> import tempfile, smp_feedback as smpf
    >>> model = smpf.create("Unet", encoder="resnet18", encoder_weights=None, classes=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = smpf.from_pretrained(model.save_pretrained(folder), feedback={"steps": 6})
    >>> again.loop_config.steps, again.config["classes"]
    (6, 3)
    """
    hub = {"revision": revision, "cache_dir": cache_dir, "token": token}
    hub |= {"force_download": force_download, "local_files_only": local_files_only}
    saved, weights = read_saved(source, **hub)
    with _told_who_wrote(saved), _in_words(source):
        _check_numbers(saved)
        model = _build(saved, feedback, overrides)
        _expect(model, saved.get(DATA))
    load_saved(model, weights, strict=strict)
    return (model if map_location is None else model.to(map_location)).eval()


def _build(saved: Mapping[str, Any], feedback: Feedback, overrides: dict[str, Any]) -> FeedforwardWeights:
    arguments = _arguments(saved["arguments"], overrides)
    wanted = {**saved, "arguments": arguments, "feedback": _changed(as_trained(saved["feedback"]), feedback)}
    check_plugins(wanted)
    if "feedback_channels" not in overrides and arguments.get("feedback_channels"):
        del arguments["feedback_channels"]  # the loop's, which may be another now
    base_norm = arguments.pop("base_norm", None)
    return cast(FeedforwardWeights, assemble(saved["architecture"], arguments, wanted["feedback"], base_norm))


def _expect(model: FeedforwardWeights, said: Mapping[str, Any] | None) -> None:
    """*model* expects of its images what was *said* when it was saved, in as many channels and classes as it has."""
    own: DataConfig = cast(Any, model).data_config
    if said is None:  # of 0.1: as they are
        return
    config = DataConfig.from_dict(said)
    config = config.with_channels(own.channels - config.beside)
    vars(model)["data_config"] = config  # as it was saved, whatever has become of its head


def _changed(saved: Mapping[str, Any], feedback: Feedback) -> dict[str, Any]:
    """The loop's config as a dict, not yet checked: what it names may not be installed."""
    if feedback is True:
        return dict(saved)
    loop = str(saved.get("loop", Recurrent.loop))
    changes = feedback if isinstance(feedback, Mapping) and "preset" not in feedback else None
    if changes is not None and str(changes.get("loop", loop)).lower() == loop.lower():
        return {**saved, **changes}
    places = {key: saved[key] for key in PLACES if key in saved}
    config = as_config(feedback, usual={"loop": loop, **places})
    if config is None:
        raise InvalidValue(f"feedback={feedback!r}: the saved model looks again; give True, a dict or a config.")
    return config.to_dict()


def _arguments(saved: Mapping[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """The base's arguments; wherever they name weights of their own, the saved ones take their place."""
    if "encoder" in overrides:
        overrides = {"encoder_name": overrides["encoder"], **overrides}
    for name in ("encoder_weights", "checkpoint_path"):
        if overrides.get(name) is not None:
            raise InvalidValue(f"{name}={overrides[name]!r}: the saved weights are loaded, and no others.")
    for name in ("arch", "feedback"):
        if name in saved or name in overrides:
            raise InvalidValue(f"{name!r} is no argument of a base model.")
    dropped = ("encoder", "checkpoint_path")
    arguments = {k: v for k, v in {**saved, **overrides}.items() if k not in dropped}
    return {**arguments, "encoder_weights": None}


def _check_numbers(saved: Mapping[str, Any]) -> None:
    """No size is out of this world: a file of a few bytes may ask for a model that no memory holds."""
    for name, value in _flat({key: saved[key] for key in ("arguments", "feedback")}):
        if isinstance(value, int) and abs(value) > LARGEST:
            raise InvalidValue(f"{name}={value}: no model is built of numbers beyond {LARGEST}.")


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value inside of *value*, lists too, by where it is.

    >>> list(_flat({"a": [1, {"b": 2}]}))
    [('a.0', 1), ('a.1.b', 2)]
    """
    inside = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if inside is None:
        yield name, value
        return
    for key, part in inside:
        yield from _flat(part, f"{name}.{key}" if name else str(key))


@contextmanager
def _in_words(source: Source) -> Iterator[None]:
    """What a base's builder stumbles over, told of the saved model whose arguments it was given."""
    try:
        yield
    except FeedbackError:
        raise
    except Exception as error:  # as many ways as there are builders
        raise FeedbackError(f"{source}: its arguments build no model ({one_line(error):.300}).") from error


@contextmanager
def _told_who_wrote(saved: Mapping[str, Any]) -> Iterator[None]:
    """An error says so if another version of this package wrote what could not be understood."""
    try:
        yield
    except FeedbackError as error:
        theirs, ours = writer_of(saved), versions()[BUILT_IN]
        if theirs != ours:
            error.args = (f"{error} (The model was saved by smp_feedback {theirs}; this is {ours}.)",)
        raise
