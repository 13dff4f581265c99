"""Pictures of a comparison at several sizes: what its models answer at each, and the loop at work on the largest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from smp_feedback.data import Corrupted, Sample
from smp_feedback.experiments.comparison.results import FEEDBACK, MODELS, Size, pixels
from smp_feedback.experiments.comparison.settings import ComparisonSettings, Condition
from smp_feedback.experiments.runs import TEST_SEED, held_out
from smp_feedback.ops.maps import masks_of
from smp_feedback.ops.reading import labels_of
from smp_feedback.plotting.animation import animate, answers_by_look
from smp_feedback.plotting.overlay import enlarged, laid_over, sheet, titled, wrong
from smp_feedback.plotting.pictures import fed
from smp_feedback.saving.files import replace_file
from smp_feedback.surgery.extension import evaluating

ACROSS, SIDE = 3, 180  # pictures in a row, and the pixels of one: their titles can be read on a phone
TRIED = 8  # images among which one that is solved is looked for
TWINS = tuple(reversed(MODELS[1:]))  # those that come closest to the loop first


class ShownSizes(NamedTuple):
    """What is pictured: models by name, of one training condition, and where to."""

    settings: ComparisonSettings
    condition: Condition
    models: Mapping[str, nn.Module]
    folder: Path

    @property
    def looks(self) -> list[int]:
        """About as many as in training, and the most."""
        every = self.settings.looks or [self.settings.trained_looks]
        usual = min(every, key=lambda t: abs(t - self.settings.trained_looks))
        return sorted({usual, max(every)})

    @property
    def sizes(self) -> list[Size]:
        """Smallest first."""
        given = self.settings.sizes or ()
        return sorted((size if isinstance(size, int) else (size[0], size[1]) for size in given), key=pixels)

    def images(self, size: Size, count: int) -> list[Sample]:
        """The first test images of a size."""
        test = Corrupted(
            held_out(self.settings, size), self.condition.corruption, self.condition.severity, seed=TEST_SEED
        )
        return [test[i] for i in range(min(count, len(test)))]

    def path(self, name: str) -> Path:
        """Of a file."""
        return self.folder / f"{name}-{str(self.condition).replace(':', '')}"


def size_pictures(shown: ShownSizes) -> dict[str, Path]:
    """An animation of the largest size, if there is a loop, and one picture for each size; by caption."""
    return {**_moving(shown), **dict(_at(shown, size) for size in shown.sizes)}


def _at(shown: ShownSizes, size: Size) -> tuple[str, Path]:
    """The first test image of *size*, the truth, and every answer."""
    image, truth = shown.images(size, 1)[0]
    nothing = torch.zeros_like(truth)
    panels = [
        ("image", enlarged(laid_over(image, nothing), side=SIDE)),
        titled(image, "truth", truth, truth, side=SIDE),
    ]
    panels += [titled(image, name, labels, truth, side=SIDE) for name, labels in _answers(shown, image).items()]
    picture = Image.fromarray(sheet(panels, ACROSS))
    path = shown.path(f"size-{_named(size, '-')}").with_suffix(".png")
    words = f"Size {_named(size)}{_under(shown)}: the first test image, and what the models of seed 0 answer."
    return f"{words} Vermilion is wrong.", replace_file(path, lambda draft: picture.save(draft, format="PNG"))


def _moving(shown: ShownSizes) -> dict[str, Path]:
    """The loop at work on a problem of the largest size; beside it the answer of the twin that comes closest."""
    if FEEDBACK not in shown.models:
        return {}
    loop, size, looks = shown.models[FEEDBACK], shown.sizes[-1], shown.looks[-1]
    images = shown.images(size, TRIED)
    solved = (pair for pair in images if not wrong(answers_by_look(loop, pair[0], looks)[-1], pair[1]).any())
    found = next(solved, None)
    image, truth = found or images[0]
    closest = next((name for name in TWINS if name in shown.models), None)
    beside = {} if closest is None else {closest: answer(shown.models[closest], image)}
    which = "the first test image that it solves" if found else "the first test image, which it does not solve"
    words = f"Size {_named(size)}{_under(shown)}, look by look: the feedback model of seed 0 at work on {which}"
    words += f" within {looks} looks" + (f"; beside it the answer of {closest}." if closest else ".")
    path = shown.path("solving").with_suffix(".gif")
    return {words: animate(loop, image, path, looks=looks, truth=truth, beside=beside)}


def _answers(shown: ShownSizes, image: Tensor) -> dict[str, Tensor]:
    """Labels (H, W) by name: those of the twins, and the loop's after few and after many looks."""
    found = {name: answer(model, image) for name, model in shown.models.items() if name != FEEDBACK}
    if (loop := shown.models.get(FEEDBACK)) is not None:
        found |= {f"{FEEDBACK}, {t} look{'s' * (t > 1)}": answer(loop, image, steps=t) for t in shown.looks}
    return found


@torch.inference_mode()
def answer(model: nn.Module, image: Tensor, **how: Any) -> Tensor:
    """The labels (H, W) that *model* gives *image* (C, H, W), called with *how*."""
    with evaluating(model):
        said = model(fed(model, image[None]), **how)
    return labels_of(masks_of(said))[0].cpu()


def _named(size: Size, by: str = " x ") -> str:
    return str(size) if isinstance(size, int) else by.join(map(str, size))


def _under(shown: ShownSizes) -> str:
    return "" if str(shown.condition) == "clean" else f" under {shown.condition}"
