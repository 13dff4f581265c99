"""The parts of ``benchmarks.gpu``: each keeps its figures row by row, so that what was found outlives it.

python -m benchmarks.gpu_parts eager --out runs/gpu/eager.json [--rehearse]
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import re
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch

import smp_feedback as smpf
from benchmarks.measure import backward_too, bytes_held, interleaved, ratio
from smp_feedback.experiments.cost import hardware
from smp_feedback.saving.files import replace_file

Keep = Callable[[str, dict[str, Any]], None]
ROOT = Path(__file__).parents[1]
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large everything is; the defaults are those of the record."""

    device: str = "cuda"
    encoder: str = "resnet34"
    base: dict[str, Any] = field(default_factory=dict)  # what else the Unet is told
    size: int = 512
    batch: int = 16
    steps: int = 5
    repeats: int = 9
    memory_steps: tuple[int, ...] = (1, 2, 4, 8)
    backend: str | None = None  # of torch.compile; None is its own
    maze: tuple[str, ...] = ("--sizes", "[9,33,59]", "--looks", "[640,1920]", "--jobs", "3", "--accelerator", "gpu")


REHEARSAL = Sizes(
    device="cpu",
    encoder="tu-test_resnet.r160_in1k",
    base={"encoder_depth": 3, "decoder_channels": (16, 8, 8)},
    size=32,
    batch=1,
    steps=2,
    repeats=2,
    memory_steps=(1, 2),
    backend="aot_eager",
    maze=(
        *("--data.size", "3", "--sizes", "[3,4]", "--looks", "[2,3]", "--train_steps", "1", "--seeds", "1"),
        *("--training", "{steps: 2, free_steps: 1}", "--test_images", "2", "--accelerator", "cpu", "--jobs", "1"),
    ),
)


def twins(sizes: Sizes, **loop: Any) -> tuple[Any, Any, torch.Tensor]:
    """Plain smp, the loop around the same weights, and a batch."""
    torch.manual_seed(0)
    plain = smp.Unet(sizes.encoder, encoder_weights=None, **sizes.base).eval().to(sizes.device)
    model = smpf.wrap(copy.deepcopy(plain), smpf.Recurrent(steps=sizes.steps, **loop)).eval()
    return plain, model, torch.rand(sizes.batch, 3, sizes.size, sizes.size, device=sizes.device)


# --- time


def eager(sizes: Sizes, keep: Keep) -> None:
    """T looks against T plain forwards, in inference and with backward."""
    plain, model, image = twins(sizes)
    with torch.inference_mode():
        keep("inference", against({"loop": lambda: model(image), "plain": over(sizes, lambda: plain(image))}, sizes))
    once, loop = backward_too(lambda: plain.train()(image)), backward_too(lambda: model.train()(image))
    keep("training", against({"loop": loop, "plain": over(sizes, once)}, sizes))


def over(sizes: Sizes, run: Callable[[], object]) -> Callable[[], None]:
    """*run*, T times, whose answers are let go."""

    def repeated() -> None:
        for _ in range(sizes.steps):
            run()

    return repeated


def against(runs: dict[str, Callable[[], object]], sizes: Sizes) -> dict[str, Any]:
    """Milliseconds of T looks and of T plain forwards, and their ratio turn by turn; if given, what each gains."""
    seconds = interleaved(runs, sizes.repeats)
    found: dict[str, Any] = {f"{name} ms": 1000 * statistics.median(row) for name, row in seconds.items()}
    found["loop / plain"] = ratio(seconds["loop"], seconds["plain"])
    for name in ("loop", "plain"):
        if f"{name} as it is" in seconds:
            found[f"{name} / as it is"] = ratio(seconds[name], seconds[f"{name} as it is"])
    return found


def channels_last(model: Any, image: torch.Tensor, sizes: Sizes) -> Callable[[], torch.Tensor]:
    """Weights and image."""
    model, image = (x.to(memory_format=torch.channels_last) for x in (model, image))
    return lambda: model(image)


def bfloat16(model: Any, image: torch.Tensor, sizes: Sizes) -> Callable[[], torch.Tensor]:
    """Autocast."""

    def run() -> torch.Tensor:
        with torch.autocast(sizes.device, torch.bfloat16):
            return model(image)

    return run


def compiled(model: Any, image: torch.Tensor, sizes: Sizes, **how: Any) -> Callable[[], torch.Tensor]:
    """One compiled look for the loop; the whole of plain smp."""
    how |= {} if sizes.backend is None else {"backend": sizes.backend}
    if isinstance(model, smpf.FeedbackModel):
        model.compile_step(**how)
        return lambda: model(image)
    whole = torch.compile(model, **how)
    return lambda: whole(image)


def cuda_graphs(model: Any, image: torch.Tensor, sizes: Sizes) -> Callable[[], torch.Tensor]:
    """``mode="reduce-overhead"``; a backend of one's own has no modes."""
    return compiled(model, image, sizes, **({} if sizes.backend else {"mode": "reduce-overhead"}))


WAYS = {"channels_last": channels_last, "bfloat16": bfloat16, "compile": compiled, "cuda_graphs": cuda_graphs}


def gains(way: str, sizes: Sizes, keep: Keep) -> None:
    """T looks against T plain forwards, both with *way*, and each against itself as it is; and what *way* changes."""
    plain, model, image = twins(sizes)
    with torch.inference_mode():
        run, base = (WAYS[way](copy.deepcopy(one), image, sizes) for one in (model, plain))
        expected, answer = model(image), run().float().clone()  # a graph's answer is overwritten by its next
        change = {"largest change": ((answer - expected).abs().max() / expected.abs().max()).item()}
        keep(way, change)  # compiled by now, which may have taken the time of the part
        as_it_is = {"loop as it is": lambda: model(image), "plain as it is": over(sizes, lambda: plain(image))}
        keep(way, against({"loop": run, "plain": over(sizes, base), **as_it_is}, sizes) | change)


# --- memory


def memory(sizes: Sizes, keep: Keep) -> None:
    """What a training step keeps for its backward pass, and on a GPU its peak, by number of looks."""
    plain, _, image = twins(sizes)
    keep("plain, once", training_memory(lambda: plain.train()(image).mean()))
    flows: dict[str, dict[str, Any]] = {"all steps": {}, "recompute": {"recompute": True}, "last": {"grad_steps": 1}}
    for (name, flow), steps in itertools.product(flows.items(), sizes.memory_steps):
        _, model, _ = twins(sizes, **flow)
        keep(f"{name}, T = {steps}", training_memory(lambda m=model, t=steps: m.train()(image, steps=t).mean()))
    for steps in sizes.memory_steps:
        _, model, _ = twins(sizes)
        step_by_step = lambda m=model, t=steps: m.train().backward_per_step(image, lambda s: s.logits.mean(), steps=t)  # noqa: E731
        keep(f"backward_per_step, T = {steps}", {"kept MiB": None, "peak MiB": peak(step_by_step)})


def training_memory(loss: Callable[[], torch.Tensor]) -> dict[str, Any]:
    """MiB kept between forward and backward, and at the peak of both."""
    try:
        return {"kept MiB": bytes_held(loss) / MIB, "peak MiB": peak(lambda: loss().backward())}
    except torch.OutOfMemoryError:
        return {"kept MiB": "out of memory", "peak MiB": "out of memory"}


def peak(run: Callable[[], object]) -> float | str | None:
    """MiB beyond what was there before; None where there is no GPU to ask."""
    if not torch.cuda.is_available():
        run()
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    try:
        run()
    except torch.OutOfMemoryError:
        return "out of memory"
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / MIB


# --- tests and a study


def marked(sizes: Sizes, keep: Keep) -> None:
    """The tests marked ``gpu``: how many passed, failed, were skipped.

    Raises:
        SystemExit: If one failed, or there is none.
    """
    files = [str(path) for path in sorted(ROOT.glob("tests/**/test_*.py")) if "mark.gpu" in path.read_text()]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *files]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(ran.stdout[-20000:], ran.stderr[-2000:])
    keep("tests", counts(ran.stdout))
    if ran.returncode:
        sys.exit(f"{ran.stdout.strip().splitlines()[-1:] or [ran.stderr[-300:]]}")


def counts(said: str) -> dict[str, int]:
    r"""How many tests ended how, by pytest's last line.

    >>> counts("1 failed\n===== 3 passed, 1 skipped, 20 deselected in 4.5s =====")
    {'passed': 3, 'failed': 0, 'errors': 0, 'skipped': 1}
    """
    last = (said.strip().splitlines() or [""])[-1]
    words = {"passed": "passed", "failed": "failed", "errors": "errors?", "skipped": "skipped"}
    return {key: int(m[1]) if (m := re.search(rf"(\d+) {word}\b", last)) else 0 for key, word in words.items()}


def anytime(sizes: Sizes, keep: Keep, out: Path) -> None:
    """The study of mazes trained at 9 x 9, at sizes up to 59 x 59: each seed that ended, even if not all did."""
    from smp_feedback.cli.main import main

    study = ["compare", "--config", str(ROOT / "studies/mazes9.yaml"), *sizes.maze, "--out", str(out)]
    try:
        if code := main(study):
            sys.exit(f"compare returned {code}")
    finally:
        for path in sorted((out / "runs").glob("*.json")):
            for name, row in solved(json.loads(path.read_text())).items():
                keep(name, row)


def solved(run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Per cent of a run's mazes, a row for each number of looks, a column for each size.

    >>> row = {"looks": 64, "size": 9, "solved": 0.975}
    >>> solved({"seed": 1, "seconds": 60.0, "scores": [row]})
    {'seed 1, 64 looks': {'seconds of training': 60.0, '9 x 9': 97.5}}
    """
    found: dict[str, dict[str, Any]] = {}
    for score in run["scores"]:
        if score.get("size") is not None:
            row = found.setdefault(f"seed {run['seed']}, {score['looks']} looks", {})
            row.setdefault("seconds of training", run["seconds"])
            row[f"{score['size']} x {score['size']}"] = 100 * score["solved"]
    return found


# --- one part, as a process


def keeper(out: Path, sizes: Sizes) -> Keep:
    """What keeps a row in *out*, written whole each time, with the hardware."""
    rows: dict[str, dict[str, Any]] = {}

    def keep(name: str, row: dict[str, Any]) -> None:
        rows[name] = row
        about = {"hardware": hardware(), "sizes": {k: str(v) for k, v in vars(sizes).items()}}
        text = json.dumps({**about, "rows": rows})
        replace_file(out, lambda path: path.write_text(text))

    return keep


def run(name: str, sizes: Sizes, out: Path) -> None:
    """The part *name*; its rows go to *out*, and what else it makes beside it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    keep = keeper(out, sizes)
    if name in WAYS:
        gains(name, sizes, keep)
    elif name == "anytime":
        anytime(sizes, keep, out.with_suffix(""))
    else:
        {"tests": marked, "eager": eager, "memory": memory}[name](sizes, keep)


def main() -> None:
    """Asked to end, it ends as an error does: what is to be written down last, is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("tests", "eager", "memory", *WAYS, "anytime"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rehearse", action="store_true")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("asked to end"))
    run(args.name, REHEARSAL if args.rehearse else Sizes(), args.out)


if __name__ == "__main__":
    main()
