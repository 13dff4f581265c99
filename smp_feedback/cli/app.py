"""``smp-feedback app``: a saved model in the browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import ActionYesNo, ArgumentParser

from smp_feedback.app.served import served
from smp_feedback.app.serving import HOST, serve
from smp_feedback.app.uploads import limits_of, size_in_bytes
from smp_feedback.checks import check_whole
from smp_feedback.cli.scoring import device_for
from smp_feedback.cli.tables import say
from smp_feedback.errors import InvalidValue, require
from smp_feedback.factory import from_pretrained
from smp_feedback.saving.saved import CONFIG as SAVED
from smp_feedback.training.quiet import quiet
from smp_feedback.training.run_folder import MODEL
from smp_feedback.training.same_settings import CONFIG

PORTS = 65535


def add_arguments(parser: ArgumentParser) -> Callable[[Any], None]:
    """Give *parser* what the app is told; returns what runs it."""
    parser.add_argument("--model", type=str | None, metavar="DIR", help="a saved model, or the run that saved it")
    parser.add_argument("--run", type=str | None, metavar="DIR", help="or the --out of fit: the model that it saved")
    looks = "looks at an image, at most (default: 4 times the model's own)"
    parser.add_argument("--looks", type=int | None, metavar="N", help=looks)
    size = "pixels a side, or [H, W], that images are resized to (default: as trained)"
    parser.add_argument("--size", type=int | list[int] | None, metavar="SIZE", help=size)
    parser.add_argument("--accelerator", default="auto", help="auto, cpu or gpu")
    listens = "where to listen; 127.0.0.1 is this computer alone"
    parser.add_argument("--host", default=HOST, metavar="NAME", help=listens)
    parser.add_argument("--port", type=int | None, metavar="N", help="(default: the first free one from 7860)")
    opened = "open the page in this computer's browser"
    parser.add_argument("--open", action=ActionYesNo(no_prefix="no-"), default=False, help=opened)
    largest = "of a file that is uploaded, at most"
    parser.add_argument("--max_size", "--max-size", default="20MB", metavar="SIZE", help=largest)
    pixels = "of an image, at most (default: 33 million, or 4 million where the model is shown them whole)"
    parser.add_argument("--max_pixels", "--max-pixels", type=int | None, metavar="N", help=pixels)
    return run


def run(args: Any) -> None:
    """Serve the model that is named."""
    require("gradio", extra="app")
    nbytes = size_in_bytes(args.max_size)
    if args.port is not None and not 1 <= args.port <= PORTS:
        raise InvalidValue(f"--port {args.port}: expected 1 to {PORTS}.")
    if args.max_pixels is not None:
        check_whole("max_pixels", args.max_pixels)
    device = device_for(args.accelerator)
    with quiet():
        model = from_pretrained(model_folder(args.model, args.run))
        found = served(model, looks=args.looks, size=args.size, device=device)
        limits = limits_of(nbytes, args.max_pixels, resizes=found.size is not None)
        serve(found, limits, tell=say, host=args.host, port=args.port, browser=args.open)


def model_folder(model: str | None, run: str | None) -> Path | str:
    """Where the model is that ``--model`` or ``--run`` names: a folder, or a repository of the hub.

    Raises:
        InvalidValue: If none is named, or both are, or a run has not saved one yet.
    """
    if (model is None) == (run is None):
        raise InvalidValue("Which model? Give --model DIR, a saved one, or --run DIR, the --out of fit.")
    named = model if run is None else run
    folder = Path(str(named))
    if (folder / SAVED).is_file():
        return folder
    if (folder / CONFIG).is_file():
        own = folder / MODEL
        if not own.is_dir():
            raise InvalidValue(
                f"{folder} is a run, which leaves its model, {own}, when it ends: smp-feedback fit --resume {folder}."
            )
        return own
    if run is not None:
        raise InvalidValue(f"--run {run}: expected the folder of a run, with its {CONFIG}.")
    return folder if folder.is_dir() else str(named)
