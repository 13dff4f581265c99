"""The report: one HTML page that needs neither network nor scripts, the same as Markdown, and its figures."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smp_feedback.experiments.comparison.brief import brief
from smp_feedback.experiments.comparison.conclusion import conclusion, gaps, summary
from smp_feedback.experiments.comparison.figures import caption, figures
from smp_feedback.experiments.comparison.results import Comparison
from smp_feedback.experiments.comparison.schema import parse
from smp_feedback.evaluation.results import flat, plain
from smp_feedback.experiments.table import Table
from smp_feedback.experiments.comparison.tables import DETAIL, shown, tables
from smp_feedback.errors import InvalidInput, require
from smp_feedback.plotting.plot import for_page
from smp_feedback.saving.files import replace_files

require("jinja2", extra="plot")

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUESTION = "Does feedback help on my images?"
FIGURES = "figures"
LETTER, GAP = 7.6, 23  # pixels at most: of a letter in a table, and of what is left free between two columns
FITS = {"": 350, "narrower": 600, "wider": 930}
"""How wide a table may be, in pixels, to be shown as one: on a telephone, from 40 rem on, and from 64 on."""
TYPES = {
    **{".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".svg": "image/svg+xml"},
    **{".gif": "image/gif", ".webp": "image/webp"},
}
MOVING = (".gif", ".webp")
FAIR = {
    "feedback": "the base model in a loop: it looks at the image T times, in training and when tested.",
    "plain": "the same base model without the loop, with the same normalisation, trained for as many optimiser steps.",
    "one-step": "the feedback model trained and run at T = 1: its extra weights, without looking again.",
    "equal-compute": "the plain model, trained with as much compute as the feedback model: for as many forward passes "
    "where the feedback enters at input; where looks share a part of the base, for as many multiply-adds.",
    "equal-inference": "a deeper feed-forward model of at least the multiply-adds of several looks (inference_looks), "
    "no weight of which is used twice, with as much compute in training as the feedback model.",
    "equal-inference-3x": "the same deeper model, with three times as much compute in training.",
}
SPREAD = (
    "A seed sets the first weights, the order of the data and the noise. The spread is over seeds alone: other test "
    "images, or another split, would add to it."
)
# what is folded away at the end of a section, and how it is called there
FOLDED = {"sizes": ("size-differences", "Every difference"), "robustness": (DETAIL, "Every condition")}
# section: its title, its figures (by the beginning of their names) and its tables
SECTIONS = {
    "sizes": ("Larger problems", ("sizes",), ("sizes",)),
    "answer": ("The answer in numbers", ("differences",), ("differences", "scores", "gains")),
    "robustness": ("Robustness", ("robustness", "train-noise"), ("robustness",)),
    "few-images": ("Few training images", ("few-shot",), ()),
    "connectivity": (
        "What stays connected",
        (),
        ("connectivity", "connectivity-looks", "connectivity-sizes"),
    ),
    "looks": ("Look by look", ("looks",), ("looks",)),
    "classes": ("Class by class", ("classes",), ("classes",)),
    "pictures": ("Refinement in pictures", (), ()),
    "calibration": ("Calibration", (), ("calibration",)),
    "cost": ("What it costs", ("cost",), ("cost", "given")),
}


@dataclass(frozen=True)
class ReportPicture:
    """A figure or picture as it stands in the page: its files' bytes by suffix, and its words."""

    name: str
    files: Mapping[str, bytes]
    caption: str

    @property
    def shown(self) -> str:
        """The suffix that the page embeds: the sharpest there is."""
        return ".svg" if ".svg" in self.files else next(iter(self.files))

    @property
    def uri(self) -> str:
        """The picture itself, as a ``data:`` address."""
        return _address(self.files[self.shown], self.shown)

    @property
    def still(self) -> str:
        """Of a moving picture its last frame, for paper and for readers who ask for less motion; else empty."""
        if self.shown not in MOVING:
            return ""
        last = io.BytesIO()
        with Image.open(io.BytesIO(self.files[self.shown])) as frames:
            frames.seek(getattr(frames, "n_frames", 1) - 1)
            frames.convert("RGB").save(last, format="PNG")
        return _address(last.getvalue(), ".png")

    @property
    def alt(self) -> str:
        """What a reader who cannot see it is told."""
        return f"{self.name.replace('-', ' ')}: {self.caption}"


@dataclass
class ReportSection:
    """One section of the page: figures, tables, one of which is folded away, and pictures below them."""

    id: str
    title: str
    pictures: list[ReportPicture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    detail: Table | None = None
    folded: str = ""
    below: list[ReportPicture] = field(default_factory=list)


def write_report(results: Mapping[str, Any], folder: Path, pictures: Mapping[str, Path] | None = None) -> list[Path]:
    """Write ``report.html``, ``report.md``, ``results.json`` and ``figures/`` into *folder*.

    Everything is drawn before anything is written; each file is whole or absent. The page holds its figures and
    pictures itself, so that it can be sent on alone. Scores that are no numbers are written as null.

    Args:
        results: A comparison's results, see :func:`smp_feedback.experiments.comparison.schema.parse`.
        folder: Where the files go; made if absent.
        pictures: PNG, JPEG, SVG, GIF or WebP files by the words that stand under them, of the refinement, say.

    Returns:
        The files' paths, the page first.

    Raises:
        InvalidInput: If *results* are no comparison, or a picture cannot be read.
    """
    found = parse(results)
    given = [_read(text, Path(path)) for text, path in (pictures or {}).items()]
    drawn = [
        _draw(name, figure, caption(name, found.metric, found.measure)) for name, figure in figures(results).items()
    ]
    clean: Any = plain(results)
    page = _page(clean, found, _sections(results, found, drawn, given))
    folder = Path(folder)
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    images = {f"{p.name}{suffix}": data for p in (*drawn, *given) for suffix, data in p.files.items()}
    texts = {
        "results.json": json.dumps(clean, indent=1, allow_nan=False),
        "report.md": _markdown(clean, found, [*drawn, *given]),
        "report.html": page,
    }
    replace_files(folder / FIGURES, {name: _writer(data) for name, data in images.items()})
    replace_files(folder, {name: _writer(text.encode()) for name, text in texts.items()})
    return [folder / name for name in reversed(texts)] + [folder / FIGURES / name for name in images]


def _writer(data: bytes) -> Any:
    return lambda path: path.write_bytes(data)


def _draw(name: str, figure: Figure, text: str) -> ReportPicture:
    """The figure as SVG and PNG, the same bytes every time."""
    return ReportPicture(name, for_page(figure, name), text)


def _address(data: bytes, suffix: str) -> str:
    return f"data:{TYPES[suffix]};base64,{base64.b64encode(data).decode()}"


def _read(text: str, path: Path) -> ReportPicture:
    suffix = path.suffix.lower()
    if suffix not in TYPES:
        raise InvalidInput(f"{path}: a picture of the report is one of {', '.join(TYPES)}.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path}: this picture of the report cannot be read: {error}") from error
    return ReportPicture(f"picture-{_slug(text)}", {suffix: data}, text)


def _sections(
    results: Mapping[str, Any], found: Comparison, drawn: list[ReportPicture], given: list[ReportPicture]
) -> list[ReportSection]:
    """The sections that have something to show; given pictures are of larger problems, where there are some."""
    made, sections = tables(results), []
    for name, (title, starts, names) in SECTIONS.items():
        own = [p for p in drawn if p.name.startswith(starts)] if starts else []
        section = ReportSection(name, title, own, [made[table] for table in names if table in made])
        section.below = given if name == ("sizes" if found.sizes else "pictures") else []
        folded, section.folded = FOLDED.get(name, ("", ""))
        section.detail = made.get(folded)
        if own or section.tables or section.below:
            sections.append(section)
    return sections


def _page(results: Mapping[str, Any], found: Comparison, sections: list[ReportSection]) -> str:
    missing = gaps(results)
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["fit"] = fit
    return environment.get_template("report.html.jinja").render(
        question=QUESTION,
        answer=conclusion(results),
        beside=[line for line in summary(results)[1:] if line not in missing],
        brief=brief(results),
        gaps=missing,
        sections=sections,
        fair={model: FAIR[model] for model in found.models},
        spread=SPREAD,
        command=found.command,
        settings=_settings(found),
    )


def fit(table: Table) -> str:
    """Up to which width of a screen a row of *table* is shown as lines of their own, so that none is cut off.

    Nothing for what fits a telephone; ``narrower`` up to 40 rem, ``wider`` up to 64, ``stacked`` always.
    """
    cells = zip(table.columns, *table.rows, strict=True)
    pixels = sum(LETTER * max(map(len, column)) + GAP for column in cells)
    return next((name for name, most in FITS.items() if pixels <= most), "stacked")


def _settings(found: Comparison) -> dict[str, str]:
    shown = {name: "n/a" if value is None else str(value) for name, value in flat(found.settings)}
    shown |= {"seeds": ", ".join(map(str, sorted({run.seed for run in found.runs}))), "hardware": found.hardware}
    return shown | {name: str(version) for name, version in found.versions.items()}


def _markdown(results: Mapping[str, Any], found: Comparison, pictures: list[ReportPicture]) -> str:
    answer, *beside = summary(results)
    points = "\n".join(f"- {line}" for line in beside)
    images = "\n\n".join(
        f"![{p.caption}]({FIGURES}/{p.name}{'.png' if '.png' in p.files else p.shown})" for p in pictures
    )
    numbers = "\n".join(table.markdown() for table in shown(results, detail=True))
    fair = "\n".join(f"- **{model}**: {FAIR[model]}" for model in found.models)
    settings = "\n".join(f"- {name}: {value}" for name, value in _settings(found).items())
    parts = (
        f"# {QUESTION}\n\n**{answer}**\n\n{points}",
        f"## Tables\n\n{numbers}",
        f"## Figures\n\n{images}",
        f"## How it was made fair\n\n{fair}\n\n{SPREAD}",
        f"## Settings\n\n```\n{found.command}\n```\n\n{settings}\n",
    )
    return "\n\n".join(parts)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].rstrip("-") or "picture"
