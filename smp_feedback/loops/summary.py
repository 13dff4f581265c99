"""A model in a table: what it is made of, how large its parts are, how it looks again, and what that costs."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, NamedTuple

from torch import nn

from smp_feedback.checks import check_whole
from smp_feedback.errors import InvalidType
from smp_feedback.loops.html_tables import table_html
from smp_feedback.loops.summary_facts import facts_of
from smp_feedback.models.normalisation import given_config
from smp_feedback.ops.maps import Size
from smp_feedback.surgery.extension import plain_class
from smp_feedback.surgery.multiply_adds import multiply_adds
from smp_feedback.surgery.probe import noise

WIDTH = 80
MOST_PARTS = 12
LONGEST = 32  # letters of a name in a table
PARTS = "part", "parameters", "trainable"


class PartSize(NamedTuple):
    """A part of a model, and how many parameters it has; those that two parts share are the first one's."""

    name: str
    parameters: int
    trainable: int


class Work(NamedTuple):
    """Multiply-adds for one image of *size* (H, W): of the base alone, of one look, and of all the model's looks."""

    size: Size
    plain: int
    one: int
    every: int


@dataclass(frozen=True, repr=False)
class ModelSummary:
    """What a looping model is; printed, a table of at most 80 columns.

    Attributes:
        facts: Its architecture, its loop, what is fed back and where, by name.
        parts: Its parts, the feedback last.
        looks: T of a call that names none.
        work: What it computes, where a size of images was given.
    """

    facts: tuple[tuple[str, str], ...]
    parts: tuple[PartSize, ...]
    looks: int
    work: Work | None = None

    @property
    def parameters(self) -> int:
        """Of all parts."""
        return sum(part.parameters for part in self.parts)

    @property
    def trainable(self) -> int:
        """Those that an optimiser would move."""
        return sum(part.trainable for part in self.parts)

    def __str__(self) -> str:
        rows = [[f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in self._sizes()]
        blocks = [_named(self.facts), _aligned([PARTS, *rows])]
        if self.work is not None:
            blocks.append(_aligned([self._work_head(), *self._costs()]))
        return "\n\n".join("\n".join(lines) for lines in blocks)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        tables = [table_html(self.facts), table_html(self._sizes(), PARTS)]
        if self.work is not None:
            tables.append(table_html(self._costs(), self._work_head()))
        return f"<div>{''.join(tables)}</div>"

    def _sizes(self) -> list[Sequence[Any]]:
        short = [PartSize(_cut(part.name), *part[1:]) for part in self.parts]
        return [*short, PartSize("all", self.parameters, self.trainable)]

    def _work_head(self) -> tuple[str, ...]:
        assert self.work is not None
        return "one image of {} x {}".format(*self.work.size), "multiply-adds", "over a plain forward"

    def _costs(self) -> Iterator[tuple[str, ...]]:
        assert self.work is not None
        _, plain, one, every = self.work
        looks = f"all {self.looks} looks" if self.looks != 1 else "all looks (1)"
        for name, count in (("a plain forward", plain), ("one look", one), (looks, every)):
            yield name, in_short(count), f"{count / plain:.2f}" if plain else "-"


def summary_of(model: Any, image_size: object = None) -> ModelSummary:
    """What the looping *model* is; what it computes, too, for images of *image_size* (H, W).

    Raises:
        InvalidType, InvalidValue: If *image_size* is no pair of whole numbers >= 1.
    """
    size, looks = _checked(image_size), int(model._count(None))
    work = None if size is None else work_of(model, size, looks)
    return ModelSummary(tuple(_facts(model, looks).items()), parts_of(model), looks, work)


def _facts(model: Any, looks: int) -> dict[str, str]:
    config = model.loop_config
    origin = getattr(model.feedback, "origin", None) or {}
    arch, encoder = origin.get("architecture", plain_class(model).__name__), origin.get("arguments", {})
    encoder = encoder.get("encoder_name") or _class_of(getattr(model, "encoder", None))
    said = {"architecture": arch, "encoder": encoder} if encoder else {"architecture": arch}
    looked = f"auto, {looks}" if getattr(config, "steps", looks) == "auto" else f"{looks}"
    said |= {"loop": config.loop, "looks (T)": looked, **facts_of(config)}
    own = getattr(config, "base", None)
    return said if own is None else {**said, **{f"base's {name}": value for name, value in facts_of(own).items()}}


def _class_of(part: object) -> str | None:
    return plain_class(part).__name__ if isinstance(part, nn.Module) else None


def parts_of(model: nn.Module) -> tuple[PartSize, ...]:
    """The sizes of what *model* is made of, of a dozen parts at most; what has no parameters is left out.

    >>> parts_of(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()))
    (PartSize(name='0', parameters=8, trainable=8),)
    """
    counted: set[int] = set()
    found = [_size(name, part.parameters(), counted) for name, part in model.named_children()]
    found = [part for part in found if part.parameters or part.name == "feedback"]
    if (own := _size("(its own)", model.parameters(recurse=False), counted)).parameters:
        found.insert(0, own)
    if len(found) <= MOST_PARTS:
        return tuple(found)
    shown, rest = found[: MOST_PARTS - 2], found[MOST_PARTS - 2 : -1]
    others = PartSize(f"{len(rest)} others", *(sum(part[i] for part in rest) for i in (1, 2)))  # type: ignore[misc]
    return (*shown, others, found[-1])


def _size(name: str, parameters: Iterable[nn.Parameter], counted: set[int]) -> PartSize:
    own = {id(one): one for one in parameters if id(one) not in counted}
    counted.update(own)
    return PartSize(
        name, sum(one.numel() for one in own.values()), sum(one.numel() for one in own.values() if one.requires_grad)
    )


def work_of(model: Any, size: Size, looks: int) -> Work:
    """What *model* computes for an image of *size*: all looks from the first two, as each later one costs the same."""
    channels = getattr(model.feedback, "in_channels", None) or given_config(model).config.channels
    image = noise(model, (1, channels, *size))
    plain = multiply_adds(model, image, functools.partial(plain_class(model).forward, model))

    def asked(steps: int) -> int:
        return multiply_adds(model, image, functools.partial(model, steps=steps))

    one = asked(1)
    if looks < 2:
        return Work(size, plain, one, asked(0) if not looks else one)
    return Work(size, plain, one, one + (looks - 1) * (asked(2) - one))


def in_short(count: int) -> str:
    """*count* in three digits and a unit.

    >>> in_short(5_312_000_000), in_short(12_340), in_short(7)
    ('5.31 G', '12.3 k', '7')
    """
    for unit, name in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return str(count)


def _checked(image_size: object) -> Size | None:
    if image_size is None:
        return None
    if isinstance(image_size, str) or not isinstance(image_size, Sequence) or len(image_size) != 2:
        raise InvalidType(f"image_size={image_size!r}: expected a pair (H, W) in pixels, or None.")
    height, width = (check_whole("image_size", side) for side in image_size)
    return height, width


def _named(facts: Sequence[tuple[str, str]]) -> list[str]:
    """Names, and beside each what is said of it, on as many lines as it takes."""
    indent = max(len(name) for name, _ in facts) + 2
    lines = []
    for name, value in facts:
        first, *more = wrap(value, WIDTH - indent) or [""]
        lines += [f"{name:{indent}}{first}".rstrip(), *(" " * indent + line for line in more)]
    return lines


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a table: names at the left, numbers at the right."""
    wide = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, wide, strict=True)))
        for row in rows
    ]


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."
