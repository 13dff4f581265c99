"""Every module of ours learns in two processes what it learns in one: the same gradients before the same steps.

The processes are started once and go through every lesson; the tests read what each of them wrote down.
"""

from __future__ import annotations

import datetime
import functools
import os
import traceback

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

import smp_feedback as smpf

pytest.importorskip("lightning")
import lightning
from lightning.pytorch.plugins import MixedPrecision

from smp_feedback.data import Shapes, Triplets
from smp_feedback.training import (
    DenoisingModule,
    FeedbackModule,
    PairsModule,
    RestorationModule,
    TripletsModule,
)
from smp_feedback.training.quiet import quiet

WORLD, CLASSES = 2, 3
SGD = functools.partial(torch.optim.SGD, lr=0.1)
PLAIN = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
    "num_sanity_val_steps": 0,
    "accelerator": "cpu",
}


class Small(nn.Module):
    """Three convolutions, of which one hears nothing of what is fed back, and one is not used at all."""

    def __init__(self):
        super().__init__()
        self.c1, self.norm, self.c2 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, CLASSES, 1)
        self.unused = nn.Conv2d(4, 4, 1)

    def forward_features(self, image):
        return self.norm(self.c1(image)).tanh()

    def forward_head(self, features):
        return self.c2(features)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


def closed(loop):
    """A small model in *loop* whose feedback is heard, and whose answer to an image is that image's alone."""
    torch.manual_seed(0)
    model = smpf.wrap(Small(), loop)
    for parameter in model.feedback.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return by_image(model)


def by_image(module):
    """*module* with GroupNorm in the place of BatchNorm, whose statistics are those of a process's own images."""
    for name, child in module.named_children():
        kept = nn.GroupNorm(1, child.num_features) if isinstance(child, nn.BatchNorm2d) else by_image(child)
        setattr(module, name, kept)
    return module


def constant(optimizer):
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def restoring(carry=None, **how):
    loop = smpf.Restoration(depth=2, filters=2, steps=2, weight=1.0, reach=2.0, carry=carry)
    return RestorationModule(closed(loop), classes=CLASSES, ignore_index=255, class_weights=[1, 2, 4], **how)


def denoising():
    loop = smpf.Score(filters=4, additional_pools=1, features=("output",), noise="none")
    return DenoisingModule(closed(loop), classes=CLASSES, lr=0.01, optimizer=SGD)


def looking(**how):
    loop = smpf.Recurrent(steps=3, dynamics="leaky", tau=2.0, feedback_init=0.3)
    return FeedbackModule(closed(loop), classes=CLASSES, optimizer=SGD, schedule=constant, **how)


def clips_half_of_them_void():
    """Two clips of two frames: the masks of one are void."""
    draw = torch.Generator().manual_seed(1)
    images = torch.rand(2, 2, 2, 3, 8, 8, generator=draw)
    masks = torch.randint(CLASSES, (2, 2, 8, 8), generator=draw)
    masks[1] = 255
    return [(images[0, i], images[1, i], masks[i]) for i in range(2)]


class Films(TripletsModule):
    """Two clips, whatever anybody says of their films."""

    def __init__(self, batch_size):
        super().__init__(clips_half_of_them_void(), batch_size=batch_size)
        self.clip = 2


def triplets(batch_size):
    return TripletsModule(Triplets(Shapes(8, 16), "gaussian_blur", 2), batch_size=batch_size)


def pairs(batch_size):
    return PairsModule(Shapes(8, 16), Shapes(4, 16, seed=1), batch_size=batch_size)


def scaled(init_scale=1024.0):
    return {"plugins": [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=init_scale))]}


CLIP = {"gradient_clip_val": 1e-3}
TWICE = {"accumulate_grad_batches": 2}
LESSONS = {
    "restoring": (restoring, triplets, {}),
    "restoring, clipped": (restoring, triplets, CLIP),
    "restoring end to end": (functools.partial(restoring, end_to_end=True), triplets, {}),
    "restoring end to end, clipped and added up": (
        functools.partial(restoring, end_to_end=True),
        triplets,
        {**CLIP, **TWICE},
    ),
    "restoring clips": (functools.partial(restoring, carry="feedback"), Films, {}),
    "denoising": (denoising, pairs, {}),
    "denoising, clipped and added up": (denoising, pairs, {**CLIP, **TWICE}),
    "looking": (functools.partial(looking, supervise="mean"), pairs, {}),
    "looking per step": (functools.partial(looking, supervise="mean", backward="per_step"), pairs, {}),
    "looking per step, clipped and added up": (
        functools.partial(looking, supervise="mean", backward="per_step"),
        pairs,
        {**CLIP, **TWICE},
    ),
    "looking in segments, clipped": (functools.partial(looking, segments=2), pairs, CLIP),
}
LOW = {
    "restoring, bf16": (restoring, triplets, {"precision": "bf16-mixed"}),
    "denoising, bf16": (denoising, pairs, {"precision": "bf16-mixed"}),
    "denoising, fp16": (denoising, pairs, scaled),
    "looking per step, bf16": (
        functools.partial(looking, supervise="mean", backward="per_step"),
        pairs,
        {"precision": "bf16-mixed"},
    ),
    "looking per step, fp16": (functools.partial(looking, supervise="mean", backward="per_step"), pairs, scaled),
    "looking in segments, fp16": (functools.partial(looking, segments=2), pairs, scaled),
}
"""In half precision, with the gradients scaled where that is 16 bits of which few are exponents."""


def learnt(lesson, processes, precision=None):
    """The gradients of every optimiser step of a run of one step, and all weights after it."""
    make, data, told = lesson
    told = {"precision": "64-true"} | (told() if callable(told) else told) | (precision or {})
    if "plugins" in told:
        del told["precision"]
    module, batch = make(), 4 // processes // told.get("accumulate_grad_batches", 1)
    batch = 2 // processes if data is Films else batch
    steps = []
    handle = register_optimizer_step_post_hook(lambda optimizer, *_: steps.append(gradients(optimizer)))
    how = {"max_steps": module.unrolling.segments if isinstance(module, FeedbackModule) else 1}
    if processes > 1:
        how |= {"devices": processes, "strategy": "ddp_find_unused_parameters_true"}
    else:
        how |= {"devices": 1}
    with quiet():
        lightning.Trainer(**PLAIN, **how, **told, limit_val_batches=0).fit(module, data(batch))
    handle.remove()
    return steps, {name: p.detach().clone() for name, p in module.named_parameters()}


def gradients(optimizer):
    return [None if p.grad is None else p.grad.clone() for group in optimizer.param_groups for p in group["params"]]


def scored_with(module):
    """The statistics that a run of two batches is scored with."""
    seen = []
    module.on_validation_batch_start = lambda *_: seen.append(
        {n: b.clone() for n, b in module.named_buffers() if "running" in n}
    )
    how = {"devices": WORLD, "strategy": "ddp_find_unused_parameters_true", "max_steps": 2}
    with quiet():
        lightning.Trainer(**PLAIN, **how).fit(module, pairs(2))
    return seen[-1]


def scored_by_hand():
    torch.manual_seed(0)
    loop = smpf.Recurrent(steps=2, dynamics="leaky", tau=2.0)
    return scored_with(FeedbackModule(smpf.wrap(Small(), loop), classes=CLASSES, backward="per_step"))


def work(rank, folder):
    torch.set_num_threads(1)
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    timeout = datetime.timedelta(seconds=120)
    distributed.init_process_group("gloo", f"file://{folder}/meet", timeout, WORLD, rank)
    found = {}
    scenarios = {name: functools.partial(learnt, lesson, WORLD) for name, lesson in (LESSONS | LOW).items()}
    for name, scenario in (scenarios | {"scored": scored_by_hand}).items():
        try:
            found[name] = scenario()
        except Exception:
            found[name] = traceback.format_exc()
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the ranks found: ``told(scenario)`` is one answer a rank, or fails with what a rank complained of."""
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.start_processes(work, (str(folder),), WORLD, start_method="forkserver")
    ranks = [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]

    def read(scenario):
        for rank in ranks:
            assert not isinstance(rank[scenario], str), rank[scenario]
        return [rank[scenario] for rank in ranks]

    return read


def close(found, wanted, tolerance):
    """Each to *tolerance* of the largest: in low precision a gradient may be nothing but rounding."""
    assert [one is None for one in found] == [one is None for one in wanted]
    largest = max(one.abs().max() for one in wanted if one is not None)
    for ours, theirs in zip(found, wanted, strict=True):
        if theirs is not None:
            assert (ours - theirs).abs().max() <= tolerance * largest


@pytest.mark.parametrize("lesson", LESSONS)
def test_two_processes_step_with_the_gradients_of_one(told, lesson):
    steps, after = learnt(LESSONS[lesson], 1)
    assert any(one is not None and one.any() for one in steps[-1])
    for found, weights in told(lesson):
        assert len(found) == len(steps)
        for ours, theirs in zip(found, steps, strict=True):
            close(ours, theirs, 1e-9)
        close([*weights.values()], [*after.values()], 1e-6)  # where a gradient is 0, Adam's step is chance


@pytest.mark.parametrize("lesson", [name for name in LESSONS if name.endswith("clipped")])
def test_what_is_clipped_is_the_mean_over_the_processes(told, lesson):
    for steps, _ in told(lesson):
        for step in steps:
            norm = torch.stack([one.norm() for one in step if one is not None]).norm().item()
            assert norm == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("lesson", LOW)
def test_in_half_precision_two_processes_come_near_the_gradients_of_one_in_double(told, lesson):
    make, data, _ = LOW[lesson]
    steps, _ = learnt((make, data, {}), 1)
    (first, weights), (second, others) = told(lesson)
    for ours, same, theirs in zip(first, second, steps, strict=True):
        close(same, ours, 0)
        close(ours, theirs, 0.1)
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_what_is_scored_after_steps_by_hand_is_what_the_first_process_keeps(told):
    first, second = told("scored")
    assert first
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_parameters_that_nobody_learns_stay_without_a_gradient(told):
    for steps, weights in told("restoring clips"):
        assert any(one is None for one in steps[-1]), "the last step is M's, which has a convolution too many"
        assert "model.unused.weight" in weights
