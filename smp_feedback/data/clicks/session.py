"""A person and one image: click, look, click again, take one back."""

from __future__ import annotations

from operator import index
from typing import NamedTuple

import torch
from torch import Tensor, nn

from smp_feedback.checks import check_bool
from smp_feedback.config.clicks import ClickConfig
from smp_feedback.data.clicks.discs import NEGATIVE, POSITIVE
from smp_feedback.data.clicks.listening import Heard, how_of, listen
from smp_feedback.data.clicks.user import no_clicks
from smp_feedback.data.items import in_unit
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.models.normalisation import given_config
from smp_feedback.ops.maps import Size, size_of
from smp_feedback.surgery.extension import evaluating


class Heeded(NamedTuple):
    """All clicks up to one, and what the model made of them; None before the first."""

    clicks: Tensor
    heard: Heard | None


class Clicks:
    """A session on one image: ``click`` gives the mask of the object, ``undo`` takes the last click back.

    The model keeps nothing: what goes on from click to click is in the session, of which a model can have many.

    Args:
        model: That was trained to listen to clicks, by ``smp-feedback clicks train``.
        image: (C, H, W) in [0, 1]; it is shown to the model as that was trained.
        prior: (H, W), bool or in [0, 1], the mask to begin with: another model's, or that of the last frame. For a
            model that reads a mask.
        how: What the model is shown of clicks; None is as it was trained.

    Raises:
        InvalidType: If *how* is no ClickConfig.
        InvalidValue: If *model* does not listen to clicks, or there is a *prior* and it reads no mask.
        InvalidInput: If *image* or *prior* has another shape, or holds what is not in [0, 1].

    >>> import smp_feedback as smpf
    >>> model = smpf.create("PlainConv", in_channels=5, classes=1, feedback="anytime")
    >>> session = Clicks(model, torch.rand(3, 24, 32), how=ClickConfig())
    >>> mask = session.click(12, 16)
    >>> mask.shape, mask.dtype, len(session)
    (torch.Size([24, 32]), torch.bool, 1)
    >>> session.undo().any(), len(session)
    (tensor(False), 0)
    """

    def __init__(
        self, model: nn.Module, image: Tensor, *, prior: Tensor | None = None, how: ClickConfig | None = None
    ) -> None:
        if not isinstance(image, Tensor) or image.ndim != 3 or not image.is_floating_point() or not image.numel():
            shape = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise InvalidInput(f"image of shape {shape}: expected one image, (C, H, W), floating point in [0, 1].")
        in_unit(image, "image")
        self.how = how_of(model, how, reads_mask=prior is not None)
        if prior is not None:
            check_prior(prior, size_of(image))
        self.model, like = model, next(model.parameters())
        own = image[None].to(like, copy=True)  # a camera fills its buffer anew
        self.image = given_config(model).config.normalise(own)
        self.prior = None if prior is None else prior[None].to(like, copy=True)
        self._heeded = [Heeded(no_clicks(1, like.device), None)]

    def click(self, y: int, x: int, positive: bool = True) -> Tensor:
        """Click on row *y*, column *x*: here is the object, or, if not *positive*, here it is not; returns `mask`.

        Raises:
            InvalidType: If they are no whole numbers, or *positive* no bool.
            InvalidValue: If that is not in the image.
        """
        height, width = size_of(self.image)
        for name, place in (("y", y), ("x", x)):
            if isinstance(place, bool) or not hasattr(place, "__index__"):
                raise InvalidType(
                    f"click: {name}={place!r} ({type(place).__name__}): expected a whole number, a pixel."
                )
        y, x = index(y), index(x)
        check_bool("positive", positive)
        if not (0 <= y < height and 0 <= x < width):
            raise InvalidValue(f"click({y}, {x}): expected row 0 to {height - 1} and column 0 to {width - 1}.")
        clicks, heard = self._heeded[-1]
        one = clicks.new_tensor([[[y, x, POSITIVE if positive else NEGATIVE]]])
        clicks = torch.cat([clicks, one], 1)
        before, mask = (None, self.prior) if heard is None else (heard.step, heard.chance)
        with evaluating(self.model), torch.inference_mode():
            now = listen(self.model, self.image, clicks, self.how, before=before, mask=mask)
        self._heeded.append(Heeded(clicks, now))
        return self.mask

    def undo(self) -> Tensor:
        """As if the last click had not been; returns `mask`.

        Raises:
            InvalidValue: If there is none.
        """
        if len(self._heeded) == 1:
            raise InvalidValue("undo: there is no click to take back.")
        self._heeded.pop()
        return self.mask

    @property
    def chance(self) -> Tensor:
        """How probable the object is, (H, W)."""
        heard = self._heeded[-1].heard
        if heard is not None:
            return heard.chance[0]
        return self.image.new_zeros(size_of(self.image)) if self.prior is None else self.prior[0]

    @property
    def mask(self) -> Tensor:
        """Where the object is, bool (H, W); before the first click, the prior."""
        return self.chance > 0.5

    @property
    def clicks(self) -> list[tuple[int, int, bool]]:
        """Row, column, and whether it is positive, of each click."""
        return [(y, x, sign == POSITIVE) for y, x, sign in self._heeded[-1].clicks[0].tolist()]

    def __len__(self) -> int:
        return len(self._heeded) - 1


def check_prior(prior: object, size: Size) -> None:
    """*prior* is a mask for an image of *size*.

    Raises:
        InvalidType, InvalidInput: If it is none: of another shape, or with labels or bytes in the place of shares.
    """
    if not isinstance(prior, Tensor):
        raise InvalidType(f"prior={prior!r:.80} ({type(prior).__name__}): expected a tensor (H, W), bool or in [0, 1].")
    if prior.shape != size:
        raise InvalidInput(f"prior of shape {tuple(prior.shape)}: expected {size}, as the image has.")
    if prior.numel() and not 0 <= float(prior.min()) <= float(prior.max()) <= 1:
        raise InvalidInput(
            f"prior has values {float(prior.min()):g} to {float(prior.max()):g}: expected bool, or the share of the "
            "object in [0, 1]; of a label map write prior == label."
        )
