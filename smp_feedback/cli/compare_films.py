"""``compare --task film``: the comparison on films, as it is typed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

TASK, FILM = "task", "film"


def is_on_films(words: Sequence[str]) -> bool:
    """Whether *words* ask for films, typed or in a settings file; what is typed last counts.

    >>> is_on_films(["compare", "--task", "film"]), is_on_films(["compare", "--task=film", "--task=image"])
    (True, False)
    """
    told = [_task_in(path) for path in _files(words)]
    for word, behind in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name == f"--{TASK}":
            told.append(value if equals else behind)
    return bool(told) and next((task for task in reversed(told) if task), None) == FILM


def _files(words: Sequence[str]) -> list[Any]:
    from smp_feedback.cli.settings_files import expanded, files_in

    return files_in(expanded([*words]))


def _task_in(path: Any) -> object:
    """What a settings file says; a broken one is the parser's to refuse."""
    import yaml

    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
    return found.get(TASK) if isinstance(found, dict) else None


def words_of(words: Sequence[str]) -> list[str]:
    """*words* with lists put together."""
    from smp_feedback.cli.experiments import lists_of_words
    from smp_feedback.experiments.films.settings import FilmSettings

    return lists_of_words(words, FilmSettings)


def compare(parser: ArgumentParser) -> Callable[[Any], None]:
    """Does a state that is carried from frame to frame help on my films? Train it and its rivals alike, and report."""
    from smp_feedback.cli.experiments import add_arguments, add_task, conduct
    from smp_feedback.experiments.films.settings import FilmSettings

    add_task(parser, FILM)
    add_arguments(parser, FilmSettings, "runs/films", "the report")

    def run(args: Any) -> None:
        from smp_feedback.experiments.films.experiment import compare_films

        conduct(compare_films, FilmSettings, args)

    return run
