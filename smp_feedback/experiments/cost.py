"""What a model costs: seconds an image, and bytes that training keeps; and on which hardware."""

from __future__ import annotations

import platform
import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from smp_feedback.surgery.extension import evaluating


def seconds_per_image(model: nn.Module, image: Tensor, repeats: int = 5) -> float:
    """The median time of a forward pass in evaluation, over the images in it."""
    model.eval()
    took = []
    with torch.inference_mode():
        model(image)
        for _ in range(repeats):
            begin = time.perf_counter()
            model(image)
            if image.is_cuda:
                torch.cuda.synchronize()
            took.append(time.perf_counter() - begin)
    return statistics.median(took) / len(image)


def kept_for_backward(model: nn.Module, image: Tensor) -> int:
    """Bytes of all tensors that a training forward pass keeps for its backward pass, parameters left out.

    A property of the model, not of the machine: the same on every device and run.

    >>> relu = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    >>> kept_for_backward(relu, torch.zeros(1, 3, 8, 8))  # the image and the ReLU's output, in float32
    1792
    """
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    mode, state = model.training, {name: value.clone() for name, value in model.named_buffers()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        answer = model.train()(image)  # held: what is freed could be counted again at its address
    with torch.no_grad():
        for name, value in model.named_buffers():
            value.copy_(state[name])
    del answer
    model.train(mode)
    return sum(kept.values())


def multiply_adds(model: nn.Module, image: Tensor, **told: Any) -> int:
    """Multiply-adds of a forward pass in evaluation, for each image in it; *told* is what else it is told.

    Those of convolutions, linear layers and attention; sums, norms and activations are not counted.

    >>> multiply_adds(nn.Conv2d(3, 4, 3, padding=1), torch.zeros(2, 3, 8, 8)) == 3 * 4 * 3 * 3 * 8 * 8
    True
    """
    with torch.no_grad(), evaluating(model), FlopCounterMode(display=False) as counter:
        model(image, **told)
    flops: int = counter.get_total_flops()
    return flops // 2 // len(image)  # torch counts a multiply-add as two


def hardware() -> str:
    """The device, the threads and the version of torch, as figures name them.

    >>> "torch" in hardware()
    True
    """
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
    return f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
