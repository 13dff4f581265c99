"""The loop: lazily or at once, with gradients as chosen, and no state between calls."""

from __future__ import annotations

import copy
import threading
from itertools import pairwise

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.loops.steps import relative_change

IMAGE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
TINY = "tu-test_resnet.r160_in1k"
SLIM = {"encoder_weights": None, "classes": 3, "decoder_channels": (16, 16, 16, 16, 16)}


def unet(feedback=True, seed=0, **kwargs):
    """A small U-Net whose feedback is heard: the readers are not zero."""
    torch.manual_seed(seed)
    model = smpf.create("Unet", TINY, feedback=feedback, **SLIM, **kwargs)
    for weight in model.feedback.readers.parameters():
        nn.init.normal_(weight, std=0.3)
    return model


@pytest.fixture(scope="module")
def model():
    return unet(smpf.Recurrent(steps=4, tau=3.0)).eval()


@torch.no_grad()
def test_every_way_of_looking_gives_the_same_answers(model):
    path = model.trajectory(IMAGE)
    steps = list(model.iterate(IMAGE))
    assert path.shape == (4, 2, 3, 64, 64)
    assert [s.index for s in steps] == [0, 1, 2, 3]
    assert torch.equal(path, torch.stack([s.logits for s in steps]))
    assert torch.equal(path[-1], model(IMAGE))
    assert torch.equal(path[-1], model.predict(IMAGE))
    assert torch.equal(path[1], model(IMAGE, steps=2)), "decay does not know the number of steps"


@torch.no_grad()
def test_looking_again_changes_the_answer(model):
    path = model.trajectory(IMAGE)
    assert (path[1:] - path[:-1]).abs().amax((1, 2, 3, 4)).min() > 1e-4


@torch.no_grad()
def test_interleaved_loops_do_not_disturb_each_other(model):
    other = IMAGE.flip(-1)
    alone = [model.trajectory(IMAGE), model.trajectory(other, steps=6)]
    first, second = model.iterate(IMAGE), model.iterate(other, steps=6)
    seen = [[], []]
    for turn in (0, 1, 1, 0, 1, 0, 1, 0, 1, 1):
        seen[turn].append(next((first, second)[turn]).logits)
        model(other, steps=1)
    for ours, theirs in zip(seen, alone, strict=True):
        assert torch.equal(torch.stack(ours), theirs)


def test_two_threads_with_two_step_counts_do_not_meet(model):
    wanted, wrong = {s: model(IMAGE, steps=s).detach() for s in (1, 5)}, []

    def work(steps):
        for _ in range(4):
            with torch.no_grad():
                if not torch.allclose(model(IMAGE, steps=steps), wanted[steps], atol=1e-5):
                    wrong.append(steps)

    threads = [threading.Thread(target=work, args=(s,)) for s in wanted for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_iterating_is_lazy(model):
    looks = []
    handle = model.decoder.register_forward_hook(lambda *_: looks.append(1))
    steps = model.iterate(IMAGE, steps=100)
    assert not looks
    next(steps)
    next(steps)
    handle.remove()
    assert len(looks) == 2


def test_the_head_answers_only_when_asked(model):
    answers = []
    handle = model.segmentation_head.register_forward_hook(lambda *_: answers.append(1))
    model(IMAGE)
    steps = list(model.iterate(IMAGE))
    assert len(answers) == 1
    assert steps[0].logits is steps[0].logits
    handle.remove()
    assert len(answers) == 2


@torch.no_grad()
def test_change_is_how_far_the_state_moved(model):
    steps = list(model.iterate(IMAGE))
    assert torch.equal(steps[0].change, torch.ones(2))
    for before, step in pairwise(steps):
        moved = (step.state - before.state).flatten(1).norm(dim=1) / step.state.flatten(1).norm(dim=1)
        torch.testing.assert_close(step.change, moved)


@torch.no_grad()
def test_state_is_what_the_head_reads_and_what_is_fed_back(model):
    *_, step = model.iterate(IMAGE)
    assert step.state.shape == (2, 16 + 2, 64, 64)
    assert torch.equal(model.segmentation_head(step.state[:, :16]), step.logits)


@torch.no_grad()
def test_the_image_is_convolved_once_for_all_looks(model):
    """In inference; and the answer is that of convolving it every time."""
    calls, conv = [], model.encoder.model.conv1[0]
    original = F.conv2d
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "conv2d", lambda x, w, *a, **k: (calls.append(w is conv.weight), original(x, w, *a, **k))[1])
        once = model(IMAGE)
    assert sum(calls) == 1
    with torch.enable_grad():
        every_time = model(IMAGE)
    torch.testing.assert_close(once, every_time.detach())


# --- gradients


def gradients(model, image, steps=None, every=False):
    model.zero_grad(set_to_none=True)
    logits = [s.logits for s in model.iterate(image, steps)]
    target = torch.arange(image.shape[0] * 64 * 64).reshape(-1, 64, 64) % 3
    sum(F.cross_entropy(x, target) for x in (logits if every else logits[-1:])).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def same(a, b, tolerance=1e-6):
    assert a.keys() == b.keys()
    for key in a:
        scale = a[key].abs().max().clamp_min(1e-12)
        assert ((a[key] - b[key]).abs().max() / scale) < tolerance, key


@pytest.mark.parametrize("every", [False, True], ids=["last", "every step"])
def test_recomputing_gives_the_same_gradients_and_the_same_statistics(every):
    plain, thrifty = unet(smpf.Recurrent(steps=4)), unet(smpf.Recurrent(steps=4, recompute=True))
    same(gradients(plain, IMAGE, every=every), gradients(thrifty, IMAGE, every=every))
    for (name, a), (_, b) in zip(plain.named_buffers(), thrifty.named_buffers(), strict=True):
        assert torch.equal(a, b), name


def test_the_gradient_of_the_last_k_steps_is_that_of_a_loop_that_starts_there():
    model = unet(smpf.Recurrent(steps=5, grad_steps=2)).eval()
    full = unet(smpf.Recurrent(steps=5)).eval()
    with torch.no_grad():
        third = list(full.iterate(IMAGE))[2].state
    ours = gradients(model, IMAGE)
    turn = full._recurrence(IMAGE, full._once(IMAGE, full.loop_config.flow), 5, full.loop_config.flow)
    full.zero_grad(set_to_none=True)
    state = third
    for t in (3, 4):
        state = turn(state, t).state
    target = torch.arange(2 * 64 * 64).reshape(-1, 64, 64) % 3
    F.cross_entropy(full._logits(state, (64, 64)), target).backward()
    same(ours, {n: p.grad for n, p in full.named_parameters() if p.grad is not None})


def test_the_last_all_steps_are_all_steps():
    a, b = unet(smpf.Recurrent(steps=3, grad_steps=3)).eval(), unet(smpf.Recurrent(steps=3)).eval()
    same(gradients(a, IMAGE), gradients(b, IMAGE))


@pytest.mark.parametrize("dynamics", ["decay", "residual"])
@pytest.mark.parametrize("basis", ["identity", "orthogonal"])
def test_detached_steps_can_each_go_backward_and_sum_to_one_backward(dynamics, basis):
    config = smpf.Recurrent(steps=3, detach=True, dynamics=dynamics, basis=basis, learn_rates=True)
    model = unet(config).eval()
    together = gradients(model, IMAGE, every=True)
    model.zero_grad(set_to_none=True)
    target = torch.arange(2 * 64 * 64).reshape(-1, 64, 64) % 3
    for step in model.iterate(IMAGE):
        F.cross_entropy(step.logits, target).backward()
    same(together, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, 1e-5)


def test_no_gradient_crosses_detached_steps():
    model = unet(smpf.Recurrent(steps=3, detach=True)).eval()
    image = IMAGE.clone().requires_grad_()
    states = [s.state for s in model.iterate(image)]
    (through,) = torch.autograd.grad(states[2].sum(), states[1], allow_unused=True)
    assert through is None


def test_each_way_of_flowing_gives_another_gradient():
    flows = [{}, {"grad_steps": 1}, {"detach": True}]
    configs = [smpf.Recurrent(steps=3, norm_error="instance", **flow) for flow in flows]
    found = [gradients(unet(config).eval(), IMAGE) for config in configs]
    key = "feedback.readout.weight"
    assert found[0][key].abs().max() > 0
    for alone in found[1:]:
        assert alone[key].abs().max() == 0, "one step alone never sees what the one before read out"
    first = "encoder.model.conv1.0.weight"
    assert not torch.allclose(found[0][first], found[1][first])


# --- options


@torch.no_grad()
def test_an_image_stops_when_it_has_settled_as_it_would_alone():
    model = unet(smpf.Recurrent(steps=50, tau=2.0, tolerance=1e-3)).eval()
    patient = copy.deepcopy(model)
    patient.feedback.config = smpf.Recurrent(steps=50, tau=2.0)
    steps, all_steps = list(model.iterate(IMAGE)), list(patient.iterate(IMAGE))
    assert len(steps) < 50
    changes = torch.stack([s.change for s in all_steps])
    expected = [int((changes[:, i] < 1e-3).nonzero()[0]) for i in range(2)]
    assert len(steps) == max(expected) + 1
    for i, stop in enumerate(expected):
        torch.testing.assert_close(steps[-1].state[i], all_steps[stop].state[i], atol=1e-4, rtol=1e-3)
        alone = model(IMAGE[i : i + 1])
        torch.testing.assert_close(steps[-1].logits[i : i + 1], alone, atol=1e-3, rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (65, 71)])
def test_settling_goes_with_labels_random_states_and_any_size(size):
    config = smpf.Recurrent(steps=30, tolerance=1e-3, init_std=1e-3)
    model = unet(config, aux_params={"classes": 4, "dropout": None}).eval()
    masks, labels = model(torch.rand(3, 3, *size))
    assert masks.isfinite().all()
    assert labels.shape == (3, 4)


def test_settling_and_recomputing_give_the_gradient_of_settling():
    plain = unet(smpf.Recurrent(steps=9, tolerance=1e-2)).eval()
    thrifty = unet(smpf.Recurrent(steps=9, tolerance=1e-2, recompute=True)).eval()
    same(gradients(plain, IMAGE), gradients(thrifty, IMAGE))


@torch.no_grad()
def test_images_that_settle_are_left_out_of_the_work():
    model = unet(smpf.Recurrent(steps=30, tolerance=1e-3)).eval()
    batches, before = [], None
    model.decoder.register_forward_pre_hook(lambda m, args: batches.append(len(args[0][-1])))
    blank_and_scene = torch.stack([torch.zeros(3, 64, 64), IMAGE[0]])
    for step in model.iterate(blank_and_scene):
        if before is not None:
            resting = relative_change(before, step.state) == 0
            assert (~resting).sum() <= batches[-1]
        before = step.state
    assert batches == sorted(batches, reverse=True)


def test_training_ignores_the_tolerance():
    model = unet(smpf.Recurrent(steps=6, tolerance=0.9)).train()
    assert len(list(model.iterate(IMAGE))) == 6
    assert len(list(model.eval().iterate(IMAGE))) < 6


@torch.no_grad()
def test_a_run_is_deterministic_and_a_random_first_state_is_not():
    plain, random = unet().eval(), unet(smpf.Recurrent(init_std=1e-3)).eval()
    assert torch.equal(plain(IMAGE), plain(IMAGE))
    assert not torch.equal(random(IMAGE), random(IMAGE))


@torch.no_grad()
def test_auto_looks_as_often_as_its_dynamics_say():
    model = unet(smpf.Recurrent(steps="auto", tau=2.0, tolerance=None)).eval()
    assert len(model.trajectory(IMAGE)) == model.feedback.dynamics.auto_steps(0.01)
    assert len(model.trajectory(IMAGE, steps=2)) == 2


@torch.no_grad()
@pytest.mark.parametrize("projection", ["softmax", "probabilities", "entropy"])
def test_every_projection_is_what_the_readers_hear(projection):
    model = unet(smpf.Recurrent(steps=3, projection=projection)).eval()
    heard = []
    model.feedback.readers[0].register_forward_pre_hook(lambda m, args: heard.append(args[0]))
    steps = list(model.iterate(IMAGE))
    assert len(heard) == 3
    assert (heard[0] == model.feedback.projection.before()).all()
    logits, state = steps[1].logits, steps[1].state
    if projection == "softmax":
        expected = F.group_norm(state[:, 16:], 2).softmax(1)
    elif projection == "probabilities":
        expected = logits.softmax(1)
    else:
        alpha = 1 + F.softplus(logits)
        p = alpha / alpha.sum(1, keepdim=True)
        expected = -(p * p.log()).sum(1, keepdim=True)
    torch.testing.assert_close(heard[2], expected)


def test_statistics_are_kept_per_step_unless_shared():
    per_step, shared = unet(smpf.Recurrent(steps=3)), unet(smpf.Recurrent(steps=3, statistics="shared"))
    for model in (per_step, shared):
        model.train()(IMAGE)
    assert per_step.encoder.model.bn1.num_batches_tracked == 1
    assert per_step.feedback.statistics[0].num_batches_tracked.tolist() == [1, 1]
    assert shared.encoder.model.bn1.num_batches_tracked == 3
    assert len(shared.feedback.statistics[0].running_mean) == 0


def test_autocast_keeps_the_state_in_single_precision():
    model = unet().eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        *_, step = model.iterate(IMAGE)
    assert step.state.dtype == torch.float32
    torch.testing.assert_close(step.logits.float(), model(IMAGE).detach(), atol=0.3, rtol=0.3)


def test_a_model_in_double_or_bfloat16_stays_so():
    for dtype in (torch.float64, torch.bfloat16):
        model = unet().to(dtype).eval()
        with torch.no_grad():
            assert model(IMAGE.to(dtype)).dtype == dtype


def test_labels_come_from_the_last_look():
    model = unet(aux_params={"classes": 4, "dropout": None}).eval()
    with torch.no_grad():
        masks, labels = model(IMAGE)
        steps = list(model.iterate(IMAGE))
        deepest = []
        model.encoder.model.layer4.register_forward_hook(lambda m, a, out: deepest.append(out))
        model(IMAGE)
    assert torch.equal(masks, steps[-1].logits)
    assert torch.equal(labels, steps[-1].labels)
    torch.testing.assert_close(labels, model.classification_head(deepest[-1]).detach())
    assert not torch.equal(steps[0].labels, labels)


def test_no_step_is_seen_outside_the_loop(model):
    plain = smp.Unet(TINY, **SLIM).eval()
    plain.load_state_dict(model.feedforward_state_dict())
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(model.encoder(IMAGE), plain.encoder(IMAGE), strict=True))


@pytest.mark.skipif(not hasattr(smp.Unet, "freeze_encoder"), reason="this smp cannot freeze encoders")
def test_a_frozen_encoder_keeps_its_statistics_and_the_feedback_still_learns():
    model = unet(smpf.Recurrent(steps=3))
    model.freeze_encoder()
    model.train()
    before = {k: v.clone() for k, v in model.named_buffers() if k.startswith("encoder.")}
    rows = model.feedback.statistics[0].running_mean.clone()
    found = gradients(model, IMAGE)
    assert not [key for key in found if key.startswith("encoder.")]
    assert found["feedback.readers.0.weight"].abs().max() > 0
    assert all(torch.equal(v, dict(model.named_buffers())[k]) for k, v in before.items())
    assert torch.equal(model.feedback.statistics[0].running_mean, rows)
