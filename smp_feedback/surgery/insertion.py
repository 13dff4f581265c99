"""Opening a base model where a config says that the feedback enters."""

from __future__ import annotations

from typing import NamedTuple, cast

from torch import Tensor, nn

from smp_feedback.config.places import DECODER
from smp_feedback.config.recurrent import Recurrent
from smp_feedback.errors import SurgeryError
from smp_feedback.surgery.after_module import add_after, deaf_mixture
from smp_feedback.surgery.convs import add_readers, named_stem
from smp_feedback.surgery.declared_stages import add_to_stage, show, stages_of_base
from smp_feedback.surgery.decoder import encoder_of_base, enter_decoder
from smp_feedback.surgery.encoder_chain import Chain, EntersLate, chain_of
from smp_feedback.surgery.extension import asking, extend, plain_class
from smp_feedback.surgery.insertion_point import AfterModule, InEncoder, InsertionPoint
from smp_feedback.surgery.probe import Probe
from smp_feedback.surgery.proof import changed_image, check_opened


def enter(base: nn.Module, config: Recurrent, seen: Probe, channels: int) -> tuple[InsertionPoint, nn.ModuleList]:
    """Open *base* where *config* says, in place.

    Of several places the first on the image's way says what is computed once and on which grid the feedback is made;
    the others read the same feedback, resized to their own.

    Returns:
        The first place, and the modules that read the feedback, place by place (weights zero).

    Raises:
        SurgeryError: If *base* cannot be entered there, with the places where it can.
    """
    if config.places[0].partition(":")[0] == DECODER:
        return enter_decoder(base, seen.cut, config.places, seen.image, channels)
    points, readers = list[InsertionPoint](), nn.ModuleList()
    declared = stages_of_base(base, seen.cut)
    own = [place for place in config.places if declared and place.startswith("stage:")]
    inside = [place for place in config.places if place == "stem" or (place.startswith("stage:") and place not in own)]
    if "input" in config.places:
        points.append(_enter_input(base, config, seen, channels, readers))
    for place in config.places:
        if place.startswith("after:"):
            points.append(_enter_after(base, place.removeprefix("after:"), seen, channels, readers, begins=not points))
    if inside:
        points.append(_enter_encoder(base, inside, seen, channels, readers, begins=not points))
    for place in own:
        points.append(_enter_declared(base, place, declared, seen, channels, readers, points))
    return points[0], readers


def _enter_declared(
    base: nn.Module,
    place: str,
    declared: tuple[str, ...],
    seen: Probe,
    channels: int,
    readers: nn.ModuleList,
    before: list[InsertionPoint],
) -> InsertionPoint:
    stage = show(base, declared, int(place.removeprefix("stage:")), seen.image)
    if any(isinstance(point, AfterModule) and point.name == stage.name for point in before):
        raise SurgeryError(f"insert={place!r} and 'after:{stage.name}' are one place, named twice: leave one out.")
    if stage.reads_image:
        return _enter_after(base, stage.name, seen, channels, readers, begins=not before)
    point, reader = add_to_stage(base, stage, f"insert={place!r}", seen.image, channels, reader=len(readers))
    readers.append(reader)
    return point


def _enter_input(
    base: nn.Module, config: Recurrent, seen: Probe, channels: int, readers: nn.ModuleList
) -> InsertionPoint:
    convs = {config.stem: named_stem(base, config.stem)} if config.stem is not None else seen.readers
    if not convs:
        raise _no_reader(base, seen)
    readers.extend(add_readers(list(convs.values()), channels, reads_image=config.stem is None))
    return InsertionPoint(heard=tuple(convs) if config.stem is None else ())


def _enter_after(
    base: nn.Module, name: str, seen: Probe, channels: int, readers: nn.ModuleList, *, begins: bool
) -> InsertionPoint:
    full, layout, reader = add_after(base, name, seen.image, channels, reader=len(readers), begins=begins)
    readers.append(reader)
    return AfterModule(name=full, layout=layout)


def _no_reader(base: nn.Module, seen: Probe) -> SurgeryError:
    """The error where no convolution reads the image, with the cause as far as it shows.

    Raises:
        SurgeryError: One of its own, where the base could not be opened anyway.
    """
    check_opened(base, seen)
    if changed := changed_image(base, seen.image):
        said, conv = changed
        return SurgeryError(f"{said}: tell the loop that it reads the feedback, feedback=Recurrent(stem={conv!r}).")
    known = [name for name, module in base.named_modules() if isinstance(module, nn.Conv2d)]
    cure = (
        f"Name the first convolution: feedback=Recurrent(stem='...'). There is: {', '.join(known[:5])}, ..."
        if known
        else "It has none at all; a first module that gives a map or tokens can be entered: insert='after:NAME'."
    )
    return SurgeryError(
        f"No convolution of this {type(base).__name__} reads the image itself (a space-to-depth stem, or a linear "
        f"patch embedding?). {cure}"
    )


def _enter_encoder(
    base: nn.Module, places: list[str], seen: Probe, channels: int, readers: nn.ModuleList, *, begins: bool
) -> InsertionPoint:
    """Open the encoder at *places*, a stem and stages, of which the first that an image comes to counts."""
    chain = chain_of(base, seen.image)
    stem = _open_stem(base, chain, seen.image) if chain and "stem" in places else None
    if chain is None or (at := _links(chain, stem, places)) is None:
        raise _no_such_place(base, places, chain, seen)
    order = sorted(places, key=lambda place: (at[place], place == "stem"))
    trunk = _late(base, chain, at[order[0]] + 1, begins=begins)
    for place in order:
        if place == "stem":
            convs = [cast(nn.Conv2d, base.get_submodule(name)) for name in cast(Stem, stem).convs]
            readers.extend(add_readers(convs, channels, reads_image=False, first=len(readers)))
        else:
            trunk.adds[at[place]] = len(readers)
            readers.append(deaf_mixture(channels, chain.widths[at[place]], seen.image))
    if stem is None or order[0] != "stem":
        return InEncoder(trunk=chain.trunk, at=len(trunk.kept) - 1)
    pools = tuple(f"{chain.trunk}.{name}" for name in chain.links[stem.last + 1 : stem.pooled + 1])
    return InEncoder(trunk=chain.trunk, heard=stem.convs, at=trunk.kept.index(stem.last), pools=pools)


class Stem(NamedTuple):
    """A trunk's stem: the last of its links, that of its poolings, and who reads what they give."""

    last: int
    pooled: int
    convs: tuple[str, ...]


def _links(chain: Chain, stem: Stem | None, places: list[str]) -> dict[str, int] | None:
    """The link behind which each of *places* lies; None if there is one that is not there."""
    known = {f"stage:{k}": link for k, link in chain.stages.items()}
    if stem is not None:
        known["stem"] = stem.pooled
    return {place: known[place] for place in places} if known.keys() >= {*places} else None


def _open_stem(base: nn.Module, chain: Chain, image: Tensor) -> Stem | None:
    if all(size >= chain.sizes[0] for size in chain.sizes):  # nothing reduces the resolution
        return None
    last, pooled = chain.stem(base)
    trunk = _late(base, chain, pooled + 1, begins=True)
    convs = _readers_of(base, trunk, image)
    return Stem(last, pooled, convs) if convs and last in trunk.kept else None


def _late(base: nn.Module, chain: Chain, entry: int, *, begins: bool) -> EntersLate:
    module = base.get_submodule(chain.trunk)
    trunk = module if isinstance(module, EntersLate) else extend(module, EntersLate)
    trunk.chain, trunk.entry, trunk.begins, trunk.adds = chain, entry, begins, {}
    return trunk


def _readers_of(base: nn.Module, trunk: EntersLate, image: Tensor) -> tuple[str, ...]:
    """The convolutions that are handed what the stem gives: the same tensor, for its values may come again."""
    found, x = list[str](), trunk.begin(image)[-1]
    stem = x
    names = {module: name for name, module in base.named_modules()}
    for link in trunk.rest():
        convs = [(names[m], m) for m in link.modules() if isinstance(m, nn.Conv2d)]
        with asking(convs, lambda name, conv, inputs: found.append(name) if inputs[0] is stem else None):
            x = link(x)
    return tuple(dict.fromkeys(found))


def _no_such_place(base: nn.Module, asked: list[str], chain: Chain | None, seen: Probe) -> SurgeryError:
    """The error, with the places that there are; *base* is not used any more."""
    encoder = plain_class(getattr(base, "encoder", base)).__name__
    stages = [f"stage:{k}" for k in (chain.stages if chain else ())]
    if chain and _open_stem(base, chain, seen.image):
        stages.insert(0, "stem")
    insert = next(place for place in asked if place not in stages)
    places = [*map(repr, ("input", *stages)), "'after:NAME' of a module that is handed the image"]
    places += [repr(DECODER)] if encoder_of_base(base, seen.cut) else []
    why = "" if chain else ": it is no chain of modules that hand one tensor on"
    return SurgeryError(
        f"insert={insert!r}: {encoder} cannot be entered there{why}. Possible here: {', '.join(places)}."
    )
