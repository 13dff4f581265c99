"""Handwritten digits, looked at five times: does looking again help a classifier, on clean digits and on noisy ones?

python examples/mnist.py --root path/to/mnist

The classifier of Deep Feedback Models (arXiv 2509.15905) and its feed-forward twin see the same images in the same
order; both are then scored over looks and over noise. --root holds the files as torchvision keeps them; --download
fetches them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import smp_feedback as smpf
from smp_feedback.data import Corrupted, open_dataset
from smp_feedback.evaluation import evaluate_all, robustness, save_result
from smp_feedback.evaluation.plotting import plot
from smp_feedback.training import FeedbackModule, PairsModule, fit

NOISE, SEVERITIES = "gaussian_noise", (1, 2, 3, 4, 5)
LOOKS = tuple(range(1, 11))


def options() -> argparse.Namespace:
    """What can be chosen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, default=Path("runs/mnist/data"), help="where the files are")
    parser.add_argument("--download", action="store_true", help="fetch what is not under --root")
    parser.add_argument("--arch", default="DFMResNet18", help="any classifier, such as timm/resnet18")
    parser.add_argument("--steps", type=int, default=5, help="looks, T")
    parser.add_argument("--epochs", type=int, default=4, help="times that each image is seen")
    parser.add_argument("--batch", type=int, default=64, help="images at a time")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--size", type=int, default=32, help="side to which images are resized, in pixels")
    parser.add_argument("--images", type=int, help="train and test on so many; without it, on all")
    parser.add_argument("--noise", type=int, default=0, help="severity of noise on the training images, 0 to 5")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and noise")
    parser.add_argument("--out", type=Path, default=Path("runs/mnist"), help="where results go")
    return parser.parse_args()


def digits(split: str, args: argparse.Namespace) -> torch.utils.data.Dataset:
    """The images of *split*; torchvision's 60,000 are split nine to one into train and val."""
    told = {"root": args.root, "size": args.size, "download": args.download, "seed": args.seed}
    return open_dataset("torchvision/MNIST", split, count=args.images, **told)


def trained(feedback: dict[str, int] | bool, args: argparse.Namespace) -> torch.nn.Module:
    """A classifier, trained; the loop's and its twin's images, order and steps are the same."""
    images = digits("train", args)
    shown = Corrupted(images, NOISE, args.noise, fresh=True) if args.noise else images
    torch.manual_seed(args.seed)
    model = smpf.create(args.arch, classes=10, feedback=feedback)
    module = FeedbackModule(model, classes=10, task="classification", supervise="mean", lr=args.lr)
    steps = args.epochs * max(1, len(images) // args.batch)
    return fit(module, PairsModule(shown, batch_size=args.batch), steps=steps, seed=args.seed).model.eval()


def main() -> None:
    """Train both, then score them over looks and over noise."""
    args, console, models = options(), Console(), {}
    for name, feedback in (("feedback", {"steps": args.steps}), ("feed-forward", False)):
        begin = time.perf_counter()
        models[name] = trained(feedback, args)
        console.print(f"{name}: trained in {time.perf_counter() - begin:.0f} s, {args.epochs} epochs")
    told = {"classes": 10, "task": "classification"}
    found = evaluate_all(models, test := digits("test", args), looks=LOOKS, **told)
    console.print(over_looks(found, args.steps))
    with Progress(console=console) as progress:
        task = progress.add_task("noise", total=1 + len(SEVERITIES))
        told |= {"looks": (args.steps,), "corruptions": (NOISE,), "severities": SEVERITIES}
        result = robustness(models, test, **told, advance=lambda: progress.advance(task))
    console.print(over_noise(result))
    print(f"wrote {save_result(result, args.out / 'noise.json')}")
    for path in plot([args.out / "noise.json"]):
        print(f"wrote {path}")
    print(f"wrote {models['feedback'].save_pretrained(args.out / 'model', dataset='MNIST')}")


def over_looks(found: dict, steps: int) -> Table:
    """Accuracy after each number of looks; the twin has one."""
    table = Table(
        "looks", *map(str, LOOKS), title=f"accuracy after so many looks at clean images, % (trained with {steps})"
    )
    for name, scores in found.items():
        table.add_row(name, *(f"{100 * score.accuracy:.1f}" for score in scores))
    return table


def over_noise(result: dict) -> Table:
    """Accuracy under noise of each severity."""
    table = Table("severity", "0", *map(str, SEVERITIES), title=f"accuracy under {NOISE}, %")
    for name in dict.fromkeys(row["model"] for row in result["rows"]):
        own = sorted((row["severity"], row["accuracy"]) for row in result["rows"] if row["model"] == name)
        table.add_row(name, *(f"{100 * accuracy:.1f}" for _, accuracy in own))
    return table


if __name__ == "__main__":
    main()
