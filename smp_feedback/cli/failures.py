"""What went wrong, on one line: ours speaks for itself, a stranger's exception is told with what helps."""

from __future__ import annotations

import re
from argparse import ArgumentError

from smp_feedback.data.one_size import IN_TRAINING, NO_BATCH
from smp_feedback.errors import FeedbackError

DEBUG = "SMP_FEEDBACK_DEBUG"  # set to anything, errors come with their traceback
MOST = 600  # letters of a stranger's message: some list every weight of a model
TRACEBACK = "Traceback (most recent call last)"
EXPECTED = (ValueError, RuntimeError, TypeError, OSError, MemoryError)  # what data, settings and machines bring about
PARSED = re.compile(r"Parser key \"([\w.]+)\": (?!Parser key)(.*)")  # what jsonargparse says of a value
ONE_OF_SEVERAL = re.compile(r"any of the Union subtypes Subtypes: \[(.*?)\] Errors: .* Given value: (.*)")
ONE = re.compile(r"Expected a (<class '[\w.]+'>|typing\.Literal\[.*?\])\.? (?:Got value|.*Given value): (.*)")
REQUIRED = re.compile(r"the following arguments are required: (\w+)\.([\w.]+)$")  # a word of a verb, and no option
NO_FILE = re.compile(r"Unable to load config ['\"](.*?)['\"](?: - .*)?$")
SAID = {"NoneType": "null", "True": "true", "False": "false", "Any": "anything"}
SMALLER = (
    "give a smaller data.batch_size, data.crop or data.size, fewer steps (model.feedback.steps), "
    "or, in training, model.backward per_step"
)
EXPLAINED = (
    (
        r"Expected more than 1 value per channel when training, got input size ((?:torch\.Size\()?\[[\d, ]*\]\)?)",
        "a BatchNorm has one value a channel to learn from ({}): give data.batch_size >= 2, larger images (data.size, "
        "data.crop), or model.base_norm group",
    ),
    (
        r"(?s)(?:out of memory|can't allocate memory).*?tried to allocate ([\d.]+ \w+)",
        f"out of memory for {{}}: {SMALLER}",
    ),
    (r"Unable to allocate ([\d.]+ \w+)", f"out of memory for {{}}: {SMALLER}"),
    (r"out of memory|can't allocate memory|CUBLAS_STATUS_ALLOC_FAILED|^MemoryError", f"out of memory: {SMALLER}"),
    (
        r"DataLoader worker.* (?:is killed by signal|exited unexpectedly)",
        "a process that loads data was killed, as happens where memory, or shared memory, runs out: give fewer "
        "data.workers, or 0",
    ),
    (
        r"stack expects each tensor to be equal size, but got (\[[\d, ]*\] at entry \d+ and \[[\d, ]*\] at entry \d+)",
        f"{NO_BATCH}, such as {{}}: {IN_TRAINING}",
    ),
    (
        r"PytorchStreamWriter failed|enforce fail at inline_container",
        "a file could not be written whole; is the disk full?",
    ),
    (
        r"device-side assert triggered",
        "the GPU stopped, as it does at a label that is no class: on a CPU (trainer.accelerator cpu) it is said which",
    ),
)
"""What strangers' messages mean here: a pattern, and a sentence with what the pattern's groups found."""


def status(error: BaseException) -> int:
    """The process's: 2 for what data, settings and machines bring about, 1 for what looks like a mistake of ours.

    >>> status(RuntimeError("stack expects")), status(AttributeError("no attribute"))
    (2, 1)
    """
    return 2 if isinstance(error, (FeedbackError, ArgumentError, *EXPECTED)) else 1


def told(error: BaseException) -> str:
    """*error* on one line, with its notes; of a loading process's traceback the cause.

    >>> told(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ..."))[:27]
    'out of memory for 2.00 GiB:'
    >>> told(KeyError("mask"))
    "KeyError: 'mask' (SMP_FEEDBACK_DEBUG=1 shows where)"
    """
    kind, text = type(error).__name__, _text(error)
    ours = isinstance(error, (FeedbackError, ArgumentError, OSError))
    if TRACEBACK in text:
        kind, text = cause(text)
        ours = kind.startswith("smp_feedback.")
    text = " ".join([*text.split(), *getattr(error, "__notes__", ())])
    if ours and not getattr(error, "of_stranger", False):
        return text
    text = explained(text if ours else f"{kind.rpartition('.')[2]}: {text}".removesuffix(": "))
    return f"{text} ({DEBUG}=1 shows where)"


def cause(text: str) -> tuple[str, str]:
    """The type and the message of the exception whose traceback *text* ends with.

    >>> lines = "Caught KeyError in process 0.", f"{TRACEBACK}:", "  File ...", "a.B: two", "lines"
    >>> cause(chr(10).join(lines))
    ('a.B', 'two lines')
    """
    lines = text[text.rindex(TRACEBACK) :].splitlines()[1:]
    first = next((k for k, line in enumerate(lines) if line and not line.startswith(" ")), 0)
    kind, _, said = " ".join(lines[first:]).partition(": ")
    return kind.strip(), said.strip()


def explained(text: str) -> str:
    """What *text* means here, if that is known; else *text*, not too long."""
    for pattern, meaning in EXPLAINED:
        if found := re.search(pattern, text, re.IGNORECASE):
            item = re.match(r"(.*?): \w*(?:Error|Exception)\b", text[: found.start()])  # which file it was, if one
            where = f"{item[1]}: " if item else ""
            return where + meaning.format(*found.groups())
    return text if len(text) <= MOST else f"{text[:MOST]}..."


def in_fewer_words(text: str) -> str:
    r"""*text*, where it says at length that a setting's value has another type, or that a word is missing.

    >>> kinds = "Subtypes: [<class 'int'>, <class 'NoneType'>] Errors: - Expected a <class 'int'>"
    >>> said = f"Does not validate against any of the Union subtypes {kinds} Given value type: <class 'str'>"
    >>> in_fewer_words(f'Parser key "a.b": {said} Given value: c')
    'a.b: expected int or null, not c.'
    >>> in_fewer_words('Parser key "seed": Expected a <class \'int\'>. Got value: one')
    'seed: expected int, not one.'
    >>> in_fewer_words("the following arguments are required: export.out")
    'export: no OUT given; smp-feedback export --help says what it is.'
    """
    if missing := REQUIRED.search(text):
        verb, word = missing.groups()
        return f"{text[: missing.start()]}{verb}: no {word.upper()} given; smp-feedback {verb} --help says what it is."
    if (found := PARSED.search(text)) is None:
        return text
    key, said = found.groups()
    before = text[: found.start()]
    if several := ONE_OF_SEVERAL.search(said):
        return f"{before}{key}: expected {_kinds(several[1])}, not {several[2]}."
    if one := ONE.match(said):
        return f"{before}{key}: expected {_kinds(one[1])}, not {one[2]}."
    if no_file := NO_FILE.match(said):
        return f"{before}{key}: expected a YAML file of its settings, or {key}.NAME for one of them, not {no_file[1]}."
    return text


def _kinds(types: str) -> str:
    """Types as jsonargparse lists them, as one says them.

    >>> _kinds("collections.abc.Callable[[list[a.B]], c.D], dict[str, typing.Any], <class 'NoneType'>")
    'Callable or dict[str, anything] or null'
    >>> _kinds("typing.Literal['a', 'b']")
    "'a' or 'b'"
    """
    from smp_feedback.cli.help import parts

    named = re.sub(r"<class '([\w.]*)'>", r"\1", types)
    every = [_kind(part) for part in parts(named, ",")]
    return " or ".join(dict.fromkeys(every))


def _kind(name: str) -> str:
    if name.startswith("typing.Literal["):
        return name.removeprefix("typing.Literal[").removesuffix("]").replace(", ", " or ")
    short = re.sub(r"(?:\w+\.)+(\w+)", r"\1", name)
    bare = short.partition("[")[0] if short.startswith(("Callable", "Iterable")) else short
    return re.sub(r"\w+", lambda word: SAID.get(word[0], word[0]), bare)


def _text(error: BaseException) -> str:
    try:
        return str(error).strip()
    except Exception:  # a stranger's error may fail to say what it is
        return ""
