"""The migration note and the changelog: what moved is where they say, words are known, links lead somewhere."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import smp_feedback
from smp_feedback.cli.renamed import OF_EXPERIMENTS, OF_FIT, current

pytest.importorskip("lightning")

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "migration.md").read_text()
CHANGES = (ROOT / "CHANGELOG.md").read_text()
MOVED = dict(re.findall(r"^\| `(smp_feedback\.[\w.]+)` \| `(smp_feedback\.[\w.]+)` \|$", PAGE, re.MULTILINE))
WORDS = re.findall(r"^\|[^|]*\| `--([\w.]+) [^`]*` \| `--([\w.]+) [^`]*` \|$", PAGE, re.MULTILINE)


def is_there(address):
    """Whether *address* is a module, or a name in one."""
    parent, _, name = address.rpartition(".")
    try:
        return find_spec(address) is not None
    except ModuleNotFoundError:  # the parent is no package
        return is_there(parent) and hasattr(import_module(parent), name)


def named(address):
    return is_there(address) or hasattr(import_module(address.rpartition(".")[0]), address.rpartition(".")[2])


def gone(address):
    parent, _, name = address.rpartition(".")
    return not is_there(address) and not (is_there(parent) and name in dir(import_module(parent)))


def test_what_moved_is_where_the_page_says_and_no_longer_where_it_was():
    assert len(MOVED) > 20, "the table was read"
    assert [new for new in MOVED.values() if not named(new)] == []
    assert [old for old in MOVED if not gone(old)] == []


def test_the_words_of_before_are_those_that_the_command_line_knows():
    (images, *rest) = WORDS
    assert images == ("data.images", OF_FIT["data.images"])
    assert dict(rest).items() <= OF_EXPERIMENTS.items()
    assert OF_EXPERIMENTS.keys() - dict(rest) == {"train_count"}, "which 0.1.0 did not have"
    said = []
    assert current(["compare", "--root", "a"], said.append) == ["compare", "--data.root", "a"]
    assert said == ["root is called data.root now; the old word still works."]


def headings_of(page):
    """As a forge makes anchors of them."""
    every = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in every}


def test_every_link_of_changelog_and_migration_note_leads_to_a_heading():
    for folder, text in ((ROOT, CHANGES), (ROOT / "docs", PAGE)):
        for target in re.findall(r"\]\(([^)]+)\)", text):
            path, _, anchor = target.partition("#")
            page = folder / path
            assert page.exists(), target
            assert not anchor or anchor in headings_of(page), target


def test_the_changelog_begins_with_this_version_and_has_a_line_an_entry():
    assert re.search(r"^## (\S+)", CHANGES, re.MULTILINE)[1] == smp_feedback.__version__
    entries = [line for line in CHANGES.splitlines() if line.startswith("- ")]
    assert len(entries) > 50
    assert [line for line in entries if not line.endswith(".")] == []


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("plugins/smp-feedback-*/pyproject.toml")), ids=lambda p: p.parent.name
)
def test_the_packages_ask_for_this_version(path):
    assert f'"smp_feedback>={smp_feedback.__version__}"' in path.read_text()
