"""How much memory and CPU the operator takes, idle and while it plans, on a real API server and a real registry.

Run it from the repository's root: `.venv/bin/python -m benchmarks.operator_resources [tags] [policies ...]`. Each
number of policies gets an operator of its own; the tags are shared out among as many repositories.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.support.controlplane import ControlPlane, control_plane
from tests.support.images import push_image
from tests.support.operator import install, operator
from tests.support.policies import Namespace, days_ago, fresh_namespace, is_planned, policy_spec
from tests.support.processes import Process, wait_until
from tests.support.registries import distribution

_IDLE_SECONDS = 30.0
_LIMIT = 900.0
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure with the numbers of the command line."""
    tags, *numbers = [int(argument) for argument in sys.argv[1:]] or [2000, 1, 100]
    with tempfile.TemporaryDirectory() as folder, control_plane(Path(folder) / "plane") as plane:
        install(plane)
        for number in numbers:
            with _registry(Path(folder) / f"registry-{number}", tags, number) as url:
                _measure(plane, Path(folder) / f"operator-{number}", url, number)


@contextmanager
def _registry(folder: Path, tags: int, repositories: int) -> Iterator[str]:
    with distribution("3", folder) as server:

        def push(number: int) -> None:
            repository = f"team/app-{number % repositories}"
            push_image(
                server.url, repository, [f"build-{number}"], created=days_ago(40 + number % 100), seed=str(number)
            )

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(push, range(tags)))
        yield server.url


def _measure(plane: ControlPlane, folder: Path, url: str, number: int) -> None:
    with operator(plane, folder) as running, fresh_namespace(plane, f"policies-{number}", []) as namespace:
        process = running.process
        _report(process, f"{number} policies: started, none yet")
        _idle(process)
        start, before = time.monotonic(), _cpu(process)
        for each in range(number):
            spec = policy_spec(url, repositories={"include": [f"team/app-{each}"]}, dryRun=False, limits=_NO_LIMITS)
            namespace.apply(spec, f"policy-{each}")
        _await_all(namespace, process, "planned")
        _report(process, f"{number} policies: planned", time.monotonic() - start, _cpu(process) - before)
        _idle(process)
        start, before = time.monotonic(), _cpu(process)
        for each in range(number):
            namespace.request_run("1", f"policy-{each}")
        _await_all(namespace, process, "1")
        _report(process, f"{number} policies: pruned", time.monotonic() - start, _cpu(process) - before)
        _idle(process)


_NO_LIMITS = {"maxDeletions": 100_000, "maxPercentPerRepository": 100}


def _await_all(namespace: Namespace, process: Process, what: str) -> None:
    def done() -> bool:
        time.sleep(0.5)  # each look reads every policy
        policies = namespace.policies()
        if what == "planned":
            return all(is_planned(policy) for policy in policies)
        return all(policy["status"].get("lastHandledRunRequest") == what for policy in policies)

    wait_until(done, _LIMIT, what, process)


def _idle(process: Process) -> None:
    before = _cpu(process)
    time.sleep(_IDLE_SECONDS)
    used = (_cpu(process) - before) / _IDLE_SECONDS
    _say(f"  idle: {_memory(process, 'VmRSS'):.0f} MiB, {used * 1000:.1f} millicores")


def _report(process: Process, what: str, seconds: float = 0, cpu: float = 0) -> None:
    peak = _memory(process, "VmHWM")
    _say(f"{what}: {_memory(process, 'VmRSS'):.0f} MiB, peak {peak:.0f} MiB, {seconds:.1f} s, {cpu:.1f} s of CPU")


def _memory(process: Process, field: str) -> float:
    """Return MiB."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


def _cpu(process: Process) -> float:
    """Return seconds."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
