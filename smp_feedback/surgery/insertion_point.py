"""The places where the feedback enters a base model: what runs before, once per image, and on which grid it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from smp_feedback.errors import SurgeryError
from smp_feedback.ops.maps import Size, size_of
from smp_feedback.surgery.after_module import AddsFeedback, grid_on
from smp_feedback.surgery.encoder_chain import EntersLate
from smp_feedback.surgery.encoder_once import EncodesOnce, Level
from smp_feedback.surgery.extension import M
from smp_feedback.surgery.feature_layout import Layout
from smp_feedback.surgery.step_context import Once, collecting_answers
from smp_feedback.surgery.unreached import Unreached, keep


@dataclass(frozen=True, kw_only=True)
class InsertionPoint:
    """The input: the convolutions that read the image read the feedback too. Other places say what is other there.

    Attributes:
        heard: The names of the convolutions that read the feedback and whose answer to the rest may be kept.
        unreached: What of the decoder no feedback reaches.
    """

    heard: tuple[str, ...] = ()
    unreached: tuple[Unreached, ...] = ()

    def once(self, model: nn.Module, image: Tensor) -> Once:
        """What no feedback reaches: the base up to here, and what the convolutions say of that."""
        stages = self.stages(model, image)
        heard = _answers(model, self.heard, stages[-1] if stages else image)
        return Once(heard, stages, kept=keep(model, self.unreached, stages))

    def stages(self, model: nn.Module, image: Tensor) -> tuple[Tensor, ...]:
        """What comes out of what lies before."""
        return ()

    def grid(self, image: Tensor, once: Once) -> Size:
        """Height and width on which the feedback is made."""
        return size_of(image)

    def carry(self, model: nn.Module, feedback: Tensor) -> Tensor:
        """*feedback* (B, K, h, w) as it reaches its readers."""
        return feedback

    def before(self, model: nn.Module) -> set[nn.Module]:
        """The modules that run once per image."""
        return set()

    def forgetful(self) -> InsertionPoint:
        """The same place, where no convolution's answer is kept: one that runs twice a look has two."""
        return replace(self, heard=())

    def stopping_there(self) -> InsertionPoint:
        """The same place, where nothing is kept of what lies behind: what is run again is not to cost memory."""
        return replace(self, unreached=())


@dataclass(frozen=True, kw_only=True)
class InEncoder(InsertionPoint):
    """Inside an encoder that is a chain of modules.

    Attributes:
        trunk: Name of the module that is the chain, extended by :class:`EntersLate`.
        at: Which of the answers that are kept has the feedback's grid.
        pools: Names of the poolings that the feedback goes through.
    """

    trunk: str
    at: int
    pools: tuple[str, ...] = ()

    def stages(self, model: nn.Module, image: Tensor) -> tuple[Tensor, ...]:
        """The encoder's, up to here."""
        return _opened(model, self.trunk, EntersLate).begin(image)

    def grid(self, image: Tensor, once: Once) -> Size:
        """That of the stage, or of the stem before its pooling."""
        return size_of(once.stages[self.at])

    def carry(self, model: nn.Module, feedback: Tensor) -> Tensor:
        """Through the stem's poolings, which treat each channel alike."""
        for name in self.pools:
            feedback = model.get_submodule(name)(feedback)
        return feedback

    def before(self, model: nn.Module) -> set[nn.Module]:
        """All that lies before the entry."""
        trunk = _opened(model, self.trunk, EntersLate)
        early = trunk.chain.links[: trunk.entry]
        return {module for name in early for module in trunk.get_submodule(name).modules()}


@dataclass(frozen=True, kw_only=True)
class AfterModule(InsertionPoint):
    """Behind a module that is handed the image itself.

    Attributes:
        name: Its dotted name.
        layout: How it lays out what it gives.
    """

    name: str
    layout: Layout

    def stages(self, model: nn.Module, image: Tensor) -> tuple[Tensor, ...]:
        """What it gives for the image."""
        with collecting_answers() as answers:
            _opened(model, self.name, AddsFeedback)(image)
        return (answers[0],)

    def grid(self, image: Tensor, once: Once) -> Size:
        """That of what it gives."""
        return grid_on(self.layout, once.stages[0], size_of(image))

    def before(self, model: nn.Module) -> set[nn.Module]:
        """Itself, and all in it."""
        return set(model.get_submodule(self.name).modules())


@dataclass(frozen=True, kw_only=True)
class BeforeDecoder(InsertionPoint):
    """Between encoder and decoder, in the features that the decoder reads.

    Attributes:
        encoder: Dotted name of the encoder, extended by :class:`EncodesOnce`.
        finest: The feature on whose grid the feedback is made.
    """

    encoder: str
    finest: Level

    def stages(self, model: nn.Module, image: Tensor) -> tuple[Tensor, ...]:
        """The encoder's features."""
        return _opened(model, self.encoder, EncodesOnce).features_once(image)

    def grid(self, image: Tensor, once: Once) -> Size:
        """That of the finest feature that hears."""
        return self.finest.grid(once.stages, size_of(image))

    def before(self, model: nn.Module) -> set[nn.Module]:
        """The encoder, and all in it."""
        return set(model.get_submodule(self.encoder).modules())


def _answers(model: nn.Module, convs: tuple[str, ...], x: Tensor) -> tuple[Tensor, ...]:
    """What *convs* answer to *x* alone."""
    with collecting_answers() as answers:
        for name in convs:
            model.get_submodule(name)(x)
    if len(answers) != len(convs):
        raise _replaced(convs)
    return tuple(answers)


def _opened(model: nn.Module, name: str, extension: type[M]) -> M:
    """The module *name* of *model*, which was extended so when the model was made."""
    module = model.get_submodule(name)
    if not isinstance(module, extension):
        raise _replaced([name])
    return module


def _replaced(names: Sequence[str]) -> SurgeryError:
    return SurgeryError(
        f"{', '.join(names)}: replaced since the model was made, so the feedback is no longer read there. Replace "
        "parts of the base before it is closed into a loop, with wrap."
    )
