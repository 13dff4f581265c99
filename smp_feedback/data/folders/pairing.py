"""Which files belong together: each image with its mask, by what their paths have in common."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from smp_feedback.data.files import LABEL_SUFFIXES, SUFFIXES, absent, as_path, meant, natural_order, some, subfolders
from smp_feedback.data.folders.finding import LeftOut, is_image, said, unread, walk
from smp_feedback.data.folders.places import Place, filled, place
from smp_feedback.data.folders.splits import SplitRule
from smp_feedback.data.seeding import SPLITS
from smp_feedback.errors import InvalidType, InvalidValue, did_you_mean

Pair = tuple[Path, Path | None]  # an image and its mask, if it has one
ELSEWHERE, OTHERWISE = "in subfolders that the masks do not have", "not called as images= says"


class Found(NamedTuple):
    """The pairs of a split, in natural order, and the files beside them that are not used."""

    pairs: Sequence[Pair]
    left_out: tuple[LeftOut, ...] = ()


def find_samples(
    root: Path,
    split: str,
    images: str = "{split}",
    masks: str = "{split}annot",
    *,
    rule: SplitRule | None = None,
    classes: Sequence[str] = (),
    empty_masks: bool = False,
    unlabelled: bool = False,
) -> Found:
    """Each image of a split with its mask, in natural order; folders, patterns and rules as `MaskFolder` takes them.

    Where *masks* has ``{class}``, the mask's path keeps it: it stands for one file a class, at least one of them there,
    unless *empty_masks*. With *unlabelled*, an image without a mask has None.
    """
    root, rule = as_path("root", root), rule or SplitRule()
    images, masks = str(as_path("images", images)), str(as_path("masks", masks))
    if not isinstance(split, str) or not split:
        raise InvalidType(f"split={split!r}: expected the name of a split.")
    source = rule.source(split, images, root)
    both = Places(place(root, images, SUFFIXES, split=source), _masks(root, masks, source, classes))
    missing = next((one for one in (both.images.folder, both.masks.folder) if not one.is_dir()), None)
    if missing is not None:
        raise InvalidValue(f"{missing}: expected a folder; {_there(root, missing, split, images, masks)}")
    files = walk(both.images.folder)
    labels = files if both.masks.folder == both.images.folder else walk(both.masks.folder)
    there = both.of_masks(labels)
    found, left_out = both.of_images(files, there, other_masks=place(root, masks, LABEL_SUFFIXES))
    if not found:
        raise InvalidValue(_no_images(images, left_out, there, both))
    chosen, unnamed = rule.choose(split, found, root)
    shown = _shown(root, filled(masks, split=source))
    if unlabelled and "{class}" not in masks:
        there |= {stem: [] for stem in chosen if stem not in there}
    pairs = _paired(chosen, there, both.masks.folder, shown, "{class}" in masks, empty_masks or unlabelled)
    known = {*found} if "{split}" in masks or "{split}" not in images else _stems(root, images, both)
    return Found(pairs, (*left_out, *unnamed, *_alone(there, known)))


@dataclass(frozen=True)
class Places:
    """Where a split's images and masks lie; a file that fits both is what the longer path says, and else a mask."""

    images: Place
    masks: Place

    def is_mask(self, path: Path) -> bool:
        """*path* is a mask of this split."""
        fits = self.masks.stem(path) is not None
        return fits and not (self.images.weight > self.masks.weight and self.images.stem(path) is not None)

    def of_masks(self, files: Iterable[Path]) -> dict[str, list[Path]]:
        """The masks among *files* by their stems."""
        found: defaultdict[str, list[Path]] = defaultdict(list)
        for path in files:
            if self.is_mask(path):
                found[str(self.masks.stem(path))].append(path)
        return dict(found)

    def of_images(
        self, files: Iterable[Path], masks: Mapping[str, object], other_masks: Place
    ) -> tuple[dict[str, Path], list[LeftOut]]:
        """The images among *files* by their stems, in order, and what is left out."""
        folders = {parent for stem in masks for parent in _parents(stem)}
        found: defaultdict[str, list[Path]] = defaultdict(list)
        left_out = []
        for path in files:
            stem = self.images.stem(path)
            if self.is_mask(path):
                continue
            if why := unread(path):
                left_out.append(LeftOut(why, path))
            elif not is_image(path):
                continue
            elif stem is None:
                left_out.append(LeftOut(OTHERWISE, path))
            elif self.images.is_folder and "/" in stem and stem.rpartition("/")[0] not in folders:
                left_out += [LeftOut(ELSEWHERE, path)] if other_masks.stem(path) is None else []
            else:
                found[stem].append(path)
        _refuse(self.images.folder, "one image per mask, several are called", [s for s, p in found.items() if p[1:]])
        return {stem: paths[0] for stem, paths in found.items()}, left_out


def _masks(root: Path, masks: str, split: str, classes: Sequence[str]) -> Place:
    return place(root, masks, LABEL_SUFFIXES, split=split, classes=classes)


def _parents(stem: str) -> Iterator[str]:
    """The folder of *stem* and those around it."""
    while "/" in stem:
        stem = stem.rpartition("/")[0]
        yield stem


def _paired(
    images: Mapping[str, Path],
    masks: Mapping[str, Sequence[Path]],
    folder: Path,
    shown: str,
    by_class: bool,
    empty: bool,
) -> list[Pair]:
    """Each image with the one mask of its stem, or with the pattern of its masks, one a class."""
    if not by_class:
        twice = [stem for stem in images if len(masks.get(stem, ())) > 1]
        _refuse(folder, "one mask per image, several are called", twice)
    missing = [] if empty else [stem for stem in images if not masks.get(stem)]
    names = [Path(filled(shown, stem=stem)).name for stem in missing]
    _refuse(folder, "masks for every image, missing", names, _hint(missing, masks, images, folder))
    if by_class:
        return [(path, Path(filled(shown, stem=stem))) for stem, path in images.items()]
    return [(path, next(iter(masks[stem]), None)) for stem, path in images.items()]


def _shown(root: Path, masks: str) -> str:
    """Where a mask should be, with ``{stem}`` for the image's."""
    told = str(root / as_path("masks", masks))
    return told if "{stem}" in told else f"{told}/{{stem}}.png"


def _hint(missing: Sequence[str], masks: Mapping[str, object], images: Mapping[str, object], folder: Path) -> str:
    """What else the masks may be called, by the first that is missing."""
    if not missing:
        return ""
    first = missing[0]
    kinds = sorted(p.name for p in (folder / first).parent.glob("*") if p.stem == Path(first).name)
    if kinds:
        return f" {kinds[0]} is there; masks are {', '.join(LABEL_SUFFIXES)}, without loss."
    free = [stem for stem in masks if stem not in images]
    around = [stem for stem in free if first in stem]
    if around:
        told = around[0].replace(first, "{stem}", 1)
        return f" There is {around[0]!r}: if that is its mask, write masks='.../{told}.png'."
    close = did_you_mean(first, free, 1)
    if close:
        return f" {close[0]!r} has no image: is that the mask of {first!r}?"
    return " If they shall have none, write unlabelled=True." if masks else ""


def _stems(root: Path, images: str, both: Places) -> set[str]:
    """The stems of the images of every split."""
    everywhere = place(root, images, SUFFIXES)
    return {str(everywhere.stem(path)) for path in walk(everywhere.folder) if not both.is_mask(path)}


def _alone(masks: Mapping[str, Sequence[Path]], known: Collection[str]) -> list[LeftOut]:
    """The masks whose stem is none of the *known* images', in order."""
    alone = [path for stem, paths in masks.items() if stem not in known for path in paths]
    why = f"mask{'s' if alone[1:] else ''} without an image"
    return [LeftOut(why, path) for path in sorted(alone, key=natural_order)]


def _no_images(images: str, left_out: Sequence[LeftOut], masks: Mapping[str, Sequence[Path]], both: Places) -> str:
    """What was expected, and what was found where no image was."""
    called = f"images ({', '.join(SUFFIXES)})" if "{stem}" not in images else f"images called {images}"
    found = "none"
    if left_out:
        found = f"none to use: {said(left_out)}"
    elif masks and both.masks.folder.is_relative_to(both.images.folder):
        found = "none: every file there is called as masks= says"
    return f"{both.images.folder}: expected {called}, found {found}."


def _there(root: Path, folder: Path, split: str, images: str, masks: str) -> str:
    """What *root* has instead of *folder*."""
    if not root.is_dir():
        return absent(root)
    names = subfolders(root)
    if (images, masks) != ("{split}", "{split}annot"):
        return f"{root} has the folders {names}. {absent(folder)}"
    splits = [name for name in names if f"{name}annot" in names]
    close = meant(folder.name, names)
    also = " Link to it, or rename it: training asks for train and val." if close and split in SPLITS else ""
    return f"{root} has the splits {splits}. {close}{also}".strip()


def _refuse(folder: Path, expected: str, names: Sequence[str], hint: str = "") -> None:
    if names:
        raise InvalidValue(f"{folder}: expected {expected} {len(names)}: {some(names)}.{hint}")
