"""The decoders against their mathematics, derived again in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import smp_feedback as smpf
import torch
from smp_feedback.errors import InvalidValue
from smp_feedback.testing import check_agreement, check_heard, check_lossless
from smp_feedback.testing.conformance import check_labels
from torch import nn
from torch.nn import functional as F

from smp_feedback_vit import ViTSegmenter
from smp_feedback_vit.decoders import MaskTransformer

BLOCK_EPS = 1e-6  # timm's layers; 1e-5 is torch's


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0)


def layer_norm(x, weights, name, eps=1e-5):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def transformer_layer(x, w, name, heads):
    """x + attention(norm(x)), then x + mlp(norm(x)), of tokens (N, D)."""
    d = x.shape[1]
    q, k, v = np.split(linear(layer_norm(x, w, f"{name}.norm1", BLOCK_EPS), w, f"{name}.attn.qkv"), 3, axis=1)
    parts = []
    for h in range(heads):
        s = slice(h * d // heads, (h + 1) * d // heads)
        parts.append(softmax(q[:, s] @ k[:, s].T / math.sqrt(d // heads)) @ v[:, s])
    x = x + linear(np.concatenate(parts, 1), w, f"{name}.attn.proj")
    hidden = linear(layer_norm(x, w, f"{name}.norm2", BLOCK_EPS), w, f"{name}.mlp.fc1")
    gelu = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    return x + linear(gelu, w, f"{name}.mlp.fc2")


def cosines(x, w, heads, layers):
    """Segmenter's decoder, (D, h, w) -> (classes, h, w)."""
    d, height, width = x.shape
    tokens = np.concatenate([linear(x.reshape(d, -1).T, w, "project"), w["classes"][0]])
    for layer in range(layers):
        tokens = transformer_layer(tokens, w, f"layers.{layer}", heads)
    tokens = layer_norm(tokens, w, "norm")
    patches = tokens[: height * width] @ w["of_patch.weight"].T
    classes = tokens[height * width :] @ w["of_class.weight"].T
    patches /= np.linalg.norm(patches, axis=1, keepdims=True)
    classes /= np.linalg.norm(classes, axis=1, keepdims=True)
    return layer_norm(patches @ classes.T, w, "norm_classes").T.reshape(-1, height, width)


def shaken(module):
    for parameter in module.parameters():  # biases and norms too, which start at 0 and 1
        nn.init.normal_(parameter, std=0.3)
    return module.double().eval()


@pytest.mark.parametrize(("width", "heads", "layers"), [(64, 1, 1), (128, 2, 2)])
def test_the_mask_transformer_is_cosines_of_patch_and_class_tokens(width, heads, layers):
    decoder = shaken(MaskTransformer(width, 4, layers))
    for block in decoder.layers:
        assert block.attn.num_heads == heads
    x = torch.randn(2, width, 2, 3, dtype=torch.float64)
    weights = {key: value.numpy() for key, value in decoder.state_dict().items()}
    expected = np.stack([cosines(image.numpy(), weights, heads, layers) for image in x])
    with torch.no_grad():
        found = decoder(x).numpy()
    assert np.abs(found - expected).max() < 1e-9


def test_the_linear_decoder_is_one_matrix_for_all_patches_and_bilinear_between_them():
    net = ViTSegmenter("vit_tiny_patch16_224", classes=3, depth=1, img_size=32).eval()
    image = torch.rand(1, 3, 32, 48)
    conv = net.segmentation_head[0]
    with torch.no_grad():
        nn.init.normal_(conv.bias)
        tokens = net.encoder.model.forward_features(image)[0, 1:]
        scores = (tokens @ conv.weight[:, :, 0, 0].T + conv.bias).T.reshape(1, 3, 2, 3)
        answer = net(image)
    # between the centres of two patches, 16 pixels apart, the logits are a straight line
    line = answer[0, 0, 7, 8:24]
    assert torch.allclose(line.diff(), line.diff().mean().expand(15), atol=1e-5)
    assert torch.allclose(answer, F.interpolate(scores, (32, 48), mode="bilinear", align_corners=False), atol=1e-5)
    assert torch.allclose(answer[0, :, 0, 0], scores[0, :, 0, 0], atol=1e-5)


def test_one_class_has_nothing_to_normalise_over():
    with pytest.raises(InvalidValue, match=r"classes=1.*Give two or more, or decoder='linear'"):
        smpf.create("ViTSegmenter", "vit_tiny_patch16_224", decoder="mask_transformer")


def test_the_mask_transformer_learns_in_all_of_its_weights_and_looks_again():
    model = smpf.create("ViTSegmenter", "test_vit", classes=3, decoder="mask_transformer", img_size=32)
    model(torch.rand(2, 3, 32, 48)).square().mean().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert [name for name in still if name.startswith("decoder.")] == []
    check_agreement(model, torch.rand(2, 3, 32, 48))
    check_heard(model, torch.rand(2, 3, 32, 48))
    check_lossless(ViTSegmenter("test_vit", classes=3, decoder="mask_transformer"), torch.rand(1, 3, 32, 32))


def test_aux_params_give_labels_as_in_smp():
    model = smpf.create("ViTSegmenter", "test_vit", classes=3, img_size=32, aux_params={"classes": 4})
    masks, labels = model.eval()(torch.rand(2, 3, 32, 48))
    assert masks.shape == (2, 3, 32, 48)
    assert labels.shape == (2, 4)
    check_labels(model, torch.rand(2, 3, 32, 48))
