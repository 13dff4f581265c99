"""The tab that looks at an image: drop one, move the slider, see answer, change and uncertainty, download."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from smp_feedback.app.exports import export_mask, export_overlay
from smp_feedback.app.looks import Looked, looking_at
from smp_feedback.app.parts import Downloads, picture_of, private, said_html, upload_of, written_below
from smp_feedback.app.pictures import LookPictures, legend_html, legend_of, scale_html, shown_at
from smp_feedback.app.served import ServedModel
from smp_feedback.app.uploads import Limits, why_not
from smp_feedback.ops.reading import MULTILABEL

OVER, ALONE = "over the image", "alone"
EVERY = 0.5  # seconds between two looks that are shown as they come: drawing them takes time of the model's
KEPT = 3600  # seconds for which the looks at an image are kept after they were last asked for


def look_of(t: float | None, looked: Looked) -> int:
    """The look that the slider's *t* means, one of those there are: its box takes any number, and none.

    >>> from types import SimpleNamespace
    >>> [look_of(t, SimpleNamespace(looks=[0, 0, 0])) for t in (None, 0, 2.4, 9)]
    [1, 1, 2, 3]
    """
    return min(max(1, round(t or 1)), len(looked.looks))


class ImageTab:
    """The parts of the tab, and what happens when one is used.

    Args:
        found: The model.
        limits: What is taken.
        folder: Where what is downloaded is written.
    """

    def __init__(self, found: ServedModel, limits: Limits, folder: Path) -> None:
        self.found, self.limits, self.folder = found, limits, folder
        self.several = found.most > 1
        self.looked = gr.State(None, time_to_live=KEPT)
        self.file = upload_of("Drop an image here, or click to choose one", "image-file")
        self.said = gr.HTML(said_html("No image yet."), elem_id="said")
        with gr.Column(visible=False, elem_id="results") as self.results:
            self.slider = gr.Slider(
                1, max(2, found.most), value=1, step=1, label="Looks", visible=self.several, elem_id="looks"
            )
            self.style = gr.Radio([OVER, ALONE], value=OVER, label="Answers are drawn", elem_id="style")
            self._pictures()
            kind = "ZIP of PNGs" if found.config.task == MULTILABEL else "PNG"
            self.downloads = Downloads((f"Download mask ({kind})", "mask"), ("Download overlay (PNG)", "overlay"))
        self._events()

    def _pictures(self) -> None:
        said, column = self.found.base_said, {"min_width": 280}
        with gr.Row():
            with gr.Column(**column):
                self.answer = picture_of("Answer", "answer")
            with gr.Column(**column, visible=bool(said)):
                self.base = picture_of(said or "Answer", "base")
        self.legend = gr.HTML()
        with gr.Row():
            with gr.Column(**column, visible=self.several):
                self.change = picture_of("Changed since the look before", "change")
            with gr.Column(**column):
                self.doubt = picture_of("Uncertainty (entropy / log classes)", "doubt")
                gr.HTML(scale_html())

    def _events(self) -> None:
        pictures = [self.answer, self.base, self.change, self.doubt, self.said]
        model: Any = {"concurrency_id": "model", "concurrency_limit": 1, "show_progress_on": self.said}
        every = [self.file, self.looked, self.results, self.slider, self.legend, *pictures]
        shown = [self.looked, self.slider, self.style]
        looked = self.file.upload(self.look, [self.file, self.style], every, **model, **private())
        looked.then(self.finish, shown, pictures, show_progress="hidden", **private())
        for event in (self.slider.input, self.style.input):
            moved = {"trigger_mode": "always_last", "show_progress": "hidden", "concurrency_limit": 4}
            event(self.move, shown, pictures, **moved, **private())
        at = [self.looked, self.slider]
        self.downloads.on("mask", self.mask, at, self.said)
        self.downloads.on("overlay", self.overlay, at, self.said)

    def look(
        self,
        file: str | None,
        style: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[list[Any]]:
        """The looks at the uploaded *file*, which is deleted, as they come.

        They are shown up to the model's own number; those beyond it wait on the slider.
        """
        if file is None:
            yield self._refused("No image yet.")
            return
        path = Path(file)
        try:
            yield from self._looks(path, style, progress)
        except Exception as error:
            yield self._refused(why_not(error, path))
        finally:
            path.unlink(missing_ok=True)

    def _looks(self, path: Path, style: str, progress: gr.Progress) -> Iterator[list[Any]]:
        self.limits.check_image(path)
        looks, due = looking_at(self.found, path), 0.0
        path.unlink()  # it is read
        for looked in looks:
            count = len(looked.looks)
            progress((count, self.found.most), desc="looking", unit="looks")
            if count == self.found.usual or not looked.more or time.monotonic() > due:
                yield self._results(looked, style)
                due = time.monotonic() + EVERY

    def _results(self, looked: Looked, style: str) -> list[Any]:
        """The newest look; one beyond the model's own number only lengthens the slider, which may have been moved."""
        count, beyond = len(looked.looks), len(looked.looks) > self.found.usual
        at: Any = {} if beyond else {"value": count}
        slider = gr.Slider(1, max(2, count), visible=count > 1 or looked.more > 0, **at)
        shown = [gr.skip()] * 5 if beyond else self._shown(looked, count, style)
        file = None if count == 1 else gr.skip()  # where the next may have been dropped since
        return [file, looked, gr.Column(visible=True), slider, legend_html(legend_of(looked)), *shown]

    def finish(self, looked: Looked | None, t: float | None, style: str) -> list[Any]:
        """The look on the slider again, once it is known how many there are; what was refused stays so."""
        return [gr.skip()] * 5 if looked is None else self._shown(looked, t, style)

    def move(self, looked: Looked | None, t: float | None, style: str) -> list[Any]:
        """Another look at the same image; no model is run."""
        if looked is None:
            return [gr.skip()] * 4 + [said_html(GONE, refused=True)]
        return self._shown(looked, t, style)

    def _shown(self, looked: Looked, t: float | None, style: str) -> list[Any]:
        shown: LookPictures = shown_at(looked, look_of(t, looked), overlay=style == OVER)
        return [shown.answer, shown.base, shown.change, shown.doubt, said_html(f"{looked.name}: {shown.said}")]

    def _refused(self, why: str) -> list[Any]:
        said = said_html(why, refused=True)
        return [None, None, gr.Column(visible=False), gr.skip(), "", None, None, None, None, said]

    def mask(self, looked: Looked | None, t: float | None) -> tuple[str | None, Any]:
        """The label map of look *t*, as a file."""
        if looked is None:
            return None, said_html(GONE, refused=True)
        return str(export_mask(looked, look_of(t, looked), written_below(self.folder))), gr.skip()

    def overlay(self, looked: Looked | None, t: float | None) -> tuple[str | None, Any]:
        """The answer of look *t* over the image, as a file."""
        if looked is None:
            return None, said_html(GONE, refused=True)
        return str(export_overlay(looked, look_of(t, looked), written_below(self.folder))), gr.skip()


GONE = "This image is gone, as nobody looked at it for an hour: drop it again."


def image_tab(found: ServedModel, limits: Limits, folder: Path) -> ImageTab:
    """The tab, inside the page that is being built."""
    return ImageTab(found, limits, folder)
