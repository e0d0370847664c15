"""Rounds: a process for each client and round, on a core of its own, with what it took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Figures:
    """What one round of one client took.

    Attributes:
        tags: that it was about.
        requests: that it sent; None where nobody counts.
        seconds: of its work.
        cpu: seconds of a processor for it, user and system.
        whole: seconds of its process, start-up included.
        memory: bytes at the peak above those before its work; None where nobody looks.
    """

    tags: int
    requests: int | None
    seconds: float
    cpu: float
    whole: float
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that has ended.

    Attributes:
        told: what it printed, JSON.
        seconds: from its start to its end.
        cpu: seconds of a processor, user and system.
    """

    told: dict[str, Any]
    seconds: float
    cpu: float


class FailedError(Exception):
    """A process of a round failed; the message ends with what it said."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which processor is whose; None where everybody runs where there is room.

    On a processor of its own the server is what all clients wait for, and a client's own work hardly shows; where they
    share, it is taken from the server's.
    """

    server: int | None
    client: int | None

    @classmethod
    def found(cls) -> Cores:
        """Return the two that this process may use, if there are two."""
        if not hasattr(os, "sched_setaffinity") or len(usable := sorted(os.sched_getaffinity(0))) < 2:
            return cls(None, None)
        return cls(usable[0], usable[1])


@contextmanager
def on(core: int | None) -> Iterator[None]:
    """Start processes on `core`: they inherit this process's place, with all threads that they will have."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def python(module: str, *arguments: object) -> list[str]:
    """Return the command that runs a module of ours."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def ended(command: Sequence[str], core: int | None, *, tells: bool = True) -> Ended:
    """Run a client to its end; raise `FailedError` where it fails.

    Args:
        command: the program and its arguments.
        core: where it runs.
        tells: whether it prints one JSON object.
    """
    paths = os.pathsep.join((str(_ROOT / "operator"), str(_ROOT)))
    environment = {**os.environ, "PYTHONPATH": paths, "NO_PROXY": "127.0.0.1"}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        with on(core):
            # Commands of this benchmark, by lists.
            process = subprocess.Popen(command, stdout=output, stderr=errors, env=environment, cwd=_ROOT)  # noqa: S603
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            raise FailedError(f"{command[:4]} ended with {process.returncode}: {errors.read().decode()[-2000:]}")
        return Ended(json.load(output) if tells else {}, seconds, usage.ru_utime + usage.ru_stime)
