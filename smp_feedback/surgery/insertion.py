"""Where the feedback enters a base model; all that lies before it is computed once per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, cast

from torch import Tensor, nn

from smp_feedback.config.recurrent import Recurrent
from smp_feedback.errors import SurgeryError
from smp_feedback.ops.maps import Mixture
from smp_feedback.surgery.after_module import enter_after
from smp_feedback.surgery.convs import add_readers, named_stem
from smp_feedback.surgery.encoder_chain import Chain, EntersLate, chain_of
from smp_feedback.surgery.extension import asking, extend, plain_class
from smp_feedback.surgery.probe import Probe
from smp_feedback.surgery.step_context import Once, collecting_answers


class InsertionPoint(Protocol):
    """A place where the feedback enters."""

    def once(self, model: nn.Module, image: Tensor) -> Once:
        """What no feedback reaches."""
        ...

    def grid(self, image: Tensor, once: Once) -> tuple[int, int]:
        """Height and width on which the feedback is made."""
        ...

    def carry(self, model: nn.Module, feedback: Tensor) -> Tensor:
        """*feedback* (B, K, h, w) as it reaches its readers."""
        ...

    def before(self, model: nn.Module) -> set[nn.Module]:
        """The modules that run once per image."""
        ...

    def forgetful(self) -> InsertionPoint:
        """The same place, where no convolution's answer is kept."""
        ...


class AtInput(NamedTuple):
    """Beside the image: the convolutions that read it read the feedback too.

    Attributes:
        heard: The names of those whose answer to the image may be kept.
    """

    heard: tuple[str, ...]

    def once(self, model: nn.Module, image: Tensor) -> Once:
        """What the convolutions say of the image."""
        return Once(_answers(model, self.heard, image))

    def grid(self, image: Tensor, once: Once) -> tuple[int, int]:
        """The image's."""
        return image.shape[-2], image.shape[-1]

    def carry(self, model: nn.Module, feedback: Tensor) -> Tensor:
        """As it is."""
        return feedback

    def before(self, model: nn.Module) -> set[nn.Module]:
        """None as a whole."""
        return set()

    def forgetful(self) -> InsertionPoint:
        """A convolution that runs twice a look has two answers."""
        return self._replace(heard=())


class InEncoder(NamedTuple):
    """Inside an encoder that is a chain of modules.

    Attributes:
        trunk: Name of the module that is the chain, extended by :class:`EntersLate`.
        heard: At the stem, the convolutions that read the feedback and whose answer to the rest may be kept.
        at: Which of the answers that are kept has the feedback's grid.
        pools: Names of the poolings that the feedback goes through.
    """

    trunk: str
    heard: tuple[str, ...]
    at: int
    pools: tuple[str, ...]

    def once(self, model: nn.Module, image: Tensor) -> Once:
        """The encoder up to here, and what the convolutions say of that."""
        stages = self._trunk(model).begin(image)
        return Once(_answers(model, self.heard, stages[-1]), stages)

    def grid(self, image: Tensor, once: Once) -> tuple[int, int]:
        """That of the stage, or of the stem before its pooling."""
        stage = once.stages[self.at]
        return stage.shape[-2], stage.shape[-1]

    def carry(self, model: nn.Module, feedback: Tensor) -> Tensor:
        """Through the stem's poolings, which treat each channel alike."""
        for name in self.pools:
            feedback = model.get_submodule(name)(feedback)
        return feedback

    def before(self, model: nn.Module) -> set[nn.Module]:
        """All that lies before the entry."""
        trunk = self._trunk(model)
        early = trunk.chain.links[: trunk.entry]
        return {module for name in early for module in trunk.get_submodule(name).modules()}

    def forgetful(self) -> InsertionPoint:
        """As at the input."""
        return self._replace(heard=())

    def _trunk(self, model: nn.Module) -> EntersLate:
        trunk = model.get_submodule(self.trunk)
        if not isinstance(trunk, EntersLate):
            raise SurgeryError(_replaced([self.trunk]))
        return trunk


def _answers(model: nn.Module, convs: tuple[str, ...], x: Tensor) -> tuple[Tensor, ...]:
    """What *convs* answer to *x* alone."""
    with collecting_answers() as answers:
        for name in convs:
            model.get_submodule(name)(x)
    if len(answers) != len(convs):
        raise SurgeryError(_replaced(convs))
    return tuple(answers)


def _replaced(names: Sequence[str]) -> str:
    return (
        f"{', '.join(names)}: replaced since the model was made, so the feedback is no longer read there. Replace "
        "parts of the base before it is closed into a loop, with wrap."
    )


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
        return enter_after(base, config.insert.removeprefix("after:"), seen.image, channels)
    chain = chain_of(base, seen.image)
    if chain and config.insert == "stem" and (stem := _open_stem(base, chain, seen.image)):
        return _enter_stem(base, chain, stem, channels)
    stage = int(config.insert.removeprefix("stage:")) if config.insert != "stem" else 0
    if chain is None or stage not in chain.stages:
        raise _no_such_place(base, config.insert, chain, seen.image)
    return _enter_stage(base, chain, chain.stages[stage], seen, channels)


def _enter_input(
    base: nn.Module, config: Recurrent, seen: Probe, channels: int
) -> tuple[InsertionPoint, nn.ModuleList]:
    convs = {config.stem: named_stem(base, config.stem)} if config.stem is not None else seen.readers
    if not convs:
        known = [name for name, module in base.named_modules() if isinstance(module, nn.Conv2d)]
        cure = (
            f"Name the first convolution: feedback=Recurrent(stem='...'). There is: {', '.join(known[:5])}, ..."
            if known
            else "It has none at all; a first module that gives a map or tokens can be entered: insert='after:NAME'."
        )
        raise SurgeryError(
            f"No convolution of this {type(base).__name__} reads the image itself (a space-to-depth stem, or a "
            f"linear patch embedding?). {cure}"
        )
    readers = add_readers(list(convs.values()), channels, reads_image=config.stem is None)
    return AtInput(tuple(convs) if config.stem is None else ()), readers


def _enter_stage(
    base: nn.Module, chain: Chain, link: int, seen: Probe, channels: int
) -> tuple[InsertionPoint, nn.ModuleList]:
    trunk = _late(base, chain, link + 1, reads=True)
    like = trunk.begin(seen.image)[-1]
    reader = Mixture(channels, like.shape[1]).to(like.device, like.dtype)
    nn.init.zeros_(reader.weight)
    return InEncoder(chain.trunk, (), len(trunk.kept) - 1, ()), nn.ModuleList([reader])


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
    return InEncoder(chain.trunk, stem.convs, stem.trunk.kept.index(stem.last), pools), readers


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
