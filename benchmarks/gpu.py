"""Everything that wants an accelerator, in one command: parts with a time of their own, a JSON, tables.

python -m benchmarks.gpu [--seconds 480] [--parts tests eager ...] [--out runs/gpu] [--rehearse]

Each part runs in a process of its own, as a fault of the device ends a process: what the others found is kept, and so
is what a part found before it failed or its time was over.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smp_feedback.saving.files import replace_file

SECONDS = {
    "tests": 60,
    "eager": 45,
    "memory": 45,
    "channels_last": 25,
    "bfloat16": 25,
    "compile": 70,
    "cuda_graphs": 70,
    "anytime": 140,
}
"""The parts in their order, and the most that each may take; 480 in all. The last takes what the others left, too."""

GRACE = 5
"""Seconds that a part has to write down what it found, once it is asked to end."""


def run_part(command: Sequence[str], found: Path, seconds: float) -> dict[str, Any]:
    """What a part found, how it ended, and in how many seconds.

    Args:
        command: What is run; it writes its rows into *found* as it goes.
        found: A JSON file, ``{"rows": {name: {column: figure}}}`` and what else a part says of itself.
        seconds: After so many it is asked to end, `GRACE` seconds before it is ended with all that it started.
    """
    found.unlink(missing_ok=True)
    log, began = found.with_suffix(".log"), time.monotonic()
    with log.open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(max(0, seconds - GRACE))
            ended = "whole" if code == 0 else f"failed: {_last_line(log) or f'it returned {code}'}"
        except subprocess.TimeoutExpired:
            _ask_to_end(process)
            ended = f"did not fit into {seconds:.0f} s"
        finally:
            _end(process)
    rows = json.loads(found.read_text()) if found.is_file() else {"rows": {}}
    return {**rows, "ended": ended, "seconds": round(time.monotonic() - began, 1)}


def _ask_to_end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)


def _end(process: subprocess.Popen[bytes]) -> None:
    """With all that it started, which are of its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


def figure(value: object) -> str:
    """A figure as tables have it: three digits, and a median with its quartiles.

    >>> figure(1234.5), figure(0.12345), figure([1.0, 0.9, 1.1]), figure("out of memory"), figure(None)
    ('1234', '0.123', '1.00 (0.90 - 1.10)', 'out of memory', '')
    """
    if isinstance(value, (list, tuple)):
        middle, low, high = value
        return f"{middle:.2f} ({low:.2f} - {high:.2f})"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)


def markdown(name: str, part: dict[str, Any]) -> str:
    """A part as a heading and a table for docs/performance.md; how it ended where that was not whole."""
    lines = [f"**{name}** ({part['seconds']:.0f} s)" + ("" if part["ended"] == "whole" else f": {part['ended']}"), ""]
    columns = list(dict.fromkeys(column for row in part["rows"].values() for column in row))
    if columns:
        lines += [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        lines += [f"| {row} | {' | '.join(figure(of.get(c)) for c in columns)} |" for row, of in part["rows"].items()]
        lines += [""]
    return "\n".join(lines)


def command_of(name: str, found: Path, *, rehearse: bool) -> list[str]:
    """How the part *name* is run."""
    words = [sys.executable, "-m", "benchmarks.gpu_parts", name, "--out", str(found)]
    return [*words, "--rehearse"] if rehearse else words


def run_parts(parts: Sequence[str], seconds: float, out: Path, *, rehearse: bool) -> dict[str, dict[str, Any]]:
    """What each of *parts* found, in at most so many *seconds* together; the JSON is written anew after each."""
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, Any]] = {}
    ends = time.monotonic() + seconds
    for name in parts:
        left = ends - time.monotonic()
        limit = left if name == parts[-1] else min(left, SECONDS[name])
        if limit <= GRACE:
            results[name] = {"rows": {}, "ended": f"not begun: {seconds:.0f} s were over", "seconds": 0.0}
        else:
            found = out / f"{name}.json"
            results[name] = run_part(command_of(name, found, rehearse=rehearse), found, limit)
        text = json.dumps({"rehearsed": rehearse, "parts": results}, indent=2)
        replace_file(out / "gpu.json", lambda path, text=text: path.write_text(text))
        print(markdown(name, results[name]), flush=True)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """1 if a part failed; one whose time was over has not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=sum(SECONDS.values()), help="of all parts together")
    parser.add_argument("--parts", nargs="+", choices=SECONDS, default=[*SECONDS], metavar="PART")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--rehearse", action="store_true", help="every part, small, on the CPU: figures mean nothing")
    args = parser.parse_args(arguments)
    if not args.rehearse and not has_gpu():
        parser.exit(2, "No CUDA device is here: --rehearse runs every part, small, on the CPU.\n")
    results = run_parts(args.parts, args.seconds, args.out, rehearse=args.rehearse)
    print(f"wrote {args.out / 'gpu.json'}; what each part said is beside it, in PART.log")
    return int(any(part["ended"].startswith("failed") for part in results.values()))


def has_gpu() -> bool:
    """Whether torch finds one; asked here, before any part is begun."""
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    sys.exit(main())
