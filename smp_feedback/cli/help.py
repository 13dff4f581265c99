"""Help pages: docstrings without their markup, types as Python writes them, nothing said twice."""

from __future__ import annotations

import re
from argparse import Action
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter

ROLE = re.compile(r":[\w:]+:`(?:~[\w.]*?(\w+)|([^`]+))`")  # :class:`~a.b.C`
TYPE_OF_A_UNION = re.compile(r"(?:Union|Optional)\[(.*)\]")


class HelpFormatter(DefaultHelpFormatter):
    """jsonargparse's, for people."""

    def _get_help_string(self, action: Action) -> str:
        """The description, type and default; those of Lightning come with both inside."""
        if "(default:" in (action.help or ""):
            return str(action.help)
        text = re.sub(r", known subclasses: .*\)$", ")", super()._get_help_string(action), flags=re.DOTALL)
        return plain(re.sub(r"\s*Default: (``[^`]*``|\d+)\.", "", text))

    def _get_type_str(self, action: Action) -> str | None:
        kind = super()._get_type_str(action)
        return None if kind is None else union(kind)

    def _format_action_invocation(self, action: Action) -> str:
        """``--size SIZE`` without ``--size+ SIZE``, which appends to a list."""
        every = action.option_strings
        action.option_strings = [flag for flag in every if not flag.endswith("+")]
        try:
            return super()._format_action_invocation(action)
        finally:
            action.option_strings = every


def new_parser(description: str | None, *words: str) -> ArgumentParser:
    """A parser in our manner: its help is for people, and what is wrong is raised, not printed."""
    manner: Any = {"formatter_class": HelpFormatter, "exit_on_error": False, "allow_abbrev": False}
    return ArgumentParser(*words, description=description, **manner)


def first_line(documented: object) -> str:
    """That of a docstring."""
    return (documented.__doc__ or "").partition("\n")[0]


def verbs_of(parser: ArgumentParser) -> dict[str, ArgumentParser]:
    """The parsers of the verbs that *parser* has of its own."""
    return {name: one for action in parser._actions for name, one in getattr(action, "_name_parser_map", {}).items()}


def options_of(parser: ArgumentParser) -> list[str]:
    """Every flag, those of subcommands too."""
    flags = {
        flag
        for one in (parser, *verbs_of(parser).values())
        for action in one._actions
        for flag in action.option_strings
    }
    return sorted(flag for flag in flags if flag.startswith("--") and not flag.endswith("+"))  # --images+ appends


def plain(text: str) -> str:
    """A docstring's sentences without its markup; None is YAML's null.

    >>> plain("A :class:`~torch.nn.Module`, or ``name``. None is *loss*'s own.")
    "A Module, or name. null is loss's own."
    """
    text = re.sub(r"\*(\w+)\*", r"\1", ROLE.sub(lambda found: found[1] or found[2], text))
    return re.sub(r"\bNone\b", "null", text.replace("`", ""))


def union(kind: str) -> str:
    """A type's name, of a union with bars; what has parameters of its own parameters by its bare name.

    >>> union("Union[int, list[int], null]"), union("Optional[int]"), union("dict[str, Any]")
    ('int | list[int] | null', 'int | null', 'dict[str, Any]')
    >>> union("Callable[[Iterable[Parameter]], Optimizer] | null")
    'Callable | null'
    """
    found = TYPE_OF_A_UNION.fullmatch(kind)
    if found:
        more = ["null"] * kind.startswith("Optional")
        return " | ".join(dict.fromkeys(union(part) for part in [*parts(found[1], ","), *more]))
    several = parts(kind, "|")
    if len(several) > 1:
        return " | ".join(union(part) for part in several)
    return kind.partition("[")[0] if kind.count("[") > 1 else kind


def usage(parser: ArgumentParser, verb: str) -> str:
    """The line above the help: the words that must be there, and that there are options."""
    words = [action for action in parser._actions if not action.option_strings]
    manner = {"+": "{} ...", "?": "[{}]"}
    named = [manner.get(str(action.nargs), "{}").format(action.metavar) for action in words]
    return " ".join(["smp-feedback", verb, *named, "[options]"])


def parts(text: str, mark: str) -> list[str]:
    """*text* at each *mark* that is outside brackets.

    >>> parts("int, dict[str, int]", ",")
    ['int', 'dict[str, int]']
    """
    found, depth = [""], 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == mark and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return [part.strip() for part in found]
