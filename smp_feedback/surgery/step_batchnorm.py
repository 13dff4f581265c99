"""BatchNorm, step by step: it keeps its buffers for the first look and finds those of later looks beside it.

The first look sees the image alone, the later ones what came of it: their statistics differ, and shared running
statistics would be those of neither (``docs/defaults.md``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from smp_feedback.surgery.extension import Extension, extend
from smp_feedback.surgery.step_context import Buffers, current_step, is_recomputing


class StepStatistics(nn.Module):
    """Running statistics of one BatchNorm for the steps after the first, one row (C,) each.

    Of a norm that no feedback reaches every step is the first, and where it runs again in a later one, nothing is
    counted twice.
    """

    unreached = False

    def __init__(self, name: str, norm: nn.Module, rows: int) -> None:
        super().__init__()
        self.name, self.norm, self.count = name, (norm,), rows  # a tuple: the norm is registered in the base alone
        for buffer in ("running_mean", "running_var", "num_batches_tracked"):
            own = norm._buffers[buffer]
            self.register_buffer(buffer, None if own is None else own.expand(rows, *own.shape).clone())

    def row(self, t: int) -> Buffers:
        """Those of step t: the norm's own in the first, and the last for steps beyond the trained ones."""
        if t and self.unreached:
            return {name: None if (x := self.norm[0]._buffers[name]) is None else x.clone() for name in self._buffers}
        if t == 0 or not self.count:  # views, as the rows are: a compiled look cannot tell them apart
            own = self.norm[0]._buffers
            return {name: None if (x := own[name]) is None else x.view_as(x) for name in self._buffers}
        return {name: None if rows is None else rows[min(t, self.count) - 1] for name, rows in self._buffers.items()}

    def reset(self) -> None:
        """Begin every row anew from the norm's own statistics."""
        for name, rows in self._buffers.items():
            if rows is not None:
                rows.copy_(self.norm[0]._buffers[name])  # type: ignore[arg-type]


class CountsOnce(Extension):
    """A BatchNorm whose running statistics leave out what is run again for the backward pass."""

    def _statistic(self, name: str) -> Tensor | None:
        own = self._buffers[name]
        return own.clone() if own is not None and is_recomputing() else own

    running_mean = property(lambda norm: norm._statistic("running_mean"), doc="(C,), of this step.")
    running_var = property(lambda norm: norm._statistic("running_var"), doc="(C,), of this step.")
    num_batches_tracked = property(lambda norm: norm._statistic("num_batches_tracked"), doc="Updates of these.")


class StatisticsPerStep(CountsOnce):
    """A BatchNorm whose running statistics belong to the step; the affine parameters serve all."""

    norm: int  # which of the statistics are this BatchNorm's
    rows: tuple[StepStatistics]  # the same; a tuple, so that they are registered once, under ``feedback``

    def _statistic(self, name: str) -> Tensor | None:
        step = current_step()
        if step is not None and step.statistics:
            return step.statistics[self.norm][name]
        return super()._statistic(name)  # a head's

    def begin_steps_anew(self) -> None:
        """Let the later steps start from the statistics of the first."""
        self.rows[0].reset()

    def reset_running_stats(self) -> None:
        """Begin all statistics anew, as ``torch.optim.swa_utils.update_bn`` asks."""
        reset = super().reset_running_stats  # type: ignore[misc]
        reset()
        self.begin_steps_anew()


def count_once(model: nn.Module) -> None:
    """Let each BatchNorm of *model* leave out what is run again, in place."""
    for norm in tracking_norms(model).values():
        if not isinstance(norm, CountsOnce):
            extend(norm, CountsOnce)


def add_statistics(norms: Mapping[str, nn.Module], rows: int) -> nn.ModuleList:
    """Let each of *norms* keep statistics per step, in place; returns *rows* of them for each."""
    statistics = nn.ModuleList(StepStatistics(name, norm, rows) for name, norm in norms.items())
    for index, norm in enumerate(norms.values()):
        _attach(norm, cast(StepStatistics, statistics[index]), index)
    return statistics


def leave_to_first(names: Iterable[str], statistics: nn.ModuleList) -> None:
    """Let those of *statistics* whose norms lie in the modules called *names*, which no feedback reaches, be one."""
    for rows in cast("list[StepStatistics]", statistics):
        rows.unreached = any(f"{rows.name}.".startswith(f"{name}.") for name in names)


def adopt(model: nn.Module, statistics: nn.ModuleList) -> None:
    """Attach *statistics* to the norms that took the place of theirs, as ``convert_sync_batchnorm`` makes them.

    They are replaced all together, or all those of the decoder: asking for the first in each part is enough to know.
    What took the place of one and keeps no such statistics is left alone.
    """
    every = enumerate(cast("list[StepStatistics]", statistics))
    for _, part in itertools.groupby(every, lambda numbered: numbered[1].name.partition(".")[0]):
        for index, rows in part:
            norm = _module_at(model, rows.name)
            if norm is rows.norm[0]:
                break
            if norm is not None and _fits(norm, rows):
                rows.norm = (norm,)
                _attach(norm, rows, index)


def _module_at(model: nn.Module, name: str) -> nn.Module | None:
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None


def _fits(norm: nn.Module, rows: StepStatistics) -> bool:
    own, later = _mean(norm), rows._buffers["running_mean"]
    return own is not None and later is not None and own.shape == later.shape[1:]


def _attach(norm: nn.Module, rows: StepStatistics, index: int) -> None:
    extended_norm = norm if isinstance(norm, StatisticsPerStep) else extend(norm, StatisticsPerStep)
    extended_norm.norm, extended_norm.rows = index, (rows,)


def tracking_norms(model: nn.Module) -> dict[str, nn.Module]:
    """The normalisations that keep running statistics, by name, in the order of ``modules()``."""
    return {name: m for name, m in model.named_modules() if _mean(m) is not None}


def _mean(module: nn.Module) -> Tensor | None:
    return module._buffers.get("running_mean") if isinstance(module, _NormBase) else None


def reset_statistics(model: nn.Module) -> None:
    """Begin BatchNorm's statistics of the later steps from those of the first."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, StatisticsPerStep):
                module.begin_steps_anew()
