"""Datasets of (image, target), by name: drawn on the fly or read from files; and what may happen to their images.

Every item is an image, float32 (C, H, W) in [0, 1], and a mask, int64 (H, W), or (classes, H, W) of 0 and 1 where
several may hold for a pixel, or a label, an int64 scalar; every dataset says what its labels mean in ``classes``, which
label to leave out of losses and scores in ``ignore_index``, and what an item is called in ``name(index)``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
