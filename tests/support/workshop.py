"""The folder that keeps the programs of the tests, and the one in it where they are made, with progress told."""

import fcntl
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_REPORT_EVERY = 15.0


class UnavailableError(Exception):
    """A part cannot be obtained on this machine; the message says what to do about it."""


def cache() -> Path:
    """Return the folder, outside of the repository, that keeps the programs."""
    if own := os.environ.get("REGISTRY_CLEANUP_CACHE"):
        return Path(own).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "registry-cleanup"


def workshop() -> Path:
    """Return the folder for what is only needed while something is obtained."""
    return cache() / "workshop"


def run(
    command: Sequence[str | Path],
    doing: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    limit: float = math.inf,
) -> None:
    """Run a command that obtains something, with a line of progress now and then.

    Raises:
        UnavailableError: It failed, or took longer than `limit` seconds; the message ends with what it said last.
    """
    start = time.monotonic()
    workshop().mkdir(parents=True, exist_ok=True)
    log = workshop() / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output) as process,
    ):
        try:
            while process.poll() is None:
                try:
                    process.wait(_REPORT_EVERY)
                except subprocess.TimeoutExpired:
                    lines = log.read_text(errors="replace").splitlines()
                    say(f"  {doing}: {time.monotonic() - start:.0f} s ({lines[-1][:100] if lines else ''})")
                    if time.monotonic() - start > limit:
                        raise UnavailableError(f"{doing} was not done after {limit:g} s") from None
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise UnavailableError(f"{doing} failed with code {process.returncode}:\n{tail}")
    say(f"  {doing}: done after {time.monotonic() - start:.0f} s")


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    start = time.monotonic()
    reported = float("-inf")
    with lock.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited = time.monotonic() - start
                if waited - reported >= _REPORT_EVERY:
                    say(f"Waiting for another process that obtains the programs: {waited:.0f} s")
                    reported = waited
                time.sleep(0.2)
        yield


def remove(folder: Path) -> None:
    """Remove a folder, also where Go made its module cache read-only."""
    if folder.exists():
        for path, _, _ in os.walk(folder):
            Path(path).chmod(0o755)
        shutil.rmtree(folder)


def this_platform() -> str:
    return f"{platform.system()}-{platform.machine()}".lower()


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
