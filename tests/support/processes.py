"""Child processes of the tests: started with a log, awaited by a condition, stopped by their own pid."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_POLL_SECONDS = 0.02
_handed_out: set[int] = set()


class ProcessDiedError(Exception):
    """A process ended while something was awaited of it; the message ends with the tail of its log."""


class WaitTimeoutError(Exception):
    """A condition did not come true within its limit."""


class Process:
    """A child process in a session of its own, so that a Ctrl-C in the terminal reaches only the tests.

    Attributes:
        name: What messages call it.
        log: File with its standard output and standard error.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if environment is None else dict(environment),
                cwd=folder,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """Return None while it runs."""
        return self._child.poll()

    def signal(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def stop(self, grace: float = 10.0) -> int:
        """Stop with SIGTERM, after `grace` seconds with SIGKILL; return the exit code."""
        self._child.terminate()
        try:
            return self._child.wait(grace)
        except subprocess.TimeoutExpired:
            self._child.kill()
            return self._child.wait()

    def wait(self, limit: float) -> int:
        """Wait for its end and return the exit code."""
        wait_until(lambda: self.exit_code is not None, limit, f"the end of {self.name}")
        return self._child.wait()

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@contextmanager
def running(
    name: str,
    command: Sequence[str | Path],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[Process]:
    """Run a process as long as the context lasts."""
    process = Process(name, command, log, environment=environment, folder=folder)
    try:
        yield process
    finally:
        process.stop()


def wait_until(condition: Callable[[], bool], limit: float, what: str, *alive: Process) -> None:
    """Wait until the condition holds, for at most `limit` seconds, while all of `alive` keep running."""
    end = time.monotonic() + limit
    while not condition():
        for process in alive:
            if (code := process.exit_code) is not None:
                raise ProcessDiedError(
                    f"{process.name} ended with code {code} while waiting for {what}; its log ends with\n"
                    f"{process.tail()}"
                )
        if time.monotonic() > end:
            logs = "".join(f"\nthe log of {process.name} ends with\n{process.tail()}" for process in alive)
            raise WaitTimeoutError(f"waited {limit:g} s in vain for {what}{logs}")
        time.sleep(_POLL_SECONDS)


def free_port() -> int:
    """Return a loopback port that is free now and was not returned before."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in _handed_out:
            _handed_out.add(port)
            return port


def environment_without(*prefixes: str, **more: str) -> dict[str, str]:
    """Return this process's environment without the variables of these prefixes, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return {**kept, **more}
