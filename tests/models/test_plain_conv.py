"""PlainConv: a local rule at full resolution, of any size, cut without more."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.errors import InvalidType, InvalidValue, UnknownKeyword
from smp_feedback.models.plain_conv import PlainConv
from smp_feedback.testing import check_architecture, check_cut

IMAGE = torch.rand(2, 3, 12, 9, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("residual", [False, True])
def test_it_keeps_every_promise_of_a_base(residual):
    check_architecture("PlainConv", IMAGE, classes=2, width=8, residual=residual)
    check_cut(PlainConv(classes=2, width=4, residual=residual), IMAGE)


def test_it_is_its_convolutions_with_relu_between():
    net = PlainConv(classes=2, width=4, depth=3)
    a, b, c = net.convs
    torch.testing.assert_close(net(IMAGE), net.head(c(F.relu(b(F.relu(a(IMAGE)))))))


def test_a_residual_one_adds_up_and_starts_no_larger_however_deep():
    net = PlainConv(classes=2, width=4, depth=3, residual=True)
    a, b, c = net.convs
    x = a(IMAGE)
    x = x + b(F.relu(x))
    torch.testing.assert_close(net(IMAGE), net.head(x + c(F.relu(x))))
    torch.manual_seed(0)
    made = PlainConv(width=16, depth=60, residual=True).forward_features(IMAGE)
    first = PlainConv(width=16, depth=1).forward_features(IMAGE)
    assert made.std() < 2 * first.std()


@pytest.mark.parametrize(("depth", "width", "channels", "classes"), [(1, 8, 1, 1), (3, 32, 3, 1), (5, 4, 2, 3)])
def test_its_parameters_and_its_reach_are_those_of_the_docstring(depth, width, channels, classes):
    net = PlainConv(channels, classes, width=width, depth=depth)
    count = 9 * channels * width + width + (depth - 1) * (9 * width**2 + width) + (width + 1) * classes
    assert sum(p.numel() for p in net.parameters()) == count
    for p in net.parameters():
        nn.init.constant_(p, 0.1)  # nothing cancels
    image = torch.zeros(1, channels, 25, 25)
    dot = image.clone()
    dot[:, :, 12, 12] = 1.0
    seen = (net(dot) - net(image)).abs().sum((0, 1)).nonzero()
    assert [seen.amin(0).tolist(), seen.amax(0).tolist()] == [[12 - depth] * 2, [12 + depth] * 2]


def test_it_comes_by_name_and_back_from_disk(tmp_path):
    assert "PlainConv" in smpf.list_architectures()
    assert type(smpf.create("plainconv", feedback=False)) is PlainConv
    for model in (smpf.create("PlainConv", classes=2, width=4, depth=2), smpf.wrap(PlainConv(classes=2, width=4))):
        model.eval().save_pretrained(tmp_path)
        again = smpf.from_pretrained(tmp_path)
        assert isinstance(again, PlainConv)
        assert again.config == model.config
        torch.testing.assert_close(again.eval()(IMAGE, steps=3), model(IMAGE, steps=3))


@pytest.mark.parametrize(
    ("told", "error", "words"),
    [
        ({"depth": 0}, InvalidValue, "depth=0"),
        ({"width": 1.5}, InvalidType, "width=1.5"),
        ({"residual": 1}, InvalidType, "residual=1"),
        ({"deph": 4}, UnknownKeyword, "Did you mean 'depth'"),
    ],
)
def test_what_cannot_be_is_refused(told, error, words):
    with pytest.raises(error, match=words):
        smpf.create("PlainConv", **told)
