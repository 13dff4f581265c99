"""Triplets whose distorted images lie in files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from smp_feedback.data.augment import Augmentation, as_transform, augmented, resize
from smp_feedback.data.files import as_path, by, some
from smp_feedback.data.folders.finding import find_images
from smp_feedback.data.images.reader import ImageReader, as_unit, head_of
from smp_feedback.data.items import Sample, in_unit, inherited, item_name
from smp_feedback.data.triplets import Triplet, TripletDataset
from smp_feedback.errors import InvalidInput, InvalidValue


class StoredTriplets(TripletDataset):
    """Labelled images, and for each a distorted one in a file of the same stem: ``a/street.jpg``, ``b/street.png``.

    Files are looked for in *folder* and all folders below it. Where *dataset* resizes its images, distorted ones of the
    size of the clean file are resized alike. Augmentation is given here, not to *dataset*: so that it meets distorted
    image, clean image and mask as one.

    Args:
        dataset: Map-style, with items (image, mask), named by their files, and without random augmentation.
        folder: Where the distorted images are, in any format that `ImageReader` reads.
        transform: A name of `augment.AUGMENTATIONS`, or a callable such as ``v2.RandomHorizontalFlip()``, called
            with two ``tv_tensors.Image``, float32 in [0, 1], and a ``tv_tensors.Mask``, to return all three.
        images: How the distorted images are read; None is as *dataset* reads its own, where it says so.

    Attributes:
        files: The distorted images, in the order of *dataset*.

    Raises:
        InvalidValue: If the folder is missing, an image has no partner there, more than one, or one of another image.
        InvalidInput: On access, naming both files: if a distorted image cannot be read, or has another size or other
            channels than the clean one.
    """

    def __init__(
        self,
        dataset: Dataset[Sample],
        folder: str | Path,
        transform: Augmentation = None,
        *,
        images: ImageReader | None = None,
    ) -> None:
        super().__init__(dataset)
        own = inherited(dataset, "images")
        self.images = images or (own if isinstance(own, ImageReader) else ImageReader())
        self.folder, self.transform = as_path("folder", folder), as_transform(transform)
        self.files = self._partners()

    def triplet(self, index: int) -> Triplet:
        """Item *index*, augmented as one."""
        clean, target = self.dataset[index][:2]
        distorted, clean, target = augmented(self.transform, self._distorted(index, clean), clean, target)
        return in_unit(distorted, str(self.files[index])), in_unit(clean, self.name(index)), target

    def _distorted(self, index: int, clean: Tensor) -> Tensor:
        path, size = self.files[index], (clean.shape[-2], clean.shape[-1])
        image = self.images.read(path)
        if image.shape[-2:] != clean.shape[-2:]:
            self._check_size(path, image, index, clean)
            image = resize(image, size)
        if len(image) != len(clean):
            raise InvalidInput(
                f"{path} has {len(image)} channels, the image {self.name(index)} has {len(clean)}: expected as many."
            )
        return as_unit(image).to(clean)

    def _check_size(self, path: Path, image: Tensor, index: int, clean: Tensor) -> None:
        """Another size than the clean image's is that of its file, which was resized."""
        clean_file, wanted = Path(self.name(index)), (clean.shape[-2], clean.shape[-1])
        if inherited(self.dataset, "size") is not None and clean_file.is_file():
            wanted = head_of(clean_file).size
        if tuple(image.shape[-2:]) != wanted:
            raise InvalidInput(
                f"{path} has {by(image.shape[-2:])} pixels, the clean image {clean_file} has {by(wanted)}; expected "
                "the same size."
            )

    def _partners(self) -> list[Path]:
        """The one file of each image's stem."""
        if not self.folder.is_dir():
            raise InvalidValue(f"{self.folder}: expected the folder of the distorted images; it does not exist.")
        there: defaultdict[str, list[Path]] = defaultdict(list)
        for path in find_images(self.folder)[0]:
            there[path.stem].append(path)
        stems = [Path(item_name(self.dataset, i)).stem for i in range(len(self))]
        self._check_stems(stems, there)
        return [there[stem][0] for stem in stems]

    def _check_stems(self, stems: list[str], there: Mapping[str, list[Path]]) -> None:
        """Each of *stems* is there once, and another's."""
        if missing := [stem for stem in stems if stem not in there]:
            raise InvalidValue(
                f"{self.folder}: expected a distorted image of the stem of each clean one, {len(missing)} of "
                f"{len(stems)} are missing: {some(missing)}."
            )
        if alike := [stem for stem, count in Counter(stems).items() if count > 1]:
            raise InvalidValue(f"{self.folder}: expected clean images of different stems, several are {some(alike)}.")
        if twice := [stem for stem in stems if len(there[stem]) > 1]:
            raise InvalidValue(f"{self.folder}: expected one image of each stem, there are several of {some(twice)}.")
