"""The library, printed: ``smp-feedback VERB ...``, or ``python -m smp_feedback``.

A verb is one function: it adds its arguments to the parser it is handed and returns what runs them; its docstring
is the help. What takes long to import is imported when a verb runs.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from smp_feedback.errors import FeedbackError, InvalidValue, did_you_mean, require, suggestion

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

Run = Callable[[Any], None]
Verb = Callable[["ArgumentParser"], Run]


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

        from smp_feedback.evaluation.results import flat
        from smp_feedback.saving.saved import read_config

        table = Table("setting", "value", title=str(args.model))
        for name, value in flat(read_config(args.model)):
            table.add_row(name, str(value))
        Console().print(table)

    return run


def compare(parser: ArgumentParser) -> Run:
    """Does feedback help on my images? Train a feedback model and its feed-forward twins alike, and report."""
    from smp_feedback.cli.experiments import add_arguments, conduct
    from smp_feedback.experiments.comparison.settings import ComparisonSettings

    add_arguments(parser, ComparisonSettings, "runs/compare", "the report")

    def run(args: Any) -> None:
        from smp_feedback.experiments.comparison.experiment import compare as experiment

        conduct(experiment, ComparisonSettings, args)

    return run


def plot(parser: ArgumentParser) -> Run:
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


def fit(parser: ArgumentParser) -> Run:
    """Train a model, log and keep its best weights; --resume goes on with a run that was killed."""
    return _training(parser, "fit")


def validate(parser: ArgumentParser) -> Run:
    """Score a trained model's every look on the validation images."""
    return _training(parser, "validate")


def test(parser: ArgumentParser) -> Run:
    """Score a trained model's every look on the test images."""
    return _training(parser, "test")


def predict(parser: ArgumentParser) -> Run:
    """Write a trained model's label map for each image."""
    return _training(parser, "predict")


def score(parser: ArgumentParser) -> Run:
    """Refine a trained model's predictions by iterative inference: train what refines them, tune it, evaluate."""
    from smp_feedback.cli.score import add_arguments

    return add_arguments(parser)


def restore(parser: ArgumentParser) -> Run:
    """Restore distorted images before they are segmented, with what the segmentation says: train, evaluate, ablate."""
    from smp_feedback.cli.restore import add_arguments

    return add_arguments(parser)


def list(parser: ArgumentParser) -> Run:
    """List what there is, by name, and who brought it: architectures, encoders, losses, ..."""
    from smp_feedback.cli.listing import LISTED

    parser.add_argument("kind", metavar="KIND", nargs="?", help=", ".join(LISTED))
    parser.add_argument(
        "pattern", metavar="PATTERN", nargs="?", default="*", help="as in 'timm/resnet*'; without it, all"
    )
    parser.add_argument("--json", action="store_true", help="for programs")

    def run(args: Any) -> None:
        from smp_feedback.cli.listing import list_aloud

        list_aloud(args.kind, args.pattern, as_json=args.json)

    return run


def plugins(parser: ArgumentParser) -> Run:
    """Show the installed plugins: what each brings, and which are left out and why."""
    parser.add_argument("--json", action="store_true", help="for programs; with tracebacks")
    parser.add_argument("--traceback", action="store_true", help="show where a broken plugin failed")

    def run(args: Any) -> None:
        from smp_feedback.cli.listing import plugins_aloud

        plugins_aloud(as_json=args.json, traceback=args.traceback)

    return run


TRAINING = (fit, validate, test, predict)
VERBS = (compare, *TRAINING, score, restore, plot, export, info, list, plugins)
DEBUG = "SMP_FEEDBACK_DEBUG"  # set to anything, errors come with their traceback


def _training(parser: ArgumentParser, verb: str) -> Run:
    from smp_feedback.cli.train import add_arguments

    return add_arguments(parser, verb)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the process's exit status: 2, and one line on stderr, for what cannot be done."""
    words: Sequence[str] = [*(sys.argv[1:] if argv is None else argv)]
    verb = next((one for one in VERBS if words and one.__name__ == words[0]), None)
    try:
        require("jsonargparse", extra="cli")
        require("rich", extra="cli")
        parser, run = _parser(verb)
        words = _with_settings(verb, words)
        args = parser.parse_args(words)
        if run is None or verb is None:
            parser.print_help()
        else:
            from smp_feedback.cli.listing import warnings_on_a_line

            with warnings_on_a_line():
                run(args[verb.__name__])
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit as stopped:
        if stopped.code == 1 and isinstance(stopped.__context__, KeyboardInterrupt):
            return _interrupted()  # Lightning makes one the other
        if stopped.code is not None:
            raise
        print("smp-feedback: told to stop, and stopped; --resume goes on with a run.", file=sys.stderr)
        return 143  # Lightning leaves so after SIGTERM, as if all were done
    except (FeedbackError, OSError, argparse.ArgumentError) as error:
        if DEBUG in os.environ:
            raise
        print(f"smp-feedback: {_one_line(error, verb)}", file=sys.stderr)
        return 2
    return 0


def _interrupted() -> int:
    print("smp-feedback: interrupted; --resume goes on with a run.", file=sys.stderr)
    return 130  # as a shell's own: 128 + SIGINT


def _with_settings(verb: Verb | None, words: Sequence[str]) -> Sequence[str]:
    """*words* after those of the run that they name."""
    if verb is score:
        from smp_feedback.cli.score_settings import with_settings

        return with_settings(words)
    if verb is restore:
        from smp_feedback.cli.restore_settings import with_settings as of_restoring

        return of_restoring(words)
    if verb in TRAINING:
        from smp_feedback.cli.train import with_settings_of_a_run

        return with_settings_of_a_run(words)
    return words


def _parser(chosen: Verb | None) -> tuple[ArgumentParser, Run | None]:
    """The parser of all verbs, and what runs *chosen*; the arguments of the others may take long to import."""
    from jsonargparse import ArgumentParser

    from smp_feedback.cli.help import HelpFormatter, usage

    own_manner: Any = {"formatter_class": HelpFormatter, "exit_on_error": False, "allow_abbrev": False}
    parser = ArgumentParser("smp-feedback", description=_first_sentence(sys.modules["smp_feedback"]), **own_manner)
    parser.usage = "smp-feedback VERB ..."
    verbs = parser.add_subcommands(dest="verb", required=False, metavar="VERB")
    run: Run | None = None
    for verb in VERBS:
        own = ArgumentParser(description=verb.__doc__, **own_manner)
        verbs.add_subcommand(verb.__name__, own, help=_first_sentence(verb))  # first: it may get some of its own
        if verb is chosen:
            run = verb(own)
            own.usage = usage(own, verb.__name__)
    return parser, run


def _one_line(error: Exception, verb: Verb | None) -> str:
    """What went wrong; of a loading process's traceback the end, and for an unknown option what was meant."""
    text = str(error)
    if text.startswith("Caught "):
        text = text.strip().splitlines()[-1].partition(": ")[2]
    text = " ".join([*text.split(), *getattr(error, "__notes__", ())])
    wrong = re.search(r"unrecognized arguments: --([\w.]+)|does not accept option '([\w.]+)'", text)
    if wrong and verb is not None:
        options = [flag[2:] for flag in _options(verb) if flag.startswith("--")]
        if close := did_you_mean(wrong[1] or wrong[2], options):
            return f"{text}. {suggestion([f'--{one}' for one in close] if wrong[1] else close, options)}"
    return text


def _options(verb: Verb) -> Sequence[str]:
    from jsonargparse import ArgumentParser

    own = ArgumentParser(exit_on_error=False)
    verb(own)
    inner = [one for action in own._actions if isinstance(action.choices, dict) for one in action.choices.values()]
    flags = {flag for one in (own, *inner) for action in one._actions for flag in action.option_strings}
    return sorted(flag for flag in flags if not flag.endswith("+"))  # --images+ appends to --images


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
