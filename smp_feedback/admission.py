"""One plugin at the door: which hooks it implements, and what it does with the pen that each hands it."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from itertools import accumulate

import pluggy

from smp_feedback import hookspecs
from smp_feedback.errors import FeedbackError, did_you_mean, suggestion
from smp_feedback.hookspecs import Register

HOOKS = [name for name, hook in vars(hookspecs).items() if hasattr(hook, f"{hookspecs.PROJECT}_spec")]
KINDS = {hook: hook.removeprefix("register_") for hook in HOOKS}
"""Each hook, and the kind of part that it registers, plural."""


def admit(plugin: object, name: str, pens: Mapping[str, Register]) -> None:
    """Let *plugin* register what it brings.

    Args:
        plugin: A module, or any object with hooks.
        name: The plugin's.
        pens: For each kind the ``register`` that its hook is handed.

    Raises:
        FeedbackError: If it misspells a hook or forgot to mark one.
        Exception: Whatever else it raises.
    """
    _check_spelled(plugin)
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, name)
    manager.check_pending()
    for hook, kind in KINDS.items():
        _check_marked(plugin, hook)
        getattr(manager.hook, hook)(register=pens[kind])


def is_under_way(point: EntryPoint) -> bool:
    """Whether the module of *point*, or its package, is being imported by whoever asks: it is not whole yet."""
    packages = list(accumulate(point.value.partition(":")[0].split("."), "{}.{}".format))
    frames = (frame for frame, _ in traceback.walk_stack(None))
    return any(one.f_code.co_name == "<module>" and one.f_globals.get("__name__") in packages for one in frames)


def _check_spelled(plugin: object) -> None:
    for said in _marked(plugin):
        if said not in HOOKS:
            raise FeedbackError(f"{said} is no hook. {suggestion(did_you_mean(said, HOOKS), HOOKS)}")


def _marked(plugin: object) -> Iterator[str]:
    """The hooks that *plugin* says it implements."""
    for name, routine in inspect.getmembers(plugin, inspect.isroutine):
        mark = getattr(routine, f"{hookspecs.PROJECT}_impl", None)
        if mark is not None:
            yield mark["specname"] or name


def _check_marked(plugin: object, hook: str) -> None:
    said = getattr(plugin, hook, None)  # the public function of the same name, imported there, is no hook
    own = getattr(said, "__module__", None) == getattr(plugin, "__name__", "")
    if own and not hasattr(said, f"{hookspecs.PROJECT}_impl"):
        raise FeedbackError(f"{hook} is not marked: decorate it with smp_feedback.hookspecs.hookimpl.")
