"""A Lightning module that scores every look of a model, and answers with all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from smp_feedback.data.batch import image_of, pair_of
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.surgery.extension import looping_in
from smp_feedback.training.judging import JudgingModule
from smp_feedback.training.metric import SOLVED, LookMetric, task_of
from smp_feedback.training.scoring_module import Batch, check_answer


class LooksModule(JudgingModule):
    """A module whose model looks *steps* times, once if it does not loop."""

    steps: int

    @property
    def opened(self) -> nn.Module:
        """The model that is asked look by look: of a compiled one, that inside."""
        return looping_in(self.model)

    def looks(self, image: Tensor) -> Iterator[Tensor]:
        """The logits of each look, T of them; a loop that came to rest earlier repeats its last."""
        model = self.opened
        if not isinstance(model, FeedbackModel):
            yield self(image)
            return
        seen = 0
        for step in model.iterate(image):
            yield step.logits
            seen += 1
        for _ in range(seen, self.steps):
            yield step.logits

    def pair(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The images and targets of *batch*; the first targets tell the task, where nobody did."""
        image, target = pair_of(batch, self.task)
        if self.task is None:
            self.task = task_of(target)
            self._settle(self.channels, self.task)
        return image, target

    def validation_step(self, batch: Batch, index: int) -> None:
        """Score one batch, look by look."""
        self._score("val", self.ready(batch, index))

    def test_step(self, batch: Batch, index: int) -> None:
        """Score one batch, look by look."""
        self._score("test", self.ready(batch, index))

    def predict_step(self, batch: Any, index: int) -> Tensor:
        """The logits of every look (T, B, classes, H, W)."""
        return torch.stack(list(self.looks(image_of(self.fed(batch)))))

    def on_validation_epoch_end(self) -> None:
        """Log the scores."""
        self._conclude("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores."""
        self._conclude("test")

    def _score(self, stage: str, batch: Batch) -> None:
        image, target = self.pair(batch)
        if self.scores is None:
            with torch.inference_mode(False):  # else only what validates could count with it
                self.scores = self._metric(cast(str, self.task)).to(self.device)
        for t, logits in enumerate(self.looks(image)):
            check_answer(logits, target)
            self.scores.update(t, logits, target)
        self.log(f"{stage}_loss", self.judge(logits, target, t), sync_dist=True, batch_size=len(image))

    def _conclude(self, stage: str) -> None:
        scored = self.conclude()
        for name, looks in ((scored.name, scored.looks), (SOLVED, scored.solved)):
            self.log(f"{stage}_{name}", looks[-1], prog_bar=name != SOLVED, sync_dist=True)
            if self.steps > 1:
                self.log_dict({f"{stage}_{name}/look_{t + 1}": look for t, look in enumerate(looks)}, sync_dist=True)

    def _metric(self, task: str) -> LookMetric:
        return LookMetric(task, classes=self.classes, steps=self.steps, ignore_index=self.ignore_index)
