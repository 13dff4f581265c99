"""The network: its blocks in NumPy, the recorded network, its parameters, its sizes, and an encoder's weights."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from smp_feedback.errors import InvalidType, InvalidValue
from torch import nn

from smp_feedback_erfnet import ERFNet, encoder_weights_of
from smp_feedback_erfnet.blocks import Downsampler, NonBottleneck1D, Upsampler
from smp_feedback_erfnet.erfnet import DILATIONS

GOLDEN = Path(__file__).parents[3].parent / "shared" / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden arrays are not part of the project")


# --- blocks, in NumPy float64


def filled(module, seed=0):
    """Every weight and statistic drawn, evaluating."""
    generator = torch.Generator().manual_seed(seed)
    for key, value in module.state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator) / max(1, value[0].numel()) ** 0.5
            value.copy_(drawn.abs() + 0.5 if key.endswith("running_var") else drawn)
    return module.double().eval()


def arrays(module):
    return {key: value.numpy() for key, value in module.state_dict().items()}


def conv(x, w, b, stride=1, padding=(0, 0), dilation=(1, 1)):
    """(C, H, W) -> (O, h, w), each place on its own."""
    (ph, pw), (dh, dw), (kh, kw) = padding, dilation, w.shape[2:]
    x = np.pad(x, ((0, 0), (ph, ph), (pw, pw)))
    h, width = ((x.shape[a] - d * (k - 1) - 1) // stride + 1 for a, d, k in ((1, dh, kh), (2, dw, kw)))
    out = np.empty((len(w), h, width))
    for i in range(h):
        for j in range(width):
            seen = x[
                :, i * stride : i * stride + dh * (kh - 1) + 1 : dh, j * stride : j * stride + dw * (kw - 1) + 1 : dw
            ]
            out[:, i, j] = np.tensordot(w, seen, 3) + b
    return out


def norm(x, a, name):
    scale = a[f"{name}.weight"] / np.sqrt(a[f"{name}.running_var"] + 1e-3)
    return scale[:, None, None] * (x - a[f"{name}.running_mean"][:, None, None]) + a[f"{name}.bias"][:, None, None]


def relu(x):
    return np.maximum(x, 0)


@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_a_factorised_block_is_our_own_derivation(dilation):
    block = filled(NonBottleneck1D(5, 0.3, dilation))
    a, x, d = arrays(block), np.random.default_rng(0).standard_normal((2, 5, 9, 7)), dilation
    ours = block(torch.from_numpy(x)).detach().numpy()
    for image, got in zip(x, ours, strict=True):
        y = relu(conv(image, a["conv3x1_1.weight"], a["conv3x1_1.bias"], padding=(1, 0)))
        y = relu(norm(conv(y, a["conv1x3_1.weight"], a["conv1x3_1.bias"], padding=(0, 1)), a, "bn1"))
        y = relu(conv(y, a["conv3x1_2.weight"], a["conv3x1_2.bias"], padding=(d, 0), dilation=(d, 1)))
        y = norm(conv(y, a["conv1x3_2.weight"], a["conv1x3_2.bias"], padding=(0, d), dilation=(1, d)), a, "bn2")
        np.testing.assert_allclose(got, relu(image + y), atol=1e-12)


@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
def test_a_downsampler_is_our_own_derivation_and_rounds_up(size):
    block = filled(Downsampler(3, 8))
    a, x = arrays(block), np.random.default_rng(0).standard_normal((3, *size))
    pooled = np.pad(x, ((0, 0), (0, size[0] % 2), (0, size[1] % 2)), constant_values=-np.inf)
    pooled = pooled.reshape(3, pooled.shape[1] // 2, 2, pooled.shape[2] // 2, 2).max((2, 4))
    y = np.concatenate([conv(x, a["conv.weight"], a["conv.bias"], 2, (1, 1)), pooled])
    ours = block(torch.from_numpy(x)[None])[0].detach().numpy()
    np.testing.assert_allclose(ours, relu(norm(y, a, "bn")), atol=1e-12)


def test_an_upsampler_is_our_own_derivation():
    """Each value is laid down as a 3 x 3 patch, two apart, and the first row and column are cut off."""
    block = filled(Upsampler(4, 3))
    a, x = arrays(block), np.random.default_rng(0).standard_normal((4, 3, 5))
    laid = np.zeros((3, 2 * 3 + 1, 2 * 5 + 1))
    for i in range(3):
        for j in range(5):
            laid[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += np.tensordot(x[:, i, j], a["conv.weight"], 1)
    y = norm(laid[:, 1:, 1:] + a["conv.bias"][:, None, None], a, "bn")
    np.testing.assert_allclose(block(torch.from_numpy(x)[None])[0].detach().numpy(), relu(y), atol=1e-12)


# --- the network


def as_published(key):
    """Our name of a recorded network's weight: its encoder is in two lists, and its last layer in the decoder."""
    key = key.removeprefix("erfnet.").replace("decoder.output_conv", "segmentation_head")
    if key.startswith("encoder.f_layers."):
        number, _, rest = key.removeprefix("encoder.f_layers.").partition(".")
        return f"encoder.layers.{int(number) + 7}.{rest}"
    return key


def recorded_weight(key, shape):
    """The golden arrays' rule: drawn by the name, scaled by the number of inputs, variances positive."""
    drawn = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
    if len(shape) >= 2:
        drawn = drawn / np.float32(np.sqrt(np.prod(shape[1:])))
    elif key.endswith("running_var"):
        drawn = 1 + np.float32(0.1) * np.abs(drawn)
    else:
        drawn = np.float32(0.1) * drawn + (1 if key.endswith("weight") else 0)
    return torch.from_numpy(drawn.astype(np.float32))


@needs_golden
def test_the_recorded_networks_logits():
    meta = json.loads((GOLDEN / "index.json").read_text())["g_unet_erfnet_full"]["meta"]
    net = ERFNet().eval()
    weights = {as_published(k): recorded_weight(k, shape) for k, shape in meta["keys"] if k.startswith("erfnet.")}
    missing, strange = net.load_state_dict(weights, strict=False)
    assert not strange
    assert all(key.endswith("num_batches_tracked") for key in missing)
    with np.load(GOLDEN / "g_unet_erfnet_full.npz") as a, torch.no_grad():
        ours, theirs = net(torch.from_numpy(a["restored_nofb"]))[..., ::2, ::2].numpy(), a["logits"]
    assert np.abs(ours - theirs).max() < 2e-5 * np.abs(theirs).max()


def parameters_by_hand(classes, image=3):
    def down(i, o):
        return (o - i) * (9 * i + 1) + 2 * o

    def block(c):
        return 4 * (3 * c * c + c) + 4 * c

    def up(i, o):
        return o * (9 * i + 1) + 2 * o

    encoder = down(image, 16) + down(16, 64) + 5 * block(64) + down(64, 128) + 8 * block(128)
    decoder = up(128, 64) + 2 * block(64) + up(64, 16) + 2 * block(16)
    return encoder + decoder + 16 * classes * 4 + classes


@pytest.mark.parametrize(("classes", "channels"), [(20, 3), (11, 1), (1, 15)])
def test_it_has_as_many_parameters_as_the_layers_of_the_paper(classes, channels):
    with torch.device("meta"):
        net = ERFNet(channels, classes)
    assert sum(p.numel() for p in net.parameters()) == parameters_by_hand(classes, channels)


def test_with_twenty_classes_these_are_the_published_2_06_million():
    with torch.device("meta"):
        count = sum(p.numel() for p in ERFNet().parameters())
    assert round(count / 1e6, 2) == 2.06
    assert f"{count:,}" in (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_dilations_and_dropout_are_the_published_ones():
    blocks = [part for part in ERFNet().encoder.layers if isinstance(part, NonBottleneck1D)]
    assert [b.conv3x1_2.dilation for b in blocks] == [(1, 1)] * 5 + [(d, 1) for d in DILATIONS]
    assert [b.conv1x3_2.dilation for b in blocks] == [(1, 1)] * 5 + [(1, d) for d in (2, 4, 8, 16) * 2]
    assert [b.dropout.p for b in blocks] == [0.03] * 5 + [0.3] * 8
    assert [b.dropout.p for b in ERFNet(dropout=(0, 0.5)).encoder.layers if isinstance(b, NonBottleneck1D)] == [
        *[0] * 5,
        *[0.5] * 8,
    ]
    decoder = [part for part in ERFNet().decoder.modules() if isinstance(part, nn.Dropout2d)]
    assert len(decoder) == 4
    assert not any(part.p for part in decoder)


def test_a_larger_image_changes_nothing_far_from_its_new_rows():
    """Odd sizes are rounded up at the far side: the first pixels lie where they lay."""
    net = ERFNet(classes=2).double().eval()
    wide = torch.rand(1, 3, 8, 1024, dtype=torch.float64)
    with torch.no_grad():
        part = net(wide[..., :1021])
        assert part.shape == (1, 2, 8, 1021)
        torch.testing.assert_close(part[..., :200], net(wide)[..., :200])


@pytest.mark.parametrize("size", [(1, 1), (9, 8), (31, 47)])
def test_logits_are_of_the_images_size(size):
    with torch.no_grad():
        assert ERFNet(classes=2).eval()(torch.rand(1, 3, *size)).shape == (1, 2, *size)


@pytest.mark.parametrize(
    ("told", "error", "words"),
    [
        ({"in_channels": 16}, InvalidValue, "in_channels=16: expected 1 to 15"),
        ({"in_channels": 0}, InvalidValue, "in_channels=0"),
        ({"classes": 2.0}, InvalidType, r"classes=2\.0"),
        ({"dropout": 0.3}, InvalidType, r"dropout=0\.3: expected two numbers from 0 to 1"),
        ({"dropout": (0.1, 1.5)}, InvalidValue, r"dropout=1\.5: expected a number from 0 to 1"),
        ({"dropout": (-0.1, 0)}, InvalidValue, r"dropout=-0\.1"),
        ({"encoder_weights": 3}, InvalidType, "encoder_weights=3: expected None or the path"),
        ({"encoder_weights": "imagenet"}, InvalidValue, "encoder_weights='imagenet': expected a file of weights"),
    ],
)
def test_what_it_cannot_be_made_of_is_said(told, error, words):
    with pytest.raises(error, match=words):
        ERFNet(**told)


# --- an encoder's weights


def drawn_encoder():
    """A state dict of no network that a test builds afterwards, without counts of batches, as old torch wrote it."""
    state = filled(ERFNet(classes=2), seed=7).float().encoder.state_dict()
    return {key: value for key, value in state.items() if "num_batches" not in key}


def as_two_lists(key):
    number = int(key.split(".")[1]) if key.startswith("layers.") else 0
    return key.replace(f"layers.{number}.", f"f_layers.{number - 7}.") if number >= 7 else key


def lands(path, expected):
    got = ERFNet(classes=4, encoder_weights=path).encoder.state_dict()
    return all(torch.equal(got[key], value) for key, value in expected.items())


@pytest.mark.parametrize("start", ["", "module.features.encoder.", "encoder.", "module.encoder."])
@pytest.mark.parametrize("form", ["pth", "nested", "safetensors"])
def test_exactly_these_tensors_land(start, form, tmp_path):
    encoder = drawn_encoder()
    weights = {f"{start}{key}": value for key, value in encoder.items()}
    beside = start.removesuffix("features.encoder.").removesuffix("encoder.")
    weights |= {f"{beside}classifier.linear.weight": torch.ones(1000, 128), f"{start}output_conv.bias": torch.ones(9)}
    path = tmp_path / f"encoder.{'safetensors' if form == 'safetensors' else 'pth.tar'}"
    if form == "safetensors":
        save_file(weights, path)
    else:
        torch.save({"epoch": 3, "arch": "erfnet", "state_dict": weights} if form == "nested" else weights, path)
    assert lands(path, encoder)
    assert lands(str(path), encoder)
    assert not lands(path, {"initial_block.conv.bias": torch.ones(13)})


def test_those_of_a_whole_network_and_of_its_two_lists_do_too(tmp_path):
    net = filled(ERFNet(classes=2), seed=7).float()
    torch.save(net.state_dict(), tmp_path / "whole.pth")
    assert lands(tmp_path / "whole.pth", drawn_encoder())
    torch.save({as_two_lists(key): value for key, value in drawn_encoder().items()}, tmp_path / "lists.pth")
    assert lands(tmp_path / "lists.pth", drawn_encoder())


def test_the_rest_of_the_network_begins_at_random_as_without_them(tmp_path):
    torch.save(drawn_encoder(), tmp_path / "encoder.pth")
    torch.manual_seed(5)
    plain = ERFNet(classes=2)
    torch.manual_seed(5)
    ours = ERFNet(classes=2, encoder_weights=tmp_path / "encoder.pth")
    assert all(torch.equal(a, b) for a, b in zip(ours.decoder.parameters(), plain.decoder.parameters(), strict=True))


def without(weights, name):
    return {key: value for key, value in weights.items() if name not in key}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: without(w, "layers.4.bn1"), r"it lacks layers\.4\.bn1\.weight, .* \(?layers\.4\.bn1"),
        (lambda w: without(w, "layers.4"), r"it lacks layers\.4\.conv3x1_1\.weight, .* and 12 more"),
        (lambda w: w | {"layers.15.bn.weight": torch.ones(1)}, r"it has besides layers\.15\.bn\.weight"),
        (
            lambda w: w | {"layers.0.conv.bias": torch.ones(5)},
            r"layers\.0\.conv\.bias of shape \(5,\), expected \(48,\)\.$",
        ),
        (lambda w: w | {"layers.0.conv.bias": "no tensor"}, r"layers\.0\.conv\.bias of shape \(\), expected \(48,\)"),
        (lambda w: without(w, "initial_block"), r"holds no encoder of ERFNet: expected one key that ends in initial"),
        (lambda w: w | {"b.initial_block.conv.weight": torch.ones(1)}, r"holds 2 encoders, under \['', 'b\.'\]"),
        (lambda w: {}, "holds no encoder of ERFNet.*it has none"),
        (lambda w: [1, 2], "holds a list: expected a state dict"),
    ],
)
def test_what_does_not_match_is_named(change, words, tmp_path):
    torch.save(change(drawn_encoder()), tmp_path / "encoder.pth")
    with pytest.raises(InvalidValue, match=words):
        ERFNet(encoder_weights=tmp_path / "encoder.pth")


def test_weights_of_colour_images_are_not_those_of_grey_ones(tmp_path):
    torch.save(drawn_encoder(), tmp_path / "encoder.pth")
    with pytest.raises(InvalidValue, match=r"initial_block\.conv\.weight of shape \(13, 3, 3, 3\).*in_channels\."):
        ERFNet(1, encoder_weights=tmp_path / "encoder.pth")


class Running:
    def __reduce__(self):
        return print, ("this ran",)


def test_a_file_that_would_run_code_or_is_none_is_refused(tmp_path, capsys):
    torch.save({"state_dict": Running()}, tmp_path / "code.pth")
    (tmp_path / "text.pth").write_text("weights")
    (tmp_path / "more.pth").write_text("hello world")  # its first letter tells a pickle to look something up
    (tmp_path / "text.safetensors").write_text("weights")
    (tmp_path / "empty.pth").touch()
    for name in ("code.pth", "text.pth", "more.pth", "text.safetensors", "empty.pth"):
        with pytest.raises(InvalidValue, match=f"{name}' cannot be read as weights alone: "):
            encoder_weights_of(tmp_path / name, {})
    assert "this ran" not in capsys.readouterr().out
