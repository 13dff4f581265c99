"""What the published models cost beside their plain twins, counted without a clock: T looks over T forward passes.

python -m benchmarks.recipes [--archs DFMResNet18 ...] [--size 64]
"""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

import smp_feedback as smpf
from benchmarks.measure import begin, options, show

RECIPES = ["DFMResNet18", "DFMResNet34", "DFMResNet50", "DFMDeepLabV3Plus", "NeumannUnet", "DirichletUnet"]


def operations(model, image):
    """Multiply-adds of convolutions and matrix products in one call of *model*."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    return counter.get_total_flops() // 2


def counted(arch, args):
    """T, and of the plain twin and of the loop: parameters, and multiply-adds (of the twin's one forward)."""
    image = torch.rand(args.batch, 3, args.size, args.size, device=args.device)
    plain = smpf.create(arch, classes=args.classes, feedback=False).eval().to(args.device)
    model = smpf.create(arch, classes=args.classes).eval().to(args.device)
    sizes = [sum(parameter.numel() for parameter in net.parameters()) for net in (plain, model)]
    return model.feedback.steps(), sizes, [operations(net, image) // args.batch for net in (plain, model)]


def main():
    """Every recipe, unless some are named."""
    args = begin(options(__doc__, "recipes", archs=RECIPES, size=64, batch=1, classes=10))
    rows, results = [], {}
    for arch in args.archs:
        times, (small, large), (once, looks) = counted(arch, args)
        results[arch] = {"steps": times, "parameters": [small, large], "multiply-adds": [once, looks]}
        share = f"{looks / (times * once):.3f}"
        rows.append([arch, str(times), f"{large / 1e6:.1f} M", f"{large / small:.3f}", f"{once / 1e9:.2f} G", share])
    columns = ["recipe", "T", "parameters", "of the twin's", "one plain forward", "T looks / T forwards"]
    show(f"multiply-adds at {args.size} px", columns, rows, results, args.out)


if __name__ == "__main__":
    main()
