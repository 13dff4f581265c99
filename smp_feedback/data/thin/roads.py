"""Roads from above: the Massachusetts roads dataset."""

from __future__ import annotations

from pathlib import Path

from smp_feedback.data.folders.pairing import Found, find_samples
from smp_feedback.data.thin.base import ThinFolder
from smp_feedback.errors import InvalidValue

LAYOUTS = (  # images, masks
    ("{split}/sat", "{split}/map"),
    ("tiff/{split}", "tiff/{split}_labels"),
    ("png/{split}", "png/{split}_labels"),
    ("{split}", "{split}_labels"),
)
FOLDERS = {"train": "train", "val": "valid", "test": "test"}


class MassachusettsRoads(ThinFolder):
    """Massachusetts roads: 1171 aerial images, 1500 x 1500 at 1 m a pixel (Mnih 2013, PhD thesis, Toronto).

    From https://www.cs.toronto.edu/~vmnih/data/; the images are MassGIS's, the roads OpenStreetMap's (ODbL): both want
    to be named. ``train/sat/*.tiff`` with ``train/map/*.tif``, and the same of ``valid`` and ``test``: the official
    split of 1108, 14 and 49, in which ``valid`` is our ``val``. Read, too, as it is passed on elsewhere:
    ``tiff/train`` with ``tiff/train_labels`` (or ``png/``), also with *root* at ``tiff`` itself. Nothing is ignored:
    some training images are white where there was no photograph, and have roads there.

    Args:
        split, root, size, seed, count, transform, channels: See `ThinFolder`.
    """

    dataset, structure = "massachusetts_roads", "road"
    layout = "train/, valid/ and test/ with sat/*.tiff and map/*.tif, or tiff/train and tiff/train_labels and so on"

    def find(self, root: Path, split: str, images: str, masks: str) -> Found:
        """The images of the split with their maps, in whichever layout there is."""
        folder = FOLDERS[split]
        there = [pair for pair in LAYOUTS if (root / pair[0].format(split=folder)).is_dir()]
        try:
            return find_samples(root, folder, *(there or LAYOUTS)[0])
        except InvalidValue as error:
            raise InvalidValue(f"{error} The published layout is {self.layout}.") from None
