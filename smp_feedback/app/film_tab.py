"""The tab for films: drop a video, see it with its answers drawn over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from smp_feedback.app.films import answer_film, painted_classes
from smp_feedback.app.parts import private, said_html, upload_of, written_below
from smp_feedback.app.pictures import legend_html
from smp_feedback.app.served import ServedModel
from smp_feedback.app.uploads import Limits, why_not


class FilmTab:
    """The parts of the tab, and what happens when one is used.

    Args:
        found: A model that carries its state from frame to frame.
        limits: What is taken.
        folder: Where films are written.
    """

    def __init__(self, found: ServedModel, limits: Limits, folder: Path) -> None:
        self.found, self.limits, self.folder = found, limits, folder
        self.file = upload_of("Drop a video here, or click to choose one", "film-file")
        self.said = gr.HTML(said_html("No film yet."), elem_id="film-said")
        self.film = gr.Video(label="One look a frame", interactive=False, height=480, visible=False, elem_id="film")
        gr.HTML(legend_html(painted_classes(found)))
        outputs = [self.file, self.film, self.said]
        how: Any = {"concurrency_id": "model", "concurrency_limit": 1, "show_progress_on": self.said}
        self.file.upload(self.answer, self.file, outputs, **how, **private())

    def answer(self, file: str | None, progress: gr.Progress = gr.Progress()) -> list[Any]:  # noqa: B008
        """The uploaded *file*, which is deleted, with its answers."""
        if file is None:
            return [None, gr.Video(None, visible=False), said_html("No film yet.")]

        def tell(done: int, of: int | None) -> None:
            progress((done, of), desc="answering")

        path = Path(file)
        out = written_below(self.folder) / f"{path.stem}.mp4"
        try:
            self.limits.check_file(path)
            made = answer_film(self.found, path, out, self.limits, tell)
        except Exception as error:
            return [None, gr.Video(None, visible=False), said_html(why_not(error, path), refused=True)]
        finally:
            path.unlink(missing_ok=True)
        return [None, gr.Video(str(made.path), visible=True), said_html(f"{path.stem}: {made.said}")]


def film_tab(found: ServedModel, limits: Limits, folder: Path) -> FilmTab:
    """The tab, inside the page that is being built."""
    return FilmTab(found, limits, folder)
