"""Items of one size become a batch; of several, two are named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import default_collate

from smp_feedback.data.items import item_name
from smp_feedback.data.one_size import IN_ORDER, IN_TRAINING, several_sizes
from smp_feedback.errors import InvalidInput


class Together:
    """Collates items (image, ..., index) of *dataset*, which has their names.

    Args:
        dataset: Whose items, for their names.
        training: Whether windows may be cut from its images, of one size (``data.crop``).

    >>> import torch
    >>> items = [(torch.zeros(3, side, 4), torch.tensor(0), k) for k, side in enumerate((4, 6))]
    >>> Together([], training=True)(items)
    Traceback (most recent call last):
    smp_feedback.errors.InvalidInput: images of several sizes make no batch, such as 4 x 4 (item 0) and 6 x 4 (item 1...
    """

    def __init__(self, dataset: object, *, training: bool) -> None:
        self.dataset, self.training = dataset, training

    def __call__(self, items: Sequence[tuple[Any, ...]]) -> Any:
        """The batch.

        Raises:
            InvalidInput: If two items differ in size, in channels or in what they are, naming both.
        """
        first = items[0]
        for item in items[1:]:
            for one, other in zip(first, item, strict=True):
                if isinstance(one, Tensor) and isinstance(other, Tensor) and one.shape != other.shape:
                    raise InvalidInput(self._differ(first[-1], one.shape, item[-1], other.shape))
        return default_collate([*items])

    def _differ(self, a: int, one: Sequence[int], b: int, other: Sequence[int]) -> str:
        names = item_name(self.dataset, a), item_name(self.dataset, b)
        if len(one) >= 2 and len(one) == len(other) and one[-2:] != other[-2:]:
            two = (tuple(one[-2:]), names[0]), (tuple(other[-2:]), names[1])
            return several_sizes(*two, IN_TRAINING if self.training else IN_ORDER)
        if len(one) == len(other) == 3:
            what = f"{names[0]} has {one[0]} channels and {names[1]} has {other[0]}"
            return f"{what}, and a batch takes one number of them: let all files have the same bands."
        return f"{names[0]} is of shape {tuple(one)} and {names[1]} of {tuple(other)}: expected items of one shape."
