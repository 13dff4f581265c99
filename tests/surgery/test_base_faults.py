"""Bases that strangers bring: how their features lie is found out, and what is wrong with them is said in words."""

import inspect
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.errors import FeedbackError, InvalidValue, SurgeryError
from smp_feedback.surgery.cuts import cut_of
from smp_feedback.surgery.feature_layout import Layout
from smp_feedback.surgery.layout_runs import layout_of
from smp_feedback.testing import check_architecture, check_cut

IMAGE = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class Base(nn.Module):
    """Maps of 16 channels at a quarter of the size: at 64 px their shape says nothing about where the channels are."""

    def __init__(self, in_channels=3, classes=2, width=16):
        super().__init__()
        self.first, self.last = nn.Conv2d(in_channels, width, 4, stride=4), nn.Conv2d(width, classes, 1)

    def forward_features(self, image):
        return self.first(image).tanh()

    def forward_head(self, features):
        return F.interpolate(self.last(features), scale_factor=4.0)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


class ChannelsLast(Base):
    def forward_features(self, image):
        return super().forward_features(image).permute(0, 2, 3, 1)

    def forward_head(self, features):
        return super().forward_head(features.permute(0, 3, 1, 2))


class Misleading(Base):
    num_features = 8  # the width of its grid at 32 px, and none of its features

    def __init__(self):
        super().__init__(width=12)


class SquareOnly(ChannelsLast):
    def forward_features(self, image):
        assert image.shape[2] == image.shape[3]
        return super().forward_features(image)


class FixedSize(ChannelsLast):
    def forward_features(self, image):
        assert image.shape[2:] == (64, 64)
        return super().forward_features(image)


class Turned(Base):
    def forward_features(self, image):
        return super().forward_features(image).mT


class Tokens(Base):
    """Three tokens before those of the image, which it does not say."""

    def forward_features(self, image):
        tokens = super().forward_features(image).flatten(2).mT
        return torch.cat([tokens.new_zeros(len(tokens), 3, 16), tokens], 1)


@pytest.mark.parametrize("size", [(64, 64), (32, 48)])
@pytest.mark.parametrize(("net", "kind"), [(Base, "map"), (ChannelsLast, "last"), (SquareOnly, "last")])
def test_channels_are_what_does_not_grow_with_the_image(net, kind, size):
    if net is not SquareOnly or size[0] == size[1]:
        assert layout_of(net().eval(), torch.rand(1, 3, *size)) == Layout(kind)


def test_what_a_net_says_of_its_width_does_not_outweigh_what_is_seen():
    assert layout_of(Misleading().eval(), IMAGE[..., :32, :32]) == Layout("map")


def test_tokens_that_do_not_double_with_the_image_lie_nowhere():
    assert layout_of(Tokens().eval(), IMAGE) == Layout("tokens", 3)


def test_a_layout_that_nothing_tells_is_asked_for_and_then_believed():
    net = FixedSize().eval()
    with pytest.raises(SurgeryError, match="output_fmt = 'NCHW' or output_fmt = 'NHWC'"):
        layout_of(net, IMAGE)
    net.output_fmt = "NHWC"
    assert layout_of(net, IMAGE) == Layout("last")
    net.output_fmt = "BHWC"
    with pytest.raises(SurgeryError, match="'BHWC': expected 'NCHW'"):
        layout_of(net, IMAGE)


def test_a_layout_that_is_said_wrongly_and_one_that_is_turned_are_refused():
    net = ChannelsLast().eval()
    net.output_fmt = "NCHW"
    with pytest.raises(SurgeryError, match="channels are last: at other sizes"):
        layout_of(net, IMAGE)
    with pytest.raises(SurgeryError, match="height and width swapped"):
        layout_of(Turned().eval(), IMAGE)


def test_channels_last_loops_at_oblong_sizes(restored):
    model = smpf.wrap(ChannelsLast())
    assert model.feedback.readout.weight.shape[1] == 16
    assert model(torch.rand(2, 3, 32, 48)).shape == (2, 2, 32, 48)


# --- answers


class Answers(Base):
    made = staticmethod(lambda logits: logits)

    def forward(self, image):
        return self.made(super().forward(image))


def answering(make):
    return type("Strange", (Answers,), {"made": staticmethod(make)})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda x: {"out": x, "aux": x}, r"a dict \(out, aux\).*answer\['out'\]"),
        (lambda x: [x, x], r"a list of 2: .*answer\[0\]"),
        (lambda x: (x, x), r"a tuple of 2: .*answer\[0\]"),
        (lambda x: SimpleNamespace(logits=x), r"with logits.*answer\.logits"),
        (lambda x: x * torch.nan, "NaN or infinite"),
        (lambda x: x.argmax(1, keepdim=True), r"torch\.int64.*before any argmax"),
        (lambda x: F.avg_pool2d(x, 4), r"logits of 16 x 16 for an image of 64 x 64: let its head resize"),
        (lambda x: (x, x.mean((2, 3))), "gives no features to make labels of"),
    ],
)
def test_an_answer_that_a_loop_cannot_use_is_refused_with_what_to_do(restored, make, words):
    net = answering(make)
    with pytest.raises(SurgeryError, match=words):
        smpf.wrap(net())
    smpf.register_architecture("Strange", lambda: net())
    with pytest.raises(AssertionError, match=words):
        check_architecture("Strange", IMAGE)


class Larger(Base):
    """As smp's FPN of a shallow encoder: twice the image's size."""

    def forward_head(self, features):
        return F.interpolate(self.last(features), scale_factor=8.0)


def test_logits_that_are_larger_than_the_image_are_taken_and_pass_the_checks_as_smps_own_are(restored):
    smpf.register_architecture("Larger", Larger)
    assert smpf.create("Larger").eval()(IMAGE).shape == (1, 2, 128, 128)
    check_architecture("Larger", IMAGE)


class Quarter(nn.Module):
    """As transformers have it: an object with logits at a quarter of the size."""

    def __init__(self, in_channels=3, classes=2):
        super().__init__()
        self.first, self.last = nn.Conv2d(in_channels, 8, 4, stride=4), nn.Conv2d(8, classes, 1)

    def forward(self, pixel_values):
        return SimpleNamespace(logits=self.last(self.first(pixel_values).tanh()))


def enlarged(logits, size):
    return F.interpolate(logits, size, mode="bilinear")


QUARTER = smpf.Cut(
    lambda net, image: (net.first(image).tanh(), None),
    lambda net, output, size: enlarged(net.last(output), size),
    answer=lambda answer, size: enlarged(answer.logits, size),
)


def test_a_base_that_answers_an_object_at_a_quarter_of_the_size_passes_every_check(restored):
    smpf.register_cut(Quarter, QUARTER)
    smpf.register_architecture("Quarter", Quarter)
    check_architecture("Quarter", IMAGE.repeat(2, 1, 1, 1)[..., :32], classes=3)
    check_cut(Quarter().eval(), IMAGE)


def test_the_plain_model_of_such_a_base_answers_at_the_images_size_and_can_be_wrapped(restored):
    smpf.register_cut(Quarter, QUARTER)
    smpf.register_architecture("Quarter", Quarter)
    plain = smpf.create("Quarter", classes=3, feedback=False).eval()
    expected = enlarged(Quarter.forward(plain, IMAGE).logits, (64, 64))
    assert torch.equal(plain(IMAGE), expected)
    assert torch.allclose(smpf.wrap(plain)(IMAGE), expected, atol=1e-5)
    assert type(smpf.wrap(plain)).__mro__ == type(smpf.create("Quarter", classes=3)).__mro__


def test_an_answer_that_takes_no_size_goes_on_working():
    cut = smpf.Cut(QUARTER.body, QUARTER.head, answer=lambda answer, key="out": answer[key])
    assert cut.answer({"out": 1}, (2, 3)) == cut.answer({"out": 1}) == 1


# --- builders


@pytest.mark.parametrize("told", [{"classes": 3}, {}])
def test_a_builder_that_ignores_classes_is_refused_and_found(restored, told):
    smpf.register_architecture("Seven", lambda in_channels=3, classes=1: Base(in_channels, 7))
    with pytest.raises(InvalidValue, match=r"Seven: classes=.*answers 7"):
        smpf.create("Seven", **told)
    for classes in (3, 7):
        with pytest.raises(AssertionError, match="ignores `classes`"):
            check_architecture("Seven", IMAGE, classes=classes)


class Normalised(Base):
    def forward_features(self, image):
        return super().forward_features(image - image.mean((2, 3), keepdim=True))


def test_a_base_registered_with_its_stem_passes_every_check(restored):
    smpf.register_architecture("Normalised", Normalised, feedback={"stem": "first", "steps": 2})
    check_architecture("Normalised", torch.rand(2, 3, 32, 48), classes=3)
    check_cut(Normalised().eval(), IMAGE, feedback={"stem": "first"})


# --- failures


class Broken(Base):
    def forward_features(self, image):
        return super().forward_features(image).missing


class Misfit(Base):
    def forward_head(self, features):
        return self.last(features[:, :4])


@pytest.mark.parametrize(
    ("net", "words", "cause"),
    [(Broken, "whatever it is shown: AttributeError", AttributeError), (Misfit, "at the same line", RuntimeError)],
)
def test_a_bug_of_the_author_is_chained_and_its_line_is_quoted(net, words, cause):
    with pytest.raises(SurgeryError, match=words) as caught:
        smpf.wrap(net())
    method = Broken.forward_features if net is Broken else Misfit.forward_head
    line = inspect.getsourcelines(method)[1] + 1
    assert f"{__file__}:{line}, in {method.__name__}" in str(caught.value)
    assert isinstance(caught.value.__cause__, cause)
    assert caught.value.__cause__.__traceback__ is not None


# --- stages


class Branches(nn.Module):
    """Two resolutions side by side, as HRNet has them: no chain."""

    feedback_stages = ("stem", "low", "fuse")

    def __init__(self, in_channels=3, classes=2):
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 6, 3, stride=2, padding=1)
        self.high, self.low = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.fuse, self.last = nn.Conv2d(14, 8, 1), nn.Conv2d(8, classes, 1)

    def forward_features(self, image):
        x = self.stem(image).tanh()
        high, low = self.high(x).tanh(), self.low(x).tanh()
        return self.fuse(torch.cat([high, F.interpolate(low, high.shape[2:])], 1)).tanh()

    def forward_head(self, features):
        return F.interpolate(self.last(features), scale_factor=2.0)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


@pytest.mark.parametrize(("stage", "name"), [(1, "stem"), (2, "low"), (3, "fuse")])
def test_a_declared_stage_is_where_the_feedback_is_added(stage, name):
    """The second look is the plain net's, with what is fed back added behind that module by hand."""
    net = Branches().eval()
    config = smpf.Recurrent(insert=f"stage:{stage}", steps=2, dynamics="residual")
    model = smpf.wrap(net, config).eval()
    nn.init.normal_(model.feedback.readers[0].weight)
    image, fed = torch.rand(1, 3, 34, 48), []
    model.feedback.readers[0].register_forward_hook(lambda module, given, gave: fed.append(gave))
    with torch.no_grad():
        first = next(model.iterate(image))
        added = fed[-1]
        assert added.shape[2:] == dict(zip((1, 2, 3), ((17, 24), (9, 12), (17, 24)), strict=True))[stage]
        with torch.no_grad():
            hook = net.get_submodule(name).register_forward_hook(lambda module, given, gave: gave + added)
            expected = net(image)
            hook.remove()
    assert torch.allclose(first.logits, expected, atol=1e-5)


def test_an_architecture_with_stages_passes_every_check_of_each(restored):
    smpf.register_architecture("Branches", Branches)
    check_architecture("Branches", torch.rand(2, 3, 32, 48), classes=3, feedback={"insert": "stage:2", "steps": 2})


@pytest.mark.parametrize(
    ("stages", "insert", "words"),
    [
        (("stem", "low"), "stage:3", r"declares 2 stages: 'stage:1' \(stem\), 'stage:2' \(low\)"),
        (("stem", "lwo"), "stage:2", "lwo.*Did you mean 'low'"),
        ("low", "stage:1", r"expected a tuple of names"),
        (("last", "stem", "unused"), "stage:3", "runs 0 times"),
        (("stem", "low", "stem"), "stage:2", r"declares the stages 'stem' twice: expected a module of its own"),
        (("stem", "again"), "stage:1", r"'stem' and 'again', which are one module"),
        (("pair",), "stage:1", r"gives a list: declare a module that gives one map"),
    ],
)
def test_a_stage_that_is_none_is_refused_in_words(stages, insert, words):
    net = Branches()
    net.feedback_stages, net.unused, net.again = stages, nn.Conv2d(1, 1, 1), net.stem
    if "pair" in stages:
        net = paired(net)
    with pytest.raises(FeedbackError, match=words):
        smpf.wrap(net, smpf.Recurrent(insert=insert))


class Pair(nn.Module):
    def forward(self, x):
        return [x, x]


class Paired(Branches):
    def forward_features(self, image):
        return self.pair(super().forward_features(image))[0]


def paired(net):
    again = Paired()
    again.pair, again.feedback_stages = Pair(), net.feedback_stages
    return again


def test_a_cut_declares_stages_for_a_class_that_cannot_be_changed(restored):
    smpf.register_cut(Quarter, smpf.Cut(QUARTER.body, QUARTER.head, answer=QUARTER.answer, stages=("first",)))
    model = smpf.wrap(Quarter(), smpf.Recurrent(insert="stage:1", steps=2))
    assert cut_of(model).stages == ("first",)
    assert model(IMAGE).shape == (1, 2, 64, 64)
