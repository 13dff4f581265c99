"""What training keeps for the backward pass, in units of one plain forward, for each way gradients flow.

python -m benchmarks.memory [--archs Unet DeepLabV3Plus] [--encoder resnet34] [--size 256]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import segmentation_models_pytorch as smp
import torch

import smp_feedback as smpf
from benchmarks.measure import bytes_held, show

STEPS = (1, 2, 4, 8, 16)
FLOWS = {"all steps": {}, "recompute": {"recompute": True}, "last step": {"grad_steps": 1}}


def kept(model, image):
    """Bytes between forward and backward, by number of steps."""
    return {steps: bytes_held(lambda steps=steps: model(image, steps=steps)) for steps in STEPS}


def kept_per_step(model, image):
    """The most bytes held at once when every detached step goes backward before the next one begins."""

    def walk(steps):
        for step in model.iterate(image, steps=steps):
            if step.index < steps - 1:
                step.logits.mean().backward()
        return step, step.logits

    model.zero_grad(set_to_none=False)
    walk(2)  # allocates the gradients
    return {steps: bytes_held(lambda steps=steps: walk(steps)) for steps in STEPS}


def measure(arch, args):
    """By way of flowing and number of steps, in plain forwards."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = "tu-vit_tiny_patch16_224" if arch == "DPT" else args.encoder
    size = 224 if arch == "DPT" else args.size
    plain = smp.create_model(arch, encoder, encoder_weights=None, classes=11).train().to(device)
    image = torch.rand(args.batch, 3, size, size, device=device)
    plain(image).mean().backward()
    unit = bytes_held(lambda: plain(image))
    found = {}
    for name, flow in FLOWS.items():
        model = smpf.wrap(plain, smpf.Recurrent(**flow)).train()
        found[name] = kept(model, image)
    model = smpf.wrap(plain, smpf.Recurrent(detach=True)).train()
    found["detached, a backward per step"] = kept_per_step(model, image)
    return unit, {name: {t: held / unit for t, held in row.items()} for name, row in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--archs", nargs="*", default=["Unet", "DeepLabV3Plus", "FPN"])
    parser.add_argument("--encoder", default="resnet34")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/memory.json"))
    args = parser.parse_args()
    rows, results = [], {}
    for arch in args.archs:
        unit, results[arch] = measure(arch, args)
        for name, row in results[arch].items():
            label = f"{arch} ({unit / 2**20:.0f} MiB)" if name == "all steps" else ""
            rows.append([label, name, *(f"{row[t]:.2f}" for t in STEPS)])
    title = f"kept for backward, in plain forwards ({args.encoder}, {args.size} px, batch {args.batch})"
    show(title, ["architecture", "gradients", *(f"T={t}" for t in STEPS)], rows, results, args.out)


if __name__ == "__main__":
    main()
