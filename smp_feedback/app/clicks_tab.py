"""The tab for clicks: drop an image, click on an object and beside it, undo, download the mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from smp_feedback.app.clicking import (
    Clicking,
    begin,
    click,
    clicks_in_words,
    drawn_clicks,
    export_object,
    reset,
    undo,
)
from smp_feedback.app.parts import Downloads, picture_of, private, said_html, upload_of, written_below
from smp_feedback.app.served import ServedModel
from smp_feedback.app.uploads import Limits, why_not

INSIDE, OUTSIDE = "in the object", "beside the object"
KEPT = 3600  # seconds for which clicks are kept after the last


class ClicksTab:
    """The parts of the tab, and what happens when one is used.

    Args:
        found: A model that listens to clicks.
        limits: What is taken.
        folder: Where what is downloaded is written.
    """

    def __init__(self, found: ServedModel, limits: Limits, folder: Path) -> None:
        self.found, self.limits, self.folder = found, limits, folder
        self.clicking = gr.State(None, time_to_live=KEPT)
        self.file = upload_of("Drop an image here, or click to choose one", "click-file")
        self.said = gr.HTML(said_html("No image yet."), elem_id="said")
        with gr.Column(visible=False) as self.results:
            self.where = gr.Radio([INSIDE, OUTSIDE], value=INSIDE, label="The next click is", elem_id="where")
            self.picture = picture_of("Click here", "clicks")
            with gr.Row():
                self.undone = gr.Button("Undo", elem_id="undo", min_width=100)
                self.anew = gr.Button("Reset", elem_id="reset", min_width=100)
            self.downloads = Downloads(("Download mask (PNG)", "mask"))
        self._events()

    def _events(self) -> None:
        model: Any = {"concurrency_id": "model", "concurrency_limit": 1, "show_progress_on": self.said}
        shown = [self.clicking, self.picture, self.said]
        self.file.upload(self.begin, self.file, [self.file, self.results, *shown], **model, **private())
        self.picture.select(
            self.click, [self.clicking, self.where], shown, show_progress="hidden", **model, **private()
        )
        self.undone.click(self.undo, self.clicking, shown, show_progress="hidden", **private())
        self.anew.click(self.reset, self.clicking, shown, show_progress="hidden", **private())
        self.downloads.on("mask", self.mask, [self.clicking], self.said)

    def begin(self, file: str | None) -> list[Any]:
        """The uploaded *file*, which is deleted, without clicks."""
        if file is None:
            return [None, gr.Column(visible=False), None, None, said_html("No image yet.")]
        path = Path(file)
        try:
            self.limits.check_image(path)
            one = begin(self.found, path)
        except Exception as error:
            return [None, gr.Column(visible=False), None, None, said_html(why_not(error, path), refused=True)]
        finally:
            path.unlink(missing_ok=True)
        return [None, gr.Column(visible=True), *_shown(one)]

    def click(self, one: Clicking | None, where: str, event: gr.SelectData) -> list[Any]:
        """A click on the picture."""
        if one is None:
            return _gone()
        x, y = (int(place) for place in event.index)
        try:
            return _shown(click(self.found, one, x, y, inside=where == INSIDE))
        except Exception as error:
            return [one, gr.skip(), said_html(why_not(error), refused=True)]

    def undo(self, one: Clicking | None) -> list[Any]:
        """Without the last click."""
        return _gone() if one is None else _shown(undo(one))

    def reset(self, one: Clicking | None) -> list[Any]:
        """Without any."""
        return _gone() if one is None else _shown(reset(one))

    def mask(self, one: Clicking | None) -> tuple[str | None, Any]:
        """The mask, as a file."""
        if one is None:
            return None, _gone()[-1]
        try:
            return str(export_object(one, written_below(self.folder))), gr.skip()
        except Exception as error:
            return None, said_html(why_not(error), refused=True)


def clicks_tab(found: ServedModel, limits: Limits, folder: Path) -> ClicksTab:
    """The tab, inside the page that is being built."""
    return ClicksTab(found, limits, folder)


def _shown(one: Clicking) -> list[Any]:
    return [one, drawn_clicks(one), said_html(f"{one.name}: {clicks_in_words(one)}")]


def _gone() -> list[Any]:
    return [None, None, said_html("This image is gone, as nobody clicked for an hour: drop it again.", refused=True)]
