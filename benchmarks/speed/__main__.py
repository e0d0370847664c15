"""The benchmark of reading and pruning: `make bench`, or `.venv/bin/python -m benchmarks.speed [--only WORK] …`.

It writes registries into memory (`/dev/shm`) if there is room, else into the parts' cache, but for the one that is
deleted from, which is always there; measures in turn, and prints a table. It fails where a client's result is not the
truth; a target that is missed is told, and no failure.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.speed.rounds import Cores, FailedError
from benchmarks.speed.table import lines
from benchmarks.speed.works import SMALL, WORKS, Bench, WrongError
from tests.support.workshop import cache, say

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of a random name is made in it
_NEEDED = 8 * 1024**3  # bytes; 120,000 tags take 3 GB there


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=WORKS, help="measure this alone; may be given several times")
    parser.add_argument("--rounds", type=int, default=5, help="of each work")
    parser.add_argument("--size", type=int, help="so many tags in place of 1,000, 10,000 and 100,000")
    parser.add_argument("--folder", type=Path, help="where registries are kept for the next time")
    parser.add_argument("--shared", action="store_true", help="leave all processors to server and clients alike")
    arguments = parser.parse_args()
    cores = Cores(None, None) if arguments.shared else Cores.found()
    with ExitStack() as stack:
        in_memory = _has_room()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=_MEMORY if in_memory else None)))
        registries = arguments.folder or (folder if in_memory else cache() / "benchmarks")
        bench = Bench(folder, registries, arguments.rounds, cores, arguments.size)
        if cores.server is None:
            sys.stdout.write("Server and clients share the processors.\n\n")
        else:
            sys.stdout.write(f"The server runs on processor {cores.server}, clients on {cores.client}.\n\n")
        try:
            # Of one size, both cold plans would be the same.
            for name in arguments.only or [name for name in WORKS if arguments.size is None or name != SMALL]:
                say(f"{name}:")
                section = WORKS[name](bench)
                sys.stdout.write("\n".join(lines(section)) + "\n\n")
                sys.stdout.flush()
        except (WrongError, FailedError) as error:
            say(f"{error}")
            return 1
    return 0


def _has_room() -> bool:
    """Say whether registries fit into memory with room to spare."""
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _NEEDED:
        return False
    available = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    return int(available.split()[1]) * 1024 >= _NEEDED


if __name__ == "__main__":
    sys.exit(main())
