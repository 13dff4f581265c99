"""An encoder that runs once per image, whose features the feedback is added to in every look."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from torch import Tensor

from smp_feedback.errors import SurgeryError
from smp_feedback.ops.maps import Size, resize, size_of
from smp_feedback.surgery.after_module import as_laid_out, grid_on, prefixed
from smp_feedback.surgery.extension import Extension
from smp_feedback.surgery.feature_layout import Layout
from smp_feedback.surgery.feature_tree import put_together, taken_apart
from smp_feedback.surgery.step_context import StepContext, current_step


class Level(NamedTuple):
    """A feature that the feedback is added to.

    Attributes:
        number: Which of the encoder's tensors it is.
        layout: How it is laid out.
    """

    number: int
    layout: Layout

    def grid(self, features: tuple[Tensor, ...], size: Size) -> Size:
        """Its height and width, among the *features* of an image of *size*."""
        return grid_on(self.layout, features[self.number], size)


class EncodesOnce(Extension):
    """An encoder that, in a look, gives what it gave for the image, and the feedback in what the decoder reads."""

    fed_form: Any  # how its features lie in what it gives
    fed_levels: tuple[Level, ...]  # that hear, the finest first, each by the reader of its number

    def features_once(self, image: Tensor) -> tuple[Tensor, ...]:
        """Its features, one by one.

        Raises:
            SurgeryError: If they lie otherwise than when the model was made.
        """
        form, features = taken_apart(super().forward(image), image)
        if form != self.fed_form:
            raise SurgeryError(
                "The encoder gives its features in another form than when the model was made, so the feedback is not "
                "added to them; expected the same lists, tuples and dicts for every image."
            )
        return features

    def forward(self, image: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As ever outside a loop; in a look, its features with the feedback."""
        step = current_step()
        if step is None:
            return super().forward(image, *args, **kwargs)
        features = step.once.stages if image is step.once.image else ()
        fed = self._fed(step, features or self.features_once(image), size_of(image))
        return put_together(self.fed_form, fed, image)

    def _fed(self, step: StepContext, features: tuple[Tensor, ...], size: Size) -> list[Tensor]:
        """*features* of an image of *size*; to each level the feedback is added, resized from the level before."""
        fed, u = list(features), step.feedback
        for level, reader in zip(self.fed_levels, step.readers, strict=True):
            u = resize(u, level.grid(features, size))
            added = as_laid_out(level.layout, cast(Tensor, reader(u)))
            fed[level.number] = fed[level.number] + prefixed(level.layout, added)
        return fed
