"""The documentation's site: it builds strictly, shows every page and every public name, and asks nobody else for anything."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("zensical", reason="the extra docs is not installed (it needs Python 3.11)")
from filelock import FileLock
from tools import docs

import smp_feedback

ROOT = docs.ROOT
NOT_FOR_USERS = {"cli", "registry"}  # what they do is on pages of their own: --help, plugins
ROOMS = {room.name for room in pkgutil.iter_modules(smp_feedback.__path__) if room.ispkg} - NOT_FOR_USERS
LISTING = [
    "smp_feedback",
    *(".".join(found.relative_to(ROOT).parts[:-1]) for found in (ROOT / "smp_feedback").rglob("__init__.py")),
]


def zensical(folder):
    """A strict build of what lies in *folder*: its status, and what it says."""
    command = [sys.executable, "-c", "import sys; from tools.docs import build; sys.exit(build(sys.argv[1]))", folder]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
