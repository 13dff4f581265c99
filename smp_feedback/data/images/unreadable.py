"""Whatever a decoder stumbles over, told in one line that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smp_feedback.errors import InvalidInput, one_line


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """What fails inside is an error that names *path*.

    Raises:
        InvalidInput: With the cause.

    >>> with naming_file(Path("nowhere.png")):
    ...     Path("nowhere.png").read_bytes()
    Traceback (most recent call last):
    smp_feedback.errors.InvalidInput: nowhere.png: expected an image file, but it cannot be read (it does not exist).
    """
    try:
        yield
    except InvalidInput as error:
        if str(path) in str(error):
            raise
        raise InvalidInput(f"{path}: {error}") from None
    except Exception as error:  # decoders raise all kinds
        raise InvalidInput(f"{path}: expected an image file, but it cannot be read ({_cause(path, error)}).") from error


def _cause(path: Path, error: Exception) -> str:
    if not path.exists():
        return "it does not exist"
    if path.is_dir():
        return "it is a folder"
    with path.open("rb") as file:
        head = file.read(12)
    if not head:
        return "it is empty"
    phone = head[4:8] == b"ftyp"  # whatever it is called
    return "it is HEIC, AVIF or a film, which are not read; convert it to JPEG or PNG" if phone else one_line(error)
