"""Which files belong together: each image with its mask, by their stems."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from smp_feedback.data.files import LABEL_SUFFIXES, SUFFIXES, natural_key, some
from smp_feedback.errors import InvalidValue

Pair = tuple[Path, Path]  # an image and its mask


def find_samples(root: Path, split: str, images: str = "{split}", masks: str = "{split}annot") -> list[Pair]:
    """Each image with its mask, in natural order; folders as `MaskFolder` takes them."""
    folder = root / images.replace("{split}", split)
    pattern = masks.replace("{split}", split)
    mask_folder = (root / pattern).parent if "{stem}" in pattern else root / pattern
    for one in (folder, mask_folder):
        if not one.is_dir():
            raise InvalidValue(f"{one}: expected a folder; {_splits(root, images, masks)}")
    found = sorted(_files(folder, SUFFIXES), key=natural_key)
    if not found:
        raise InvalidValue(f"{folder}: expected images ({', '.join(SUFFIXES)}), found none.")
    twice = [stem for stem, times in Counter(p.stem for p in found).items() if times > 1]
    _refuse(folder, "one image per mask, several are called", twice)
    if "{stem}" in pattern:
        paired = [(p, root / pattern.replace("{stem}", p.stem)) for p in found]
    else:
        paired = [(p, mask) for p, mask in zip(found, _same_stem(found, mask_folder), strict=True)]
    _refuse(mask_folder, "masks for every image, missing", [mask.name for _, mask in paired if not mask.is_file()])
    return paired


def _same_stem(images: Sequence[Path], folder: Path) -> list[Path]:
    """For each image the mask of its stem in *folder*, as PNG where there is none."""
    masks: defaultdict[str, list[Path]] = defaultdict(list)
    for path in _files(folder, LABEL_SUFFIXES):
        masks[path.stem].append(path)
    _refuse(folder, "one mask per image, several are called", [p.stem for p in images if len(masks[p.stem]) > 1])
    return [(masks[p.stem] or [folder / f"{p.stem}.png"])[0] for p in images]


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return [p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".")]


def _splits(root: Path, images: str, masks: str) -> str:
    if not root.is_dir():
        return f"{root} does not exist."
    if (images, masks) != ("{split}", "{split}annot"):
        return f"{root} has the folders {sorted(p.name for p in root.iterdir() if p.is_dir())}."
    names = {p.name for p in root.iterdir() if p.is_dir()}
    return f"{root} has the splits {sorted(name for name in names if f'{name}annot' in names)}."


def _refuse(folder: Path, expected: str, names: Sequence[str]) -> None:
    if names:
        raise InvalidValue(f"{folder}: expected {expected} {len(names)}: {some(names)}.")
