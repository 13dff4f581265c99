"""The published models by name: their numbers where they are, our own derivation everywhere, and a loop's promises."""

from __future__ import annotations

import json

import numpy as np
import pytest
import reference as ref
import segmentation_models_pytorch as smp
import torch
import torchvision
from conftest import a_few
from test_golden import agree, det_fill, golden, needs_golden
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.config.base import GradientFlow
from smp_feedback.dynamics import Decay
from smp_feedback.errors import FeedbackError, InvalidValue, UnknownKeyword, UnknownName
from smp_feedback.loops.recurrent.step import Recurrence
from smp_feedback.loops.unroll import unroll
from smp_feedback.models.recipes.resnet import dfm_resnet18, dfm_resnet50, take_weights
from smp_feedback.ops.normalise import normaliser
from smp_feedback.projections import softmax_feedback
from smp_feedback.registry.public import catalogue
from smp_feedback.surgery.cuts import cut_of
from smp_feedback.testing import check_agreement, check_heard, check_same_keys

RECIPES = [name for name in smpf.list_architectures() if name.startswith(("DFM", "Neumann", "Dirichlet"))]
LARGE = ("DFMResNet34", "DFMResNet50")  # DFMResNet18 with more layers
CHEAP = a_few(RECIPES, *(name for name in RECIPES if name not in LARGE))
TINY = "tu-test_resnet.r160_in1k"
SMALL = {
    "DFMDeepLabV3Plus": {"decoder_channels": 16},
    "NeumannUnet": {"encoder_name": TINY, "decoder_channels": (32, 16, 16, 8, 8)},
    "DirichletUnet": {"encoder_name": TINY, "decoder_channels": (32, 16, 16, 8, 8)},
}
IMAGE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(4))


def made(name, **more):
    return smpf.create(name, classes=3, **SMALL.get(name, {}), **more)


# --- Deep Feedback Models, classification


def stub_states(a, tau, steps, groups=8, h0=None):
    """The package's own parts around the published stub network."""
    front = F.relu(F.conv2d(a["x"], a["w_front"], a["b_front"], stride=4))
    fb = a["w_l1"].shape[1] - front.shape[1]
    grid = front.shape[-2:]

    def body(u, t):
        z = torch.tanh(F.conv2d(torch.cat([front, u], 1), a["w_l1"], a["b_l1"], padding=1))
        z = torch.tanh(F.conv2d(z, a["w_l2"], a["b_l2"], stride=2, padding=1))
        z = torch.tanh(F.conv2d(z, a["w_l3"], a["b_l3"], stride=2, padding=1))
        return F.conv2d(z, a["w_l4"], a["b_l4"], stride=2), None

    def project(state):
        if state is None:
            return front.new_full((len(front), fb, *grid), 1 / fb)
        return softmax_feedback(state[:, -fb:], grid, normaliser(groups, fb))

    channels = a["w_l4"].shape[0]
    rule = Decay(channels, smpf.Recurrent(tau=tau)).begin(steps)
    turn = Recurrence(body, project, normaliser(groups, channels), rule)
    return [turned.state for _, turned in unroll(turn, h0, steps=steps, flow=GradientFlow())]


def stub_logits(a, state):
    return F.linear(state[:, : a["w_fc"].shape[1]].mean((2, 3)), a["w_fc"], a["b_fc"])


@needs_golden
def test_the_published_classifiers_states_and_logits():
    a, meta = golden("c_dfm_cls_A_explicit")
    states = stub_states(a, meta["tau"], meta["N"], meta["groups"], h0=a["h"][0])
    agree(torch.stack([states[t - 1] for t in meta["kept_steps"][1:]]), a["h"][1:], 2e-5)
    agree(torch.stack([stub_logits(a, h) for h in (a["h"][0], *states)]), a["logits"], 2e-5)


@needs_golden
def test_the_published_classifiers_loss_and_gradients():
    a, meta = golden("c_dfm_cls_A_forward")
    keys = ("w_front", "w_l1", "w_l2", "w_l3", "w_l4", "b_l4", "w_fc", "x")
    leaves = {k: a[k].requires_grad_() for k in keys}
    *_, last = stub_states(a, meta["tau"], meta["T"], meta["groups"])
    agree(last, a["h_T"], 2e-5)
    agree(stub_logits(a, last), a["logits"], 2e-5)
    loss = F.cross_entropy(stub_logits(a, last), a["y"].long())
    assert float(loss.detach()) == pytest.approx(meta["loss"], rel=1e-5)
    loss.backward()
    for key, leaf in leaves.items():
        agree(leaf.grad, a[f"g_{key.removeprefix('w_').replace('b_', 'b')}"], 3e-4)


def published_resnet(meta):
    """The recipe with the published weights: what its first layer reads of the feedback is the readers'."""
    model = smpf.create("DFMResNet18", classes=meta["n_classes"], feedback={"channels": meta["fb_filters"]})
    weights = {key: det_fill(key, shape) for key, shape in meta["keys"]}
    wide = ("layer1.0.conv1.weight", "layer1.0.downsample.0.weight")
    with torch.no_grad():
        for reader, key in zip(model.feedback.readers, wide, strict=True):
            reader.weight.copy_(weights[key][:, 64:])
    weights |= {key: weights[key][:, :64] for key in wide}
    named = {_place(key) + key: value for key, value in weights.items()}
    counters = {k: v for k, v in model.feedforward_state_dict().items() if k.endswith("num_batches_tracked")}
    model.load_feedforward(named | counters)
    return model.eval()


def _place(key):
    return "" if key.startswith("fc.") else "encoder.stem." if key.startswith(("conv1.", "bn1.")) else "encoder."


@needs_golden
@torch.no_grad()
def test_the_published_resnet_is_one_call_away():
    a, meta = golden("c_dfm_resnet18_full")
    model = published_resnet(meta)
    for steps in (2, 3, 5, 10):
        agree(model(a["x"], steps=steps), a[f"logits_T{steps}"], 3e-5)
    *_, last = model.iterate(a["x"], steps=10)
    agree(last.state, a["h_T10"], 3e-5)


def test_a_small_resnets_looks_are_those_written_out_by_hand():
    """h = GN(e_0) + GN(e_1)/e, with what layer 1 reads of [x, u] computed by one wide convolution."""
    model = made("DFMResNet18", feedback={"steps": 2, "channels": 24}).eval()
    first, shortcut = model.encoder.layer1[0].conv1, model.encoder.layer1[0].downsample[0]
    for reader in model.feedback.readers:
        nn.init.normal_(reader.weight, std=0.1)
    wide = [torch.cat([c.weight, r.weight], 1) for c, r in zip((first, shortcut), model.feedback.readers, strict=True)]
    block = model.encoder.layer1[0]

    def correction(x, u):
        z = torch.cat([x, u], 1)
        y = F.relu(block.bn1(F.conv2d(z, wide[0], padding=1)))
        y = F.relu(block.bn2(block.conv2(y)) + block.downsample[1](F.conv2d(z, wide[1])))
        for part in (model.encoder.layer1[1], model.encoder.layer2, model.encoder.layer3, model.encoder.layer4):
            y = part(y)
        return F.group_norm(y, 8)

    with torch.no_grad():
        x = model.encoder.stem(IMAGE)
        one = correction(x, torch.full((2, 24, 16, 16), 1 / 24))
        u = F.group_norm(F.interpolate(one[:, 512:], (16, 16), mode="bilinear"), 8).softmax(1)
        two = one + correction(x, u) / np.e
        agree(model(IMAGE), model.fc(two[:, :512].mean((2, 3))), 2e-5)


def test_without_additional_channels_and_with_its_weights_it_is_torchvisions_resnet():
    for build, name in ((dfm_resnet18, "resnet18"), (dfm_resnet50, "resnet50")):
        theirs = torchvision.models.get_model(name, weights=None, num_classes=5).eval()
        for buffer, value in theirs.named_buffers():
            if "running" in buffer:
                value.copy_(torch.rand_like(value) + 0.5)
        for channels in (0, 16):
            ours = build(classes=5, feedback_channels=channels).eval()
            take_weights(ours, theirs)
            with torch.no_grad():
                agree(ours(IMAGE), theirs(IMAGE), 1e-3)


def test_channels_that_the_expansion_does_not_divide_are_refused():
    with pytest.raises(InvalidValue, match=r"channels=10.*multiples of 4"):
        smpf.create("DFMResNet50", feedback={"channels": 10, "norm_feedback": "layer"})


def test_a_state_of_one_pixel_still_feeds_something_back():
    model = made("DFMResNet18").eval()
    fed = []
    model.feedback.readers[0].register_forward_pre_hook(lambda module, inputs: fed.append(inputs[0]))
    with torch.no_grad():
        *_, last = model.iterate(IMAGE[..., :32, :32], steps=2)
    assert last.state.shape[-2:] == (1, 1)
    assert (fed[1] - 1 / 16).abs().max() > 1e-3


# --- Deep Feedback Models, segmentation


def published_deeplab(meta):
    channels = meta["fb_filters"]
    model = smpf.create("DFMDeepLabV3Plus", classes=meta["classes"], feedback={"channels": channels})
    weights = {key.replace("frontend.0", "encoder.conv1"): det_fill(key, shape) for key, shape in meta["keys"]}
    weights = {key.replace("frontend.1", "encoder.bn1"): value for key, value in weights.items()}
    wide = [f"encoder.layer1.0.{name}.weight" for name in ("conv1", "downsample.0")]
    with torch.no_grad():
        for reader, key in zip(model.feedback.readers, wide, strict=True):
            reader.weight.copy_(weights[key][:, 64:])
    weights |= {key: weights[key][:, :64] for key in wide}
    counters = {k: v for k, v in model.feedforward_state_dict().items() if k.endswith("num_batches_tracked")}
    model.load_feedforward(weights | counters)
    return model.eval()


@needs_golden
@torch.no_grad()
def test_the_published_deeplab_is_one_call_away():
    a, meta = golden("b_dfm_deeplab_full")
    model = published_deeplab(meta)
    for steps in (2, 3, 5):
        agree(model(a["x"], steps=steps)[..., ::2, ::2], a[f"logits_T{steps}"], 3e-5)


def test_an_encoder_that_is_no_resnet_is_refused_before_it_is_closed():
    with pytest.raises(InvalidValue, match="'efficientnet-b0' does not begin as a ResNet"):
        smpf.create("DFMDeepLabV3Plus", encoder="efficientnet-b0")


@pytest.mark.parametrize("encoder", a_few(["resnet50", "se_resnet50", "resnext50_32x4d"], "resnet50"))
def test_other_resnets_of_smp_will_do(encoder):
    model = made("DFMDeepLabV3Plus", encoder_name=encoder).eval()
    check_heard(model, IMAGE)


def test_its_shortcut_begins_as_the_identity():
    theirs = smp.DeepLabV3Plus("resnet18", encoder_weights=None, decoder_channels=16, classes=3).eval()
    ours = made("DFMDeepLabV3Plus", feedback=False).eval()
    ours.load_state_dict(theirs.state_dict(), strict=False)
    with torch.no_grad():
        agree(ours(IMAGE), theirs(IMAGE), 1e-3)


def as_if_trained(model):
    """*model* in float64, evaluating, its feedback heard; the weights of its readers side by side with their own."""
    model = model.double().eval()
    for reader in model.feedback.readers:
        nn.init.normal_(reader.weight, std=0.1)
    return model


def test_a_small_deeplabs_looks_are_those_of_our_own_derivation():
    """The feedback goes through the stem's pooling, into the first block and its shortcut, as one wider map."""
    model = as_if_trained(made("DFMDeepLabV3Plus", feedback={"steps": 3, "tau": 1.4, "channels": 3}))
    encoder, image = model.encoder, IMAGE.double()
    block, readers = encoder.layer1[0], model.feedback.readers
    first, shortcut = (
        torch.cat([c.weight, r.weight], 1) for c, r in zip((block.conv1, block.downsample[0]), readers, strict=True)
    )
    with torch.no_grad():
        front = F.relu(encoder.bn1(encoder.conv1(image)))

    def body(u):
        z = F.max_pool2d(torch.cat([front, torch.from_numpy(u)], 1), 3, 2, 1)
        y = F.relu(block.bn1(F.conv2d(z, first, padding=1)))
        y = encoder.layer1[1](F.relu(block.bn2(block.conv2(y)) + block.downsample[1](F.conv2d(z, shortcut))))
        features = [image, front, y]
        for layer in (encoder.layer2, encoder.layer3, encoder.layer4):
            features.append(layer(features[-1]))
        return model.decoder(features).numpy()

    h, head = np.zeros((2, 19, 16, 16)), [p.detach().numpy() for p in model.segmentation_head[0].parameters()]
    with torch.no_grad():
        for t, step in enumerate(model.iterate(image)):
            u = ref.softmax(ref.instance_norm(ref.resize_bilinear(h[:, 16:], (32, 32))))
            h = h + np.exp(-t / 1.4) * ref.instance_norm(body(u))
            agree(step.state, torch.from_numpy(h), 1e-9)
            logits = ref.resize_bilinear(ref.conv2d(h[:, :16], *head), (64, 64), align_corners=True)
            agree(step.logits, torch.from_numpy(logits), 1e-9)


# --- Deep Recurrence


def published_unet(meta):
    config = {"tau": meta["tau"], "order": meta["alpha"], "channels": meta["fb_filters"]}
    model = smpf.create("NeumannUnet", classes=meta["classes"], feedback=config)
    weights = {key: det_fill(key, shape) for key, shape in meta["keys"]}
    plain = {k.removeprefix("function."): v for k, v in weights.items() if k.startswith("function.")}
    stem = plain["encoder.conv1.weight"]
    plain["encoder.conv1.weight"] = stem[:, :3]
    counters = {k: v for k, v in model.feedforward_state_dict().items() if k.endswith("num_batches_tracked")}
    model.load_feedforward(plain | counters)
    with torch.no_grad():
        model.feedback.readers[0].weight.copy_(stem[:, 3:])
        model.feedback.dynamics.basis.weight.copy_(weights["error_head.Q"])
        model.feedback.dynamics.inverse.weight.copy_(weights["error_head.Qinv"])
    return model.eval()


@needs_golden
def test_the_published_unet_is_one_call_away():
    a, meta = golden("d_neumann_unet_full")
    model = published_unet(meta)
    with torch.no_grad():
        for steps in (1, 3, 5):
            agree(model(a["x"], steps=steps), a[f"logits_T{steps}"], 2e-5)
        *_, last = model.iterate(a["x"], steps=5)
    agree(last.state, a["h_T5"], 2e-5)


def wide_unet(model, channels, last):
    """smp's U-Net with *model*'s weights that reads [x, u] with one wide convolution: u -> what its decoder gives."""
    reader, image = model.feedback.readers[0], IMAGE.double()
    widths = (32, 16, 16, 8, last)
    wide = smp.Unet(TINY, encoder_weights=None, in_channels=3 + channels, decoder_channels=widths).double().eval()
    weights = model.feedforward_state_dict()
    first = "encoder.model.conv1.0.weight"
    weights[first] = torch.cat([weights[first], reader.weight], 1)
    wide.load_state_dict({k: v for k, v in weights.items() if "head" not in k}, strict=False)
    return lambda u: wide.decoder(wide.encoder(torch.cat([image, torch.from_numpy(u)], 1)))


def decayed(model, e, t, tau):
    """The correction of step t of 3, in the model's own free basis, with its fractional weight."""
    q, q_inv = (getattr(model.feedback.dynamics, name).weight.numpy() for name in ("basis", "inverse"))
    return ref.fractional_weight(t, 3, 1.5) * ref.decay(e, t, tau, np.ones(len(q)), q, q_inv)


@torch.no_grad()
def test_a_small_neumann_unets_looks_are_those_of_our_own_derivation():
    model = as_if_trained(made("NeumannUnet", feedback={"steps": 3, "tau": 0.8, "channels": 3}))
    body, h = wide_unet(model, 3, 8 + 3), np.zeros((2, 11, 64, 64))
    head = [p.numpy() for p in model.segmentation_head[0].parameters()]
    for t, step in enumerate(model.iterate(IMAGE.double())):
        u = ref.softmax(ref.instance_norm(h[:, 8:]))
        h = h + decayed(model, ref.instance_norm(body(u).numpy()), t, 0.8)
        agree(step.state, torch.from_numpy(h), 1e-9)
        agree(step.logits, torch.from_numpy(ref.conv2d(h[:, :8], *head, padding=1)), 1e-9)


@torch.no_grad()
def test_a_small_dirichlet_unets_looks_are_those_of_our_own_derivation():
    model = as_if_trained(made("DirichletUnet", feedback={"steps": 3, "tau": 0.8}))
    body, h = wide_unet(model, 1, 8), np.ones((2, 3, 64, 64))
    for t, step in enumerate(model.iterate(IMAGE.double())):
        y = model.segmentation_head(body(ref.dirichlet_entropy(h))).numpy()
        h = h + decayed(model, y, t, 0.8)
        agree(step.state, torch.from_numpy(h), 1e-9)
        agree(step.logits, torch.from_numpy(np.log(1 + np.logaddexp(0, h))), 1e-9)


# --- all of them


@pytest.mark.parametrize("name", a_few(RECIPES, "DFMResNet18", "DFMDeepLabV3Plus", "NeumannUnet", "DirichletUnet"))
def test_every_recipe_keeps_a_loops_promises_and_those_of_its_plain_twin(name):
    model = made(name, feedback={"steps": 2})  # later looks of a tau of 0.2 weigh nothing
    check_agreement(model, IMAGE)
    check_heard(model, IMAGE)
    twin = made(name, feedback=False)
    if name == "DirichletUnet":
        check_same_keys(model, twin)
    with torch.no_grad():
        assert twin.eval()(IMAGE).shape == model.eval()(IMAGE).shape
    assert model.feedback.readout is None, "the base makes itself what is fed back"


@pytest.mark.parametrize("name", CHEAP)
def test_every_recipe_comes_back_from_disk_the_same(name, tmp_path):
    model = made(name, feedback={"steps": 2}).eval()
    again = smpf.from_pretrained(model.save_pretrained(tmp_path))
    with torch.no_grad():
        assert torch.equal(again(IMAGE), model(IMAGE))
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == name
    assert again.loop_config == model.loop_config
    assert again.loop_config.steps == 2


@pytest.mark.parametrize("name", CHEAP)
def test_one_training_step_moves_what_reads_the_feedback(name):
    model = made(name, in_channels=1, feedback={"steps": 2}).train()
    readers = [reader.weight for reader in model.feedback.readers]
    loss = sum(step.logits.square().mean() for step in model.iterate(IMAGE[:, :1]))  # one backward, as published
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss.backward()
    optimizer.step()
    assert readers
    assert all(weight.any() for weight in readers)


@pytest.mark.parametrize("name", CHEAP)
def test_a_dict_changes_only_the_fields_it_names(name):
    usual, changed = made(name).loop_config.to_dict(), made(name, feedback={"steps": 7}).loop_config.to_dict()
    assert changed == usual | {"steps": 7}


def test_what_a_recipe_does_not_take_is_refused():
    with pytest.raises(UnknownKeyword, match="DFMResNet18 takes no 'encoder_name'"):
        smpf.create("DFMResNet18", encoder="resnet50")
    with pytest.raises(UnknownKeyword, match=r"NeumannUnet takes no 'encoder_dept'.*encoder_depth"):
        smpf.create("NeumannUnet", encoder_dept=4)
    with pytest.raises(UnknownName, match="DFMResNet18"):
        smpf.create("DFMResNet19")
    with pytest.raises(InvalidValue, match=r"feedback_channels=4: the loop feeds back 2"):
        smpf.create("NeumannUnet", feedback_channels=4)


@pytest.mark.parametrize("name", ["DFMResNet18", "DFMDeepLabV3Plus", "NeumannUnet"])
def test_a_recipes_weights_fit_its_class_with_as_many_channels_and_not_its_plain_twin(name):
    model, twin = made(name), made(name, feedback=False)
    weights = model.feedforward_state_dict()
    with pytest.raises(RuntimeError, match="size mismatch"):
        twin.load_state_dict(weights)
    with pytest.raises(FeedbackError, match="of other shapes"):
        model.load_feedforward(twin.state_dict())
    build, channels = catalogue().architectures[name], model.loop_config.channels
    wide = build(classes=3, feedback_channels=channels, **SMALL.get(name, {}))
    wide.load_state_dict(weights)


@pytest.mark.parametrize(("name", "side"), [("DFMResNet18", 32), ("DFMDeepLabV3Plus", 64)])
def test_training_on_one_image_needs_a_norm_that_knows_no_batch(name, side):
    image = torch.rand(1, 3, side, side)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        made(name).train()(image)
    assert made(name).train()(torch.cat([image, image])).shape[0] == 2
    assert made(name, base_norm="group").train()(image).isfinite().all()


def test_a_wrapped_plain_twin_comes_back_from_disk_the_same(tmp_path):
    twin = made("NeumannUnet", feedback=False, in_channels=1).eval()
    model = smpf.wrap(twin).eval()
    again = smpf.from_pretrained(model.save_pretrained(tmp_path))
    with torch.no_grad():
        assert torch.equal(again(IMAGE[:, :1]), model(IMAGE[:, :1]))
        agree(again(IMAGE[:, :1]), twin(IMAGE[:, :1]))
    assert again.feedback.readout is not None, "a base without additional channels is read out by the loop"


def test_keywords_of_smps_models_reach_them():
    model = smpf.create("NeumannUnet", encoder="resnet18", encoder_depth=4, decoder_channels=(32, 16, 16, 8))
    assert len(model.decoder.blocks) == 4
    assert cut_of(model).readout(model) == 2


@pytest.mark.parametrize("name", a_few(["DFMResNet18", "NeumannUnet"], "NeumannUnet"))
@pytest.mark.sweep
def test_a_recipe_becomes_one_file_that_answers_alike(name, tmp_path):
    more = {} if name == "DFMResNet18" else {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
    model = smpf.create(name, **{**SMALL.get(name, {}), **more}, classes=3, feedback={"steps": 2, "channels": 16})
    written = smpf.export(as_if_trained(model).float(), tmp_path / "model.pt2", image=IMAGE, dynamic=False)
    assert written.difference < 1e-5


def test_a_saved_recipe_is_built_again_with_other_channels_fed_back(tmp_path):
    made("NeumannUnet").save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="decoder"):
        again = smpf.from_pretrained(tmp_path, strict=False, feedback={"channels": 4})
    assert again.feedback.dynamics.channels == 8 + 4
