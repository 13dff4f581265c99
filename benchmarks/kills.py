"""What a kill leaves: verbs are killed at random moments, looked at, gone on with, and held against one left alone.

python -m benchmarks.kills [--verbs fit compare predict export] [--kills 200] [--seed 0] [--out runs/kills]

Each verb is a process of its own, on tiny data with a tiny model, ended by SIGKILL after a time drawn evenly from that
of a run that is left alone (of a processor, so that others at work do not move it: Linux alone); up to four kills in
succession, then it may end. After each kill, every file under a final name is read whole, and what was there before is
there still; at the end, everything is what the run left alone wrote. Times of day and durations are left out of that,
and so are logs that grow line by line (TensorBoard's, metrics.csv).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from PIL import Image
from rich.progress import Progress
from safetensors.torch import load_file

from smp_feedback.cli.main import main as cli
from smp_feedback.cli.main import whole_parser
from smp_feedback.saving.files import replace_file

SIZE, IMAGES = 32, 4
BASE = ["--model.arch", "PlainConv", "--model.arguments", '{"width": 4}', "--model.feedback", '{"steps": 2}']
DATA = ["--data.name", "polygons", "--data.size", str(SIZE), "--data.batch_size", "2", "--data.images", "4"]
QUIET = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
TINY = [
    *("--data.size=32", "--data.batch_size=2", "--data.train_count=[2]", "--arch=PlainConv", "--train_steps=3"),
    *("--models=[feedback, plain]", "--seeds=2", "--corruptions=[occlusion]", "--severities=[3]", "--test_images=2"),
    *('--arch_options={"width": 4}', '--feedback={"steps": 2}', "--accelerator=cpu"),
]
LAZY = [  # what verbs import once they run
    "onnx",
    "onnxscript",
    "onnxruntime",
    "jinja2",
    "matplotlib.pyplot",
    "torch.utils.tensorboard",
    "tensorboard.summary",
    "torchmetrics",
    "torchvision.transforms.v2",
    "smp_feedback.experiments.comparison.experiment",
    "smp_feedback.experiments.comparison.report",
    "smp_feedback.evaluation",
    "smp_feedback.exporting.export",
    "smp_feedback.plotting.plot",
    "lightning.pytorch.loggers",
]
GROWING = ("events.out", "metrics.csv", ".lock")  # logs, and a lock
HANGS = 1800.0  # seconds after which a run is taken to hang, and ended


class Work(NamedTuple):
    """A verb: what it is told, what of its folder it goes on with, and what was there before.

    Attributes:
        words: The command, of its folder and the one of the things that all share.
        again: The command after a kill.
        before: Fills its folder, by another command.
    """

    words: Callable[[Path, Path], list[str]]
    again: Callable[[Path, Path], list[str]]
    before: Callable[[Path, Path], list[str]] | None = None


def fit_words(out: Path, shared: Path) -> list[str]:
    often = ["--save_every", "1", "--trainer.max_epochs", "3", "--out", str(out / "run")]
    return ["fit", *BASE, "--model.ema", "0.9", *DATA, *QUIET, *often]


def fit_again(out: Path, shared: Path) -> list[str]:
    begun = (out / "run" / "config.yaml").is_file()
    return ["fit", "--resume", str(out / "run")] if begun else fit_words(out, shared)


def compare_words(out: Path, shared: Path) -> list[str]:
    return ["compare", *TINY, "--out", str(out)]


def predict_words(out: Path, shared: Path, *more: str) -> list[str]:
    said = ["--images", str(shared / "images"), "--out", str(out), "--probabilities", "npy", *more]
    return ["predict", "--run", str(shared / "run" / "model"), *said, *QUIET]


def export_words(out: Path, shared: Path, steps: int = 2) -> list[str]:
    how = ["--steps", str(steps), "--static", "--size", "16", "16"]
    return ["export", str(shared / "run" / "model"), str(out / "model.onnx"), *how]


WORKS = {
    "fit": Work(fit_words, fit_again),
    "compare": Work(compare_words, compare_words),
    "predict": Work(predict_words, predict_words, lambda out, shared: predict_words(out, shared, "--steps", "1")),
    "export": Work(export_words, export_words, lambda out, shared: export_words(out, shared, steps=1)),
}


@dataclass
class Found:
    """What the kills of one verb left.

    Attributes:
        kills: How many there were.
        ends: Runs that were gone on with to their end.
        seconds: Of a processor, of a run that is left alone.
        drafts: Hidden drafts that kills left, all in all.
        wrong: In words, whatever is not as promised.
    """

    verb: str
    kills: int = 0
    ends: int = 0
    seconds: float = 0.0
    drafts: int = 0
    wrong: list[str] = field(default_factory=list)


class Ended(NamedTuple):
    """How a process ended, and the seconds of a processor that it had."""

    status: int
    seconds: float


def run(words: list[str], log: Path, kill: float | None = None) -> Ended:
    """*words* in a fork of this process; a negative status is a signal's: SIGKILL's once it had *kill* seconds."""
    begin = time.monotonic()
    child = os.fork()
    if not child:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        status = 99
        try:
            print("$", *words, flush=True)
            status = cli(words)
        except SystemExit as stopped:
            status = stopped.code if isinstance(stopped.code, int) else 98
        finally:
            sys.stdout.flush()
            os._exit(status)
    while time.monotonic() - begin < HANGS and (kill is None or processor_seconds(child) < kill):
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            return Ended(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    return Ended(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime)


def processor_seconds(process: int) -> float:
    """Of a processor, that *process* has had: others at work do not count, as they would on a clock."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def files_of(folder: Path) -> dict[str, Path]:
    """Every file under a final name, by where it lies."""
    every = (path for path in sorted(folder.rglob("*")) if path.is_file())
    named = {str(path.relative_to(folder)): path for path in every}
    return {name: path for name, path in named.items() if "/." not in f"/{name}" and not is_growing(path)}


def is_growing(path: Path) -> bool:
    return any(part in path.name for part in GROWING)


def drafts_of(folder: Path) -> list[Path]:
    """What is hidden, and no lock."""
    return [path for path in folder.rglob(".*") if not is_growing(path)]


def content(path: Path) -> Any:
    """What *path* says, read whole, but for times.

    Raises:
        Exception: If it is not whole.
    """
    if path.suffix == ".ckpt":
        held = torch.load(path, map_location="cpu", weights_only=True)
        said = {key: held.get(key) for key in ("state_dict", "current_model_state", "optimizer_states", "global_step")}
        return digest(said)
    if path.suffix == ".safetensors":
        return digest(load_file(path))
    if path.suffix == ".json":
        return without_times(json.loads(path.read_text()))
    if path.suffix == ".yaml":
        return yaml.safe_load(path.read_text())
    if path.suffix in (".png", ".gif", ".jpg"):
        with Image.open(path) as picture:
            picture.load()
            return picture.size if "figures" in path.parts else digest(np.asarray(picture))
    if path.suffix == ".npy":
        return digest(np.load(path))
    if path.suffix == ".onnx":
        import onnx

        onnx.checker.check_model(onnx.load(path))
        return digest(path.read_bytes())
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.reader(file))
    return path.suffix if path.read_text().strip() else 1 / 0  # reports name times: they are there, and not empty


def digest(value: Any) -> str:
    """A hash of tensors, arrays and plain values inside one another."""
    hashed = hashlib.sha256()
    for part in parts_of(value):
        hashed.update(part)
    return hashed.hexdigest()


def parts_of(value: Any) -> Iterator[bytes]:
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape}".encode()
        yield value.tobytes()
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            yield str(key).encode()
            yield from parts_of(value[key])
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from parts_of(one)
    else:
        yield value if isinstance(value, bytes) else repr(value).encode()


def without_times(value: Any) -> Any:
    """*value* without what a clock said, or a folder is called."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if not ("second" in k or k in ("command", "out", "ms"))}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def contents(folder: Path, wrong: list[str], when: str) -> dict[str, Any]:
    """What each file says; one that cannot be read whole is *wrong*."""
    found = {}
    for name, path in files_of(folder).items():
        try:
            found[name] = content(path)
        except Exception as error:
            wrong.append(f"{when}: {name} is not whole: {type(error).__name__}: {error!s:.200}")
    return found


def survive(found: Found, kills: int, shared: Path, out: Path, seed: int) -> Iterator[None]:
    """Kill its verb so often, in as many runs as that takes; a turn after each kill, and after each end."""
    verb, work = found.verb, WORKS[found.verb]
    draw, log = random.Random(f"{seed} {verb}"), out / f"{verb}.log"
    begun = out / f"{verb} before"
    begun.mkdir()
    if work.before is not None:
        assert run(work.before(begun, shared), log).status == 0, log.read_text()
    alone = copied(begun, out / f"{verb} alone")
    ended = run(work.words(alone, shared), log)
    assert ended.status == 0, log.read_text()
    found.seconds = ended.seconds
    wanted, old = contents(alone, found.wrong, "left alone"), contents(begun, found.wrong, "before")
    while found.kills < kills:
        folder, status = copied(begun, out / f"{verb} killed"), -signal.SIGKILL
        words = work.words(folder, shared)
        for _ in range(min(draw.randint(1, 4), kills - found.kills)):
            names = set(files_of(folder))
            status = run(words, log, kill=draw.uniform(0, found.seconds)).status
            words = work.again(folder, shared)
            if status != -signal.SIGKILL:
                break
            found.kills += 1
            look(folder, f"kill {found.kills}", names, old, found)
            yield
        if status == -signal.SIGKILL:
            status = run(words, log).status
        if status != 0:
            found.wrong.append(f"after kill {found.kills}: {' '.join(words[:3])} ended with {status}; see {log}")
            continue
        found.ends += 1
        at_the_end(folder, wanted, found)
        yield


def look(folder: Path, when: str, names: set[str], old: dict[str, Any], found: Found) -> None:
    """After a kill: all that is there is whole, and all that was there is there."""
    now = contents(folder, found.wrong, when)
    found.wrong += [f"{when}: {name} is gone" for name in sorted((names | old.keys()) - now.keys())]
    found.drafts += len(drafts_of(folder))


def at_the_end(folder: Path, wanted: dict[str, Any], found: Found) -> None:
    """All is as the run that was left alone has it, and no draft is left."""
    when = f"after kill {found.kills}, at the end"
    now = contents(folder, found.wrong, when)
    found.wrong += [f"{when}: {name} is another" for name in sorted(wanted) if now.get(name) != wanted[name]]
    found.wrong += [f"{when}: {name} is new" for name in sorted(now.keys() - wanted.keys())]
    found.wrong += [f"{when}: the draft {path.name} is left" for path in drafts_of(folder)]


def copied(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


def things(out: Path) -> Path:
    """What all share: a few images, and a model to predict with and to export."""
    shared = out / "shared"
    (shared / "images").mkdir(parents=True)
    for k in range(IMAGES):
        pixels = np.random.default_rng(k).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(shared / "images" / f"{k}.png")
    words = ["fit", *BASE, *DATA, *QUIET, "--trainer.max_epochs", "1", "--out", str(shared / "run")]
    assert run(words, out / "shared.log").status == 0, (out / "shared.log").read_text()
    return shared


def import_all() -> None:
    """What verbs import, once for all forks: kills shall hit their work."""
    whole_parser()
    for name in LAZY:
        with suppress(ImportError):
            import_module(name)


def keep(every: list[Found], out: Path) -> None:
    text = json.dumps([asdict(one) for one in every], indent=2)
    replace_file(out / "kills.json", lambda draft: draft.write_text(text))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verbs", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--kills", type=int, default=200, help="in all, shared evenly among the verbs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/kills"), help="a folder, which is emptied")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    import_all()
    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    shared, every = things(args.out.resolve()), []
    for k, verb in enumerate(args.verbs):
        share = args.kills // len(args.verbs) + (k < args.kills % len(args.verbs))
        every.append(Found(verb))
        with Progress(auto_refresh=False, transient=True) as bar:  # no thread: the process forks
            task = bar.add_task(f"{verb}, killed", total=share)
            for _ in survive(every[-1], share, shared, args.out.resolve(), args.seed):
                bar.update(task, completed=every[-1].kills, refresh=True)
                keep(every, args.out)
        found = every[-1]
        print(
            f"{verb}: {found.kills} kills, {found.ends} runs gone on with to their end, {found.drafts} drafts left by "
            f"kills, {len(found.wrong)} wrong; {found.seconds:.1f} s of a processor left alone",
            flush=True,
        )
        print(*found.wrong, sep="\n", end="\n" if found.wrong else "", flush=True)
    print(f"wrote {args.out / 'kills.json'}")
    return 1 if any(found.wrong for found in every) else 0


if __name__ == "__main__":
    raise SystemExit(main())
