"""Where the feedback enters: exact at every place, and what lies before it runs once per image."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import segmentation_models_pytorch as smp
import torch
from conftest import SMPS, a_few
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.errors import InvalidType, InvalidValue, SurgeryError
from smp_feedback.surgery.encoder_chain import chain_of
from smp_feedback.testing import check_agreement, check_heard, check_same_keys

IMAGE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
STEPS = 3
STAGE = {"stage:1": "act1", "stage:2": "layer1", "stage:3": "layer2", "stage:4": "layer3", "stage:5": "layer4"}
PLACES = ["input", "stem", *STAGE]
INNER = ["stem", "stage:1", "stage:3"]
# two of smp's ResNet family, and timm's feature encoders of different make
TINY = "tu-test_resnet.r160_in1k"
SLIM = {"encoder_weights": None, "decoder_channels": (16, 16, 16, 16, 16)}
ENCODERS = a_few(["resnet18", "se_resnet50", TINY, "tu-efficientnet_b0", "tu-convnext_femto"], "resnet18", TINY)
ARCHITECTURES = [name for name in SMPS if name != "DPT"]


def unet(insert, base=SLIM, **config):
    """Every weight heard, and every step's statistics its own."""
    config = smpf.Recurrent(insert=insert, **{"steps": STEPS, "feedback_init": 0.2, **config})
    model = smpf.create("Unet", TINY, classes=3, feedback=config, **base)
    with torch.no_grad():
        for parameter in model.encoder.parameters():  # timm's residual branches begin with a factor of zero
            parameter.add_(0.05 * torch.randn_like(parameter))
        model.train()(IMAGE)
    return model.eval()


def trunk(model):
    """timm's ResNet inside the encoder."""
    return model.encoder.model


def first(model):
    """The convolution that reads the image."""
    return trunk(model).conv1[0]


class Wide(nn.Module):
    """The convolution over [x, u], as published: nothing is computed apart."""

    def __init__(self, conv, reader):
        super().__init__()
        self.weight, self.conv = torch.cat([conv.weight, reader.weight], 1), conv

    def forward(self, x):
        return F.conv2d(x, self.weight, self.conv.bias, self.conv.stride, self.conv.padding)


def naive(model, plain, insert, image):
    """The loop with everything computed at every step, by hooks on the plain model. Logits of the last step."""
    readers, encoder, feed = list(model.feedback.readers), trunk(plain), {}
    if insert in STAGE:
        module = encoder.get_submodule(STAGE[insert])
        module.register_forward_hook(lambda m, i, y: y + readers[0](F.interpolate(feed["u"], y.shape[-2:])))
    else:
        name = "conv1.0" if insert == "input" else "layer1.0.conv1"
        wide = Wide(encoder.get_submodule(name), readers[0])
        encoder.set_submodule(name, wide)
        pooled = nn.Identity() if insert == "input" else encoder.maxpool
        wide.register_forward_pre_hook(lambda m, i: torch.cat([i[0], pooled(feed["u"])], 1))
    size = {"input": 64, "stem": 32}.get(insert) or 64 // 2 ** int(insert[-1])
    state, s = 0, 16
    for t in range(STEPS):
        u = F.interpolate(state[:, s:], (size, size), mode="bilinear") if t else image.new_zeros(2, 2, size, size)
        feed["u"] = F.instance_norm(u).softmax(1) if size > 1 else torch.full_like(u, 0.5)
        y = plain.decoder(plain.encoder(image))
        y = torch.cat([y, model.feedback.readout(y)], 1)
        state = state + math.exp(-t) * F.instance_norm(y)
    return plain.segmentation_head(state[:, :s])


def in_double(insert):
    """A model, the plain one with its weights, and an image: in double precision, where only a mistake differs."""
    model = unet(insert, statistics="shared").double()
    plain = smp.Unet(TINY, classes=3, **SLIM).eval().double()
    plain.load_state_dict(model.feedforward_state_dict())
    return model, plain, IMAGE.double()


@pytest.mark.parametrize("insert", PLACES)
def test_each_place_is_exactly_the_loop_that_computes_everything_anew(insert):
    model, plain, image = in_double(insert)
    ours, theirs = model(image), naive(model, plain, insert, image)
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)
    ours.square().mean().backward()
    reader_gradient = model.feedback.readers[0].weight.grad.clone()
    model.zero_grad()
    theirs.square().mean().backward()
    for name, parameter in plain.encoder.named_parameters():
        mine = model.encoder.get_parameter(name.replace(".conv.", "."))
        assert mine.grad is None, "the plain model's gradient is its own"
        assert parameter.grad is not None, name
    scale = reader_gradient.abs().max()
    assert (model.feedback.readers[0].weight.grad - reader_gradient).abs().max() < 1e-9 * scale


@pytest.mark.parametrize("insert", INNER)
def test_gradients_of_what_runs_once_are_those_of_running_it_every_step(insert):
    model, plain, image = in_double(insert)
    model(image).square().mean().backward()
    naive(model, plain, insert, image).square().mean().backward()
    ours, theirs = first(model).weight.grad, first(plain).weight.grad
    torch.testing.assert_close(ours, theirs, atol=1e-9 * float(theirs.abs().max()), rtol=1e-7)


@torch.no_grad()
@pytest.mark.parametrize("insert", [*INNER, "stage:2"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_promises_hold_wherever_the_feedback_enters(encoder, insert):
    chain = chain_of(smp.Unet(encoder, encoder_weights=None).eval(), IMAGE[:1])
    if insert == "stage:1" and 1 not in chain.stages:
        pytest.skip("this encoder's first feature has stride 4")
    plain = smp.Unet(encoder, encoder_weights=None, classes=2).eval()
    for parameter in plain.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    model = smpf.wrap(plain, smpf.Recurrent(insert=insert, steps=2, dynamics="decay", feedback_init=0.3)).eval()
    check_same_keys(model, plain)
    check_agreement(model, IMAGE)
    with torch.enable_grad():
        check_heard(model, IMAGE)


@pytest.mark.parametrize("insert", a_few(["stem", "stage:2"], "stage:2"))
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_can_be_entered_below_its_input(arch, insert):
    size = 128 if arch == "PAN" else 64
    plain = smp.create_model(arch, TINY, encoder_weights=None, classes=2).eval()
    image, config = torch.rand(2, 3, size, size), smpf.Recurrent(dynamics="residual", insert=insert)
    with torch.no_grad():
        torch.testing.assert_close(smpf.wrap(plain, config)(image, steps=2), plain(image), atol=1e-4, rtol=1e-4)


def calls_of(model, names):
    counts = dict.fromkeys(names, 0)
    for name in names:

        def count(*_, name=name):
            counts[name] += 1

        trunk(model).get_submodule(name).register_forward_hook(count)
    return counts


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("insert", "once"), [("stem", ["conv1", "maxpool"]), ("stage:2", ["conv1", "layer1"])])
def test_what_lies_before_runs_once_per_image_in_training_too(insert, once, recompute):
    names = ["conv1", "maxpool", "layer1", "layer2", "layer4"]
    later = [name for name in names[2:] if name not in once]
    for train in (False, True):
        model = unet(insert, recompute=recompute)
        counts = calls_of(model, names)
        model.train(train)(IMAGE).mean().backward()
        assert [counts[name] for name in once if name != "maxpool"] == [1] * (len(once) - ("maxpool" in once))
        # the feedback goes through the stem's pooling on its own
        assert counts["maxpool"] == 1 + (insert == "stem") * STEPS * (1 + recompute)
        assert [counts[name] for name in later] == [STEPS * (1 + recompute)] * len(later)


def test_the_image_is_convolved_once_in_training_too():
    model = unet("input").train()
    counts = calls_of(model, ["conv1.0"])
    inner, conv = [], first(model)
    conv._conv_forward = lambda x, w, b, old=conv._conv_forward: (inner.append(1), old(x, w, b))[1]
    model(IMAGE).mean().backward()
    assert len(inner) == 1
    assert counts["conv1.0"] == 1 + STEPS, "asked once before the loop, and answering from memory in every look"


@pytest.mark.parametrize("insert", INNER)
def test_statistics_before_the_entry_are_counted_once_per_call(insert):
    model = unet(insert, recompute=True).train()
    before = int(trunk(model).bn1.num_batches_tracked)
    model(IMAGE).mean().backward()
    assert int(trunk(model).bn1.num_batches_tracked) == before + 1
    early = set(model.feedback.entry.before(model))
    assert trunk(model).bn1 in early
    assert not any(hasattr(norm, "rows") for norm in early), "one look needs no statistics for the later ones"


def parameters_and_gradients(model):
    return {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("insert", ["input", *INNER])
def test_a_backward_per_step_in_any_form_is_the_gradient_of_the_sum(insert):
    found = []
    model = unet(insert, detach=True)

    def loss(step):
        return (step.index + 1) * step.logits.square().mean()

    def each():
        for step in model.iterate(IMAGE):
            loss(step).backward()

    def together():
        sum(loss(step) for step in model.iterate(IMAGE)).backward()

    for run in (each, together, lambda: model.backward_per_step(IMAGE, loss)):
        model.zero_grad()
        run()
        found.append(parameters_and_gradients(model))
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for key, gradient in found[0].items():
            torch.testing.assert_close(other[key], gradient, atol=2e-6, rtol=1e-3, msg=key)
    if insert != "input":
        assert found[0]["encoder.model.conv1.0.weight"].abs().max() > 0


@pytest.mark.parametrize("insert", ["stem", "stage:2"])
def test_backward_per_step_goes_through_what_is_shared_once(insert):
    model = unet(insert)
    passes = []
    first(model).weight.register_hook(lambda g: passes.append(1))
    losses = model.backward_per_step(IMAGE, lambda step: step.logits.square().mean())
    assert len(passes) == 1
    path = model.trajectory(IMAGE)
    torch.testing.assert_close(losses, path.square().mean((1, 2, 3, 4)).detach())


@pytest.mark.parametrize(("image", "steps"), [(IMAGE[:, :2], 2), (IMAGE, 0)])
def test_backward_per_step_refuses_what_it_does_not_take_before_any_work(image, steps):
    model = unet("stage:2").train()
    before = trunk(model).bn1.num_batches_tracked.clone()
    with pytest.raises(smpf.FeedbackError, match="expected"):
        model.backward_per_step(image, lambda step: step.logits.mean(), steps=steps)
    assert trunk(model).bn1.num_batches_tracked == before


@pytest.mark.parametrize("insert", ["input", "stem", "stage:2"])
def test_a_backward_per_step_reaches_what_made_the_image(insert):
    model, maker, found = unet(insert, detach=True), nn.Conv2d(3, 3, 1), []

    def loss(step):
        return step.logits.square().mean()

    def each():
        for step in model.iterate(maker(IMAGE)):
            loss(step).backward()

    def together():
        sum(map(loss, model.iterate(maker(IMAGE)))).backward()

    for run in (each, together, lambda: model.backward_per_step(maker(IMAGE), loss)):
        maker.zero_grad()
        run()
        found.append(maker.weight.grad.clone())
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("insert", ["stem", "stage:2"])
def test_a_backward_through_detached_steps_reaches_each_shared_parameter_once(insert):
    """``DistributedDataParallel`` refuses more; two features are kept here, and the first is behind both."""
    model, reached = unet(insert, detach=True), []
    first(model).weight.register_post_accumulate_grad_hook(lambda weight: reached.append(1))
    sum(step.logits.square().mean() for step in model.iterate(IMAGE)).backward()
    assert len(reached) == 1


@pytest.mark.parametrize("insert", ["input", "stem", "stage:2"])
def test_a_model_of_detached_steps_is_differentiated_like_any_other(insert):
    model = unet(insert, detach=True)
    image, weight = IMAGE.clone().requires_grad_(), first(model).weight
    by_image, by_weight = torch.autograd.grad(model(image).square().mean(), (image, weight))
    list(model.iterate(image))[-1].logits.square().mean().backward()
    for ours, theirs in ((by_image, image.grad), (by_weight, weight.grad)):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * float(theirs.abs().max()))
    functional = torch.func.grad(lambda x: model(x).square().mean())(IMAGE)
    torch.testing.assert_close(functional, by_image, rtol=1e-3, atol=1e-5 * float(by_image.abs().max()))


@pytest.mark.parametrize("insert", ["input", "stem", "stage:2"])
def test_a_first_look_without_gradient_leaves_the_later_ones_theirs(insert):
    model = unet(insert, grad_steps=1, learn_rates=True)
    model(IMAGE, steps=2).square().mean().backward()
    expected = parameters_and_gradients(model)
    model = copy.deepcopy(model)
    model.zero_grad()
    looks = model.iterate(IMAGE, steps=2)
    with torch.no_grad():
        next(looks)
    next(looks).logits.square().mean().backward()
    found = parameters_and_gradients(model)
    assert found.keys() == expected.keys()
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()), msg=key)


class Adapted(nn.Module):
    """A convolution inside another module, as adapters (LoRA) do it."""

    def __init__(self, conv):
        super().__init__()
        facts = {"stride": conv.stride, "padding": conv.padding}
        self.conv, self.more = conv, nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, **facts)

    def forward(self, x):
        return self.conv(x) + self.more(x)


@torch.no_grad()
@pytest.mark.parametrize("how", ["hook", "wrapper"])
@pytest.mark.parametrize("insert", ["input", "stem"])
def test_who_adds_to_a_convolution_that_reads_the_feedback_adds_once_a_look(insert, how):
    model = unet(insert)
    name = "conv1.0" if insert == "input" else "layer1.0.conv1"
    conv = trunk(model).get_submodule(name)
    if how == "hook":
        conv.register_forward_hook(lambda module, given, gave: 2 * gave)
    else:
        trunk(model).set_submodule(name, Adapted(conv))
    ours = model(IMAGE)
    model.feedback.entry = model.feedback.entry.forgetful()
    torch.testing.assert_close(ours, model(IMAGE), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("insert", ["input", "stem", "stage:2"])
def test_an_encoder_replaced_afterwards_is_told_that_it_reads_no_feedback(insert):
    model = unet(insert)
    model.encoder = smp.Unet(TINY, encoder_weights=None).encoder
    with pytest.raises(SurgeryError, match="replaced since the model was made"):
        model(IMAGE)


@pytest.mark.parametrize("insert", ["input", *INNER])
def test_recomputing_changes_neither_gradients_nor_statistics(insert):
    plain = unet(insert, statistics="per_step")
    found = []
    for recompute in (False, True):
        model = smpf.create("Unet", TINY, classes=3, feedback={**config_of(plain), "recompute": recompute}, **SLIM)
        model.load_state_dict(plain.state_dict())
        model.train()(IMAGE).square().mean().backward()
        found.append((parameters_and_gradients(model), {k: v.clone() for k, v in model.named_buffers()}))
    (gradients, buffers), (again, buffers_again) = found
    for key, value in buffers.items():  # what no feedback reaches is kept apart in one of the two: other rounding
        torch.testing.assert_close(buffers_again[key], value, rtol=1e-5, atol=1e-6, msg=key)
    for key, gradient in gradients.items():
        assert (again[key] - gradient).abs().max() <= 5e-6 * gradient.abs().max().clamp_min(1), key


def config_of(model):
    return model.loop_config.to_dict()


@torch.no_grad()
@pytest.mark.parametrize("insert", ["input", *INNER])
def test_settling_images_keep_what_was_computed_once(insert):
    model = unet(insert, tau=0.5, tolerance=0.2)
    together = model(IMAGE, steps=6)
    alone = torch.cat([model(x[None], steps=6) for x in IMAGE])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")  # a look that begins and ends
@pytest.mark.parametrize("insert", a_few(["stem", "stage:3"], "stem"))
@pytest.mark.sweep
def test_copies_pickles_compiled_and_exported_models_are_the_same(insert):
    model = unet(insert, SLIM | {"encoder_depth": 3, "decoder_channels": (16, 16, 16)}, steps=2)
    expected = model(IMAGE)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(IMAGE), expected)
        first(other).weight.zero_()
        assert torch.equal(model(IMAGE), expected), "a copy shares nothing"
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(IMAGE), expected, atol=1e-5, rtol=1e-4)
    program = torch.export.export(model, (IMAGE,), strict=True).module()
    torch.testing.assert_close(program(IMAGE), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_saved_model_remembers_where_the_feedback_enters(tmp_path):
    model = unet("stage:2")
    model.save_pretrained(tmp_path)
    assert torch.equal(smpf.from_pretrained(tmp_path)(IMAGE), model(IMAGE))


def test_the_encoder_is_still_itself_outside_a_loop():
    model, plain = unet("stage:3"), smp.Unet(TINY, classes=3, **SLIM).eval()
    plain.load_state_dict(model.feedforward_state_dict())
    with torch.no_grad():
        for ours, theirs in zip(model.encoder(IMAGE), plain.encoder(IMAGE), strict=True):
            assert torch.equal(ours, theirs)
    assert isinstance(model.encoder, type(plain.encoder))


@pytest.mark.parametrize(
    ("encoder", "insert", "words"),
    [
        ("mit_b0", "stage:2", r"no chain of modules.*Possible here: 'input', 'after:NAME' of a module that is handed"),
        ("densenet121", "stem", r"DenseNetEncoder cannot be entered there\. Possible here: 'input', 'stage:1'"),
        ("tu-convnext_femto", "stage:1", r"Possible here: 'input', 'stem', 'stage:2', 'stage:3'"),
        ("tu-resnetv2_50", "stem", r"Possible here: 'input', 'stage:1'"),
    ],
)
def test_an_encoder_that_cannot_be_entered_there_says_where_it_can(encoder, insert, words):
    with pytest.raises(SurgeryError, match=words):
        smpf.create("Unet", encoder, None, feedback=smpf.Recurrent(insert=insert))


def test_a_shallow_encoder_has_no_deep_stage():
    shallow = {"encoder_depth": 3, "decoder_channels": (16, 16, 8), "feedback": smpf.Recurrent(insert="stage:4")}
    with pytest.raises(SurgeryError, match=r"'input', 'stem', 'stage:1', 'stage:2', 'stage:3', 'after:NAME' of"):
        smpf.create("Unet", "resnet18", None, **shallow)


def test_a_model_without_an_encoder_is_entered_at_its_input_only():
    class Features(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward_features(self, x):
            return self.conv(x)

        def forward_head(self, x):
            return x[:, :2]

        def forward(self, x):
            return self.forward_head(self.forward_features(x))

    with pytest.raises(SurgeryError, match=r"Features cannot be entered there.*'input'"):
        smpf.wrap(Features(), smpf.Recurrent(insert="stem"))


def test_an_encoder_that_keeps_its_resolution_has_no_stem():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()

        def forward(self, x):
            return [x, self.act(self.conv(x))]

    class Features(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = Encoder()

        def forward_features(self, x):
            return self.encoder(x)[-1]

        def forward_head(self, x):
            return x[:, :2]

        def forward(self, x):
            return self.forward_head(self.forward_features(x))

    with pytest.raises(SurgeryError, match="'stage:1'"):
        smpf.wrap(Features(), smpf.Recurrent(insert="stem"))
    smpf.wrap(Features(), smpf.Recurrent(insert="stage:1"))


@pytest.mark.parametrize("insert", ["inputs", "stage:0", "stage:9", "stage", "stage:-1", ""])
def test_a_place_that_does_not_exist_is_refused_at_birth(insert):
    with pytest.raises(InvalidValue, match="insert="):
        smpf.Recurrent(insert=insert)


def test_a_place_is_a_word_and_a_named_stem_is_at_the_input():
    with pytest.raises(InvalidType, match="insert=2"):
        smpf.Recurrent(insert=2)
    with pytest.raises(InvalidValue, match="expected insert='input'"):
        smpf.Recurrent(insert="stem", stem="encoder.conv1")
