"""What an autoencoder must know of the features that condition it: how many pixels of y there are to one of theirs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from smp_feedback.config.score import Score
from smp_feedback.errors import InvalidValue, SurgeryError
from smp_feedback.loops.score.autoencoders import Feature
from smp_feedback.loops.score.state import Begun
from smp_feedback.surgery.feature_capture import INPUT, Taken


def facts_of(
    config: Score, sources: Sequence[Taken], begun: Begun, larger: Begun | None, readers: Iterable[nn.Conv2d]
) -> list[Feature]:
    """The features of *sources*.

    Two sizes tell the stride of a base that pads its image, whose features cover more than y: their ratio does not.

    Args:
        config: The loop's config.
        sources: Where the features are taken.
        begun: What a dry run began with.
        larger: That of an image twice as large; None where the base takes no other size.
        readers: The convolutions that read the image.

    Raises:
        SurgeryError: If a feature is no map (B, C, h, w) that grows with the image.
        InvalidValue: If the base pads its image and the config does not say so, or the other way round.
    """
    facts = []
    for k, source in enumerate(sources):
        x, margin = begun.features[k], 2 * (config.padding - 1) * (source.name != INPUT)
        seen = larger or begun  # rounding matters less in a larger image
        stride = (seen.y.shape[-2] + margin) / seen.features[k].shape[-2]
        if larger is not None:
            _check_grows(source.name, x, larger.features[k])
            slope, covered = _line(begun, larger, k)
            if covered > max(1.5 * slope, 2) and not margin:
                raise InvalidValue(_padded(source.name, readers))
            if covered < margin / 2:
                raise InvalidValue(
                    f"padding={config.padding}: the feature {source.name!r} covers the image alone; choose another, or "
                    "padding=1 for a base that does not pad."
                )
        facts.append(Feature(source.name, x.shape[1], stride))
    return facts


def _line(begun: Begun, larger: Begun, k: int) -> tuple[float, float]:
    """Pixels of y to one of feature *k*, and how many more pixels than y it covers."""
    (height, h), (height2, h2) = ((b.y.shape[-2], b.features[k].shape[-2]) for b in (begun, larger))
    slope = (height2 - height) / (h2 - h)
    return slope, slope * h - height


def _check_grows(name: str, x: Tensor, wide: Tensor) -> None:
    if x.shape[1] != wide.shape[1]:
        raise SurgeryError(
            f"features: {name!r} gives {tuple(x.shape)} and, of a larger image, {tuple(wide.shape)}; expected maps "
            "(B, C, h, w), the channels second."
        )
    if wide.shape[-2] <= x.shape[-2]:
        raise SurgeryError(
            f"features: {name!r} gives {tuple(x.shape)} whatever the image; expected a map that grows with it."
        )


def _padded(name: str, readers: Iterable[nn.Conv2d]) -> str:
    pads = [pad for conv in readers for pad in conv.padding if isinstance(pad, int)]
    most = f"padding={max(pads)}" if pads and max(pads) > 1 else "padding="
    return (
        f"features: {name!r} covers more than the image, which the base pads: give Score({most}), as its first "
        "convolution has it, so that the autoencoder pads alike."
    )
