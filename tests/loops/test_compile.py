"""One compiled look serves every step: as eager, for any number of steps, in training too."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from conftest import a_few
from torch._dynamo.testing import CompileCounterWithBackend

import smp_feedback as smpf

# dynamo asks every tensor it is given for its gradient, and hides the warning in a way that an error escapes
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
TINY = "tu-test_resnet.r160_in1k"
SHALLOW = {"encoder_weights": None, "encoder_depth": 3, "decoder_channels": (16, 8, 8)}
IMAGE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def unet(**config):
    model = smpf.create("Unet", TINY, classes=3, feedback=smpf.Recurrent(feedback_init=0.2, **config), **SHALLOW)
    with torch.no_grad():
        model.train()(IMAGE)
    return model.eval()


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()


@pytest.mark.parametrize("insert", ["input", "stem", "stage:2"])
def test_a_compiled_look_is_compiled_once_for_any_number_of_steps(insert):
    model, counter = unet(insert=insert), CompileCounterWithBackend("aot_eager")
    expected = {steps: model(IMAGE, steps=steps).detach() for steps in (4, 2, 7, 1)}
    model.compile_step(backend=counter, fullgraph=True)
    with torch.no_grad():
        for steps, logits in expected.items():
            torch.testing.assert_close(model(IMAGE, steps=steps), logits, atol=1e-5, rtol=1e-4)
    assert counter.frame_count == 1


@pytest.mark.parametrize("recompute", a_few([False, True], False))
def test_a_compiled_look_trains_as_an_eager_one(recompute):
    eager, found = unet(recompute=recompute, steps=3), []
    for model in (eager, copy.deepcopy(eager).compile_step(backend="aot_eager", fullgraph=True)):
        model.train()(IMAGE).square().mean().backward()
        found.append(({k: p.grad for k, p in model.named_parameters()}, dict(model.named_buffers())))
    (gradients, buffers), (compiled_gradients, compiled_buffers) = found
    for key, gradient in gradients.items():
        torch.testing.assert_close(
            compiled_gradients[key], gradient, atol=1e-4 * float(gradient.abs().max()) + 1e-7, rtol=1e-3, msg=key
        )
    for key, buffer in buffers.items():
        torch.testing.assert_close(compiled_buffers[key], buffer, atol=1e-5, rtol=1e-4, msg=key)


def test_iterate_trajectory_and_labels_go_through_the_compiled_look():
    aux = {"classes": 5}
    model = smpf.create("Unet", TINY, aux_params=aux, feedback=smpf.Recurrent(feedback_init=0.2), **SHALLOW).eval()
    with torch.no_grad():
        expected, (masks, labels) = model.trajectory(IMAGE), model(IMAGE)
        model.compile_step(backend="aot_eager")
        torch.testing.assert_close(model.trajectory(IMAGE), expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(model(IMAGE), (masks, labels), atol=1e-5, rtol=1e-4)
        for step, logits in zip(model.iterate(IMAGE), expected, strict=True):
            torch.testing.assert_close(step.logits, logits, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_copies_and_pickles_of_a_compiled_model_look_eagerly():
    model, counter = unet(), CompileCounterWithBackend("eager")
    expected = model(IMAGE)
    model.compile_step(backend=counter)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(IMAGE), expected)
    assert counter.frame_count == 0


@torch.no_grad()
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
def test_cuda_graphs_give_what_eager_gives():
    model, image = unet().cuda(), IMAGE.cuda()
    expected = model.trajectory(image)
    model.compile_step(mode="reduce-overhead")
    for _ in range(3):
        torch.testing.assert_close(model.trajectory(image), expected, atol=1e-3, rtol=1e-3)
