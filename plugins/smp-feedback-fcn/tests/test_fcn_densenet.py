"""FC-DenseNet against its published tables, and its parts against a derivation in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from torch import nn

from smp_feedback_fcn import FCDenseNet
from smp_feedback_fcn.densenet import fc_densenet56, fc_densenet67, fc_densenet103

PUBLISHED = {56: fc_densenet56, 67: fc_densenet67, 103: fc_densenet103}
SMALL = {"blocks": (2, 1, 3, 1, 2), "growth": 2, "first_channels": 3}


def on_meta(depth, **told):
    with torch.device("meta"):
        return PUBLISHED[depth](classes=11, **told)


def conv(x, weights, name):
    """(B, C, H, W) -> (B, C', H, W): an odd kernel, stride 1, padded with zeros."""
    kernel = weights[f"{name}.weight"]
    pad = kernel.shape[-1] // 2
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    seen = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], (2, 3))
    return np.einsum("oikl,bihwkl->bohw", kernel, seen) + weights[f"{name}.bias"][:, None, None]


def layer(x, weights, name):
    """Batch normalisation, by running statistics where there are any; ReLU; convolution."""
    if f"{name}.norm.running_mean" in weights:
        mean, variance = weights[f"{name}.norm.running_mean"], weights[f"{name}.norm.running_var"]
    else:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    scale = weights[f"{name}.norm.weight"] / np.sqrt(variance + 1e-5)
    x = (x - mean[:, None, None]) * scale[:, None, None] + weights[f"{name}.norm.bias"][:, None, None]
    return conv(np.maximum(x, 0), weights, f"{name}.conv")


def block(x, weights, name, count):
    """What came in and what is new."""
    new = np.zeros_like(x[:, :0])
    for i in range(count):
        new = np.concatenate([new, layer(np.concatenate([x, new], 1), weights, f"{name}.layers.{i}")], 1)
    return x, new


def up(x, skip, weights, name):
    """A transposed 3 x 3 convolution of stride 2, its last row or column left out where *skip* has none."""
    kernel = weights[f"{name}.conv.weight"]
    b, _, h, w = x.shape
    out = np.zeros((b, kernel.shape[1], 2 * h + 1, 2 * w + 1))
    for a in range(3):
        for c in range(3):
            out[:, :, a : a + 2 * h : 2, c : c + 2 * w : 2] += np.einsum("io,bihw->bohw", kernel[:, :, a, c], x)
    out += weights[f"{name}.conv.bias"][:, None, None]
    return np.concatenate([out[:, :, : skip.shape[2], : skip.shape[3]], skip], 1)


def pool(x):
    b, c, h, w = x.shape
    return x[:, :, : h // 2 * 2, : w // 2 * 2].reshape(b, c, h // 2, 2, w // 2, 2).max((3, 5))


def derived(image, w, blocks):
    """(B, C, H, W) -> (B, classes, H, W)."""
    depth = len(blocks) // 2
    x, skips = conv(image, w, "encoder.first"), []
    for i in range(1, depth + 1):
        skips.append(np.concatenate(block(x, w, f"encoder.block{i}", blocks[i - 1]), 1))
        x = pool(layer(skips[-1], w, f"encoder.down{i}"))
    _, x = block(x, w, "encoder.bottom", blocks[depth])
    for i in range(depth):
        old, new = block(up(x, skips.pop(), w, f"decoder.ups.{i}"), w, f"decoder.blocks.{i}", blocks[depth + 1 + i])
        x = new if skips else np.concatenate([old, new], 1)
    return conv(x, w, "segmentation_head")


@pytest.mark.parametrize("batch_statistics", [False, True])
@pytest.mark.parametrize("size", [(8, 12), (11, 14)])
def test_it_is_dense_blocks_that_are_upsampled_by_what_is_new_in_them(size, batch_statistics):
    net = FCDenseNet(2, 5, **SMALL, batch_statistics=batch_statistics).double().eval()
    for name, tensor in net.state_dict().items():  # norms and biases too, which begin as something simple
        if tensor.ndim == 1:
            (nn.init.uniform_ if "var" in name or "norm.weight" in name else nn.init.normal_)(tensor)
    image = torch.randn(2, 2, *size, dtype=torch.float64)
    weights = {key: value.numpy() for key, value in net.state_dict().items()}
    expected = derived(image.numpy(), weights, SMALL["blocks"])
    with torch.no_grad():
        found = net(image).numpy()
    assert found.shape == (2, 5, *size)
    assert np.abs(found - expected).max() < 1e-10 * np.abs(expected).max()


def test_batch_statistics_are_those_of_training_and_keep_none_to_run():
    net = FCDenseNet(classes=2, **SMALL, dropout=0.0, batch_statistics=True)
    image = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        training = net.train()(image)
        assert torch.equal(net.eval()(image), training)
        assert not torch.allclose(net(image[:1]), training[:1], atol=1e-4)  # another batch
    assert not [key for key in net.state_dict() if "running" in key or "tracked" in key]
    kept = FCDenseNet(classes=2, **SMALL).state_dict()
    assert {key for key in kept if "running" not in key and "tracked" not in key} == net.state_dict().keys()


def test_the_hundred_layers_have_the_published_widths():
    net = on_meta(103)
    assert net.encoder.out_channels == (112, 192, 304, 464, 656, 240)
    downs = [getattr(net.encoder, f"down{i}").conv for i in range(1, 6)]
    assert [(down.in_channels, down.out_channels) for down in downs] == [(m, m) for m in (112, 192, 304, 464, 656)]
    assert [up.conv.in_channels for up in net.decoder.ups] == [240, 192, 160, 112, 80]
    assert [up.conv.out_channels for up in net.decoder.ups] == [240, 192, 160, 112, 80]
    # with what is read: table 2 of the paper, whose numbers from the bottleneck on are, as its authors say, 16 too few
    stacks = [m.layers[-1].norm.num_features + 16 for m in (net.encoder.bottom, *net.decoder.blocks)]
    assert stacks == [880 + 16, 1072 + 16, 800 + 16, 560 + 16, 368 + 16, 256]
    assert net.segmentation_head.in_channels == 256


@pytest.mark.parametrize("depth", PUBLISHED)
def test_its_name_counts_its_convolutions(depth):
    net = on_meta(depth)
    convs = [part for part in net.modules() if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d))]
    assert len(convs) == depth
    assert net.name == f"fc-densenet{depth}"


def parameters_by_formula(blocks, growth, first=48, classes=11):
    """(parameters, running statistics): of the tables alone."""

    def of_conv(inputs, outputs, kernel):
        return inputs * outputs * kernel**2 + outputs

    norms, count = [], of_conv(3, first, 3)

    def of_block(inputs, layers):
        nonlocal count
        for i in range(layers):
            norms.append(inputs + i * growth)
            count += of_conv(inputs + i * growth, growth, 3)
        return layers * growth

    width, skips, depth = first, [], len(blocks) // 2
    for layers in blocks[:depth]:
        width += of_block(width, layers)
        skips.append(width)
        norms.append(width)
        count += of_conv(width, width, 1)
    new = of_block(width, blocks[depth])
    for layers in blocks[depth + 1 :]:
        count += of_conv(new, new, 3)
        stack = new + skips.pop()
        new = of_block(stack, layers)
    return count + of_conv(stack + new, classes, 1) + 2 * sum(norms), 2 * sum(norms)


@pytest.mark.parametrize(
    ("depth", "blocks", "growth", "millions"),
    [
        (56, (4,) * 11, 12, 1.4),  # 1.5 in the paper
        (67, (5,) * 11, 16, 3.5),
        (103, (4, 5, 7, 10, 12, 15, 12, 10, 7, 5, 4), 16, 9.4),
    ],
)
def test_it_has_as_many_parameters_as_its_tables_say(depth, blocks, growth, millions):
    net = on_meta(depth)
    parameters, statistics = parameters_by_formula(blocks, growth)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert sum(b.numel() for name, b in net.named_buffers() if "running" in name) == statistics
    assert round((parameters + statistics) / 1e6, 1) == millions  # the paper's library counts these, too


def test_it_begins_uniformly_as_he_et_al():
    for name, parameter in fc_densenet56(growth=8, first_channels=16).named_parameters():
        if parameter.ndim == 4 and parameter.numel() > 1000:
            bound = math.sqrt(6 / parameter[0].numel())
            assert 0.98 * bound < parameter.abs().max() <= bound, name
            assert float(parameter.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.1), name
        elif name.endswith("conv.bias"):
            assert not parameter.any(), name


def test_every_layer_and_way_down_drops_a_fifth():
    found = [part.p for part in on_meta(103).modules() if isinstance(part, nn.Dropout)]
    assert found == [0.2] * (103 - 2 - 5)


@pytest.mark.parametrize(
    ("told", "error", "words"),
    [
        ({"blocks": (2, 2)}, InvalidValue, r"blocks=\(2, 2\): expected an odd number of dense blocks"),
        ({"blocks": (2,)}, InvalidValue, "three or more"),
        ({"blocks": (2, 0, 2)}, InvalidValue, "blocks=0: expected a whole number >= 1"),
        ({"growth": 1.5}, InvalidType, r"growth=1\.5"),
        ({"batch_statistics": None}, InvalidType, "batch_statistics=None"),
    ],
)
def test_what_it_cannot_be_made_of_is_said(told, error, words):
    with pytest.raises(error, match=words):
        FCDenseNet(**told)


def test_an_image_that_the_poolings_leave_nothing_of_is_refused():
    net = FCDenseNet(classes=2, **SMALL).eval()
    with pytest.raises(InvalidInput, match=r"image of 3 x 8: expected at least 4 x 4"):
        net(torch.rand(1, 3, 3, 8))
    assert net(torch.rand(1, 3, 4, 4)).shape == (1, 2, 4, 4)
    alone = FCDenseNet(classes=2, **SMALL, batch_statistics=True).eval()
    with pytest.raises(InvalidInput, match=r"one image of 5 x 7 is a single pixel at the bottom.*expected 8 pixels"):
        alone(torch.rand(1, 3, 5, 7))
    assert alone(torch.rand(1, 3, 4, 8)).shape == (1, 2, 4, 8)
    assert alone(torch.rand(2, 3, 4, 4)).shape == (2, 2, 4, 4)
