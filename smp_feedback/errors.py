"""The messages: what was asked, what exists, what to do. Their facts stay attributes."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec


class FeedbackError(Exception):
    """Everything this package raises on purpose."""


class InvalidValue(FeedbackError, ValueError):
    """A value of the right type, outside its range."""


class InvalidType(FeedbackError, TypeError):
    """A value of the wrong type."""


class InvalidInput(FeedbackError, ValueError, RuntimeError):
    """An image that the model cannot read (torch would have raised ``RuntimeError`` somewhere inside)."""


class SurgeryError(FeedbackError, RuntimeError):
    """A base model that could not be opened or widened."""


class NotScriptable(FeedbackError, RuntimeError):
    """A loop that ``torch.jit.script`` was asked to read."""


class ExportError(FeedbackError, RuntimeError):
    """A model that could not be written as a file of its own, or a file that answers otherwise than the model."""


class NameTaken(FeedbackError, ValueError):
    """Two parts claim one name."""


class MissingExtra(FeedbackError, ImportError):
    """A part of the package that needs a library which is not installed."""


class PluginWarning(UserWarning):
    """An installed plugin is left out, is another version than a saved model was made with, or is misspelt."""


class DataWarning(UserWarning):
    """Files beside a dataset's are left out, or two splits share images."""


class UnknownName(FeedbackError, KeyError):
    """A name that nobody registered.

    Args:
        kind: What was looked up, singular ("architecture").
        name: What was asked for.
        known: Every name that exists.
        hint: One more sentence, if there is something else to say.
        why: Why there is none, where that is known: said in place of a suggestion.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "", *, why: str = "") -> None:
        self.kind, self.name, self.known, self.why = kind, name, sorted(known), why
        self.close = did_you_mean(name, self.known)
        super().__init__(f"No {kind} is called {name!r}. {why or suggestion(self.close, self.known)} {hint}".strip())

    def __str__(self) -> str:
        """The sentence itself (``KeyError`` would print its repr)."""
        return str(self.args[0])

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), self.args, self.__dict__)


class UnknownKeyword(FeedbackError, TypeError):
    """A keyword that the architecture or the config does not take."""


def require(library: str, extra: str) -> None:
    """Say which extra to install if *library* is missing.

    >>> require("nosuchlibrary", "train")
    Traceback (most recent call last):
    smp_feedback.errors.MissingExtra: This needs nosuchlibrary: pip install "smp_feedback[train]".
    """
    if find_spec(library) is None:
        raise MissingExtra(f'This needs {library}: pip install "smp_feedback[{extra}]".')


def one_line(error: BaseException) -> str:
    """What *error* says, on one line: its type first, unless it is ours and speaks for itself.

    >>> one_line(KeyError("three")), one_line(InvalidValue("tau=-1: expected > 0.")), one_line(SystemExit())
    ("KeyError: 'three'", 'tau=-1: expected > 0.', 'SystemExit')
    """
    try:
        text = " ".join(str(error).split())
    except Exception:  # a stranger's error may fail to say what it is
        text = ""
    if isinstance(error, FeedbackError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def did_you_mean(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The known names closest to *name*, best first, without regard to case.

    >>> did_you_mean("leakly", ["decay", "leaky"])
    ['leaky']
    """
    by_lower = {k.lower(): k for k in known}
    return [by_lower[k] for k in get_close_matches(str(name).lower(), by_lower, n=most, cutoff=0.6)]


def nearest(name: str, known: Iterable[str], most: int = 20) -> str:
    """One sentence that leads from a wrong *name* to the right one among those *known*.

    >>> nearest("leakly", ("decay", "leaky")), nearest("x", ("decay", "leaky"))
    ("Did you mean 'leaky'?", 'There is: decay, leaky.')
    """
    return suggestion(did_you_mean(name, known), list(known), most)


def suggestion(close: list[str], known: list[str], most: int = 20) -> str:
    """The same, where what is *close* to the name has been found already."""
    if close:
        return f"Did you mean {' or '.join(map(repr, close))}?"
    few = len(known) <= 2 * most
    shown = ", ".join(known if few else [*known[:most], "..."])
    return f"There is: {shown}." if known else "There is none."


def _restore(cls: type[UnknownName], args: tuple[object, ...], facts: dict[str, object]) -> UnknownName:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(facts)
    return error
