"""A film through one file, one look a frame, in a process without torch: numpy, onnxruntime and PyAV do.

smp-feedback export runs/fit/model look.onnx --look
python examples/film_without_torch.py look.onnx in.mp4 out.mp4
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import av
import numpy as np
import onnxruntime


def looks(model: str, film: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each frame (H, W, 3), as the model sees it, and its logits (classes, H, W)."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    about, data, stride = json.loads(facts["state"]), json.loads(facts["data"]), int(facts["stride"])
    mean, std = np.array(data["mean"] or 0.0), np.array(data["std"] or 1.0)
    state = None
    for frame in av.open(film).decode(video=0):
        turns = round(frame.rotation / 90)  # to the left, until it is upright: films of telephones lie on their side
        upright = (frame.height, frame.width)[:: -1 if turns % 2 else 1]
        h, w = data["size"] or (-(-side // stride) * stride for side in upright)
        height, width = (h, w)[:: -1 if turns % 2 else 1]
        pixels = np.rot90(frame.to_ndarray(format="rgb24", height=height, width=width), turns).copy()
        image = ((pixels / 255 - mean) / std).astype(facts["dtype"]).transpose(2, 0, 1)[None]
        if state is None:  # zeros: this is the first look
            shape = 1, about["channels"], h // about["stride"][0], w // about["stride"][1]
            state = np.zeros(shape, about["dtype"])
        logits, state = session.run(["logits", "next_state"], {"image": image, "state": state})
        yield pixels, logits[0]


def main(argv: list[str] | None = None) -> None:
    """Write the film with every pixel that is not of class 0 reddened."""
    model, source, out = sys.argv[1:] if argv is None else argv
    with av.open(out, "w") as written:
        stream = written.add_stream("libx264", rate=av.open(source).streams.video[0].average_rate)
        for k, (pixels, logits) in enumerate(looks(model, source)):
            if k == 0:
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = "yuv444p" if stream.height % 2 or stream.width % 2 else "yuv420p"
            seen = logits.argmax(0) if len(logits) > 1 else logits[0] > 0
            pixels[seen > 0] = pixels[seen > 0] // 2 + np.array([120, 0, 0], np.uint8)
            written.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        written.mux(stream.encode())
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
