"""Half precision and memory formats: the body may be coarse, the loop is not; a GPU is asked where there is one."""

from __future__ import annotations

import math

import pytest
import segmentation_models_pytorch as smp
import torch
from conftest import SMPS, a_few
from torch import nn

import smp_feedback as smpf

TINY = {"encoder_name": "tu-test_resnet.r160_in1k", "encoder_weights": None, "classes": 3}
VIT = {
    "encoder_name": "tu-test_vit.r160_in1k",
    "encoder_weights": None,
    "classes": 3,
    "decoder_intermediate_channels": (16, 16, 16, 16),
    "decoder_fusion_channels": 16,
    "dynamic_img_size": True,
}
SLIM = {"decoder_channels": (32, 16, 16, 16, 8)}  # half precision is slow on a CPU
LAST = torch.channels_last
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

every_architecture = pytest.mark.parametrize("arch", SMPS)
every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])])
each_half = pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])


def arguments(arch):
    return VIT if arch == "DPT" else TINY | (SLIM if arch == "Unet" else {})


def build(arch="Unet", device="cpu", **loop):
    model = smpf.create(arch, **arguments(arch), feedback=smpf.Recurrent(**loop)).to(device).eval()
    for name, parameter in model.feedback.named_parameters():
        if name.startswith("readers.") or name.endswith("gamma"):
            nn.init.normal_(parameter, std=0.1)
    return model


def image(arch="Unet", device="cpu"):
    size = 128 if arch == "PAN" else 64
    return torch.rand(2, 3, size, size).to(device)


def fed_back(model, x, **autocast):
    """The steps of a run, and what its readers heard."""
    heard = []
    handle = model.feedback.readers[0].register_forward_pre_hook(lambda _, args: heard.append(args[0].detach()))
    with torch.autocast(x.device.type, **autocast):
        steps = list(model.iterate(x))
        logits = [step.logits for step in steps]
    handle.remove()
    return steps, heard, logits


def off(ours, theirs):
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


# --- autocast


@every_device
@each_half
@torch.no_grad()
def test_under_autocast_the_loop_reckons_in_single_precision(half, device):
    model, x = build(steps=3, tau=2.0, device=device), image(device=device)
    steps, heard, logits = fed_back(model, x, dtype=half)
    assert logits[-1].dtype == half, "the body runs in half: nothing is tested otherwise"
    for step in steps:
        assert step.state.dtype == torch.float32
        coarse = (step.state.to(half).float() == step.state).float().mean()
        assert coarse < 0.1, "the state has no more digits than its half-precision rounding"
        assert step.state.mean((2, 3)).abs().max() < 1e-5, "corrections are normalised in half precision"
    for step, u in zip(steps, heard[1:], strict=False):
        readout = step.state[:, -2:].double()
        expected = nn.functional.group_norm(readout, 2).softmax(1)
        assert u.dtype == torch.float32
        torch.testing.assert_close(u.double(), expected, atol=1e-5, rtol=0)


@every_device
@torch.no_grad()
def test_a_long_loop_under_autocast_is_no_further_off_than_a_short_one(device):
    """Without decay, so that the state grows and a coarse sum would lose each later correction."""
    model, x = build(steps=32, tau=float("inf"), device=device), image(device=device)
    rough, _, _ = fed_back(model, x, dtype=torch.bfloat16)
    exact, _, _ = fed_back(model, x, enabled=False)
    errors = [off(a.state, b.state) for a, b in zip(rough, exact, strict=True)]
    assert errors[0] > 1e-4, "nothing was rounded"
    assert max(errors) < 2 * errors[0]
    assert max(errors) < 2**-5


@every_device
@each_half
def test_logits_and_gradients_are_finite_under_autocast_recomputed_or_not(half, device):
    kept, thrifty = (build(steps=2, device=device, recompute=recompute).train() for recompute in (False, True))
    thrifty.load_state_dict(kept.state_dict())
    x = image(device=device)
    for model in (kept, thrifty):
        with torch.autocast(device, half):
            logits = model(x)
        assert logits.isfinite().all()
        logits.float().square().mean().backward()
    for (name, ours), theirs in zip(thrifty.named_parameters(), kept.parameters(), strict=True):
        assert ours.grad.dtype == torch.float32
        assert ours.grad.isfinite().all(), name
        assert ours.grad.abs().max() > 0 or not name.startswith("feedback."), name
        torch.testing.assert_close(ours.grad, theirs.grad, msg=f"{name} was recomputed in another precision")


@every_device
@torch.no_grad()
def test_a_loud_image_gives_a_bounded_state_in_half_precision(device):
    """rms(h_T) <= sum of exp(-t / tau), whatever the image's scale, as far as the body itself is finite."""
    model = build(steps=8, tau=4.0, device=device)
    steps, _, logits = fed_back(model, 100 * image(device=device), dtype=torch.bfloat16)
    bound = sum(math.exp(-t / 4) for t in range(8))
    assert logits[-1].isfinite().all()
    assert bound / 4 < steps[-1].state.square().mean((2, 3)).sqrt().max() <= bound * 1.001


# --- memory formats


def formats(arch, model, x):
    """Whether what the loop makes is channels_last: every u, every state, every prediction; and the base's own."""
    base = smp.create_model(arch, **arguments(arch)).eval().to(memory_format=LAST)
    own = []
    base.decoder.register_forward_hook(lambda *call: own.append(call[-1].is_contiguous(memory_format=LAST)))
    own.append(base(x).is_contiguous(memory_format=LAST))
    steps, heard, logits = fed_back(model, x, enabled=False)
    states = [step.state for step in steps]
    found = {"u": heard[1:], "h": states, "logits": logits}
    return {k: all(t.is_contiguous(memory_format=LAST) for t in v) for k, v in found.items()}, own


@every_architecture
@torch.no_grad()
def test_channels_last_reaches_the_state_and_the_prediction_where_the_base_keeps_it(arch):
    model = build(arch, steps=3).to(memory_format=LAST)
    found, (decoder, logits) = formats(arch, model, image(arch).to(memory_format=LAST))
    assert found["h"] >= decoder
    assert found["logits"] >= logits
    assert logits, "smp's own predictions are channels_last"


@torch.no_grad()
def test_channels_last_reaches_the_feedback():
    model = build(steps=3).to(memory_format=LAST)
    found, _ = formats("Unet", model, image().to(memory_format=LAST))
    assert found["u"]


@torch.no_grad()
def test_channels_last_survives_a_learnt_basis():
    model = build(steps=3, basis="orthogonal", learn_rates=True).to(memory_format=LAST)
    found, _ = formats("Unet", model, image().to(memory_format=LAST))
    assert found["h"]


@torch.no_grad()
@pytest.mark.parametrize("projection", ["softmax", "probabilities"])
def test_the_state_is_laid_out_as_the_image_whatever_the_base_makes_of_it(projection):
    """Segformer's decoder gives channels_last maps of any image."""
    config = smpf.Recurrent(steps=2, projection=projection)
    slim = {"decoder_segmentation_channels": 16}
    model = smpf.create("Segformer", "tu-test_resnet.r160_in1k", None, feedback=config, **slim).eval()
    image = torch.rand(2, 3, 64, 96)
    assert model.decoder(model.encoder(image)).is_contiguous(memory_format=LAST), "nothing is asked here"
    assert all(step.state.is_contiguous() for step in model.iterate(image))
    assert all(step.state.is_contiguous(memory_format=LAST) for step in model.iterate(image.to(memory_format=LAST)))


@every_device
@pytest.mark.parametrize("arch", a_few(SMPS, "Unet", "DPT", "Segformer"))
@torch.no_grad()
def test_channels_last_changes_no_answer(arch, device):
    """In double: in single precision the other order of summation is all that would be seen."""
    model, x = build(arch, steps=3, device=device).double(), image(arch, device).double()
    expected = model.trajectory(x)
    answer = model.to(memory_format=LAST).trajectory(x.to(memory_format=LAST))
    torch.testing.assert_close(answer, expected, atol=1e-8 * float(expected.abs().max()), rtol=0)


# --- a GPU


@pytest.mark.gpu
@NO_GPU
@each_half
@torch.no_grad()
def test_a_gpu_answers_as_the_cpu_does(half):
    model, x = build(steps=3), image()
    expected = model(x)
    model, x = model.cuda(), x.cuda()
    assert off(model(x).cpu(), expected) < 1e-3
    with torch.autocast("cuda", half):
        assert off(model(x).cpu(), expected) < 0.1
