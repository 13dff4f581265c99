"""A call in a process of its own: its crash, its hunger and its slowness end nothing but itself."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

Facts = Iterator[tuple[str, Any]]

PRELOADED = ["benchmarks.working.checks"]
CONTEXT = multiprocessing.get_context("forkserver")  # imports torch once, and has no threads that a fork could break
CONTEXT.set_forkserver_preload(PRELOADED)


def apart(
    call: Callable[[Any], Facts], argument: Any, *, seconds: float, memory: float, patience: float = 10
) -> dict[str, Any]:
    """What ``call(argument)`` yields, as far as it comes.

    Args:
        call: Importable by name; yields facts, each as soon as it is known.
        argument: Picklable.
        seconds: Of work, after which it is ended.
        memory: Gigabytes that it may allocate.
        patience: It is ended, too, after so many times *seconds*, worked or waited.

    Returns:
        The facts, and under ``stopped`` why there are no more, if there should be.
    """
    receive, send = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_run, args=(send, call, argument, seconds, memory), daemon=True)
    process.start()
    send.close()
    facts: dict[str, Any] = {}
    try:
        deadline = time.monotonic() + patience * seconds
        while receive.poll(max(0.0, deadline - time.monotonic())):
            key, value = receive.recv()
            if key is None:
                return facts
            facts[key] = value
        facts["stopped"] = f"took more than {patience * seconds:.0f} s, most of it waiting"
    except EOFError:
        process.join(10)
        overtime = process.exitcode == -signal.SIGXCPU
        facts["stopped"] = (
            f"took more than {seconds:.0f} s of work" if overtime else f"its process ended with {process.exitcode}"
        )
    finally:
        process.kill()
        process.join()
        receive.close()
    return facts


def _run(send: Connection, call: Callable[[Any], Facts], argument: Any, seconds: float, memory: float) -> None:
    used = int(time.process_time() + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (used, used + 5))
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory * 2**30),) * 2)
    for fact in call(argument):
        send.send(fact)
    send.send((None, None))
