"""What is saved is what is there, or nothing is saved."""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

import smp_feedback as smpf
from smp_feedback.errors import FeedbackError

TINY = {"encoder_name": "tu-test_resnet.r160_in1k", "encoder_weights": None, "encoder_depth": 3}
TINY |= {"decoder_channels": (16, 8, 8), "classes": 3}
LOOPS = [smpf.Recurrent(steps=2), smpf.Score(filters=4, additional_pools=1), smpf.Restoration(depth=2, filters=4)]
LOOPS += [smpf.Repair(steps=2, width=4)]


def head(model):
    model.segmentation_head[0] = nn.Conv2d(8, 7, 3, padding=1)


def stem(model):
    model.encoder.model.conv1[0] = nn.Conv2d(5, 16, 3, stride=2, padding=1, bias=False)


def head_of_two(model):
    model.segmentation_head[0] = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 3, 1))


def head_of_another_kernel(model):
    model.segmentation_head[0] = nn.Conv2d(8, 3, 1)


def head_that_squashes(model):
    model.segmentation_head[2] = nn.Tanh()


def head_that_looks_wider(model):
    model.segmentation_head[0].dilation = model.segmentation_head[0].padding = (2, 2)


def decoder_with_more(model):
    model.decoder = Wider(model.decoder)


class Wider(nn.Module):
    def __init__(self, decoder):
        super().__init__()
        self.decoder, self.last = decoder, nn.Conv2d(8, 8, 1)

    def forward(self, features):
        return self.last(self.decoder(features))


@torch.no_grad()
@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.loop)
@pytest.mark.parametrize(("change", "channels", "classes"), [(head, 3, 7), (stem, 5, 3)])
def test_what_the_arguments_can_say_is_saved_and_comes_back(tmp_path, loop, change, channels, classes):
    base = smp.Unet(**TINY).eval()
    change(base)
    model = smpf.wrap(base, loop)
    image = torch.rand(1, channels, 32, 32)
    again = smpf.from_pretrained(model.save_pretrained(tmp_path))
    assert torch.equal(again(image), model(image))
    assert (again.config["classes"], again.config["in_channels"]) == (classes, channels)


@torch.no_grad()
def test_a_head_that_was_replaced_after_closing_is_saved_as_it_is(tmp_path):
    model = smpf.create("Unet", **TINY, feedback=LOOPS[0]).eval()
    head(model)
    assert model.config["classes"] == 7
    again = smpf.from_pretrained(model.save_pretrained(tmp_path))
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(again.trajectory(image), model.trajectory(image))
    assert again.config["classes"] == 7


@pytest.mark.parametrize("closed", [True, False], ids=["after closing", "before"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (head_of_two, r"segmentation_head\.0\.weight: none, not \(3, 8, 3, 3\)"),
        (head_of_another_kernel, r"segmentation_head\.0\.weight: \(3, 8, 1, 1\), not \(3, 8, 3, 3\)"),
        (head_that_squashes, r"segmentation_head\.2: Tanh\(\), not Activation\(\)"),
        (head_that_looks_wider, r"segmentation_head\.0: Conv2d\(.*dilation=\(2, 2\)\), not Conv2d"),
        (decoder_with_more, r"decoder\..*weight: none, not"),
    ],
)
def test_what_the_arguments_cannot_say_is_not_saved(tmp_path, change, words, closed):
    model = smp.Unet(**TINY)
    if closed:
        model = smpf.wrap(model)
    change(model)
    with pytest.raises(FeedbackError, match=rf"no longer what its arguments build \({words}") as error:
        (model if closed else smpf.wrap(model)).save_pretrained(tmp_path / "model")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "model").exists()


def doubled(module, inputs, gave):
    return 2 * gave


def hook_of_the_head(model):
    model.segmentation_head.register_forward_hook(doubled)


def hook_of_the_model(model):
    model.register_forward_hook(doubled)


def forward_of_the_encoder(model):
    before = model.encoder.forward
    model.encoder.forward = lambda image: before(image / 2)


def class_of_the_same_name(model):
    class Conv2d(nn.Conv2d):
        def forward(self, x):
            return super().forward(x).square()

    model.segmentation_head[0].__class__ = Conv2d


def other_interpolation(model):
    for block in model.decoder.blocks:
        block.interpolation_mode = "bilinear"


CHANGES = {
    hook_of_the_head: "segmentation_head has a forward hook 'doubled'",
    hook_of_the_model: "by a hook, or a forward, of the object itself",
    forward_of_the_encoder: "the forward of encoder was replaced on the object",
    class_of_the_same_name: r"segmentation_head\.0 is a test_described\..*Conv2d",
    other_interpolation: "an attribute or a method",
}


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.loop)
@pytest.mark.parametrize("change", CHANGES)
def test_what_shows_in_no_weight_and_changes_the_answer_is_not_saved(tmp_path, loop, change):
    model = smpf.create("Unet", **TINY, feedback=loop)
    change(model)
    with pytest.raises(FeedbackError, match=rf"answers otherwise than .*{CHANGES[change]}.* come back from disk"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@torch.no_grad()
def test_hooks_that_only_look_are_saved_past_and_a_save_leaves_the_weights_and_modes(tmp_path):
    model, seen = smpf.create("Unet", **TINY).train(), []
    model.encoder.register_forward_hook(lambda module, inputs, gave: seen.append(gave))
    model.register_forward_hook(lambda module, inputs, gave: seen.append(gave))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    again = smpf.from_pretrained(model.save_pretrained(tmp_path)).state_dict()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(torch.equal(value, before[key]) for key, value in again.items())
    assert all(module.training for module in model.modules())
    assert seen
    assert all(p.requires_grad and p.device.type == "cpu" for p in model.parameters())


def test_a_head_that_the_loop_does_not_fit_is_not_saved(tmp_path):
    model = smpf.create("Unet", **TINY, feedback=LOOPS[1])
    head(model)
    with pytest.raises(FeedbackError, match=r"segmentation_head\.0\.weight: \(7, 8, 3, 3\), not \(3, "):
        model.save_pretrained(tmp_path)


def test_what_computes_the_same_is_the_same(tmp_path):
    model = smpf.create("Unet", **TINY, base_norm=None)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.01
        if isinstance(module, nn.ReLU):
            module.inplace = False
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    again = smpf.from_pretrained(model.save_pretrained(tmp_path)).state_dict()
    assert all(torch.equal(again[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("norm", [None, "group"])
def test_saving_draws_nothing(tmp_path, norm):
    model = smpf.create("Unet", **TINY, base_norm=norm)
    before = torch.random.get_rng_state()
    model.save_pretrained(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)
