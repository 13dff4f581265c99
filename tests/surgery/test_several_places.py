"""Feedback at several places: the same at each, exact, and what none of them reaches runs once."""

from __future__ import annotations

import copy
import json
import math
import pickle

import pytest
import segmentation_models_pytorch as smp
import torch
from conftest import SMPS, a_few
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.config.parse import as_config
from smp_feedback.errors import InvalidType, InvalidValue, SurgeryError
from smp_feedback.testing import check_agreement, check_heard, check_lossless, check_same_keys, conformance

IMAGE = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
STEPS = 3
TINY = "tu-test_resnet.r160_in1k"
SLIM = {"encoder_weights": None, "encoder_depth": 3, "decoder_channels": (16, 8, 8)}
CONV = "after:encoder.model.conv1"
READ = {"input": "conv1.0", "stem": "layer1.0.conv1"}  # convolutions that read it beside what they are given
ADDED = {CONV: "conv1", "stage:1": "act1", "stage:2": "layer1", "stage:3": "layer2"}
# in the order in which an image comes to them; the stride of the first; what runs once for each image
CASES = {
    ("input", "stage:2"): (1, []),
    ("input", CONV, "stem"): (1, []),
    ("stage:1", "stage:3"): (2, ["conv1", "bn1", "act1"]),
    ("stem", "stage:2"): (2, ["conv1", "bn1", "act1"]),
    ("stage:1", "stem"): (2, ["conv1", "bn1", "act1"]),
    (CONV, "stage:2"): (2, []),
    ("input", "stage:1", "stage:2", "stage:3"): (1, []),
}


def unet(*insert, **config):
    """Every weight heard, and every step's statistics its own."""
    config = smpf.Recurrent(insert=insert, **{"steps": STEPS, "feedback_init": 0.3, **config})
    model = smpf.create("Unet", TINY, classes=3, feedback=config, **SLIM)
    with torch.no_grad():
        for parameter in model.encoder.parameters():  # timm's residual branches begin with a factor of zero
            parameter.add_(0.05 * torch.randn_like(parameter))
        model.train()(IMAGE)
    return model.eval()


class Beside(nn.Module):
    """The convolution over [x, u], as published: nothing is computed apart."""

    def __init__(self, conv, reader, fed):
        super().__init__()
        self.weight, self.conv, self.fed = torch.cat([conv.weight, reader.weight], 1), conv, fed

    def forward(self, x):
        u = resized(self.fed["u"], x)
        return F.conv2d(torch.cat([x, u], 1), self.weight, self.conv.bias, self.conv.stride, self.conv.padding)


def resized(u, x):
    return F.interpolate(u, x.shape[-2:], mode="bilinear", align_corners=False)


def naive(model, plain, places, stride):
    """The loop with everything computed at every step, by hooks on the plain model. Logits of the last step."""
    encoder, fed = plain.encoder.model, {}
    for place, reader in zip(places, model.feedback.readers, strict=True):
        if place in READ:
            encoder.set_submodule(READ[place], Beside(encoder.get_submodule(READ[place]), reader, fed))
        else:
            encoder.get_submodule(ADDED[place]).register_forward_hook(
                lambda module, given, gave, reader=reader: gave + F.conv2d(resized(fed["u"], gave), reader.weight)
            )
    image, state, s = IMAGE.double(), None, 8
    grid = tuple(side // stride for side in image.shape[-2:])
    for t in range(STEPS):
        if t:
            u = F.interpolate(state[:, s:], grid, mode="bilinear", align_corners=False)
            fed["u"] = F.instance_norm(u).softmax(1)
        else:
            fed["u"] = image.new_full((2, 2, *grid), 0.5)
        if places[0] == "stem":
            fed["u"] = encoder.maxpool(fed["u"])
        y = plain.decoder(plain.encoder(image))
        y = torch.cat([y, model.feedback.readout(y)], 1)
        state = math.exp(-t) * F.instance_norm(y) + (0 if state is None else state)
    return plain.segmentation_head(state[:, :s])


def of_own(model):
    plain = smp.Unet(TINY, classes=3, **SLIM).eval().double()
    plain.load_state_dict(model.feedforward_state_dict())
    return plain


@pytest.mark.parametrize("places", CASES)
def test_each_set_of_places_is_exactly_the_loop_that_computes_everything_anew(places):
    model = unet(*places, statistics="shared").double()
    plain = of_own(model)
    ours, theirs = model(IMAGE.double()), naive(model, plain, places, CASES[places][0])
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)
    ours.square().mean().backward()
    found = [p.grad.clone() for p in model.feedback.readers.parameters()]
    first, last = (model.encoder.model.get_submodule(name).weight for name in ("conv1.0", "layer2.0.conv2"))
    model.feedback.zero_grad()
    theirs.square().mean().backward()
    wide = plain.encoder.model.conv1[0]
    expected = [p.grad for p in model.feedback.readers.parameters()]
    expected += [(wide.conv if isinstance(wide, Beside) else wide).weight.grad]
    expected += [plain.encoder.model.get_submodule("layer2.0.conv2").weight.grad]
    for mine, its in zip([*found, first.grad, last.grad], expected, strict=True):
        assert its.abs().max() > 0
        torch.testing.assert_close(mine, its, atol=1e-9 * float(its.abs().max()), rtol=1e-7)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("places", CASES)
def test_what_no_place_reaches_runs_once_per_image(places, recompute):
    model, counts = unet(*places, recompute=recompute).train(), {}
    names = ["conv1", "bn1", "act1", "layer1", "layer2"][places[0] == CONV :]  # called there, it answers from memory
    for name in names:
        module = model.encoder.model.get_submodule(name)
        module.register_forward_hook(lambda *_, name=name: counts.update({name: counts.get(name, 0) + 1}))
    inner, conv = [], model.encoder.model.conv1[0]
    conv._conv_forward = lambda x, w, b, old=conv._conv_forward: (inner.append(1), old(x, w, b))[1]
    before = int(model.encoder.model.bn1.num_batches_tracked)
    model(IMAGE).mean().backward()
    once = CASES[places][1]
    assert [counts[name] for name in once] == [1] * len(once)
    assert {counts[name] for name in names if name not in once} == {STEPS * (1 + recompute)}
    assert len(inner) == 1, "the image is convolved once, wherever the feedback enters"
    assert int(model.encoder.model.bn1.num_batches_tracked) == before + 1


@pytest.mark.parametrize("places", [("input", "stage:2"), ("stem", "stage:3")])
def test_a_backward_per_step_is_the_gradient_of_the_sum(places):
    model, found = unet(*places, detach=True), []

    def loss(step):
        return (step.index + 1) * step.logits.square().mean()

    for run in (lambda: sum(map(loss, model.iterate(IMAGE))).backward(), lambda: model.backward_per_step(IMAGE, loss)):
        model.zero_grad()
        run()
        found.append({k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None})
    for key, gradient in found[0].items():
        torch.testing.assert_close(found[1][key], gradient, atol=2e-6, rtol=1e-3, msg=key)


@torch.no_grad()
def test_a_first_look_is_that_of_the_feedback_at_each_place_alone():
    """Untrained, none is heard; and each place reads a weight of its own."""
    quiet = unet("input", "stage:2", feedback_init=0.0)
    plain = of_own(quiet)
    one = F.instance_norm(plain.decoder(plain.encoder(IMAGE.double())))
    torch.testing.assert_close(quiet.double()(IMAGE.double(), steps=1), plain.segmentation_head(one))
    for reader in quiet.feedback.readers:
        before = quiet(IMAGE.double())
        nn.init.normal_(reader.weight)
        assert not torch.allclose(quiet(IMAGE.double()), before)


@pytest.mark.parametrize("arch", a_few([name for name in SMPS if name != "DPT"], "FPN", "Segformer"))
def test_every_architecture_takes_two_places(arch):
    size = 128 if arch == "PAN" else 64
    plain, image = smp.create_model(arch, TINY, encoder_weights=None, classes=2).eval(), torch.rand(2, 3, size, size)
    with torch.no_grad():
        for parameter in plain.encoder.parameters():  # as above
            parameter.add_(0.05 * torch.randn_like(parameter))
    check_lossless(plain, image, config=smpf.Recurrent(insert=["input", "stage:2"]))
    model = smpf.wrap(plain, smpf.Recurrent(insert=["stem", "stage:3"], steps=2))
    check_same_keys(model, plain)
    check_agreement(model, image)
    check_heard(model, image)


@torch.no_grad()
def test_tokens_may_hear_beside_what_reads_the_image():
    import timm

    net = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=(32, 48), depth=1).eval()
    model = smpf.wrap(net, smpf.Recurrent(insert=["input", "after:patch_embed"], steps=2)).eval()
    assert [tuple(reader.weight.shape[2:]) for reader in model.feedback.readers] == [(16, 16), (1, 1)]
    check_agreement(model, IMAGE)
    with torch.enable_grad():
        check_heard(model, IMAGE)
    # the added part alone: tokens of a patch hear the feedback of that patch, resized bilinearly
    nn.init.normal_(reader := model.feedback.readers[1].weight)
    nn.init.zeros_(model.feedback.readers[0].weight)
    given = []
    model.patch_embed.register_forward_hook(lambda module, x, gave: given.append(gave))
    for ask in (model.patch_embed, lambda x: model(x, steps=1)):  # outside a loop, and in one
        ask(IMAGE)
    shift = (reader[:, :, 0, 0].sum(1) / 2).expand_as(given[0])  # a first look is fed 1 / K everywhere
    torch.testing.assert_close(given[-1] - given[0], shift, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_saved_and_loaded_the_places_are_the_same(tmp_path):
    model = unet("stage:2", "input")
    model.save_pretrained(tmp_path)
    loaded = smpf.from_pretrained(tmp_path)
    assert loaded.loop_config == model.loop_config
    assert loaded.loop_config.places == ("input", "stage:2")
    assert torch.equal(loaded(IMAGE), model(IMAGE))


def test_a_config_of_several_places_goes_through_json():
    config = smpf.Recurrent(insert=["stage:2", "stem"])
    written = json.loads(json.dumps(config.to_dict()))
    assert written["insert"] == ["stem", "stage:2"]
    assert as_config(written) == config == smpf.Recurrent(insert=("stem", "stage:2"))
    assert hash(config) == hash(as_config(written))
    assert smpf.Recurrent(insert=["stem"]) == smpf.Recurrent(insert="stem")


@pytest.mark.parametrize(
    ("insert", "kind", "words"),
    [
        ([], InvalidValue, r"insert=\[\]: expected a place"),
        (["input", "input"], InvalidValue, "'input' is named twice"),
        (["input", 2], InvalidType, r"2 \(int\) is no place"),
        (["input", "stage:9"], InvalidValue, "insert='stage:9': expected 'input', 'stem', 'stage:k'"),
        (["after:a", "after:b"], InvalidValue, "at most one 'after:NAME', got 2"),
        ({"input": 1}, InvalidType, r"insert=\{'input': 1\} \(dict\): expected .* or a list of them"),
    ],
)
def test_what_is_no_set_of_places_is_refused(insert, kind, words):
    with pytest.raises(kind, match=words):
        smpf.Recurrent(insert=insert)


def test_a_stem_is_named_at_the_input_alone():
    assert smpf.Recurrent(insert=["stage:2", "input"], stem="conv1").stem == "conv1"
    with pytest.raises(InvalidValue, match="expected insert='input'"):
        smpf.Recurrent(insert=["stage:2", "stage:3"], stem="conv1")


@pytest.mark.parametrize("places", [["input", "stage:4"], ["stage:4", "stem"]])
def test_a_place_that_is_not_there_is_named_beside_those_that_are(places):
    with pytest.raises(SurgeryError, match=r"insert='stage:4': .*'input', 'stem', 'stage:1', 'stage:2', 'stage:3', 'a"):
        unet(*places)


@torch.no_grad()
@pytest.mark.parametrize("places", [("input", "stage:2"), ("stem", "stage:3")])
def test_copies_and_settling_images_are_the_same(places):
    model = unet(*places, tau=0.5, tolerance=0.2)
    together = model(IMAGE, steps=5)
    torch.testing.assert_close(together, torch.cat([model(x[None], steps=5) for x in IMAGE]), atol=1e-4, rtol=1e-4)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(IMAGE, steps=5), together)


@pytest.mark.sweep
@pytest.mark.parametrize("places", [max((places for places in CASES if CONV not in places), key=len)])
def test_compiled_and_exported_they_are_the_same(places):
    model = unet(*places, steps=2)
    conformance.check_compiles(model, IMAGE, dynamic=False)
    conformance.check_exports(model, IMAGE)
