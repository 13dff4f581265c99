"""Files: found in a directory or on the hub, and put in place all together or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

from smp_feedback.checks import at_home
from smp_feedback.errors import FeedbackError, InvalidType, InvalidValue
from smp_feedback.saving.drafts import draft_of

Source = str | os.PathLike[str]
Writer = Callable[[Path], object]
UNREACHED = (EntryNotFoundError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled)


def find_file(source: Source, name: str, **hub: Any) -> Path:
    """*name* in the directory *source*, else in the hub repository of that name.

    Args:
        source: A directory, or ``owner/name``.
        name: The file's name.
        **hub: ``revision``, ``cache_dir``, ``token``, ``force_download``, ``local_files_only``, as
            ``huggingface_hub.hf_hub_download`` takes them; a directory needs none.

    Raises:
        FeedbackError: If it is not there, or cannot be had.
    """
    if not isinstance(source, (str, os.PathLike)):
        raise InvalidType(
            f"{source!r:.80} ({type(source).__name__}): expected a directory, a repository or a state dict."
        )
    folder = at_home(source)
    if folder.is_dir():
        if not (folder / name).is_file():
            raise InvalidValue(f"{folder} holds no {name}: expected a directory written by save_pretrained.")
        return folder / name
    if str(source).count("/") != 1 or folder.is_absolute():
        raise InvalidValue(f"{str(source)!r} is neither a directory nor the name of a hub repository (owner/name).")
    return _download(str(source), name, **hub)


def _download(repository: str, name: str, **hub: Any) -> Path:
    try:
        return Path(hf_hub_download(repository, filename=name, **hub))
    except UNREACHED as error:
        absent = isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)
        why = "it holds none; expected a repository written by save_pretrained." if absent else str(error).strip()
        raise FeedbackError(
            f"{repository!r} is no directory here, and {name} of the hub repository of that name cannot be had: {why}"
        ) from error


def replace_file(path: Path, write: Writer) -> Path:
    """Write a new *path* beside the old one, then put it in its place in one move; returns it."""
    replace_files(path.parent, {path.name: write})
    return path


def replace_files(folder: Path, writers: Mapping[str, Writer]) -> None:
    """Write every file of *writers* beside its old version; when all are on disk, put them in place, in order.

    What fails before the first move leaves *folder* as it was; each move is whole, and the last one comes last.
    """
    with ExitStack() as drafts:
        written: dict[str, Path] = {}
        for name, write in writers.items():
            written[name] = drafts.enter_context(draft_of(folder / name))
            write(written[name])
            settle(written[name])
        for name, draft in written.items():
            draft.replace(folder / name)


def settle(draft: Path) -> None:
    """On disk before it is renamed: a power cut would else leave a whole name and an empty file."""
    draft.chmod(0o644)
    with draft.open("rb+") as file:
        os.fsync(file.fileno())
