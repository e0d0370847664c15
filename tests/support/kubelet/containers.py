"""Sandboxes and containers as the kubelet holds them: processes in namespaces of their own."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_INSIDE = Path(__file__).parent / "inside.py"
_ANSWER = 65536
_LONGEST = 1000


class StartError(Exception):
    """A container's process could not be started; the message says what failed."""


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine, and where the container sees it."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class ContainerSpec:
    """All that a container's process needs to be started.

    Attributes:
        root: The container's own folder, which is its `/`.
        mounts: What it sees besides, a folder before what lies in it.
        command: The program with its arguments.
        environment: Its variables, none of this machine's.
        folder: Where it begins to work.
        log: File that gets its output.
    """

    root: Path
    mounts: Sequence[Mount]
    command: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    folder: str
    log: Path


class Sandbox:
    """A pod's network and host name; lasts until it is closed."""

    def __init__(self, hostname: str, address: str, log: Path) -> None:
        spec = {"hostname": hostname, "address": address}
        self._process, self._control = _start("sandbox", spec, log)
        self._one_at_a_time = threading.Lock()
        if self._control.recv(_ANSWER) != b"ready":
            self.close()
            raise StartError(f"no namespaces for a pod on this machine: {log.read_text(errors='replace')}")

    @property
    def pid(self) -> int:
        return self._process.pid

    async def connect(self, port: int) -> socket.socket:
        """Return a connection to what listens on a port of the pod."""
        return await asyncio.to_thread(self._ask, f"connect 127.0.0.1 {port}")

    async def listen(self, port: int) -> socket.socket:
        """Return a socket that listens on 127.0.0.1 within the pod."""
        return await asyncio.to_thread(self._ask, f"listen 127.0.0.1 {port}")

    def _ask(self, request: str) -> socket.socket:
        with self._one_at_a_time:
            self._control.send(request.encode())
            answer, descriptors, _, _ = socket.recv_fds(self._control, _ANSWER, 1)
        if not descriptors:
            raise ConnectionRefusedError(answer.decode() or "the pod has ended")
        made = socket.socket(fileno=descriptors[0])
        made.setblocking(False)
        return made

    def close(self) -> None:
        """End it; its processes have ended before."""
        with self._one_at_a_time:
            self._control.close()
        self._process.wait()


class Container:
    """A container whose process was started."""

    def __init__(
        self, spec: ContainerSpec, process: "subprocess.Popen[bytes]", control: socket.socket, pid: int
    ) -> None:
        self.spec = spec
        self.exit_code: int | None = None
        self._process = process
        self._control = control
        self._pid = pid
        self._ended = asyncio.create_task(self._await_end())

    @classmethod
    async def start(cls, sandbox: Sandbox, spec: ContainerSpec) -> "Container":
        """Start a container in a sandbox.

        Raises:
            StartError: A volume could not be mounted, or there is no such program.
        """
        document = {**asdict(spec), "root": str(spec.root), "sandbox": sandbox.pid}
        del document["log"]
        process, control = _start("container", document, spec.log)
        try:
            pid = _started(await asyncio.to_thread(control.recv, _ANSWER), spec.log)
        except BaseException:
            # Nobody is left to tell it anything, so it ends.
            control.close()
            process.wait()
            raise
        return cls(spec, process, control, pid)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, SIGKILL to all of its processes."""
        if self.exit_code is None:
            # It may have ended by itself, and its end be seen in a moment only.
            with suppress(BrokenPipeError, ConnectionResetError):
                self._control.send(str(number.value).encode())

    async def wait(self) -> int:
        """Wait for its end and return the exit code."""
        return await asyncio.shield(self._ended)

    async def execute(self, command: Sequence[str], log: Path) -> int:
        """Run a command in it with its output in `log`, and return the exit code."""
        document = {
            "inside": self._pid,
            "command": list(command),
            "environment": dict(self.spec.environment),
            "folder": self.spec.folder,
        }
        process, control = _start("exec", document, log)
        try:
            return await asyncio.to_thread(process.wait)
        finally:
            # On the way out early too: it ends what still runs.
            control.close()

    async def _await_end(self) -> int:
        code = await asyncio.to_thread(self._process.wait)
        self.exit_code = code
        self._control.close()
        return code


def _started(answer: bytes, log: Path) -> int:
    """Return the process's number from what was told of the start."""
    told = json.loads(answer) if answer else {"error": log.read_text(errors="replace")[-_LONGEST:]}
    if told["error"]:
        raise StartError(told["error"])
    return int(told["pid"])


def _start(what: str, spec: Mapping[str, Any], log: Path) -> tuple["subprocess.Popen[bytes]", socket.socket]:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with far, log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_INSIDE), what, json.dumps(spec), str(far.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[far.fileno()],
            # A Ctrl-C in the terminal reaches only the tests.
            start_new_session=True,
        )
    return process, near
