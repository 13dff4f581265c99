"""The verbs that this package brings, in the order in which they are listed.

A verb is one function: it adds its arguments to the parser it is handed and returns what runs them; its docstring
is the help. What takes long to import is imported when a verb runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smp_feedback.cli import compare_films
from smp_feedback.cli.listing import list, plugins
from smp_feedback.cli.saved_models import export, info, plot
from smp_feedback.cli.verbs import Run

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def compare(parser: ArgumentParser) -> Run:
    """Does feedback help on my images? Train a feedback model and its feed-forward twins alike, and report."""
    from smp_feedback.cli.experiments import add_arguments, add_task, conduct
    from smp_feedback.experiments.comparison.settings import ComparisonSettings

    add_task(parser, "image")
    add_arguments(parser, ComparisonSettings, "runs/compare", "the report")

    def run(args: Any) -> None:
        from smp_feedback.experiments.comparison.experiment import compare as experiment

        conduct(experiment, ComparisonSettings, args)

    return run


def check(parser: ArgumentParser) -> Run:
    """Check all images and masks before training: a list of problems, and settings for fit."""
    from smp_feedback.cli.check import add_arguments

    return add_arguments(parser)


def fit(parser: ArgumentParser) -> Run:
    """Train a model and keep its best weights; --resume continues a run that was stopped."""
    return _training(parser, "fit")


def validate(parser: ArgumentParser) -> Run:
    """Score a trained model on the validation images, after each look."""
    return _training(parser, "validate")


def test(parser: ArgumentParser) -> Run:
    """Score a trained model on the test images, after each look."""
    return _training(parser, "test")


def predict(parser: ArgumentParser) -> Run:
    """Write a trained model's label map for each image."""
    return _training(parser, "predict")


def app(parser: ArgumentParser) -> Run:
    """Try a saved model in the browser: an image, a slider of looks, films, clicks; on this computer alone."""
    from smp_feedback.cli.app import add_arguments

    return add_arguments(parser)


def score(parser: ArgumentParser) -> Run:
    """Refine a trained model's predictions by iterative inference: train, tune, evaluate."""
    from smp_feedback.cli.score import add_arguments

    return add_arguments(parser)


def repair(parser: ArgumentParser) -> Run:
    """Mend a trained model's masks with a small network that is applied again and again: train, evaluate."""
    from smp_feedback.cli.repair import add_arguments

    return add_arguments(parser)


def restore(parser: ArgumentParser) -> Run:
    """Restore distorted images before they are segmented, with what the segmentation says: train, evaluate, ablate."""
    from smp_feedback.cli.restore import add_arguments

    return add_arguments(parser)


def clicks(parser: ArgumentParser) -> Run:
    """Segment what a person clicks on: train such a model, and count the clicks it needs."""
    from smp_feedback.cli.clicks import add_arguments

    return add_arguments(parser)


TRAINING = (fit, validate, test, predict)
OF_DATA = (compare, compare_films.compare, check, *TRAINING, score, repair, restore, clicks)  # what is told of data
VERBS = (compare, check, *TRAINING, app, score, repair, restore, clicks, plot, export, info, list, plugins)
NAMED = {verb.__name__: verb for verb in VERBS}


def _training(parser: ArgumentParser, verb: str) -> Run:
    from smp_feedback.cli.train import add_arguments

    return add_arguments(parser, verb)
