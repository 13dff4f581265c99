"""What stands between an image of a dataset and a model: the normalisation that the model was trained with."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from torch import Tensor, nn

from smp_feedback.config.data import DataConfig
from smp_feedback.data.items import beyond_unit, inherited, parts_of
from smp_feedback.errors import InvalidInput
from smp_feedback.models.normalisation import given_config

Feed = Callable[[Tensor], Tensor]
"""Of images (B, C, H, W), as a dataset gives them, to what a model is shown."""


def feeding(model: nn.Module, dataset: object) -> Feed:
    """How images of *dataset* are shown to *model*: normalised, once, where they are not yet.

    A dataset says that its images are in [0, 1] by ``normalised = False``, as all of ours do, also behind wrappers that
    keep it as ``.dataset``. What says nothing of itself, such as a list of tensors, is shown as it is.

    Args:
        model: Any; see :func:`smp_feedback.models.normalisation.given_config`.
        dataset: What the images are from.

    Warns:
        UserWarning: If the normalisation is one that nobody said, but that is assumed; or, at the first images, as
            :func:`check_first` does, which raises, too.

    >>> import torch
    >>> from smp_feedback.data import Shapes
    >>> model = nn.Conv2d(1, 2, 1)
    >>> model.data_config = DataConfig(mean=(0.5,), std=(0.25,), channels=1)
    >>> images = torch.ones(1, 1, 2, 2)
    >>> feeding(model, Shapes(4))(images).unique(), feeding(model, [])(-images).unique()
    (tensor([2.]), tensor([-1.]))
    """
    config, unseen = config_for(model, dataset), [True]

    def feed(images: Tensor) -> Tensor:
        if unseen:
            unseen.clear()
            check_first(model, dataset, images)
        return config.normalise(images)

    return feed


def check_first(model: nn.Module, dataset: object, images: Tensor) -> None:
    """The first *images* that *model* is shown of *dataset* are what that says of them; on a device, this waits for it.

    Raises:
        InvalidInput: If they are said to be in [0, 1], and are not: something between has normalised them, and *model*
            would again.

    Warns:
        UserWarning: If nothing is said of them, they are in [0, 1], and *model* was told of a normalisation.
    """
    config, assumed = given_config(model)
    if config.mean is None or not images.is_floating_point() or not images.numel():
        return
    wrong = beyond_unit(images)
    if is_raw(dataset):
        if wrong:
            raise InvalidInput(
                f"{wrong} The dataset says that its images are raw (normalised = False), and the model normalises "
                "them: what does so before, around a dataset, says normalised = True of itself."
            )
    elif not assumed and wrong is None and inherited(dataset, "normalised") is None:
        warnings.warn(
            "The images are in [0, 1], as if not yet normalised, and are shown as they are, where the model expects "
            f"{config.normalisation}: their {type(dataset).__name__} does not say. Let it, or a class around it, have "
            "normalised = False to have them normalised, or True if they are.",
            UserWarning,
            stacklevel=3,
        )


def config_for(model: nn.Module, dataset: object) -> DataConfig:
    """The data config of *model*; for images that are normalised, or that say nothing, one that leaves them."""
    if not is_raw(dataset):
        return DataConfig()
    config, assumed = given_config(model)
    if assumed and config.mean is not None:
        warnings.warn(
            f"This {type(model).__name__} does not say how its images were normalised: taken are those of its encoder, "
            f"{config.normalisation}. Say otherwise by model.data_config = smp_feedback.DataConfig(mean=..., std=...); "
            "DataConfig() shows images as they are.",
            UserWarning,
            stacklevel=2,
        )
    return config


def is_raw(dataset: object) -> bool:
    """Whether *dataset* says that its images are in [0, 1], not yet normalised; also of parts that are put together.

    Raises:
        InvalidInput: If some of the parts say so, and others do not.
    """
    while dataset is not None and not hasattr(dataset, "normalised"):
        if parts := parts_of(dataset):
            said = {is_raw(part) for part in parts}
            if len(said) > 1:
                raise InvalidInput(
                    "Datasets that give images in [0, 1] (normalised = False) are put together with others that do not "
                    "say so: expected images of one kind."
                )
            return said.pop()
        dataset = getattr(dataset, "dataset", None)
    return getattr(dataset, "normalised", None) is False
