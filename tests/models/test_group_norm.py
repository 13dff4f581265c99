"""GroupNorm in place of BatchNorm: the same in twins, saved with the model, refused where it would do harm."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.errors import InvalidValue, SurgeryError
from smp_feedback.models.group_norm import GroupForBatch, base_norm_of, with_group_norm

SMALL = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}


def unet(encoder="resnet18", **kwargs):
    return smpf.create("Unet", encoder, None, classes=3, base_norm="group", **SMALL, **kwargs)


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2", "efficientnet-b0", "tu-regnetx_002"])
def test_no_batch_norm_is_left_and_the_rest_is_as_it_was(encoder):
    torch.manual_seed(0)
    plain = smpf.create("Unet", encoder, None, classes=3, feedback=False, **SMALL)
    torch.manual_seed(0)
    model = unet(encoder, feedback=False)
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
    got = with_group_norm(norm)(x)
    groups = x.double().reshape(2, 6, 2 * 35)
    flat = (groups - groups.mean(2, keepdim=True)) / (groups.var(2, unbiased=False, keepdim=True) + norm.eps).sqrt()
    scaled = flat.reshape(x.shape) * norm.weight.double()[:, None, None] + norm.bias.double()[:, None, None]
    torch.testing.assert_close(got, F.silu(scaled).float(), atol=1e-5, rtol=1e-5)


def test_what_one_image_gets_depends_on_no_other():
    model = unet().train()
    x = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(model(x)[:1], model(x[:1]), atol=1e-3, rtol=1e-3)


def test_a_norm_used_twice_stays_one():
    norm = nn.BatchNorm2d(8)
    model = with_group_norm(nn.Sequential(norm, nn.ReLU(), norm))
    assert model[0] is model[2]


def test_an_unknown_kind_is_refused_and_nothing_changed():
    class Strange(nn.BatchNorm2d):
        pass

    model = nn.Sequential(nn.BatchNorm2d(4), Strange(4))
    with pytest.raises(SurgeryError, match="1 is a Strange"):
        with_group_norm(model)
    assert type(model[0]) is nn.BatchNorm2d


@pytest.mark.parametrize("how", ["create", "wrap"])
def test_it_is_saved_with_the_model(how, tmp_path):
    model = unet() if how == "create" else smpf.wrap(unet(feedback=False))
    model.eval()
    again = smpf.from_pretrained(model.save_pretrained(tmp_path))
    image = torch.rand(1, 3, 32, 32)
    assert again.config["base_norm"] == "group" == base_norm_of(again)
    assert torch.equal(again(image), model(image))
    unet(feedback=False).load_state_dict(again.feedforward_state_dict())


def test_without_it_nothing_changes():
    model = smpf.create("Unet", "resnet18", None, **SMALL)
    assert base_norm_of(model) is None
    assert "base_norm" not in model.config
    assert not any(isinstance(m, GroupForBatch) for m in model.modules())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"encoder_weights": "imagenet", "base_norm": "group"}, "learned with BatchNorm"),
        ({"encoder_weights": None, "base_norm": "grp"}, "Did you mean 'group'"),
    ],
)
def test_bad_requests_are_refused_before_any_work(arguments, words):
    with pytest.raises(InvalidValue, match=words):
        smpf.create("Unet", "resnet18", **arguments)


def test_a_group_of_one_value_is_its_shift_in_a_batch_of_any_size():
    norm = with_group_norm(nn.BatchNorm2d(1))
    nn.init.constant_(norm.bias, 0.5)
    for batch in (1, 2):
        torch.testing.assert_close(
            norm(torch.randn(batch, 1, 1, 1)), torch.full((batch, 1, 1, 1), 0.5), atol=1e-3, rtol=0
        )
