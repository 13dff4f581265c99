"""Packages that bring encoders, metrics, augmentations and verbs, and damaged ones beside them, which hide nobody."""

from __future__ import annotations

import sys
import warnings

import pytest
import segmentation_models_pytorch as smp
import torch
from distributions import install, new_site
from torch import nn
from torch.utils.data import Dataset

import smp_feedback as smpf
from smp_feedback.cli.main import main
from smp_feedback.data import Corrupted, open_dataset
from smp_feedback.errors import InvalidInput, InvalidValue, NameTaken, PluginWarning, UnknownName
from smp_feedback.evaluation import NamedMetric, evaluate
from smp_feedback.registry import public as plugins
from smp_feedback.registry.installed import owners_of
from smp_feedback.registry.plugins import KINDS
from smp_feedback.registry.public import catalogue

GOOD = """
    from torch import nn
    from segmentation_models_pytorch.encoders._base import EncoderMixin
    from smp_feedback.hookspecs import hookimpl

    class Stairs(nn.Module, EncoderMixin):  # in this order smp's mixin sets nothing
        def __init__(self, depth=5):
            super().__init__()
            self._depth, self._in_channels, self._out_channels = depth, 3, [3, 4, 4, 4, 4, 4]
            pairs = zip(self._out_channels[:depth], self._out_channels[1:])
            self.stages = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairs)

        def forward(self, image):
            features = [image]
            for stage in self.stages:
                features.append(stage(features[-1]).relu())
            return features

    def greet(parser):
        '''Greet somebody.'''
        parser.add_argument("--who", default="you")
        return lambda args: print("hello", args.who)

    @hookimpl
    def register_encoders(register):
        register("stairs", Stairs)

    @hookimpl
    def register_verbs(register):
        register("greet", greet)
        register("faulty", lambda parser: lambda args: 1 / 0, help="Divide.")
        register("hollow", lambda parser: None, help="Do nothing.")
"""
SLIM = {"encoder_depth": 3, "decoder_channels": (8, 8, 8), "classes": 2}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on the path for distributions, and a process that has not looked for plugins yet."""
    there = dict(smp.encoders.encoders)
    with new_site(tmp_path, monkeypatch) as folder:
        yield folder
    smp.encoders.encoders.clear()
    smp.encoders.encoders.update(there)


# --- names


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_kind_has_a_function_that_lists_its_names(kind):
    found = getattr(smpf, f"list_{kind}")()
    assert set(catalogue().registries()[kind].names()) <= set(found)
    assert getattr(smpf, f"list_{kind}")("no such*") == []


# --- encoders


def test_a_packages_encoder_is_one_of_smps_once_it_was_asked_for(site):
    install(site, "good-parts", "1.2", GOOD)
    model = smpf.create("Unet", encoder="STAIRS", **SLIM)
    assert model(torch.rand(1, 3, 64, 96)).shape == (1, 2, 64, 96)
    assert model.config["encoder_weights"] is None  # it has none, and nobody asked for any
    assert smp.FPN("stairs", encoder_weights=None).encoder.out_channels == [3, 4, 4, 4, 4, 4]
    assert smpf.list_encoders("stair*") == ["stairs"]
    with pytest.raises(UnknownName, match="set of weights of stairs"):
        smpf.create("Unet", encoder="stairs", encoder_weights="imagenet", **SLIM)
    with pytest.raises(UnknownName, match="Did you mean 'stairs'"):
        smpf.create("Unet", encoder="stair")


@pytest.mark.parametrize("name", ["resnet18", "ResNet18", "tu-mine", "timm-mine"])
def test_an_encoder_may_not_take_the_name_of_one_of_smps_or_timms(restored, name):
    with pytest.raises(NameTaken, match="give yours another"):
        smpf.register_encoder(name, nn.Identity)
    assert name not in catalogue().encoders


def test_a_model_on_a_packages_encoder_names_it_when_it_is_gone(site, monkeypatch):
    install(site, "good-parts", "1.2", GOOD)
    folder = smpf.create("Unet", encoder="stairs", **SLIM).save_pretrained(site.parent / "saved")
    smpf.from_pretrained(folder)
    (site / "good_parts-1.2.dist-info" / "entry_points.txt").unlink()
    monkeypatch.setattr(plugins, "_process", [])
    del smp.encoders.encoders["stairs"]
    with pytest.raises(UnknownName, match=r"No encoder is called 'stairs'. It came with good-parts 1.2: pip install"):
        smpf.from_pretrained(folder)


# --- metrics


def specificity(counts):
    others = counts.scored - counts.target
    return others - counts.predicted + counts.hit, others


def scored(target, logits):
    return evaluate(nn.Identity(), list(zip(logits, target, strict=True)), classes=2).last


def test_a_registered_metric_is_scored_and_watched_as_it_is_defined(restored):
    smpf.register_metric("specificity", NamedMetric("other", "other", "specificity", shares=specificity))
    smpf.register_metric("share_right", NamedMetric("s", None, "s", of_all=lambda n: n.hit.sum(-1) / n.scored[..., 0]))
    torch.manual_seed(0)
    target, logits = torch.randint(0, 2, (3, 6, 5)), torch.randn(3, 2, 6, 5)
    score, said = scored(target, logits), logits.argmax(1)
    expected = [float(((said != k) & (target != k)).sum() / (target != k).sum()) for k in range(2)]
    assert score.class_metrics["specificity"] == pytest.approx(expected)
    assert score.metrics["specificity"] == pytest.approx(sum(expected) / 2)
    assert score.metrics["share_right"] == pytest.approx(score.accuracy)
    assert "share_right" not in score.class_metrics
    monitors = pytest.importorskip("smp_feedback.training.monitors")
    assert monitors.monitor_of("specificity/sky", "segmentation", ["sky", "car"], 1).name == "val_specificity/sky"
    assert monitors.monitor_of("share_right", "segmentation", ["sky", "car"], 1).mode == "max"


def test_a_metric_that_fails_is_named_and_takes_no_other_along(restored):
    smpf.register_metric("broken", NamedMetric("b", "b", "b", best="min", shares=lambda n: 1 / 0))
    with pytest.warns(PluginWarning, match=r"metric 'broken' of .* has no value: ZeroDivisionError"):
        score = scored(torch.zeros(1, 4, 4).long(), torch.randn(1, 2, 4, 4))
    assert score.metrics["broken"] != score.metrics["broken"]
    assert 0 <= score.metrics["dice"] <= 1
    monitors = pytest.importorskip("smp_feedback.training.monitors")
    with pytest.raises(InvalidValue, match=r"val_broken: metric 'broken' of .* cannot be watched: ZeroDivisionError"):
        monitors.monitor_of("broken", "segmentation", ["sky", "car"], 1)
    assert monitors.direction("val_broken/sky") == "min"


# --- verbs


def test_a_packages_verb_is_in_the_help_with_its_package_and_runs(site, capsys):
    pytest.importorskip("jsonargparse")
    install(site, "good-parts", "1.2", GOOD)
    install(site, "sick-parts", "0.1", "1 / 0")
    assert main([]) == 0
    said = capsys.readouterr()
    assert "greet               Greet somebody. (good-parts 1.2)" in said.out
    assert "Plugin 'sick-parts' of sick-parts 0.1 is left out: ZeroDivisionError" in said.err
    assert main(["greet", "--who", "me"]) == 0
    assert capsys.readouterr().out == "hello me\n"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["faulty"], 1, "ZeroDivisionError: division by zero"),
        (["hollow"], 2, "verb 'hollow' of good-parts 1.2 gave None: expected a function"),
        (["gret"], 2, "No verb is called 'gret'. Did you mean 'greet'"),
        (["greet", "--hwo", "me"], 2, "Did you mean '--who'"),
    ],
)
def test_what_is_wrong_with_a_packages_verb_is_one_line(site, capsys, words, status, said):
    pytest.importorskip("jsonargparse")
    install(site, "good-parts", "1.2", GOOD)
    assert main(words) == status
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("name", ["fit", "two words", "--flag", ""])
def test_a_verb_may_not_take_our_name_nor_one_that_cannot_be_typed(site, name):
    install(site, "bold-parts", "1.0", GOOD.replace('"greet"', repr(name)))
    with pytest.warns(PluginWarning, match="'bold-parts' of bold-parts 1.0 is left out"):
        assert "stairs" not in smpf.list_encoders()


# --- damaged distributions

BAD = {
    "entry points that are no text": {"entry_points.txt": b"\xff\xfe\x00"},
    "entry points of nonsense": {"entry_points.txt": b"nonsense\n"},
    "an entry point that is none": {"entry_points.txt": b"[smp_feedback]\nnonsense\n"},
    "metadata that are no text": {"METADATA": b"Name: \xff\xfe", "entry_points.txt": b"[smp_feedback]\nbad = json\n"},
    "no name": {"METADATA": b"Version: 1\n", "entry_points.txt": b"[smp_feedback]\nbad = json\n"},
    "no metadata": {"entry_points.txt": b"[smp_feedback]\nbad = json\n"},
}


@pytest.mark.parametrize("fault", BAD)
def test_a_damaged_distribution_hides_nobody_and_is_reported_with_its_path(site, fault):
    install(site, "good-parts", "1.2", GOOD)
    info = site / "bad_parts-0.1.dist-info"
    info.mkdir()
    for name, content in BAD[fault].items():
        (info / name).write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert "stairs" in smpf.list_encoders()
    (said,) = [str(one.message) for one in caught if issubclass(one.category, PluginWarning)]
    assert f"{info} is damaged" in said
    by_name = {plugin.name: plugin for plugin in smpf.list_plugins()}
    assert (by_name[info.name].state, by_name["good-parts"].state) == ("broken", "loaded")
    assert owners_of("good_parts") == ["good-parts"]  # who is asked where a part's module comes from


def test_what_is_no_plugin_may_be_damaged_without_a_word(site):
    install(site, "good-parts", "1.2", GOOD)
    (site / "gone-1.dist-info").mkdir()
    (site / "else-1.dist-info").mkdir()
    (site / "else-1.dist-info" / "METADATA").write_bytes(b"\xff\xfe")
    assert "stairs" in smpf.list_encoders()


# --- strangers' datasets


class Columns(Dataset):
    classes, ignore_index = ("dark", "bright"), None

    def __init__(self, split, *, root=None, size=None, seed=0, count=None, transform=None):
        self.transform = transform

    def __len__(self):
        return 4

    def __getitem__(self, index):
        image, mask = torch.zeros(3, 8, 8), torch.zeros(8, 8).long()
        image[:, :, index : index + 2], mask[:, index : index + 2] = 1, 1
        return self.transform(image, mask) if self.transform else (image, mask)


class Aside(Columns):
    def __getitem__(self, index):
        self.transform = None
        return super().__getitem__(index)


class Alone(Columns):
    def __getitem__(self, index):
        transform, self.transform = self.transform, None
        image, mask = super().__getitem__(index)
        self.transform = transform
        return (transform(image) if transform else image), mask


def wrong(change):
    class Wrong(Columns):
        def __getitem__(self, index):
            return change(*super().__getitem__(index))

    return Wrong


def test_an_augmentation_by_name_moves_image_and_mask_of_a_stranger_alike(restored):
    smpf.register_dataset("columns", Columns)
    torch.manual_seed(1)
    data = open_dataset("columns", transform="flip")
    items = [data[0] for _ in range(20)]
    assert all(torch.equal(image[0].long(), mask) for image, mask in items)
    assert len({int(mask[0, 0]) for _, mask in items}) == 2


@pytest.mark.parametrize(
    ("dataset", "told", "words"),
    [
        (Aside, {"augment": "flip"}, "leaves its transform aside"),
        (Aside, {"crop": 4}, "leaves its transform aside"),
        (Alone, {"augment": "flip"}, "moves the image and not its mask"),
        (wrong(lambda x, y: (x.double(), y)), {}, "item 0: an image of torch.float64, expected torch.float32"),
        (wrong(lambda x, y: (255 * x, y)), {}, "values 0 to 255"),
        (wrong(lambda x, y: (x, 7 * y)), {}, "label"),
        (wrong(lambda x, y: (x, y[1:])), {}, "a target of shape"),
        (wrong(lambda x, y: x), {}, "expected"),
    ],
)
def test_a_strangers_item_that_is_none_is_refused_before_it_is_used(restored, dataset, told, words):
    opening = pytest.importorskip("smp_feedback.training.opening")
    smpf.register_dataset("columns", dataset)
    with pytest.raises((InvalidValue, InvalidInput), match=f"(?s)dataset 'columns' of .*{words}"):
        opening.open_pairs("fit", 0, name="columns", **told)


# --- a fault of a package's part, at use


FAULTS = """
    import torch
    from torch import nn
    from smp_feedback.dynamics import Dynamics
    from smp_feedback.hookspecs import hookimpl
    from smp_feedback.projections import Projection

    class Quarter(nn.Module):
        def __init__(self, in_channels, classes):
            super().__init__()
            self.body, self.head = nn.Conv2d(in_channels, 4, 3, stride=4, padding=1), nn.Conv2d(4, classes, 1)

        def forward_features(self, image):
            return self.body(image)

        def forward_head(self, features):
            return self.head(features)

        def forward(self, image):
            return self.head(self.body(image))

    class Seven(Quarter):
        def __init__(self, in_channels, classes):
            super().__init__(in_channels, 7)
            self.body = nn.Conv2d(in_channels, 4, 3, padding=1)

    class Unknown(Dynamics):
        def begin(self, steps):
            return lambda state, correction, t: (state + correction) / 0 * 0

    class Wide(Projection):
        def forward(self, view):
            return torch.zeros(len(view.readout), self.channels + 1, *view.size)

        def before(self):
            return 0.0

    class Small(Wide):
        def forward(self, view):
            return view.readout[..., ::2, ::2]

    @hookimpl
    def register_architectures(register):
        register("quarter", Quarter)
        register("seven", Seven)

    @hookimpl
    def register_dynamics(register):
        register("unknown", Unknown)

    @hookimpl
    def register_projections(register):
        register("wide", Wide)
        register("small", Small)

    @hookimpl
    def register_restorers(register):
        register("narrow", lambda config, in_channels, classes: nn.Conv2d(in_channels, in_channels, 3))

    @hookimpl
    def register_corruptions(register):
        register("glare", lambda image, severity, generator: image + severity)
        register("grey", lambda image, severity, generator: image.mean(0, keepdim=True))
"""


def answered(**feedback):
    return smpf.create("PlainConv", classes=2, feedback=feedback)(torch.rand(1, 3, 16, 16))


def corrupted(name):
    return Corrupted(Columns("test"), name, severity=2)[0]


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda: smpf.create("quarter", classes=3), "16 x 16 for an image of 64 x 64"),
        (lambda: smpf.create("seven", classes=3), "classes=3.* answers 7"),
        (lambda: answered(dynamics="unknown"), "the first state that its rule gives is NaN"),
        (lambda: answered(projection="wide"), r"feeds back \(1, 3, 16, 16\): expected \(1, 2, 16, 16\)"),
        (lambda: answered(projection="small"), r"feeds back \(1, 2, 8, 8\): expected \(1, 2, 16, 16\)"),
        (lambda: answered(loop="restoration", restorer="narrow"), "expected an image of the same shape"),
        (lambda: corrupted("glare"), "at severity 2, an image with values 2 to 3, expected 0 to 1"),
        (lambda: corrupted("grey"), r"at severity 2, an image \(1, 8, 8\).* for one \(3, 8, 8\)"),
    ],
)
def test_a_fault_of_a_packages_part_is_refused_at_use_and_names_the_package(site, use, words):
    install(site, "faulty-parts", "1.2", FAULTS)
    with pytest.raises(smpf.FeedbackError, match=f"(?s){words}") as caught:
        use()
    said = [str(caught.value), *getattr(caught.value, "__notes__", ())]
    assert sys.version_info < (3, 11) or any("faulty-parts 1.2" in line for line in said)


def test_of_our_own_corruptions_and_of_functions_nothing_more_is_said_than_is_wrong():
    def glare(image, severity, generator):
        return image + severity

    assert corrupted("clean")[0].shape == (3, 8, 8)
    with pytest.raises(InvalidInput, match="corruption glare gives, at severity 2, an image with values 2 to 3"):
        corrupted(glare)
