"""How the cost grows with the number of looks and with the image: it should not.

python -m benchmarks.scaling [--arch Unet] [--encoder resnet34] [--looks 1 2 4 8 16] [--sizes 64 128 256 512]
"""

from __future__ import annotations

import torch

import smp_feedback as smpf
from benchmarks.measure import begin, cells, lines, options, plain_and_image, show, timed


def measure(steps, size, args):
    """*steps* looks over as many plain forwards, at *size* px."""
    plain, image = plain_and_image(args.arch, args, size)
    model = smpf.wrap(plain, smpf.Recurrent(steps=steps)).eval()
    with torch.inference_mode():
        return timed(lambda: model(image), lambda: [plain(image) for _ in range(steps)], args.repeats)


def main():
    """Over T at one size, then over sizes at one T."""
    args = begin(options(__doc__, "scaling", arch="Unet", looks=[1, 2, 4, 8, 16], sizes=[64, 128, 256, 512]))
    by_steps = {steps: measure(steps, args.size, args) for steps in args.looks}
    by_size = {size: measure(args.steps, size, args) for size in args.sizes}
    rows = [[f"T = {t}, {args.size} px", f"{found['run_ms']:.0f} ms", *cells(found)] for t, found in by_steps.items()]
    rows += [[f"T = {args.steps}, {s} px", f"{found['run_ms']:.0f} ms", *cells(found)] for s, found in by_size.items()]
    title = f"T looks / T plain forwards ({args.arch}, {args.encoder}, batch {args.batch})"
    show(title, ["", "loop", "ratio", "quartiles"], rows, {"steps": by_steps, "size": by_size}, args.out)
    milliseconds = {
        "loop": {t: found["run_ms"] for t, found in by_steps.items()},
        "T plain forwards": {t: found["base_ms"] for t, found in by_steps.items()},
    }
    lines(title, milliseconds, args.out, "looks T", "ms", log=True)


if __name__ == "__main__":
    main()
