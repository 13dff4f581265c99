"""How ``score`` and ``restore`` evaluate what they trained: one model, one split, a table, scores and pictures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from smp_feedback.checks import check_choice
from smp_feedback.cli.tables import say
from smp_feedback.data.items import item_name
from smp_feedback.data.progress import progress_bar
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation.results import save_result
from smp_feedback.evaluation.score_files import write_images
from smp_feedback.factory import from_pretrained
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.training.checkpoints import LAST, check_room
from smp_feedback.training.datamodule import PairsModule
from smp_feedback.training.facts import Facts
from smp_feedback.training.run_folder import MODEL, free_folder
from smp_feedback.training.trained_base import check_data

Opened = Callable[[str, Any], tuple[PairsModule, Facts]]
"""The data of one verb, as its settings say."""


def evaluate(
    args: Any,
    verb: str,
    kind: type[FeedbackModel],
    opened: Opened,
    *,
    score: Callable[..., Any],
    table: Callable[..., Table],
    draw: Callable[..., Path],
    note: str = "",
    more: Callable[[Any, Any, Facts, Path, str], None] | None = None,
) -> None:
    """Score a trained model on the split asked for, print what was found, and leave scores, figures and pictures.

    A model is of class *kind* and was trained by *verb*; *opened* opens its data, *score* is a function of
    `smp_feedback.evaluation`, *table* shows what that finds, *draw* what a model makes of some items. *note* is what
    the table's title says beside model and split, and *more* scores what else there is to be scored.
    """
    from smp_feedback.plotting.pictures import examples
    from smp_feedback.plotting.plot import plot

    check_choice("split", args.split, ("test", "val"))
    model, source = saved_model(args, verb, kind)
    data, facts = opened("test" if args.split == "test" else "validate", args)
    check_data(model, facts)
    items = getattr(data, args.split)
    folder = check_room(free_folder(args.out, verb), 1 << 20, f"{verb} writes its scores there")
    with advancing("scoring", items, args) as advance:
        found = score(model, items, images=True, advance=advance, **how_to_score(facts, args))
    Console().print(table(found, facts.classes, f"{source}, {args.split}{note}"))
    if more is not None:
        more(model, items, facts, folder, f"{source}, {args.split}{note}")
    path = save_result(found.result(facts.classes), folder / "scores.json")
    pictures = draw(model, examples(items), folder / "pictures.png", classes=len(facts.classes))
    names = [item_name(items, i) for i in range(len(items))]
    images = write_images(folder, facts.classes, found.answer.images, names)
    for one in (path, images, *plot([path]), pictures):
        say(f"wrote {one}")


def saved_model(args: Any, verb: str, kind: type[FeedbackModel]) -> tuple[Any, Path]:
    """The model that ``--run`` or ``--model`` names, and where it is, on the device asked for.

    Raises:
        InvalidValue: If none is named, there is none, or it has no loop of *verb*, whose class is *kind*.
    """
    if (args.run is None) == (args.model is None):
        raise InvalidValue(f"Whose model? Give --run DIR, the --out of {verb} train, or --model DIR, a saved one.")
    device = device_for(args.accelerator)
    source = Path(args.model) if args.run is None else Path(args.run) / MODEL
    if not source.is_dir():
        begun = args.run is not None and (Path(args.run) / LAST).is_file()
        ended = f" Has the run ended? smp-feedback {verb} train --resume {args.run} goes on with it." if begun else ""
        raise InvalidValue(f"{source}: expected a saved model, there is none.{ended}")
    model = from_pretrained(source)
    if not isinstance(model, kind):
        loop = kind.config_class.loop
        raise InvalidValue(f"{source} holds a {type(model).__name__} without a {loop} loop: smp-feedback {verb} train.")
    return model.to(device), source


def how_to_score(facts: Facts, args: Any) -> dict[str, Any]:
    """How to score, as the functions of `smp_feedback.evaluation` take it."""
    how = {"batch_size": args.data.batch_size, "workers": args.data.workers}
    return {"classes": len(facts.classes), "ignore_index": facts.ignore_index, **how}


def device_for(accelerator: str) -> torch.device:
    """A GPU if it is asked for, or is there and nothing else is asked for.

    >>> device_for("cpu")
    device(type='cpu')
    """
    check_choice("accelerator", accelerator, ("auto", "cpu", "gpu"))
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise InvalidValue("accelerator='gpu': torch finds none; accelerator='auto' takes what there is.")
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")


def advancing(what: str, items: Any, args: Any) -> AbstractContextManager[Callable[[], None]]:
    """A progress bar over the batches of *items*; gives what moves it."""
    return progress_bar(what, -(-len(items) // args.data.batch_size), console=Console(stderr=True))
