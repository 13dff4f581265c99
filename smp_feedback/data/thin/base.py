"""What the published sets of thin structures share: two classes, files that have to be there, a fixed split."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from smp_feedback.checks import check_choice
from smp_feedback.config.data import MaskValues
from smp_feedback.data.augment import Augmentation
from smp_feedback.data.files import Root, Size, absent, needed, some
from smp_feedback.data.folder import MaskFolder
from smp_feedback.data.folders.pairing import Found
from smp_feedback.data.seeding import SPLITS
from smp_feedback.errors import InvalidValue

IGNORED = 255
Numbers = Mapping[str, Sequence[int]]
BLACK, WHITE, ONE = "#000000", "#ffffff", "#010101"  # ONE is the white of a file of one bit


class ThinFolder(MaskFolder):
    """Images with masks that are black and, where the structure is, white; 255 among the labels is ignored.

    Args:
        split: ``train``, ``val`` or ``test``.
        root: The folder that holds `layout`.
        size, seed, count, transform, channels: See `MaskFolder`. A *size* below that of the files thins what is thin:
            train on crops (``crop=`` of the command line, or a transform) and leave *size* None.

    Raises:
        InvalidValue: If a file is missing, with its path and the layout.
    """

    dataset: ClassVar[str]
    structure: ClassVar[str]
    layout: ClassVar[str]

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
    ) -> None:
        check_choice("split", split, SPLITS)
        classes = ("background", self.structure)
        super().__init__(
            *(needed(self.dataset, root, self.layout), split),
            classes=classes,
            ignore_index=IGNORED,
            colours={classes[0]: BLACK, classes[1]: [WHITE, ONE]},
            size=size,
            seed=seed,
            count=count,
            transform=transform,
            channels=channels,
        )

    @property
    def mask_values(self) -> MaskValues:
        """Black and white."""
        return 0, 255


class NumberedFolder(ThinFolder):
    """Files whose names are numbers, all of which a split has to have."""

    numbers: ClassVar[Numbers]

    def find(self, root: Path, split: str, images: str, masks: str) -> Found:
        """The files of the split's numbers, in order."""
        files = [each for number in self.numbers[split] for each in self.files(root, split, number)]
        check_there([path for each in files for path in each], self.layout)
        return Found([(each[0], each[1]) for each in files])

    @abstractmethod
    def files(self, root: Path, split: str, number: int) -> Sequence[tuple[Path, ...]]:
        """Of each image of a number: itself, its mask, and what else has to be there."""


def check_there(paths: Sequence[Path], layout: str) -> None:
    """All of *paths* are files.

    Raises:
        InvalidValue: Naming the first that are not, and the *layout*.
    """
    missing = [path for path in paths if not path.is_file()]
    if not missing:
        return
    folder = missing[0].parent
    why = absent(folder) if not folder.is_dir() else f"missing there: {some([path.name for path in missing])}."
    raise InvalidValue(
        f"{missing[0]}: expected a file, as {len(paths) - len(missing)} of {len(paths)} are there; {why} "
        f"The published layout is {layout}."
    )
