"""A base model opened for the recurrent loop: probed, made to read what is fed back, and proven to be as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import nn

from smp_feedback.config.recurrent import Recurrent
from smp_feedback.loops.recurrent.state import RecurrentFeedback
from smp_feedback.models.builder import check_reads_logits
from smp_feedback.registry.public import catalogue
from smp_feedback.surgery.cuts import cut_of
from smp_feedback.surgery.extension import evaluating
from smp_feedback.surgery.insertion import enter
from smp_feedback.surgery.insertion_point import InsertionPoint
from smp_feedback.surgery.probe import Probe, noise, probe
from smp_feedback.surgery.proof import check_elsewhere, prove
from smp_feedback.surgery.step_batchnorm import add_statistics, leave_to_first, tracking_norms
from smp_feedback.surgery.step_context import StepContext, in_step
from smp_feedback.surgery.unreached import watching


def open_base(base: nn.Module, config: Recurrent, in_channels: int | None = None) -> RecurrentFeedback:
    """What is new in *base*, which reads it from now on, in place; *in_channels*, if somebody knows them."""
    if config.output == "dirichlet":
        check_reads_logits(base, "output='dirichlet'")
    if catalogue().projections[config.fed_back].reads_logits:
        check_reads_logits(base, f"projection={config.fed_back!r}")
    cut_of(base)  # what cannot be cut need not be asked anything
    with evaluating(base):
        seen = probe(base, in_channels, dirichlet=config.output == "dirichlet")
        like = next(base.parameters())
        feedback = RecurrentFeedback(config, seen, seen.cut.readout(base)).to(like.device, like.dtype)
        feedback.entry, feedback.readers = enter(base, config, seen, feedback.projection.channels)
        early = feedback.entry.before(base)
        norms = {name: norm for name, norm in tracking_norms(base).items() if norm not in early}
        feedback.statistics = add_statistics(norms, rows=feedback.statistics_rows())
        feedback.entry = _proven(base, seen, feedback)
        check_elsewhere(base, seen)
    for weight in feedback.readers.parameters() if config.feedback_init else ():
        nn.init.normal_(weight, std=config.feedback_init)
    return feedback


def with_unreached(base: nn.Module, seen: Probe, feedback: RecurrentFeedback) -> InsertionPoint:
    """The place where the feedback enters, and what of the decoder it does not reach, opened in place."""
    entry = feedback.entry
    once = entry.once(base, seen.image)._replace(image=seen.image)
    if not once.stages:
        return entry
    u = noise(base, (1, feedback.projection.channels, *entry.grid(seen.image, once)))
    step = StepContext(entry.carry(base, u), feedback.readers, once=once)
    with _aloud(base, feedback.readers), watching(base, once.stages) as unreached, in_step(step):
        seen.cut.body(base, seen.image)
    for number, one in enumerate(unreached):
        one.open(base, number)
    leave_to_first([one.name for one in unreached], feedback.statistics)
    return replace(entry, unreached=tuple(unreached))


@contextmanager
def _aloud(base: nn.Module, readers: nn.ModuleList) -> Iterator[None]:
    """Context: *readers* hear: their weights are noise."""
    weights = [(weight, weight.clone()) for weight in readers.parameters()]
    for weight, _ in weights:
        weight.copy_(noise(base, tuple(weight.shape)))
    try:
        yield
    finally:
        for weight, own in weights:
            weight.copy_(own)


def _proven(base: nn.Module, seen: Probe, feedback: RecurrentFeedback) -> InsertionPoint:
    """The place where the feedback enters, proven: nothing has changed, and what is kept is exact."""
    entry, stem = with_unreached(base, seen, feedback), feedback.config.stem
    once = entry.once(base, seen.image)._replace(image=seen.image)
    u = noise(base, (1, feedback.projection.channels, *entry.grid(seen.image, once)))
    step = StepContext(entry.carry(base, u), feedback.readers)
    if not prove(base, seen, step, stem):
        entry, once = entry.forgetful(), once._replace(heard=())
    for _ in range(2 if once.stages else 1):  # the first look must leave what is kept as it was
        prove(base, seen, step._replace(once=once), stem)
    return entry
