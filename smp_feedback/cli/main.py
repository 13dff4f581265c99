"""The library, printed: ``smp-feedback VERB ...``, or ``python -m smp_feedback``."""

from __future__ import annotations

import os
import re
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from typing import TYPE_CHECKING

from smp_feedback.cli import compare_films
from smp_feedback.cli.compare_films import is_on_films
from smp_feedback.cli.failures import DEBUG, in_fewer_words, status, told
from smp_feedback.cli.listing import warnings_on_a_line
from smp_feedback.cli.own_verbs import NAMED, OF_DATA, TRAINING, VERBS, clicks, compare, repair, restore, score
from smp_feedback.cli.pages import SHORT, page_of, stages_of, verbs_with
from smp_feedback.cli.verbs import Run, Verb, brought_verb, brought_verbs, known_verbs, says
from smp_feedback.errors import UnknownName, did_you_mean, require, suggestion

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from smp_feedback.registry.entry import Entry

HELP, HELP_ALL = ("-h", "--help"), "--help_all"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the process's exit status: 2, and one line on stderr, for what cannot be done.

    A failure that is not ours is one line, too; `smp_feedback.cli.failures` has what is said of which.
    """
    words = [*(sys.argv[1:] if argv is None else argv)]
    verb: Verb | None = next((one for one in VERBS if words and one.__name__ == words[0]), None)
    if verb is compare and is_on_films(words):
        verb = compare_films.compare
    brought: Sequence[Entry] = ()
    try:
        if (at_once := _said_at_once(words)) is not None:
            print(at_once)
            return 0
        if verb is None:  # no word, or one that a package may have brought
            brought, left_out = brought_verbs()
            _check_verb(words, known_verbs(brought), left_out)
            verb = _brought(words, brought)
        else:
            _check_verb(words, ())
        ended = _told_who_brought(verb, words, brought)
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit as stopped:
        if stopped.code == 1 and isinstance(stopped.__context__, KeyboardInterrupt):
            return _interrupted()  # Lightning makes one the other
        if stopped.code is not None:
            raise
        print("smp-feedback: stopped by a signal; --resume continues the run.", file=sys.stderr)
        return 143  # Lightning leaves so after SIGTERM, as if all were done
    except Exception as error:
        if DEBUG in os.environ:
            raise
        print(f"smp-feedback: {_one_line(error, verb, words)}", file=sys.stderr)
        return status(error)
    return ended or 0


def _said_at_once(words: Sequence[str]) -> str | None:
    """What is answered before anything is imported: a page of help, which version this is, or a shell's completion."""
    if words and words[0] == "--version":
        from smp_feedback.cli.about import about

        return about()
    if words and words[0].partition("=")[0] == "--print_shtab":
        from smp_feedback.cli.about import completion

        return completion(words, whole_parser)
    page = page_of(words, films=words[:1] == ["compare"] and is_on_films(words)) if {*HELP} & {*words} else None
    return None if page is None else page.text()


def _check_verb(words: Sequence[str], verbs: Sequence[str], left_out: str = "") -> None:
    """The first word is one of *verbs*, and the second one of its own where it has some.

    Raises:
        UnknownName: If it is not, with the one that was meant, and which plugins are *left_out*.
    """
    said = [word for word in words[:2] if not word.startswith("-")]
    kinds = ("verb", f"verb of {words[0]}" if words else "")
    for word, kind, known in zip(said, kinds, (verbs, stages_of(words[0]) if words else ()), strict=False):
        if known and word not in known:
            raise UnknownName(kind, word, known, left_out)


def _brought(words: Sequence[str], brought: Sequence[Entry]) -> Verb | None:
    """The verb of a package that is asked for; None if none is, as on the page of all."""
    name = next((entry.name for entry in brought if words and entry.name == words[0]), None)
    return None if name is None else brought_verb(name)


def _told_who_brought(verb: Verb | None, words: Sequence[str], brought: Sequence[Entry]) -> int | None:
    """Run *verb*; a part that the run in *words* had and that is gone is said with who brought it."""
    try:
        return _run(verb, words, brought)
    except UnknownName as error:
        from smp_feedback.cli.subcommands import runs_in
        from smp_feedback.saving.run_parts import explained

        raise explained(error, runs_in(words)) from error


def _run(verb: Verb | None, words: Sequence[str], brought: Sequence[Entry] = ()) -> int | None:
    require("jsonargparse", extra="cli")
    require("rich", extra="cli")
    from smp_feedback.cli.renamed import current
    from smp_feedback.cli.settings_files import expanded, files_in, settle
    from smp_feedback.saving.settings_text import check_unfolds

    for path in files_in(words):  # before anybody writes out what a bomb unfolds to
        check_unfolds(path)
    parser, run = _parser(verb, brought=brought)
    asked = expanded(["--help" if word == HELP_ALL else word for word in words])
    args = parser.parse_args(_with_settings(verb, current(asked) if verb in OF_DATA else asked))
    settle(args)
    if run is None or verb is None:
        parser.print_help()
        return 0
    with warnings_on_a_line():
        return run(args[verb.__name__])


def _interrupted() -> int:
    print("smp-feedback: interrupted; --resume continues the run.", file=sys.stderr)
    return 130  # as a shell's own: 128 + SIGINT


def _with_settings(verb: Verb | None, words: Sequence[str]) -> Sequence[str]:
    """*words* after those of the run that they name; of a comparison, with its lists put together."""
    if verb is compare:
        from smp_feedback.cli.experiments import lists_of_words
        from smp_feedback.experiments.comparison.settings import ComparisonSettings

        return lists_of_words(words, ComparisonSettings)
    if verb is compare_films.compare:
        return compare_films.words_of(words)
    if verb not in (*TRAINING, score, repair, restore, clicks):
        return words
    from smp_feedback.cli.subcommands import with_settings_of_a_run

    return with_settings_of_a_run(words)


def whole_parser() -> ArgumentParser:
    """The parser of all verbs with all that each can be told, which takes seconds to import."""
    return _parser(*VERBS)[0]


def _parser(*chosen: Verb | None, brought: Sequence[Entry] = ()) -> tuple[ArgumentParser, Run | None]:
    """The parser of all verbs, and what runs the last that is *chosen*; those of the others may take long to import."""
    from smp_feedback.cli.help import first_line, new_parser, usage

    parser = new_parser(first_line(sys.modules["smp_feedback"]), "smp-feedback")
    parser.usage = "smp-feedback VERB ..."
    parser.add_argument("--version", action="store_true", help="which this is, and what it stands on")
    parser.add_argument("--print_shtab", metavar="SHELL", help="what completes these words in bash, zsh or tcsh")
    more = "smp-feedback VERB --help says what a verb needs, --help_all all that it can be told."
    verbs = parser.add_subcommands(dest="verb", required=False, metavar="VERB", title="verbs", description=more)
    wanted = {verb.__name__: verb for verb in chosen if verb is not None}
    run: Run | None = None
    for name, line in (SHORT | {entry.name: says(entry) for entry in brought}).items():
        known = wanted.get(name) or NAMED.get(name)
        own = new_parser(line if known is None else known.__doc__)
        verbs.add_subcommand(name, own, help=line)  # first: it may get some of its own
        if name in wanted:
            run = wanted[name](own)
            own.usage = usage(own, name)
    return parser, run


def _one_line(error: Exception, verb: Verb | None, words: Sequence[str]) -> str:
    """What went wrong; for an unknown option what was meant, and of a settings file the line."""
    text = told(error)
    if not any(word.startswith("--config") for word in words):
        return _meant(text, verb)
    from smp_feedback.cli.settings_files import place_of, unreadable

    if isinstance(error, ArgumentError) and (broken := unreadable(words)):
        return broken
    place = place_of(text, words)
    return _meant(text if place is None else f"{place.path}, line {place.line}: {text}", verb)


def _meant(text: str, verb: Verb | None) -> str:
    """*text*, and for an unknown option the one that was meant, or the verbs that have it."""
    text = in_fewer_words(text)
    wrong = re.search(r"unrecognized arguments: --([\w.]+)|does not accept option '([\w.]+)'", text)
    if wrong and verb is not None:
        from smp_feedback.cli.help import new_parser, options_of

        own = new_parser(None)
        verb(own)
        options = [flag[2:] for flag in options_of(own)]
        if close := did_you_mean(wrong[1] or wrong[2], options):
            return f"{text}. {suggestion([f'--{one}' for one in close] if wrong[1] else close, options)}"
        if others := verbs_with(f"--{wrong[1] or wrong[2]}"):
            return f"{text}. That is an option of {', '.join(others)}."
    return text
