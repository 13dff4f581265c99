"""Distributions as pip installs them, made of a folder, a module and its metadata."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from smp_feedback.registry import public
from smp_feedback.registry.plugins import DISABLE

ROOT = Path(__file__).parents[1]


def install(folder, name, version, source, *, requires=(), entry=None):
    """Put a distribution *name* of one module, made of *source*, into *folder*; its entry point is called *entry*."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(textwrap.dedent(source))
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
    (info / "entry_points.txt").write_text(f"[smp_feedback]\n{entry or name} = {module}\n")
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in (f"{module}.py", f"{info.name}/METADATA")))
    importlib.invalidate_caches()


def points_in(folder):
    """The entry points of the distributions in *folder*."""
    found = sorted(metadata.distributions(path=[str(folder)]), key=lambda one: one.metadata["Name"])
    return [point for one in found for point in one.entry_points]


@contextmanager
def new_site(tmp_path, monkeypatch):
    """A folder on the path for distributions, and a process that has not looked for plugins yet."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.setattr(public, "_process", [])
    monkeypatch.delenv(DISABLE, raising=False)
    yield folder
    forget_modules_of(folder)


def forget_modules_of(folder):
    """As if nothing had been imported from *folder*."""
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").parent == folder:
            del sys.modules[name]


def run(arguments, *paths, **variables):
    """Python with *arguments*, in a process of its own that finds *paths* first."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*paths, ROOT])), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment | variables,
        cwd=ROOT,
    )


def process(code, *paths, **variables):
    """What *code* prints as JSON, last, in a process of its own."""
    done = run(["-c", textwrap.dedent(code)], *paths, **variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
