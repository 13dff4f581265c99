"""What there is of each kind, by name: built-ins, what plugins bring, and what a script registered."""

from __future__ import annotations

from smp_feedback.registry.public import catalogue


def list_architectures(pattern: str = "*") -> list[str]:
    """The architectures that match *pattern* (shell wildcards, case-insensitive).

    >>> list_architectures("deeplab*")
    ['DeepLabV3', 'DeepLabV3Plus']
    """
    return catalogue().architectures.names(pattern)


def list_cuts(pattern: str = "*") -> list[str]:
    """The classes of base models with a cut of their own that match *pattern* (shell wildcards, case-insensitive).

    >>> list_cuts("torchvision*lraspp*")
    ['torchvision.models.segmentation.lraspp.LRASPP']
    """
    return catalogue().cuts.names(pattern)


def list_loops(pattern: str = "*") -> list[str]:
    """The loops that match *pattern* (shell wildcards, case-insensitive).

    Used as ``create(..., feedback=name)``.

    >>> list_loops()
    ['recurrent', 'repair', 'restoration', 'score']
    """
    return catalogue().loops.names(pattern)


def list_dynamics(pattern: str = "*") -> list[str]:
    """The rules by which a state answers that match *pattern* (shell wildcards, case-insensitive).

    Used for ``Recurrent(dynamics=name)``.

    >>> list_dynamics("de*")
    ['decay']
    """
    return catalogue().dynamics.names(pattern)


def list_projections(pattern: str = "*") -> list[str]:
    """What of a state may be fed back: the projections that match *pattern* (shell wildcards, case-insensitive).

    Used for ``Recurrent(projection=name)``.

    >>> list_projections("s*")
    ['softmax', 'state']
    """
    return catalogue().projections.names(pattern)


def list_presets(pattern: str = "*") -> list[str]:
    """The loops to be had by a name of their own that match *pattern* (shell wildcards, case-insensitive).

    Used as ``create(..., feedback=name)``.

    >>> list_presets()
    ['anytime', 'film']
    """
    return catalogue().presets.names(pattern)


def list_restorers(pattern: str = "*") -> list[str]:
    """The networks that restore an image that match *pattern* (shell wildcards, case-insensitive).

    Used for ``Restoration(restorer=name)``.

    >>> list_restorers("u*")
    ['unet']
    """
    return catalogue().restorers.names(pattern)


def list_losses(pattern: str = "*") -> list[str]:
    """The losses that match *pattern* (shell wildcards, case-insensitive).

    Used for ``build_loss`` and ``--model.loss``.

    >>> list_losses("dice")
    ['dice']
    """
    return catalogue().losses.names(pattern)


def list_datasets(pattern: str = "*") -> list[str]:
    """The datasets that match *pattern* (shell wildcards, case-insensitive).

    Used for ``data.open_dataset``.

    >>> list_datasets("c*s")
    ['circles', 'cityscapes', 'coloured_shapes', 'curves']
    """
    return catalogue().datasets.names(pattern)


def list_corruptions(pattern: str = "*") -> list[str]:
    """The corruptions that match *pattern* (shell wildcards, case-insensitive).

    Used for ``data.Corrupted``.

    >>> list_corruptions("*blur")
    ['gaussian_blur', 'motion_blur']
    """
    return catalogue().corruptions.names(pattern)


def list_augmentations(pattern: str = "*") -> list[str]:
    """The augmentations that match *pattern* (shell wildcards, case-insensitive).

    Used for a dataset's ``transform=`` and ``--data.augment``.

    >>> list_augmentations("fl*")
    ['flip', 'flips']
    """
    return catalogue().augmentations.names(pattern)


def list_metrics(pattern: str = "*") -> list[str]:
    """The scores that are made of counts, or of distances that match *pattern* (shell wildcards, case-insensitive).

    Used as ``--monitor`` takes them.

    >>> list_metrics("p*")
    ['precision']
    """
    return catalogue().metrics.names(pattern)


def list_verbs(pattern: str = "*") -> list[str]:
    """The verbs of the command line that match *pattern* (shell wildcards, case-insensitive).

    >>> list_verbs("pl*")
    ['plot', 'plugins']
    """
    return catalogue().verbs.names(pattern)
