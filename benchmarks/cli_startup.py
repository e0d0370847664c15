"""How long commands take to start, in turn with an interpreter that does nothing, so that a busy machine hits both.

Run from the repository's root: `python benchmarks/cli_startup.py [rounds]`.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_SAMPLE = Path(__file__).parents[1] / "crds" / "samples" / "policy-versions.yaml"
_COMMANDS: dict[str, Sequence[str]] = {
    "python -c pass": ["-c", "pass"],
    "--help": ["-m", "registry_cleanup", "--help"],
    "validate FILE": ["-m", "registry_cleanup", "validate", str(_SAMPLE)],
    "test FILE": ["-m", "registry_cleanup", "test", str(_SAMPLE), "--tags", "v1.0.0-alpine,build-1"],
}


def _seconds(arguments: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(  # noqa: S603 - our own commands
        [sys.executable, *arguments], check=True, capture_output=True, stdin=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def main(rounds: int) -> None:
    """Print the least, median and most of `rounds` starts of each command, after one that does not count."""
    found: dict[str, list[float]] = {name: [] for name in _COMMANDS}
    for counted in range(-1, rounds):
        for name, arguments in _COMMANDS.items():
            seconds = _seconds(arguments)
            if counted >= 0:
                found[name].append(seconds)
    nothing = statistics.median(found["python -c pass"])
    for name, times in found.items():
        median = statistics.median(times)
        print(  # noqa: T201 - its output is its purpose
            f"{name:15} {1000 * min(times):5.0f} {1000 * median:5.0f} {1000 * max(times):5.0f} ms (least, median, most)"
            f"; {1000 * (median - nothing):4.0f} ms more than nothing"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
