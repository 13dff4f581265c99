"""A film of moving shapes under heavy noise: one is drawn and written, and a model answers it, one look a frame.

python examples/follow_shapes.py

A small loop learns on clips (``feedback="film"``: a gate says how much of a frame is taken up). Then the film is read
as it would be from a camera: ``step = model.look(frame, step)`` is all, and what is known of the frames before is in
``step``. It takes minutes on a CPU; fewer ``--train_steps`` show less.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

import smp_feedback as smpf
from smp_feedback.data import Clips, Corrupted, MovingShapes, VideoFrames, write_video
from smp_feedback.evaluation import evaluate_films
from smp_feedback.evaluation.films import FrameByFrame
from smp_feedback.plotting.overlay import laid_over
from smp_feedback.training import FeedbackModule, PairsModule, fit


def noisy(split: str, severity: int, **shown: int) -> Corrupted:
    """Frames under noise of their own: drawn anew each time to train on, always the same to score."""
    return Corrupted(MovingShapes(split, **shown), "rescaled_noise", severity, fresh=split == "train")


@torch.inference_mode()
def answered(model: smpf.FeedbackModel, video: VideoFrames) -> Iterator[Tensor]:
    """Each frame of *video*, and beside it the answer over it: bytes (3, H, 2 W)."""
    step = None
    for frame in video:
        step = model.look(frame[None], step)
        over = torch.from_numpy(laid_over(frame, step.logits[0].argmax(0))).permute(2, 0, 1)
        yield torch.cat([(255 * frame).byte(), over], 2)


def main(argv: list[str] | None = None) -> None:
    """Train on clips, score whole films, write one, answer it, save."""
    parser = argparse.ArgumentParser(description="One look a frame at a film of moving shapes.")
    parser.add_argument("--out", type=Path, default=Path("runs/follow_shapes"), help="for the model and the films")
    parser.add_argument("--size", type=int, default=48, help="side of a frame, in pixels")
    parser.add_argument("--severity", type=int, default=4, help="of the noise: 3, 4, 5 are sigma 1, 2, 4")
    parser.add_argument("--train_steps", type=int, default=600, help="optimiser steps of 8 clips of 8 frames")
    parser.add_argument("--frames", type=int, default=64, help="of each film in testing")
    args = parser.parse_args(argv)

    torch.manual_seed(0)
    classes = len(MovingShapes.classes)
    model = smpf.create("PlainConv", classes=classes, depth=4, feedback="film")
    films = noisy("train", args.severity, size=args.size, count=64 * args.train_steps)  # none is seen twice
    clips = PairsModule(Clips(films, length=8, stride=8), batch_size=8)
    fit(FeedbackModule(model, classes=classes, lr=3e-3), clips, steps=args.train_steps, clip=1.0)

    test = noisy("test", args.severity, size=args.size, frames=args.frames, count=8 * args.frames)
    for name, way in {"one look a frame": model, "each frame on its own": FrameByFrame(model, looks=1)}.items():
        found = evaluate_films(way, test, classes=classes)
        print(f"{name}: mIoU {100 * found.miou:.1f}, flicker {100 * (found.flicker or 0):.1f} %")

    args.out.mkdir(parents=True, exist_ok=True)
    shown = write_video(args.out / "film.mp4", (test[i][0] for i in test.films[0]), 25)
    video = VideoFrames(shown)
    answers = write_video(args.out / "answers.mp4", answered(model.eval(), video), video.fps)
    print(f"wrote {model.save_pretrained(args.out)}\nwrote {shown}\nwrote {answers}")


if __name__ == "__main__":
    main()
