"""The tab for a camera: each frame is looked at once, and the state goes on."""

from __future__ import annotations

import base64
import io
from typing import Any

import gradio as gr
from PIL import Image

from smp_feedback.app.films import Stream, painted_classes
from smp_feedback.app.parts import private, said_html
from smp_feedback.app.pictures import legend_html
from smp_feedback.app.served import ServedModel
from smp_feedback.app.uploads import why_not
from smp_feedback.plotting.overlay import RGB

EVERY = 0.2  # seconds between two frames that are asked for
KEPT = 600  # seconds for which a state is kept after the last frame


class CameraTab:
    """The parts of the tab, and what happens when one is used.

    Args:
        found: A model that carries its state from frame to frame.
    """

    def __init__(self, found: ServedModel) -> None:
        self.found = found
        self.stream = gr.State(None, time_to_live=KEPT)
        with gr.Row(equal_height=True):
            own = gr.WebcamOptions(mirror=False)
            self.camera = gr.Image(
                label="Camera", sources="webcam", streaming=True, webcam_options=own, min_width=280, elem_id="camera"
            )
            with gr.Column(min_width=280):
                self.answer = gr.HTML(elem_id="camera-answer")
        gr.HTML(legend_html(painted_classes(found)))
        self.said = gr.HTML(said_html("No frame yet."), elem_id="camera-said")
        self.anew = gr.Button("Reset: forget the frames so far", elem_id="camera-reset")
        told: Any = {"stream_every": EVERY, "show_progress": "hidden", "concurrency_id": "model"}
        shown = [self.stream, self.answer, self.said]
        self.camera.stream(self.look, [self.camera, self.stream], shown, concurrency_limit=1, **told, **private())
        self.anew.click(self.reset, self.stream, shown[1:], show_progress="hidden", **private())

    def look(self, frame: RGB | None, stream: Stream | None) -> list[Any]:
        """The next *frame*, going on from those that *stream* has seen; one of another size begins anew."""
        if frame is None:
            return [stream, gr.skip(), gr.skip()]
        stream = Stream(self.found) if stream is None else stream
        try:
            picture = stream.look(frame)
        except Exception as error:
            return [None, gr.skip(), said_html(why_not(error), refused=True)]
        count = stream.frames
        return [stream, as_html(picture), said_html(f"{count} frame{'s' * (count != 1)}, one look a frame.")]

    def reset(self, stream: Stream | None) -> list[Any]:
        """As if there had been no frame: in the same stream, which a frame on its way would else bring back."""
        if stream is not None:
            stream.reset()
        return ["", said_html("No frame yet.")]


def camera_tab(found: ServedModel) -> CameraTab:
    """The tab, inside the page that is being built."""
    return CameraTab(found)


def as_html(picture: RGB) -> str:
    """*picture* inside the page itself: no file is written for a frame.

    >>> import numpy as np
    >>> as_html(np.zeros((2, 2, 3), np.uint8))[:37]
    '<img alt="Answer" src="data:image/jpe'
    """
    with io.BytesIO() as file:
        Image.fromarray(picture).save(file, format="jpeg", quality=90)
        text = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="Answer" src="data:image/jpeg;base64,{text}" style="width:100%">'
