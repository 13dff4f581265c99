"""Who brought the parts of a saved model, and whether they are here."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

import segmentation_models_pytorch as smp

from smp_feedback._version import __version__
from smp_feedback.errors import PluginWarning, UnknownName
from smp_feedback.registry.catalogue import LENT
from smp_feedback.registry.installed import owners_of
from smp_feedback.registry.plugins import normal_name
from smp_feedback.registry.public import catalogue, list_plugins
from smp_feedback.registry.registry import Registry

BUILT_IN = "smp_feedback"
KINDS = ("architecture", "encoder", "loop", "dynamics", "projection", "restorer")
Record = dict[str, str]
"""A part, ``kind`` and ``name``, and who brought it: ``distribution`` and ``version``, or ``module``."""
LIBRARIES = ("torch", "segmentation_models_pytorch", "timm")


def versions() -> dict[str, str]:
    """The libraries whose version decides what a saved model computes.

    >>> sorted(versions())
    ['segmentation_models_pytorch', 'smp_feedback', 'timm', 'torch']
    """
    return {BUILT_IN: __version__, **{name: str(import_module(name).__version__) for name in LIBRARIES}}


def brought_by_plugins(config: Mapping[str, Any], cut: str | None = None) -> dict[str, dict[str, str]]:
    """For each part of a saved model that is not built in: its name, and who brought it.

    Args:
        config: The model's.
        cut: The class whose cut opens its base.

    Returns:
        ``{kind: {"name", "distribution", "version"}}``, or ``{"name", "module"}`` where no distribution is behind it.
    """
    parts = _parts(config) | ({} if cut is None else {"cut": cut})
    if LENT not in smp.encoders.encoders.get(parts.get("encoder"), {}):
        parts.pop("encoder", None)  # smp's, timm's, or one that the architecture knows
    found = {kind: record_of(kind, name) for kind, name in parts.items() if name in registry_of(kind)}
    return {kind: record for kind, record in found.items() if record.get("distribution") != BUILT_IN}


def check_plugins(config: Mapping[str, Any]) -> None:
    """Every part that *config* names and a plugin once brought is here; those of another version are warned of.

    Once for each distribution, whatever it brought.

    Raises:
        UnknownName: If one is not, with the distribution to install.
    """
    parts, records = _parts(config), list[Record]()
    for kind, was in config["plugins"].items():
        name = was.get("name") if kind == "cut" else parts.get(kind)  # the config names no cut: the base's class does
        if name is not None and name == was.get("name"):  # else overridden, or edited: not needed
            records.append({"kind": kind, **was})
    missing = [one for one in records if one["name"] not in registry_of(one["kind"])]
    for first in missing:
        kind, name = first["kind"], first["name"]
        raise UnknownName(kind, name, registry_of(kind), why=cure(first, missing))
    for theirs, ours, named in changed_since(records):
        are = "it is that" if len(named) == 1 else "they are those"
        said = f"The model was saved with {', '.join(named)} of {theirs}; here {are} of {ours}."
        warnings.warn(said, PluginWarning, stacklevel=4)


def changed_since(records: Iterable[Record]) -> list[tuple[str, str, list[str]]]:
    """Who brought the parts of *records*, who brings them now, and which these are, where the two differ."""
    others = dict[tuple[str, str], list[str]]()
    for was in records:
        kind, name = was["kind"], was["name"]
        if "distribution" in was and name in registry_of(kind):
            now = record_of(kind, name)
            if _label(now) != _label(was):
                others.setdefault((_label(was), _label(now)), []).append(f"{kind} {name!r}")
    return [(theirs, ours, named) for (theirs, ours), named in others.items()]


def _parts(config: Mapping[str, Any]) -> dict[str, str]:
    """What *config* names, by kind; a plugin's loop need not know dynamics and projections.

    A loop around another is ours, so it is the other that may be a plugin's.
    """
    loop = dict(config["feedback"])
    inner = getattr(loop.get("base"), "to_dict", lambda: loop.get("base"))()
    parts = {"loop": "recurrent"} | loop | (dict(inner) if isinstance(inner, Mapping) else {})
    named = parts | {"architecture": config["architecture"], "encoder": config.get("arguments", {}).get("encoder_name")}
    return {kind: named[kind] for kind in KINDS if isinstance(named.get(kind), str)}


def registry_of(kind: str) -> Registry[Any]:
    """The registry of a *kind*, singular."""
    return next(one for one in catalogue().registries().values() if one.kind == kind)


def record_of(kind: str, name: str) -> Record:
    """A part's name, and who brought it."""
    origin = registry_of(kind).origin(name)
    if origin == BUILT_IN:
        return {"name": name, "distribution": BUILT_IN, "version": versions()[BUILT_IN]}
    distribution, _, number = origin.rpartition(" ")
    if distribution:
        return {"name": name, "distribution": distribution, "version": number}
    # registered by a decorator, so only the module is known
    owners = owners_of(origin.partition(".")[0].partition(":")[0])
    if len(owners) == 1:
        return {"name": name, "distribution": owners[0], "version": version(owners[0])}
    return {"name": name, "module": origin}


def _label(record: Mapping[str, str]) -> str:
    if "distribution" in record:
        return f"{record['distribution']} {record.get('version', '')}".strip()
    return f"the module {record.get('module')!r}"


def cure(record: Mapping[str, str], missing: Sequence[Mapping[str, str]] = ()) -> str:
    """How the part of a *record* is had again, and what else of all that are *missing* came with it."""
    if "distribution" not in record:
        return f"It was registered by {_label(record)}: import that first."
    theirs = normal_name(record["distribution"])
    also = [
        f"{one['kind']} {one['name']!r}"
        for one in missing
        if one != record and normal_name(one.get("distribution", "")) == theirs
    ]
    came = f"It came with {_label(record)}" + (f", as did {' and '.join(also)}" if also else "")
    left_out = (
        one for one in list_plugins() if one.state != "loaded" and normal_name(one.distribution or "") == theirs
    )
    for plugin in left_out:
        return f"{came}; {plugin.origin} is installed, and {plugin.why}"
    return f"{came}: pip install {_label(record).replace(' ', '==')}"
