"""What the files of a prediction are called: as the image is, and otherwise where two would be called alike."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from smp_feedback.data.files import SUFFIXES

KINDS = re.compile(r"\.(?:look_\d+|uncertainty|overlay|probabilities)$")  # what is written beside NAME.png


def file_names(names: Sequence[str]) -> list[str]:
    """An image's stem, or another name made fit for a file; those of one name are numbered, no two end up alike.

    Also where a system takes ``A.png`` and ``a.png`` for one file.

    >>> file_names(["a/site A (1).png", "b/street.png", "c/street.png", "polygons[3] of seed 0"])
    ['site A (1)', 'street', 'street_1', 'polygons_3_of_seed_0']
    >>> file_names(["a.jpg", "A.png", "a_1.png"])
    ['a', 'A_2', 'a_1']
    """
    return OutputNames().add(names)


class OutputNames:
    """Gives names as files come; what has been given is never given again.

    Args:
        endings: What else is written beside ``NAME.png``, such as ``.sky`` for a class: an image that is called like
            one of another's files gets another name.

    >>> names = OutputNames()
    >>> names.add(["a.jpg"]), names.add(["b/a.jpg", "a.uncertainty.png"])
    (['a'], ['a_1', 'a.uncertainty_1'])
    """

    def __init__(self, endings: Iterable[str] = ()) -> None:
        self.endings = tuple(ending.casefold() for ending in endings)
        self.taken: set[str] = set()
        self.bases: set[str] = set()  # names that would have a file which is called like one of those taken

    def add(self, names: Sequence[str]) -> list[str]:
        """Names for these images; each gets its own stem, unless it is taken, and none the stem of another."""
        stems = [stem_of(name) for name in names]
        known = self.taken | {stem.casefold() for stem in stems}
        return [self._settle(stem, known) for stem in stems]

    def keep(self, name: str) -> None:
        """*name* is taken already."""
        self.taken.add(name.casefold())
        self.bases.update(self._bases(name.casefold()))

    def _settle(self, stem: str, known: set[str]) -> str:
        free = (name for name in self._numbered(stem) if not self._clashes(name, stem, known))
        name = next(free)
        self.keep(name)
        return name

    def _numbered(self, stem: str) -> Iterable[str]:
        return itertools.chain([stem], (f"{stem}_{k}" for k in itertools.count(1)))

    def _clashes(self, name: str, stem: str, known: set[str]) -> bool:
        low = name.casefold()
        return low in self.taken | self.bases or (name != stem and low in known) or bool(self._bases(low) & known)

    def _bases(self, name: str) -> set[str]:
        """Of which names *name* may be one of the files."""
        found = KINDS.search(name)
        ends = {ending for ending in self.endings if name.endswith(ending)} | ({found[0]} if found else set())
        return {name.removesuffix(end) for end in ends}


def stem_of(name: str) -> str:
    """The stem of an image's path as it is; of another name what is fit for a file.

    >>> stem_of("photos/My trip.v2.jpg"), stem_of("mazes[1] of seed 0"), stem_of("???")
    ('My trip.v2', 'mazes_1_of_seed_0', 'image')
    """
    path = Path(name)
    if path.suffix.lower() in SUFFIXES:
        return path.stem
    return re.sub(r"[^\w.-]+", "_", name).strip("_") or "image"
