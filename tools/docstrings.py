"""The package as the site reads it: examples are code, Sphinx's roles are names, and what a stub names is public."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?m)^(?P<indent> *)>>> .*(?:\n(?!\s*$).+)*")
ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`~?([^`]+)`")


def as_markdown(docstring: str) -> str:
    """Each example between fences, each role the name in it.

    >>> print(as_markdown("As :func:`wrap` does.").strip())
    As `wrap` does.
    """
    named = ROLE.sub(r"`\1`", docstring)
    return EXAMPLE.sub(lambda found: f"{found['indent']}```pycon\n{found[0]}\n{found['indent']}```", named)


class AsTheSiteReadsIt(griffe.Extension):
    """Every docstring that griffe reads, as Markdown; and what ``__init__.pyi`` lists, which is imported lazily."""

    def on_object(self, *, obj: griffe.Object, **more: Any) -> None:
        """Called for each object of a package that was read."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **more: Any) -> None:
        """Called once all of a package was read, its stubs among it."""
        lazy = [name for name, one in pkg.members.items() if isinstance(one, griffe.Alias) and not one.runtime]
        pkg.exports = list(lazy) or pkg.exports
        for module in pkg.modules.values():
            if not module.is_alias:
                self.on_package(pkg=module)
