"""``smp-feedback export | info | plot``: what is done with models and results that were saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smp_feedback.errors import InvalidValue

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def export(parser: ArgumentParser) -> Callable[[Any], None]:
    """Write a saved model as one file that runs without this package: ONNX, or a torch.export program."""
    parser.add_argument("model", metavar="MODEL", help="a directory written by save_pretrained, or a hub repository")
    parser.add_argument("out", metavar="OUT", help="the file to write: name.onnx or name.pt2")
    parser.add_argument("--steps", type=int, metavar="T", help="looks at the image; without it, the model's own")
    parser.add_argument("--outputs", choices=("last", "all"), default="last", help="the last look's logits, or all")
    one = "one look, for films and streams: (image, state) -> (logits, next_state); a state of zeros is the first"
    parser.add_argument("--look", action="store_true", help=one)
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="height and width to serve, in pixels")
    parser.add_argument("--batch", type=int, metavar="B", help="images at once, with --size; without it, 1")
    parser.add_argument("--format", choices=("onnx", "pt2"), help="without it, the suffix of OUT says")
    precision = "numbers of the file: half (float16), bfloat16 (.pt2) or full (float32); without it, the model's own"
    parser.add_argument("--precision", choices=("half", "bfloat16", "full"), help=precision)
    ready = "bytes in, a label map out: normalisation and reading are inside"
    parser.add_argument("--with_preprocess", action="store_true", help=ready)
    parser.add_argument("--static", action="store_true", help="fix batch and size, which stay open where they can")

    def run(args: Any) -> None:
        from smp_feedback.exporting.export import check_look, check_ready, destination
        from smp_feedback.exporting.export import export as write
        from smp_feedback.factory import from_pretrained

        destination(args.out, args.format)  # before anything is loaded
        check_look(args.look, args.steps, args.outputs)
        check_ready(args.with_preprocess, args.look, args.outputs)
        _check_no_run(args.model, f"smp-feedback export {{}} {args.out}")
        with _timed(f"loading {args.model}") as tell:
            model = from_pretrained(args.model)
            if args.precision is not None:
                model = getattr(model, "float" if args.precision == "full" else args.precision)()
            image = _blank(args.size, args.batch, model.feedback.in_channels)
            how = {"steps": args.steps, "outputs": args.outputs, "format": args.format, "dynamic": not args.static}
            how |= {"look": args.look, "with_preprocess": args.with_preprocess}
            written = write(model, args.out, image=image, tell=tell, **how)
        of = f"image {written.image}" if written.state is None else f"image {written.image} and state {written.state}"
        print(f"wrote {written.path}: {', '.join(written.outputs)} of {of}, steps={written.steps}")
        print(f"its answers are within {written.difference:.0e} of the model's, relative to the largest")
        if written.refused is not None:
            print(f"no more axes could stay open: {written.refused}")

    return run


def info(parser: ArgumentParser) -> Callable[[Any], None]:
    """Show what a saved model is: its architecture, arguments and loop."""
    parser.add_argument("model", metavar="MODEL", help="a directory written by save_pretrained, or a hub repository")

    def run(args: Any) -> None:
        from rich.console import Console
        from rich.table import Table

        from smp_feedback.evaluation.results import flat
        from smp_feedback.saving.saved import read_config

        _check_no_run(args.model, "smp-feedback info {}")
        table = Table("setting", "value", title=str(args.model))
        for name, value in flat(read_config(args.model)):
            table.add_row(name, str(value))
        Console().print(table)

    return run


def plot(parser: ArgumentParser) -> Callable[[Any], None]:
    """Draw the figures of saved results: robustness, few images, stability, calibration, comparison."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="results, as save_result and compare write them")
    parser.add_argument("--out", metavar="DIR", help="where figures go; without it, beside each result")
    parser.add_argument("--format", choices=("png", "svg", "pdf"), default="png", help="the files' format")
    parser.add_argument("--style", choices=("screen", "paper"), default="screen", help="paper: one column, 3.4 inches")

    def run(args: Any) -> None:
        from smp_feedback.plotting.plot import plot as draw

        for path in draw(args.files, args.out, format=args.format, style=args.style):
            print(f"wrote {path}")

    return run


def _check_no_run(model: str, instead: str) -> None:
    """*model* is no folder of a run, whose model is in a folder of its own.

    Raises:
        InvalidValue: If it is, with what to write *instead*.
    """
    from smp_feedback.saving.saved import CONFIG
    from smp_feedback.training.same_settings import CONFIG as OF_RUN

    folder = Path(model)
    if (folder / OF_RUN).is_file() and not (folder / CONFIG).is_file():
        own = folder / "model"
        ended = "" if own.is_dir() else f", which it leaves when it ends: smp-feedback fit --resume {folder}, then"
        raise InvalidValue(f"{folder} is a run, and its model is {own}{ended}: {instead.format(own)}")


@contextmanager
def _timed(text: str) -> Iterator[Callable[[str], None]]:
    """A line on stderr, if that is a terminal, of what is being done, and for how long; gives what changes it."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(text, total=None)
        yield lambda now: progress.update(task, description=now)


def _blank(size: Sequence[int] | None, batch: int | None, channels: int) -> Any:
    """An image of the size asked for, if one was."""
    import torch

    if size is None:
        if batch is not None:
            raise InvalidValue(f"--batch {batch} without --size: give both.")
        return None
    if min(*size, 1 if batch is None else batch) < 1:
        raise InvalidValue(f"--size {size[0]} {size[1]} --batch {batch or 0}: expected whole numbers >= 1.")
    return torch.zeros(batch or 1, channels, *size)
