"""The documentation's site: ``python -m tools.docs`` lays the pages out and builds them into ``site/``, strictly.

Pages are readable where they lie: ``docs/films.md`` links to ``../examples/film.py``. A site holds one folder alone, so
the pages and all that they may link to are copied into ``build/docs``, and each link is led to where its target went.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()([^)#\s]+)(?=[)#])")
NAMED = re.compile(r"(?m)^ +- (?:.+: )?(\S+\.md)$")
MOVED = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
FENCED = re.compile(r"(?ms)(^```.*?^```$)")
BEGUN = re.compile(r"(?m)^((?!\s|(?:[-*+]|\d+\.) ).+)\n(?=(?:[-*+]|\d+\.) )")
GOES_ON = re.compile(r"(?<=\n\n) {2,3}\S.*\n(?:(?: .*)?\n)*")
SHOWN = ("docs/**/*", "examples/*", "studies/*", "notebooks/*", "plugins/smp-feedback-*/README.md", *MOVED)


def places(root: Path = ROOT) -> dict[str, str]:
    """Where each file that the site shows goes: paths with slashes, below the repository and below the site's pages."""
    found = (path for shown in SHOWN for path in sorted(root.glob(shown)) if path.is_file())
    files = [path.relative_to(root).as_posix() for path in found]
    return {file: MOVED.get(file, file.removeprefix("docs/").replace("/README.md", ".md")) for file in files}


def led(text: str, file: str, where: dict[str, str]) -> str:
    """The Markdown of *file*, each link to a file of *where* led to its place; others stay as they are."""

    def to_its_place(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(file), found[0]))
        if target not in where:
            return found[0]
        return posixpath.relpath(where[target], posixpath.dirname(where[file]))

    return LINK.sub(to_its_place, text)


def spaced(text: str) -> str:
    """An empty line before a list, and four spaces before what goes on in one after an empty line.

    Repositories' pages do without; Python-Markdown would take such a list for words of the paragraph.
    """

    def deeper(found: re.Match[str]) -> str:
        return textwrap.indent(found[0], "  ").rstrip("\n") + "\n\n"

    parts = FENCED.split(text)
    parts[::2] = [GOES_ON.sub(deeper, BEGUN.sub(r"\1\n\n", part)) for part in parts[::2]]
    return "".join(parts)


def lay_out(folder: Path, root: Path = ROOT) -> Path:
    """Copy the settings and all that the site shows into *folder*, anew; the folder of the pages."""
    pages = folder / "build" / "docs"
    shutil.rmtree(pages, ignore_errors=True)
    where = places(root)
    for file, place in where.items():
        (pages / place).parent.mkdir(parents=True, exist_ok=True)
        if file.endswith(".md"):
            text = (root / file).read_text(encoding="utf-8")
            (pages / place).write_text(spaced(led(text, file, where)), encoding="utf-8")
        else:
            shutil.copyfile(root / file, pages / place)
    if folder.resolve() != root.resolve():
        shutil.copyfile(root / "mkdocs.yml", folder / "mkdocs.yml")
    return pages


def faults(folder: Path) -> list[str]:
    """What zensical lets pass: pages that are not there, or that no one finds, and links to files that are no pages."""
    pages = folder / "build" / "docs"
    there = {page.relative_to(pages).as_posix() for page in pages.rglob("*.md")}
    named = set(NAMED.findall((folder / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]))
    said = [f"mkdocs.yml: {page} is not there" for page in sorted(named - there)]
    said += [f"mkdocs.yml: {page} is not in nav" for page in sorted(there - named)]
    for page in sorted(there):
        targets = LINK.findall((pages / page).read_text(encoding="utf-8"))
        missing = [one for one in targets if ":" not in one and not (pages / page).parent.joinpath(one).is_file()]
        said += [f"{page}: {one} is not there" for one in missing]
    return said


def build(folder: Path) -> int:
    """Build the site of the pages that lie in *folder*; the status is 0 if nothing was wrong with any of them."""
    if said := faults(folder):
        print(*said, sep="\n", file=sys.stderr)
        return 1
    shutil.rmtree(folder / "site", ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    found = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": found}, check=False).returncode


if __name__ == "__main__":
    lay_out(ROOT)
    sys.exit(build(ROOT))
