"""The page: what the model is in a line, and a tab for each thing that it can do."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from smp_feedback.app.camera_tab import camera_tab
from smp_feedback.app.clicks_tab import clicks_tab
from smp_feedback.app.film_tab import film_tab
from smp_feedback.app.films import no_films
from smp_feedback.app.image_tab import image_tab
from smp_feedback.app.served import ServedModel, described
from smp_feedback.app.uploads import Limits, in_units

TITLE = "smp_feedback"
SWEEP, OLD = 60, 900  # seconds: how often old files are looked for, and when a file is old
STYLE = """
.gradio-container { max-width: 1240px !important; }
.model { font-weight: 600; overflow-wrap: anywhere; }
.note { font-size: 0.85rem; opacity: 0.75; }
.said { min-height: 1.5rem; overflow-wrap: anywhere; }
.said.refused { color: #b91c1c; font-weight: 600; }
.dark .said.refused { color: #fca5a5; }
.legend { display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; }
.legend i { display: inline-block; width: 0.9rem; height: 0.9rem; margin-right: 0.35rem; border: 1px solid #666;
  vertical-align: -0.1rem; }
.scale i { display: inline-block; width: 9rem; height: 0.8rem; margin: 0 0.3rem; vertical-align: -0.1rem; }
.caption { font-weight: 600; margin-bottom: -0.4rem; }
.pixels img { image-rendering: pixelated; }
footer { display: none !important; }
"""
THEME: dict[str, Any] = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
"""Letters that every system has: none is fetched."""


def build_page(found: ServedModel, limits: Limits, folder: Path) -> gr.Blocks:
    """The page of *found*; what is to be downloaded is written below *folder*."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(SWEEP, OLD)) as page:
        gr.HTML(f'<div class="model" id="model">{escape(described(found))}</div>')
        with gr.Tabs():
            if found.config.clicks is not None:
                with gr.Tab("Clicks"):
                    clicks_tab(found, limits, folder)
            else:
                _image_tabs(found, limits, folder)
        gr.HTML(f'<div class="note">{escape(_note(found, limits))}</div>')
    return page


def _image_tabs(found: ServedModel, limits: Limits, folder: Path) -> None:
    with gr.Tab("Image"):
        image_tab(found, limits, folder)
    if no_films(found) is None:
        with gr.Tab("Film"):
            film_tab(found, limits, folder)
        with gr.Tab("Camera"):
            camera_tab(found)


def _note(found: ServedModel, limits: Limits) -> str:
    taken = (
        f"Files of at most {in_units(limits.nbytes)} and images of at most {limits.pixels / 1e6:.1f} million pixels. "
        "What is uploaded is read and deleted; what is made of it is deleted when the app ends."
    )
    if found.config.clicks is not None:
        return taken
    without = no_films(found)
    return taken if without is None else f"{taken} {without}"
