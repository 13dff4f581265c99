"""What a plugin would have brought, read from its source without running a line of it.

A name is found where it is written out: in ``register("name", ...)`` inside a hook, and in the public decorators.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint

Names = dict[str, tuple[str, ...]]


def foretold(point: EntryPoint, hooks: dict[str, str]) -> Names:
    """The names and aliases that the module of *point* registers, by kind; nothing where there is no source to read.

    Args:
        point: The plugin's entry point.
        hooks: The kind that each hook and each public function registers: ``{"register_losses": "losses", ...}``.
    """
    try:
        tree = ast.parse(_source(point.module) or "")
    except Exception:  # whatever stands there, and whoever finds it: reading it is a courtesy
        return {}
    names: dict[str, list[str]] = defaultdict(list)
    for kind, call in _registrations(tree, hooks):
        names[kind] += [name for name in _written(call) if name not in names[kind]]
    return {kind: tuple(found) for kind, found in names.items()}


def _source(module: str) -> str | None:
    """The text of *module*, found as an import would find it, but without importing its packages."""
    spec: ModuleSpec | None = None
    path: Sequence[str] | None = None
    name = ""
    for word in module.split("."):
        name = f"{name}.{word}".lstrip(".")
        specs = (finder.find_spec(name, path) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    read = getattr(spec.loader, "get_source", None) if spec is not None else None
    return None if read is None else str(read(module))


def _registrations(tree: ast.Module, hooks: dict[str, str]) -> Iterator[tuple[str, ast.Call]]:
    """Every call that registers something, with its kind."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            said = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if said in hooks:
                yield hooks[said], node
        elif isinstance(node, ast.FunctionDef) and node.name in hooks:
            pens = {argument.arg for argument in node.args.args} - {"self", "cls"}
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in pens:
                    yield hooks[node.name], call


def _written(call: ast.Call) -> Iterator[str]:
    """The name and the aliases, where they are written out."""
    said = {word.arg: word.value for word in call.keywords}
    aliases = said.get("aliases")
    listed = aliases.elts if isinstance(aliases, ast.Tuple | ast.List) else []
    for value in [*call.args[:1], said.get("name"), *listed]:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value
