"""FCN-8s against its layer table, derived again in NumPy, and its crops against the geometry of its strides."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torchvision
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from torch import nn
from torch.nn import functional as F
from torchvision.models.vgg import VGG, make_layers

from smp_feedback_fcn import FCN8s, vgg
from smp_feedback_fcn.fcn8 import CUT

STAGES = {1: 2, 2: 2, 3: 3, 4: 3, 5: 3}
SMALL = 1 / 32


def conv(x, weights, name, pad):
    """(C, H, W) -> (C', H', W'), stride 1."""
    kernel = weights[f"{name}.weight"]
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    seen = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], (1, 2))
    return np.tensordot(kernel, seen, ((1, 2, 3), (0, 3, 4))) + weights[f"{name}.bias"][:, None, None]


def deconv(x, weights, name, stride):
    """Each pixel of (C, h, w) puts down its kernel, *stride* pixels further than the one before."""
    kernel = weights[f"{name}.weight"]
    _, outputs, k, _ = kernel.shape
    _, h, w = x.shape
    out = np.zeros((outputs, stride * (h - 1) + k, stride * (w - 1) + k))
    for i in range(h):
        for j in range(w):
            patch = np.tensordot(x[:, i, j], kernel, (0, 0))
            out[:, i * stride : i * stride + k, j * stride : j * stride + k] += patch
    return out + weights[f"{name}.bias"][:, None, None]


def pool(x):
    c, h, w = x.shape
    return x[:, : h // 2 * 2, : w // 2 * 2].reshape(c, h // 2, 2, w // 2, 2).max((2, 4))


def over(x, like, offset):
    """The part of *x* that *like* is summed with: its middle, or from row and column *offset* on."""
    (h, w), (H, W) = like[-2:], x.shape[-2:]
    top, left = ((H - h) // 2, (W - w) // 2) if offset is None else (offset, offset)
    return x[:, top : top + h, left : left + w]


def derived(image, w, *, relu, offsets):
    """The table, row by row: (C, H, W) -> (classes, H, W)."""
    x, pools = image, {}
    for stage, count in STAGES.items():
        for i in range(1, count + 1):
            x = np.maximum(conv(x, w, f"encoder.conv{stage}_{i}", 100 if (stage, i) == (1, 1) else 1), 0)
        x = pools[stage] = pool(x)
    x = np.maximum(conv(x, w, "encoder.fc6", 0), 0)
    x = np.maximum(conv(x, w, "encoder.fc7", 0), 0)
    scored = (lambda s: np.maximum(s, 0)) if relu else (lambda s: s)
    x = deconv(scored(conv(x, w, "decoder.score_fr", 0)), w, "decoder.upscore2", 2)
    x = x + over(scored(conv(pools[4], w, "decoder.score_pool4", 0)), x.shape, offsets[0])
    x = deconv(x, w, "decoder.upscore_pool4", 2)
    x = x + over(scored(conv(pools[3], w, "decoder.score_pool3", 0)), x.shape, offsets[1])
    return over(deconv(x, w, "segmentation_head", 8), image.shape, offsets[2])


@pytest.mark.parametrize(
    ("told", "offsets"),
    [
        ({}, (None, None, None)),
        ({"score_relu": False}, (None, None, None)),
        ({"crop": "aligned"}, (5, 9, 31)),
    ],
)
@pytest.mark.parametrize("size", [(37, 50), (26, 83)])
def test_it_is_its_layer_table(told, offsets, size):
    net = FCN8s(2, 3, width=SMALL, **told).double().eval()
    for name, parameter in net.named_parameters():
        if name.endswith("bias") or "upscore" in name or "segmentation_head" in name:  # which begin as something simple
            nn.init.normal_(parameter, std=0.3)
    image = torch.randn(1, 2, *size, dtype=torch.float64)
    weights = {key: value.numpy() for key, value in net.state_dict().items()}
    expected = derived(image[0].numpy(), weights, relu=told.get("score_relu", True), offsets=offsets)
    with torch.no_grad():
        found = net(image)[0].numpy()
    assert found.shape == (3, *size)
    assert np.abs(found - expected).max() < 1e-10 * np.abs(expected).max()


def fed_with_positions(height, crop):
    """Logits of rows 64 to 128 if each scored pixel holds the row of the image that its middle lies over.

    Row i after k poolings is the middle of 2^k rows of the first convolution's, which begin 99 above the image; fc6's
    row i looks at rows i to i + 6 of pool5. What is interpolated of rows is the row itself, away from the border.
    """
    net = FCN8s(classes=1, width=1e-4, score_relu=False, crop=crop).double()
    features = [torch.zeros(1, 1, 1, 1)] * 7
    for index, k in ((3, 3), (4, 4), (6, 5)):
        lost = 6 if k == 5 else 0
        h, w = ((side + 198) // 2**k - lost for side in (height, 192))
        rows = 2**k * (torch.arange(h, dtype=torch.float64) + lost / 2) + (2**k - 1) / 2 - 99
        features[index] = rows[None, None, :, None].expand(1, 1, h, w)
    for score in (net.decoder.score_fr, net.decoder.score_pool4, net.decoder.score_pool3):
        nn.init.ones_(score.weight)
    with torch.no_grad():
        return CUT.head(net, net.decoder(features), (height, 192))[0, 0, 64:129, 96]


ROWS = torch.arange(64, 129, dtype=torch.float64)


@pytest.mark.parametrize("height", range(192, 224))
def test_aligned_crops_put_every_score_over_its_own_pixels(height):
    assert torch.allclose(fed_with_positions(height, "aligned"), 3 * ROWS, atol=1e-9)


@pytest.mark.parametrize("height", [*range(192, 224), 360, 480])
def test_centred_crops_are_off_by_up_to_sixteen_pixels_depending_on_the_size(height):
    rest = (height + 198) % 32
    early, pool3_late = (rest + 1) // 2, 8 * (rest >= 16)
    assert torch.allclose(fed_with_positions(height, "center"), 3 * (ROWS - early) + pool3_late, atol=1e-9)
    assert 0 <= early <= 16


@pytest.mark.parametrize(("classes", "parameters"), [(11, 134_348_962), (21, 134_489_822)])
def test_it_has_as_many_parameters_as_its_table_says(classes, parameters):
    def of(inputs, outputs, kernel):
        return inputs * outputs * kernel**2 + outputs

    widths = [3, 64, 64, 128, 128, *[256] * 3, *[512] * 6]
    count = sum(of(a, b, 3) for a, b in itertools.pairwise(widths)) + of(512, 4096, 7) + of(4096, 4096, 1)
    count += sum(of(width, classes, 1) for width in (4096, 512, 256))
    count += sum(of(classes, classes, kernel) for kernel in (4, 4, 16))
    with torch.device("meta"):
        net = FCN8s(classes=classes)
    assert sum(p.numel() for p in net.parameters()) == count == parameters


@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (16, 8)])
def test_upsampling_begins_as_bilinear_interpolation_of_each_class(kernel, stride):
    net = FCN8s(classes=3, width=SMALL)
    layer = net.decoder.upscore2 if kernel == 4 else net.segmentation_head
    x = torch.randn(1, 3, 6, 7)
    margin = stride // 2  # before the first middle of a pixel there is nothing to interpolate
    expected = F.interpolate(x, scale_factor=stride, mode="bilinear", align_corners=False)
    inner = (..., slice(margin, -margin), slice(margin, -margin))
    with torch.no_grad():
        found = layer(x)[inner]
    assert torch.allclose(found[inner], expected[inner], atol=1e-6)


def narrow_vgg(widths, top):
    """torchvision's VGG16, of fewer channels."""
    config = [v for width, count in zip(widths, STAGES.values(), strict=True) for v in [width] * count + ["M"]]
    net = VGG(make_layers(config), num_classes=5)
    net.classifier[0], net.classifier[3] = nn.Linear(widths[-1] * 49, top), nn.Linear(top, top)
    return net.eval()


def test_torchvisions_weights_make_the_encoder_the_vgg16_that_they_are_of():
    theirs = narrow_vgg((2, 4, 8, 16, 16), 128)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.1)
    encoder = vgg.vgg16(3, SMALL).eval()
    encoder.load_state_dict(vgg.from_torchvision(theirs.state_dict()))
    encoder.conv1_1.padding = (1, 1)  # as torchvision's
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        *_, pool5, top = encoder(image)
        assert torch.equal(pool5, theirs.features(image))
        expected = theirs.classifier[:6](pool5.flatten(1))
    assert expected.std() > 0
    assert torch.allclose(top[:, :, 0, 0], expected, atol=1e-5)


def test_imagenet_weights_are_torchvisions(monkeypatch):
    def get_state_dict(self, **told):
        assert told["weights_only"]
        asked.append(self)
        return theirs

    asked = []
    with torch.device("meta"):
        theirs = torchvision.models.vgg16().state_dict()
    monkeypatch.setattr(torchvision.models.VGG16_Weights, "get_state_dict", get_state_dict)
    with torch.device("meta"):
        net = FCN8s(classes=11, encoder_weights="imagenet")
    assert asked == [torchvision.models.VGG16_Weights.IMAGENET1K_V1]
    shapes = {key: value.shape for key, value in vgg.imagenet().items()}
    assert shapes == {key: value.shape for key, value in net.encoder.state_dict().items()}


def test_weights_of_something_else_are_refused():
    with pytest.raises(InvalidValue, match=r"no features\.0\.weight: expected those of torchvision's vgg16"):
        vgg.from_torchvision({})
    for told in ({"width": 0.5}, {"in_channels": 4}):
        with pytest.raises(InvalidValue, match=r"expected in_channels=3 and width=1, got .* encoder_weights=None"):
            FCN8s(encoder_weights="imagenet", **told)
    with pytest.raises(InvalidValue, match=r"encoder_weights='imagenets'.*Did you mean 'imagenet'"):
        FCN8s(encoder_weights="imagenets")


@pytest.mark.parametrize(
    ("told", "error", "words"),
    [
        ({"width": 0}, InvalidValue, "width=0: expected a number > 0"),
        ({"score_relu": 1}, InvalidType, "score_relu=1"),
        ({"crop": "centre"}, InvalidValue, r"crop='centre'.*Did you mean 'center'"),
        ({"classes": 0}, InvalidValue, "classes=0"),
        ({"in_channels": 2.0}, InvalidType, r"in_channels=2\.0"),
        ({"dropout": 1.5}, ValueError, "between 0 and 1, but got 1.5"),
    ],
)
def test_what_it_cannot_be_made_of_is_said(told, error, words):
    with pytest.raises(error, match=words):
        FCN8s(**told)


def test_an_image_that_leaves_fc6_no_place_is_refused_and_one_pixel_more_is_taken():
    net = FCN8s(width=SMALL).eval()
    for size in ((25, 40), (40, 25)):
        with pytest.raises(InvalidInput, match=r"image of \d+ x \d+: expected at least 26 x 26"):
            net(torch.rand(1, 3, *size))
    assert net(torch.rand(1, 3, 26, 26)).shape == (1, 1, 26, 26)


def test_its_layers_bear_the_names_of_the_published_model():
    convs = [f"conv{stage}_{i}" for stage, count in STAGES.items() for i in range(1, count + 1)]
    net = FCN8s(width=1 / 16).eval()
    assert net.name == "fcn8s-vgg16"
    names = dict(net.named_modules())
    for name in (*convs, *(f"pool{i}" for i in STAGES), "fc6", "drop6", "fc7", "relu7"):
        assert f"encoder.{name}" in names
    given = []
    net.get_submodule("encoder.pool4").register_forward_hook(lambda *call: given.append(call[-1]))
    net(torch.rand(1, 3, 40, 72))
    assert given[0].shape == (1, 512 // 16, (40 + 198) // 16, (72 + 198) // 16)
    assert given[0].min() >= 0


def test_dropout_follows_fc6_and_fc7_alone():
    found = {name: part.p for name, part in FCN8s(width=SMALL).named_modules() if isinstance(part, nn.Dropout)}
    assert found == {"encoder.drop6": 0.5, "encoder.drop7": 0.5}
