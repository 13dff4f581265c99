"""One word, one thing: what the package calls by a public name, over all of its modules."""

from __future__ import annotations

import inspect
import pkgutil
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import smp_feedback

MODULES = [found.name for found in pkgutil.walk_packages(smp_feedback.__path__, "smp_feedback.")]
MOST_AT_THE_ROOT = 9


def defined(kind):
    """Where each public name of that kind is defined: an alias or an import of it is no second one."""
    where = defaultdict(list)
    for module in map(import_module, MODULES):
        for name, one in inspect.getmembers(module, kind):
            if not name.startswith("_") and (one.__module__, one.__name__) == (module.__name__, name):
                where[name].append(module.__name__)
    return where


def test_no_two_public_classes_share_a_name():
    assert {name: where for name, where in defined(inspect.isclass).items() if len(where) > 1} == {}


def test_one_function_checks_an_image():
    assert defined(inspect.isfunction)["check_image"] == ["smp_feedback.loops.base"]


def test_a_plugin_author_finds_few_modules_beside_the_rooms():
    beside = {path.stem for path in Path(smp_feedback.__file__).parent.glob("*.py")} - {"__init__", "__main__"}
    assert len(beside) <= MOST_AT_THE_ROOT, sorted(beside)


def test_every_module_is_walked():
    assert {"smp_feedback.loops.score.autoencoders.base", "smp_feedback.cli.main"} <= set(MODULES)
