"""Settings of a part's own: a dataclass that its author writes, given under ``options:`` by what the part is."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from smp_feedback.checks import check_fields
from smp_feedback.errors import InvalidType, InvalidValue, UnknownKeyword, nearest
from smp_feedback.registry.public import catalogue

HOLDS = "int, float, bool, str, None, a Literal, or a tuple, list or dict of these"
"""What a config can hold, and so a field of a part's own."""


def options_class(part: str, name: str) -> type | None:
    """The dataclass of the settings that the *part* ``dynamics`` or ``projection`` called *name* has, if any.

    Raises:
        InvalidType: If its ``options_class`` is no dataclass.

    >>> options_class("dynamics", "gated") is None
    True
    """
    known = catalogue().dynamics if part == "dynamics" else catalogue().projections
    found: Any = getattr(known[name], "options_class", None)
    if found is not None and not (isinstance(found, type) and is_dataclass(found)):
        raise InvalidType(f"{part}={name!r}: its options_class is {found!r:.80}; expected a dataclass.")
    return found


def whole_options(said: object, names: Mapping[str, str]) -> dict[str, dict[str, Any]] | None:
    """All settings of the parts called *names*: what was *said* of them, checked, and what was not as it is by default.

    Args:
        said: ``{"dynamics": {...}, "projection": {...}}``; fields by name, or the dataclass itself.
        names: What each part is called.

    Returns:
        Fields by part and name; None where neither part has settings.

    Raises:
        InvalidType, InvalidValue, UnknownKeyword: Naming part, field and what is there.

    >>> whole_options(None, {"dynamics": "leaky", "projection": "softmax"}) is None
    True
    >>> whole_options({"dynamics": {"width": 3}}, {"dynamics": "leaky", "projection": "softmax"})
    Traceback (most recent call last):
    smp_feedback.errors.UnknownKeyword: options: dynamics='leaky' has none of its own, and 'width' was said; ...
    """
    given = {} if said is None else said
    if not isinstance(given, Mapping):
        raise InvalidType(
            f"options={said!r:.80} ({type(said).__name__}): expected {{'dynamics': {{...}}, 'projection': {{...}}}}."
        )
    for key in given:
        if key not in names:
            raise UnknownKeyword(f"options has no part {key!r}. {_whose(str(key), names)}")
    whole = {part: _whole(part, name, given.get(part)) for part, name in names.items()}
    return {part: values for part, values in whole.items() if values is not None} or None


def _whose(key: str, names: Mapping[str, str]) -> str:
    """What was meant by *key*: a part, or a field of one of them."""
    for part, name in names.items():
        of = options_class(part, name)
        if of is not None and key in (one.name for one in fields(of)):
            return f"It is a setting of {part}={name!r}: write options={{{part!r}: {{{key!r}: ...}}}}."
    return nearest(key, list(names), most=len(names))


def _whole(part: str, name: str, said: object) -> dict[str, Any] | None:
    of = options_class(part, name)
    if of is None:
        if said:
            first = next(iter(said)) if isinstance(said, Mapping) else said
            raise UnknownKeyword(
                f"options: {part}={name!r} has none of its own, and {first!r:.80} was said; leave it out."
            )
        return None
    made = made_of(of, {} if said is None else said, f"options: {part}={name!r}")
    return {one.name: getattr(made, one.name) for one in fields(of) if one.init}


def made_of(of: type, said: object, where: str) -> Any:
    """The dataclass *of* settings made of what was *said*: every field known, there, and of its type.

    Args:
        of: The dataclass.
        said: Its fields by name, or one of it.
        where: How the sentence of an error begins.
    """
    known: tuple[Field[Any], ...] = tuple(one for one in fields(of) if one.init)
    if isinstance(said, of):
        said = {one.name: getattr(said, one.name) for one in known}
    check_fields(of, said)
    assert isinstance(said, Mapping)
    for one in known:
        if one.name not in said and one.default is MISSING and one.default_factory is MISSING:
            raise InvalidValue(f"{where} needs {one.name!r} ({one.type}), a field of {of.__name__} without a default.")
    hints = _hints(of, where)
    return of(**{name: _fitted(value, hints[name], f"{where}: {name}={value!r:.80}") for name, value in said.items()})


def _hints(of: type, where: str) -> dict[str, Any]:
    try:
        return get_type_hints(of)
    except NameError as error:
        raise InvalidType(
            f"{where}: a type of {of.__name__} is not to be found ({error}): define it in the module's own names."
        ) from error


def _fitted(value: object, hint: Any, said: str) -> Any:
    """*value* as *hint* has it: a whole number as a float, a list of YAML as a tuple; else an error."""
    try:
        return _as(value, hint)
    except _Unfit:
        wanted = getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint)
        raise InvalidType(f"{said} ({type(value).__name__}): expected {wanted.replace('typing.', '')}.") from None
    except NotImplementedError:
        raise InvalidType(f"{said}: its type {hint} cannot be kept in a config; expected {HOLDS}.") from None


class _Unfit(Exception):
    pass


def _as(value: Any, hint: Any) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _as_one_of(value, inner)
    if origin is Literal:
        return _if(any(value == one and type(value) is type(one) for one in inner), value)
    if hint is float:
        value = math.inf if value == "inf" else value
        return float(_if(isinstance(value, int | float) and not isinstance(value, bool), value))
    if hint in (int, bool, str, type(None), None):
        return _if(type(value) is (type(None) if hint is None else hint), value)
    kind = origin or hint
    if kind is dict:
        key, item = inner or (str, Any)
        return {_as(k, key): _as(v, item) for k, v in _if(isinstance(value, Mapping), value).items()}
    if kind in (tuple, list):
        return _as_row(_if(isinstance(value, list | tuple), value), kind, inner)
    if hint is Any:
        return value
    raise NotImplementedError


def _as_one_of(value: Any, hints: tuple[Any, ...]) -> Any:
    """As the hint that is its own type, else the first that takes it."""
    for hint in sorted(hints, key=lambda one: type(value) is not one):
        try:
            return _as(value, hint)
        except _Unfit:
            continue
    raise _Unfit


def _as_row(value: Any, kind: type, inner: tuple[Any, ...]) -> Any:
    if kind is list or len(inner) < 1 or inner[-1] is Ellipsis:
        return kind(_as(one, inner[0] if inner else Any) for one in value)
    return tuple(_as(one, hint) for one, hint in zip(_if(len(value) == len(inner), value), inner, strict=True))


def _if(fits: bool, value: Any) -> Any:
    if not fits:
        raise _Unfit
    return value


def joined(own: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """*own* settings of a loop with *changes*, options part by part: those of a part that is another now are dropped.

    >>> joined({"dynamics": "a", "options": {"dynamics": {"x": 1, "y": 2}}}, {"options": {"dynamics": {"x": 3}}})
    {'dynamics': 'a', 'options': {'dynamics': {'x': 3, 'y': 2}}}
    """
    both = {**own, **changes}
    kept, said = own.get("options"), changes.get("options")
    if not isinstance(kept, Mapping) or not (said is None or isinstance(said, Mapping)):
        return both
    options = {part: dict(values) for part, values in kept.items() if both.get(part) == own.get(part)}
    for part, values in (said or {}).items():
        options[part] = {**options.get(part, {}), **values} if isinstance(values, Mapping) else values
    return {**both, "options": options}
