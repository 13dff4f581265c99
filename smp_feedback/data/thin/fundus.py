"""Vessels of the retina, DRIVE and CHASE_DB1: what lies outside the camera's field of view is ignored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from smp_feedback.data.augment import Augmentation
from smp_feedback.data.files import Root, Size, by
from smp_feedback.data.masks.reader import MaskReader
from smp_feedback.data.thin.base import BLACK, IGNORED, ONE, WHITE, NumberedFolder, Numbers
from smp_feedback.errors import InvalidInput, InvalidValue

FIELD = MaskReader(classes=("outside", "inside"), colours={"outside": BLACK, "inside": [WHITE, ONE]})
DARKEST = 20 / 255  # grey levels: the border of a photograph is darker (JPEG leaves it below 10), the retina is not
SPECK = 5  # pixels, side of the squares whose mean is compared: one bright pixel in the black is no retina
IMAGE, MANUAL, FIELD_OF = "images/{:02}_{}.tif", "1st_manual/{:02}_manual1.gif", "mask/{:02}_{}_mask.gif"
OBSERVERS = {1: "1stHO", 2: "2ndHO"}


class Drive(NumberedFolder):
    """DRIVE: 40 photographs of the retina, 565 x 584 (Staal et al. 2004, IEEE Trans. Med. Imaging 23(4)).

    From https://drive.grand-challenge.org, with registration; for research and teaching, for those who have it from
    there alone: its files are not to be passed on. ``training/images/21_training.tif``,
    ``training/1st_manual/21_manual1.gif``, ``training/mask/21_training_mask.gif``, and the same of ``test`` (01 to 20,
    ``01_test.tif``). Images and masks of the official split; of its 20 training images the last four, 37 to 40, are
    ``val``. The test images' manual segmentations are in the older archive alone: without them ``test`` is refused.
    Scored is the first observer. What the masks of the field of view leave out is ignored (255).

    Args:
        split, root, size, seed, count, transform, channels: See `ThinFolder`.
    """

    dataset, structure = "drive", "vessel"
    layout = "training/ and test/ with images/21_training.tif, 1st_manual/21_manual1.gif and mask/21_training_mask.gif"
    numbers: ClassVar[Numbers] = {"train": range(21, 37), "val": range(37, 41), "test": range(1, 21)}

    def files(self, root: Path, split: str, number: int) -> Sequence[tuple[Path, ...]]:
        """A photograph, its vessels, and its field of view."""
        part = "test" if split == "test" else "training"
        return [tuple(root / part / name.format(number, part) for name in (IMAGE, MANUAL, FIELD_OF))]

    def labels(self, path: Path) -> Tensor:
        """The vessels at *path*, ignored outside the field of view."""
        part = path.parents[1]
        field = part / FIELD_OF.format(int(path.name.partition("_")[0]), part.name)
        return within(super().labels(path), path, FIELD.read(field), field)


class ChaseDb1(NumberedFolder):
    """CHASE_DB1: 28 photographs of both eyes of 14 children, 999 x 960 (Fraz et al. 2012, IEEE TBME 59(9)).

    From https://blogs.kingston.ac.uk/retinal/chasedb1/, whose page has the conditions. One folder: ``Image_01L.jpg``
    with ``Image_01L_1stHO.png`` and ``Image_01L_2ndHO.png``, the vessels as two observers saw them. As published, the
    first 20 images (children 1 to 10) are for training and the last 8 for the test; ``val`` is those of children 9 and
    10, so that no child is in two splits. There are no masks of the field of view: it is `field_of_view` of the image,
    and what lies outside is ignored (255).

    Args:
        split, root, size, seed, count, transform, channels: See `ThinFolder`.
        observer: Whose vessels, 1 or 2; scores are against the first, as others have them.
    """

    dataset, structure = "chase_db1", "vessel"
    layout = "Image_01L.jpg, Image_01L_1stHO.png and Image_01L_2ndHO.png up to Image_14R, in one folder"
    numbers: ClassVar[Numbers] = {"train": range(1, 9), "val": range(9, 11), "test": range(11, 15)}

    def __init__(
        self,
        split: str = "train",
        *,
        root: Root = None,
        size: Size = None,
        seed: int = 0,
        count: int | None = None,
        transform: Augmentation = None,
        channels: int | None = None,
        observer: int = 1,
    ) -> None:
        if observer not in OBSERVERS:
            raise InvalidValue(f"observer={observer!r}: expected 1 or 2, whose segmentations are published.")
        self.observer = OBSERVERS[observer]
        told = {"root": root, "size": size, "seed": seed, "count": count, "transform": transform}
        super().__init__(split, channels=channels, **told)  # type: ignore[arg-type]

    def files(self, root: Path, split: str, number: int) -> Sequence[tuple[Path, ...]]:
        """The left and the right eye of a child."""
        eyes = [f"Image_{number:02}{side}" for side in "LR"]
        return [(root / f"{eye}.jpg", root / f"{eye}_{self.observer}.png") for eye in eyes]

    def labels(self, path: Path) -> Tensor:
        """The vessels at *path*, ignored outside the field of view of their image."""
        image = path.with_name(f"{path.stem.removesuffix(f'_{self.observer}')}.jpg")
        return within(super().labels(path), path, field_of_view(self.images.read(image)), image)


def field_of_view(image: Tensor) -> Tensor:
    """Where a photograph (C, H, W), bytes or in [0, 1], shows the retina and not the black around it, bool (H, W).

    A pixel whose 5 x 5 neighbours are brighter than 20 of 255 in the mean of their brightest channel is bright. The
    field is convex, so inside are the pixels that lie between two bright ones of their row and of their column: dark
    vessels and the dark fovea, too.

    >>> image = torch.zeros(3, 20, 20)
    >>> image[0, 5:15, 3:17] = 0.6
    >>> image[0, 9:11, 8:12] = 0
    >>> int(field_of_view(image)[9:11, 8:12].sum()), bool(field_of_view(image)[0].any())
    (8, False)
    """
    brightest = image.amax(dim=0)
    if not brightest.is_floating_point():
        brightest = brightest / 255
    mean = torch.nn.functional.avg_pool2d(brightest[None], SPECK, 1, SPECK // 2)[0]  # black beyond the border, too
    bright = mean > DARKEST
    return _between(bright, 0) & _between(bright, 1)


def _between(bright: Tensor, dim: int) -> Tensor:
    """From the first to the last bright pixel along *dim*."""
    met, left = bright.cumsum(dim) > 0, bright.flip(dim).cumsum(dim).flip(dim) > 0
    return met & left


def within(vessels: Tensor, path: Path, field: Tensor, where: Path) -> Tensor:
    """*vessels*, the mask at *path*, ignored where the *field* of view, from the file *where*, is not.

    Raises:
        InvalidInput: If their sizes differ, naming both files.
    """
    if field.shape != vessels.shape:
        raise InvalidInput(
            f"{path} has {by(vessels.shape)} pixels, the field of view of {where} has {by(field.shape)}; expected the "
            "same size."
        )
    return vessels.masked_fill(field == 0, IGNORED)
