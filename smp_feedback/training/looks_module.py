"""A Lightning module that scores every look of a model, and answers with all of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from smp_feedback.data.batch import image_of, is_clips, pair_of
from smp_feedback.errors import InvalidInput, one_line
from smp_feedback.evaluation.named_metrics import SOLVED
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.loops.call import Looks
from smp_feedback.loops.looking import carries
from smp_feedback.loops.tiling.fitting import check_whole_frames
from smp_feedback.loops.tiling.model import TiledModel
from smp_feedback.ops.reading import labels_of
from smp_feedback.surgery.extension import looping_in
from smp_feedback.training.clip_loss import has_labels, ignored_by
from smp_feedback.training.film_parts import Ongoing, ongoing_in
from smp_feedback.training.judging import JudgingModule
from smp_feedback.training.loss_in_parts import LossInParts, is_mean
from smp_feedback.training.metric import LookMetric, task_of
from smp_feedback.training.monitors import class_names, named_metrics
from smp_feedback.training.scoring_module import Batch, check_answer

Answered = dict[str, Tensor]
"""``logits`` (B, classes, ...), ``target``, and of the looks before, if they are kept, the labels: ``before``."""


class LooksModule(JudgingModule):
    """A module whose model looks *steps* times, once if it does not loop."""

    steps: int
    asked: Looks | None = None
    """How often to look where predictions are made; None is *steps*."""
    every_look: bool = True
    """Whether predictions are those of every look, or of the last alone."""
    keeps_looks: bool = False
    """Whether what scores a batch leaves the labels of every look for callbacks."""
    skips: bool = False
    """Whether an image that the model cannot take is left out, where it is alone in its batch."""
    refused: str | None = None
    """Why the image that was predicted last was left out."""
    looked: Tensor | None = None
    """How many looks each image of the batch that was predicted last has had (B,); None where nobody counts."""

    @property
    def opened(self) -> nn.Module:
        """The model that is asked look by look: of a compiled one, that inside."""
        return looping_in(self.model)

    def looks(self, image: Tensor) -> Iterator[Tensor]:
        """The logits of each look, T of them; a loop that came to rest earlier repeats its last."""
        seen = 0
        for logits in self._looked(image):
            yield logits
            seen += 1
        most = self.steps if self.asked is None else self.asked
        for _ in range(seen, most if isinstance(most, int) else seen):
            yield logits

    def _looked(self, image: Tensor) -> Iterator[Tensor]:
        """The logits of each look that is taken."""
        model = self.opened
        if isinstance(model, TiledModel):
            yield from model.every_look(image, self.asked, feed=self.feed_of(image))
        elif isinstance(model, FeedbackModel):
            yield from (step.logits for step in model.iterate(image, self.asked))
        else:
            yield self(image)

    def in_windows(self, image: Tensor) -> Tensor:
        """The logits of every look (T, B, classes, H, W), or of the last alone, beside which then none are kept."""
        if self.every_look:
            return torch.stack(list(self.looks(image)))
        return cast(Tensor, self.opened(image, self.asked, feed=self.feed_of(image)))[None]

    def fed(self, batch: Any, images: int = 1) -> Any:
        """As ever; where a model looks in windows, these are normalised one by one, and no second image is kept."""
        return batch if isinstance(self.opened, TiledModel) else super().fed(batch, images)

    def frames(self, films: Tensor, ongoing: Ongoing) -> Iterator[Tensor]:
        """The logits of each frame of *films* (B, T, C, H, W), one look a frame where the state is carried on.

        A model that carries none answers each frame on its own. These go on from the frames that *ongoing* has had.
        """
        model = self.opened
        check_whole_frames(model)
        film = carries(model)
        for frame in films.unbind(1):
            ongoing.place += 1
            if film:
                ongoing.step = cast(FeedbackModel, model).look(frame, ongoing.step).detach()
            yield self(frame) if ongoing.step is None else ongoing.step.logits

    def pair(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The images and targets of *batch*; the first targets tell the task, where nobody did."""
        image, target = pair_of(batch, self.task, narrow=isinstance(self.opened, TiledModel))
        if self.task is None:
            self.task = task_of(target.flatten(0, 1) if is_clips(image) else target)
            self._settle(self.channels, self.task)
        return image, target

    def validation_step(self, batch: Batch, index: int) -> Answered | None:
        """Score one batch, look by look; of images, what the last look said, for callbacks."""
        return self._score("val", self.ready(batch, index))

    def test_step(self, batch: Batch, index: int) -> Answered | None:
        """Score one batch, look by look; of images, what the last look said, for callbacks."""
        return self._score("test", self.ready(batch, index))

    def predict_step(self, batch: Any, index: int) -> Tensor:
        """The logits of every look (T, B, classes, H, W), or (1, B, classes, H, W) of the last alone.

        Of films, each frame's, those of a film in succession: (1, B * T, classes, H, W).
        """
        image = image_of(self.fed(batch))
        self.looked = self.refused = None
        if is_clips(image):
            return torch.stack(list(self.frames(image, ongoing_in(batch))), 1).flatten(0, 1)[None]
        none = torch.zeros(1, 0, self.classes, 1, 1, device=image.device)
        if not len(image):  # none of them could be read
            return none
        try:
            logits, self.looked = self.answers(image)
        except InvalidInput as error:
            if not self.skips or len(image) > 1:
                raise
            self.refused = one_line(error)
            return none
        return logits

    def answers(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """As :meth:`predict_step` answers one batch of images, and how many looks each has had (B,)."""
        model, asked = self.opened, self.asked
        if isinstance(model, TiledModel):
            return self.in_windows(image), None
        if isinstance(model, FeedbackModel) and (asked is not None or model.loop_config.is_data_dependent):
            return self._counted(model, image)
        looks = torch.full((len(image),), self.steps)
        return torch.stack(list(self.looks(image))) if self.every_look else self(image)[None], looks

    def _counted(self, model: FeedbackModel, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Of a loop whose looks are told, or that stops by itself; that has one answer more often than it looked."""
        kept: list[Tensor] = []
        for step in model.iterate(image, self.asked):
            kept = [*kept, step.logits] if self.every_look else [step.logits]
        most = self.steps if self.asked is None else self.asked
        more = most - len(kept) if isinstance(most, int) and self.every_look else 0
        return torch.stack(kept + more * kept[-1:]), getattr(step, "looks", None)

    def on_validation_epoch_end(self) -> None:
        """Log the scores."""
        self._conclude("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores."""
        self._conclude("test")

    def _score(self, stage: str, batch: Batch) -> Answered | None:
        image, target = self.pair(batch)
        if is_clips(image):
            self._score_films(stage, image, target, ongoing_in(batch))
            return None
        scores, before = self._counting(self.steps), []
        parts = LossInParts(partial(self.judge, look=self.steps - 1), lambda: self.loss, self.ignore_index)
        in_parts = isinstance(self.opened, TiledModel) and is_mean(self.loss)
        for t, said in enumerate(self._said(image, target, parts if in_parts else None)):
            scores.update(t, said, target)
            if self.keeps_looks and t < self.steps - 1:
                before.append(self._labels(said) if said.is_floating_point() else said)
        loss = parts.value() if in_parts else self.judge(said, target.long(), t)
        self.log(f"{stage}_loss", loss, sync_dist=True, batch_size=len(image))
        answered = {"logits": said, "target": target}
        return {**answered, "before": torch.stack(before)} if before else answered

    def _said(self, image: Tensor, target: Tensor, parts: LossInParts | None) -> Iterator[Tensor]:
        """The logits of each look; in windows the labels, which are smaller, but for the last look.

        Its labels, too, where *parts* judge its logits as they come.
        """
        model = self.opened
        if not isinstance(model, TiledModel):
            for logits in self.looks(image):
                check_answer(logits, target)
                yield logits
            return
        shape = len(image), self.classes, *image.shape[-2:]
        check_answer(torch.empty(shape, device="meta"), target)

        def judged(logits: Tensor, images: slice, rows: slice) -> Tensor:
            if parts is None:
                return logits
            parts.add(logits, target[images, ..., rows, :])
            return self._labels(logits)

        before, last = model.read_looks(image, self._labels, feed=self.feed_of(image), last=judged)
        yield from (*before, last)

    def _labels(self, logits: Tensor) -> Tensor:
        dtype = torch.uint8 if self.classes <= 256 else torch.int32
        return labels_of(logits, cast(str, self.task)).to(dtype)

    def _score_films(self, stage: str, films: Tensor, target: Tensor, ongoing: Ongoing) -> None:
        """As a film has one look a frame, all of them count alike."""
        scores, losses, place = self._counting(1), [], ongoing.place
        labelled = has_labels(target, ignored_by(self))
        for t, logits in enumerate(self.frames(films, ongoing)):
            if labelled[t]:
                check_answer(logits, target[:, t])
                scores.update(0, logits, target[:, t])
                losses.append(self.judge(logits, target[:, t], place + t))
        loss = torch.stack(losses).mean() if losses else films.new_zeros(())
        self.log(f"{stage}_loss", loss, sync_dist=True, batch_size=len(losses) * len(films))

    def _counting(self, looks: int) -> LookMetric:
        """The scores of so many looks; begun anew, where they were those of others."""
        if self.scores is None or len(self.scores.images) != looks:
            with torch.inference_mode(False):  # else only what validates could count with it
                self.scores = self._metric(cast(str, self.task), looks).to(self.device)
        return self.scores

    def _conclude(self, stage: str) -> None:
        scored = self.conclude()
        named = named_metrics(scored.metrics, class_names(self.model, self.classes), stage)
        below = {f"{stage}_{name}" for name in (scored.name, SOLVED)}
        self.log_dict({key: value for key, value in named.items() if key not in below}, sync_dist=True)
        for name, looks in ((scored.name, scored.looks), (SOLVED, scored.solved)):
            self.log(f"{stage}_{name}", looks[-1], prog_bar=name != SOLVED, sync_dist=True)
            if len(looks) > 1:
                self.log_dict({f"{stage}_{name}/look_{t + 1}": look for t, look in enumerate(looks)}, sync_dist=True)

    def _metric(self, task: str, looks: int) -> LookMetric:
        return LookMetric(task, classes=self.classes, steps=looks, ignore_index=self.ignore_index)
