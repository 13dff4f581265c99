"""The library, printed: ``smp-feedback VERB ...``, or ``python -m smp_feedback``.

A verb is one function: it adds its arguments to the parser it is handed and returns what runs them; its docstring
is the help. What takes long to import is imported when a verb runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smp_feedback.errors import FeedbackError, InvalidValue, require

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

Run = Callable[[Any], None]


def export(parser: ArgumentParser) -> Run:
    """Write a saved model as one file that runs without this package: ONNX, or a torch.export program."""
    parser.add_argument("model", metavar="MODEL", help="a directory written by save_pretrained, or a hub repository")
    parser.add_argument("out", metavar="OUT", help="the file to write: name.onnx or name.pt2")
    parser.add_argument("--steps", type=int, metavar="T", help="looks at the image; without it, the model's own")
    parser.add_argument("--outputs", choices=("last", "all"), default="last", help="the last look's logits, or all")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="height and width to serve, in pixels")
    parser.add_argument("--batch", type=int, metavar="B", help="images at once, with --size; without it, 1")
    parser.add_argument("--format", choices=("onnx", "pt2"), help="without it, the suffix of OUT says")
    parser.add_argument("--static", action="store_true", help="fix batch and size, which stay open where they can")

    def run(args: Any) -> None:
        from rich.console import Console

        from smp_feedback.exporting.export import destination
        from smp_feedback.exporting.export import export as write
        from smp_feedback.saving.loading import from_pretrained

        destination(args.out, args.format)  # before anything is loaded
        with Console(stderr=True).status(f"loading {args.model}") as status:
            model = from_pretrained(args.model)
            written = write(
                model,
                args.out,
                image=_blank(args.size, args.batch, model.feedback.in_channels),
                steps=args.steps,
                outputs=args.outputs,
                format=args.format,
                dynamic=not args.static,
                tell=status.update,
            )
        print(f"wrote {written.path}: {', '.join(written.outputs)} of image {written.image}, steps={written.steps}")
        print(f"its answers are within {written.difference:.0e} of the model's, relative to the largest")
        if written.refused is not None:
            print(f"no more axes could stay open: {written.refused}")

    return run


def info(parser: ArgumentParser) -> Run:
    """Show what a saved model is: its architecture, arguments and loop."""
    parser.add_argument("model", metavar="MODEL", help="a directory written by save_pretrained, or a hub repository")

    def run(args: Any) -> None:
        from rich.console import Console
        from rich.table import Table

        from smp_feedback.saving.saved import read_config

        table = Table("setting", "value", title=str(args.model))
        for name, value in _flat(read_config(args.model)):
            table.add_row(name, str(value))
        Console().print(table)

    return run


VERBS = (export, info)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the process's exit status: 2, and one line on stderr, for what cannot be done."""
    try:
        require("jsonargparse", extra="cli")
        require("rich", extra="cli")
        parser, runs = _parser()
        args = parser.parse_args(argv)
        if args.verb is None:
            parser.print_help()
        else:
            runs[args.verb](args[args.verb])
    except (FeedbackError, OSError, argparse.ArgumentError) as error:
        print(f"smp-feedback: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _parser() -> tuple[ArgumentParser, dict[str, Run]]:
    """The parser of all verbs, and what runs each."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        "smp-feedback", description=_first_sentence(sys.modules["smp_feedback"]), exit_on_error=False
    )
    verbs = parser.add_subcommands(dest="verb", required=False, metavar="VERB")
    runs: dict[str, Run] = {}
    for verb in VERBS:
        own = ArgumentParser(description=verb.__doc__, exit_on_error=False)
        runs[verb.__name__] = verb(own)
        verbs.add_subcommand(verb.__name__, own, help=_first_sentence(verb))
    return parser, runs


def _first_sentence(documented: object) -> str:
    return (documented.__doc__ or "").partition("\n")[0]


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


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """``{"a": {"b": 1}}`` as ``("a.b", 1)``."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
