"""What carries a looping model, compiled, averaged or on devices, is asked as that model is."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import smp_feedback as smpf
from smp_feedback import DataConfig
from smp_feedback.data import Shapes
from smp_feedback.errors import InvalidType
from smp_feedback.evaluation import evaluate, stability
from smp_feedback.exporting.serving import Served
from smp_feedback.models.normalisation import given_config
from smp_feedback.models.preprocess import preprocess_of
from smp_feedback.training import FeedbackModule
from smp_feedback.training.optim import is_new

CARRIERS = {
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "parallel": nn.DataParallel,
    "averaged": AveragedModel,
    "both": lambda model: torch.compile(AveragedModel(model), backend="eager"),
}


@pytest.fixture(scope="module")
def model():
    made = smpf.create(
        "Unet",
        "tu-test_resnet.r160_in1k",
        None,
        classes=3,
        encoder_depth=3,
        decoder_channels=(16, 8, 8),
        feedback=smpf.Recurrent(steps=3),
    ).eval()
    made.data_config = DataConfig(mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2))
    return made


@pytest.mark.parametrize("carrier", CARRIERS)
def test_its_looks_and_its_normalisation_are_those_of_the_model_inside(model, carrier):
    carrying, data = CARRIERS[carrier](model), Shapes(2, size=32, seed=5)
    assert evaluate(carrying, data, classes=3) == evaluate(model, data, classes=3)
    assert len(evaluate(carrying, data, classes=3, looks=[1, 3])) == 2
    assert given_config(carrying) == given_config(model)
    assert preprocess_of(carrying).config.mean == model.data_config.mean
    assert stability(carrying, data, looks=2) == stability(model, data, looks=2)
    assert Served(carrying).steps == 3


def test_what_was_said_of_the_carrier_itself_counts(model):
    carrying = nn.DataParallel(model)
    carrying.data_config = DataConfig()
    assert given_config(carrying).config.mean is None


def test_a_compiled_model_is_trained_look_by_look():
    model = smpf.create(
        "Unet",
        "tu-test_resnet.r160_in1k",
        None,
        classes=3,
        encoder_depth=3,
        decoder_channels=(16, 8, 8),
        feedback=smpf.Recurrent(steps=3),
    ).eval()
    image, target = torch.rand(1, 3, 16, 16), torch.zeros(1, 16, 16).long()
    one, other = (
        FeedbackModule(made, classes=3, supervise="mean", feedback_lr=1e-2).eval()
        for made in (model, torch.compile(model, backend="eager"))
    )
    assert (one.steps, other.steps) == (3, 3)
    assert one.loss_of((image, target)) == other.loss_of((image, target))
    assert [is_new(name) for name, _ in one.named_parameters()] == [
        is_new(name) for name, _ in other.named_parameters()
    ]


def test_a_model_that_is_on_devices_already_is_no_modules(model):
    with pytest.raises(InvalidType, match="DataParallel: expected the model in it"):
        FeedbackModule(nn.DataParallel(model), classes=3)
