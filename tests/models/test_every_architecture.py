"""Each promise over every registered name: architectures, dynamics, projections."""

from __future__ import annotations

import copy

import pytest
import segmentation_models_pytorch as smp
import torch
from conftest import SMPS, a_few, pairs

import smp_feedback as smpf
from smp_feedback.registry.public import catalogue
from smp_feedback.testing import check_agreement, check_heard

SIZE = {"DPT": 224, "PAN": 128}
SHALLOW = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
DPT = {"decoder_intermediate_channels": (16, 16, 16, 16), "decoder_fusion_channels": 16}


def arguments(arch, **more):
    encoder = "tu-vit_tiny_patch16_224" if arch == "DPT" else "tu-test_resnet.r160_in1k"
    return {"encoder_name": encoder, "encoder_weights": None, "classes": 3} | (DPT if arch == "DPT" else {}) | more


def image(arch, channels=3):
    size = SIZE.get(arch, 64)
    return torch.rand(2, channels, size, size)


# what a loop promises of each of them is in test_testing.py, by check_architecture


@pytest.mark.parametrize("arch", SMPS)
def test_a_looping_model_is_still_of_its_smp_class(arch):
    plain = smp.create_model(arch, **arguments(arch))
    before = copy.deepcopy(plain.state_dict())
    for model in (smpf.create(arch, **arguments(arch)), smpf.wrap(plain)):
        assert isinstance(model, type(plain))
        assert isinstance(model, smp.base.SegmentationModel)
    assert all(torch.equal(v, before[k]) for k, v in plain.state_dict().items()), "the original was touched"
    assert type(plain).__name__ == arch


@pytest.mark.parametrize("arch", SMPS)
def test_without_feedback_it_is_smps_own_model(arch):
    torch.manual_seed(3)
    plain = smp.create_model(arch, **arguments(arch)).eval()
    torch.manual_seed(3)
    ours = smpf.create(arch.upper(), **arguments(arch), feedback=False).eval()
    assert type(ours) is type(plain)
    assert ours.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        x = image(arch)
        assert torch.equal(ours(x), plain(x))


@pytest.mark.parametrize("arch", SMPS)
def test_one_training_step_moves_the_feedback(arch):
    model = smpf.create(arch, **arguments(arch, in_channels=1), feedback=smpf.Recurrent(steps=2)).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    logits = model(image(arch, channels=1))
    assert logits.shape[:2] == (2, 3)
    logits.square().mean().backward()
    before = model.feedback.readers[0].weight.clone()
    optimizer.step()
    assert not torch.equal(model.feedback.readers[0].weight, before)


@pytest.mark.parametrize("arch", a_few(SMPS, "Unet", "FPN", "PAN"))
def test_it_looks_at_each_pixel_by_itself_where_it_normalised_over_batches(arch, tmp_path):
    """No BatchNorm is left; it learns, and comes back from disk."""
    model = smpf.create(arch, **arguments(arch), base_norm="pixel", feedback={"preset": "anytime", "steps": 2})
    model.train()(image(arch)).square().mean().backward()
    named = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert {f"feedback.{name}" for name, _ in model.feedback.named_parameters()} <= named.keys()
    assert all(gradient.isfinite().all() for gradient in named.values())
    assert not [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    again = smpf.from_pretrained(model.eval().save_pretrained(tmp_path))
    with torch.no_grad():
        assert torch.equal(again(image(arch).fill_(0.5)), model(image(arch).fill_(0.5)))


@pytest.mark.parametrize("arch", [a for a in SMPS if a != "DPT"])
def test_labels_are_given_where_smp_gives_them(arch):
    more = {"aux_params": {"classes": 5, "dropout": None}}
    plain = smp.create_model(arch, **arguments(arch, **more)).eval()
    model = smpf.wrap(plain)
    with torch.no_grad():
        for ours, theirs in zip(model(image(arch).fill_(0.5)), plain(image(arch).fill_(0.5)), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("dynamics", "projection"), pairs(catalogue().dynamics, catalogue().projections, "gated", "softmax")
)
def test_every_dynamics_goes_with_every_projection(dynamics, projection):
    config = smpf.Recurrent(dynamics=dynamics, projection=projection, steps=3)
    model = smpf.create("Unet", **arguments("Unet", **SHALLOW), feedback=config)
    check_agreement(model, image("Unet"))
    check_heard(model, image("Unet"))


@pytest.mark.parametrize("dynamics", a_few(catalogue().dynamics, "fractional"))
@pytest.mark.sweep
def test_every_dynamics_can_be_compiled_whole(dynamics):
    config = smpf.Recurrent(dynamics=dynamics, steps=3)
    model = smpf.create("Unet", **arguments("Unet", **SHALLOW), feedback=config).eval()
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        x = image("Unet")
        torch.testing.assert_close(compiled(x), model(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", list(catalogue().losses))
def test_every_loss_scores_logits(name):
    from smp_feedback.training.build_loss import build_loss

    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    target = torch.randint(0, 3, (2, 8, 8))
    target[:, 0] = 255
    loss = build_loss(name, ignore_index=255)
    value = loss(logits, target)
    value.backward()
    assert value.isfinite()
    sharp = 50 * torch.nn.functional.one_hot(target.clamp(max=2), 3).permute(0, 3, 1, 2).float()
    assert loss(sharp, target) < value
