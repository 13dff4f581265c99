"""Feedback between encoder and decoder: exact for every architecture, and the encoder runs once per image."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections import OrderedDict

import pytest
import segmentation_models_pytorch as smp
import torch
from conftest import SMPS, a_few
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.config.parse import as_config
from smp_feedback.errors import InvalidType, InvalidValue, SurgeryError
from smp_feedback.exporting.export import export
from smp_feedback.registry.public import catalogue
from smp_feedback.surgery.cuts import cut_of
from smp_feedback.surgery.feature_tree import places_in, put_together, taken_apart
from smp_feedback.testing import check_agreement, check_cut, check_heard, check_looks, check_lossless, check_same_keys
from smp_feedback.testing import conformance as promised

IMAGE = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
STEPS = 3
TINY = {"encoder_name": "tu-test_resnet.r160_in1k", "encoder_weights": None}
SHALLOW = {**TINY, "encoder_depth": 3}
SLIM = {**SHALLOW, "decoder_channels": (16, 8, 8)}
VIT = {
    **{"encoder_name": "tu-test_vit.r160_in1k", "encoder_weights": None, "dynamic_img_size": True},
    **{"decoder_intermediate_channels": (8, 8, 8, 8), "decoder_fusion_channels": 8},
}
# each architecture as small as it goes; which of its encoder's features its decoder reads, as smp's sources have it
# (0 is the image), the finest first; the side of its image where that matters
CASES = {
    "DPT": (VIT, [1, 2, 3, 4]),
    "DeepLabV3": (SHALLOW | {"decoder_channels": 8}, [3]),
    "DeepLabV3Plus": (SHALLOW | {"decoder_channels": 8}, [2, 3]),
    "FPN": (TINY | {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32}, [2, 3, 4, 5]),
    "Linknet": (SHALLOW, [1, 2, 3]),
    "MAnet": (SLIM, [1, 2, 3]),
    "PAN": (TINY | {"decoder_channels": 8}, [2, 3, 4, 5]),
    "PSPNet": (SHALLOW | {"psp_out_channels": 8}, [3]),
    "Segformer": (SHALLOW | {"decoder_segmentation_channels": 8}, [1, 2, 3]),
    "UPerNet": (SHALLOW | {"decoder_channels": 8}, [2, 3]),
    "Unet": (SLIM, [1, 2, 3]),
    "UnetPlusPlus": (SLIM, [1, 2, 3]),
    "NeumannUnet": (SLIM, [1, 2, 3]),
    "DFMDeepLabV3Plus": ({"encoder_name": "resnet18", "encoder_weights": None, "decoder_channels": 8}, [2, 5]),
    "torchvision/lraspp_mobilenet_v3_large": ({"encoder_weights": None}, [1, 2]),
}
SLOW = ("DFMDeepLabV3Plus", "torchvision/lraspp_mobilenet_v3_large")
EVERY = a_few(CASES, *(name for name in CASES if name not in SLOW))
WHOLE = ("DirichletUnet",)  # its loop is another; the checks of every architecture are its tests
NO_ENCODER = {"PlainConv", "DFMResNet18", "DFMResNet34", "DFMResNet50"}


def image_for(name):
    side = {"PAN": (128, 128), "DPT": (32, 64)}.get(
        name, (64, 64) if "encoder_depth" not in CASES[name][0] else (32, 48)
    )
    return torch.rand(2, 3, *side, generator=torch.Generator().manual_seed(1))


def moved(model):
    """timm's residual branches begin with a factor of zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def made(name="Unet", insert="decoder", **config):
    """Every weight heard, and every step's statistics its own."""
    config = smpf.Recurrent(insert=insert, **{"steps": STEPS, "dynamics": "decay", "feedback_init": 0.3, **config})
    model = smpf.create(name, classes=3, feedback=config, **CASES[name][0])
    model = moved(model)
    with torch.no_grad():
        model.train()(image_for(name))
    return model.eval()


def encoder_of(model):
    return getattr(model, "encoder", None) or model.backbone


def added(gave, numbers, readers, u):
    """What an encoder *gave*, with the feedback: each level's is that of the finer one before, resized."""
    first = gave[0] if isinstance(gave, tuple) else gave
    features = dict(enumerate(first.values(), 1)) if isinstance(first, dict) else dict(enumerate(first))
    if isinstance(gave, tuple):  # DPT's encoder does not give the image
        features = dict(enumerate(first, 1))
    for number, reader in zip(numbers, readers, strict=True):
        u = F.interpolate(u, features[number].shape[-2:], mode="bilinear", align_corners=False)
        features[number] = features[number] + F.conv2d(u, reader.weight)
    if isinstance(first, dict):
        return OrderedDict(zip(first, features.values(), strict=True))
    return (list(features.values()), *gave[1:]) if isinstance(gave, tuple) else list(features.values())


def naive(model, plain, numbers, image):
    """The loop with everything computed at every step, by a hook on the plain model. Logits of the last step."""
    cut, fed, grids = cut_of(plain), {}, []
    readers = list(model.feedback.readers)

    def hear(encoder, given, gave):
        first = gave[0] if isinstance(gave, tuple) else gave
        finest = list(first.values())[numbers[0] - 1] if isinstance(first, dict) else None
        finest = first[numbers[0] - isinstance(gave, tuple)] if finest is None else finest
        grids.append(finest.shape[-2:])
        return added(gave, numbers, readers, fed["u"](finest.shape[-2:]))

    encoder_of(plain).register_forward_hook(hear)
    state, (s, readout) = None, (model.feedback.state_channels, model.feedback.readout)
    for t in range(STEPS):

        def u(grid, state=state):
            if state is None:
                return image.new_full((len(image), 2, *grid), 0.5)
            return F.instance_norm(F.interpolate(state[:, s:], grid, mode="bilinear")).softmax(1)

        fed["u"] = u
        y = cut.body(plain, image)[0]
        y = y if readout is None else torch.cat([y, readout(y)], 1)
        state = math.exp(-t) * F.instance_norm(y) + (0 if state is None else state)
    return cut.head(plain, state[:, :s], image.shape[-2:])


def in_double(name, insert="decoder"):
    """A model, the plain one with its weights, and an image: in double precision, where only a mistake differs."""
    model = made(name, insert, statistics="shared").double()
    if hasattr(model, "feedback_channels"):  # which a plain one does not make
        plain = catalogue().architectures[name](classes=3, feedback_channels=2, **CASES[name][0]).eval().double()
    else:
        plain = smpf.create(name, classes=3, feedback=False, **CASES[name][0]).eval().double()
    plain.load_state_dict(model.feedforward_state_dict())
    return model, plain, image_for(name).double()


def check_exact(model, plain, numbers, image):
    ours, theirs = model(image), naive(model, plain, numbers, image)
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)
    (ours.square().mean() / theirs.detach().square().mean()).backward()
    readers = [p.grad.clone() for p in model.feedback.readers.parameters()]
    model.feedback.zero_grad()
    (theirs.square().mean() / theirs.detach().square().mean()).backward()
    for mine, its in zip(readers, model.feedback.readers.parameters(), strict=True):
        assert its.grad.abs().max() > 0
        torch.testing.assert_close(mine, its.grad, atol=1e-9, rtol=1e-6)
    named, grads = dict(plain.named_parameters()), 0
    for key, parameter in model.named_parameters():
        if key in named and named[key].grad is not None:
            torch.testing.assert_close(parameter.grad, named[key].grad, atol=1e-9, rtol=1e-6, msg=key)
            grads += 1
    assert grads > 5


@pytest.mark.parametrize("name", EVERY)
def test_every_architecture_is_exactly_the_loop_that_computes_everything_anew(name):
    model, plain, image = in_double(name)
    check_exact(model, plain, CASES[name][1], image)
    check_same_keys(model, plain)


def test_every_registered_architecture_is_entered_or_has_no_encoder():
    ours = {name for name in catalogue().architectures if catalogue().architectures.origin(name) == "smp_feedback"}
    families = {name for name in ours if "/" in name}
    assert {*SMPS} <= {*CASES}
    assert ours - families == {name for name in CASES if "/" not in name} | {*WHOLE} | NO_ENCODER
    for name in sorted(NO_ENCODER - {"DFMResNet34", "DFMResNet50"}):
        with pytest.raises(SurgeryError, match=r"nothing says which module .* is its encoder.*feedback_encoder"):
            smpf.create(name, feedback={"insert": "decoder"})


@pytest.mark.parametrize(("insert", "numbers"), [("decoder:3", [3]), (["decoder:3", "decoder:1"], [1, 3])])
def test_named_features_alone_hear(insert, numbers):
    model, plain, image = in_double("Unet", insert)
    check_exact(model, plain, numbers, image)
    assert len(model.feedback.readers) == len(numbers)


def test_the_feedback_is_resized_once_for_each_size(monkeypatch):
    from smp_feedback.surgery import encoder_once

    model, resized = made("PAN"), []  # dilated: two of its features have one size
    monkeypatch.setattr(
        encoder_once,
        "resize",
        lambda u, size, old=encoder_once.resize: (resized.append(u.shape[2:] != size), old(u, size))[1],
    )
    with torch.no_grad():
        model(image_for("PAN"))
    assert resized == [False, True, True, False] * STEPS


def calls_in(module):
    counts = []
    module.register_forward_hook(lambda *_: counts.append(1))
    return counts


@pytest.mark.parametrize("recompute", [False, True])
def test_the_encoder_runs_once_per_image_and_its_statistics_see_it_once(recompute):
    model = made(recompute=recompute).train()
    stem, last = calls_in(model.encoder.model.conv1), calls_in(model.encoder.model.layer2)
    decoder, norms = calls_in(model.decoder), [m for m in model.encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [int(norm.num_batches_tracked) for norm in norms]
    model(IMAGE).mean().backward()
    assert (len(stem), len(last), len(decoder)) == (1, 1, STEPS * (1 + recompute))
    used = [int(norm.num_batches_tracked) - n for norm, n in zip(norms, before, strict=True)]
    assert set(used) == {1}, "the encoder's statistics see a batch once"
    inside = {id(m) for m in model.decoder.modules() if isinstance(m, nn.BatchNorm2d)}
    assert {id(rows.norm[0]) for rows in model.feedback.statistics} == inside, "those of the decoder are of each step"
    assert not any(hasattr(norm, "rows") for norm in norms)


def test_recomputing_changes_neither_gradients_nor_statistics():
    found = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = made(recompute=recompute).train()
        model(IMAGE).square().mean().backward()
        found.append((dict(model.named_buffers()), {k: p.grad for k, p in model.named_parameters()}))
    for one, other in zip(*found, strict=True):
        for key, value in one.items():
            torch.testing.assert_close(other[key], value, atol=1e-5, rtol=1e-4, msg=key)


def test_a_backward_per_step_in_any_form_is_the_gradient_of_the_sum_and_reaches_the_encoder_once():
    model, found = made(detach=True), []

    def loss(step):
        return (step.index + 1) * step.logits.square().mean()

    def each():
        for step in model.iterate(IMAGE):
            loss(step).backward()

    def together():
        sum(map(loss, model.iterate(IMAGE))).backward()

    for run in (each, together, lambda: model.backward_per_step(IMAGE, loss)):
        model.zero_grad()
        run()
        found.append({k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None})
    assert found[0]["encoder.model.conv1.0.weight"].abs().max() > 0
    for other in found[1:]:
        for key, gradient in found[0].items():
            torch.testing.assert_close(other[key], gradient, atol=2e-6, rtol=1e-3, msg=key)
    passes = []
    model.encoder.model.conv1[0].weight.register_hook(lambda g: passes.append(1))
    model.backward_per_step(IMAGE, loss)
    assert len(passes) == 1


def test_the_last_looks_alone_may_carry_gradient():
    model, plain, image = in_double("Unet")
    model(image, grad_steps=1).square().mean().backward()
    last = model.feedback.readers[0].weight.grad.clone()
    model.zero_grad()
    *_, before, end = model.iterate(image)
    state = before.state.detach()
    u = F.instance_norm(F.interpolate(state[:, 8:], (16, 24), mode="bilinear")).softmax(1)
    plain.encoder.register_forward_hook(lambda m, g, gave: added(gave, [1, 2, 3], model.feedback.readers, u))
    y = plain.decoder(plain.encoder(image))
    state = state + math.exp(1 - STEPS) * F.instance_norm(torch.cat([y, model.feedback.readout(y)], 1))
    torch.testing.assert_close(plain.segmentation_head(state[:, :8]), end.logits, atol=1e-9, rtol=1e-9)
    plain.segmentation_head(state[:, :8]).square().mean().backward()
    torch.testing.assert_close(model.feedback.readers[0].weight.grad, last, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("name", a_few(["Unet", "DPT", "Segformer"], "Unet"))
def test_labels_freezing_parameters_and_precision_are_as_promised(name):
    def build(**more):
        config = {"insert": "decoder", "steps": 3}
        return smpf.create(name, feedback=config, **CASES[name][0], **more)

    promised.check_labels(build(aux_params={"classes": 4}), image_for(name))
    promised.check_freezing(build(), image_for(name))
    promised.check_parameters(build(), smp.create_model(name, **CASES[name][0]))
    promised.check_dtypes(build(), image_for(name)[:1])


def test_a_film_runs_the_encoder_once_a_frame_and_stopping_images_are_the_same():
    model = made(dynamics="gated")
    stem, step = calls_in(model.encoder.model.conv1), None
    with torch.no_grad():
        for _ in range(3):
            step = model.look(IMAGE, step)
        assert len(stem) == 3
        alone = torch.cat([model(x[None], steps=smpf.until_settled(2, 6)) for x in IMAGE])
        torch.testing.assert_close(model(IMAGE, steps=smpf.until_settled(2, 6)), alone, atol=1e-4, rtol=1e-4)
    check_looks(model, IMAGE)


@torch.no_grad()
def test_saved_copied_and_wrapped_it_is_the_same(tmp_path):
    model = made(insert=["decoder:3", "decoder:2"])
    model.save_pretrained(tmp_path)
    loaded = smpf.from_pretrained(tmp_path)
    assert loaded.loop_config == model.loop_config
    assert loaded.loop_config.places == ("decoder:2", "decoder:3")
    for other in (loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(IMAGE), model(IMAGE))
    plain = smp.Unet(classes=3, **SLIM).eval()
    wrapped = smpf.wrap(plain, smpf.Recurrent(insert="decoder", dynamics="residual"))
    torch.testing.assert_close(wrapped(IMAGE), plain(IMAGE), atol=1e-5, rtol=1e-4)
    wrapped.load_feedforward(model.feedforward_state_dict())
    assert isinstance(wrapped.encoder, type(plain.encoder))


@torch.no_grad()
def test_windows_are_looked_at_as_images_are():
    model = made()
    torch.testing.assert_close(smpf.tiled(model, (32, 48))(IMAGE), model(IMAGE), atol=1e-5, rtol=1e-4)
    both = torch.cat([model(IMAGE[..., :24]), model(IMAGE[..., 24:])], -1)
    torch.testing.assert_close(smpf.tiled(model, (32, 24), 0)(IMAGE), both, atol=1e-5, rtol=1e-4)


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["DPT", "Segformer"])
def test_exported_it_is_the_same(name):
    config = {"insert": "decoder", "steps": 2}
    promised.check_exports(smpf.create(name, feedback=config, **CASES[name][0]), image_for(name))


@pytest.mark.sweep
def test_compiled_and_as_a_file_it_is_the_same(tmp_path):
    model = made(steps=2)
    promised.check_compiles(model, IMAGE, dynamic=False)
    export(model, tmp_path / "model.onnx")


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("name", "encoder", "side"),
    [("Segformer", "mit_b0", 64), ("Unet", "mit_b0", 64), ("UPerNet", "tu-swin_tiny_patch4_window7_224", 224)],
)
def test_the_encoders_of_transformers_run_once(name, encoder, side):
    told = {"img_size": side} if "swin" in encoder else {}
    plain = smpf.create(name, encoder, None, classes=2, feedback=False, **told).eval()
    image = torch.rand(1, 3, side, side)
    check_lossless(plain, image, config=smpf.Recurrent(insert="decoder"))
    model = smpf.wrap(plain, smpf.Recurrent(insert="decoder", steps=2)).eval()
    check_heard(model, image)
    attention = next(m for m in model.encoder.modules() if type(m).__name__ in ("Attention", "WindowAttention"))
    runs = calls_in(attention)
    with torch.no_grad():
        model(image)
    assert len(runs) == 1


# --- bases of others


class Encoder(nn.Module):
    """Two maps, in a form of one's own."""

    def __init__(self, form):
        super().__init__()
        self.fine, self.deep, self.form = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 10, 3, 2, 1), form

    def forward(self, x):
        fine = self.fine(x).relu()
        deep = self.deep(fine).relu()
        if self.form == "last":
            return [x.permute(0, 2, 3, 1) + 0, None, fine.permute(0, 2, 3, 1), deep.permute(0, 2, 3, 1)]
        if self.form == "tokens":
            return deep.flatten(2).mT
        if self.form == "dict":
            return {"image": x, "fine": fine, "deep": (deep, None)}
        return deep


class Net(nn.Module):
    """Its decoder reads the image, too."""

    feedback_encoder = "trunk"

    def __init__(self, form, pad=0):
        super().__init__()
        self.trunk, self.form, self.pad = Encoder(form), form, pad
        self.skip, self.up, self.last = nn.Conv2d(6, 8, 1), nn.Conv2d(10, 8, 1), nn.Conv2d(11, 2, 1)

    def forward_features(self, x):
        made = self.trunk(F.pad(x, (0, self.pad, 0, self.pad)) if self.pad else x)
        size, fine = x.shape[-2:], None
        if self.form == "last":
            _, _, fine, deep = (y if y is None else y.permute(0, 3, 1, 2) for y in made)
        elif self.form == "tokens":
            deep = made.mT.unflatten(2, (size[0] // 4, size[1] // 4))
        elif self.form == "dict":
            fine, deep = made["fine"], made["deep"][0]
        else:
            deep = made
        y = F.interpolate(self.up(deep), size)
        y = y if fine is None else y + F.interpolate(self.skip(fine), size)
        return torch.cat([y, x], 1)

    def forward_head(self, x):
        return self.last(x)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


@pytest.mark.parametrize(("form", "widths"), [("last", [6, 10]), ("tokens", [10]), ("dict", [6, 10]), ("single", [10])])
def test_an_encoder_gives_its_features_in_any_form(form, widths):
    net = Net(form)
    check_cut(net, IMAGE)
    model = smpf.wrap(net, smpf.Recurrent(insert="decoder", steps=2, feedback_init=0.5, statistics="shared")).eval()
    assert [reader.weight.shape[0] for reader in model.feedback.readers] == widths
    check_agreement(model, IMAGE)
    with torch.no_grad():  # a first look is fed 1 / K everywhere: that, added to each feature by hand
        shift = [reader.weight.sum(1).flatten() / 2 for reader in model.feedback.readers]
        net.trunk.register_forward_hook(lambda module, given, gave: shifted(form, gave, shift))
        expected = F.instance_norm(net.forward_features(IMAGE))
        torch.testing.assert_close(model(IMAGE, steps=1), net.forward_head(expected), atol=1e-5, rtol=1e-4)


def shifted(form, gave, shift):
    if form == "last":
        return [gave[0], None, gave[2] + shift[0], gave[3] + shift[1]]
    if form == "dict":
        fine, deep = (b[:, None, None] for b in shift)
        return {**gave, "fine": gave["fine"] + fine, "deep": (gave["deep"][0] + deep, None)}
    return gave + (shift[0] if form == "tokens" else shift[0][:, None, None])


def test_a_base_that_cannot_be_entered_there_is_told_why():
    config = smpf.Recurrent(insert="decoder")
    with pytest.raises(SurgeryError, match="trunk is not called once, with the image itself"):
        smpf.wrap(Net("single", pad=4), config)
    net = Net("single")
    net.feedback_encoder = "trunks"
    with pytest.raises(
        SurgeryError, match=r"encoder 'trunks': no module of this Net is called that. Did you mean 'trunk'"
    ):
        smpf.wrap(net, config)
    net.feedback_encoder = ("trunk",)
    with pytest.raises(InvalidType, match=r"Net: its encoder is \('trunk',\): expected the name of a module"):
        smpf.wrap(net, config)
    with pytest.raises(
        SurgeryError, match=r"insert='decoder:5': the decoder of this Unet .*'decoder:1', 'decoder:2', 'dec"
    ):
        made(insert="decoder:5")
    with pytest.raises(SurgeryError, match="expected maps"):
        smpf.wrap(Strange(), config)
    with pytest.raises(SurgeryError, match=r"'stage:4': .* Possible here: 'input', .*, 'decoder'\."):
        made(insert="stage:4")


class Strange(Net):
    """Its encoder gives words."""

    def __init__(self):
        super().__init__("single")
        self.trunk.register_forward_hook(lambda module, given, gave: {"map": gave, "word": "deep"})

    def forward_features(self, x):
        y = F.interpolate(self.up(self.trunk(x)["map"]), x.shape[-2:])
        return torch.cat([y, x], 1)


def test_an_encoder_replaced_afterwards_is_told_that_it_reads_no_feedback():
    model = made()
    model.encoder = smp.Unet(**SLIM).encoder
    with pytest.raises(SurgeryError, match="replaced since the model was made"):
        model(IMAGE)


# --- the place in a config


def test_a_config_says_all_or_those_named():
    config = smpf.Recurrent(insert=["decoder:4", "decoder:2"])
    assert config.places == ("decoder:2", "decoder:4")
    assert as_config(json.loads(json.dumps(config.to_dict()))) == config
    assert smpf.Recurrent(insert=["decoder"]) == smpf.Recurrent(insert="decoder")


@pytest.mark.parametrize(
    ("insert", "words"),
    [
        (["decoder", "input"], "with 'decoder' the encoder runs once per image, and 'input' lies in or before it"),
        (["stage:2", "decoder:3"], "'stage:2' lies in or before it"),
        (["decoder", "decoder:2"], "'decoder' is every 'decoder:k'"),
        ("decoder:0", "'decoder:k' with k from 1"),
        ("decoder:deep", "'decoder:k' with k from 1"),
        ("decode", "'decoder'"),
        (["decoder:2", "decoder:2"], "named twice"),
    ],
)
def test_what_does_not_go_together_is_refused_at_birth(insert, words):
    with pytest.raises(InvalidValue, match=words):
        smpf.Recurrent(insert=insert)


# --- what an encoder gives, taken apart


TREES = st.recursive(
    st.sampled_from(["map", "image", None]),
    lambda part: (
        st.lists(part, max_size=3)
        | st.lists(part, max_size=2).map(tuple)
        | st.dictionaries(st.sampled_from("abc"), part)
    ),
    max_leaves=6,
)


@settings(max_examples=25)
@given(TREES)
def test_taken_apart_and_put_together_it_is_the_same(tree):
    image, made = torch.zeros(1), []

    def grown(part):
        if part == "map":
            made.append(torch.ones(1))
            return made[-1]
        if isinstance(part, dict):
            return {key: grown(value) for key, value in part.items()}
        return type(part)(map(grown, part)) if isinstance(part, (list, tuple)) else image if part else None

    gave = grown(tree)
    form, tensors = taken_apart(gave, image)
    assert [*map(id, tensors)] == [*map(id, made)]
    assert sorted(places_in(form).values()) == [*range(len(made))]
    again, rest = taken_apart(put_together(form, tensors, image), image)
    assert again == form
    assert [*map(id, rest)] == [*map(id, made)]
