"""Parts that tabs share: a place to drop a file, a picture, words, and buttons that download."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

OLD = 600  # seconds after which a file that was made for a download is no longer wanted
CLICK = "() => setTimeout(() => document.querySelector('#{}').click(), 50)"


def private() -> Any:
    """What every event is told: nobody but the page calls it."""
    return {"api_visibility": "private"}


def upload_of(label: str, name: str) -> gr.File:
    """A place to drop a file: handed on as it is, for our own readers; gradio's own would decode and change it."""
    return gr.File(label=label, file_count="single", type="filepath", height=150, elem_id=name)


def picture_of(label: str, name: str, *, visible: bool = True) -> gr.Image:
    """A picture below its *label*, that is shown and not edited; PNG, for labels have edges."""
    gr.HTML(f'<div class="caption">{escape(label)}</div>', visible=visible)
    return gr.Image(
        label=label,
        show_label=False,
        format="png",
        interactive=False,
        buttons=["fullscreen"],
        elem_id=name,
        elem_classes="pixels",
        visible=visible,
        alt_text=label,
    )


def said_html(words: str, *, refused: bool = False) -> str:
    """Words on the page, whatever they hold.

    >>> said_html("a < b")
    '<div class="said">a &lt; b</div>'
    """
    return f'<div class="said{" refused" * refused}">{escape(words)}</div>'


class Downloads:
    """Buttons that make a file when they are clicked, and then download it.

    gradio's own button downloads what was there before the click: it is hidden, and clicked once the file is there.

    Args:
        *buttons: What stands on each, and its name.
    """

    def __init__(self, *buttons: tuple[str, str]) -> None:
        self.buttons: dict[str, gr.Button] = {}
        self.files: dict[str, gr.DownloadButton] = {}
        with gr.Row():
            for words, name in buttons:
                self.buttons[name] = gr.Button(words, elem_id=f"{name}-button", min_width=200)
                self.files[name] = gr.DownloadButton(visible="hidden", elem_id=f"{name}-file")

    def on(self, name: str, write: Callable[..., Any], inputs: Sequence[Any], said: gr.HTML) -> None:
        """Let *write*, called with *inputs*, make the file of button *name*, or None and why there is none."""
        made = self.buttons[name].click(write, list(inputs), [self.files[name], said], **private())
        made.success(None, None, None, js=CLICK.format(f"{name}-file"))


def written_below(folder: Path) -> Path:
    """A new folder below *folder* for a file to download; those of ten minutes ago are removed."""
    old = time.time() - OLD
    for one in folder.iterdir():
        if one.is_dir() and one.stat().st_mtime < old:
            shutil.rmtree(one, ignore_errors=True)
    return Path(tempfile.mkdtemp(dir=folder))
