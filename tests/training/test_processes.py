"""Every module of ours learns in two processes what it learns in one: the same gradients before the same steps.

The processes are started once and go through every lesson; the tests read what each of them wrote down.
"""

from __future__ import annotations

import datetime
import functools
import os
import traceback
import warnings

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

import smp_feedback as smpf

pytest.importorskip("lightning")
import lightning
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from smp_feedback.data import Shapes, Triplets
from smp_feedback.errors import InvalidValue
from smp_feedback.training import (
    DenoisingModule,
    FeedbackModule,
    PairsModule,
    RestorationModule,
    TripletsModule,
)
from smp_feedback.training.cycle import gone_on as continued
from smp_feedback.training.quiet import quiet
from smp_feedback.training.sampling import Shuffled

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


class Saves(lightning.Callback):
    """Writes a checkpoint after so many steps, in the middle of an epoch."""

    def __init__(self, path, after):
        self.path, self.after = path, after

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.after:
            trainer.save_checkpoint(self.path)


def gone_on(processes, batch_size, steps, *, save=None, begin=None, after=6, **how):
    """The weights after *steps* of a run, whose checkpoint is saved after some of them or which begins with one."""
    module = looking(supervise="mean", **how).double()  # before a checkpoint is read into it
    data = PairsModule(Shapes(16, 16), batch_size=batch_size)
    told = {"devices": processes, "precision": "64-true", "max_steps": steps, "limit_val_batches": 0}
    told |= {"strategy": "ddp_find_unused_parameters_true"} if processes > 1 else {}
    with quiet():
        trainer = lightning.Trainer(**PLAIN, **told, callbacks=[] if save is None else [Saves(save, after)])
        trainer.fit(module, data, ckpt_path=begin)
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def saved_and_resumed(folder):
    """A run of two processes that is saved, and one that goes on with what one process has saved."""
    gone_on(WORLD, 2, 6, save=f"{folder}/two.ckpt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gone_on(WORLD, 2, 9, begin=f"{folder}/one.ckpt")


class Sharded(FeedbackModule):
    """A module whose model is spread over the processes, as FSDP2 spreads it."""

    def configure_model(self):
        fully_shard(self.model, mesh=self.device_mesh["data_parallel"])


def sharded(folder):
    """One step of a sharded model by Lightning, its checkpoint, and its full weights by torch; what refuses to save."""
    module = Sharded(made(), classes=CLASSES, optimizer=SGD, schedule=constant)
    strategy = ModelParallelStrategy(
        data_parallel_size=WORLD, tensor_parallel_size=1, save_distributed_checkpoint=False
    )
    with quiet():
        trainer = lightning.Trainer(**PLAIN, devices=WORLD, strategy=strategy, max_steps=1, limit_val_batches=0)
        trainer.fit(module, pairs(2))
        trainer.save_checkpoint(f"{folder}/sharded.ckpt")
    full = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(module.model, options=full)
    try:
        module.model.save_pretrained(f"{folder}/shards")
    except InvalidValue as error:
        return weights, str(error)
    return weights, ""


def loaded_into_shards(folder):
    """The full weights of another model, once a sharded one has them."""
    model = fully_shard(made(seed=3), mesh=init_device_mesh("cpu", (WORLD,)))
    given = smpf.from_pretrained(f"{folder}/given").state_dict() if distributed.get_rank() == 0 else {}
    how = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(model, given, options=how)
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def work(rank, folder):
    torch.set_num_threads(1)
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    timeout = datetime.timedelta(seconds=120)
    distributed.init_process_group("gloo", f"file://{folder}/meet", timeout, WORLD, rank)
    found = {}
    scenarios = {name: functools.partial(learnt, lesson, WORLD) for name, lesson in (LESSONS | LOW).items()}
    scenarios |= {"sharded": functools.partial(sharded, folder), "given": functools.partial(loaded_into_shards, folder)}
    scenarios |= {"scored": scored_by_hand, "resumed": functools.partial(saved_and_resumed, folder)}
    for name, scenario in scenarios.items():
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
    gone_on(1, 4, 6, save=f"{folder}/one.ckpt")
    made().save_pretrained(folder / "given")
    multiprocessing.start_processes(work, (str(folder),), WORLD, start_method="forkserver")
    ranks = [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]

    def read(scenario):
        for rank in ranks:
            assert not isinstance(rank[scenario], str), rank[scenario]
        return [rank[scenario] for rank in ranks]

    read.folder = folder
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
    name = lesson
    steps, _ = learnt((make, data, {}), 1)
    (first, weights), (second, others) = told(lesson)
    for ours, same, theirs in zip(first, second, steps, strict=True):
        close(same, ours, 0)
        close(ours, theirs, 0.3 if name.startswith("restoring") else 0.05)  # an image warped elsewhere
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_what_is_scored_after_steps_by_hand_is_what_the_first_process_keeps(told):
    first, second = told("scored")
    assert first
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_parameters_that_nobody_learns_stay_without_a_gradient(told):
    for steps, weights in told("restoring clips"):
        assert any(one is None for one in steps[-1]), "the last step is M's, which has a convolution too many"
        assert "model.unused.weight" in weights


def test_a_checkpoint_of_one_process_is_gone_on_with_by_two(told):
    whole = gone_on(1, 4, 9)
    for weights in told("resumed"):
        close([*weights.values()], [*whole.values()], 1e-9)


def test_a_checkpoint_of_two_processes_is_gone_on_with_by_one_and_what_differs_is_said(told):
    two = f"{told.folder}/two.ckpt"
    with pytest.warns(
        UserWarning, match="goes on with 1 process x 4 images, and had 2 processes x 2 images: each step"
    ):
        weights = gone_on(1, 4, 9, begin=two)
    close([*weights.values()], [*gone_on(1, 4, 9).values()], 1e-9)


@pytest.mark.parametrize(("batch_size", "over"), [(2, 4), (8, 1)])
def test_of_other_batches_none_is_shown_that_the_epoch_has_had(told, batch_size, over):
    """Six steps of four images are eight images of the second epoch; the other eight are left."""
    seen, module = [], looking(supervise="mean")
    module.on_train_batch_start = lambda batch, _: seen.append((module.current_epoch, batch[2].tolist()))
    data = PairsModule(Shapes(16, 16), batch_size=batch_size)
    rest = 16 // batch_size - over
    trainer = lightning.Trainer(**PLAIN, max_steps=6 + rest + 1, limit_val_batches=0)
    with quiet(), pytest.warns(UserWarning, match=f"{batch_size} images a step in all, not 4, .*=4 would keep"):
        trainer.fit(module, data, ckpt_path=f"{told.folder}/two.ckpt")
    assert [epoch for epoch, _ in seen] == [1] * rest + [2]
    order = [draw.item for draw in in_order(16, 1)]
    assert [i for _, batch in seen[:-1] for i in batch] == order[8:]


def in_order(count, epoch):
    order = Shuffled(count, 0)
    order.set_epoch(epoch)
    return order


def test_one_cycle_ends_with_the_run_where_its_steps_have_become_others(told, tmp_path):
    def cycle(batch_size, **how):
        module = looking(supervise="mean")
        module.schedule = None
        told = {"max_epochs": 4, "limit_val_batches": 0, "precision": "64-true"} | how.pop("told", {})
        with quiet():
            trainer = lightning.Trainer(**PLAIN, **told, callbacks=how.pop("callbacks", []))
            trainer.fit(module, PairsModule(Shapes(16, 16), batch_size=batch_size), **how)
        return trainer

    cycle(4, callbacks=[Saves(tmp_path / "a.ckpt", 6)])
    kept = torch.load(tmp_path / "a.ckpt", weights_only=True)
    kept["PairsModule"] |= {"processes": 2, "batch_size": 2}
    torch.save(kept, tmp_path / "b.ckpt")
    with pytest.warns(UserWarning, match="2 images a step in all"):
        trainer = cycle(2, ckpt_path=tmp_path / "b.ckpt")
    schedule = trainer.lr_scheduler_configs[0].scheduler
    assert (trainer.global_step, schedule.total_steps, schedule.last_epoch) == (6 + 20, 32, 32)
    assert schedule.get_last_lr() == pytest.approx(one_cycle(32, 32).get_last_lr() * len(schedule.get_last_lr()))


def one_cycle(total, steps):
    optimizer = SGD([nn.Parameter(torch.zeros(1))], momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=total)
    for _ in range(steps):
        optimizer.step()
        schedule.step()
    return schedule


@pytest.mark.parametrize(("total", "left"), [(32, 20), (8, 5), (32, 32)])
def test_a_cycle_of_another_length_stands_where_as_many_steps_are_left(total, left):
    made = continued(one_cycle(16, 6), total, left)
    whole = one_cycle(total, total - left)
    assert made.get_last_lr() == whole.get_last_lr()
    for ours, theirs in zip(made.optimizer.param_groups, whole.optimizer.param_groups, strict=True):
        assert ours["momentum"] == theirs["momentum"]


def test_another_batch_size_on_as_many_processes_is_refused(told):
    with pytest.raises(InvalidValue, match="batch_size=2: the run to resume has batch_size=4; it takes the same"):
        gone_on(1, 2, 9, begin=f"{told.folder}/one.ckpt")


def made(seed=1):
    """A model that can be built again: small, and of an architecture of ours."""
    torch.manual_seed(seed)
    return smpf.create("PlainConv", classes=CLASSES, width=4, depth=1, feedback=smpf.Recurrent(steps=3))


def test_a_sharded_model_gives_its_full_weights_which_a_whole_one_saves_and_loads(told, tmp_path):
    (weights, refused), (_, also) = told("sharded")
    assert "spread over processes" in refused == also
    kept = torch.load(f"{told.folder}/sharded.ckpt", weights_only=True)["state_dict"]
    model = made(seed=2)
    model.load_state_dict({name.removeprefix("model."): x for name, x in kept.items() if name.startswith("model.")})
    assert all(torch.equal(model.state_dict()[name], x) for name, x in weights.items())
    model.save_pretrained(tmp_path)
    image = torch.rand(1, 3, 8, 8)
    assert torch.equal(smpf.from_pretrained(tmp_path).eval()(image), model.eval()(image))
    before = made().state_dict()
    assert any(not torch.equal(before[name], x) for name, x in weights.items()), "it has learnt"


def test_a_sharded_model_takes_full_weights(told):
    wanted = made().state_dict()
    for rank, weights in enumerate(told("given")):
        assert rank or all(torch.equal(weights[name], x) for name, x in wanted.items())
