"""The help of every verb is one screen of words that exist, there at once; wrong words and values are told in ours."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from functools import cache

import pytest

pytest.importorskip("lightning")

from smp_feedback.cli import main as cli
from smp_feedback.cli import own_verbs
from smp_feedback.cli.help import options_of, verbs_of
from smp_feedback.cli.main import VERBS, main, whole_parser
from smp_feedback.cli.page import LINES, WIDTH
from smp_feedback.cli.pages import PAGES, SHORT

FILMS = "compare --task film"
SMALL = ("plot", "export", "info", "list", "plugins")  # whose parsers are a screen as they are
DEFAULT = re.compile(r"\(default: ([^)]*)\)")


every_verb = cache(whole_parser)


@cache
def parser_of(name):
    """That of a verb, or of one of its own."""
    verb, *stage = name.split()
    whole = cli._parser(cli.compare_films.compare)[0] if name == FILMS else every_verb()
    own = verbs_of(whole)[verb]
    return verbs_of(own)[stage[0]] if stage and name != FILMS else own


def shown(words, capsys):
    """What is printed for *words*, by a page or by a parser."""
    with contextlib.suppress(SystemExit):  # the parser's own, after its help
        assert main(words) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ["", *PAGES, *SMALL])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_verbs_help_is_one_screen(name, flag, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    lines = shown([*name.split(), flag], capsys).splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= WIDTH
    assert lines[0].startswith(f"usage: smp-feedback {name}".rstrip())


def test_every_verb_has_a_line_and_a_page():
    assert list(SHORT) == [verb.__name__ for verb in VERBS]
    stages = [f"{verb} {stage}" for verb, own in verbs_of(every_verb()).items() for stage in verbs_of(own)]
    assert {*PAGES, *SMALL} == {*SHORT, *stages, FILMS}
    for verb in ("score", "repair", "restore", "clicks"):
        assert [*PAGES[verb].groups["Verbs"]] == [*verbs_of(parser_of(verb))]


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if not page.stages])
def test_what_stands_on_a_page_exists_and_is_said_once(name):
    parser, page = parser_of(name), PAGES[name]
    assert {*page.flags} <= {*options_of(parser)}
    assert len(page.flags) == len({*page.flags})
    actions = {flag: action for action in parser._actions for flag in action.option_strings}
    for word, says in (pair for words in page.groups.values() for pair in words.items()):
        action, told = actions[word.split()[0]], DEFAULT.search(says)
        if told and action.default is not None and "TIME" not in told[1] and action.dest not in ("out", "model.loss"):
            assert told[1].lower() == str(action.default).lower(), word


def test_a_page_waits_for_nothing():
    code = (
        "import sys; from smp_feedback.cli.main import main; assert main(['fit', '--help']) == 0\n"
        "heavy = {'torch', 'lightning', 'numpy', 'jsonargparse', 'rich'} & {*sys.modules}; assert not heavy, heavy"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_the_whole_help_has_lightnings_words_too(capsys):
    out = shown(["fit", "--help_all"], capsys)
    assert "--trainer.gradient_clip_val" in out
    assert len(out.splitlines()) > 5 * LINES


def test_the_version_is_one_line_with_those_of_what_it_stands_on(capsys):
    from importlib.metadata import version

    out = shown(["--version"], capsys)
    assert out.count("\n") == 1
    assert out.startswith("smp_feedback ")
    assert f"torch {version('torch')}" in out


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_shell_completes_every_verb_and_option(shell, capsys):
    pytest.importorskip("shtab")
    script = shown(["--print_shtab", shell], capsys)
    for word in ("compare", "ablation", "--model.arch", "--data.root"):
        assert word.lstrip("-") in script
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
        for verb, own in verbs_of(every_verb()).items():
            for flag in options_of(own) if not verbs_of(own) else ():
                assert re.search(rf"_{verb}_option_strings=\(.*(?<![\w.-]){re.escape(flag)}[ )]", script), (verb, flag)


WRONG = ("wrong", "[wrong, {a: b}]", "{a: 1}")
TELLING = {"seed", "model.lr", "model.optimizer", "model.arguments", "data", "trainer.logger", "trainer.precision"}
"""Settings of every kind of type that is told in another way."""


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("fit", TELLING),
        *(pytest.param(name, None, marks=pytest.mark.sweep) for name in ("fit", "compare", "score train")),
    ],
)
def test_no_wrong_value_is_answered_in_the_parsers_own_words(name, keys):
    parser, words = every_verb(), name.split()
    verb = getattr(own_verbs, words[0])
    for action in parser_of(name)._actions:
        flags = [flag for flag in action.option_strings if flag.startswith("--") and flag[-1] != "+"]
        known = flags and action.nargs != 0 and not flags[0].endswith((".help", "print_config", "config"))
        for value in WRONG if known and (keys is None or action.dest in keys) else ():
            told = [*words, f"{flags[0]}={value}"]
            try:
                parser.parse_args(told)
            except Exception as error:
                line = cli._one_line(error, verb, told)
                ugly = [one for one in ("Union", "<class", "Parser key", "typing.", "Subtypes") if one in line]
                assert not ugly, line
                assert len(line) < 300, line
