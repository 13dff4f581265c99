"""Small made-up files in the layouts in which sets of thin structures are published."""

import numpy as np
from PIL import Image

SIZE = (12, 16)


def noise(seed, *shape, high=256):
    return np.random.default_rng(seed).integers(0, high, (*SIZE, *shape), np.uint8)


def lines(seed):
    """Bool (H, W)."""
    return noise(seed, high=4) == 0


def put(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def white(mask):
    return mask.astype(np.uint8) * 255


def drive(root, test=True):
    """20 and 20 images, of which a frame of one pixel lies outside the field of view."""
    field = np.pad(np.ones((SIZE[0] - 2, SIZE[1] - 2), bool), 1)
    for part, first in (("training", 21), ("test", 1)):
        for k in range(first, first + 20):
            put(root / f"{part}/images/{k:02}_{part}.tif", noise(k, 3))
            put(root / f"{part}/mask/{k:02}_{part}_mask.gif", white(field))
            if part == "training" or test:
                put(root / f"{part}/1st_manual/{k:02}_manual1.gif", white(lines(k)))
    return root


def fundus(seed):
    """A bright disc on black, and where it is."""
    ys, xs = np.ogrid[: SIZE[0], : SIZE[1]]
    inside = np.square((ys - 5.5) / 5) + np.square((xs - 7.5) / 6) <= 1
    return np.where(inside[..., None], 100 + noise(seed, 3) // 2, 3).astype(np.uint8), inside


def chase_db1(root):
    """14 children; masks of one bit, as published."""
    for child in range(1, 15):
        for side in "LR":
            name = f"Image_{child:02}{side}"
            put(root / f"{name}.jpg", fundus(2 * child + (side == "R"))[0])
            put(root / f"{name}_1stHO.png", lines(child))
            put(root / f"{name}_2ndHO.png", lines(100 + child))
    return root


def crackforest(root, mat=True):
    """118 images and one more without a truth; regions 1, 2 and, here and there, 3."""
    for k in range(1, 120):
        put(root / f"image/{k:03}.jpg", noise(k, 3))
        if k == 119:
            continue
        regions = lines(k) + np.uint8(1)
        regions[0, 0] = 3
        path = root / f"groundTruth/{k:03}.mat"
        if not mat:
            put(path.with_suffix(".png"), white(lines(k)))
            continue
        from scipy.io import savemat

        path.parent.mkdir(parents=True, exist_ok=True)
        savemat(path, {"groundTruth": {"Segmentation": regions, "Boundaries": regions > 1}})
    return root


def deepcrack(root):
    """12 photographs, of some several parts, and two for the test."""
    names = [f"{photo}-{part}" for photo in range(11111, 11117) for part in (1, 2)]
    for split, stems in (("train", names), ("test", ["11215", "7Q3A9060-1"])):
        for k, stem in enumerate(stems):
            put(root / f"{split}_img/{stem}.jpg", noise(k + 20 * (split == "test"), 3))
            put(root / f"{split}_lab/{stem}.png", white(lines(k)))
    return root


def stack(path, pages):
    first, *others = [Image.fromarray(page) for page in pages]
    path.parent.mkdir(parents=True, exist_ok=True)
    first.save(path, save_all=True, append_images=others)


def isbi2012(root, sections=30):
    """Sections of noise, and labels that are 0 at the membranes."""
    stack(root / "train-volume.tif", [noise(k) for k in range(sections)])
    stack(root / "train-labels.tif", [white(~lines(k)) for k in range(sections)])
    return root


def massachusetts_roads(root, layout="{split}/{kind}", kinds=("sat", "map"), suffixes=(".tiff", ".tif")):
    """Two images a split."""
    for s, split in enumerate(("train", "valid", "test")):
        for k in range(2):
            for kind, suffix in zip(kinds, suffixes, strict=True):
                pixels = noise(10 * s + k, 3) if kind == kinds[0] else white(lines(k))
                put(root / layout.format(split=split, kind=kind) / f"{10 * s + k}_15{suffix}", pixels)
    return root


FILES = {each.__name__: each for each in (drive, chase_db1, crackforest, deepcrack, isbi2012, massachusetts_roads)}
"""What writes the files of each dataset, by its name."""
