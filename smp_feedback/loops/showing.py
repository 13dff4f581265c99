"""What a model shows a person: its looks in a picture or a film, and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from smp_feedback.errors import InvalidInput, InvalidType
from smp_feedback.loops.above import above
from smp_feedback.loops.call import Looks
from smp_feedback.loops.summary import ModelSummary, summary_of
from smp_feedback.surgery.extension import ClosedLoop

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Shows(ClosedLoop):
    """What every looping model offers to somebody who wants to see it at work."""

    def show(
        self,
        image: Tensor,
        steps: Looks | None = None,
        *,
        looks: Sequence[int] | None = None,
        names: Sequence[str] | None = None,
    ) -> Figure:
        """Draw how the model comes to its answer: the image, the answer after some looks, and what changed.

        The answer lies over the image, each class in a colour; class 0, the background, shows the image. Below each
        answer stands what changed since the one drawn before it: pixels in the colour of what they became, black where
        they became background. No truth is needed. The model is left as it was, and answers in evaluation mode.

        What the looks are: of the recurrent loop its own, from 1; of the score and the repair loop what they make of
        the base's answer, which comes first as ``base``; of the restoration loop its passes, with the image that was
        segmented above each answer. Of a classifier each look is a bar chart of its five most probable classes.

        Args:
            image: One image, (C, H, W) or (1, C, H, W), as ``model(image)`` takes it: normalised, on any device. For
                the picture the normalisation of the model's ``data_config`` is undone; values outside [0, 1] after
                that are stretched, which the title says. Of more than three channels the first three are drawn.
            steps: As in :meth:`forward`.
            looks: Which looks are drawn, such as ``[1, 8, 64]``, and 0 for the base's answer; None draws all of few,
                else six: more of the early ones, as far as something changes, and the last.
            names: Of the classes, one each; None is those that the model keeps (``data_config.classes``), else
                ``class 0``, ``class 1``, ...

        Returns:
            A figure that belongs to nobody's pyplot: ``savefig`` writes it, a notebook shows it.

        Raises:
            InvalidInput: If *image* is several, or none that the model reads.
            InvalidType, InvalidValue: If *steps*, *looks* or *names* cannot be meant, before any work.
            MissingExtra: If matplotlib is not installed (extra ``plot``).

        >>> import torch, smp_feedback as smpf
        >>> model = smpf.create("PlainConv", classes=2, feedback="anytime")
        >>> figure = model.show(torch.rand(3, 16, 16), steps=2)
        >>> [axes.get_title() for axes in figure.axes if axes.get_title()]
        ['image', 'look 1', 'look 2', '0 % changed']
        """
        return cast("Figure", above("show")(self, image, steps, looks=looks, names=names))

    def animate(
        self,
        image: Tensor,
        path: str | Path,
        steps: Looks | None = None,
        *,
        every: int | None = None,
        truth: Tensor | None = None,
        beside: Mapping[str, Tensor] | None = None,
        side: int = 360,
    ) -> Path:
        """Write how the model comes to its answer as a moving picture; see :func:`smp_feedback.plotting.animate`.

        Args:
            image: One image, as :meth:`show` takes it.
            path: A ``.gif``, ``.webp`` or ``.mp4`` (extra ``video``).
            steps: As in :meth:`forward`; the film ends with the look after which nothing changes.
            every: Looks from frame to frame, as there.
            truth: Labels (H, W), as there.
            beside: Other answers, as there.
            side: Of the picture, in pixels, as there.

        Returns:
            *path*.

        Raises:
            As :meth:`show`; :class:`~smp_feedback.errors.InvalidInput` of a classifier, too.

        >>> import tempfile, torch, smp_feedback as smpf
        >>> model = smpf.create("PlainConv", classes=2, feedback="anytime")
        >>> model.animate(torch.rand(3, 16, 16), Path(tempfile.mkdtemp()) / "answer.gif", steps=2).name
        'answer.gif'
        """
        looks = self._count_of(steps)
        how: dict[str, Any] = {"every": every, "truth": truth, "beside": beside, "side": side}
        return cast(Path, above("animate")(self, one_image(image), path, looks=looks, normalised=True, **how))

    def summary(self, image_size: tuple[int, int] | None = None) -> ModelSummary:
        """What the model is: its parts and their parameters, its loop, what is fed back and where.

        Args:
            image_size: (H, W) in pixels: multiply-adds for one image of that size are counted, too, of a plain
                forward pass, of one look and of all looks. Three passes of the model; None counts nothing.

        Raises:
            InvalidType, InvalidValue: If *image_size* is no pair of whole numbers >= 1.
            Besides: What the model raises for images of that size.

        >>> import smp_feedback as smpf
        >>> print(smpf.create("PlainConv", classes=2, feedback=True).summary())
        architecture  PlainConv
        loop          recurrent
        looks (T)     4
        tau           1 look
        dynamics      decay
        projection    softmax
        fed back      2 channels of the state
        enters        beside the image (input)
        <BLANKLINE>
        part      parameters  trainable
        convs         19,392     19,392
        head              66         66
        feedback         640        640
        all           20,098     20,098
        """
        return summary_of(self, image_size)

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def _count_of(self, steps: Looks | None) -> Looks:
        return cast(Looks, cast(Any, self)._count(None) if steps is None else steps)


def one_image(image: object) -> Tensor:
    """*image* (C, H, W) of one that is given so or as a batch of one.

    Raises:
        InvalidType, InvalidInput: If it is no tensor, or no single image, with what to write.

    >>> import torch
    >>> one_image(torch.zeros(1, 3, 4, 4)).shape
    torch.Size([3, 4, 4])
    """
    if not isinstance(image, Tensor):
        raise InvalidType(
            f"image is a {type(image).__name__}: expected a tensor, (C, H, W) or (1, C, H, W); model.preprocess(image) "
            "makes one of a photograph."
        )
    if image.ndim == 4 and len(image) != 1:
        raise InvalidInput(
            f"image of shape {tuple(image.shape)}: one image is shown at a time; write image[0] for the first of them."
        )
    if image.ndim not in (3, 4):
        raise InvalidInput(f"image of shape {tuple(image.shape)}: expected one image, (C, H, W) or (1, C, H, W).")
    return image[0] if image.ndim == 4 else image
