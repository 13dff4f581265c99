"""Feedback added behind the module that reads the image: it runs once per image, and adds what is to be added."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

import smp_feedback as smpf
from smp_feedback.errors import InvalidValue, SurgeryError
from smp_feedback.testing import check_agreement, check_heard, hearing

IMAGE = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
BASES = {  # a place of each layout: tokens, channels last, a map
    "tokens": ("vit_tiny_patch16_224", {"img_size": (32, 48), "depth": 2}, "patch_embed"),
    "last": ("vit_tiny_patch16_224", {"img_size": (32, 48), "depth": 2, "dynamic_img_size": True}, "patch_embed"),
    "map": ("test_resnet", {}, "conv1"),
}


def base(kind):
    name, arguments, place = BASES[kind]
    return timm.create_model(name, num_classes=3, **arguments).eval(), f"after:{place}"


@pytest.mark.parametrize("kind", BASES)
def test_what_is_added_is_the_projected_feedback_in_the_layout_of_the_place(kind):
    net, insert = base(kind)
    model = smpf.wrap(net, smpf.Recurrent(insert=insert, steps=1, channels=2)).eval()
    nn.init.normal_(model.feedback.readers[0].weight)
    weight = model.feedback.readers[0].weight[:, :, 0, 0]  # (D, K); the first look is fed 1/K everywhere
    place = net.get_submodule(insert.removeprefix("after:"))
    shift = weight.sum(1) / 2

    def add(module, inputs, gave):
        return gave + (shift[:, None, None] if kind == "map" else shift)

    plain, hook = smpf.wrap(net, smpf.Recurrent(steps=1, channels=2)).eval(), None
    plain.feedback.readout.load_state_dict(model.feedback.readout.state_dict())
    hook = plain.get_submodule(insert.removeprefix("after:")).register_forward_hook(add)
    with torch.no_grad():
        assert place is not None
        assert torch.allclose(model(IMAGE), plain(IMAGE), atol=1e-5)
        hook.remove()
        assert not torch.allclose(model(IMAGE), plain(IMAGE), atol=1e-3)


@pytest.mark.parametrize("kind", ["tokens", "last"])
def test_each_token_hears_the_feedback_of_its_own_patch(kind):
    net, insert = base(kind)
    model = smpf.wrap(net, smpf.Recurrent(insert=insert, channels=2)).eval()
    place = model.get_submodule("patch_embed")
    nn.init.normal_(model.feedback.readers[0].weight)
    from smp_feedback.surgery.step_context import StepContext, in_step

    with torch.no_grad():
        once = model.feedback.entry.once(model, IMAGE)
        fed = torch.zeros(2, 2, *model.feedback.entry.grid(IMAGE, once))
        assert fed.shape[-2:] == (2, 3)
        fed[:, :, 1, 2] = 1.0  # the last patch
        with in_step(StepContext(fed, model.feedback.readers, (), once)):
            moved = (place(IMAGE) - once.stages[0]).flatten(1, -2).abs().sum(-1)
    assert (moved[:, :-1] == 0).all()
    assert (moved[:, -1] > 0).all()


def test_patches_that_are_not_square_hear_the_feedback_of_their_own_place():
    net = timm.create_model("vit_tiny_patch16_224", patch_size=(8, 16), img_size=64, depth=1).eval()
    model = smpf.wrap(net, smpf.Recurrent(insert="after:patch_embed")).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        once = model.feedback.entry.once(model, image)
    assert model.feedback.entry.grid(image, once) == (64 // 8, 64 // 16)


@pytest.mark.parametrize("kind", BASES)
def test_it_runs_once_per_image_and_the_rest_in_every_look(kind):
    net, insert = base(kind)
    model = smpf.wrap(net, smpf.Recurrent(insert=insert, steps=4)).eval()
    calls = {"proj": 0, "rest": 0}
    first = model.patch_embed.proj if kind != "map" else None
    rest = model.blocks[0] if kind != "map" else model.layer1
    if first is not None:
        first.register_forward_hook(lambda *_: calls.update(proj=calls["proj"] + 1))
    rest.register_forward_hook(lambda *_: calls.update(rest=calls["rest"] + 1))
    with torch.no_grad():
        model(IMAGE)
    assert calls == {"proj": 1 if first is not None else 0, "rest": 4}


@pytest.mark.parametrize("kind", BASES)
def test_it_keeps_the_bases_answers_and_all_that_a_loop_promises(kind):
    net, insert = base(kind)
    model = smpf.wrap(net, smpf.Recurrent(insert=insert, dynamics="residual")).eval()
    with torch.no_grad():
        assert torch.allclose(model(IMAGE, steps=3), net(IMAGE), atol=1e-5)
    model = smpf.wrap(net, smpf.Recurrent(insert=insert))
    check_agreement(model, IMAGE)
    check_heard(model, IMAGE)


@pytest.mark.parametrize("more", [{"recompute": True}, {"detach": True}, {"tolerance": 1e-9}])
def test_gradients_and_stopping_go_with_it(more):
    net, insert = base("tokens")
    usual = smpf.wrap(net, smpf.Recurrent(insert=insert, steps=3)).eval()
    other = smpf.wrap(net, smpf.Recurrent(insert=insert, steps=3, **more)).eval()
    other.load_state_dict(usual.state_dict())
    with hearing(usual):
        other.load_state_dict(usual.state_dict())
        assert torch.allclose(other(IMAGE), usual(IMAGE), atol=1e-5)
        other(IMAGE).square().sum().backward()
    assert other.patch_embed.proj.weight.grad.abs().max() > 0


def test_it_comes_back_from_disk(tmp_path):
    told = {"img_size": 32, "depth": 1, "classes": 2, "feedback": {"insert": "after:patch_embed"}}
    model = smpf.create("timm/vit_tiny_patch16_224", **told).eval()
    again = smpf.from_pretrained(model.save_pretrained(tmp_path))
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(image), model(image))


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("patch_embd", "did you mean 'patch_embed'"),
        ("norm1", r"may be blocks\.0\.norm1, blocks\.1\.norm1"),
        ("blocks", "blocks is not handed the image itself"),
        ("head_drop", "head_drop is not handed the image itself"),
    ],
)
def test_a_place_that_is_none_is_refused_with_what_to_do(place, words):
    net, _ = base("tokens")
    with pytest.raises(SurgeryError, match=f"(?i){words}"):
        smpf.wrap(net, smpf.Recurrent(insert=f"after:{place}"))


@pytest.mark.parametrize("insert", ["after:", "after", "embedding"])
def test_a_place_without_a_name_is_refused_at_once(insert):
    with pytest.raises(InvalidValue, match="after:NAME"):
        smpf.Recurrent(insert=insert)


def test_a_hook_on_the_module_is_heard_once_in_each_look():
    net, insert = base("tokens")
    model = smpf.wrap(net, smpf.Recurrent(insert=insert, dynamics="residual")).eval()
    for one in (net, model):
        one.patch_embed.register_forward_hook(lambda module, inputs, gave: 2 * gave)
    with torch.no_grad():
        assert torch.allclose(model(IMAGE), net(IMAGE), atol=1e-5)
