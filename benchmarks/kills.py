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
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.progress import Progress

from benchmarks.killed_works import BASE, DATA, QUIET, SIZE, WORKS
from benchmarks.whole_files import contents, drafts_of, files_of
from smp_feedback.cli.main import main as cli
from smp_feedback.cli.main import whole_parser
from smp_feedback.saving.files import replace_file

IMAGES = 4
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
HANGS = 1800.0  # seconds after which a run is taken to hang, and ended


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
