"""A command at a terminal: what a person sees, types and interrupts, through a pseudo-terminal."""

import fcntl
import os
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.command import COMMAND, environment
from tests.support.processes import wait_until

_LIMIT = 60.0
_CTRL_C = b"\x03"
# The terminal becomes that of the command, so that Ctrl-C reaches it as it does in a shell.
_AT_TERMINAL = (
    sys.executable,
    "-c",
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])",
)


class Terminal:
    """A command that runs at a terminal."""

    def __init__(self, child: subprocess.Popen[bytes], master: int) -> None:
        self._child = child
        self._master = master
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        """All that was shown so far, with the terminal's control sequences."""
        return self._seen.decode(errors="replace").replace("\r\n", "\n")

    @property
    def pid(self) -> int:
        return self._child.pid

    def wait_for(self, words: str, limit: float = _LIMIT) -> None:
        """Wait until the terminal has shown these words."""
        try:
            wait_until(lambda: words in self.text or self._child.poll() is not None, limit, words)
            assert words in self.text
        except Exception as error:
            error.add_note(f"the terminal shows {self.text}")
            raise

    def type(self, line: str) -> None:
        os.write(self._master, line.encode() + b"\n")

    def press_ctrl_c(self) -> None:
        os.write(self._master, _CTRL_C)

    def end(self, limit: float = _LIMIT) -> int:
        """Wait for the end of the command, and of what it shows; return its exit code."""
        try:
            wait_until(lambda: self._child.poll() is not None, limit, "the end of the command")
        except Exception as error:
            error.add_note(f"the terminal shows {self.text}")
            raise
        self._reader.join(limit)
        return self._child.wait()

    def stop(self) -> None:
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        self._reader.join(_LIMIT)
        os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self._master, 65536)
            except OSError:  # the other side is closed
                return
            if not chunk:
                return
            self._seen += chunk


@contextmanager
def terminal(
    home: Path,
    *arguments: str | Path,
    columns: int = 100,
    stdout: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Terminal]:
    """Run one command at a terminal.

    Args:
        home: of the person; the working folder, too.
        arguments: of the command.
        columns: of the terminal.
        stdout: file that standard output goes to, instead of the terminal.
        variables: of the environment, besides the usual ones.
    """
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    output = slave if stdout is None else os.open(stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        child = subprocess.Popen(
            [*_AT_TERMINAL, *COMMAND, *map(str, arguments)],
            stdin=slave,
            stdout=output,
            stderr=slave,
            cwd=home,
            env=environment(home, TERM="xterm-256color", **(variables or {})),
            start_new_session=True,
        )
    finally:
        os.close(slave)
        if stdout is not None:
            os.close(output)
    running = Terminal(child, master)
    try:
        yield running
    finally:
        running.stop()
