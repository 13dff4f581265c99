"""A film as one module: what its frames are one by one, in one call."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import a_few
from small_base import SmallBase
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import smp_feedback as smpf
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
TINY = {"encoder_weights": None, "encoder_depth": 3, "decoder_channels": (16, 8, 8), "classes": 2}
CLIP = torch.rand(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def film(**more):
    torch.manual_seed(0)
    config = smpf.Recurrent(steps=2, dynamics="gated", feedback_init=0.3)
    if more:
        model = smpf.create("Unet", "tu-test_resnet.r160_in1k", feedback=config, **TINY, **more)
    else:
        model = smpf.wrap(SmallBase(nn.BatchNorm2d(6)), config)
    with torch.no_grad():
        model.train()(torch.rand(2, 3, 16, 16))
    return smpf.Film(model).eval()


@torch.no_grad()
def test_a_film_is_its_frames_one_look_each():
    module, before = film(), None
    logits = module(CLIP)
    steps = list(module.steps(CLIP))
    for t in range(4):
        before = module.model.look(CLIP[:, t], before)
        assert torch.equal(logits[:, t], before.logits)
        assert torch.equal(steps[t].logits, before.logits)
    halves = [module(CLIP[:, :2]), module(CLIP[:, 2:], steps[1])]
    assert torch.equal(torch.cat(halves, 1), logits)
    assert list(module.state_dict()) == [f"model.{key}" for key in module.model.state_dict()]


@torch.no_grad()
def test_steps_are_taken_when_they_are_asked_for():
    module, looked = film(), []
    module.model.more.register_forward_hook(lambda *call: looked.append(len(call[-1])))
    steps = module.steps(CLIP)
    assert not looked
    next(steps)
    assert len(looked) == 1


def test_gradient_goes_back_as_far_as_is_said():
    module = film()

    def found(**told):
        module.zero_grad()
        module(CLIP, **told).square().mean().backward()
        return [p.grad.clone() for p in module.parameters()]

    def by_hand(every):
        module.zero_grad()
        before, lost = None, []
        for t in range(4):
            before = module.model.look(CLIP[:, t], before.detach() if before and t % every == 0 else before)
            lost.append(before.logits)
        torch.stack(lost, 1).square().mean().backward()
        return [p.grad.clone() for p in module.parameters()]

    every = {k: found(detach_every=k) for k in (1, 2, 4)}
    for k, ours in every.items():
        for a, b in zip(ours, by_hand(k), strict=True):
            torch.testing.assert_close(a, b)
    for a, b in zip(every[4], found(), strict=True):
        torch.testing.assert_close(a, b)
    gate = [name for name, _ in module.named_parameters()].index("model.feedback.dynamics.gate.weight")
    assert not torch.allclose(every[1][gate], every[2][gate], rtol=1e-3)


@torch.no_grad()
def test_labels_come_with_the_masks():
    masks, labels = film(aux_params={"classes": 5})(CLIP)
    assert masks.shape == (2, 4, 2, 16, 16)
    assert labels.shape == (2, 4, 5)


@pytest.mark.parametrize("backend", a_few(["eager", "aot_eager"], "eager"))
def test_compiled_whole_it_answers_as_it_does(backend):
    torch._dynamo.reset()
    module = film()
    clip = CLIP[:, :2]
    expected = module(clip)
    compiled = torch.compile(module, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(clip), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.sweep
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_it_goes_on_from_another_clip_and_trains(backend):
    torch._dynamo.reset()
    module = film().train()
    twin = copy.deepcopy(module)
    before, theirs = (list(each.steps(CLIP))[-1] for each in (module, twin))
    compiled = torch.compile(module, backend=backend)
    ours, expected = compiled(CLIP, before.detach(), detach_every=2), twin(CLIP, theirs.detach(), detach_every=2)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-3)
    for answer in (ours, expected):
        answer.square().mean().backward()
    for a, b in zip(module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-4, rtol=1e-2)


def test_distributed_it_learns_as_it_does(tmp_path):
    module = film().train()
    twin = copy.deepcopy(module)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        shared = DistributedDataParallel(twin)
        for _ in range(2):
            ours, theirs = shared(CLIP, detach_every=1), module(CLIP, detach_every=1)
            assert torch.equal(ours, theirs)
            for answer in (ours, theirs):
                answer.square().mean().backward()
        for a, b in zip(twin.parameters(), module.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad)
    finally:
        distributed.destroy_process_group()


def test_what_is_no_clip_or_no_looping_model_is_refused():
    module = film()
    for kind, words, call in (
        (InvalidType, "model is a Conv2d, which does not look again", lambda: smpf.Film(nn.Conv2d(3, 2, 1))),
        (InvalidInput, r"clip of shape \(2, 3, 16, 16\): expected \(B, T, C, H, W\)", lambda: module(CLIP[:, 0])),
        (InvalidInput, r"clip of shape \(2, 0, 3, 16, 16\)", lambda: module.steps(CLIP[:, :0])),
        (InvalidType, "clip is a list", lambda: module([CLIP])),
        (InvalidInput, "has 2 channels: expected 3", lambda: module.steps(CLIP[:, :, :2])),
        (InvalidType, r"before=2 \(int\)", lambda: module.steps(CLIP, 2)),
        (
            InvalidValue,
            "reset='auto': this model has learned no threshold",
            lambda: module.eval().steps(CLIP, reset="auto"),
        ),
        (
            InvalidValue,
            "detach_every=0: expected a whole number >= 1; None never",
            lambda: module(CLIP, detach_every=0),
        ),
    ):
        with pytest.raises(kind, match=words):
            call()
