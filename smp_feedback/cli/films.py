"""``smp-feedback predict --video | --camera | --film``: a film goes in, frame by frame, and its masks come out."""

from __future__ import annotations

import collections
import itertools
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from torch import Tensor

from smp_feedback.checks import check_whole
from smp_feedback.cli import predicting
from smp_feedback.cli.film_report import FilmSummary, about
from smp_feedback.cli.film_sources import Source, source_of
from smp_feedback.cli.predict_images import OF_MAPS
from smp_feedback.cli.tables import say
from smp_feedback.config.data import DataConfig
from smp_feedback.data.films.writing import CONTAINERS, write_video
from smp_feedback.data.images.reader import as_unit
from smp_feedback.data.items import height_width
from smp_feedback.data.progress import progress_bar
from smp_feedback.errors import InvalidValue, require
from smp_feedback.ops.reading import MULTILABEL
from smp_feedback.training.film_answers import Answered, FilmAnswers, threshold
from smp_feedback.training.film_masks import FilmMasks
from smp_feedback.training.run_folder import free_folder
from smp_feedback.training.trainer import build_trainer

SOURCES = ("video", "camera", "film")
OF_FILMS = ("masks", "reset", "frames")
OF_IMAGES = {"looks": False, "uncertainty": False, "settled": None, "watch": None, "window": None, **OF_MAPS}


def add_arguments(parser: ArgumentParser) -> None:
    """What a film is told."""
    film = "a film, answered one look a frame, drawn over it in --out FILE.mp4"
    parser.add_argument("--video", type=str | None, metavar="FILE", help=film)
    camera = "the frames of a camera, until Ctrl-C, as --video: its number, or what the system calls it"
    parser.add_argument("--camera", type=str | None, metavar="N", help=camera)
    frames = "the --images are a film's, in the order of their names"
    parser.add_argument("--film", type=bool, default=False, help=frames)
    parser.add_argument("--masks", type=str | None, metavar="DIR", help="also each frame's label map, of a video")
    reset = "begin anew at cuts: auto (as learned), never, or the change of the state that tells them"
    parser.add_argument("--reset", type=str | None, metavar="HOW", help=f"{reset} (default: auto, where learned)")
    parser.add_argument("--frames", type=int | None, metavar="N", help="of a film, so many at most")


def is_film(args: Any) -> bool:
    """Whether a film is asked for, and nothing that a film cannot be asked for.

    Raises:
        InvalidValue: For words that do not go together, before any work.
    """
    given = [name for name in SOURCES if getattr(args, name)]
    if not given:
        if told := next((name for name in OF_FILMS if getattr(args, name) is not None), None):
            raise InvalidValue(f"--{told} is for films: give --video FILE, --camera N, or --images DIR --film true.")
        return False
    if len(given) > 1 or (args.images is not None) != bool(args.film):
        images = ["--images"] if args.images is not None else []
        raise InvalidValue(
            f"{' and '.join([f'--{name}' for name in given] + images)}: expected --video FILE, --camera N, or "
            "--images DIR --film true."
        )
    for name, usual in OF_IMAGES.items():
        if getattr(args, name) != usual:
            raise InvalidValue(f"--{name}: a film gets one answer a frame; leave it out, or --film of --images.")
    if args.film and args.masks is not None:
        raise InvalidValue(f"--masks {args.masks}: of --images the label maps go to --out; leave it out.")
    if args.run is None and args.weights in ("best", "last"):
        raise InvalidValue("Whose weights? Give --run DIR, the --out of fit or a saved model, or --weights FILE.")
    if args.frames is not None:
        check_whole("frames", args.frames)
    if args.reset is not None:
        threshold(args.reset)
    return True


def predict_film(args: Any, made: Any) -> None:
    """Answer a film; *made* are the settings of *args* with their classes made."""
    out = destination(args)
    with source_of(args) as source:
        answers = answers_of(args, made)
        say(about(answers))
        tally, masks = FilmSummary(answers), masks_of(args, source, answers.config, out)
        bar = progress_bar("frames", source.length, wanted=made.trainer.enable_progress_bar is not False)
        with interruptible(source.endless) as frames_of, bar as advance:
            frames = itertools.islice(frames_of(source.frames(answers.config)), args.frames)
            seen = tally.counted(answers.answers(frames), masks, advance)
            if source.names is None:
                out.parent.mkdir(parents=True, exist_ok=True)
                over = (drawn(one, answers.config.task) for one in seen)
                write_video(out, over, source.rate, times=source.times, pixel=source.pixel)
            else:
                collections.deque(seen, maxlen=0)
    for line in (*tally.lines(), f"wrote {out}", *([f"wrote {args.masks}"] if args.masks else [])):
        say(line)
    if masks is not None and (older := masks.older(tally.frames)):
        say(f"{masks.folder} also holds {older[0].name} to {older[-1].name}, of a longer film before.")


def answers_of(args: Any, made: Any) -> FilmAnswers:
    """What answers, of the model that is asked for."""
    size = None if made.data.size is None else height_width(made.data.size, least=1)
    told: dict[str, Any] = {"size": size, "reset": args.reset, "steps": args.steps}
    device = device_of(made.trainer.accelerator)
    precision = precision_of(made.trainer.precision, device)
    return FilmAnswers(predicting.model_of(made), device=device, precision=precision, **told)


def precision_of(told: Any, device: str) -> Any:
    """What Lightning does to be as precise as it is *told*, for a run's images and so for its films.

    Raises:
        InvalidValue: If it cannot.
    """
    if told is None:
        return None
    settings = {"accelerator": device, "devices": 1, "precision": told, "enable_progress_bar": False}
    return build_trainer(settings).precision_plugin


def masks_of(args: Any, source: Source, config: DataConfig, out: Path) -> FilmMasks | None:
    """Where label maps go: those of a folder of frames to *out*."""
    folder = args.masks if source.names is None else out
    return None if folder is None else FilmMasks(Path(folder), source.names, config.classes, config.task)


def destination(args: Any) -> Path:
    """The film to write, or the folder of label maps.

    Raises:
        InvalidValue: If a film cannot be written there.
        MissingExtra: If what draws it is missing.
    """
    if args.film:
        folder = folder_of("--out", free_folder(args.out, "predict"))
        if folder.resolve() == Path(args.images).resolve():
            raise InvalidValue(f"--out {folder} is where the frames are, of the same names: give another folder.")
        return folder
    if args.masks is not None:
        folder_of("--masks", Path(args.masks))
    require("av", extra="video")
    require("matplotlib", extra="plot")
    if args.out is None:
        stem = Path(args.video).stem if args.video else "camera"
        return free_folder(None, "predict") / f"{stem}.mp4"
    out = Path(args.out)
    if out.suffix.lower() not in CONTAINERS or out.is_dir():
        kinds = ", ".join(CONTAINERS)
        raise InvalidValue(f"--out {args.out}: expected the film to write, {kinds}; label maps go to --masks DIR.")
    folder_of("--out", out.parent)
    if args.masks is not None and out.resolve() == Path(args.masks).resolve():
        raise InvalidValue(f"--masks {args.masks} is the film --out itself: give a folder.")
    if args.video and out.exists() and out.samefile(args.video):
        raise InvalidValue(f"--out {args.out} is the --video itself: give another file.")
    return out


def folder_of(told: str, folder: Path) -> Path:
    """*folder*, which is one that can be written to, or can be made.

    Raises:
        InvalidValue: If it is neither.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "cannot be written to" if there.is_dir() else "is a file"
        raise InvalidValue(f"{told}: {there} {why}; expected a folder to write to, or one that can be made.")
    return folder


def drawn(one: Answered, task: str) -> Tensor:
    """The answer over its frame, bytes (3, H, W); of several labels of a pixel that of the last class."""
    from smp_feedback.plotting.overlay import laid_over

    labels = one.labels
    if task == MULTILABEL:  # every class is one that is seen, the first, too
        labels = (labels * torch.arange(1, len(labels) + 1)[:, None, None]).amax(0)
    return torch.from_numpy(laid_over(as_unit(one.frame), labels)).permute(2, 0, 1)


@contextmanager
def interruptible(endless: bool) -> Iterator[Callable[[Iterable[Tensor]], Iterable[Tensor]]]:
    """Context: what makes frames end with Ctrl-C, where they would not end by themselves; so the film is whole.

    A second one interrupts as ever: a camera may have stopped sending frames.
    """
    if not endless:
        yield lambda frames: frames
        return
    told: list[int] = []

    def tell(number: int, _: object) -> None:
        told.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, tell)
    try:
        yield lambda frames: itertools.takewhile(lambda _: not told, frames)
    finally:
        signal.signal(signal.SIGINT, before)


def device_of(accelerator: object) -> str:
    """Where a model runs, by what Lightning calls it.

    >>> device_of("cpu")
    'cpu'
    """
    if accelerator in ("auto", "gpu") and torch.accelerator.is_available():
        found = torch.accelerator.current_accelerator()
        return "cpu" if found is None else found.type
    return "cpu" if accelerator in ("auto", "gpu") else str(accelerator)
