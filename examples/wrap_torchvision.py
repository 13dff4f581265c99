"""torchvision's DeepLabV3 looks again: the one that you have, wrapped, or a new one, created by its name.

python examples/wrap_torchvision.py
python examples/wrap_torchvision.py --weights COCO_WITH_VOC_LABELS_V1     # downloads torchvision's trained one
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torchvision

import smp_feedback as smpf
from smp_feedback.testing import hearing


def main(argv: list[str] | None = None) -> None:
    """Wrap, look at every step, create by name, save."""
    parser = argparse.ArgumentParser(description="Wrapping a torchvision model.")
    parser.add_argument("--weights", help="torchvision's name of trained weights; without it, random ones")
    parser.add_argument("--name", default="deeplabv3_resnet50", help="torchvision's name of the model")
    parser.add_argument("--size", type=int, default=128, help="side of the image in pixels")
    parser.add_argument("--out", type=Path, default=Path("runs/wrap_torchvision"), help="where the model goes")
    args = parser.parse_args(argv)

    torch.manual_seed(0)
    theirs = torchvision.models.get_model(args.name, weights=args.weights, weights_backbone=None).eval()
    image = torch.rand(1, 3, args.size, args.size)

    # The one that you have: the state is what its last convolution reads, and the logits are the bare tensor.
    model = smpf.wrap(theirs, smpf.Recurrent(dynamics="residual", steps=4, channels=2))
    with torch.no_grad():
        expected = theirs(image)["out"]
        moved = float((model(image) - expected).abs().max())
        print(f"wrapped: {tuple(expected.shape)} as before, no logit moved by more than {moved:.1e}")

        # The feedback begins at zero weights, unheard. Heard, each look differs from the one before:
        with hearing(model):
            for step in model.iterate(image):
                print(f"look {step.index + 1}: the state moved by {float(step.change):.3f} of its size")

    theirs.load_state_dict(model.feedforward_state_dict())  # and back, strictly

    # A new one by its name, ready to be trained; saved and loaded by what it was made of.
    own = smpf.create(f"torchvision/{args.name}", classes=5, feedback={"steps": 3, "insert": "input"}).eval()
    folder = own.save_pretrained(args.out)
    again = smpf.from_pretrained(folder).eval()
    with torch.no_grad():
        same = torch.equal(own(image), again(image))
    print(f"created: {tuple(own(image).shape)}; wrote {folder}; loaded, it answers the same: {same}")
    print("others:", ", ".join(smpf.list_architectures("torchvision/*")))


if __name__ == "__main__":
    main()
