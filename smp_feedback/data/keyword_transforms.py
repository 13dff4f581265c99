"""Transforms that are called by keyword, as Albumentations' are: NumPy arrays in, a dictionary of them back."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from smp_feedback.errors import InvalidType, InvalidValue

LIBRARY = "albumentations"
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def takes_keywords(transform: object) -> bool:
    """Whether *transform* is Albumentations', or takes nothing but keywords; ``*args, force=False, **data``, too.

    >>> takes_keywords(lambda *, image, mask: None), takes_keywords(lambda image, mask: None)
    (True, False)
    """
    if any(kind.__module__.partition(".")[0] == LIBRARY for kind in type(transform).__mro__):
        return True
    try:
        kinds = {one.kind for one in inspect.signature(cast("Callable[..., Any]", transform)).parameters.values()}
    except (TypeError, ValueError):
        return False
    if not kinds or kinds & {*POSITIONAL}:
        return False
    named = {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}  # torch's modules have *args, **kwargs
    return inspect.Parameter.VAR_POSITIONAL not in kinds or named <= kinds


class ByKeyword:
    """Calls *transform* as ``transform(image=..., mask=...)`` and takes its dictionary apart, for `augmented`.

    It is handed images (H, W, C), float32 in [0, 1], and the mask (H, W), or (H, W, C) where a class has a mask of its
    own, in float32: so a label that was interpolated is told from one that was not, and a gap may be filled with any.
    Arrays and tensors, as ``ToTensorV2`` makes them, are taken back. What it draws is drawn from torch's generator:
    a function of seed, epoch and item in training, as for all others. Several images of one item are drawn alike.

    Args:
        transform: Such as ``albumentations.Compose([...])``.

    >>> mirrored = ByKeyword(lambda *, image, mask: {"image": image[:, ::-1], "mask": mask[:, ::-1]})
    >>> image, mask = mirrored(tv_tensors.Image(torch.rand(3, 1, 2)), tv_tensors.Mask(torch.tensor([[0, 4]])))
    >>> image.shape, mask
    (torch.Size([3, 1, 2]), Mask([[4., 0.]]))
    """

    def __init__(self, transform: Callable[..., Any]) -> None:
        self.transform = transform

    def __repr__(self) -> str:
        return repr(self.transform)

    def __call__(self, *parts: Tensor) -> Any:
        """Images, and their mask if there is one, by keyword."""
        masks = [part for part in parts if isinstance(part, tv_tensors.Mask)]
        images = [part for part in parts if not isinstance(part, tv_tensors.Mask)]
        with_mask = {"mask": _outside(masks[-1].float())} if masks else {}
        seed = int(torch.randint(2**31 - 1, ()))
        answers = [self._answer(seed, image=_outside(image), **with_mask) for image in images]
        back: list[Tensor] = [
            tv_tensors.Image(_inside(answer["image"], image)) for answer, image in zip(answers, images, strict=True)
        ]
        if masks:
            back.append(tv_tensors.Mask(_inside(answers[-1]["mask"], masks[-1])))
        return back[0] if len(back) == 1 else tuple(back)

    def _answer(self, seed: int, **arrays: Any) -> Mapping[str, Any]:
        """What it answers when all that it may draw from is seeded; outside, nobody notices."""
        before = np.random.get_state(), random.getstate()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            getattr(self.transform, "set_random_seed", lambda _: None)(seed)  # a generator of its own
            try:
                answer = self.transform(**{name: array.copy() for name, array in arrays.items()})
            finally:
                np.random.set_state(before[0])
                random.setstate(before[1])
        if not isinstance(answer, Mapping) or not arrays.keys() <= answer.keys():
            found = sorted(answer) if isinstance(answer, Mapping) else type(answer).__name__
            name = f"transform={' '.join(repr(self).split()):.80}"
            raise InvalidType(f"{name} gave {found}: expected a dictionary with {sorted(arrays)}.")
        return answer


def _outside(part: Tensor) -> np.ndarray[Any, Any]:
    """(C, H, W) as an array (H, W, C); (H, W) as it is."""
    plain = part.as_subclass(Tensor)
    return np.ascontiguousarray((plain.permute(1, 2, 0) if plain.ndim == 3 else plain).numpy())


def _inside(answer: Any, like: Tensor) -> Tensor:
    """An answer as *like* is laid out: channels first, and as many dimensions; a channel may have got lost."""
    if not isinstance(answer, (np.ndarray, Tensor)):
        raise InvalidType(f"transform gave a {type(answer).__name__}: expected arrays or tensors of image and mask.")
    first = isinstance(answer, Tensor) and isinstance(like, tv_tensors.Image)  # as ToTensorV2 has it
    part = answer.as_subclass(Tensor) if isinstance(answer, Tensor) else torch.from_numpy(np.ascontiguousarray(answer))
    if part.ndim == 2 and like.ndim == 3:
        return part[None]
    if part.ndim == 3 and like.ndim == 2:
        one = next((axis for axis in (2, 0) if part.shape[axis] == 1), None)
        if one is None:
            raise InvalidValue(f"transform gave a mask of shape {tuple(part.shape)}: expected (H, W).")
        return part.squeeze(one)
    if part.ndim != 3 or first:
        return part
    transposed = isinstance(answer, Tensor) and part.shape[0] == like.shape[0] != part.shape[2]
    return part if transposed else part.permute(2, 0, 1)
