"""What it takes to work: the same answer at birth, feedback that is heard, a step of training, a file that opens."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

import smp_feedback as smpf
from benchmarks.working.bases import first_module, image_for, layout_in_words, recipe
from benchmarks.working.cases import FIRST, Case
from smp_feedback.errors import FeedbackError
from smp_feedback.testing import check_heard, check_lossless, check_saved

CHECKS = ("plain", "opens", "lossless", "heard", "trains", "saved")
"""In this order; the first two must pass for the others to be made."""

STEPS = 2  # the fewest in which the feedback can be heard


def check(case: Case) -> Iterator[tuple[str, Any]]:
    """All that is to be known of *case*, each fact as soon as it is known.

    Yields:
        Names and values: ``architecture``, ``parameters``, ``size``, ``layout``, ``place``, ``seconds``, and each of
        :data:`CHECKS` with what went wrong in words, empty if nothing did.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")  # the libraries' own words about their own models
    begin = time.process_time()
    yield from _facts(case)
    yield "seconds", time.process_time() - begin


def _facts(case: Case) -> Iterator[tuple[str, Any]]:
    try:
        architecture, arguments = recipe(case)
        plain = smpf.create(architecture, **arguments, feedback=False)
        image = image_for(plain)
        place = first_module(plain, image) if case.place == FIRST else case.place
    except Exception as error:
        yield "plain", words(error)
        return
    yield "plain", ""
    yield "architecture", architecture
    yield "parameters", sum(p.numel() for p in plain.parameters())
    yield "size", image.shape[-1]
    yield "place", place
    if case.table == "timm":
        yield "layout", layout_in_words(plain, image)
    if place is None:
        yield "opens", "No small part of it is handed the image itself."
        return
    try:
        model = smpf.create(architecture, **arguments, feedback={"steps": STEPS, "insert": place})
    except Exception as error:
        yield "opens", words(error)
        return
    yield "opens", ""
    yield "lossless", _said(lambda: lossless(plain, image, place))
    yield "heard", _said(lambda: check_heard(model, image))
    yield "trains", _trains(model, plain, image)
    yield "saved", _said(lambda: check_saved(model, image))


def lossless(plain: nn.Module, image: torch.Tensor, place: str) -> None:
    """Wrapped, *plain* answers as before; a head of zeros, which would keep any answer, is filled first."""
    for parameter in plain.parameters():
        if parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    check_lossless(plain, image, config=smpf.Recurrent(insert=place))


def train_once(model: nn.Module, image: torch.Tensor) -> None:
    """A step of gradient descent on two images, after which every weight is finite and one has moved."""
    model.train()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    logits = model(torch.cat([image, image.flip(-1)]))
    loss = nn.functional.cross_entropy(logits, logits.detach().argmin(1))
    assert loss.isfinite(), f"the loss is {loss.item()}"
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
    optimizer.step()
    assert any(not torch.equal(old, p) for old, p in zip(before, model.parameters(), strict=True)), "no weight moved"
    assert all(p.isfinite().all() for p in model.parameters()), "a weight is not finite"


def _trains(model: nn.Module, plain: nn.Module, image: torch.Tensor) -> str:
    """What goes wrong in training; said to be the base's own fault where it is."""
    found = _said(lambda: train_once(model, image))
    if found and _said(lambda: train_once(plain, image)):
        return f"As without feedback: {found}"
    return found


def _said(run: Callable[[], None]) -> str:
    try:
        run()
    except Exception as error:
        return words(error)
    return ""


def words(error: Exception) -> str:
    """The error in a line: ours and a broken promise as they stand, others with their type."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (
        text if isinstance(error, (FeedbackError, AssertionError)) and str(error) else f"{type(error).__name__}: {text}"
    )
