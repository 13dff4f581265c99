"""The restoration loop: the published warp, network and flow of data, and what every looping model promises."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import re
import zlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from conftest import GOLDEN, SMPS
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.errors import FeedbackError, InvalidInput, InvalidType, InvalidValue, SurgeryError, UnknownName
from smp_feedback.ops.warp import warp
from smp_feedback.restorers.base import Restored, Restorer, class_feedback
from smp_feedback.restorers.painting import Painting
from smp_feedback.restorers.unet import RestorationUnet, pad_to
from smp_feedback.testing import check_loop, conformance, hearing

needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden arrays are not part of the project")
VALUES, GRADIENTS = 2e-4, 1e-3  # largest error over largest magnitude, float32
SMALL = {"arch": "Unet", "encoder": "tu-test_resnet", "encoder_weights": None, "decoder_channels": (16, 16, 8, 8, 8)}
TINY = smpf.Restoration(depth=2, filters=4)
HEARD = replace(TINY, weight=1.0)  # 1e-3 of what an untrained model changes is rounding


def create(feedback=TINY, **more):
    return smpf.create(**{**SMALL, "classes": 3, **more, "feedback": feedback})


def golden(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    return arrays, json.loads((GOLDEN / "index.json").read_text())[name]["meta"]


def agree(ours, theirs, tolerance=VALUES):
    error = (ours.detach().double() - theirs.double()).abs().max()
    assert error <= tolerance * theirs.double().abs().max(), f"{error:.2e}"


class StubRestorer(Restorer):
    """The published flow of data around two convolutions."""

    def __init__(self, config, in_channels, classes):
        super().__init__()
        self.c, self.f = nn.Conv2d(in_channels, 2, 3, padding=1), nn.Conv2d(in_channels * classes, 2, 1)

    def restore(self, image, begun, feedback):
        z = self.c(image) if feedback is None else self.c(image) + self.f(feedback)
        displacement = 10 * z.tanh()
        return Restored(warp(image, displacement), displacement)


class Stub(nn.Module):
    """The published stub of a segmentation network, for an image of any size."""

    def __init__(self, channels=3, width=6, classes=20):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(channels, width, 3, padding=1), nn.Conv2d(width, classes, 1)

    def forward_features(self, image):
        return self.c1(image).tanh()

    def forward_head(self, features):
        return self.c2(features)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


class Normed(Stub):
    """With statistics to keep, and nothing to round."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.norm = nn.BatchNorm2d(self.c1.out_channels)

    def forward_features(self, image):
        return self.norm(super().forward_features(image))


@pytest.fixture
def stub(restored):
    """The config of a loop with the published stub of a restoration network."""
    restored.restorers.register("stub", StubRestorer)
    return smpf.Restoration(restorer="stub")


# --- our own derivation, NumPy float64


def moved(image, displacement):
    """The warp, pixel by pixel: (C, H, W) and (2, H, W)."""
    _, height, width = image.shape
    out = np.empty_like(image)
    for i in range(height):
        for j in range(width):
            row = min(max(i + displacement[0, i, j], 0), height - 1)
            column = min(max(j + displacement[1, i, j], 0), width - 1)
            top, left = int(row), int(column)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            down, across = row - top, column - left
            upper = (1 - across) * image[:, top, left] + across * image[:, top, right]
            lower = (1 - across) * image[:, bottom, left] + across * image[:, bottom, right]
            out[:, i, j] = (1 - down) * upper + down * lower
    return out


def convolved(x, w, b):
    """A convolution that keeps the size: (I, H, W), (O, I, k, k), (O,)."""
    k = w.shape[-1]
    padded = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(1, 2))
    return np.einsum("ihwkl,oikl->ohw", windows, w) + b[:, None, None]


def published(x, w, steps, absolute):
    """Every pass of one image with the stubs' weights *w*: the restored image, the logits, what was fed back."""

    def look(change, before):
        z = convolved(x, w["c.weight"], w["c.bias"])
        if change is not None:
            change = np.abs(change) if absolute else change
            feedback = np.concatenate([change * channel for channel in before])
            z = z + convolved(feedback, w["f.weight"], w["f.bias"])
        restored = moved(x, 10 * np.tanh(z))
        features = np.tanh(convolved(restored, w["c1.weight"], w["c1.bias"]))
        return restored, convolved(features, w["c2.weight"], w["c2.bias"])

    z, logits = look(None, None)
    passes, older = [(z, logits, None)], logits
    for _ in range(steps):
        change = logits - older
        older = logits
        z, logits = look(change, z)
        passes.append((z, logits, change))
    return passes


# --- the warp


@needs_golden
def test_the_golden_warp_and_its_gradients():
    a, _ = golden("g_warp")
    image, rows, columns = (a[key].clone().requires_grad_() for key in ("image", "di", "dj"))
    out = warp(image, torch.stack([rows, columns], 1))
    agree(out, a["out"])
    (out * a["g"]).sum().backward()
    for leaf, key in ((image, "grad_image"), (rows, "grad_di"), (columns, "grad_dj")):
        agree(leaf.grad, a[key], GRADIENTS)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6), st.floats(0, 30))
def test_a_pixel_is_read_where_it_points_and_never_beyond_the_border(seed, height, width, reach):
    rng = np.random.default_rng(seed)
    image, field = rng.random((2, 2, height, width)), reach * rng.normal(size=(2, 2, height, width))
    out = warp(torch.from_numpy(image), torch.from_numpy(field))
    for ours, one, displacement in zip(out, image, field, strict=True):
        assert np.allclose(ours, moved(one, displacement), atol=1e-12)


def test_a_field_of_whole_pixels_shifts_the_image_and_repeats_its_border():
    image = torch.rand(1, 2, 5, 6, dtype=torch.float64)
    field = torch.tensor([1.0, -2.0]).double().reshape(1, 2, 1, 1).expand(1, 2, 5, 6)  # from below, from the left
    expected = F.pad(image, (2, 0, 0, 1), mode="replicate")[..., 1:, :6]
    assert torch.allclose(warp(image, field), expected, atol=1e-12)


def test_places_are_not_rounded_in_half_precision():
    ramp = torch.linspace(0, 1, 512, dtype=torch.float64).expand(1, 1, 2, 512)
    field = torch.zeros(1, 2, 2, 512).double()
    field[:, 1] = 0.25
    expected = warp(ramp, field)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(warp(ramp.float(), field.float()).double(), expected, atol=1e-6)
    answer = warp(ramp.half(), field.half())
    assert answer.dtype == torch.float16
    assert torch.allclose(answer.double(), expected, atol=5e-4)  # half a unit in the last place of the image


@pytest.mark.parametrize("shape", [(1, 2, 4, 5), (2, 3, 4, 5), (2, 2, 5, 4), (2, 4, 5)])
def test_a_field_that_does_not_fit_is_refused(shape):
    with pytest.raises(InvalidInput, match=r"displacement of shape .* for an image of shape \(2, 3, 4, 5\)"):
        warp(torch.rand(2, 3, 4, 5), torch.rand(shape))


def test_only_numbers_with_a_point_are_warped():
    image, field = torch.rand(2, 3, 4, 5), torch.zeros(2, 2, 4, 5)
    for wrong in (image.byte(), None):
        with pytest.raises(InvalidInput, match=r"image: expected a floating-point tensor, not (torch\.uint8|NoneType)"):
            warp(wrong, field)
    with pytest.raises(InvalidInput, match=r"displacement: expected a floating-point tensor, not torch\.int64"):
        warp(image, field.long())
    with pytest.raises(InvalidInput, match=r"displacement of shape .* for an image of shape \(\)"):
        warp(torch.tensor(1.0), field)


# --- restorers


def published_weights(keys):
    """As the golden arrays' README fills them, by the published names."""
    for key, shape in keys:
        r = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
        if len(shape) > 1:
            r = r / np.sqrt(np.prod(shape[1:]))
        elif key.endswith("running_var"):
            r = 1 + 0.1 * np.abs(r)
        else:
            r = 1 + 0.1 * r if key.endswith("weight") else 0.1 * r
        loud = 1000 if key in ("unet.trans_block.main.5.weight", "unet.trans_block.main.5.bias") else 1
        yield key, torch.from_numpy(np.asarray(loud * r, dtype=np.float32))


def our_name(key):
    """Of a tensor of the published network."""
    key = re.sub(r"^unet\.(down)_path\.(\d)\.block", r"\1.\2", key)
    key = re.sub(r"^unet\.up_path\.(\d)\.conv_block\.block", r"merge.\1", key)
    key = re.sub(r"^unet\.up_path\.(\d)\.up", r"up.\1", key)
    key = re.sub(r"^unet\.trans_block\.main\.(\d)", lambda m: f"transfer.main.{int(m[1]) - 1}", key)  # 0 is a pooling
    return key.removeprefix("unet.")


@needs_golden
def test_the_golden_network():
    a, meta = golden("g_unet_erfnet_full")
    weights = published_weights(one for one in meta["keys"] if one[0].startswith("unet."))
    model = RestorationUnet(3, 60, depth=5, filters=64, reach=10.0, weight=1e-3).eval()
    missing, unexpected = model.load_state_dict({our_name(k): w for k, w in weights}, strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing)
    with torch.no_grad():
        agree(model(a["x"]).image, a["restored_nofb"])
        agree(model(a["x"], class_feedback(a["fb_diff"], a["fb_image"])).image, a["restored_fb"])
    assert (a["restored_fb"] - a["restored_nofb"]).abs().max() > 20 * VALUES, "the feedback is not seen"


def trained_unet(channels=3, classes=2, depth=3, **more):
    unet = RestorationUnet(
        channels, channels * classes, **{"filters": 4, "reach": 3.0, "weight": 1.0, **more}, depth=depth
    )
    for parameter in unet.last.parameters():
        nn.init.normal_(parameter, std=0.3)
    return unet.double().eval()


@pytest.mark.parametrize("size", [(13, 18), (16, 5), (1, 7)])
@torch.no_grad()
def test_any_size_is_taken_as_if_its_border_went_on(size):
    unet, image = trained_unet(), torch.rand(2, 3, *size).double()
    feedback = torch.randn(2, 6, *size).double()
    height, width = (side + -side % 4 for side in size)
    right, below = width - size[1], height - size[0]
    larger = F.pad(image, (0, right, 0, below), mode="replicate")
    whole = unet(larger, F.pad(feedback, (0, right, 0, below)))
    restored = unet(image, feedback)
    assert torch.allclose(restored.displacement, whole.displacement[..., : size[0], : size[1]], atol=1e-12)
    for one, field, ours in zip(image, restored.displacement, restored.image, strict=True):
        assert np.allclose(ours, moved(one.numpy(), field.numpy()), atol=1e-12)
    assert pad_to(larger, 4) is larger


@torch.no_grad()
def test_the_network_is_a_unet_that_hears_at_its_deepest():
    unet, image, feedback = (
        trained_unet(reach=2.0, weight=0.5),
        torch.rand(1, 3, 8, 12).double(),
        torch.randn(1, 6, 8, 12),
    )
    fine = unet.down[0](image)
    middle = unet.down[1](F.max_pool2d(fine, 2))
    x = unet.down[2](F.max_pool2d(middle, 2)) + 0.5 * unet.transfer(feedback.double())
    for up, merge, skipped in zip(unet.up, unet.merge, (middle, fine), strict=True):
        x = merge(torch.cat([up(x), skipped], 1))
    assert torch.allclose(unet(image, feedback.double()).displacement, 2 * torch.tanh(unet.last(x)))
    conv, norm, relu, last, end = unet.transfer.main
    pooled = F.avg_pool2d(feedback.double(), 2)
    expected = F.avg_pool2d(end(last(relu(norm(conv(pooled))))), 2)
    assert torch.allclose(unet.transfer(feedback.double()), expected)


@torch.no_grad()
def test_no_pixel_is_moved_farther_than_the_reach():
    unet = trained_unet(reach=1.5)
    nn.init.normal_(unet.last.weight, std=100)
    displacement = unet(torch.rand(1, 3, 16, 16).double()).displacement
    assert 1.4 < displacement.abs().max() <= 1.5


@pytest.mark.parametrize("depth", [2, 3, 4, 5, 6])
@torch.no_grad()
def test_the_feedback_meets_the_deepest_features_at_their_own_size(depth):
    unet = trained_unet(depth=depth, filters=1)
    image = torch.rand(1, 3, 40, 70).double()
    feedback = torch.rand(1, 6, 40, 70).double()
    assert unet.transfer(feedback).shape == unet.begin(image)[-1].shape


@torch.no_grad()
def test_feedback_of_one_place_is_heard_there():
    unet = trained_unet(depth=3)
    silent = torch.zeros(1, 6, 32, 32).double()
    spoken = silent.clone()
    spoken[..., 5, 25] = 1
    heard = (unet.transfer(spoken) - unet.transfer(silent)).abs().sum(1)[0] > 1e-12
    rows, columns = heard.nonzero().T
    assert heard[1, 6]
    assert (rows - 1).abs().max() <= 1
    assert (columns - 6).abs().max() <= 1


@torch.no_grad()
def test_a_network_is_shown_the_image_with_the_feedback_painted_in():
    image, feedback = torch.rand(2, 3, 7, 9), torch.randn(2, 6, 7, 9)
    painting = Painting(nn.Identity(), 3, 6, weight=0.5).eval()
    assert torch.equal(painting(image).image, image)
    assert painting(image).displacement is None
    assert torch.allclose(painting(image, feedback).image, image + 0.5 * painting.transfer(feedback))


# --- the loop


@needs_golden
def test_the_golden_loop(stub):
    a, _ = golden("g_feedback_loop")
    model, x = smpf.wrap(Stub(), stub).eval(), a["turbulent"]
    told = {f"{m}.{p}": a[f"after_{s}_{m}_{p}"] for s, m in ("rc", "rf") for p in ("weight", "bias")}
    model.restorer.load_state_dict(told)
    for name in ("c1", "c2"):
        getattr(model, name).load_state_dict({p: a[f"after_s_{name}_{p}"] for p in ("weight", "bias")})
    with torch.no_grad():
        agree(model.restore(x).image, a["val_restored"][0])
        agree(model.segment(a["val_restored"][0]), a["val_logits"][0])
        for t, step in enumerate(model.iterate(x)):
            agree(step.restored, a["val_restored"][t + 1])
            agree(step.logits, a["val_logits"][t + 1])
            if t:
                agree(step.fed_back, a["val_fb_diff"][t], GRADIENTS)  # a small difference of large numbers
            else:
                assert not step.fed_back.any()
            feedback = model.feed_back(a["val_fb_diff"][t], a["val_fb_image"][t])
            agree(model.restore(x, feedback).image, a["val_restored"][t + 1])
        agree(model(x), a["val_logits"][-1])
    assert t == 2


@pytest.mark.parametrize("absolute", [False, True])
@torch.no_grad()
def test_every_pass_is_that_of_our_own_derivation(stub, absolute):
    model = smpf.wrap(Stub(2, 4, 3), replace(stub, absolute=absolute)).double().eval()
    x = torch.rand(2, 2, 7, 5).double()
    weights = {key: p.numpy() for key, p in [*model.restorer.named_parameters(), *model.named_parameters()]}
    steps = [*model.iterate(x, steps=4)]
    for i, image in enumerate(x.numpy()):
        (first, logits, _), *passes = published(image, weights, 4, absolute)
        assert np.allclose(model.restore(x).image[i], first, atol=1e-10)
        assert np.allclose(model.segment(model.restore(x).image)[i], logits, atol=1e-10)
        for step, (restored, p, change) in zip(steps, passes, strict=True):
            assert np.allclose(step.restored[i], restored, atol=1e-10)
            assert np.allclose(step.logits[i], p, atol=1e-10)
            assert np.allclose(step.fed_back[i], change, atol=1e-10)
            relative = np.linalg.norm(p - logits) / np.linalg.norm(p)
            assert np.isclose(step.change[i], relative, atol=1e-10)
            assert np.allclose(step.state[i], np.concatenate([p, logits, restored]), atol=1e-10)
            logits = p
    assert np.abs(passes[-1][2]).max() > 1e-3, "nothing was fed back"
    assert torch.equal(model.trajectory(x, steps=4), torch.stack([step.logits for step in steps]))


def test_size_and_sign_of_a_change_are_two_kinds_of_feedback():
    change, image = torch.randn(2, 3, 4, 5), torch.rand(2, 2, 4, 5)
    expected = torch.cat([change * image[:, k : k + 1] for k in range(2)], 1)
    assert torch.equal(class_feedback(change, image), expected)
    assert torch.equal(class_feedback(change, image, absolute=True), expected.abs())


def counted(model, *names):
    calls = Counter()
    for name in names:
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.update([name]))
    return calls


@torch.no_grad()
def test_the_way_down_is_gone_once_and_the_base_is_asked_once_a_restoration():
    model = create(HEARD).eval()
    parts = ("encoder", "segmentation_head", "feedback.restorer.down.0", "feedback.restorer.last")
    calls = counted(model, *parts, "feedback.restorer.transfer")
    model(torch.rand(1, 3, 64, 64), steps=4)
    assert [calls[name] for name in parts] == [5, 5, 1, 5]
    assert calls["feedback.restorer.transfer"] == 4


@torch.no_grad()
def test_without_weight_it_restores_once_and_segments_once():
    image, model = torch.rand(1, 3, 64, 64), create(replace(TINY, weight=0, steps=1)).eval()
    with hearing(model):
        calls = counted(model, "encoder", "feedback.restorer.down.0", "feedback.restorer.last")
        (step,) = model.iterate(image)
        assert set(calls.values()) == {1}
        assert torch.equal(step.restored, model.restore(image).image)
        assert not torch.allclose(step.restored, image, atol=1e-3)
        assert torch.equal(step.logits, model.segment(step.restored))
        assert torch.equal(model(image), step.logits)
        assert step.fed_back is None
        assert step.change.tolist() == [1]
    for steps in (2, 5):
        with pytest.raises(InvalidValue, match=rf"steps={steps} with weight=0: nothing is fed back"):
            model(image, steps=steps)


@pytest.mark.parametrize("restorer", ["unet", "painter"])
def test_without_weight_nothing_waits_for_a_gradient(restorer, restored):
    restored.restorers.register("painter", lambda config, channels, classes: nn.Conv2d(channels, channels, 1))
    model = create(replace(TINY, weight=0, steps=1, restorer=restorer))
    model(torch.rand(2, 3, 64, 64)).square().mean().backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in model.parameters())
    assert model.state_dict().keys() == create(replace(TINY, restorer=restorer)).state_dict().keys()


# --- the model


def test_it_keeps_the_promises_of_a_loop_around_another_one():
    check_loop("restoration", depth=2, filters=4, weight=1.0, steps=2, base=smpf.Recurrent(steps=2, feedback_init=0.1))


VIT = {"encoder": "tu-test_vit", "decoder_intermediate_channels": (16,) * 4, "decoder_fusion_channels": 16}
BASES = {  # where small needs other words: its arguments, and the side of its image
    "DPT": (VIT | {"dynamic_img_size": True}, 64),
    "PAN": ({}, 128),
    "UPerNet": ({"decoder_channels": 16}, 64),
    "DFMDeepLabV3Plus": ({"encoder": "resnet18", "decoder_channels": 16}, 64),
    "torchvision/lraspp_mobilenet_v3_large": ({}, 64),
}
NAMES = sorted({*SMPS, "NeumannUnet", "DirichletUnet", *BASES})


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_every_base_answers_as_before_until_it_is_trained(name):
    told, side = BASES.get(name, ({}, 64))
    small = {} if "/" in name else {"encoder": "tu-test_resnet"}
    plain = smpf.create(name, **{"encoder_weights": None, "classes": 3, **small, **told}, feedback=False).eval()
    before, image = copy.deepcopy(plain.state_dict()), torch.rand(1, 3, side, side)
    model = smpf.wrap(plain, replace(TINY, steps=2))
    assert not model.training
    expected = plain(image)
    expected = expected["out"] if isinstance(expected, dict) else expected
    for logits in model.trajectory(image):
        agree(logits, expected)
    plain.load_state_dict(model.feedforward_state_dict(), strict=True)
    assert all(torch.equal(value, before[key]) for key, value in plain.state_dict().items())
    nn.init.constant_(model.restorer.last.bias, 1)
    with pytest.raises(AssertionError):
        agree(model(image), expected, 10 * VALUES)


@pytest.mark.parametrize(("channels", "classes"), [(1, 1), (4, 2)])
def test_images_and_logits_of_other_channels(channels, classes):
    check = {"in_channels": channels, "classes": classes}
    model, image = create(HEARD, **check), torch.rand(2, channels, 64, 64)
    assert model.restorer.transfer.main[0].in_channels == channels * classes
    assert model.feed_back(torch.rand(2, classes, 64, 64), image).shape == (2, channels * classes, 64, 64)
    with hearing(model.eval()), torch.no_grad():
        path = model.trajectory(image)
        assert path.shape == (3, 2, classes, 64, 64)
        assert path.diff(dim=0).abs().max() > 0
        with pytest.raises(InvalidInput, match=rf"expected {channels} "):
            model(torch.rand(2, 2, 64, 64))


@torch.no_grad()
def test_labels_are_read_from_the_last_restored_image():
    model, image = create(HEARD, aux_params={"classes": 4}).eval(), torch.rand(2, 3, 64, 64)
    with hearing(model):
        masks, labels = model(image)
        *_, before, last = model.iterate(image)
        expected = model.classification_head(model.encoder(last.restored)[-1])
        assert torch.allclose(labels, expected)
        assert torch.equal(last.labels, labels)
        assert torch.equal(last.logits, masks)
        assert not torch.equal(before.labels, labels)


@torch.no_grad()
def test_over_a_recurrent_model_its_last_look_is_the_prediction():
    image = torch.rand(2, 3, 64, 64)
    recurrent = create(smpf.Recurrent(steps=3, feedback_init=0.1)).eval()
    model = smpf.wrap(recurrent, HEARD)
    assert model.loop_config == replace(HEARD, base=recurrent.loop_config)
    agree(model(image), recurrent(image))
    with hearing(model):
        last = [*model.iterate(image, steps=2)][-1]
        recurrent.recurrent.load_state_dict(model.feedback.inner.state_dict())
        assert torch.allclose(last.logits, recurrent(last.restored), atol=1e-5)
    smpf.create(**{**SMALL, "classes": 3}, feedback=False).load_state_dict(model.feedforward_state_dict(), strict=True)


def test_it_goes_to_disk_and_back_with_both_loops(tmp_path):
    image, model = torch.rand(1, 3, 64, 64), create(replace(HEARD, base=smpf.Recurrent(steps=3, tau=2.0))).eval()
    with torch.no_grad():
        for parameter in model.restorer.last.parameters():
            parameter.normal_()
        again = smpf.from_pretrained(model.save_pretrained(tmp_path))
        assert again.loop_config == model.loop_config
        assert (again.loop_config.filters, again.loop_config.base.tau) == (4, 2.0)
        assert torch.equal(again(image), model(image))
        more = smpf.from_pretrained(tmp_path, feedback={"steps": 5, "absolute": True})
        assert (more.loop_config.steps, more.loop_config.absolute, more.loop_config.depth) == (5, True, 2)


@torch.no_grad()
def test_copies_pickles_and_plain_weights():
    image, model = torch.rand(1, 3, 64, 64), create(HEARD).eval()
    with hearing(model):
        expected = model(image)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert type(other) is type(model)
            assert isinstance(other, smp.Unet)
            assert torch.equal(other(image), expected)
        fresh = create(HEARD).eval()
        fresh.load_state_dict(model.state_dict(), strict=True)
        assert torch.equal(fresh(image), expected)
    plain = create(False).eval()
    agree(create().eval().load_feedforward(plain.state_dict())(image), plain(image))


def test_it_learns_in_all_its_parameters_and_can_be_frozen():
    model = create(HEARD)
    conformance.check_parameters(model, create(False))
    conformance.check_mismatched_weights(lambda **more: create(HEARD, **more))
    with hearing(model):
        model.train().freeze_encoder()
        before = {key: b.clone() for key, b in model.encoder.named_buffers()}
        model(torch.rand(2, 3, 64, 64)).square().mean().backward()
        assert all(torch.equal(b, before[key]) for key, b in model.encoder.named_buffers())
        assert not any(p.grad is not None for p in model.encoder.parameters())
        silent = [name for name, p in model.feedback.named_parameters() if p.grad is None or not p.grad.any()]
        assert not silent


def test_predict_keeps_no_graph():
    model = create(HEARD).train()
    answer = model.predict(torch.rand(1, 3, 64, 64))
    assert not model.training
    assert answer.is_inference()
    with torch.no_grad():
        assert all(step.state.grad_fn is None for step in model.iterate(torch.rand(1, 3, 64, 64)))


# --- gradients


def smooth(**flow):
    """In float64, where what is reached by gradient is found to the last digits."""
    torch.manual_seed(1)
    model = smpf.wrap(Normed(3, 4, 2), replace(HEARD, filters=2, reach=2.0, **flow)).double()
    for parameter in model.restorer.last.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.train()


def gradients(model):
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def same_gradients(ours, theirs, atol=1e-11):
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert torch.allclose(ours[name], gradient, atol=atol, rtol=1e-7), name


def unrolled(model, image, steps, *, grad_steps=None, detach=False):
    """The logits of every step, looked for by hand: the first restoration is reached through all steps alone."""
    begun = model.restorer.begin(image)

    def look(feedback, *, reached):
        with torch.set_grad_enabled(reached):
            z = model.restorer.restore(image, begun, feedback).image
            return z, model.segment(z)

    z, p = look(None, reached=not detach and (grad_steps is None or grad_steps >= steps))
    before, path = p, []
    for t in range(steps):
        if detach:
            z, p, before = z.detach(), p.detach(), before.detach()
        reached = grad_steps is None or t >= steps - grad_steps
        with torch.set_grad_enabled(reached):
            feedback = model.feed_back(p - before, z)
        before = p
        z, p = look(feedback, reached=reached)
        path.append(p)
    return path


FLOWS = [{}, {"grad_steps": 1}, {"grad_steps": 2}, {"grad_steps": 3}, {"detach": True}]


@pytest.mark.parametrize("flow", FLOWS)
def test_gradients_flow_through_time_as_told(flow):
    image, model = torch.rand(2, 3, 8, 8).double(), smooth(**flow)
    answers = [step.logits for step in model.iterate(image)] if "detach" in flow else [model(image)]
    sum(one.square().mean() for one in answers).backward()
    ours = gradients(model)
    path = unrolled(model, image, 3, **flow)
    sum(one.square().mean() for one in (path if "detach" in flow else path[-1:])).backward()
    same_gradients(ours, gradients(model))


def test_flows_differ_in_what_they_reach():
    image, found = torch.rand(2, 3, 8, 8).double(), []
    for flow in FLOWS:
        model = smooth(**flow)
        model(image).square().mean().backward()
        found.append(gradients(model)["feedback.restorer.up.0.weight"])
    for i, j in itertools.combinations(range(len(FLOWS)), 2):
        alike = (i, j) in ((0, 3), (1, 4))  # all three steps are all; the last step alone is a detached one
        assert torch.allclose(found[i], found[j], rtol=1e-6, atol=0) == alike, (FLOWS[i], FLOWS[j])


@pytest.mark.parametrize(
    ("flow", "reached"),
    [
        ({}, [1, 1, 1, 1]),
        ({"grad_steps": 3}, [1, 1, 1, 1]),
        ({"grad_steps": 2}, [0, 0, 1, 1]),
        ({"detach": True}, [0, 1, 1, 1]),
    ],
)
def test_no_graph_is_made_of_what_no_gradient_reaches(flow, reached):
    model, made = smooth(**flow), []
    model.c2.register_forward_hook(lambda *call: made.append(call[-1].requires_grad))
    model(torch.rand(2, 3, 8, 8).double())
    assert made == list(map(bool, reached))


@pytest.mark.parametrize("base", [None, smpf.Recurrent(steps=2, feedback_init=0.1)])
def test_a_step_that_is_run_again_is_counted_once(base):
    image, once, again = torch.rand(2, 3, 8, 8).double(), smooth(base=base), smooth(base=base, recompute=True)
    again.load_state_dict(once.state_dict())
    found = []
    for model in (once, again):
        model(image).square().mean().backward()
        found.append(gradients(model))
    same_gradients(*found)
    for key, value in once.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    counts = {key: int(b) for key, b in again.named_buffers() if b.ndim == 0}
    restorer = "feedback.restorer."
    assert {counts[f"{restorer}down.{i}.{j}.num_batches_tracked"] for i in (0, 1) for j in (2, 5)} == {1}
    assert {counts[f"{restorer}transfer.main.{j}.num_batches_tracked"] for j in (1, 4)} == {3}
    assert counts["norm.num_batches_tracked"] == counts[f"{restorer}merge.0.2.num_batches_tracked"] == 4


def test_each_steps_loss_may_be_sent_back_by_itself():
    image, model = torch.rand(2, 3, 8, 8).double(), smooth(detach=True)
    sum(step.logits.square().mean() for step in model.iterate(image)).backward()
    expected = gradients(model)
    losses = model.backward_per_step(image, lambda step: step.logits.square().mean())
    assert losses.shape == (3,)
    same_gradients(gradients(model), expected)
    for step in model.iterate(image):
        step.logits.square().mean().backward()
    same_gradients(gradients(model), expected)


# --- where it runs


@pytest.mark.parametrize("absolute", [False, True])
def test_it_answers_in_every_dtype(absolute):
    model, image = create(replace(HEARD, reach=1.0, absolute=absolute)), torch.rand(2, 3, 32, 32)
    conformance.check_dtypes(model, image)


def test_autocast_answers_as_the_plain_model_does():
    model, image = create(replace(HEARD, reach=1.0)).eval(), torch.rand(2, 3, 32, 32)
    with hearing(model), torch.no_grad():
        expected = model(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            answer = model(image)
            assert answer.dtype == model.segment(image).dtype == torch.bfloat16
            assert next(iter(model.iterate(image))).restored.dtype == torch.float32
        agree(answer, expected, 0.1)


@pytest.mark.sweep
def test_it_compiles_and_exports():
    model, image = smpf.wrap(Normed(3, 4, 2), replace(HEARD, steps=2)).eval(), torch.rand(2, 3, 13, 10)
    conformance.check_compiles(model, image, dynamic=False)
    conformance.check_exports(model, image)


@pytest.mark.parametrize("feedback", [replace(HEARD, steps=2), smpf.Recurrent(steps=2)], ids=lambda one: one.loop)
@pytest.mark.sweep
def test_exported_it_takes_other_batches_and_sizes(feedback):
    model = smpf.wrap(Normed(3, 4, 2), feedback).eval()
    some = (dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO),)
    program = torch.export.export(model, (torch.rand(2, 3, 16, 24),), dynamic_shapes=some, strict=False).module()
    other = torch.rand(3, 3, 32, 40)
    with torch.no_grad():
        agree(program(other), model(other), 1e-6)


@pytest.mark.sweep
def test_an_onnx_file_answers_as_it_does(tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
    model, image = smpf.wrap(Normed(3, 4, 2), replace(HEARD, steps=2)).eval(), torch.rand(2, 3, 12, 10)
    with hearing(model):
        smpf.export(model, tmp_path / "model.onnx", image=image, dynamic=False)
        session = runtime.InferenceSession(tmp_path / "model.onnx")
        (answer,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        agree(torch.from_numpy(answer), model(image))


def test_nothing_in_the_loop_waits_for_a_number():
    """On the device without memory there are none to read."""
    model = create(HEARD).to("meta").eval()
    for step in model.iterate(torch.rand(2, 3, 64, 64, device="meta")):
        assert step.logits.is_meta
        assert step.change.is_meta


def test_what_is_new_has_dtype_and_mode_of_the_base():
    model = smpf.wrap(Stub().double().train(), TINY)
    assert all(p.dtype == torch.float64 for p in model.parameters())
    assert all(module.training for module in model.modules())
    assert not any(module.training for module in smpf.wrap(Stub().eval(), TINY).modules())


# --- what is refused


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"steps": 0}, InvalidValue, r"steps=0: expected a whole number >= 1"),
        ({"steps": 1.5}, InvalidType, r"steps=1\.5 \(float\)"),
        ({"depth": 1}, InvalidValue, r"depth=1: .*>= 2"),
        ({"filters": 0}, InvalidValue, r"filters=0"),
        ({"reach": 0}, InvalidValue, r"reach=0: expected a number > 0 \(pixels\)"),
        ({"reach": float("nan")}, InvalidValue, r"reach=nan"),
        ({"reach": float("inf")}, InvalidValue, r"reach=inf"),
        ({"weight": -1.0}, InvalidValue, r"weight=-1\.0: expected a number >= 0"),
        ({"weight": float("nan")}, InvalidValue, r"weight=nan"),
        ({"weight": 0}, InvalidValue, r"steps=3 with weight=0"),
        ({"absolute": 1}, InvalidType, r"absolute=1"),
        ({"restorer": "Unett"}, UnknownName, r"No restorer is called 'Unett'\. Did you mean 'unet'"),
        ({"restorer": None}, InvalidType, r"restorer None: expected a name"),
        ({"grad_steps": 2, "detach": True}, InvalidValue, r"grad_steps=2 with detach=True"),
        ({"base": "restoration"}, InvalidValue, r"base='restoration'"),
        ({"base": smpf.Score()}, InvalidValue, r"base='score'"),
    ],
)
def test_a_wrong_field_is_refused_at_birth(fields, error, words):
    with pytest.raises(error, match=words):
        smpf.Restoration(**fields)


def test_its_config_goes_through_json():
    config = smpf.Restoration(steps=2, base={"steps": 2}, absolute=True)
    assert smpf.Restoration.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert isinstance(config.base, smpf.Recurrent)


def test_steps_and_image_are_checked_before_any_work():
    model = create()
    calls = counted(model, "encoder", "feedback.restorer.down.0")
    for steps, error in ((0, InvalidValue), (1.0, InvalidType), (True, InvalidType)):
        for call in (model, model.iterate, model.trajectory):
            with pytest.raises(error, match="steps="):
                call(torch.rand(1, 3, 64, 64), steps=steps)
    for image in (torch.rand(1, 4, 64, 64), torch.rand(3, 64, 64), torch.ones(1, 3, 64, 64).byte()):
        with pytest.raises(InvalidInput, match="image of"):
            model.iterate(image)
    assert not calls


def test_restoration_and_segmentation_alone_check_what_they_are_given():
    model, image = create().eval(), torch.rand(2, 3, 32, 32)
    for call in (model.restore, model.segment):
        for wrong in (torch.rand(1, 1, 32, 32), torch.rand(3, 32, 32), image.byte()):
            with pytest.raises(InvalidInput, match="image of"):
                call(wrong)
    for shape in ((2, 3, 32, 32), (1, 9, 32, 32), (2, 9, 16, 16)):
        with pytest.raises(InvalidInput, match=r"feedback of shape .*: expected \(2, 9, 32, 32\), or None"):
            model.restore(image, torch.rand(shape))
    for shape in ((1, 3, 32, 32), (2, 3, 32, 1), (3, 32, 32)):  # none is stretched to fit
        with pytest.raises(InvalidInput, match=r"change of shape .* and image of shape \(2, 3, 32, 32\)"):
            model.feed_back(torch.rand(shape), image)


class Flat(Restorer):
    def restore(self, image, begun, feedback):
        return Restored(image.mean(1, keepdim=True))


class Twice(nn.Module):
    def forward(self, image):
        return image, image


class Bare(Restorer):
    def restore(self, image, begun, feedback):
        return image


@pytest.mark.parametrize(
    ("made", "error", "words"),
    [
        (
            nn.Conv2d(3, 3, 3, 2, 1),
            InvalidInput,
            r"restorer Conv2d of .* gives \(1, 3, 32, 32\) of an image \(1, 3, 64, 64\)",
        ),
        (nn.Conv2d(3, 1, 1), InvalidInput, r"restorer Conv2d of .* gives \(1, 1, 64, 64\)"),
        (Twice(), InvalidInput, r"restorer Twice of .* gives a tuple of an image"),
        (Flat(), InvalidInput, r"gives an image \(1, 1, 64, 64\) of one \(1, 3, 64, 64\)"),
        (Bare(), InvalidType, r"The restorer gives a Tensor: expected a Restored"),
        (
            torch.rand,
            InvalidType,
            r"restorer='mine' of .* gives a builtin\w+: expected a torch\.nn\.Module",
        ),
    ],
)
def test_a_restorer_that_makes_no_such_image_is_refused_when_the_model_is_made(restored, made, error, words):
    restored.restorers.register("mine", lambda config, in_channels, classes: made)
    with pytest.raises(error, match=words):
        smpf.wrap(Stub(), smpf.Restoration(restorer="mine"))


class Half(Stub):
    def forward_head(self, features):
        return super().forward_head(features)[..., ::2, ::2]


class Restores(Stub):
    """Has a part that is called as one of the looping model's."""

    def __init__(self):
        super().__init__()
        self.restorer = nn.Identity()


def test_a_base_that_does_not_fit_is_refused():
    with pytest.raises(SurgeryError, match="Half answers logits of 32 x 32 for an image of 64 x 64"):
        smpf.wrap(Half(), TINY)
    with pytest.raises(SurgeryError, match="restorer"):
        smpf.wrap(Restores(), TINY)
    with pytest.raises(SurgeryError, match=r"needs a map of classes, and ResNet gives one answer per image"):
        smpf.create("timm/test_resnet", feedback="restoration")
    with pytest.raises(InvalidValue, match=r"reads logits, and the head's activation"):
        create(activation="softmax2d")


def test_a_loop_goes_around_another_once():
    score = smpf.Score(filters=4, additional_pools=1)
    for inner, outer in ((TINY, score), (score, TINY), (TINY, TINY), (TINY, True)):
        with pytest.raises(InvalidValue, match="looks again already"):
            smpf.wrap(create(inner), outer)
    with pytest.raises(InvalidValue, match="this model's own loop is"):
        smpf.wrap(create(smpf.Recurrent(steps=2)), replace(TINY, base=smpf.Recurrent(steps=9)))
    with pytest.raises(FeedbackError, match="looks again already"):
        smpf.wrap(create(), False)
