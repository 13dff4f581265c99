"""The checks for authors: every registered part passes its own, and each check finds the fault that it is for."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import thin_files
import timm
import torch
from conftest import a_few
from PIL import Image
from slim import NARROW, SLIM, STEPWISE
from torch import nn

import smp_feedback as smpf
from smp_feedback import testing
from smp_feedback.data.dataset_factory import THIN, TORCHVISION
from smp_feedback.dynamics import Decay, Dynamics, Leaky
from smp_feedback.errors import InvalidValue
from smp_feedback.loops.recurrent.model import RecurrentModel
from smp_feedback.losses.pixels import PixelLoss
from smp_feedback.projections import Projection
from smp_feedback.registry.public import catalogue
from smp_feedback.restorers.base import Restored, Restorer
from smp_feedback.testing.architectures import SMALL

IMAGE = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
ENCODER = {"encoder_name": "tu-test_resnet"}
ARCHITECTURES = {  # where small needs other words: its arguments, and the side of its image
    **{name: (ENCODER | narrow, 64) for name, narrow in SLIM.items()},
    "DPT": ({"encoder_name": "tu-vit_tiny_patch16_224", "dynamic_img_size": True} | SLIM["DPT"], 64),
    "PlainConv": ({}, 32),
    "PAN": (ENCODER | NARROW, 128),
    **dict.fromkeys(("NeumannUnet", "DirichletUnet"), (ENCODER | STEPWISE, 64)),
    "DFMDeepLabV3Plus": ({"encoder_name": "resnet18", "decoder_channels": 16}, 64),
    **dict.fromkeys(("DFMResNet18", "DFMResNet34", "DFMResNet50"), ({}, 32)),
}
OURS = {
    kind: [name for name in registry if registry.origin(name) == "smp_feedback"]
    for kind, registry in catalogue().registries().items()
}
"""What a plugin brings is checked by its own tests."""


@pytest.fixture
def registered(restored):
    """Registers a part for one test."""
    return lambda kind, part: restored.registries()[kind].register("mine", part)


# --- every registered part


LARGE = (
    "DFMResNet34",
    "DFMResNet50",
    "DFMDeepLabV3Plus",
    "DPT",
    "DeepLabV3Plus",
    "MAnet",
    "UnetPlusPlus",
)  # like others, slower
CHEAP = (name for name in OURS["architectures"] if name not in LARGE)


@pytest.mark.parametrize("name", a_few(OURS["architectures"], *CHEAP))
def test_every_architecture_passes(name):
    arguments, side = ARCHITECTURES.get(name, (ENCODER, 64))
    testing.check_architecture(name, torch.rand(2, 3, side, side), feedback={"steps": 2}, classes=3, **arguments)


@pytest.mark.parametrize("name", a_few(["timm/test_resnet", "timm/test_vit", "timm/test_byobnet"], "timm/test_vit"))
def test_members_of_a_family_pass(name):
    side = timm.get_pretrained_cfg(name.removeprefix("timm/")).input_size[-1]
    testing.check_architecture(name, torch.rand(2, 3, side, side), feedback={"steps": 2}, classes=4)


@pytest.mark.parametrize("name", a_few(OURS["architectures"], "PlainConv", "FPN", "DFMResNet18"))
def test_every_architecture_looks_once_a_frame(name):
    arguments, side = ARCHITECTURES.get(name, (ENCODER, 64))
    feedback = smpf.Recurrent(dynamics="gated", steps=2, channels=4)  # a bottleneck ResNet makes them by fours
    model = smpf.create(name, encoder_weights=None, classes=3, feedback=feedback, **arguments)
    testing.check_looks(model, torch.rand(2, 3, side, side))


@pytest.mark.sweep
@pytest.mark.parametrize("insert", ["input", "stem", "stage:2"])
@pytest.mark.parametrize("statistics", ["per_step", "shared"])
def test_wherever_the_feedback_enters_it_looks_once_a_frame(insert, statistics):
    feedback = smpf.Recurrent(dynamics="gated", steps=3, insert=insert, statistics=statistics)
    testing.check_looks(smpf.create(**SMALL, feedback=feedback), torch.rand(2, 3, 64, 64))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda call, kept: call() * (1 + 0.1 * len(kept)), "is not that of the trajectory"),
        (lambda call, kept: call().flip(0), "a stream"),
    ],
)
def test_a_model_that_remembers_or_mixes_its_streams_is_found_out(fault, words):
    model, kept = smpf.create("PlainConv", feedback=smpf.Recurrent(dynamics="gated")), []
    body = model.cut.body

    def faulty(base, image):
        output, features = body(base, image)
        kept.append(1)
        return fault(lambda: output, kept), features

    model.feedback.cut = dataclasses.replace(model.cut, body=faulty)
    with pytest.raises(AssertionError, match=words):
        testing.check_looks(model, torch.rand(2, 3, 16, 16))


CUT_BY = {
    "segmentation_models_pytorch.base.model.SegmentationModel": ("FPN", ENCODER),
    "torchvision.models.segmentation._utils._SimpleSegmentationModel": ("torchvision/deeplabv3_mobilenet_v3_large", {}),
    "torchvision.models.segmentation.lraspp.LRASPP": ("torchvision/lraspp_mobilenet_v3_large", {}),
    "smp_feedback.models.recipes.resnet.DFMResNet": ("DFMResNet18", {}),
    "smp_feedback.models.recipes.deeplab.DFMDeepLabV3Plus": (
        *("DFMDeepLabV3Plus", {"encoder_name": "resnet18", "decoder_channels": 16}),
    ),
    "smp_feedback.models.recipes.unet.NeumannUnet": ("NeumannUnet", ENCODER | STEPWISE),
}


@pytest.mark.parametrize("name", OURS["cuts"])
def test_every_cut_passes(name):
    architecture, arguments = CUT_BY[name]
    model = smpf.create(architecture, encoder_weights=None, classes=3, feedback=False, **arguments)
    assert name in [f"{cls.__module__}.{cls.__qualname__}" for cls in type(model).__mro__]
    testing.check_cut(model, torch.rand(2, 3, 64, 64))


def test_labels_beside_masks_pass_too():
    testing.check_cut(smp.Unet("tu-test_resnet", encoder_weights=None, aux_params={"classes": 4}, **STEPWISE), IMAGE)


# 64 filters are 45 M parameters; a tracked maximum may be another one after rounding
LOOPS = {
    "score": {"steps": 3, "filters": 4, "additional_pools": 1, "unpooling": "nearest"},
    "restoration": {"depth": 2, "filters": 4, "weight": 1.0},  # 1e-3 of an untrained model's change is rounding
}


@pytest.mark.parametrize("name", OURS["loops"])
def test_every_loop_passes(name):
    testing.check_loop(name, **LOOPS.get(name, {}))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in OURS["dynamics"]),
        ("decay", {"learn_rates": True, "basis": "orthogonal"}),
        *(
            pytest.param(name, settings, marks=pytest.mark.sweep)
            for name in OURS["dynamics"]
            for settings in ({"learn_rates": True, "basis": "orthogonal"}, {"basis": "free"})
        ),
    ],
)
def test_every_dynamics_passes(name, settings):
    if settings and name in ("leaky", "gated"):
        settings = {"norm_error": "layer"}
    testing.check_dynamics(name, **settings, **({} if name == "gated" else {"tau": 2.0}))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in OURS["projections"]),
        ("entropy", {"output": "dirichlet"}),
        *(
            pytest.param(name, settings, marks=pytest.mark.sweep)
            for name in OURS["projections"]
            for settings in ({"channels": 3, "norm_feedback": "layer"}, {"output": "dirichlet"})
        ),
    ],
)
def test_every_projection_passes(name, settings):
    if not catalogue().projections[name].normalises:
        settings = {**settings, "norm_feedback": None}
    testing.check_projection(name, **settings)


@pytest.mark.parametrize("name", OURS["presets"])
def test_every_preset_passes(name):
    testing.check_preset(name, IMAGE, steps=3)


@pytest.mark.parametrize("name", OURS["losses"])
def test_every_loss_passes(name):
    testing.check_loss(name)


@pytest.mark.parametrize("name", OURS["restorers"])
@pytest.mark.parametrize("settings", [{}, {"depth": 4, "reach": 2.0}])
def test_every_restorer_passes(name, settings):
    testing.check_restorer(name, **settings)


@pytest.mark.parametrize("name", OURS["corruptions"])
def test_every_corruption_passes(name):
    testing.check_corruption(name)


@pytest.mark.parametrize("name", OURS["augmentations"])
def test_every_augmentation_passes(name):
    testing.check_augmentation(name)


@pytest.mark.parametrize("name", OURS["metrics"])
def test_every_metric_passes(name):
    testing.check_metric(name)


@pytest.mark.parametrize("name", OURS["verbs"])
def test_every_verb_passes(name):
    pytest.importorskip("lightning")
    testing.check_verb(name)


class Pictures:
    """In place of each of torchvision's datasets: twelve images of two classes."""

    classes = ("cat", "dog")

    def __init__(self, root, **options):
        self.options = str(options)

    def __len__(self):
        return 12

    def __getitem__(self, index):
        shade = (37 * index + len(self.options)) % 256
        return Image.new("RGB", (20, 14), (shade, 255 - shade, 80)), index % 2


def streets(root):
    """Images and masks of all three layouts, two in each split."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for i in range(2):
            image, mask = rng.integers(0, 256, (12, 16, 3), np.uint8), rng.integers(0, 8, (12, 16), np.uint8)
            city = f"ulm/ulm_00000{i}_000019"
            for path, pixels in (
                (f"{split}/{i}.png", image),
                (f"{split}annot/{i}.png", mask),
                (f"{split}instances/{i}.png", mask // 4),
                (f"leftImg8bit/{split}/{city}_leftImg8bit.png", image),
                (f"gtFine/{split}/{city}_gtFine_labelIds.png", mask),
                (f"JPEGImages/{split}{i}.jpg", image),
                (f"SegmentationClass/{split}{i}.png", mask),
            ):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / path)
        outline(root, split)
    return root


def outline(root, split):
    """The same images outlined: for COCO, for LabelMe, and in VOC's lists."""
    corners, size = [[2, 2], [9, 2], [9, 7]], {"height": 12, "width": 16}
    images = [{"id": i, "file_name": f"{i}.png", **size} for i in range(2)]
    category, polygon = [{"id": 3, "name": "cat"}], [[number for corner in corners for number in corner]]
    annotations = [{"id": i, "image_id": i, "category_id": 3, "segmentation": polygon} for i in range(2)]
    coco = {"images": images, "categories": category, "annotations": annotations}
    shape = {"label": "cat", "points": corners, "shape_type": "polygon"}
    labelme = {"shapes": [shape], "imageHeight": 12, "imageWidth": 16}
    names = "".join(f"{split}{i}\n" for i in range(2))
    for path, text in (
        (f"annotations/instances_{split}.json", json.dumps(coco)),
        *((f"{split}/{i}.json", json.dumps(labelme)) for i in range(2)),
        (f"ImageSets/Segmentation/{split}.txt", names),
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


FILES = {"camvid": {}, "folder": {"classes": tuple("abcdefgh")}, "cityscapes": {}}
FILES |= {"coco": {}, "labelme": {"classes": ("cat",)}, "voc": {}, "instances": {}}


@pytest.mark.parametrize("name", OURS["datasets"])
def test_every_dataset_passes(name, tmp_path, monkeypatch):
    if name.startswith("torchvision/"):
        monkeypatch.setattr(f"torchvision.datasets.{name.removeprefix('torchvision/')}", Pictures)
        testing.check_dataset(name, root=tmp_path)
    elif name in FILES:
        testing.check_dataset(name, root=streets(tmp_path), **FILES[name])
    elif name in THIN:
        testing.check_dataset(name, root=thin_files.FILES[name](tmp_path))
    else:
        testing.check_dataset(name, count=3, size=32)


def test_no_dataset_of_torchvisions_is_left_out():
    assert {f"torchvision/{name}" for name in TORCHVISION} <= set(OURS["datasets"])


def test_every_kind_of_part_has_its_check_and_every_check_is_public():
    from smp_feedback.testing.plugins import CHECKS

    assert set(CHECKS) | {"architectures", "cuts"} == set(catalogue().registries())
    assert {check.__name__ for check in CHECKS.values()} <= set(testing.__all__)
    assert sorted(testing.__all__, key=str.lower) == sorted(testing.__all__)


# --- bases with a fault


class Net(nn.Module):
    """Sound."""

    def __init__(self, in_channels=3, classes=2):
        super().__init__()
        self.body, self.last = nn.Conv2d(in_channels, 8, 3, padding=1), nn.Conv2d(8, classes, 1)

    def forward_features(self, image):
        return self.body(image).tanh()

    def forward_head(self, features):
        return self.last(features)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


class Remembers(Net):
    def forward_features(self, image):
        self.seen = super().forward_features(image)
        return self.seen


class Averages(Net):
    def forward_features(self, image):
        now = super().forward_features(image)
        before = getattr(self, "before", now)
        self.before = now.detach()
        return (now + before[: len(now)]) / 2 if before.shape[2:] == now.shape[2:] and len(before) >= len(now) else now


class Lists(Net):
    def __init__(self, in_channels=3, classes=2):
        super().__init__(in_channels, classes)
        self.sizes = []

    def forward_features(self, image):
        self.sizes.append(image.shape)
        return super().forward_features(image)


class Mixes(Net):
    def forward_features(self, image):
        features = super().forward_features(image)
        return features - features.mean(0) / 2


class Unregistered(Net):
    def __init__(self, in_channels=3, classes=2):
        super().__init__(in_channels, classes)
        self.scale = torch.ones(8, 1, 1)

    def forward_features(self, image):
        return self.scale * super().forward_features(image)


class Forgets(Net):
    def __init__(self, in_channels=3, classes=2):
        super().__init__(in_channels, classes)
        self.register_buffer("shift", torch.rand(8, 1, 1), persistent=False)

    def forward_features(self, image):
        return super().forward_features(image) + self.shift


class Reads(Net):
    def forward_features(self, image):
        features = super().forward_features(image)
        return features if image.max() < 2 else -features


class Frozen(Net):
    def forward_features(self, image):
        return super().forward_features(image).detach()


@pytest.mark.sweep
def test_a_sound_architecture_passes(registered):
    registered("architectures", Net)
    testing.check_architecture("mine", IMAGE, classes=3, exports=True)
    testing.check_cut(Net(), IMAGE)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (Remembers, r"a call changed \.seen"),
        (
            Averages,
            "disturbed|answers otherwise|is not forward|is another|depends|moved|a call|asked twice|does more with",
        ),
        (Lists, r"a call .*\.sizes"),
        (Mixes, "in a batch of 2 an image is answered otherwise than alone"),
        (Unregistered, "as if a tensor were left behind"),
        (Forgets, "loaded, it answers otherwise"),
        (Frozen, "gradient|learns|does not require grad"),
    ],
)
def test_an_architecture_with_a_fault_fails(registered, net, words):
    registered("architectures", net)
    with pytest.raises((AssertionError, smpf.FeedbackError), match=words):
        testing.check_architecture("mine", IMAGE)


def test_what_cannot_be_exported_may_not_claim_it(registered):
    registered("architectures", Reads)
    testing.check_architecture("mine", IMAGE)
    with pytest.raises(Exception, match=r"data-dependent|guard|item|Dynamo|branching"):
        testing.check_architecture("mine", IMAGE, exports=True)


def test_a_builder_that_looks_again_itself_fails(registered):
    registered("architectures", lambda in_channels, classes: smpf.wrap(Net(in_channels, classes)))
    with pytest.raises((AssertionError, smpf.FeedbackError), match="again"):
        testing.check_architecture("mine", IMAGE)


def test_a_builder_that_hands_out_its_weights_twice_fails(registered):
    shared = nn.Conv2d(3, 8, 3, padding=1)

    def build(in_channels, classes):
        net = Net(in_channels, classes)
        net.body.weight = shared.weight
        return net

    registered("architectures", build)
    with pytest.raises(AssertionError, match="same parameters out twice"):
        testing.check_architecture("mine", IMAGE)


CUTS = {
    "head": (lambda net, image: (net.body(image), None), lambda net, y, size: net.last(y), "is not the model's answer"),
    "rank": (
        lambda net, image: (net.body(image).flatten(2), None),
        lambda net, y, size: net.last(y.unflatten(2, size)),
        r"\(2, 8, 1024\): expected \(B, S, h, w\)",
    ),
    "batch": (
        lambda net, image: (net.body(image)[:1], None),
        lambda net, y, size: net.last(y),
        "for 2 images",
    ),
}


@pytest.mark.parametrize("fault", CUTS)
def test_a_cut_with_a_fault_fails(registered, fault):
    body, head, words = CUTS[fault]
    smpf.register_cut(Net, smpf.Cut(body, head))
    with pytest.raises(AssertionError, match=words):
        testing.check_cut(Net(), IMAGE)


def test_a_cut_that_reads_what_it_feeds_back_fails(registered):
    cut = smpf.Cut(
        lambda net, image: (net.forward_features(image), None), lambda net, y, size: net.last(y), readout=lambda net: 8
    )
    smpf.register_cut(Net, cut)
    with pytest.raises(AssertionError, match="8 channels are to be fed back"):
        testing.check_cut(Net(), IMAGE)


# --- loops with a fault


class Hoards(RecurrentModel):
    def forward(self, x, steps=None):
        self.last = super().forward(x, steps)
        return self.last


class Drifts(RecurrentModel):
    def forward(self, x, steps=None):
        return super().forward(x, steps) + 1e-3


@pytest.mark.parametrize(
    ("loop", "words"), [(Hoards, r"a call changed .*last"), (Drifts, r"trajectory\[-1\] is not forward")]
)
def test_a_loop_with_a_fault_fails(registered, loop, words):
    catalogue().loops.replace(type(catalogue().loops)("loop"))
    catalogue().loops.register("recurrent", loop)
    with pytest.raises(AssertionError, match=words):
        testing.check_loop("recurrent")


def test_a_loop_that_is_none_fails(registered):
    def register_and_check():
        registered("loops", Net)
        testing.check_loop("mine")

    with pytest.raises((AssertionError, smpf.FeedbackError), match=r"subclass of (smp_feedback\.)?FeedbackModel"):
        register_and_check()


# --- dynamics with a fault


class Momentum(Dynamics):
    """Keeps what it should be given."""

    def begin(self, steps):
        self.last = None

        def rule(h, e, t):
            self.last = e if self.last is None else self.last / 2 + e
            return h + self.last

        return rule


class InPlace(Dynamics):
    def begin(self, steps):
        return lambda h, e, t: e.add_(h)


class Grows(Decay):
    def weight(self, t, steps):
        return 2.0

    def size(self, t, steps):
        return super().size(t, steps) / 2


class Optimistic(Leaky):
    def tail(self, t):
        return super().tail(2 * t)


class Clairvoyant(Dynamics):
    def begin(self, steps):
        return lambda h, e, t: h + e / steps


class Deaf(Dynamics):
    def __init__(self, channels, config):
        super().__init__(channels, config)
        self.gain = nn.Parameter(torch.zeros(channels, 1, 1))

    def begin(self, steps):
        return lambda h, e, t: h + self.gain.detach() * e


class Twice(Dynamics):
    def begin(self, steps):
        return lambda h, e, t: h + e.repeat(1, 2, 1, 1)


class Single(Dynamics):
    def begin(self, steps):
        return lambda h, e, t: (h + e).float()


class Crowd(Dynamics):
    def begin(self, steps):
        return lambda h, e, t: h + e - e.mean(0)


class Sorts(Dynamics):
    """Its gradient is wrong: cut off for half of what it uses."""

    def begin(self, steps):
        return lambda h, e, t: h.tanh() * h.detach().tanh() + e


class Unknown(Dynamics):
    def begin(self, steps):
        return lambda h, e, t: (h + e) * float("nan")


class CutOff(Dynamics):
    def begin(self, steps):
        return lambda h, e, t: (h + e).detach()


class Hides(Dynamics):
    def __init__(self, channels, config):
        super().__init__(channels, config)
        self.mixes = [nn.Conv2d(channels, channels, 1)]

    def begin(self, steps):
        return lambda h, e, t: h + self.mixes[0](e)


@pytest.mark.parametrize(
    ("dynamics", "words"),
    [
        (Unknown, "the first state is NaN"),
        (CutOff, "at step 0 its gradient is not that of finite differences"),
        (Hides, "'mixes' holds weights that are neither trained nor saved"),
        (Momentum, "depends on the steps taken before it"),
        (InPlace, "wrote into the correction"),
        (Grows, r"rms\(h\) = .*size\(\) allows"),
        (Optimistic, r"tail\(1\)|size\(\) allows"),
        (Clairvoyant, "knows_the_end"),
        (Deaf, "no gradient reaches gain"),
        (Twice, r"must match|gave \(2, 12, 3, 4\)"),
        (Single, r"gave .* of torch\.float32 for a state"),
        (Crowd, "depends on the batch"),
        (Sorts, "[Jj]acobian"),
        (Net, "no subclass of smp_feedback.dynamics.Dynamics"),
    ],
)
def test_a_dynamics_with_a_fault_fails(registered, dynamics, words):
    if not issubclass(dynamics, Dynamics):
        dynamics.check = classmethod(lambda cls, config: None)
        dynamics.begin = None
    registered("dynamics", dynamics)
    with pytest.raises((AssertionError, RuntimeError), match=words):
        testing.check_dynamics("mine", tau=2.0)


# --- projections with a fault


class Raw(Projection):
    """Sound: the readout, through tanh."""

    def __call__(self, view):
        return nn.functional.interpolate(view.readout, view.size).tanh()

    def before(self):
        return 0.0


class OwnSize(Raw):
    def __call__(self, view):
        return view.readout.tanh()


class WrongStart(Raw):
    def before(self):
        return 0.5


class Peeks(Raw):
    def __call__(self, view):
        return super().__call__(view) + 0 * view.logits().mean()


class Blind(Raw):
    reads_logits = True


class Counts(Raw):
    calls = 0

    def __call__(self, view):
        self.calls += 1
        return super().__call__(view) * (1 + self.calls)


class Batchwise(Raw):
    def __call__(self, view):
        return (raw := super().__call__(view)) - raw.mean(0)


class Negative(Raw):
    def __init__(self, config, classes):
        super().__init__(config, classes)
        self.channels = 0


def test_a_sound_projection_passes(registered):
    registered("projections", Raw)
    testing.check_projection("mine")


@pytest.mark.parametrize(
    ("projection", "words"),
    [
        (OwnSize, r"feeds back \(2, 2, 3, 5\): expected \(2, 2, 6, 10\)"),
        (WrongStart, r"does not give before\(\) = 0.5"),
        (Peeks, "reads_logits = True"),
        (Blind, "reads the logits, and sends no gradient"),
        (Counts, "asked twice"),
        (Batchwise, "depends on the batch"),
        (Negative, "channels is 0: expected at least 1"),
    ],
)
def test_a_projection_with_a_fault_fails(registered, projection, words):
    registered("projections", projection)
    with pytest.raises(AssertionError, match=words):
        testing.check_projection("mine")


# --- restorers with a fault


class Brightens(Restorer):
    """Sound: it paints what it sees and hears."""

    def __init__(self, config, in_channels, classes):
        super().__init__()
        self.see = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.hear = nn.Conv2d(in_channels * classes, in_channels, 1)

    def begin(self, image):
        return (self.see(image),)

    def restore(self, image, begun, feedback):
        return Restored(image + (begun[0] if feedback is None else begun[0] + self.hear(feedback)))


class Halves(Brightens):
    def restore(self, image, begun, feedback):
        return Restored(super().restore(image, begun, feedback).image[..., ::2])


class Floats(Brightens):
    def restore(self, image, begun, feedback):
        return Restored(super().restore(image, begun, feedback).image.float())


class Bare(Brightens):
    def restore(self, image, begun, feedback):
        return super().restore(image, begun, feedback).image


class Explodes(Brightens):
    def restore(self, image, begun, feedback):
        return Restored(super().restore(image, begun, feedback).image.log())


class Displaces(Brightens):
    def restore(self, image, begun, feedback):
        return super().restore(image, begun, feedback)._replace(displacement=image)


class Scribbles(Brightens):
    def restore(self, image, begun, feedback):
        return Restored(image.mul_(0.5) + begun[0])


class Mutes(Brightens):
    def restore(self, image, begun, feedback):
        feedback = feedback if feedback is None else feedback.zero_()
        return super().restore(image, begun, feedback)


class Unhearing(Brightens):
    def restore(self, image, begun, feedback):
        return super().restore(image, begun, None)


class Levels(Brightens):
    def restore(self, image, begun, feedback):
        restored = super().restore(image, begun, feedback).image
        return Restored(restored - restored.mean(0))


class Accumulates(Brightens):
    def begin(self, image):
        self.seen = image.mean()
        return super().begin(image)


class Exhausts(Brightens):
    def restore(self, image, begun, feedback):
        begun[0].add_(1)
        return super().restore(image, begun, feedback)


class Dices(Brightens):
    def restore(self, image, begun, feedback):
        return Restored(super().restore(image, begun, feedback).image + torch.rand(()))


class Cut(Brightens):
    def restore(self, image, begun, feedback):
        return super().restore(image, tuple(x.detach() for x in begun), feedback)


class Idles(Brightens):
    def __init__(self, *told):
        super().__init__(*told)
        self.idle = nn.Linear(2, 2)


class Closure(Brightens):
    def __init__(self, *told):
        super().__init__(*told)
        self.rule = lambda x: x


class Forgets(Brightens):
    def __init__(self, *told):
        super().__init__(*told)
        self.scale = torch.rand(())

    def restore(self, image, begun, feedback):
        return Restored(super().restore(image, begun, feedback).image * self.scale)


ONE = Brightens(None, 3, 2)


def test_a_sound_restorer_passes(registered):
    registered("restorers", Brightens)
    testing.check_restorer("mine")


def test_any_network_from_image_to_image_passes(registered):
    registered("restorers", lambda config, in_channels, classes: nn.Conv2d(in_channels, in_channels, 5, padding=2))
    testing.check_restorer("mine")


def test_a_restorer_may_need_sizes_that_divide(registered):
    def halves(config, in_channels, classes):
        down = nn.Conv2d(in_channels, 4, 2, stride=2)
        return nn.Sequential(down, nn.ConvTranspose2d(4, in_channels, 2, stride=2))

    registered("restorers", halves)
    testing.check_restorer("mine", sizes=[(8, 12)])
    with pytest.raises(AssertionError, match=r"gives \(2, 3, 32, 46\) of an image \(2, 3, 33, 47\)"):
        testing.check_restorer("mine")


@pytest.mark.parametrize(
    ("restorer", "words"),
    [
        (Halves, r"it gives the shape \(2, 3, 32, 24\)"),
        (Floats, r"it gives torch\.float32, of torch\.float64"),
        (Bare, "it gives a Tensor: expected a Restored"),
        (Explodes, "not finite"),
        (Displaces, r"it displaces by \(2, 3, 32, 48\): expected \(2, 2, 32, 48\)"),
        (Scribbles, "wrote into the image"),
        (Mutes, "wrote into the feedback"),
        (Unhearing, "does not hear the feedback"),
        (Levels, "an image alone is restored otherwise than in a batch"),
        (Accumulates, "a call (changed|left) .*seen"),
        (Exhausts, r"depends on the restorations before it"),
        (Dices, "asked twice, it answers otherwise"),
        (Cut, r"no gradient reaches see\.weight"),
        (Idles, r"no gradient reaches idle\.weight"),
        (Closure, "[Cc]an't (pickle|get local)"),
        (Forgets, "its weights, loaded, restore otherwise"),
        (lambda config, in_channels, classes: ONE, "same parameters out twice"),
    ],
)
def test_a_restorer_with_a_fault_fails(registered, restorer, words):
    registered("restorers", restorer)
    with pytest.raises((AssertionError, AttributeError, pickle.PicklingError), match=words):
        testing.check_restorer("mine")


# --- losses with a fault


class Entropy(PixelLoss):
    """Sound: cross-entropy."""

    def of(self, pixels):
        loss = -(pixels.logits.log_softmax(1) * pixels.one_hot).sum(1)
        return loss.sum() / pixels.counted.sum().clamp_min(1)


class CountsAll(Entropy):
    def __init__(self, ignore_index=None):
        super().__init__(None)
        self.index = ignore_index

    def forward(self, logits, target):
        return super().forward(logits, target if self.index is None else target.where(target != self.index, 0))


class Reversed(Entropy):
    def of(self, pixels):
        return -super().of(pixels)


class PerImage(Entropy):
    def of(self, pixels):
        return -(pixels.logits.log_softmax(1) * pixels.one_hot).sum(1).mean(1)


class Ordered(Entropy):
    def of(self, pixels):
        weight = torch.arange(1.0, len(pixels.logits) + 1)[:, None]
        return -(weight * (pixels.logits.log_softmax(1) * pixels.one_hot).sum(1)).mean()


class Overflows(Entropy):
    def of(self, pixels):
        p = pixels.logits.exp() / pixels.logits.exp().sum(1, keepdim=True)
        return -((p * pixels.one_hot).sum(1).log() * pixels.counted).sum() / pixels.counted.sum()


class Flat(Entropy):
    def of(self, pixels):
        wrong = (pixels.logits.argmax(1) != pixels.one_hot.argmax(1)).float()
        return (wrong * pixels.counted).mean() + 0 * pixels.logits.sum()


class Running(Entropy):
    total = 0.0

    def of(self, pixels):
        self.total += 1
        return super().of(pixels) + self.total


def test_a_sound_loss_passes(registered):
    registered("losses", Entropy)
    testing.check_loss("mine")


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (CountsAll, "ignore_index=255: what is ignored"),
        (Reversed, "the right answer costs"),
        (PerImage, r"shape \(2,\)"),
        (Ordered, "depends on the order"),
        (Overflows, "of logits of 50"),
        (Flat, "gradient is zero"),
        (Running, "computed twice"),
    ],
)
def test_a_loss_with_a_fault_fails(registered, loss, words):
    registered("losses", loss)
    with pytest.raises(AssertionError, match=words):
        testing.check_loss("mine")


# --- corruptions and datasets with a fault


def dims(image, severity, generator):
    return image * (1 - 0.1 * severity)


def in_place(image, severity, generator):
    return image.mul_(1 - 0.1 * severity)


def too_bright(image, severity, generator):
    return image * (1 + 0.1 * severity)


def own_dice(image, severity, generator):
    return image * (1 - 0.1 * severity * torch.rand(()))


def backwards(image, severity, generator):
    return image * (0.3 + 0.1 * severity)


def smaller(image, severity, generator):
    return dims(image, severity, generator)[:, 1:]


def rounds(image, severity, generator):
    return dims(image, severity, generator).half().float()


def lazy(image, severity, generator):
    return image if severity == 1 else dims(image, severity, generator)


def test_a_sound_corruption_passes(registered):
    registered("corruptions", dims)
    testing.check_corruption("mine")


@pytest.mark.parametrize(
    ("corruption", "words"),
    [
        (in_place, "wrote into the image"),
        (too_bright, "expected 0 to 1"),
        (own_dice, "global random numbers"),
        (backwards, "expected more each time"),
        (smaller, "it gives the shape"),
        (rounds, "another dtype"),
        (lazy, "severity 1 nothing happens"),
    ],
)
def test_a_corruption_with_a_fault_fails(registered, corruption, words):
    registered("corruptions", corruption)
    with pytest.raises(AssertionError, match=words):
        testing.check_corruption("mine")


class Few:
    """Sound, and small."""

    classes, ignore_index = ("dark", "bright"), None

    def __init__(self, split, *, root=None, size=None, seed=0, count=None, transform=None):
        self.split, self.seed, self.transform = split, seed if split == "train" else 0, transform
        self.count, self.side = count or 4, (8, 8) if size is None else size

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if not 0 <= index < self.count:
            raise IndexError(index)
        generator = torch.Generator().manual_seed(100 * self.seed + 10 * len(self.split) + index)
        image = torch.rand(3, *self.side, generator=generator)
        mask = (image.mean(0) > 0.5).long()
        return self.transform(image, mask) if self.transform else (image, mask)

    def name(self, index):
        return f"{self.split}[{index}]"


class TooLong(Few):
    def __getitem__(self, index):
        return super().__getitem__(index % self.count)


class Seeded(Few):
    def __init__(self, split, *, seed=0, **options):
        super().__init__(split, **options)
        self.seed = seed


class Bytes(Few):
    def __getitem__(self, index):
        image, mask = super().__getitem__(index)
        return 255 * image, mask


class Cached(Few):
    def __init__(self, split, **options):
        super().__init__(split, **options)
        self.items = [super(Cached, self).__getitem__(i) for i in range(len(self))]

    def __getitem__(self, index):
        return self.items[index]


class Nameless(Few):
    def name(self, index):
        return "an item"


class AllOfThem(Few):
    def __len__(self):
        return 4


class Swallows(Few):
    def __init__(self, split, **options):
        super().__init__(split, **{k: v for k, v in options.items() if k in ("seed", "count", "size")})


def test_a_sound_dataset_passes(registered):
    registered("datasets", Few)
    testing.check_dataset("mine")
    testing.check_dataset("mine", splits=("train",))


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (TooLong, "expected an IndexError"),
        (Seeded, "val is another with another seed"),
        (Bytes, r"train: 4 of 4 items cannot be used:\n.*expected 0 to 1"),
        (Cached, "asked again, an item is another"),
        (Nameless, "two items have one name"),
        (AllOfThem, "count=1 gives 4 items|an item"),
        (Swallows, "takes an option that it does not have"),
    ],
)
def test_a_dataset_with_a_fault_fails(registered, dataset, words):
    registered("datasets", dataset)
    with pytest.raises((AssertionError, IndexError), match=words):
        testing.check_dataset("mine")


# --- the small checks


def test_a_model_is_left_as_it_was():
    model = smpf.create(**SMALL)
    before = copy.deepcopy(model.state_dict())
    testing.check_devices(model, IMAGE)
    testing.check_stateless(model, IMAGE)
    testing.check_saved(model, IMAGE)
    testing.check_batches(model, IMAGE)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(p.grad is not None for p in model.parameters())


def test_a_hook_left_behind_is_found():
    model = smpf.create(**SMALL).eval()
    model.encoder.register_forward_hook(lambda module, x, y: module.register_forward_hook(lambda *call: None) and None)
    with pytest.raises(AssertionError, match=r"encoder\._forward_hooks"):
        testing.check_stateless(model, IMAGE)


def test_checks_draw_from_dice_of_their_own():
    before = torch.get_rng_state()
    testing.check_dynamics("decay")
    testing.check_loss("dice")
    testing.check_corruption("gaussian_noise")
    testing.check_dataset("polygons", count=2, size=16)
    testing.check_restorer("unet")
    assert torch.equal(torch.get_rng_state(), before)


def test_unknown_names_are_unknown_and_no_failed_promise():
    with pytest.raises(smpf.FeedbackError, match="Did you mean 'dice'"):
        testing.check_loss("dise")
    with pytest.raises(InvalidValue, match="tau"):
        testing.check_dynamics("leaky", tau=0.5)
