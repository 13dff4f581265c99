"""Whether a trained loop comes to rest: a small one, trained on noisy shapes at T = 4, looks 30 times.

python -m benchmarks.stability [--dynamics leaky] [--steps 300]
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

import smp_feedback as smpf
from benchmarks.measure import begin, options
from smp_feedback.data import Shapes
from smp_feedback.evaluation import save_result, stability


def trained(dynamics, steps, args):
    """Unet, ResNet-18, from random weights; every image is new."""
    loop = smpf.Recurrent(steps=4, dynamics=dynamics, tau=2.0)
    model = smpf.create(
        "Unet", args.encoder, None, classes=3, feedback=loop, encoder_depth=3, decoder_channels=(32, 16, 8)
    )
    model.to(args.device).train()
    data = Shapes(steps * args.batch, size=args.size, noise=0.3)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for first in range(0, len(data), args.batch):
        pairs = [data[first + i] for i in range(args.batch)]
        image, target = (torch.stack(column).to(args.device) for column in zip(*pairs, strict=True))
        optimizer.zero_grad()
        F.cross_entropy(model(image), target).backward()
        optimizer.step()
    return model.eval()


def main():
    """Train, look, save; `smp-feedback plot` draws it."""
    args = begin(
        options(__doc__, "stability", encoder="resnet18", size=48, batch=8, dynamics="leaky", steps=300, looks=30)
    )
    model = trained(args.dynamics, args.steps, args)
    held_out = Shapes(8, size=args.size, noise=0.3, seed=1)
    result = stability(model, [held_out[i][0] for i in range(len(held_out))], looks=args.looks)
    print(f"wrote {save_result(result, args.out)}")


if __name__ == "__main__":
    main()
