"""Training the restoration loop: the published order of updates, where gradients end, and that a run repeats."""

from __future__ import annotations

import pytest
import torch
from test_golden import agree, golden, needs_golden
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import smp_feedback as smpf
from smp_feedback.evaluation.passes import passes
from smp_feedback.restorers.base import Restored, Restorer
from smp_feedback.restorers.warp import warp

pytest.importorskip("lightning")
from smp_feedback.training import RestorationModule, TripletsModule, fit

QUIET = {"progress": False, "accelerator": "cpu"}
TINY = {"depth": 2, "filters": 4}


class StubRestorer(Restorer):
    """z = conv3x3(x) [+ conv1x1(feedback)]; the image is warped by 10 tanh(z)."""

    def __init__(self, channels, feedback_channels):
        super().__init__()
        self.c, self.f = nn.Conv2d(channels, 2, 3, padding=1), nn.Conv2d(feedback_channels, 2, 1)

    def restore(self, image, begun, feedback):
        z = self.c(image) if feedback is None else self.c(image) + self.f(feedback)
        displacement = 10 * z.tanh()
        return Restored(warp(image, displacement), displacement)


class StubSegmenter(nn.Module):
    """conv1x1(tanh(conv3x3(image)))"""

    def __init__(self, classes, channels=3):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(channels, 6, 3, padding=1), nn.Conv2d(6, classes, 1)

    def forward_features(self, image):
        return self.c1(image).tanh()

    def forward_head(self, x):
        return self.c2(x)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


@pytest.fixture
def stub(restored):
    """The stub among the restorers."""
    smpf.register_restorer("stub", lambda config, channels, classes: StubRestorer(channels, channels * classes))


def stub_model(classes=20, **loop):
    return smpf.wrap(StubSegmenter(classes), feedback=smpf.Restoration(restorer="stub", **loop))


def parts(model):
    """R's and M's convolutions by the names of the golden arrays."""
    restorer = model.restorer
    return {"r_c": restorer.c, "r_f": restorer.f, "s_c1": model.c1, "s_c2": model.c2}


def watched(steps):
    """Notes the gradients with which each optimiser steps."""

    def note(optimizer, *_):
        steps.append([None if p.grad is None else p.grad.clone() for g in optimizer.param_groups for p in g["params"]])

    return register_optimizer_step_pre_hook(note)


class Listed(list):
    """Triplets in memory, with their classes."""

    ignore_index = None

    def __init__(self, *columns, classes=20):
        super().__init__(zip(*columns, strict=True))
        self.classes = tuple(map(str, range(classes)))


@needs_golden
def test_one_batch_is_the_published_one(stub):
    a, meta = golden("g_feedback_loop")
    model = stub_model()
    for name, conv in parts(model).items():
        conv.load_state_dict({key: a[f"{name}_{key}"] for key in ("weight", "bias")})
    weights = {"class_weights": a["class_weights"].tolist(), "ignore_index": 19}
    module = RestorationModule(model, classes=20, **weights)
    assert (meta["adam_r"]["lr"], meta["adam_s"]["lr"], meta["adam_s"]["weight_decay"]) == (2e-4, 5e-4, 2e-4)
    triplets = Listed(a["turbulent"], a["clean"], a["target"])
    steps = []
    handle = watched(steps)
    fit(module, TripletsModule(triplets, triplets, batch_size=2), steps=1, **QUIET)
    handle.remove()

    assert len(steps) == 4, "three of R, and one of M"
    for number, gradients in enumerate(steps[:3], start=1):
        for name, gradient in zip(("c_weight", "c_bias", "f_weight", "f_bias"), gradients, strict=True):
            theirs = a[f"grad_r_it{number}_{name}"]
            if (number, name) == (1, "f_weight"):
                assert max(gradient.abs().max(), theirs.abs().max()) < 1e-5, "there is no feedback yet"
            else:
                agree(gradient, theirs, 1e-3)
    for name, gradient in zip(("c1_weight", "c1_bias", "c2_weight", "c2_bias"), steps[3], strict=True):
        agree(gradient, a[f"grad_s_{name}"], 1e-3)
    for name, conv in parts(model).items():
        for key, value in conv.state_dict().items():
            agree(value, a[f"after_{name}_{key}"], 1e-5)

    with torch.no_grad():
        for t, passed in enumerate(passes(model.eval(), a["turbulent"])):
            agree(passed.restored, a["val_restored"][t], 2e-4)
            agree(passed.logits, a["val_logits"][t], 2e-4)
    there = a["val_iou"][~module.scored.per_class[-1][:19].isnan()]
    torch.testing.assert_close(module.scored.per_class[-1][: len(a["val_iou"])].nan_to_num(0), a["val_iou"])
    assert module.trainer.callback_metrics["val_miou"].item() == pytest.approx(there.mean().item(), rel=1e-5)
