"""What training keeps for the backward pass, in units of one plain forward, for each way gradients flow.

python -m benchmarks.memory [--archs Unet DeepLabV3Plus] [--encoder resnet34] [--size 256]
"""

from __future__ import annotations

import torch

import smp_feedback as smpf
from benchmarks.measure import (
    Allocations,
    backward_too,
    begin,
    bytes_held,
    cells,
    lines,
    options,
    plain_and_image,
    show,
    timed,
)

STEPS = (1, 2, 4, 8, 16)
FLOWS = {"all steps": {}, "recompute": {"recompute": True}, "last step": {"grad_steps": 1}}


def kept(model, image):
    """Bytes between forward and backward, by number of steps."""
    return {steps: bytes_held(lambda steps=steps: model(image, steps=steps)) for steps in STEPS}


def kept_per_step(model, image):
    """The most bytes held at once when every step goes backward before the next one begins.

    Counted when the last step's loss is made: all that outlives a step would have gathered by then.
    """
    model.zero_grad(set_to_none=False)
    model.backward_per_step(image, lambda step: step.logits.mean(), steps=2)  # allocates the gradients
    return {steps: _held_at_the_last_loss(model, image, steps) for steps in STEPS}


def _held_at_the_last_loss(model, image, steps):
    held = []

    def loss(step):
        value = step.logits.mean()
        held.append(allocations.held())
        return value

    with Allocations() as allocations:
        model.backward_per_step(image, loss, steps=steps)
    return held[-1]


def state_bytes(model, image):
    """What one step must keep to be run again: its state."""
    with torch.no_grad():
        state = next(model.iterate(image)).state
    return state.numel() * state.element_size()


def measure(arch, args):
    """By way of flowing and number of steps, in plain forwards."""
    plain, image = plain_and_image(arch, args)
    plain.train()(image).mean().backward()
    unit = bytes_held(lambda: plain(image))
    found = {}
    for name, flow in FLOWS.items():
        model = smpf.wrap(plain, smpf.Recurrent(**flow)).train()
        found[name] = kept(model, image)
        if name == "recompute":
            state = state_bytes(model, image)
            found["recompute, beyond the T states"] = {t: held - t * state for t, held in found[name].items()}
    found["backward_per_step"] = kept_per_step(smpf.wrap(plain, smpf.Recurrent()).train(), image)
    return unit, {name: {t: held / unit for t, held in row.items()} for name, row in found.items()}


def recompute_time(arch, args):
    """Forward and backward with recomputation over those without."""
    plain, image = plain_and_image(arch, args)
    thrifty, keen = (
        smpf.wrap(plain, smpf.Recurrent(steps=args.steps, recompute=recompute)).train() for recompute in (True, False)
    )
    return timed(backward_too(lambda: thrifty(image)), backward_too(lambda: keen(image)), args.repeats)


def main():
    """Bytes for each way, then the time that recomputation takes."""
    args = begin(options(__doc__, "memory", archs=["Unet", "DeepLabV3Plus", "FPN"], steps=10, repeats=5))
    rows, results = [], {}
    for arch in args.archs:
        unit, found = measure(arch, args)
        time = recompute_time(arch, args)
        results[arch] = {"unit_bytes": unit, "kept": found, "recompute_time": time}
        for name, row in found.items():
            label = f"{arch} ({unit / 2**20:.0f} MiB)" if name == "all steps" else ""
            rows.append([label, name, *(f"{row[t]:.2f}" for t in STEPS)])
        rows.append(["", f"time of recompute / all steps, T = {args.steps}", *cells(time), "", "", ""])
    title = f"kept for backward, in plain forwards ({args.encoder}, {args.size} px, batch {args.batch})"
    show(title, ["architecture", "gradients", *(f"T={t}" for t in STEPS)], rows, results, args.out)
    first = results[args.archs[0]]["kept"]
    lines(f"{args.archs[0]}: {title}", first, args.out, "looks T", "plain forwards", log=True)


if __name__ == "__main__":
    main()
