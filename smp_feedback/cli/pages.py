"""The help of a verb on one screen: what one needs, in the order one needs it; ``--help_all`` has the rest.

These pages are text, so that they are there at once: nothing is imported for them. That every word on them exists, and
has the default that stands beside it, is a test.
"""

from __future__ import annotations

from collections.abc import Sequence

from smp_feedback.cli.page import Page
from smp_feedback.cli.pages_of_loops import LOOPS
from smp_feedback.cli.pages_of_runs import RUNS
from smp_feedback.cli.pages_of_studies import STUDIES

PAGES = {**STUDIES, **RUNS, **LOOPS}
"""Of every verb that has one, by its words."""

SHORT = {
    "compare": "Does feedback help on my images? Train twins, and report.",
    "check": "Check all images and masks before training.",
    "fit": "Train a model, or continue a run.",
    "validate": "Score a trained model on the validation images.",
    "test": "Score a trained model on the test images.",
    "predict": "Write a trained model's label map for each image.",
    "app": "Try a saved model in the browser: looks, films, clicks.",
    "score": "Refine predictions by iterative inference.",
    "repair": "Mend masks: close gaps, take away false spots.",
    "restore": "Restore distorted images before segmenting them.",
    "clicks": "Segment what a person clicks on.",
    "plot": "Draw the figures of saved results.",
    "export": "Write a saved model as one ONNX or torch.export file.",
    "info": "Show what a saved model is.",
    "list": "List what there is, by name, and who brought it.",
    "plugins": "Show the installed plugins.",
}
"""Every verb in a line."""


def stages_of(verb: str) -> list[str]:
    """The verbs that *verb* has of its own.

    >>> stages_of("score"), stages_of("fit")
    (['train', 'tune', 'evaluate'], [])
    """
    page = PAGES.get(verb)
    return [*page.groups["Verbs"]] if page is not None and page.stages else []


def verbs_with(flag: str) -> list[str]:
    """The verbs that have the option *flag* on their page.

    >>> verbs_with("--window"), verbs_with("--wnidow")
    (['validate', 'test', 'predict'], [])
    """
    return [verb for verb, page in PAGES.items() if flag in page.flags]


def page_of(words: Sequence[str], films: bool = False) -> Page | None:
    """The page of what *words* ask for, if there is one; *films*: whether a comparison is on films.

    >>> page_of(["score", "tune", "--run", "runs/a"]).usage, page_of(["info"])
    ('score tune [options]', None)
    """
    if films:
        return PAGES["compare --task film"]
    names = [" ".join(words[:most]) for most in (2, 1)]
    return next((PAGES[name] for name in names if name in PAGES), None)
