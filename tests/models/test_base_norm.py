"""Another norm in place of BatchNorm: the same in twins, saved with the model, refused where it would do harm."""

from __future__ import annotations

import copy

import pytest
import reference as ref
import torch
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.errors import InvalidValue, SurgeryError
from smp_feedback.models.base_norm import NORMS, base_norm_of, with_base_norm
from smp_feedback.ops.normalise import per_pixel

SMALL = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
TINY = "tu-test_resnet.r160_in1k"
every_norm = pytest.mark.parametrize("norm", sorted(NORMS))


def unet(encoder=TINY, base_norm="group", **kwargs):
    return smpf.create("Unet", encoder, None, classes=3, base_norm=base_norm, **SMALL, **kwargs)


@pytest.mark.parametrize(
    ("encoder", "norm"),
    [
        *((encoder, "group") for encoder in ("resnet18", "mobilenet_v2", "efficientnet-b0", "tu-regnetx_002")),
        ("tu-regnetx_002", "pixel"),
    ],
)
def test_no_batch_norm_is_left_and_the_rest_is_as_it_was(encoder, norm):
    torch.manual_seed(0)
    plain = smpf.create("Unet", encoder, None, classes=3, feedback=False, **SMALL)
    torch.manual_seed(0)
    model = unet(encoder, norm, feedback=False)
    assert not [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    ours, theirs = dict(model.named_parameters()), dict(plain.named_parameters())
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not model.state_dict().keys() - plain.state_dict().keys()


def test_it_normalises_in_groups_then_scales_shifts_and_activates():
    from timm.layers import BatchNormAct2d

    norm = BatchNormAct2d(12, act_layer=nn.SiLU)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 12, 5, 7)
    got = with_base_norm(norm, "group")(x)
    groups = x.double().reshape(2, 6, 2 * 35)
    flat = (groups - groups.mean(2, keepdim=True)) / (groups.var(2, unbiased=False, keepdim=True) + norm.eps).sqrt()
    scaled = flat.reshape(x.shape) * norm.weight.double()[:, None, None] + norm.bias.double()[:, None, None]
    torch.testing.assert_close(got, F.silu(scaled).float(), atol=1e-5, rtol=1e-5)


def test_of_each_pixel_it_normalises_then_scales_shifts_and_activates():
    from timm.layers import BatchNormAct2d

    norm = BatchNormAct2d(12, act_layer=nn.SiLU)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 12, 5, 7)
    got = with_base_norm(norm, "pixel")(x)
    weight, bias = (p.detach().double()[:, None, None] for p in (norm.weight, norm.bias))
    scaled = torch.from_numpy(ref.pixel_norm(x.double().numpy(), norm.eps)) * weight + bias
    torch.testing.assert_close(got, F.silu(scaled).float(), atol=1e-5, rtol=1e-5)


@every_norm
@pytest.mark.parametrize("norm_of", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d])
@pytest.mark.parametrize("affine", [True, False])
def test_every_kind_of_batch_norm_has_its_stand_in(norm, norm_of, affine):
    x = torch.randn(2, 8, *[3] * {nn.BatchNorm1d: 1, nn.BatchNorm2d: 2, nn.BatchNorm3d: 3}[norm_of])
    made = with_base_norm(norm_of(8, affine=affine).eval(), norm)
    expected = per_pixel(x) if norm == "pixel" else F.group_norm(x, 8)
    torch.testing.assert_close(made(x), expected)
    assert not made.training
    assert len(list(made.parameters())) == 2 * affine


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_each_pixel_is_computed_in_single(dtype):
    norm = with_base_norm(nn.BatchNorm2d(6), "pixel")
    x = (1000 * torch.randn(2, 6, 4, 4)).to(dtype)  # squares of which overflow in float16
    for weights in (torch.float32, dtype):  # under autocast, and of a model in half precision
        got = norm.to(weights)(x)
        assert got.dtype == dtype
        torch.testing.assert_close(got, norm.float()(x.float()).to(dtype))


@every_norm
def test_what_one_image_gets_depends_on_no_other(norm):
    model = unet(base_norm=norm).train()
    x = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(model(x)[:1], model(x[:1]), atol=1e-3, rtol=1e-3)


def test_what_a_pixel_gets_depends_on_no_size():
    """A convolutional base with it answers inside a crop as it does in the whole image, where no border is seen."""
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 3))
    image = torch.rand(1, 3, 20, 24)
    for norm, same in (("pixel", True), ("group", False)):
        model = with_base_norm(copy.deepcopy(body), norm)
        whole, part = model(image)[..., 3:11, 5:13], model(image[..., 3:15, 5:17])
        assert torch.allclose(whole, part, atol=1e-5) == same


@every_norm
def test_a_norm_used_twice_stays_one(norm):
    twice = nn.BatchNorm2d(8)
    model = with_base_norm(nn.Sequential(twice, nn.ReLU(), twice), norm)
    assert model[0] is model[2]


def test_an_unknown_kind_is_refused_and_nothing_changed():
    class Strange(nn.BatchNorm2d):
        pass

    model = nn.Sequential(nn.BatchNorm2d(4), Strange(4))
    with pytest.raises(SurgeryError, match="1 is a Strange"):
        with_base_norm(model, "group")
    assert type(model[0]) is nn.BatchNorm2d


@pytest.mark.parametrize("how", ["create", "wrap"])
@every_norm
def test_it_is_saved_with_the_model(how, norm, tmp_path):
    model = unet(base_norm=norm) if how == "create" else smpf.wrap(unet(base_norm=norm, feedback=False))
    model.eval()
    again = smpf.from_pretrained(model.save_pretrained(tmp_path))
    image = torch.rand(1, 3, 32, 32)
    assert again.config["base_norm"] == norm == base_norm_of(again)
    assert torch.equal(again(image), model(image))
    unet(base_norm=norm, feedback=False).load_state_dict(again.feedforward_state_dict())


def test_without_it_nothing_changes():
    model = smpf.create("Unet", "resnet18", None, **SMALL)
    assert base_norm_of(model) is None
    assert "base_norm" not in model.config
    assert not any(isinstance(m, tuple(NORMS.values())) for m in model.modules())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"encoder_weights": "imagenet", "base_norm": "group"}, "learned with BatchNorm"),
        ({"encoder_weights": "imagenet", "base_norm": "pixel"}, "base_norm='pixel' .*learned with BatchNorm"),
        ({"encoder_weights": None, "base_norm": "grp"}, "Did you mean 'group'"),
        ({"encoder_weights": None, "base_norm": "pxiel"}, "Did you mean 'pixel'"),
    ],
)
def test_bad_requests_are_refused_before_any_work(arguments, words):
    with pytest.raises(InvalidValue, match=words):
        smpf.create("Unet", "resnet18", **arguments)


def test_a_group_of_one_value_is_its_shift_in_a_batch_of_any_size():
    norm = with_base_norm(nn.BatchNorm2d(1), "group")
    nn.init.constant_(norm.bias, 0.5)
    for batch in (1, 2):
        torch.testing.assert_close(
            norm(torch.randn(batch, 1, 1, 1)), torch.full((batch, 1, 1, 1), 0.5), atol=1e-3, rtol=0
        )
