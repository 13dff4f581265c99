"""What of the state is fed back."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from smp_feedback.config.recurrent import Recurrent
from smp_feedback.errors import InvalidType
from smp_feedback.ops.precision import check_registered
from smp_feedback.projections import Projection, View
from smp_feedback.registry.public import catalogue
from smp_feedback.testing.loops import check_loop

CLASSES = 3
SIZE = (6, 10)  # of the image; the state's is (3, 5)


class Seen(NamedTuple):
    """What a projection is shown: a readout (B, K, 3, 5) and logits (B, 3, 3, 5), and how often it asked for these."""

    readout: Tensor
    logits: Tensor
    asked: list[None]

    def view(self) -> View:
        """The view of both."""

        def logits() -> Tensor:
            self.asked.append(None)
            return self.logits

        return View(self.readout, logits, SIZE)


def check_projection(name: str, **settings: Any) -> None:
    """The projection *name* gives maps of the image's size from what it says it reads, purely, and gradient comes back.

    Before there is a state it is what a state of zeros would give, for any weights. Its weights are trained, and the
    promises of every model are kept by a small U-Net with it, saved and loaded too.

    Args:
        name: A registered name.
        **settings: Fields of :class:`smp_feedback.Recurrent` to try it with: ``channels=4``.

    >>> check_projection("softmax", channels=3)
    """
    told = {"projection": name, "steps": 3, **settings}
    config = Recurrent(**told)
    made = catalogue().projections[name]
    assert isinstance(made, type), f"{made!r} is no class"
    assert issubclass(made, Projection), f"{made.__name__} is no subclass of smp_feedback.projections.Projection"
    settled = config.norm_feedback or ("instance" if config.normalises_feedback else "none")
    projection = made(replace(config, norm_feedback=settled), CLASSES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        check_weights(projection)
        check_channels(projection)
        check_maps(projection)
        check_before(projection)
        check_reads(projection)
        check_loop(config.loop, **told)


def seen(projection: Projection, *, empty: bool = False, dtype: torch.dtype = torch.float32) -> Seen:
    """Two images' states at random, or of zeros."""
    readout = torch.randn(2, projection.readout, 3, 5, dtype=dtype)
    logits = torch.randn(2, CLASSES, 3, 5, dtype=dtype)
    if empty:
        readout, logits = torch.zeros_like(readout), torch.zeros_like(logits)
    return Seen(readout.requires_grad_(), logits.requires_grad_(), [])


def check_weights(projection: Projection) -> None:
    """Every weight is one that torch knows of, trained, moved and saved; from here on they are drawn at random."""
    try:
        check_registered(projection, f"projection {type(projection).__name__}")
    except InvalidType as error:
        raise AssertionError(str(error)) from error
    for parameter in projection.parameters():
        nn.init.normal_(parameter)


def check_channels(projection: Projection) -> None:
    """``channels`` >= 1 is what it feeds back, ``readout`` >= 0 what the state keeps for it."""
    for field, least in (("channels", 1), ("readout", 0)):
        value = getattr(projection, field, None)
        assert isinstance(value, int), f"{field} is {value!r}: expected a whole number"
        assert value >= least, f"{field} is {value}: expected at least {least}"


def check_maps(projection: Projection) -> None:
    """(B, channels, H, W) of the image's size, finite, in the dtype given, each row on its own, the same each time."""
    for dtype in (torch.float32, torch.float64):
        projection.to(dtype)
        shown = seen(projection, dtype=dtype)
        given = (shown.readout.detach().clone(), shown.logits.detach().clone())
        fed = projection(shown.view())
        expected = (2, projection.channels, *SIZE)
        assert fed.shape == expected, f"it feeds back {tuple(fed.shape)}: expected {expected}"
        assert fed.dtype == dtype, f"of {dtype} it feeds back {fed.dtype}"
        assert fed.isfinite().all(), "what it feeds back is not finite"
        assert torch.equal(projection(shown.view()), fed), "asked twice, it feeds back something else"
        kept = torch.equal(shown.readout, given[0]) and torch.equal(shown.logits, given[1])
        assert kept, "it wrote into what it was given"
        for i in range(2):
            alone = projection(Seen(shown.readout[i : i + 1], shown.logits[i : i + 1], []).view())
            torch.testing.assert_close(alone[0], fed[i], msg="an image's feedback depends on the batch it is in")


def check_before(projection: Projection) -> None:
    """``before()`` is a number, one for each channel, or a tensor, and what a state of zeros gives everywhere."""
    value = projection.to(torch.float32).before()
    if isinstance(value, Tensor):
        kept = f"before() is {tuple(value.shape)} of {value.dtype}: expected ({projection.channels},) of its weights'"
        assert value.shape == (projection.channels,) and value.is_floating_point(), kept  # noqa: PT018
        value = tuple(value.detach().tolist())
    values = value if isinstance(value, tuple) else (value,) * projection.channels
    for one in values:
        assert isinstance(one, int | float), f"before() is {value!r}: expected a number, or one for each channel"
        assert math.isfinite(one), f"before() is {value}"
    assert len(values) == projection.channels, f"before() says {len(values)} values of {projection.channels} channels"
    fed = projection(seen(projection, empty=True).view())
    expected = torch.tensor(values, dtype=fed.dtype)[:, None, None].expand_as(fed)
    torch.testing.assert_close(fed, expected, msg=f"a state of zeros does not give before() = {value} everywhere")


def check_reads(projection: Projection) -> None:
    """Gradient comes back to what it says it reads, and logits, which cost, are computed only if it reads them."""
    shown = seen(projection)
    projection(shown.view()).square().sum().backward()
    for name, parameter in projection.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.any())
        assert reached or not parameter.requires_grad, f"no gradient reaches {name}"
    for source, tensor, reads in (
        ("the readout", shown.readout, projection.readout > 0),
        ("the logits", shown.logits, projection.reads_logits),
    ):
        reached = tensor.grad is not None and bool(tensor.grad.any())
        assert reached or not reads, f"it says that it reads {source}, and sends no gradient back"
    assert projection.reads_logits or not shown.asked, "it reads the logits: say so with reads_logits = True"
