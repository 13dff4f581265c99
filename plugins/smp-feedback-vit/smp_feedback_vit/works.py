"""Which of timm's models work, asked of the models: ``python -m smp_feedback_vit.works [PATTERN ...] [--json]``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import smp_feedback as smpf
import timm
import torch
from smp_feedback.testing import check_heard, check_lossless
from torch import Tensor, nn

from smp_feedback_vit.classifier import ViTClassifier
from smp_feedback_vit.segmenter import ViTSegmenter

KINDS = (  # one of each kind that timm has, the smallest
    *("vit_tiny_patch16_224", "vit_small_patch32_224", "vit_small_patch8_224", "vit_wee_patch16_reg1_gap_256"),
    *("vit_tiny_r_s16_p8_224", "vit_base_patch16_siglip_224", "vit_base_patch16_clip_224", "flexivit_small"),
    *("deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "deit3_small_patch16_224"),
    *("vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3"),
    *("eva02_tiny_patch14_224", "vit_pe_core_tiny_patch16_384", "beit_base_patch16_224", "samvit_base_patch16"),
    *("vit_relpos_small_patch16_224", "aimv2_large_patch14_224", "vitamin_small_224", "naflexvit_base_patch16_gap"),
    *("cait_xxs24_224", "xcit_nano_12_p16_224", "convit_tiny", "volo_d1_224", "tnt_s_patch16_224"),
    *("mixer_s16_224", "gmlp_s16_224", "resmlp_12_224", "convmixer_768_32", "crossvit_tiny_240"),
)
SMALLER: tuple[dict[str, Any], ...] = (
    {"depth": 2, "img_size": 64},
    {"img_size": 64},
    {},
)  # the first that timm's model takes
YES = "yes"


@dataclass(frozen=True)
class Row:
    """What a model of timm can be.

    Attributes:
        encoder: Its name.
        patch: Side of a patch in pixels, or 0.
        sizes: ``any`` or ``fixed`` (by ``img_size``), or "".
        segments, classifies: ``yes`` or why not, with feedback beside the image.
        behind: ``after:NAME`` if the feedback may enter behind the patch embedding, or why not.
    """

    encoder: str
    patch: int
    sizes: str
    segments: str
    classifies: str
    behind: str


def works(encoder: str) -> Row:
    """Build *encoder* small, wrap it in each way, and see whether it keeps its answers and hears the feedback.

    >>> works("test_vit")
    Row(encoder='test_vit', patch=16, sizes='any', segments='yes', classifies='yes', behind='after:patch_embed')
    """
    try:
        segmenter, options = _smaller(encoder)
    except Exception as error:  # the table is for saying which
        return Row(encoder, 0, "", _why(error), _why(error), "no")
    patches = segmenter.encoder.patches
    height, width = patches.size or (2 * patches.stride, 3 * patches.stride)
    image = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    place = f"after:{patches.reader}"
    entered = _tried(lambda: check_heard(smpf.wrap(segmenter, smpf.Recurrent(insert=place)), image))
    return Row(
        encoder,
        patches.stride,
        "any" if patches.size is None else "fixed",
        _tried(lambda: _check(segmenter, image)),
        _tried(lambda: _check(ViTClassifier(encoder, classes=3, **options), image)),
        place if entered == YES else entered,
    )


def _smaller(encoder: str) -> tuple[ViTSegmenter, dict[str, Any]]:
    for options in SMALLER[:-1]:
        try:
            return ViTSegmenter(encoder, classes=3, **options), options
        except Exception:  # not every model takes every option
            continue
    return ViTSegmenter(encoder, classes=3), {}


def _check(base: nn.Module, image: Tensor) -> None:
    check_lossless(base, image)
    check_heard(smpf.wrap(base, smpf.Recurrent()), image)


def _tried(check: Callable[[], None]) -> str:
    try:
        check()
    except Exception as error:  # the table is for saying which
        return _why(error)
    return YES


def _why(error: Exception) -> str:
    """The first sentence of *error*, on one line.

    >>> _why(ValueError("No grid here.  Try another."))
    'No grid here'
    """
    return " ".join(str(error).split()).split(". ")[0].rstrip(".")


def as_markdown(rows: Iterable[Row]) -> str:
    """A table, one line for each row."""
    lines = [
        "| encoder | patch | sizes | segments | classifies | behind the patch embedding |",
        "|---|---|---|---|---|---|",
    ]
    lines += [f"| {' | '.join(str(v).replace('|', '/') for v in asdict(row).values())} |" for row in rows]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m smp_feedback_vit.works", description=__doc__)
    parser.add_argument(
        "patterns", nargs="*", help="names of timm's models, * for any letters; default: one of each kind"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    told = parser.parse_args(arguments)
    names = [name for pattern in told.patterns for name in timm.list_models(pattern)] if told.patterns else KINDS
    rows = [works(name) for name in names]
    print(json.dumps([asdict(row) for row in rows], indent=1) if told.json else as_markdown(rows))


if __name__ == "__main__":
    main()
