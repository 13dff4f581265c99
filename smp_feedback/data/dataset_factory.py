"""Datasets, corruptions and augmentations by name; nothing heavy is imported before one is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smp_feedback.hookspecs import Register, hookimpl

if TYPE_CHECKING:
    from torch.utils.data import Dataset

DATA = "smp_feedback.data"
CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "gaussian_blur", "motion_blur"),
    *("jpeg", "brightness", "contrast", "occlusion", "rescaled_noise", "turbulence"),
)
FILMED = ("rain", "shimmer")  # which go on from frame to frame of a film
THIN = {
    "drive": "fundus:Drive",
    "chase_db1": "fundus:ChaseDb1",
    "crackforest": "cracks:CrackForest",
    "deepcrack": "cracks:DeepCrack",
    "isbi2012": "isbi2012:Isbi2012",
    "massachusetts_roads": "roads:MassachusettsRoads",
}
"""Published sets of thin structures."""
TORCHVISION = (
    *("CIFAR10", "CIFAR100", "DTD", "FGVCAircraft", "FashionMNIST", "Flowers102", "Food101"),
    *("GTSRB", "KMNIST", "MNIST", "OxfordIIITPet", "STL10", "SVHN", "USPS"),
)


@hookimpl
def register_datasets(register: Register) -> None:
    """The papers' synthetic tasks, ours, folders of files and outlines, published sets, and torchvision's."""
    register("polygons", f"{DATA}.synthetic.polygons:Polygons")
    register("circles", f"{DATA}.synthetic.polygons:Circles")
    register("shapes", f"{DATA}.synthetic.polygons:PolygonsAndCircles")
    register("one_polygon", f"{DATA}.synthetic.polygons:OnePolygon")
    for name in ("Mazes", "Connected", "Curves", "Vessels"):
        register(name.lower(), f"{DATA}.synthetic.{name.lower()}:{name}")
    register("moving", f"{DATA}.films.moving:MovingShapes")
    register("assemblies", f"{DATA}.synthetic.assemblies:Assemblies")
    register("instances", f"{DATA}.clicks.folder:instances")
    for name in ("coloured_shapes", "camvid", "folder", "cityscapes"):
        register(name, f"{DATA}.by_name:{name}")
    for name in ("Coco", "LabelMe", "Voc"):
        register(name.lower(), f"{DATA}.formats.{name.lower()}:{name}")
    for name, where in THIN.items():
        register(name, f"{DATA}.thin.{where}")
    for name in TORCHVISION:
        register(f"torchvision/{name}", f"{DATA}.classification:{name}")


@hookimpl
def register_corruptions(register: Register) -> None:
    """Noise, blur, compression, light, occlusion, turbulent air and weather."""
    for name in CORRUPTIONS:
        register(name, f"{DATA}.corruption.corruptions:{name}")
    for name in FILMED:
        register(name, f"{DATA}.corruption.weather:{name}")


AUGMENTATIONS = {
    "none": "no_augmentation",
    "flip": "flip",
    "flips": "flips",
    "crop_flip": "CropFlip",
    "colour": "colour",
}
"""Each by its name, and what makes it."""


@hookimpl
def register_augmentations(register: Register) -> None:
    """Mirrored, a part at the whole's size, and other light."""
    for name, make in AUGMENTATIONS.items():
        register(name, f"{DATA}.augment:{make}")


def open_dataset(name: str, split: str = "train", **options: Any) -> Dataset[Any]:
    """The dataset registered as *name*.

    Args:
        name: Such as ``polygons``, ``camvid`` or ``torchvision/MNIST``; ``smp_feedback.list_datasets()`` has all.
        split: ``train``, ``val`` or ``test``.
        **options: What the dataset takes: ``root`` (where its files are), ``size`` (side, or (H, W)), ``count`` (how
            many items), ``seed`` (which ones, in ``train``; ``val`` and ``test`` are the same for every seed),
            ``transform`` (augmentation, by name or as a callable), and its own.

    Returns:
        A map-style dataset of (image, target), with ``classes``, ``ignore_index`` and ``name(index)``.

    Raises:
        UnknownName: If no dataset is called *name*.
        UnknownKeyword: If the dataset does not take one of *options*.

    >>> data = open_dataset("polygons", "test", seed=3, count=2, size=32)
    >>> data.classes[:2], data[0][0].shape, data.name(0)
    (('background', 'triangle'), torch.Size([3, 32, 32]), 'polygons[0] of test')
    >>> open_dataset("polygons", sizes=32)
    Traceback (most recent call last):
    smp_feedback.errors.UnknownKeyword: polygons takes no 'sizes'. Did you mean 'size'?
    """
    from smp_feedback.data.strangers import open_of_stranger
    from smp_feedback.models.keywords import check_keywords
    from smp_feedback.registry.public import catalogue

    check_keywords(name, catalogue().datasets[name], options, open_ended=True)
    if not catalogue().datasets.entry(name).is_ours:
        others: Dataset[Any] = open_of_stranger(name, split, options)
        return others
    dataset: Dataset[Any] = catalogue().datasets.make(name, split, **options)
    return dataset
