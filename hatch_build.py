"""The README as a package index shows it, where relative links and pictures lead nowhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!https?://|#)(?P<path>[^)]+)\)")


def for_an_index(text: str, address: str) -> str:
    """Links and pictures made absolute; without an address pictures are taken out, and links are their text.

    Args:
        text: Markdown whose links are relative to the repository.
        address: Where the repository is, as ``https://host/owner/name``; empty while it is nowhere.

    >>> for_an_index("[films](docs/films.md)", "https://host/us/it")
    '[films](https://host/us/it/blob/main/docs/films.md)'
    >>> for_an_index("[films](docs/films.md), ![a maze](docs/maze.gif)", "")
    'films, '
    """

    def at_home(found: re.Match[str]) -> str:
        if not address:
            return "" if found["picture"] else found["text"]
        kind = "raw" if found["picture"] else "blob"
        return f"{found['picture']}[{found['text']}]({address.rstrip('/')}/{kind}/main/{found['path']})"

    return LINK.sub(at_home, text)


class ReadmeForAnIndex(MetadataHookInterface):
    """Gives the sdist and the wheel their long description; the address is ``address`` in pyproject.toml."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Called by hatchling whenever it needs the project's metadata."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": for_an_index(text, self.config.get("address", "")),
        }
