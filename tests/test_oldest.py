"""The lowest versions that are tested are those that pyproject names."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
TESTED = ("dependencies", "train", "plot", "cli", "tiles", "distances", "topology")
"""The lists of pyproject.toml whose lower bounds ``make test-oldest`` installs."""


def requirements(name):
    listed = re.search(
        rf"^{name} = \[(.*?)\]\s*(#.*)?$", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE
    )
    return [Requirement(found) for found in re.findall(r'"([^"]+)"', listed[1]) if not found.startswith("smp_feedback")]


def lower_bounds():
    every = [one for name in TESTED for one in requirements(name)]
    return {
        canonicalize_name(one.name): Version(bound.version)
        for one in every
        for bound in one.specifier
        if bound.operator == ">="
    }


def pinned(name):
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    pins = [Requirement(line) for line in lines]
    return {canonicalize_name(one.name): Version(next(iter(one.specifier)).version) for one in pins}


def test_the_oldest_versions_are_the_lower_bounds_of_pyproject():
    assert len(lower_bounds()) > 15, "something was read"
    assert pinned("constraints-oldest.txt") == lower_bounds()


def test_no_version_of_today_lies_below_a_lower_bound():
    today = pinned("constraints.txt")
    assert [name for name, bound in lower_bounds().items() if name in today and today[name] < bound] == []
