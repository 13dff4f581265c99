"""Folders of tiny images and masks, by what their masks hold."""

from __future__ import annotations

import numpy as np
from PIL import Image

CLASSES = ["ground", "tree", "house"]
OPTIONS = {"images": "{split}", "masks": "{split}annot", "classes": CLASSES}


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def picture(seed, size=(6, 8)):
    """An image whose smallest value is 10 and whose largest is 240."""
    image = np.random.default_rng(seed).integers(10, 241, (*size, 3)).astype(np.uint8)
    image.flat[:2] = 10, 240
    return image


def mask(*labels, size=(6, 8)):
    """Labels in equal parts, in rows."""
    parts = np.repeat(np.array(labels, np.uint8), -(-size[0] * size[1] // len(labels)))
    return parts[: size[0] * size[1]].reshape(size)


def folder(root, **splits):
    """``train=[mask, ...]`` and so on as ``root/train/0.png`` and ``root/trainannot/0.png``; returns *root*."""
    for k, (split, masks) in enumerate(splits.items()):
        for i, labels in enumerate(masks):
            save(root / split / f"{i}.png", picture(100 * k + i, labels.shape))
            save(root / f"{split}annot" / f"{i}.png", labels)
    return root
