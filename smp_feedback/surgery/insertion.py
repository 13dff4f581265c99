"""Opening a base model where a config says that the feedback enters."""

from __future__ import annotations

from typing import NamedTuple, cast

from torch import Tensor, nn

from smp_feedback.config.recurrent import Recurrent
from smp_feedback.errors import SurgeryError
from smp_feedback.ops.maps import Mixture
from smp_feedback.surgery.after_module import add_after
from smp_feedback.surgery.convs import add_readers, named_stem
from smp_feedback.surgery.declared_stages import add_to_stage, show, stages_of_base
from smp_feedback.surgery.encoder_chain import Chain, EntersLate, chain_of
from smp_feedback.surgery.extension import asking, extend, plain_class
from smp_feedback.surgery.insertion_point import AfterModule, InEncoder, InsertionPoint
from smp_feedback.surgery.probe import Probe
from smp_feedback.surgery.proof import changed_image, check_opened


def enter(base: nn.Module, config: Recurrent, seen: Probe, channels: int) -> tuple[InsertionPoint, nn.ModuleList]:
    """Open *base* where *config* says, in place.

    Returns:
        The place, and the modules that read the feedback there (weights zero).

    Raises:
        SurgeryError: If *base* cannot be entered there, with the places where it can.
    """
    if config.insert == "input":
        return _enter_input(base, config, seen, channels)
    if config.insert.startswith("after:"):
        name, layout, readers = add_after(base, config.insert.removeprefix("after:"), seen.image, channels)
        return AfterModule(name=name, layout=layout), readers
    declared = stages_of_base(base, seen.cut)
    if declared and config.insert != "stem":
        return _enter_declared(base, config.insert, declared, seen, channels)
    chain = chain_of(base, seen.image)
    if chain and config.insert == "stem" and (stem := _open_stem(base, chain, seen.image)):
        return _enter_stem(base, chain, stem, channels)
    stage = int(config.insert.removeprefix("stage:")) if config.insert != "stem" else 0
    if chain is None or stage not in chain.stages:
        raise _no_such_place(base, config.insert, chain, seen.image)
    return _enter_stage(base, chain, chain.stages[stage], seen, channels)


def _enter_declared(
    base: nn.Module, insert: str, declared: tuple[str, ...], seen: Probe, channels: int
) -> tuple[InsertionPoint, nn.ModuleList]:
    stage = show(base, declared, int(insert.removeprefix("stage:")), seen.image)
    if stage.reads_image:
        name, layout, readers = add_after(base, stage.name, seen.image, channels)
        return AfterModule(name=name, layout=layout), readers
    return add_to_stage(base, stage, f"insert={insert!r}", seen.image, channels)


def _enter_input(
    base: nn.Module, config: Recurrent, seen: Probe, channels: int
) -> tuple[InsertionPoint, nn.ModuleList]:
    convs = {config.stem: named_stem(base, config.stem)} if config.stem is not None else seen.readers
    if not convs:
        raise _no_reader(base, seen)
    readers = add_readers(list(convs.values()), channels, reads_image=config.stem is None)
    return InsertionPoint(heard=tuple(convs) if config.stem is None else ()), readers


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


def _enter_stage(
    base: nn.Module, chain: Chain, link: int, seen: Probe, channels: int
) -> tuple[InsertionPoint, nn.ModuleList]:
    trunk = _late(base, chain, link + 1, reads=True)
    like = trunk.begin(seen.image)[-1]
    reader = Mixture(channels, like.shape[1]).to(like.device, like.dtype)
    nn.init.zeros_(reader.weight)
    return InEncoder(trunk=chain.trunk, at=len(trunk.kept) - 1), nn.ModuleList([reader])


class Stem(NamedTuple):
    """A trunk opened after its stem: the last link of the stem, that of its poolings, and who reads what they give."""

    last: int
    pooled: int
    trunk: EntersLate
    convs: tuple[str, ...]


def _open_stem(base: nn.Module, chain: Chain, image: Tensor) -> Stem | None:
    if all(size >= chain.sizes[0] for size in chain.sizes):  # nothing reduces the resolution
        return None
    last, pooled = chain.stem(base)
    trunk = _late(base, chain, pooled + 1, reads=False)
    convs = _readers_of(base, trunk, image)
    return Stem(last, pooled, trunk, convs) if convs and last in trunk.kept else None


def _enter_stem(base: nn.Module, chain: Chain, stem: Stem, channels: int) -> tuple[InsertionPoint, nn.ModuleList]:
    pools = tuple(f"{chain.trunk}.{name}" for name in chain.links[stem.last + 1 : stem.pooled + 1])
    convs = [cast(nn.Conv2d, base.get_submodule(name)) for name in stem.convs]
    readers = add_readers(convs, channels, reads_image=False)
    at = stem.trunk.kept.index(stem.last)
    return InEncoder(trunk=chain.trunk, heard=stem.convs, at=at, pools=pools), readers


def _late(base: nn.Module, chain: Chain, entry: int, *, reads: bool) -> EntersLate:
    trunk = extend(base.get_submodule(chain.trunk), EntersLate)
    trunk.chain, trunk.entry, trunk.reads = chain, entry, reads
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


def _no_such_place(base: nn.Module, insert: str, chain: Chain | None, image: Tensor) -> SurgeryError:
    """The error, with the places that there are; *base* is not used any more."""
    encoder = plain_class(getattr(base, "encoder", base)).__name__
    places = ["'input'", *(f"'stage:{k}'" for k in (chain.stages if chain else ()))]
    if chain and insert != "stem" and _open_stem(base, chain, image):
        places.insert(1, "'stem'")
    places.append("'after:NAME' of a module that is handed the image")
    why = "" if chain else ": it is no chain of modules that hand one tensor on"
    return SurgeryError(
        f"insert={insert!r}: {encoder} cannot be entered there{why}. Possible here: {', '.join(places)}."
    )
