"""What of a decoder no feedback reaches is computed once per image, and nothing changes by it."""

from __future__ import annotations

import copy
import math
import pickle
from collections import Counter
from dataclasses import replace

import pytest
import segmentation_models_pytorch as smp
import torch
from conftest import SMPS
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.surgery.unreached import UnreachedColumns
from smp_feedback.testing import conformance

TINY = "tu-test_resnet.r160_in1k"
WIDTHS = (8, 8, 8, 8, 8)
ARCHITECTURES = [name for name in SMPS if name not in ("DPT", "PSPNet")]  # no stages; none before its third
SLIM = {
    **{arch: {"decoder_channels": WIDTHS} for arch in ("Unet", "UnetPlusPlus", "MAnet")},
    **{arch: {"decoder_channels": 8} for arch in ("DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet")},
    "FPN": {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
    "Segformer": {"decoder_segmentation_channels": 8},
}
STEPS = 3
# what runs once of a decoder behind stage 3: whole modules, and convolutions by the channels that the feedback reaches
ONCE = {
    "Unet": {"blocks.2.conv1.0": 8, "blocks.3.conv1.0": 8},
    "UnetPlusPlus": {
        "blocks.x_3_3": None,
        **{f"blocks.x_{layer}_2.conv1.0": reached for layer, reached in enumerate((72, 80, 48))},
        **{f"blocks.x_{layer}_3.conv1.0": reached for layer, reached in enumerate((72, 64, 32))},
    },
    "MAnet": {"blocks.2.SE_ll": None, "blocks.2.conv1.0": 32, "blocks.3.SE_ll": None, "blocks.3.conv1.0": 32},
    "FPN": {"p2.skip_conv": None},
    "DeepLabV3Plus": {"block1": None},
    "PAN": {"gau1.conv2": None},
    "UPerNet": {"feature_norms.0": None, "fpn_lateral_blocks.2.conv_norm_relu": None},
    "Segformer": {"mlp_stage.3": None, "mlp_stage.4": None},
    "Linknet": {},
    "DeepLabV3": {},
}


def image_for(arch):
    size = 128 if arch == "PAN" else 64
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def looping(arch, insert="stage:3", **config):
    """In double precision, every weight heard; no dropout, which draws once for all looks."""
    config = smpf.Recurrent(insert=insert, **{"steps": STEPS, "feedback_init": 0.3, "statistics": "shared", **config})
    torch.manual_seed(0)
    model = smpf.create(arch, TINY, None, classes=2, feedback=config, **SLIM.get(arch, {}))
    with torch.no_grad():
        for parameter in model.encoder.parameters():  # timm's residual branches begin with a factor of zero
            parameter.add_(0.05 * torch.randn_like(parameter))
    for module in model.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0
    return model.double()


def plain_of(model, arch):
    plain = smp.create_model(arch, TINY, None, classes=2, **SLIM.get(arch, {})).double().train(model.training)
    plain.load_state_dict(model.feedforward_state_dict())
    for module in plain.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0
    return plain


def naive(model, plain, image):
    """The loop behind stage 3 with everything computed at every step, by a hook on the plain model."""
    fed = {}
    plain.encoder.model.layer2.register_forward_hook(
        lambda module, given, gave: gave + F.conv2d(fed["u"], model.feedback.readers[0].weight)
    )
    grid, state = tuple(side // 8 for side in image.shape[-2:]), None
    for t in range(STEPS):
        u = image.new_zeros(2, 2, *grid) if state is None else state[:, -2:]
        u = F.interpolate(u, grid, mode="bilinear", align_corners=False)
        fed["u"] = F.instance_norm(u).softmax(1)
        y = plain.decoder(plain.encoder(image))
        y = torch.cat([y, F.conv2d(y, model.feedback.readout.weight)], 1)
        state = math.exp(-t) * F.instance_norm(y) + (0 if state is None else state)
    return plain.segmentation_head(state[:, :-2])


def close(ours, theirs, tolerance):
    scale = float(theirs.detach().abs().max())
    torch.testing.assert_close(ours, theirs, atol=tolerance * max(scale, 1e-6), rtol=0)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_behind_a_stage_every_architecture_is_the_loop_that_computes_everything_anew(arch):
    model, image = looping(arch), image_for(arch)
    for training in (False, True):
        plain = plain_of(model.train(training), arch)
        ours, theirs = model(image), naive(model, plain, image)
        close(ours, theirs, 1e-12)
        model.zero_grad()
        ours.square().mean().backward()
        theirs.square().mean().backward()
        mine = dict(model.named_parameters())
        for name, parameter in plain.named_parameters():
            assert (mine[name].grad is None) == (parameter.grad is None), name
            if parameter.grad is not None:
                close(mine[name].grad, parameter.grad, 1e-8)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_what_no_feedback_reaches_is_found_and_runs_once(arch):
    model = looping(arch)
    found = {one.name.removeprefix("decoder."): one for one in model.feedback.entry.unreached}
    named = {name: getattr(one, "reached", None) for name, one in found.items()}
    assert named == ONCE[arch]
    runs = Counter()
    for name, one in found.items():
        parts = list(model.get_submodule(one.name).children())  # its own hooks act in every look
        for part in () if isinstance(one, UnreachedColumns) else parts:
            part.register_forward_hook(lambda *_, name=name: runs.update([name]))
    model.eval()(image_for(arch))
    assert all(runs[name] == len(list(model.get_submodule(found[name].name).children())) for name in runs)


def test_where_the_feedback_reaches_all_nothing_is_kept():
    assert looping("Unet", "input").feedback.entry.unreached == ()


@torch.no_grad()
def test_a_hook_on_the_way_is_heard_in_every_look():
    image = image_for("Unet")
    for part, at in (("encoder", 2), ("decoder.blocks.2", None), ("decoder.blocks.3.conv1", None)):
        model = looping("Unet").eval()
        plain, before = plain_of(model, "Unet"), model(image)

        def double(module, given, gave=None, at=at):
            if gave is None:
                return (2 * given[0], *given[1:])
            return [x if i != at else 2 * x for i, x in enumerate(gave)]

        for base in (model, plain):
            module = base.get_submodule(part)
            hook = module.register_forward_hook if part == "encoder" else module.register_forward_pre_hook
            hook(double)
        assert not torch.allclose(model(image), before)
        close(model(image), naive(model, plain, image), 1e-12)


@torch.no_grad()
def test_the_weights_of_a_part_that_are_there_while_it_is_called_alone_are_not_read_before():
    """As FSDP2 gathers those of each part that it was told to spread, by a hook of torch.distributed."""
    model, image = looping("Unet").eval(), image_for("Unet")
    before, block = model(image), model.decoder.blocks[3]
    conv = block.conv1[0]
    whole, spread = conv.weight.data, conv.weight.data[:1]
    conv.weight.data = spread

    def gather(module, given):
        conv.weight.data = whole

    def scatter(module, given, gave):
        conv.weight.data = spread

    for hook in (gather, scatter):
        hook.__module__ = "torch.distributed.fsdp"
    block.register_forward_pre_hook(gather)
    block.register_forward_hook(scatter)
    close(model(image), before, 1e-12)


@torch.no_grad()
def test_a_hook_of_what_is_kept_acts_once_in_every_look():
    model = looping("DeepLabV3Plus").eval()
    plain, image = plain_of(model, "DeepLabV3Plus"), image_for("DeepLabV3Plus")
    for base in (model, plain):
        base.decoder.block1.register_forward_hook(lambda module, given, gave: 2 * gave)
    close(model(image), naive(model, plain, image), 1e-12)


@torch.no_grad()
def test_a_part_that_was_replaced_runs_in_every_look():
    model = looping("Unet").eval()
    conv = model.decoder.blocks[3].conv1[0]
    other = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1, bias=False, dtype=torch.float64)
    model.decoder.blocks[3].conv1[0] = other
    plain = plain_of(model, "Unet")
    close(model(image_for("Unet")), naive(model, plain, image_for("Unet")), 1e-12)


@pytest.mark.parametrize("arch", ["Unet", "DeepLabV3Plus"])
@pytest.mark.parametrize("flow", [{"grad_steps": 2}, {"detach": True}])
def test_however_gradients_flow_they_are_those_of_computing_it_anew(arch, flow):
    model, image, found = looping(arch, **flow).train(), image_for(arch), []
    kept = model.feedback.entry
    for entry in (kept, replace(kept, unreached=())):
        model.feedback.entry = entry
        model.zero_grad()
        model(image).square().mean().backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[1].items():
        close(found[0][name], gradient, 1e-8)


def test_what_is_run_again_for_the_backward_pass_keeps_nothing_behind_the_place():
    model, image = looping("Unet", recompute=True), image_for("Unet")
    flow = model.loop_config.flow
    assert model._once(image, flow).kept == ()
    assert len(model._once(image, flow._replace(recompute=False)).kept) == 2
    with torch.no_grad():
        assert len(model._once(image, flow).kept) == 2


def test_a_backward_per_step_is_the_gradient_of_the_sum():
    model, image, found = looping("Unet", detach=True).train(), image_for("Unet"), []

    def loss(step):
        return (step.index + 1) * step.logits.square().mean()

    for run in (lambda: sum(map(loss, model.iterate(image))).backward(), lambda: model.backward_per_step(image, loss)):
        model.zero_grad()
        run()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    for name, gradient in found[0].items():
        close(found[1][name], gradient, 1e-8)


def test_batchnorm_of_what_is_kept_counts_a_batch_once():
    model = looping("DeepLabV3Plus", statistics="per_step").train()
    for _ in range(2):
        model(image_for("DeepLabV3Plus"))
    assert int(model.decoder.block1[1].num_batches_tracked) == 2
    assert int(model.decoder.block2[1].num_batches_tracked) == 2


@torch.no_grad()
def test_where_what_is_kept_runs_again_its_batchnorm_is_that_of_the_first_look():
    model, image = looping("DeepLabV3Plus", statistics="per_step").train(), image_for("DeepLabV3Plus")
    for _ in range(3):
        model(image)
    kept = model.eval()(image)
    model.encoder.register_forward_hook(lambda module, given, gave: [x.clone() for x in gave])
    close(model(image), kept, 1e-12)


@torch.no_grad()
def test_a_forward_that_was_replaced_runs_in_every_look():
    model = looping("DeepLabV3Plus").eval()
    plain, image = plain_of(model, "DeepLabV3Plus"), image_for("DeepLabV3Plus")
    for base in (model, plain):
        width = base.decoder.block1[0].out_channels
        base.decoder.block1.forward = lambda x, width=width: x.mean(1, True).expand(-1, width, -1, -1)
    close(model(image), naive(model, plain, image), 1e-12)


@torch.no_grad()
def test_copies_and_settling_images_are_the_same():
    model, image = looping("Unet", tau=0.5, tolerance=0.2).eval(), image_for("Unet")
    together = model(image, steps=5)
    torch.testing.assert_close(together, torch.cat([model(x[None], steps=5) for x in image]), atol=1e-10, rtol=0)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(image, steps=5), together)


@pytest.mark.sweep
@pytest.mark.parametrize("arch", ["UnetPlusPlus", "Segformer"])
def test_compiled_and_exported_it_is_the_same(arch):
    model, image = looping(arch, steps=2, statistics="per_step").float().eval(), image_for(arch).float()
    conformance.check_compiles(model, image, dynamic=False)
    conformance.check_exports(model, image)
