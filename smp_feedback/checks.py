"""Checks of single values: each says the name, what was given and what is expected."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import cast

from smp_feedback.errors import InvalidType, InvalidValue, UnknownKeyword, UnknownName, nearest


def at_home(path: str | os.PathLike[str]) -> Path:
    """*path*, with ``~`` at its start as the home directory; a file ``~x.png`` is one.

    >>> at_home("runs/a"), at_home("~") == Path.home()
    (PosixPath('runs/a'), True)
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path's own raises for ~x.png)


def check_steps(steps: object, hint: str = "") -> int:
    """*steps* if it is a whole number >= 1."""
    return check_whole("steps", steps, hint=f"; steps=1 looks once{hint}")


def check_whole(name: str, value: object, hint: str = "", *, least: int = 1) -> int:
    """*value* if it is a whole number >= *least* (bool is none)."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidType(f"{name}={value!r} ({type(value).__name__}): expected a whole number >= {least}{hint}.")
    if value < least:
        raise InvalidValue(f"{name}={value!r}: expected a whole number >= {least}{hint}.")
    return value


def check_gradients(grad_steps: object, detach: bool) -> None:
    """*grad_steps* is None or a whole number >= 1, and not said together with *detach*."""
    if grad_steps is None:
        return
    check_whole("grad_steps", grad_steps)
    if detach:
        raise InvalidValue(
            f"grad_steps={grad_steps} with detach=True, which lets every step carry its own gradient: "
            "leave grad_steps=None."
        )


def check_number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    least: float | None = None,
    unit: str = "",
    finite: bool = True,
) -> None:
    """*value* is a number > *above* or >= *least*, and not NaN."""
    wanted = f"expected a number {f'> {above}' if above is not None else f'>= {least}'}{unit}"
    wanted = "expected a finite number" if least == -math.inf else wanted
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidType(f"{name}={value!r} ({type(value).__name__}): {wanted}.")
    inside = value > above if above is not None else least is not None and value >= least
    if not inside or (finite and math.isinf(value)):  # every comparison with NaN is false
        raise InvalidValue(
            f"{name}={value!r}: {wanted}{', finite' if finite and inside and 'finite' not in wanted else ''}."
        )


def check_bool(name: str, value: object) -> None:
    """*value* is True or False."""
    if not isinstance(value, bool):
        raise InvalidType(f"{name}={value!r} ({type(value).__name__}): expected True or False.")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """*value* is one of *choices*."""
    if value not in choices:
        raise InvalidValue(f"{name}={value!r}: {nearest(str(value), choices)}")


def check_insert(insert: object, stem: object) -> None:
    """*insert* names a place, and *stem* a convolution at the input."""
    if stem is not None and not isinstance(stem, str):
        raise InvalidType(f"stem={stem!r}: expected the dotted name of a convolution, or None.")
    if not isinstance(insert, str):
        raise InvalidType(
            f"insert={insert!r} ({type(insert).__name__}): expected 'input', 'stem', 'stage:k', 'after:NAME' "
            "or 'decoder', or a list of them."
        )
    known = insert in ("input", "stem", *(f"stage:{k}" for k in range(1, 6)))
    known = known or insert == "decoder" or re.fullmatch(r"decoder:[1-9]\d*", insert) is not None
    if not known and insert.removeprefix("after:") in (insert, ""):
        raise InvalidValue(
            f"insert={insert!r}: expected 'input', 'stem', 'stage:k' with k from 1 to 5, 'after:NAME' with the name "
            "of a module, 'decoder', or 'decoder:k' with k from 1."
        )
    if stem is not None and insert != "input":
        raise InvalidValue(f"stem={stem!r} names a convolution at the input; expected insert='input', got {insert!r}.")


def check_norm(name: str, value: object) -> None:
    """*value* names a normalisation: a word, or a number of groups."""
    words = ("layer", "instance", "pixel", "none")
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole and cast(int, value) >= 1) and value not in words:
        raise InvalidValue(f"{name}={value!r}: {nearest(str(value), words)} Or a number of groups >= 1.")


def check_weights(of: str, name: object, known: Iterable[str]) -> None:
    """*name* is one of the *known* sets of pretrained weights of an encoder or architecture.

    Raises:
        InvalidType, UnknownName: If it is none.

    >>> check_weights("resnet18", "imagnet", ("imagenet", "ssl"))
    Traceback (most recent call last):
    smp_feedback.errors.UnknownName: No set of weights of resnet18 is called 'imagnet'. Did you mean 'imagenet'?
    """
    if not isinstance(name, str):
        raise InvalidType(f"encoder_weights={name!r}: expected None or a name, such as 'imagenet'.")
    if name not in (names := tuple(known)):
        raise UnknownName(f"set of weights of {of}", name, names)


def check_fields(of: type, values: object) -> None:
    """*values* are fields of the dataclass *of*, by name.

    >>> from smp_feedback.config.clicks import ClickConfig
    >>> check_fields(ClickConfig, {"radios": 3})
    Traceback (most recent call last):
    smp_feedback.errors.UnknownKeyword: ClickConfig has no field 'radios'. Did you mean 'radius'?
    """
    if not isinstance(values, Mapping):
        raise InvalidType(f"{values!r:.80} ({type(values).__name__}): expected the fields of a {of.__name__}.")
    known = [field.name for field in fields(of)]
    for key in values:
        if key not in known:
            raise UnknownKeyword(f"{of.__name__} has no field {key!r}. {nearest(str(key), known)}")
