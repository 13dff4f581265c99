"""Timing and counting, once for every benchmark: interleaved runs, medians with spread, bytes kept for backward."""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import smp_feedback as smpf
from smp_feedback.experiments.cost import hardware
from smp_feedback.plotting.style import LINES
from smp_feedback.saving.files import replace_file

REPEATS = 15
SMPS = [name for name in smpf.list_architectures() if hasattr(smp, name)]
"""smp's own architectures."""


def interleaved(
    runs: dict[str, Callable[[], object]], repeats: int = REPEATS, warm_up: int = 2
) -> dict[str, list[float]]:
    """Seconds of each run, taken in turns so that a busy moment hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + warm_up):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def ratio(numerator: list[float], denominator: list[float]) -> tuple[float, float, float]:
    """Median of the turn-by-turn ratios, and their quartiles."""
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return middle, low, high


class Allocations(TorchDispatchMode):
    """Sees every tensor that any operation makes, autograd's and checkpointing's own included."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Run the operation, and remember the storages of its results without keeping them."""
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in given:  # a view or an in-place result is nothing new
                    self.seen[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        return result

    def held(self) -> int:
        """Bytes of all that is still alive."""
        return sum(size for reference, size in self.seen.values() if not reference.expired())


def bytes_held(run: Callable[[], object]) -> int:
    """Bytes made by *run* and still held when it has returned: what backward will need, and the answer."""
    with Allocations() as allocations:
        result = run()
    held = allocations.held()
    del result
    return held


def backward_too(run: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """*run*, and its mean's gradient; gradients are added to and never read."""

    def trained() -> None:
        run().mean().backward()

    return trained


def options(doc: str, name: str, **defaults: object) -> argparse.ArgumentParser:
    """The options that every benchmark shares; *defaults* replaces or adds some."""
    parser = argparse.ArgumentParser(description=doc.split("\n\n")[0])
    shared = {"encoder": "resnet34", "size": 256, "batch": 2, "steps": 5, "repeats": 9, "threads": 2, "classes": 1}
    for key, value in {**shared, **defaults}.items():
        several = isinstance(value, list)
        kind = type(value[0]) if several else type(value)
        parser.add_argument(f"--{key}", type=kind, default=value, nargs="*" if several else None)
    parser.add_argument("--out", type=Path, default=Path(f"runs/bench/{name}.json"))
    return parser


def begin(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options given; threads are set, and a GPU is used if there is one."""
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    args.device = "cuda" if torch.cuda.is_available() else "cpu"
    return args


def plain_and_image(arch: str, args: argparse.Namespace, size: int | None = None):
    """smp's own model and a batch for it; DPT takes a Vision Transformer and its 224 px."""
    vit = arch == "DPT"
    encoder, side = ("tu-vit_tiny_patch16_224", 224) if vit else (args.encoder, size or args.size)
    plain = smp.create_model(arch, encoder, encoder_weights=None, classes=args.classes).eval().to(args.device)
    return plain, torch.rand(args.batch, 3, side, side, device=args.device)


def timed(run: Callable[[], object], base: Callable[[], object], repeats: int, warm_up: int = 2) -> dict[str, float]:
    """*run* against *base*, interleaved: the median ratio, its quartiles, and milliseconds of both."""
    seconds = interleaved({"run": run, "base": base}, repeats, warm_up)
    middle, low, high = ratio(seconds["run"], seconds["base"])
    ms = {f"{name}_ms": 1000 * statistics.median(row) for name, row in seconds.items()}
    return {"ratio": middle, "low": low, "high": high, **ms}


def cells(found: dict[str, float]) -> list[str]:
    """A ratio and its quartiles, for a table."""
    return [f"{found['ratio']:.3f}", f"{found['low']:.3f} - {found['high']:.3f}"]


def show(title: str, columns: list[str], rows: list[list[str]], results: object, out: Path) -> None:
    """Print the table, write the figures as JSON, say where."""
    console, table = Console(), Table(title=f"{title}\n{hardware()}")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    keep(title, results, out)
    console.print(f"wrote {out}")


def keep(title: str, results: object, out: Path) -> None:
    """The figures as JSON, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"title": title, "hardware": hardware(), "results": results}, indent=2)
    replace_file(out, lambda draft: draft.write_text(text))


def bars(title: str, found: dict[str, dict[str, float]], out: Path, unit: str) -> None:
    """Ratios as bars with their quartiles, beside the JSON; 1 is marked."""
    figure = Figure(figsize=(7, 0.9 + 0.38 * len(found)), layout="constrained")
    axes = figure.subplots()
    ratios = [row["ratio"] for row in found.values()]
    spread = [[abs(row["ratio"] - row[end]) for row in found.values()] for end in ("low", "high")]
    axes.barh(list(found), ratios, xerr=spread, color=LINES[0], ecolor="#555555", capsize=2)
    axes.axvline(1, color=LINES[1], linewidth=1)
    axes.invert_yaxis()
    axes.set(xlabel=unit, title=title)
    _save(figure, out)


def lines(title: str, series: dict[str, dict[int, float]], out: Path, x: str, y: str, *, log: bool = False) -> None:
    """One line for each series over whole numbers, beside the JSON."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for (name, row), marker in zip(series.items(), "osD^v<>P*X" * 9, strict=False):
        axes.plot(list(row), list(row.values()), marker=marker, label=name)
    axes.set(xlabel=x, ylabel=y, title=title, xscale="log" if log else "linear", yscale="log" if log else "linear")
    ticks = sorted({key for row in series.values() for key in row})
    axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
    axes.legend()
    _save(figure, out)


def save_small(figure: Figure, path: Path, colours: int) -> Path:
    """A PNG of so many *colours*, as pictures with noise do not compress; a crash leaves an older one whole."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    small = Image.open(drawn).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    return replace_file(path, lambda file: small.save(file, format="PNG", optimize=True))


def _save(figure: Figure, out: Path) -> None:
    path = out.with_suffix(".png")
    figure.savefig(path, dpi=150)
    Console().print(f"wrote {path}")
