"""Does feedback help on noisy images? Trains a feedback model and its feed-forward twin, and shows both.

``make demo`` runs it on synthetic shapes, ``make demo DATA=folder`` on a folder in CamVid's layout. Both
twins begin from the same weights, see the same batches and take the same number of optimiser steps.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset
from torchvision.transforms import v2

from smp_feedback.checks import check_number, check_whole
from smp_feedback.config import Recurrent
from smp_feedback.data import MaskFolder, Noisy, Shapes, add_noise
from smp_feedback.errors import FeedbackError
from smp_feedback.evaluation import noise_sweep
from smp_feedback.evaluation.pictures import refinement, sweep_curve
from smp_feedback.factory import create, wrap
from smp_feedback.saving.files import replace_file
from smp_feedback.training import FeedbackModule, PairsModule, fit

TWIN, FEEDBACK = "feed-forward", "feedback"
Pairs = Dataset[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Job:
    """One experiment: what is learned from what, for how long."""

    arch: str
    encoder: str
    classes: tuple[str, ...]
    ignore_index: int | None
    train: Pairs
    test: Pairs
    steps: int
    batch_size: int
    sigmas: tuple[float, ...]


def shapes_job(steps: int | None, noise: float, images: int, seed: int) -> Job:
    """Polygons and circles, drawn on the fly: every training image is new."""
    steps, batch = steps or 180, 8
    data = Shapes(steps * batch, size=64, noise=noise, seed=seed)
    test = Shapes(images, size=64, seed=10_000)
    sigmas = (0.0, 0.25, 0.5, 0.75, 1.0)
    return Job("Unet", "resnet18", data.classes, None, data, test, steps, batch, sigmas)


def folder_job(root: Path, steps: int | None, noise: float, images: int) -> Job:
    """Street scenes at 96 x 128: trained on ``train``, scored on ``val``."""
    flip = v2.RandomHorizontalFlip()

    def augment(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        flipped: tuple[Tensor, Tensor] = flip(image, mask)
        return add_noise(flipped[0].as_subclass(Tensor), noise, torch.default_generator), flipped[1]

    train, val = MaskFolder(root, "train", size=(96, 128), transform=augment), MaskFolder(root, "val", size=(96, 128))
    test = Subset(val, range(min(images, len(val))))
    sigmas = (0.0, 0.1, 0.2, 0.3, 0.5)
    return Job("DeepLabV3Plus", "resnet18", train.classes, train.ignore_index, train, test, steps or 300, 8, sigmas)


def train_twins(job: Job, seed: int, accelerator: str) -> tuple[dict[str, nn.Module], dict[str, float]]:
    """The two models, and the seconds each took to train."""
    lightning.seed_everything(seed, verbose=False)
    plain = create(job.arch, job.encoder, None, classes=len(job.classes), feedback=False)
    models = {TWIN: copy.deepcopy(plain), FEEDBACK: wrap(plain, Recurrent())}
    seconds = {}
    for name, model in models.items():
        begin = time.perf_counter()
        module = FeedbackModule(model, classes=len(job.classes), ignore_index=job.ignore_index)
        data = PairsModule(job.train, batch_size=job.batch_size)
        fit(module, data, steps=job.steps, seed=seed, accelerator=accelerator)
        seconds[name] = time.perf_counter() - begin
    return models, seconds


def run(args: argparse.Namespace, console: Console) -> None:
    """Every seed, then the table and the pictures."""
    runs: dict[str, list[list[float]]] = {TWIN: [], FEEDBACK: []}
    times: dict[str, list[float]] = {TWIN: [], FEEDBACK: []}
    for seed in range(args.seeds):
        job = make_job(args, seed)
        console.print(
            f"[bold]seed {seed}[/]: {job.arch} / {job.encoder}, {job.steps} steps of {job.batch_size} images, "
            f"noise {args.noise} in training; first the feed-forward twin, then the feedback model."
        )
        models, seconds = train_twins(job, seed, args.accelerator)
        for name, scores in sweep(job, models, console).items():
            runs[name].append(scores)
            times[name].append(seconds[name])
    report(args, job, models, runs, times, console)


def sweep(job: Job, models: dict[str, nn.Module], console: Console) -> dict[str, list[float]]:
    """mIoU of both models over the job's noise levels, with a progress bar."""
    with Progress(console=console) as progress:
        task = progress.add_task("evaluating", total=len(job.sigmas) * len(models))
        return noise_sweep(
            models,
            job.test,
            job.sigmas,
            classes=len(job.classes),
            ignore_index=job.ignore_index,
            advance=lambda: progress.advance(task),
        )


def report(
    args: argparse.Namespace,
    job: Job,
    models: dict[str, nn.Module],
    runs: dict[str, list[list[float]]],
    times: dict[str, list[float]],
    console: Console,
) -> None:
    """The table, one plain sentence, and the files."""
    console.print(table(job, runs, times))
    console.print(conclusion(runs))
    noisy = Noisy(job.test, args.noise, seed=0)
    samples = [noisy[i * len(job.test) // 4] for i in range(4)]  # type: ignore[arg-type]
    results = {
        "hardware": hardware(),
        "arguments": vars(args),
        "sigmas": job.sigmas,
        "miou": runs,
        "training_seconds": times,
    }
    written = json.dumps(results, indent=2, default=str)
    files = [
        refinement(models, samples, args.out / "refinement.png", classes=len(job.classes)),
        sweep_curve(runs, job.sigmas, args.out / "noise.png"),
        replace_file(args.out / "results.json", lambda path: path.write_text(written)),
    ]
    for file in files:
        console.print(f"wrote {file}", soft_wrap=True)


def table(job: Job, runs: dict[str, list[list[float]]], times: dict[str, list[float]]) -> Table:
    """MIoU in per cent over noise levels, with the spread over seeds, and the compute each model used."""
    shown = Table(title="mIoU (%) on held-out images, by noise (standard deviation)")
    shown.add_column("model")
    for sigma in job.sigmas:
        shown.add_column(f"{sigma:g}", justify="right")
    shown.add_column("training", justify="right")
    for name, rows in runs.items():
        values = 100 * torch.tensor(rows)
        spread = values.std(0) if len(rows) > 1 else None
        cells = [f"{m:.1f}" + ("" if spread is None else f" ± {spread[i]:.1f}") for i, m in enumerate(values.mean(0))]
        shown.add_row(name, *cells, f"{sum(times[name]) / len(rows):.0f} s")
    return shown


def conclusion(runs: dict[str, list[list[float]]]) -> str:
    """One plain sentence, also when it is no."""
    gain = 100 * (torch.tensor(runs[FEEDBACK]).mean(1) - torch.tensor(runs[TWIN]).mean(1))
    seeds, mean = len(gain), float(gain.mean())
    verb = "gained" if mean >= 0 else "lost"
    first = f"Averaged over noise, feedback {verb} {abs(mean):.1f} points of mIoU over its twin at equal data and steps"
    if seeds == 1:
        return f"{first}; one seed says little about chance: repeat with --seeds 3."
    agree = int((gain.sign() == gain.mean().sign()).sum())
    return f"{first} (seeds: {', '.join(f'{g:+.1f}' for g in gain.tolist())}; {agree} of {seeds} agree)."


def hardware() -> str:
    """What the figures were measured on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
    return f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def make_job(args: argparse.Namespace, seed: int) -> Job:
    """The job that the arguments ask for."""
    if args.data is None:
        return shapes_job(args.steps, args.noise, args.images, seed)
    return folder_job(args.data, args.steps, args.noise, args.images)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m smp_feedback.demo", description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, help="a folder in CamVid's layout; without it, synthetic shapes")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="where files go (%(default)s)")
    parser.add_argument("--steps", type=int, help="optimiser steps (180 on shapes, 300 on a folder)")
    parser.add_argument("--noise", type=float, help="noise in training (0.5 on shapes, 0.2 on a folder)")
    parser.add_argument("--images", type=int, default=150, help="held-out images to score, at most (%(default)s)")
    parser.add_argument("--seeds", type=int, default=1, help="repetitions (%(default)s)")
    parser.add_argument("--accelerator", default="auto", help="Lightning's: auto, cpu, gpu (%(default)s)")
    args = parser.parse_args(argv)
    args.noise = args.noise if args.noise is not None else (0.5 if args.data is None else 0.2)
    check_whole("seeds", args.seeds)
    check_whole("images", args.images)
    check_number("noise", args.noise, least=0)
    if args.steps is not None:
        check_whole("steps", args.steps)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns the process's exit status."""
    console = Console()
    try:
        args = parse(argv)
        args.out.mkdir(parents=True, exist_ok=True)
        run(args, console)
    except (FeedbackError, OSError) as error:
        console.print(f"[red]{error}[/]")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
