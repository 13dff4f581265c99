"""A user's own model is looped as it is, or refused in words that fit: forwards of their own, hooks, replaced parts."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import smp_feedback as smpf
from smp_feedback.errors import SurgeryError
from smp_feedback.evaluation import evaluate
from smp_feedback.registry.public import catalogue
from smp_feedback.surgery.convs import ReadsFeedback
from smp_feedback.surgery.probe import in_channels_of

TINY = {"encoder_name": "tu-test_resnet.r160_in1k", "encoder_weights": None, "encoder_depth": 3}
TINY |= {"decoder_channels": (16, 8, 8), "classes": 3}
IMAGE = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
STEM = "encoder.model.conv1.0"
LOOPS = {
    "recurrent": smpf.Recurrent(dynamics="residual", steps=2),
    "score": smpf.Score(filters=4, additional_pools=1, steps=0, freeze=False),
    "restoration": smpf.Restoration(depth=2, filters=4, steps=1),
    "repair": smpf.Repair(width=4, steps=1, confidence=1 - 1e-7),
}
"""Every loop, such that an untrained one answers what the plain model does."""
ENTERED = ["stem", "stage:1", "after:encoder.model.conv1.0"]


def normalised(module, inputs):
    return ((inputs[0] - 0.45) / 0.225,)


def doubled(module, inputs, gave):
    return 2 * gave


def plain():
    return smp.Unet(**TINY).eval()


class Normalises(smp.Unet):
    def forward(self, x):
        return super().forward((x - 0.45) / 0.225)


class Squashes(smp.Unet):
    def forward(self, x):
        return super().forward(x).sigmoid()


class Bytes(smp.Unet):
    def forward(self, x):
        return super().forward(x / 255 if x.max() > 1 else x)


class Clamps(smp.Unet):
    def forward(self, x):
        return super().forward(x.clamp(0, 1))


class Pads(smp.Unet):
    def check_input_shape(self, x):
        pass

    def forward(self, x):
        (height, width), (down, right) = x.shape[-2:], (-x.shape[-2] % 8, -x.shape[-1] % 8)
        return super().forward(nn.functional.pad(x, (0, right, 0, down)))[..., :height, :width]


class Harmless(smp.Unet):
    def forward(self, x):
        return super().forward(x.contiguous())


class Whole(Normalises):
    """The same model, which says where it may be opened."""

    def forward_features(self, x):
        return self.decoder(self.encoder((x - 0.45) / 0.225))

    def forward_head(self, features):
        return self.segmentation_head(features)


def agree(ours, theirs):
    if ours.ndim == 4 and ours.shape == theirs.shape:  # a softmax does not hear what all classes have in common
        ours, theirs = (x - x.mean(1, keepdim=True) if x.shape[1] > 1 else x for x in (ours, theirs))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def every_way(model, image):
    """What a model answers last, by each way there is to ask it."""
    losses = []
    model.backward_per_step(image, lambda step: losses.append(step.logits.detach()) or step.logits.sum())
    with torch.no_grad():
        return {
            "forward": model(image),
            "iterate": [*model.iterate(image)][-1].logits,
            "trajectory": model.trajectory(image)[-1],
            "backward_per_step": losses[-1],
        }


def test_every_loop_is_tried():
    built_in = {name for name in catalogue().loops if catalogue().loops.origin(name) == "smp_feedback"}
    assert LOOPS.keys() == built_in


@pytest.mark.parametrize("loop", LOOPS)
def test_a_forward_that_normalises_is_refused_with_the_convolution_that_would_not_see_it(loop):
    words = rf"Normalises.forward changes the image before its first convolution \({STEM} is handed values from -2 to"
    with pytest.raises(SurgeryError, match=words):
        smpf.wrap(Normalises(**TINY), LOOPS[loop])


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("kind", "images"),
    [(Bytes, r"values outside \[0, 1\]"), (Clamps, r"values outside \[0, 1\]"), (Pads, "62 x 62 px")],
)
def test_a_forward_that_does_more_with_some_images_is_refused(loop, kind, images):
    with pytest.raises(SurgeryError, match=rf"{kind.__name__}.forward does more with images of {images}"):
        smpf.wrap(kind(**TINY).eval(), LOOPS[loop])


@torch.no_grad()
@pytest.mark.parametrize("loop", LOOPS)
def test_a_forward_of_ones_own_that_does_no_more_is_looped(loop):
    base = Harmless(**TINY).eval()
    agree(smpf.wrap(base, LOOPS[loop])(IMAGE), base(IMAGE))


@pytest.mark.parametrize("loop", LOOPS)
def test_a_forward_that_does_more_behind_the_head_is_refused(loop):
    with pytest.raises(SurgeryError, match=r"Squashes.forward does more than encoder -> decoder -> segmentation_head"):
        smpf.wrap(Squashes(**TINY), LOOPS[loop])


@torch.no_grad()
@pytest.mark.parametrize("loop", LOOPS)
def test_as_the_error_says_a_model_that_gives_features_and_head_of_its_own_is_looped_whole(loop):
    trained = Whole(**TINY).eval()
    told = {"stem": STEM} if loop == "recurrent" else {}
    model = smpf.wrap(trained, replace(LOOPS[loop], **told))
    agree(model(IMAGE), trained(IMAGE))
    assert (trained(IMAGE) - smp.Unet.forward(trained, IMAGE)).abs().max() > 0.01, "or normalising says nothing"


def test_a_recurrent_loop_is_told_which_convolution_reads_a_normalised_image():
    with pytest.raises(SurgeryError, match=rf"Whole|Normalises.*feedback=Recurrent\(stem='{STEM}'\)"):
        smpf.wrap(Whole(**TINY))


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", ["forward_pre", "forward", "full_backward_pre", "full_backward"])
def test_a_hook_of_the_model_itself_is_refused_by_name_when_it_is_closed(loop, kind):
    def said_aloud(*call):
        return None

    model = plain()
    getattr(model, f"register_{kind}_hook")(said_aloud)
    with pytest.raises(SurgeryError, match=r"hook 'said_aloud'.*model.encoder"):
        smpf.wrap(model, LOOPS[loop])


def test_a_forward_that_was_replaced_on_the_object_is_refused():
    model = plain()
    model.forward = lambda image: image
    with pytest.raises(SurgeryError, match="forward of this Unet was replaced on the object"):
        smpf.wrap(model)


def test_a_part_whose_forward_was_replaced_on_the_object_is_refused_for_a_copy_would_call_the_original():
    model = plain()
    before = model.decoder.forward
    model.decoder.forward = lambda *features: 2 * before(*features)
    with pytest.raises(SurgeryError, match=r"forward of decoder \(UnetDecoder\) was replaced on the object"):
        smpf.wrap(model)


@torch.no_grad()
def test_a_part_that_took_another_method_of_its_own_for_its_forward_is_looped():
    class Decoder(type(plain().decoder)):
        def doubled(self, *features):
            return 2 * super().forward(*features)

    model = plain()
    model.decoder.__class__ = Decoder
    model.decoder.forward = model.decoder.doubled
    answer = model(IMAGE)
    looping = smpf.wrap(model)
    model.decoder.__class__ = type(plain().decoder)  # the copy has its own
    agree(looping(IMAGE), answer)


@pytest.mark.parametrize("way", [nn.utils.weight_norm, lambda conv: prune.l1_unstructured(conv, "weight", 0.5)])
def test_what_torch_cannot_copy_is_refused_with_the_part_and_what_to_do(way):
    model = plain()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weight_norm is old
        way(model.segmentation_head[0])
    with pytest.raises(SurgeryError, match=r"segmentation_head.0.weight .*remove_weight_norm, prune.remove"):
        smpf.wrap(model)


def test_a_forward_that_was_replaced_after_closing_is_refused_where_the_model_is_opened():
    model = smpf.wrap(plain())
    model.forward = lambda image: image
    for way in (model.iterate, model.trajectory):
        with pytest.raises(SurgeryError, match="without the forward that was replaced on the object"):
            way(IMAGE)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_hook_that_came_after_closing_acts_in_a_call_and_is_refused_by_name_where_the_model_is_opened(loop):
    model = smpf.wrap(plain(), LOOPS[loop])
    before = model(IMAGE)
    handle = model.register_forward_hook(doubled)
    agree(model(IMAGE), 2 * before)
    ways = [model.iterate, model.trajectory, lambda x: model.backward_per_step(x, lambda s: s.logits.sum())]
    own = {"score": ["begin"], "restoration": ["passes", "segment"]}.get(loop, [])
    for way in (*ways, *(getattr(model, name) for name in own)):
        with pytest.raises(SurgeryError, match="without its forward hook 'doubled'"):
            way(IMAGE)
    with pytest.raises(SurgeryError, match=r"iterate opens.*'doubled'"):
        evaluate(model, [(IMAGE[0], torch.zeros(32, 32).long())], classes=3)
    handle.remove()
    agree(model.trajectory(IMAGE)[-1], before)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("part", ["encoder", "decoder", "segmentation_head"])
def test_hooks_of_parts_act_in_every_way_to_ask_whenever_they_came(loop, part):
    """An untrained loop is the plain model, so with hooks it is the plain model with the same hooks."""
    trained, ways = plain(), []
    closed_before = smpf.wrap(trained, LOOPS[loop]).eval()
    for model in (trained, closed_before):
        module = model.get_submodule(part)
        if part == "encoder":
            module.register_forward_pre_hook(normalised)
        else:
            module.register_forward_hook(doubled)
    ways.append(closed_before)
    if part != "encoder" or loop != "recurrent":  # else no convolution reads the image itself
        ways.append(smpf.wrap(trained, LOOPS[loop]).eval())
    for model in ways:
        for answer in every_way(model, IMAGE).values():
            agree(answer, trained(IMAGE))


@pytest.mark.parametrize("insert", ENTERED)
@pytest.mark.parametrize("hooked", ["encoder", "encoder.model"])
def test_what_is_kept_of_an_image_is_not_taken_for_what_a_hook_made_of_it(insert, hooked):
    trained = plain()
    model = smpf.wrap(trained, smpf.Recurrent(dynamics="residual", steps=2, insert=insert)).eval()
    for each in (trained, model):
        each.get_submodule(hooked).register_forward_pre_hook(normalised)
    for answer in every_way(model, IMAGE).values():
        agree(answer, trained(IMAGE))


@torch.no_grad()
def test_without_hooks_the_stem_runs_once_an_image_and_with_them_once_a_look():
    model, made = smpf.wrap(plain(), smpf.Recurrent(dynamics="residual", steps=3)).eval(), []
    assert isinstance(model.get_submodule(STEM), ReadsFeedback)
    real = torch.nn.functional.conv2d

    def counted(x, weight, *rest):
        made.append(weight is model.get_submodule(STEM).weight)
        return real(x, weight, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "conv2d", counted)
        model(IMAGE)
        once = sum(made)
        model.encoder.register_forward_pre_hook(normalised)
        made.clear()
        model(IMAGE)
    assert (once, sum(made)) == (1, 4), "three looks, and what was kept in vain"


@torch.no_grad()
def test_a_hook_of_a_torchvision_classifier_is_refused_for_its_parts_are_called_one_by_one():
    model = smpf.create("torchvision/lraspp_mobilenet_v3_large", classes=3, feedback=False).eval()
    agree(smpf.wrap(model)(torch.rand(1, 3, 64, 64)).isfinite().all().float(), torch.tensor(1.0))
    deep = smpf.create("torchvision/deeplabv3_mobilenet_v3_large", classes=3, feedback=False).eval()
    deep.classifier.register_forward_hook(doubled)
    with pytest.raises(SurgeryError, match=r"model.classifier is called part by part, without its forward hook"):
        smpf.wrap(deep)


@torch.no_grad()
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
def test_parametrised_convolutions_go_on_working(loop, kind):
    trained = plain()
    getattr(parametrizations, kind)(trained.get_submodule(STEM))
    getattr(parametrizations, kind)(trained.segmentation_head[0])
    trained.eval()
    agree(smpf.wrap(trained, LOOPS[loop])(IMAGE), trained(IMAGE))


def replace_head(model):
    model.segmentation_head[0] = nn.Conv2d(8, 7, 3, padding=1)


def replace_stem(model):
    model.encoder.model.conv1[0] = nn.Conv2d(5, 16, 3, stride=2, padding=1, bias=False)


@torch.no_grad()
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("change", "channels", "classes"), [(replace_head, 3, 7), (replace_stem, 5, 3)])
def test_wrap_reads_channels_and_classes_from_the_modules(loop, change, channels, classes):
    trained, image = plain(), torch.rand(1, channels, 32, 32)
    change(trained.get_submodule(""))
    with torch.no_grad():
        answer = trained.eval()(image)
    model = smpf.wrap(trained, LOOPS[loop])
    agree(model(image), answer)
    assert (model.config["in_channels"], model.config["classes"]) == (channels, classes)
    assert trained.config["classes"] == 3, "smp's own goes on saying what it was made with"


def test_a_number_of_channels_that_no_convolution_reads_counts_for_less_than_the_first():
    model = plain()
    assert in_channels_of(model)[0] == 3
    replace_stem(model)
    assert in_channels_of(model)[0] == 5
