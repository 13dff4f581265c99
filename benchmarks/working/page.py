"""The page that says which models work: from the results alone, so that it can be written again at no cost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from benchmarks.working.cases import FIRST, LARGEST, OF_TIMM, OF_TORCHVISIONS, PLACES, VIT, Case, Smallest
from benchmarks.working.store import reason, works
from benchmarks.working.written import Written, refused

Results = dict[str, dict[str, Any]]

LENGTH = 260
"""Of a reason, in characters."""

COLUMNS = {
    ("smp", "input"): "smp's architectures, beside the image",
    ("smp", "stem"): "smp's architectures, after the stem",
    ("smp", "stage:2"): "smp's architectures, at a stage",
    ("smp", "decoder"): "smp's architectures, in front of the decoder",
    ("torchvision", "input"): "torchvision's segmentation models, beside the image",
    ("torchvision", "decoder"): "torchvision's segmentation models, in front of the decoder",
    ("timm", "input"): "timm's families as classifiers, beside the image",
    ("timm", FIRST): "timm's families as classifiers, after their first module",
    ("encoders", "input"): "timm's families as smp's encoders (`tu-`), beside the image",
    ("vit", "input"): f"timm's isotropic families in `{VIT}`, beside the image",
}
"""Every table and place, in words."""

HEAD = """# Which models work

Which base models can have feedback. Each was built with random weights, wrapped in a loop of two looks (iterations),
and tested:

- wrapped, it keeps its outputs, for any number of looks, and its weights can be taken back;
- with weights that are not zero the feedback changes the output, and every new parameter has a gradient;
- a training step is finite;
- saved and loaded, it gives the same outputs bit for bit.

"yes" means that all of it holds, "-" that it was not tested.
"""

SMP, TORCHVISION, FAMILIES = "smp's architectures", "torchvision's segmentation models", "timm's families"

OF_SMP = f"""## {SMP}

With ResNet-18; DPT with a ViT-Tiny, which is no chain of stages, so DPT has neither `stem` nor `stage:k`. At `decoder`
the encoder runs once per image, whatever it is.
"""

OF_TORCHVISION = f"""## {TORCHVISION}

As `torchvision/<name>`. At `decoder` their backbone runs once per image.
"""

SOMEWHERE = "timm's families as classifiers, one place or the other"

LEFT_OUT = "Left out"

TITLES = {"smp": SMP, "torchvision": TORCHVISION}
"""Of tables of which a part may be asked again."""

TIMM = f"""## {FAMILIES}

The smallest model of each of timm's modules (its miniatures for tests left out), as `create("timm/<model>")` with 10
classes, at the size it is fixed to, else the first that it takes of those it was built for and 64, 128, ... (px).

- `input`: the feedback enters beside the image, in the convolutions that read it.
- `after:`: it enters behind a module that then runs once per image (`insert="after:NAME"`); the name is that of the
  first small module that is handed the image.
- encoder of: `tu-<model>` in Unet, or in DPT where smp's Unet refuses it.
- `{VIT}`: in the plugin for Vision Transformers, if the model keeps one grid of patches all through.
- s: seconds of one thread's work for all checks beside the image, to compare rows by.
"""


def page(
    results: Results, smallest: dict[str, Smallest], versions: dict[str, str], *, segmenter: bool, before: str = ""
) -> str:
    """The whole page, in Markdown; of what has no results, what the page *before* says.

    Args:
        results: By :attr:`benchmarks.working.cases.Case.key`.
        smallest: The smallest model of each of timm's families.
        versions: Of the libraries.
        segmenter: Whether the plugin for Vision Transformers is installed.
        before: The page as it was written last.
    """
    found, kept = {Case(*key.split("|")): facts for key, facts in results.items()}, Written.of(before)
    asked = {case.table for case in found}
    timm = TIMM + ("" if segmenter else f"\nThe plugin was not installed: {VIT} was not asked.\n")
    sections = {
        SMP: lambda: [OF_SMP, table(found, "smp", PLACES, kept.of_table(SMP))],
        TORCHVISION: lambda: [
            OF_TORCHVISION,
            table(found, "torchvision", OF_TORCHVISIONS, kept.of_table(TORCHVISION)),
        ],
        FAMILIES: lambda: [timm, families(found, smallest, segmenter=segmenter)],
    }
    names = {SMP: {"smp"}, TORCHVISION: {"torchvision"}, FAMILIES: OF_TIMM}
    again = [title for title in sections if asked & names[title] or title not in kept.sections]
    parts = [HEAD, counts(found, kept), said_of(versions, kept.versions)]
    for title, make in sections.items():
        parts += make() if title in again else [kept.sections[title]]
    parts += ["## What does not work, and why\n", reasons(found, kept.reasons)]
    parts.append(left_out(smallest) if FAMILIES in again else kept.sections.get(LEFT_OUT, ""))
    return "\n".join(part for part in parts if part).rstrip() + "\n"


def said_of(versions: dict[str, str], before: str) -> str:
    """The libraries' *versions*, those *before* of what was not asked again, and the command."""
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    others = f" What was not asked again was asked with {before}." if before not in ("", libraries) else ""
    return f"Random weights, CPU, float32; {libraries}.{others}\n\n```\npython -m benchmarks.works\n```\n"


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table.

    >>> print(markdown(["a", "b"], [["1", "2"]]), end="")
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    head = list(header)
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]]) + "\n"


def counts(found: dict[Case, dict[str, Any]], kept: Written) -> str:
    """How many were asked of each kind, and how many work; what was *kept* of what was not asked."""
    rows = []
    for (name, place), words in COLUMNS.items():
        asked = {
            case.family: works(facts) for case, facts in found.items() if (case.table, case.place) == (name, place)
        }
        if asked:
            there = {row: said == "yes" for row, said in kept.column(TITLES.get(name, ""), place).items()}
            rows.append([words, str(len(there | asked)), str(sum((there | asked).values()))])
        elif words in kept.counts:
            rows.append([words, *kept.counts[words]])
        if (name, place) == ("timm", FIRST) and (asked or SOMEWHERE in kept.counts):
            rows.append([SOMEWHERE, *(_somewhere(found) if asked else kept.counts[SOMEWHERE])])
    return markdown(["", "asked", "work"], rows)


def _somewhere(found: dict[Case, dict[str, Any]]) -> list[str]:
    asked = {case.family for case in found if case.table == "timm"}
    work = {case.family for case, facts in found.items() if case.table == "timm" and works(facts)}
    return [str(len(asked)), str(len(work))]


def table(
    found: dict[Case, dict[str, Any]], name: str, places: Iterable[str], kept: Mapping[tuple[str, str], str]
) -> str:
    """Rows of *name*, a column for each of *places*; *kept* by both of what was not asked."""
    rows = sorted({*(case.family for case in found if case.table == name), *(row for row, _ in kept)}, key=str.lower)
    cells = [[row, *(_cell(found, name, row, place, kept=kept) for place in places)] for row in rows]
    return markdown(["", *(f"`{place}`" for place in places)], cells)


def _cell(
    found: dict[Case, dict[str, Any]],
    table: str,
    family: str,
    place: str,
    yes: Callable[[dict[str, Any]], str] = lambda facts: "yes",
    kept: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> str:
    for case, facts in found.items():
        if (case.table, case.family, case.place) == (table, family, place):
            return yes(facts) if works(facts) else "no"
    return kept.get((family, place), "-")


def families(found: dict[Case, dict[str, Any]], smallest: dict[str, Smallest], *, segmenter: bool) -> str:
    """timm's table: all that was asked of a family in one row."""
    header = ["family", "model", "M parameters", "px", "features", "`input`", "`after:`", "encoder of", f"`{VIT}`", "s"]
    shown = [column for column in header if segmenter or VIT not in column]
    rows = []
    for family, model in smallest.items():
        if model.parameters > LARGEST:
            continue
        facts = found.get(Case("timm", family, model.name, "input"), {})
        cells = [
            family,
            model.name,
            f"{model.parameters / 1e6:.1f}",
            str(facts.get("size", "-")),
            (facts.get("layout") or "other") if facts else "-",
            _cell(found, "timm", family, "input"),
            _cell(found, "timm", family, FIRST, lambda f: f"`{f['place'].removeprefix('after:')}`"),
            _cell(found, "encoders", family, "input", lambda f: str(f["architecture"])),
            _cell(found, "vit", family, "input"),
            f"{facts['seconds']:.0f}" if "seconds" in facts else "-",
        ]
        rows.append([cell for cell, column in zip(cells, header, strict=True) if column in shown])
    return markdown(shown, rows)


def reasons(found: dict[Case, dict[str, Any]], kept: dict[str, str]) -> str:
    """For each kind, what went wrong and where, the most frequent first; *kept* of what was not asked."""
    parts = []
    for (name, place), title in COLUMNS.items():
        asked = {case.family for case in found if (case.table, case.place) == (name, place)}
        if not asked:
            parts += [kept[title]] if title in kept else []
            continue
        groups = refused(kept.get(title, "") if name in TITLES else "", asked)
        for case, facts in found.items():
            if (case.table, case.place) == (name, place) and not works(facts):
                groups.setdefault(in_short(reason(facts)), []).append(case.family)
        if groups:
            parts.append(f"### {title}\n")
            ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[1]))
            parts.append("\n".join(f"- **{', '.join(rows)}**: {words}" for words, rows in ordered) + "\n")
    return "\n".join(parts) or "Nothing.\n"


def in_short(words: str) -> str:
    """A reason without what differs from model to model, and no longer than a few lines.

    >>> in_short("No convolution of this TResNet reads the image itself. There is: a, b, ...")
    'No convolution of this model reads the image itself.'
    """
    words = re.sub(r"(of this) \w+", r"\1 model", words).partition(" There is: ")[0]
    words = words.replace("|", "\\|").replace("<", "&lt;")
    return words if len(words) <= LENGTH else words[:LENGTH].rsplit(" ", 1)[0] + " ..."


def left_out(smallest: dict[str, Smallest]) -> str:
    """The families that were not asked for their size."""
    large = [f"{family} ({model.name})" for family, model in smallest.items() if model.parameters > LARGEST]
    if not large:
        return ""
    return f"## {LEFT_OUT}\n\nThe smallest model has more than {LARGEST / 1e6:.0f} M parameters: {', '.join(large)}.\n"
